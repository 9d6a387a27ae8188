"""A recurrent supernet against stand-alone trainings: correlation, and which activations each side prefers.

    python activations.py RUN TABLE OUT

RUN is a supernet's run directory, TABLE the ground truth of some cells. All cells of the table are scored, and 200
more. Writes OUT/results.json, cells.csv and activations.png and .svg.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from darts_rnn.space import ACTIVATIONS
from wsnas.environment import environment
from wsnas.evaluation import evaluate
from wsnas.files import atomic_write
from wsnas.metrics import correlation, higher_is_better
from wsnas.randomness import numpy_rng
from wsnas.sampling import sample_distinct
from wsnas.supernet import load_supernet
from wsnas.table import Table

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def preference(share: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """Spearman between how many nodes of a cell have the activation and how good the cell is, with its interval."""
    found = correlation(share, score)
    return {"spearman": found.value, "low": found.low, "high": found.high, "cells": found.n}


def main(run: Path, table: Path, out: Path) -> None:
    supernet, truth = load_supernet(run, "cpu"), Table.load(table)
    space, dataset = supernet.space, truth.datasets[0]
    more = [space.encode(arch) for arch in sample_distinct(space, 200, numpy_rng(0, "more cells"))]
    scores = evaluate(supernet, [*truth.archs, *(name for name in more if name not in truth.row)])
    test, valid = truth.mean(dataset, "test"), truth.mean(dataset, "valid")
    trained = higher_is_better(test, space.metric)
    shared = higher_is_better([scores[arch] for arch in truth.archs], space.metric)
    every = higher_is_better(list(scores.values()), space.metric)

    def counts(archs: Any) -> np.ndarray:
        return np.array([np.bincount([a for a, _ in space.decode(name).nodes], minlength=4) for name in archs])

    mine, all_counts = counts(truth.archs), counts(scores)
    by_activation: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(ACTIVATIONS):
        by_activation[name] = {
            "stand-alone": preference(mine[:, i], trained),
            "supernet": preference(mine[:, i], shared),
            "supernet, all cells": preference(all_counts[:, i], every),
            "mean perplexity a node, stand-alone": float((mine[:, i] * test).sum() / mine[:, i].sum()),
            "mean perplexity a node, supernet": float((mine[:, i] * -shared).sum() / mine[:, i].sum()),
        }
    result: dict[str, Any] = {
        "environment": environment(),
        "supernet": {
            "recipe": supernet.recipe.identity(),
            "step": supernet.step,
            "seed": supernet.run.identity["seed"],
        },
        "ground truth": dict(truth.about),
        "cells": {"trained": len(truth), "scored": len(scores)},
        "perplexity": {
            "stand-alone test": [float(q) for q in np.quantile(test, (0, 0.5, 1))],
            "supernet validation": [float(q) for q in np.quantile(-every, (0, 0.5, 1))],
        },
        "spearman": vars(correlation(shared, trained)),
        "spearman, validation": vars(correlation(shared, higher_is_better(valid, space.metric))),
        "activations": by_activation,
    }
    atomic_write(out / "results.json", (json.dumps(result, indent=1) + "\n").encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["architecture", "supernet_perplexity", "standalone_valid", "standalone_test"])
    for name, score in scores.items():
        row = truth.row.get(name)
        alone = ("", "") if row is None else (round(float(valid[row]), 4), round(float(test[row]), 4))
        writer.writerow([name, round(score, 4), *alone])
    atomic_write(out / "cells.csv", text.getvalue().encode())

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    colour = left.scatter(test, -shared, c=mine[:, 0], cmap="viridis", s=24)
    figure.colorbar(colour, ax=left, label="nodes with tanh")
    left.set(xlabel="test perplexity, trained alone", ylabel="validation perplexity in the supernet")
    left.set_title(f"{len(truth)} cells: Spearman {correlation(shared, trained)}", fontsize=10)
    for offset, side in ((-0.15, "stand-alone"), (0.15, "supernet")):
        rows = [by_activation[name][side] for name in ACTIVATIONS]
        middle = np.array([row["spearman"] for row in rows])
        bars = np.abs(np.array([[row["low"], row["high"]] for row in rows]).T - middle)
        right.errorbar(np.arange(4) + offset, middle, bars, fmt="o", capsize=3, label=side)
    right.axhline(0, color="grey", lw=0.8)
    right.set_xticks(range(4), ACTIVATIONS)
    right.set(ylabel="Spearman: nodes with it, goodness")
    right.set_title("Preferred (above 0) by ...; bars: 95 % bootstrap", fontsize=10)
    right.legend()
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
        atomic_write(out / f"activations.{kind}", buffer.getvalue())
    print(json.dumps({"spearman": result["spearman"], "activations": by_activation}, indent=1))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
