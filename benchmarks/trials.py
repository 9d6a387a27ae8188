"""Tries a function on many damaged inputs, in processes with limits, and counts how each ended.

======================  =========================================================================================
correct                 it gave the same as the good input, or, where nothing tells, something it may read that way
refused                 one sentence (WsnasError)
wrong                   it gave something else without saying so
traceback               any other error
hang                    more than ``SECONDS``
over 1 GB               more memory than ``MEMORY``, beside what the process had
crash                   the process died, for example by signal 11
======================  =========================================================================================
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wsnas.errors import WsnasError

SECONDS, MEMORY, BATCH = 20, 1 << 30, 2000
ENDS = ("correct", "refused", "wrong", "traceback", "hang", "over 1 GB", "crash")


class Hang(BaseException):
    pass


def ended(trial: Callable[[], bool], said: Callable[[str], Any]) -> str:
    """How one trial ended. ``trial()``: whether the result is right."""
    signal.alarm(SECONDS)
    try:
        return "correct" if trial() else "wrong"
    except WsnasError as error:
        return "over 1 GB" if "MemoryError" in str(error) else "refused"
    except Hang:
        return "hang"
    except MemoryError:
        return "over 1 GB"
    except Exception:
        said(traceback.format_exc())
        return "traceback"
    finally:
        signal.alarm(0)


def _limits() -> None:
    def ring(number: int, frame: Any) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, ring)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")


def tried(trial: Callable[[int], bool], count: int, log: Path) -> dict[str, int]:
    """``trial(i)`` for every i below ``count``, in forked processes of at most ``BATCH``; the number of each end.

    What was not correct or refused is written to ``log``, with its i, so it can be repeated.
    """
    ends: Counter[str] = Counter()
    first = 0
    while first < count:
        last = min(first + BATCH, count)
        here, there = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(here)
            with contextlib.suppress(BaseException):
                _limits()
                with open(log, "a") as file, open(os.devnull, "w") as nowhere:
                    sys.stdout = sys.stderr = nowhere
                    for i in range(first, last):
                        end = ended(lambda i=i: trial(i), file.write)  # type: ignore[misc]
                        if end not in ("correct", "refused"):
                            file.write(f"{i}: {end}\n")
                            file.flush()
                        os.write(there, bytes([ENDS.index(end)]))
            os._exit(0)
        os.close(there)
        with open(here, "rb") as answers:
            found = answers.read()
        os.waitpid(pid, 0)
        ends.update(ENDS[number] for number in found)
        first += len(found)
        if len(found) < last - (first - len(found)):
            ends["crash"] += 1
            with open(log, "a") as file:
                file.write(f"{first}: crash\n")
            first += 1
    return {end: ends[end] for end in ENDS}


def mutated(good: bytes, rng: np.random.Generator, words: np.ndarray | None = None) -> bytes:
    """``good`` with one to eight changes: bits, bytes, numbers, pieces cut out, doubled or moved, the end cut off."""
    bad = bytearray(good)
    for _ in range(int(rng.integers(2, 9)) if rng.random() < 0.4 else 1):
        if not bad:
            break
        at = int(rng.integers(len(bad)))
        size = int(min(rng.geometric(0.1), len(bad) - at))
        match int(rng.integers(8)):
            case 0:
                bad[at] ^= 1 << int(rng.integers(8))
            case 1:
                bad[at] = int(rng.integers(256))
            case 2:
                bad[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"])
            case 3:
                del bad[at : at + size]
            case 4:
                bad[at:at] = bad[at : at + size] * int(rng.integers(1, 50))
            case 5:
                to = int(rng.integers(len(bad)))
                bad[to:to] = bad[at : at + size]
            case 6:
                bad[at : at + size] = rng.choice(WORDS if words is None else words)
            case 7:
                if rng.random() < 0.3:
                    del bad[at:]
    return bytes(bad)


WORDS = np.array(
    [b"nan", b"inf", b"-1", b"1e400", b"9" * 5000, b"null", b"true", b"[" * 3000, b'{"a":', b'"', b",", b"\n", b"\r\n",
     b"\xef\xbb\xbf", b"=1+1", b"0", b"../../x", b"\0" * 40, "é".encode(), b"<script>", b"99999999999999999999"],
    dtype=object,
)  # fmt: skip


PICKLE_WORDS = np.array(
    [b"\x8b\xff\x0f\0\0" + b"\x7f" * 4095, b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cos\nsystem\n", b"R", b"b",
     b"cnumpy.core.multiarray\nscalar\n", b"r\0\0\x80\x0a", b"]q\0h\0a", b"X\xff\xff\xff\x7f", b"(" * 100, b"}", b")",
     b"X\2\0\0\0O8", b"N", b"s", b"u", b"e", b".", b"h\0", b"G\x7f\xf0\0\0\0\0\0\0", b"M\xff\xff", b"\x85",
     b"\x95" + b"\xff" * 8],
    dtype=object,
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**20,
    1e308,
    float("nan"),
    "",
    "x",
    "nan",
    "9" * 5000,
    "é" * 1000,
    [],
    {},
    [[]],
    {"a": 1},
)


def odd(value: Any, rng: np.random.Generator) -> Any:
    """What JSON holds with one value in it, key or entry replaced by another kind, taken out, or doubled."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return ODD[int(rng.integers(len(ODD)))]
    if isinstance(value, list):
        at = int(rng.integers(len(value)))
        changed = [[odd(value[at], rng)], [odd(value[at], rng)], [], [value[at]] * 2][int(rng.integers(4))]
        return [*value[:at], *changed, *value[at + 1 :]]
    name = list(value)[int(rng.integers(len(value)))]
    match int(rng.integers(5)):
        case 0:
            return {key: one for key, one in value.items() if key != name}
        case 1:
            return {f"{key}x" if key == name else key: one for key, one in value.items()}
        case _:
            return {**value, name: odd(value[name], rng)}


def numbered(seed: int, i: int) -> np.random.Generator:
    return np.random.default_rng([seed, i])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
