"""Reads a pickle as data: no class is imported, nothing is called.

A pickle is a program. This interpreter knows only its instructions for containers, strings and numbers. Where a
published file asks for NumPy, the request is kept as data, and the numbers are decoded here from their bytes: letting
NumPy do it would be unsafe, because ``numpy.ndarray((), 'O8', bytes)`` takes any bytes for an object's address.
"""

from __future__ import annotations

import io
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from wsnas.errors import WsnasError

KINDS = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"}
ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
NAMES = {(where, name) for where in ARRAYS for name in ("_reconstruct", "scalar")}
NAMES |= {(where, "_frombuffer") for where in ("numpy.core.numeric", "numpy._core.numeric")}  # protocol 5
NAMES |= {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict")}
NAMES |= {(where, name) for where in ("__builtin__", "builtins") for name in ("set", "bytes")}


def read_pickle(
    content: bytes | IO[bytes], path: Path, keep: Callable[[Any, Any], bool] | None = None, advice: str = ""
) -> Any:
    """The containers, strings and numbers of one pickle; NumPy's scalars as numbers, its arrays as arrays.

    ``keep(key, value)``: which entries of dicts to keep; by default all. Raises WsnasError, which ends in ``advice``,
    if the pickle is damaged or asks for anything else.
    """
    advice = advice or "download the file from its publisher again"
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        found = _Reader(file, path, keep, advice).load()
        if isinstance(found, _Name | _Kind | _Unfilled):
            raise ValueError(f"it holds {type(found).__name__} alone")
        return found
    except WsnasError:
        raise
    except Exception as error:  # a malformed pickle can raise nearly anything
        raise WsnasError(
            f"{path} is truncated or not a pickle of plain data ({type(error).__name__}: {str(error)[:200]}); {advice}"
        ) from error


@dataclass(frozen=True)
class _Name:
    """A name the pickle asks for: a word, never the object."""

    name: str


@dataclass
class _Kind:
    """A NumPy dtype as written: ``f8``, and its byte order once that is known."""

    code: str
    order: str = "="

    def numbers(self, shape: Any, data: Any) -> np.ndarray:
        """Numbers [shape] of this kind from their bytes. Raises ValueError if they are of another kind or length."""
        if self.code not in KINDS or self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"numbers of type {str(self.code)[:20]} are not read")
        if type(shape) is not tuple or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array's shape is malformed")
        data = data.encode("latin1") if type(data) is str else data  # bytes, as older pickles write them
        kind = np.dtype(self.order + self.code)
        if type(data) is not bytes or len(data) != kind.itemsize * math.prod(shape):
            raise ValueError("an array's bytes do not fit its shape")
        return np.frombuffer(data, kind).reshape(shape)


@dataclass
class _Unfilled:
    """An array before its content, which the pickle's instruction BUILD brings. ``places``: its numbers in the memo."""

    places: list[int] = field(default_factory=list)


class _Memo(list[Any]):
    """The pickle's numbered objects, as a list, which needs a tenth of a dict's memory and has no gaps."""

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(value) is _Unfilled:
            value.places.append(index)
        if index == len(self):
            self.append(value)
        else:
            super().__setitem__(index, value)


PLAIN = (str, int, float, bytes, bool, type(None))


def _require_plain(key: Any) -> None:
    """Raises ValueError for keys that are no plain values or flat tuples: hashing deep ones overflows the stack."""
    if type(key) not in PLAIN and not (type(key) is tuple and all(type(part) in PLAIN for part in key)):
        raise ValueError(f"a {type(key).__name__} is used as a key")


class _Reader(pickle._Unpickler):
    known = (
        "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT "
        "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
        "BINBYTES8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT EMPTY_SET PUT "
        "BYTEARRAY8 BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL PERSID BINPERSID"
    )
    dispatch: ClassVar[dict[int, Any]] = {
        code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in known.split())
    }

    def __init__(self, file: IO[bytes], path: Path, keep: Callable[[Any, Any], bool] | None, advice: str) -> None:
        super().__init__(file, encoding="latin1")
        self.memo = _Memo()
        self.path, self.keep, self.advice = path, keep, advice

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in NAMES:
            raise WsnasError(
                f"refused to read {self.path}: its pickle asks for {module}.{name}"[:1000]
                + f", which plain data do not need (it holds network weights or could run code); {self.advice}"
            )
        return _Name(name)

    def persistent_load(self, pid: Any) -> Any:
        raise WsnasError(f"{self.path} holds network weights, not plain data; {self.advice}")

    def load_reduce(self) -> None:
        arguments, asked = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        self.append(_called(asked, arguments))  # type: ignore[attr-defined]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if type(target) is _Kind:
            target.order = state[1]
        elif type(target) is _Unfilled and type(state[2]) is _Kind:
            _, shape, kind, by_columns, data = state
            numbers = kind.numbers(shape[::-1] if by_columns else shape, data)
            numbers = numbers.T if by_columns else numbers
            self.stack[-1] = numbers  # type: ignore[attr-defined]
            for place in target.places:
                if self.memo[place] is target:
                    self.memo[place] = numbers
            target.places = []
        else:
            raise ValueError(f"the state of a {type(target).__name__}")

    def load_binunicode(self) -> None:
        size = int.from_bytes(self.read(4), "little")  # type: ignore[attr-defined]
        self.append(sys.intern(str(self.read(size), "utf-8")))  # type: ignore[attr-defined]

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        self.append(self.read(size))  # type: ignore[attr-defined]  # as bytes, and no more than there are

    def load_setitems(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self._set(self.stack[-1], items)  # type: ignore[attr-defined]

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        self._set(self.stack[-1], [key, value])  # type: ignore[attr-defined]

    def load_dict(self) -> None:
        items: list[Any] = self.pop_mark()  # type: ignore[attr-defined]
        self.append({})  # type: ignore[attr-defined]
        self._set(self.stack[-1], items)  # type: ignore[attr-defined]

    def _set(self, target: Any, items: list[Any]) -> None:
        if type(target) is not dict:
            raise ValueError(f"entries of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if self.keep is None or self.keep(key, value):
                if type(key) is not str:
                    _require_plain(key)
                target[key] = value

    def load_additems(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.stack[-1].update(_set_of(items))  # type: ignore[attr-defined]

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.BINUNICODE[0]: load_binunicode,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
    }


def _called(asked: Any, arguments: Any) -> Any:
    """What a call in the pickle stands for. Raises ValueError or TypeError for calls that published files lack."""
    match asked.name if type(asked) is _Name else None, arguments:
        case "dtype", (str(code), *_):
            return _Kind(code)
        case "scalar", (_Kind() as kind, data):
            return kind.numbers((), data).item()
        case "_frombuffer", (data, _Kind() as kind, tuple(shape), "C" | "F" as order):
            return kind.numbers(shape, data) if order == "C" else kind.numbers(shape[::-1], data).T
        case "_reconstruct", (_Name("ndarray"), *_):
            return _Unfilled()
        case "encode", (str(text), "latin1"):
            return text.encode("latin1")
        case "bytes", ():
            return b""
        case "OrderedDict", ():
            return {}
        case "OrderedDict", (list(pairs),):
            for key, _ in pairs:
                _require_plain(key)
            return dict(pairs)
        case "set", (list(items),):
            return _set_of(items)
    raise ValueError("it calls what plain data do not need")


def _set_of(items: list[Any]) -> set[Any]:
    for item in items:
        _require_plain(item)
    return set(items)
