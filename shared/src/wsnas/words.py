"""Names as they are typed, and nouns with their numbers, for what is said to the user."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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


def counted(number: int, what: str) -> str:
    """A number with its noun: 1 supernet, 3 supernets."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
