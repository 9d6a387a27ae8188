"""How often the studies' intervals over a few supernets are right: coverage and false verdicts, by simulation.

A supernet's scores are r times the truth plus noise, half of it the supernet's own, half common to all that are
trained alike; r is 0.5 for every supernet, or with a supernet effect has a standard deviation of 0.128 among
supernets, as in results on hand (0.09 to 0.15). Scores and truths are normal, or rounded to some dozen values. Asked
of the code that judges the studies (``wsnas.metrics.contrast``), 100 architectures:

- how often the 95 % interval of the mean correlation holds the mean over all supernets and architectures;
- how often two recipes that are equal are said to differ, in their correlation and in their advantage of top-10 over
  random, scored on the same architectures (as in ``tricks``) or on others (as in ``capacity``);
- how often scores that have nothing to do with the truth are said to beat random search, or to be beaten by it.

    OMP_NUM_THREADS=1 python benchmarks/intervals.py
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import click
import numpy as np

from wsnas.environment import environment
from wsnas.metrics import (
    Floats,
    PerSupernet,
    contrast,
    correlation_over,
    rank_agreement,
    spearman,
    top_k_advantage,
)
from wsnas.options import Command
from wsnas.randomness import numpy_rng
from wsnas.studies.verdicts import sign_verdict

CORRELATION, EFFECT = 0.5, 0.128
RESAMPLES = 200  # enough for a variance; the studies draw 2,000


def rounded(values: Floats, tied: bool) -> Floats:
    return np.asarray(np.round(2 * values)) if tied else values


def scores_of(truth: Floats, r: Floats, common: Floats, rng: np.random.Generator) -> Floats:
    """[supernets, n] scores of supernets that correlate by ``r`` [supernets] with the truth [n]."""
    noise = np.sqrt(0.5) * common + np.sqrt(0.5) * rng.normal(size=(len(r), len(truth)))
    return np.asarray(r[:, None] * truth + np.sqrt(1 - r[:, None] ** 2) * noise)


def strengths(supernets: int, effect: float, rng: np.random.Generator) -> Floats:
    """Each supernet's correlation, before ranking."""
    return np.asarray((CORRELATION + effect * rng.normal(size=supernets)).clip(-0.95, 0.95))


def expected(effect: float, tied: bool, architectures: int) -> float:
    """The mean Spearman correlation of a sample over all supernets, from 400 supernets of many architectures."""
    rng = numpy_rng(0, "expected")
    r = strengths(400, effect, rng)
    r += CORRELATION - r.mean()
    pairs = []
    for one in r:
        truth, common = rng.normal(size=(2, architectures))
        pairs.append((scores_of(truth, one[None], common, rng)[0], truth))
    return float(np.mean([spearman(rounded(one, tied), rounded(truth, tied)) for one, truth in pairs]))


def trial(
    supernets: int, effect: float, tied: bool, architectures: int, target: float, rng: np.random.Generator
) -> dict[str, float]:
    """What one made-up pair of equal recipes leads to."""

    def recipe(truth: Floats, common: Floats, r: Floats | None = None) -> Floats:
        r = strengths(supernets, effect, rng) if r is None else r
        return rounded(scores_of(truth, r, common, rng), tied)

    def advantage(scores: Floats, truth: Floats, seed: int = 0) -> PerSupernet:
        valid = rounded(truth + 0.2 * rng.normal(size=architectures), tied)
        return top_k_advantage(scores, valid, rounded(truth, tied), 10, seed, RESAMPLES)

    def judged(scores: Floats, truth: Floats, seed: int = 0) -> tuple[PerSupernet, PerSupernet]:
        return rank_agreement(scores, rounded(truth, tied), seed, RESAMPLES), advantage(scores, truth, seed)

    def differ(one: PerSupernet, other: PerSupernet) -> bool:
        found = contrast((1, one), (-1, other))
        return sign_verdict(found.low, found.high, supernets) != "inconclusive"

    truth, common, truth2, common2 = rng.normal(size=(4, architectures))
    first, gain = judged(recipe(truth, common), truth)
    second, gain2 = judged(recipe(truth, common), truth)
    third, gain3 = judged(recipe(truth2, common2), truth2, seed=1)
    luck = advantage(recipe(truth, common, np.zeros(supernets)), truth)
    levels, lucky = [correlation_over(one) for one in (first, third)], contrast((1, luck))
    return {
        "covered": sum(level.low <= target <= level.high for level in levels) / 2,
        "correlations differ, same architectures": differ(first, second),
        "correlations differ, other architectures": differ(first, third),
        "advantages differ, same architectures": differ(gain, gain2),
        "advantages differ, other architectures": differ(gain, gain3),
        "advantage of chance": sign_verdict(lucky.low, lucky.high, supernets) != "inconclusive",
    }


def cases(trials: int, architectures: int, many: int) -> list[dict[str, Any]]:
    """Shares of trials, a case for each number of supernets, kind of score and supernet effect."""
    found = []
    for tied, effect in itertools.product((False, True), (0.0, EFFECT)):
        target = expected(effect, tied, many)
        for supernets in (2, 3, 5):
            rng = numpy_rng(0, "intervals", supernets, int(tied), str(effect))
            counts = dict[str, float]()
            for _ in range(trials):
                for name, outcome in trial(supernets, effect, tied, architectures, target, rng).items():
                    counts[name] = counts.get(name, 0) + outcome
            scores = "tied" if tied else "normal"
            about = {"supernets": supernets, "scores": scores, "supernet effect": effect, "correlation": target}
            found.append({**about, **{name: round(count / trials, 4) for name, count in counts.items()}})
    return found


@click.command(cls=Command)
@click.option("--trials", type=click.IntRange(1), default=600, show_default=True, help="Of each of the twelve cases.")
@click.option("--architectures", type=click.IntRange(20), default=100, show_default=True, help="Scored in each trial.")
@click.option("--dry-run", is_flag=True, help="A few small trials, to see that everything runs: not a measurement.")
def main(trials: int, architectures: int, dry_run: bool) -> None:
    """Coverage and false verdicts of intervals over 2, 3 and 5 supernets."""
    if dry_run:
        trials, architectures = 3, 20
    name = "intervals" + (", a dry run: not a measurement" if dry_run else "")
    rows = cases(trials, architectures, 2_000 if dry_run else 5_000)
    about = {"benchmark": name, **environment(), "trials": trials, "architectures": architectures}
    false = [name for name in rows[0] if "differ" in name or "chance" in name]
    summary = {
        "lowest and highest coverage": [pick(row["covered"] for row in rows) for pick in (min, max)],
        "most false verdicts": {name: max(row[name] for row in rows) for name in false},
    }
    click.echo(json.dumps({**about, **summary, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
