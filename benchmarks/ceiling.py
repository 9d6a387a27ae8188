"""Whether the noise ceiling of a pruned space is what a perfect predictor would reach, by simulation.

The shipped tables of nb201 and nb101 are drawn again and again: every training key gets a quality (its mean results,
drawn together so that they spread as quality does, without the luck of the mean) and for each seed the luck of a
training of an architecture about as good, validation and test together. Architectures that share a training share its
luck. Of each table: the line that the study ``capacity`` draws (``wsnas.metrics.pruned_ceiling``), and the truth: how
well quality itself ranks the best 1/factor where one seed chooses them and the mean of the others reports, and where,
as it was once done, the mean of all seeds does both.

    OMP_NUM_THREADS=1 python benchmarks/ceiling.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from wsnas.agreement import load_ground_truth
from wsnas.environment import environment
from wsnas.metrics import Floats, best_rows, pruned_ceiling, spearman
from wsnas.options import Command
from wsnas.randomness import numpy_rng
from wsnas.space import load_space

FACTORS = (1, 8, 32)
ABOUT_AS_GOOD = 100  # training keys on either side, by their mean test result


@dataclass(frozen=True)
class Model:
    """What a table is drawn from."""

    quality: Floats  # [keys, 2]: validation and test
    luck: Floats  # [keys, seeds, 2], the keys from worst to best
    place: NDArray[np.int64]  # [keys] among them
    key: NDArray[np.int64]  # [architectures]: the training each has

    @staticmethod
    def of(valid: Floats, test: Floats) -> Model:
        """From results [architectures, seeds] without gaps."""
        seeds = valid.shape[1]
        unlike, key = np.unique(np.hstack([valid, test]), axis=0, return_inverse=True)
        key = key.reshape(-1)
        results = np.stack([unlike[:, :seeds], unlike[:, seeds:]], axis=2)
        mean = results.mean(1)
        luck = (results - mean[:, None]) * np.sqrt(seeds / (seeds - 1))  # the mean has taken its share
        often = np.bincount(key)
        middle = np.average(mean, axis=0, weights=often)
        spread = np.average((mean - middle) ** 2, axis=0, weights=often)
        of_luck = np.average((luck**2).mean(1), axis=0, weights=often) / seeds
        order = np.argsort(mean[:, 1])
        return Model(middle + np.sqrt(1 - of_luck / spread) * (mean - middle), luck[order], np.argsort(order), key)

    def draw(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """[architectures, seeds] validation and test results."""
        keys, seeds, _ = self.luck.shape
        near = self.place[:, None] + rng.integers(-ABOUT_AS_GOOD, ABOUT_AS_GOOD + 1, (keys, seeds))
        luck = self.luck[near.clip(0, keys - 1), rng.integers(seeds, size=(keys, seeds))]
        results = (self.quality[:, None] + luck)[self.key]
        return results[..., 0], results[..., 1]


def trial(model: Model, factor: int, valid: Floats, test: Floats) -> dict[str, float]:
    """The line of one drawn table, and the truth."""
    line, truth = pruned_ceiling(valid, test, factor), model.quality[model.key, 1]
    assert line is not None
    reached = []
    for chooser in range(valid.shape[1]):
        best = best_rows(valid[:, chooser], factor)
        reached.append(spearman(truth[best], np.delete(test[best], chooser, axis=1).mean(1)))
    best = best_rows(valid.mean(1), factor)
    return {
        "agreement": line.agreement,
        "line": line.ceiling,
        "truth": float(np.mean(reached)),
        "truth of the first seed's best": reached[0],
        "where all seeds choose and report": spearman(truth[best], test[best].mean(1)),
    }


def cases(space: str, trials: int) -> list[dict[str, Any]]:
    """Means over drawn tables, a case for each factor."""
    loaded = load_space(space)
    table, dataset = load_ground_truth(loaded), loaded.recipes["micro"].dataset
    # of the length that most were trained for: many architectures matter here, not how good they are
    length = max(table.epochs(dataset, "test"), key=lambda one: np.isfinite(table.seeds(dataset, "test", one)).sum())
    valid, test = (table.seeds(dataset, split, length) for split in ("valid", "test"))
    whole = np.isfinite(valid).all(1) & np.isfinite(test).all(1)
    valid, test = valid[whole], test[whole]
    model, rng = Model.of(valid, test), numpy_rng(0, "ceiling", space)
    found: dict[int, list[dict[str, float]]] = {factor: [] for factor in FACTORS}
    for _ in range(trials):
        drawn = model.draw(rng)
        for factor in FACTORS:
            found[factor].append(trial(model, factor, *drawn))
    rows = []
    for factor, outcomes in found.items():
        of = {name: np.array([one[name] for one in outcomes]) for name in outcomes[0]}
        shipped = pruned_ceiling(valid, test, factor)
        assert shipped is not None
        rows.append(
            {
                "space": space,
                "factor": factor,
                "architectures": len(best_rows(valid[:, 0], factor)),
                "shipped table": {"agreement": round(shipped.agreement, 4), "line": round(shipped.ceiling, 4)},
                **{name: round(float(values.mean()), 4) for name, values in of.items()},
                "line minus truth": round(float((of["line"] - of["truth"]).mean()), 4),
                "a single line varies by": round(float(of["line"].std(ddof=1)), 4),
                "the first seed's truth varies by": round(float(of["truth of the first seed's best"].std(ddof=1)), 4),
            }
        )
    return rows


@click.command(cls=Command)
@click.option("--trials", type=click.IntRange(2), default=200, show_default=True, help="Tables drawn of each space.")
@click.option("--dry-run", is_flag=True, help="Two tables, to see that everything runs: not a measurement.")
def main(trials: int, dry_run: bool) -> None:
    """The ceiling line of nb201's and nb101's shipped tables against simulated truth."""
    trials = 2 if dry_run else trials
    name = "ceiling" + (", a dry run: not a measurement" if dry_run else "")
    rows = [row for space in ("nb201", "nb101") for row in cases(space, trials)]
    worst = max(rows, key=lambda row: abs(row["line minus truth"]))
    about = {"benchmark": name, **environment(), "trials": trials}
    click.echo(json.dumps({**about, "largest line minus truth": worst["line minus truth"], "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
