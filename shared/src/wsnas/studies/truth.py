"""``wsnas table show --figure``: a ground truth drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.metrics import spearman
from wsnas.space import SearchSpace
from wsnas.studies.figures import BLUE, GREY, STYLE, caption, head
from wsnas.table import Table
from wsnas.words import counted


def truth_figure(table: Table, space: SearchSpace[Any], dataset: str) -> Figure:
    """Test results of one data set: their distribution, two seeds against each other, and size."""
    test, seeds = table.mean(dataset, "test"), table.common_seeds(dataset, "test")
    known = np.isfinite(test)
    result = f"{Path(dataset).stem} test {space.metric}" + (", %" if space.metric == "accuracy" else "")
    dots: dict[str, Any] = {"ls": "", "marker": "o", "ms": 3, "mew": 0, "alpha": 0.5, "rasterized": True}
    with plt.rc_context(STYLE):
        figure: Figure
        figure, (spread, two, size) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
        spread.hist(test[known], bins=40, color=BLUE)
        spread.set_xlabel(result)
        spread.set_ylabel("architectures")
        head(spread, f"{table.space}: {known.sum():,} architectures", counted(table.length(dataset, "test"), "epoch"))
        both = np.isfinite(seeds[:, :2]).all(1)
        if seeds.shape[1] > 1 and both.sum() > 1:
            two.plot(seeds[both, 0], seeds[both, 1], color=BLUE, **dots)
            two.set_xlabel(f"{result}: first seed")
            two.set_ylabel("second seed")
            head(two, "Two trainings", f"Spearman {spearman(seeds[both, 0], seeds[both, 1]):.3f}")
        else:
            two.set_visible(False)
        counts = np.zeros(len(test)) if table.parameters is None else table.parameters
        drawn = known & (counts > 0)
        if len(np.unique(counts[drawn])) > 1:
            size.plot(counts[drawn] / 1e6, test[drawn], color=GREY, **dots)
            size.set_xlabel("parameters, millions")
            size.set_ylabel(result)
            head(size, "Size", f"Spearman {spearman(counts[drawn], test[drawn]):.3f}")
        else:
            size.set_visible(False)
        caption(figure, "What do architectures reach when they are trained, and how well do two trainings agree?")
        plt.close(figure)
        return figure
