"""Claims of the paper, and what a rule written beforehand says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wsnas.metrics import Interval

Holds = Literal["holds", "does not hold", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, what was measured, and what a rule written beforehand says of it."""

    claim: str
    source: str  # where the paper says so
    space: str
    rule: str
    measured: str
    verdict: Holds
    numbers: Mapping[str, float] = field(default_factory=dict)  # of ``measured`` and in its order, unrounded


def sign_verdict(low: float, high: float, supernets: int = 2) -> Holds:
    """The verdict on a claim "this number is above zero", by the number's interval [low, high].

    Inconclusive for a single supernet, which shows no spread, and for an interval that is not finite.
    """
    if supernets > 1 and (low > 0 or high < 0):
        return "holds" if low > 0 else "does not hold"
    return "inconclusive"


class Numbers(dict[str, float]):
    """The numbers of a sentence, by name: each is kept as it is, and written as it is to be read."""

    def say(self, name: str, value: float, form: str = ".2f") -> str:
        if name in self:
            raise KeyError(f"{name} is said twice")
        self[name] = float(value)
        return format(value, form)

    def interval(self, name: str, found: Interval, form: str = "+.2f") -> str:
        low, high = (self.say(f"{name}, {end}", getattr(found, end), form) for end in ("low", "high"))
        return f"[{low}, {high}]"

    def estimate(self, name: str, found: Interval, form: str = "+.2f") -> str:
        return f"{self.say(name, found.value, form)} {self.interval(name, found, form)}"
