"""Pickles are read as data: what NumPy or Python would do with a hostile one does not happen."""

from __future__ import annotations

import pickle
import random
import resource
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsnas.errors import WsnasError
from wsnas.pickles import read_pickle

PATH = Path("published")


class Calls:
    """Pickled, it calls ``function(*arguments)``, then gives the result ``state``."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


CORE = np._core if np.__version__ >= "2" else np.core
MULTIARRAY, BUFFER = CORE.multiarray, CORE.numeric._frombuffer
RECONSTRUCT, SCALAR = MULTIARRAY._reconstruct, MULTIARRAY.scalar
ADDRESS = struct.pack("<Q", 0x4141414141414141)


def array(shape: Any, kind: Any, data: Any, by_columns: bool = False) -> Calls:
    """An array with this state, as NumPy pickles arrays."""
    return Calls(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, kind, by_columns, data))


LYING = Calls(np.dtype, "V8", False, True, state=(3, "|", None, ("f",), {"f": (np.dtype("O"), 0)}, 8, 1, 27))
HOSTILE: dict[str, Any] = {
    "an object from an address": Calls(np.ndarray, (), np.dtype("O"), ADDRESS),
    "objects in an array": array((1,), np.dtype("O"), ADDRESS),
    "an object as a scalar": Calls(SCALAR, np.dtype("O"), ADDRESS),
    "a dtype that lies about its size": array((4,), LYING, b"x"),
    "a dtype that lies about its order": array((1,), Calls(np.dtype, "f8", state=(3, "O")), b""),
    "fewer bytes than numbers": array((1000,), np.dtype("f8"), b"\0" * 8),
    "more bytes than numbers": array((1,), np.dtype("f8"), b"\0" * 16),
    "a shape of 2 ** 62": array((2**62, 4), np.dtype("u1"), b""),
    "a negative shape": array((-1,), np.dtype("u1"), b"\0"),
    "a shape that is none": array("12", np.dtype("u1"), b"\0"),
    "an array without content": RECONSTRUCT,
    "a dtype": np.dtype("f8"),
    "strings": array((1,), np.dtype("U2"), b"\0" * 8),
    "objects in a buffer": Calls(BUFFER, ADDRESS, np.dtype("O"), (1,), "C"),
    "fewer bytes than numbers in a buffer": Calls(BUFFER, b"\0" * 8, np.dtype("f8"), (1000,), "C"),
    "no bytes in a buffer": Calls(BUFFER, 8, np.dtype("f8"), (1,), "C"),
    "a shape of a buffer that is none": Calls(BUFFER, b"\0" * 8, np.dtype("f8"), "1", "C"),
    "an order of a buffer that is none": Calls(BUFFER, b"\0" * 8, np.dtype("f8"), (1,), "O"),
    "a call of what is no function": Calls(OrderedDict, 3),
}


LEFT = ("an array without content", "a dtype")  # whoever wants numbers refuses these


@pytest.mark.parametrize("name", list(HOSTILE))
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_is_never_asked(name: str, protocol: int) -> None:
    for content in (HOSTILE[name], {"labels": HOSTILE[name]}):
        written = pickle.dumps(content, protocol=protocol)
        if name in LEFT and isinstance(content, dict):
            assert type(read_pickle(written, PATH)["labels"]).__module__ == "wsnas.pickles"  # a word, no object
        else:
            with pytest.raises(WsnasError, match="published"):
                read_pickle(written, PATH)


def test_numpy_would_have_made_an_object_from_its_address(python: Callable[..., subprocess.Popen[str]]) -> None:
    """The attack is real: the same bytes, read by pickle with NumPy allowed, end the process with signal 11."""
    code = "import pickle, sys, numpy; str(pickle.loads(bytes.fromhex(sys.argv[1])))"
    process = python(code, pickle.dumps(HOSTILE["an object from an address"]).hex())
    process.communicate()
    assert process.returncode == -11


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x80\x02}r" + struct.pack("<I", 176973173) + b".", "a number in the memo"),
        (b"(" * 10**6 + b"t" * 10**6 + b".", "tuples in tuples"),
        (b"}" + b"(" * 10**5 + b"t" * 10**5 + b"K\x01s.", "tuples in tuples as a key"),
        (b"c__builtin__\nset\n(]" + b"(" * 10**5 + b"t" * 10**5 + b"atR.", "tuples in tuples in a set"),
        (b"ccollections\nOrderedDict\n(](" + b"(" * 10**5 + b"t" * 10**5 + b"K\x01tatR.", "and in pairs"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".", "a frame of 4 EB"),
        (b"B" + struct.pack("<I", 2**32 - 1) + b"x.", "a string of 4 GB"),
        (b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"x.", "a string of 8 EB"),
        (b"\x8b" + struct.pack("<i", -5) + b"x.", "a number of negative length"),
        (b"I" + b"9" * 5000 + b"\n.", "a number of 5,000 digits"),
        (b"g-1\n.", "a place before the memo"),
        (b"0.", "an empty stack"),
        (b"\x82\x01.", "an extension"),
        (b"\x96" + struct.pack("<Q", 2**63 - 1) + b"x.", "a bytearray of 8 EB"),
        (b"c__builtin__\ngetattr\n.", "getattr"),
        (b"\x80\x04\x8c\x05numpy\x8c\x07memmap_\x93.", "another of NumPy's names"),
        (b"\x80\x04\x8c\x0acollections\x94\x8c\x14OrderedDict.__init__\x93.", "an attribute of a name"),
        (b"(ccollections\nOrderedDict\no.", "an instance"),
        (b"(icollections\nOrderedDict\n.", "an old instance"),
        (b"ccollections\nOrderedDict\n)\x81.", "a new instance"),
        (b"P1\n.", "a persistent object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_bomb_is_refused_or_small(content: bytes, name: str) -> None:
    """Within 200 MB more than now, without a crash. Deep tuples may be read: nothing hashes or prints them."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 200_000_000, before[1]))
    try:
        if name == "tuples in tuples":
            read_pickle(content, PATH)
        else:
            with pytest.raises(WsnasError, match="published"):
                read_pickle(content, PATH)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_come_back(protocol: int) -> None:
    table = np.arange(6, dtype=np.int16).reshape(2, 3)
    content = {
        "f": np.float32(1.5), "i": np.int64(-3), "u": np.arange(4, dtype=">u2"), "columns": np.asfortranarray(table),
        "empty": np.zeros((0, 3)), "ordered": OrderedDict(a=1, b=OrderedDict()), "set": {1, "a", ("x", 3)},
        ("cifar10", 777): [True, None, 10**30, b"bytes", "text", 1e300],
    }  # fmt: skip
    content |= {"again": content["u"]}
    back = read_pickle(pickle.dumps(content, protocol=protocol), PATH)
    assert (back["f"], back["i"]) == (1.5, -3)
    assert type(back["f"]) is float
    for name in ("u", "columns", "empty"):
        np.testing.assert_array_equal(back[name], content[name])
        assert back[name].shape == content[name].shape  # type: ignore[attr-defined]
    assert back["again"] is back["u"]
    assert back["ordered"] == {"a": 1, "b": {}}
    assert back["set"] == content["set"]
    assert back["cifar10", 777] == content["cifar10", 777]


def test_any_bytes_are_read_or_refused() -> None:
    """20,000 mutations of two good pickles, and noise."""
    good = [
        pickle.dumps({"a": [np.arange(5), np.float64(3)], ("b", 1): {1, 2}, "c": OrderedDict(x=1.0)}, protocol=protocol)
        for protocol in (2, 4, 5)
    ]
    chance, refused = random.Random(0), 0
    for trial in range(20_000):
        bad = bytearray(good[trial % 3] if trial % 5 else chance.randbytes(chance.randrange(60)))
        for _ in range(chance.randrange(1, 4)):
            if bad:
                bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            read_pickle(bytes(bad), PATH)
        except WsnasError:
            refused += 1
    assert 10_000 < refused < 20_000
