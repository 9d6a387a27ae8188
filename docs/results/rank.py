"""Ranks the evaluated submodels of a supernet run against a ground-truth table, beside the parameter count.

``python rank.py RUN --table TABLE --dataset cifar10 --out FOLDER`` after ``wsnas train-supernet`` and
``wsnas evaluate RUN --table TABLE``. Writes results.json, rank.csv, rank.png and rank.svg. Parameters are counted at
the scale that the ground truth was trained at.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np

from wsnas import load_space
from wsnas.agreement import load_ground_truth
from wsnas.environment import environment
from wsnas.evaluation import latest_scores
from wsnas.metrics import correlation, higher_is_better, noise_ceiling, random_top_k, spearman, top_k
from wsnas.options import Command
from wsnas.runs import Run
from wsnas.studies.figures import BLUE, GREY, STYLE
from wsnas.studies.results import to_jsonable


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--table", type=click.Path(), help="Ground truth; by default the shipped or imported table.")
@click.option("--dataset", required=True, help="The ground truth's data set.")
@click.option("--scale", type=click.Choice(["micro", "paper"]), default="paper", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(run: Path, table: str | None, dataset: str, scale: str, out: Path) -> None:
    """Spearman of supernet scores, and of the parameter count, with ground truth."""
    found = Run.read(run)
    space = load_space(found.identity["space"])
    scores = latest_scores(found)
    truth = load_ground_truth(space, dataset, table).select(scores)
    test = higher_is_better(truth.mean(dataset, "test"), space.metric)
    valid = higher_is_better(truth.mean(dataset, "valid" if truth.has(dataset, "valid") else "test"), space.metric)
    score = higher_is_better([scores[arch] for arch in truth.archs], space.metric)
    recipe = space.recipes[scale]
    counts = np.array([space.parameters(space.decode(arch), recipe) for arch in truth.archs])
    by_score, by_count = correlation(score, test), correlation(counts, test)
    rng = np.random.default_rng(0)
    picks = rng.integers(len(test), size=(2000, len(test)))  # the same architectures for both, so that they compare
    differences = [spearman(score[p], test[p]) - spearman(counts[p], test[p]) for p in picks]
    k = min(10, len(test))
    results = {
        "architectures": len(test),
        "spearman": by_score,
        "parameter_count_spearman": by_count,
        "supernet_minus_parameter_count": [float(q) for q in np.quantile(differences, (0.025, 0.975))],
        "score_with_parameter_count": correlation(score, counts),
        "noise_ceiling": noise_ceiling(truth.seeds(dataset, "test")),
        "top_10": top_k(score, valid, test, k),  # by test accuracy where the table has no validation
        "random_top_10": random_top_k(valid, test, k),
        "truth": {"lowest": test.min(), "mean": test.mean(), "highest": test.max(), "deviation": test.std()},
        "scores": {"lowest": score.min(), "mean": score.mean(), "highest": score.max()},
        "last_epoch": found.metrics()[-1],
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
        for ax, x, name, value in (
            (axes[0], score, "supernet's validation accuracy, %", by_score),
            (axes[1], counts / 1e6, "parameters, millions", by_count),
        ):
            ax.plot(x, test, "o", ms=3.5, alpha=0.7, color=BLUE if ax is axes[0] else GREY)
            ax.set_xlabel(name)
            ax.set_title(f"Spearman {value.value:.2f} [{value.low:.2f}, {value.high:.2f}]", fontsize=9, loc="left")
        axes[0].set_ylabel(f"{dataset} test accuracy when trained alone, %")
    rows = [
        {"arch": arch, "score": float(s), "parameters": int(c), "test": float(t)}
        for arch, s, c, t in zip(truth.archs, score, counts, test, strict=True)
    ]
    settings = {
        "recipe": {**found.recipe, "dataset": Path(found.recipe["dataset"]).name},
        "seed": found.identity["seed"],
        "table": "shipped" if table is None else Path(table).name,
    }
    out.mkdir(parents=True, exist_ok=True)
    described = {"settings": settings, "environment": environment(), "results": results}
    (out / "results.json").write_text(json.dumps(to_jsonable(described), indent=1) + "\n")
    with open(out / "rank.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with plt.rc_context(STYLE):  # its hash salt: the same figure is the same file
        figure.savefig(out / "rank.png", dpi=150)
        figure.savefig(out / "rank.svg", metadata={"Date": None})
    click.echo(f"supernet {by_score}, parameter count {by_count}, over {len(test)} architectures")


if __name__ == "__main__":
    main()
