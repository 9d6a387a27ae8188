"""Claims of the paper, and what a rule written beforehand says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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


def sign_verdict(low: float, high: float, supernets: int = 2) -> Holds:
    """The verdict on a claim "this number is above zero", by the number's interval [low, high].

    Inconclusive for a single supernet, which shows no spread, and for an interval that is not finite.
    """
    if supernets > 1 and (low > 0 or high < 0):
        return "holds" if low > 0 else "does not hold"
    return "inconclusive"
