"""Claims of the paper, and what a rule written beforehand says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from wsnas.metrics import Interval
from wsnas.words import counted

FEWEST = 30  # architectures a verdict needs: three for each of the top-10, a correlation known to about +-0.3
HARDLY = 0.05  # a correlation that is higher by less than this hardly is
NOISELESS = "divided by its noise ceiling where that is known"  # of a correlation with the ground truth

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


def sign_verdict(low: float, high: float, supernets: int = 2, *, hardly: float = 0.0) -> Holds:
    """The verdict on a claim "this number is above zero", by the number's interval [low, high].

    It does not hold where the whole interval is below ``hardly``, unless it is also above zero.
    Inconclusive for a single supernet, which shows no spread, and for an interval that is not finite.
    """
    if supernets > 1 and (low > 0 or high < hardly):
        return "holds" if low > 0 else "does not hold"
    return "inconclusive"


def enough(verdicts: Sequence[Verdict], architectures: int, left_out: str = "") -> list[Verdict]:
    """The verdicts, with this condition in their rule: inconclusive from fewer than ``FEWEST`` architectures.

    ``left_out``: what else the rule leaves out that has fewer, e.g. factors (``rankings.judged``).
    """
    condition = f"; {left_out} that leave fewer than {FEWEST} architectures do not count" if left_out else ""
    condition += f"; inconclusive from fewer than {FEWEST} architectures"
    ruled = [replace(one, rule=one.rule + condition) for one in verdicts]
    if architectures >= FEWEST:
        return ruled
    return [replace(o, measured=f"{o.measured}; too few architectures", verdict="inconclusive") for o in ruled]


@dataclass(frozen=True)
class Answer:
    """What a study's main claim comes to, for the title of its figure."""

    claim: str
    holds: str  # what is said where the claim holds; a sentence without its full stop
    fails: str
    partly: Mapping[str, str] = field(default_factory=dict)  # by space: what is said where the claim is undecided

    def sentence(self, question: str, verdicts: Sequence[Verdict]) -> str:
        """E.g. "Longer training ranks better on nb201; undecided on nb101." Nothing decided: the question first."""
        spaces: dict[str, list[str]] = {"holds": [], "does not hold": [], "inconclusive": []}
        for one in verdicts:
            if one.claim == self.claim:
                spaces[one.verdict].append(one.space)
        said = [(self.holds, spaces["holds"]), (self.fails, spaces["does not hold"])]
        decided = [f"{what} on {_listed(where)}" for what, where in said if where]
        decided += [f"{self.partly[space]} on {space}" for space in spaces["inconclusive"] if space in self.partly]
        undecided = [space for space in spaces["inconclusive"] if space not in self.partly]
        if decided:
            first, *others = [*decided, *([f"undecided on {_listed(undecided)}"] if undecided else [])]
            return "; ".join([first, *(one[0].lower() + one[1:] for one in others)]) + "."
        return f"{question} Undecided on {_listed(undecided)}." if undecided else question


def _listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class Numbers(dict[str, float]):
    """The numbers of a sentence, by name: each is kept as it is, and written as it is to be read."""

    def say(self, name: str, value: float, form: str = ".2f") -> str:
        if name in self:
            raise KeyError(f"{name} is said twice")
        self[name] = float(value)
        return format(value, form)

    def count(self, name: str, number: int, noun: str) -> str:
        self.say(name, number, "d")
        return counted(number, noun)

    def interval(self, name: str, found: Interval, form: str = "+.2f") -> str:
        low, high = (self.say(f"{name}, {end}", getattr(found, end), form) for end in ("low", "high"))
        return f"[{low}, {high}]"

    def estimate(self, name: str, found: Interval, form: str = "+.2f") -> str:
        return f"{self.say(name, found.value, form)} {self.interval(name, found, form)}"
