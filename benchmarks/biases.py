"""How often a supernet without any preference is said to be biased, and one with a preference is not: a simulation.

Architectures make four decisions among three choices, each of which is worth something when trained; the ground truth
adds noise. Three supernets score the truth plus noise of their own and noise that they share, which makes them
correlate with it at about 0.7. They favour no choice, or one by half a standard deviation of the scores. Asked of the
study ``operators``, over all twelve choices:

- how often supernets that favour nothing have a certainly biased choice (it should be at most 5 %);
- how often the favoured choice is found;
- the first of these if a bias is the plain difference of ranks, as in the first results of ``operators``: scores that
  are only noisy draw good and bad choices to the middle, and this counts as a bias.

    OMP_NUM_THREADS=1 python benchmarks/biases.py
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import click
import numpy as np

from wsnas.environment import environment
from wsnas.metrics import noise_ceiling, spearman
from wsnas.options import Command
from wsnas.randomness import numpy_rng

STUDY = Path(__file__).parents[1] / "studies/operators.py"
DECISIONS, CHOICES, SUPERNETS = 4, 3, 3
SIZES = (60, 160, 700)  # architectures, as in the results at the desk scale
FAVOUR = 0.5  # standard deviations of the scores


def trial(effects: Any, architectures: int, favour: float, number: int) -> tuple[list[Any], list[Any], float]:
    """The effects of one simulated space, the same as plain differences of ranks, and the supernets' correlation."""
    rng = numpy_rng(number, "biases", architectures)
    chosen = rng.integers(CHOICES, size=(architectures, DECISIONS))
    worth = rng.normal(size=(DECISIONS, CHOICES))
    quality = worth[np.arange(DECISIONS), chosen].sum(1) + 0.5 * rng.normal(size=architectures)
    quality /= quality.std()
    seeds = quality[:, None] + 0.4 * rng.normal(size=(architectures, 3))  # of the ground truth
    common, own = rng.normal(size=architectures), rng.normal(size=(SUPERNETS, architectures))
    scores = quality + 0.7 * common + 0.7 * own + favour * np.sqrt(2) * (chosen[:, 0] == 0)
    made = [{f"edge {i}": str(choice) for i, choice in enumerate(one)} for one in chosen]
    ceiling = noise_ceiling(seeds)
    assert ceiling is not None
    test = seeds.mean(1)
    found = effects(test, made, scores, ceiling.reliability)
    plain = effects(test, made, scores, 0.0)  # a slope of 1
    return found, plain, float(np.mean([spearman(one, test) for one in scores]))


def case(effects: Any, architectures: int, trials: int) -> dict[str, float]:
    """Shares of trials in percent."""
    none, plainly, found, agreement = 0, 0, 0, []
    for number in range(trials):
        unbiased, differences, correlation = trial(effects, architectures, 0.0, number)
        none += any(one.p_corrected < 0.05 for one in unbiased)
        plainly += any(one.p_corrected < 0.05 for one in differences)
        agreement.append(correlation)
        favouring, _, _ = trial(effects, architectures, FAVOUR, number)
        found += any(
            one.p_corrected < 0.05 and one.effect > 0
            for one in favouring
            if (one.decision, one.choice) == ("edge 0", "0")
        )
    return {
        "architectures": architectures,
        "correlation": float(np.mean(agreement)),
        "said to be biased": 100 * none / trials,
        "said to be biased, by plain differences": 100 * plainly / trials,
        "bias found": 100 * found / trials,
    }


@click.command(cls=Command)
@click.option("--trials", type=click.IntRange(1), default=300, show_default=True, help="Of each size of the sample.")
@click.option("--dry-run", is_flag=True, help="A single trial, to see that it runs: not a measurement.")
def main(trials: int, dry_run: bool) -> None:
    """Shares of simulated supernets that are said to be biased."""
    trials, sizes = (1, SIZES[:1]) if dry_run else (trials, SIZES)
    name = "biases" + (", a dry run: not a measurement" if dry_run else "")
    effects = runpy.run_path(str(STUDY))["effects"]
    rows = [case(effects, architectures, trials) for architectures in sizes]
    click.echo(json.dumps({"benchmark": name, **environment(), "trials": trials, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
