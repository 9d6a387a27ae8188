"""Names as they are typed, and nouns with their numbers, for what is said to the user."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from inspect import unwrap
from types import CodeType, FunctionType
from typing import Any

from wsnas.errors import WsnasError


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A hint to append to a message, ``; did you mean 'cifar10'?``, or nothing if no name is close."""
    spelled = {name.lower().lstrip("-"): name for name in known}
    plain = given.lower().lstrip("-")
    begin = [name for name in spelled if len(plain) > 2 and name.startswith(plain)]
    close = begin or get_close_matches(plain, spelled, n=1)
    return f"; did you mean '{spelled[close[0]]}'?" if close else ""


def spelled(given: str, known: Iterable[str]) -> str:
    """Which of the names is meant, whatever its case and hyphens: CIFAR-10 is cifar10. ``given`` if none."""
    names = tuple(known)
    plain = {_plain(name): name for name in names}
    return given if given in names else plain.get(_plain(given), given)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def own_name(function: Callable[..., Any], built_in: Iterable[Callable[..., Any]], what: str) -> str:
    """The name of a function in a run's identity: its ``__name__`` and, unless it is wsnas's, a digest of its code.

    So a function that was changed does not find the runs of the one before. Its defaults and the numbers and texts
    around it count, functions that it calls do not.
    Raises WsnasError if it has none (as a lambda, a ``functools.partial`` or an object with ``__call__``), or that of
    another function in ``built_in``: two functions of one name would share their runs.
    """
    name = str(getattr(function, "__name__", "<none>"))
    if name.startswith("<"):
        raise WsnasError(f"{what} needs a name for the run's identity: define it with def, or set its __name__")
    if any(one.__name__ == name and one is not function for one in built_in):
        raise WsnasError(f"{what} named '{name}' is built in: give yours another name")
    inner = unwrap(function)
    if not isinstance(inner, FunctionType) or str(inner.__module__).startswith("wsnas."):
        return name
    cells = [cell.cell_contents for cell in inner.__closure__ or ()]
    used = [value for value in (*cells, *(inner.__defaults__ or ())) if isinstance(value, int | float | str | tuple)]
    return f"{name} {hashlib.blake2b(_text((inner.__code__, *used)).encode(), digest_size=4).hexdigest()}"


def _text(constant: Any) -> str:
    """A constant of compiled code, or the code itself, the same in every process of one version of Python."""
    if isinstance(constant, CodeType):
        return f"{constant.co_code.hex()} {constant.co_names} {_text(constant.co_consts)}"
    if isinstance(constant, tuple | frozenset):
        texts = map(_text, constant)
        return f"({', '.join(texts if isinstance(constant, tuple) else sorted(texts))})"
    return repr(constant)


def counted(number: int, what: str) -> str:
    """A number with its noun: 1 supernet, 3 supernets."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
