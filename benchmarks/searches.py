"""How often small searches say too much of supernets that are alike or know nothing: a simulation.

Supernets as in ``intervals.py``: scores are r times the truth plus noise, half of it the supernet's own; r has mean
0.5 and standard deviation 0.128 among supernets, and is 0 for those that know nothing. Asked of what judges the
studies ``epochs`` and ``capacity`` (``wsnas.metrics.search_gain``), for samples of the sizes of the desk scale:

- how often supernets that know nothing are said to gain over random search, or to lose (it should be at most 5 %);
- how often two recipes that are equal are said to differ, on the same architectures or on others;
- how often supernets that rank at about 0.5 are found to gain, by small searches and by the top-10 of all.

    OMP_NUM_THREADS=1 python benchmarks/searches.py
"""

from __future__ import annotations

import json

import click
import numpy as np
from intervals import EFFECT, scores_of, strengths

from wsnas.environment import environment
from wsnas.metrics import Floats, PerSupernet, contrast, search_gain, top_k_advantage
from wsnas.options import Command
from wsnas.randomness import numpy_rng
from wsnas.studies.verdicts import sign_verdict

CASES = ((60, 3), (160, 5), (700, 5))  # architectures, supernets
RESAMPLES = 100  # enough for a variance; the studies draw 300


def decided(*terms: tuple[float, PerSupernet]) -> bool:
    found = contrast(*terms)
    return sign_verdict(found.low, found.high) != "inconclusive"


def case(architectures: int, supernets: int, trials: int) -> dict[str, float]:
    """Shares of trials in percent."""
    rng, counts = numpy_rng(0, "searches", architectures), dict[str, int]()

    def scored(truth: Floats, common: Floats, knows: bool = True) -> tuple[Floats, Floats, Floats]:
        """Scores, and the truth's validation and test results."""
        r = strengths(supernets, EFFECT, rng) if knows else np.zeros(supernets)
        return scores_of(truth, r, common, rng), truth + 0.2 * rng.normal(size=architectures), truth

    for _ in range(trials):
        truth, common, truth2, common2 = rng.normal(size=(4, architectures))
        one = scored(truth, common)
        first, second = (search_gain(*found, 0, RESAMPLES) for found in (one, scored(truth, common)))
        third = search_gain(*scored(truth2, common2), 1, RESAMPLES)
        for name, outcome in {
            "nothing known, said to gain or lose": decided(
                (1, search_gain(*scored(truth, common, False), 0, RESAMPLES))
            ),
            "equal, same architectures, said to differ": decided((1, first), (-1, second)),
            "equal, other architectures, said to differ": decided((1, first), (-1, third)),
            "gain found": contrast((1, first)).low > 0,
            "gain found by the top-10 of all": contrast((1, top_k_advantage(*one, 10, 0, RESAMPLES))).low > 0,
        }.items():
            counts[name] = counts.get(name, 0) + outcome
    about = {"architectures": architectures, "supernets": supernets}
    return {**about, **{name: round(100 * count / trials, 1) for name, count in counts.items()}}


@click.command(cls=Command)
@click.option("--trials", type=click.IntRange(1), default=200, show_default=True, help="Of each size of the sample.")
@click.option("--dry-run", is_flag=True, help="Two small trials, to see that everything runs: not a measurement.")
def main(trials: int, dry_run: bool) -> None:
    """Shares of simulated supernets that small searches judge wrongly."""
    trials, cases = (2, CASES[:1]) if dry_run else (trials, CASES)
    name = "searches" + (", a dry run: not a measurement" if dry_run else "")
    rows = [case(*sizes, trials) for sizes in cases]
    click.echo(json.dumps({"benchmark": name, **environment(), "trials": trials, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
