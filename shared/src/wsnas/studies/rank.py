"""``wsnas rank``: how well one supernet ranks its scored submodels, compared with the parameter count."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.agreement import load_ground_truth, remarks
from wsnas.environment import command_line, environment
from wsnas.errors import WsnasError
from wsnas.evaluation import latest_scores
from wsnas.metrics import (
    Ceiling,
    Floats,
    Interval,
    correlation,
    higher_is_better,
    measures,
    noise_ceiling,
    percentiles,
    random_top_k,
    spearman,
    top_k,
)
from wsnas.runs import Run
from wsnas.space import load_space
from wsnas.studies.figures import BLUE, GREY, STYLE, head
from wsnas.studies.rankings import K
from wsnas.studies.results import write_files
from wsnas.table import mean_measured


@dataclass(frozen=True)
class Spread:
    lowest: float
    mean: float
    highest: float
    deviation: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of a supernet's scores and the parameter count with ground truth; perplexities are negated."""

    architectures: int
    spearman: Interval
    parameter_count_spearman: Interval
    supernet_minus_parameter_count: tuple[float, float]  # 95 % bootstrap interval of the difference
    score_with_parameter_count: Interval
    noise_ceiling: Ceiling | None
    top_10: float  # selected by test result if the table has no validation
    random_top_10: float
    measures: dict[str, Interval]  # other than Spearman's (``metrics.Measures``)
    truth: Spread
    scores: Spread
    remarks: tuple[str, ...] = ()  # ``wsnas.agreement.remarks``


def agreement(score: Floats, counts: Floats, valid: Floats, test: Floats, seeds: Floats) -> Agreement:
    """score, counts, valid, test [n], higher is better; seeds [n, seeds]: the test results of each seed."""
    picks = np.random.default_rng(0).integers(len(test), size=(2000, len(test)))  # the same for both: they are paired
    differences = np.array([spearman(score[p], test[p]) - spearman(counts[p], test[p]) for p in picks])
    k = min(K, len(test))
    truth, scores = (Spread(float(x.min()), float(x.mean()), float(x.max()), float(x.std())) for x in (test, score))
    return Agreement(
        len(test),
        correlation(score, test),
        correlation(counts, test),
        percentiles(differences),
        correlation(score, counts),
        noise_ceiling(seeds),
        top_k(score, valid, test, k),
        random_top_k(valid, test, k),
        measures(score, valid, test, k).intervals(),
        truth,
        scores,
    )


def rank(
    run: Path, out: Path, *, table: Path | str | None = None, dataset: str | None = None, scale: str = "paper"
) -> Agreement:
    """Writes results.json, rank.csv and rank.png for a supernet run's latest scores to ``out``.

    ``dataset``: of the ground truth, by default the run's. Parameters are counted at the recipe ``scale``, which should
    be the ground truth's. Raises WsnasError if there are no scores or an architecture is not in the table.
    """
    supernet = Run.read(run)
    space = load_space(supernet.identity["space"])
    dataset = dataset or supernet.recipe["dataset"]
    scores = latest_scores(supernet)
    loaded = load_ground_truth(space, dataset, table)
    known = [arch for arch, score in scores.items() if math.isfinite(score)]
    if len(known) < 2:
        raise WsnasError(f"{len(known)} of {len(scores)} scores in {run} are finite: too few to rank")
    truth = loaded.select(known).higher_is_better(space.metric)
    split = "valid" if truth.epochs(dataset, "valid") else "test"
    valid, test = (mean_measured(truth.common_seeds(dataset, one)) for one in (split, "test"))
    score = higher_is_better([scores[arch] for arch in truth.archs], space.metric)
    recipe = space.recipes[scale]
    counts = np.array([space.parameters(space.decode(arch), recipe) for arch in truth.archs], dtype=np.float64)
    compared = agreement(score, counts, valid, test, truth.common_seeds(dataset, "test"))
    compared = replace(compared, remarks=tuple(remarks(scores, loaded, dataset, "test")))
    described = {
        "command": command_line(),
        "settings": {
            "recipe": {**supernet.recipe, "dataset": Path(supernet.recipe["dataset"]).name},
            "seed": supernet.identity["seed"],
            "table": "shipped or imported" if table is None else Path(table).name,
        },
        "environment": environment(),
        "results": {**vars(compared), "last_epoch": next(iter(supernet.metrics()[-1:]), None)},
    }
    rows = [
        {"arch": arch, "score": float(s), "parameters": int(c), "test": float(t)}
        for arch, s, c, t in zip(truth.archs, score, counts, test, strict=True)
    ]
    write_files(out, "rank", described, rows, {"rank": _figure(compared, score, counts, test, space.metric, dataset)})
    return compared


def _figure(compared: Agreement, score: Floats, counts: Floats, test: Floats, metric: str, dataset: str) -> Figure:
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
        for axes, x, name, interval, colour in (
            (grid[0], higher_is_better(score, metric), f"supernet's validation {metric}", compared.spearman, BLUE),
            (grid[1], counts / 1e6, "parameters, millions", compared.parameter_count_spearman, GREY),
        ):
            axes.plot(x, higher_is_better(test, metric), "o", ms=3.5, alpha=0.7, color=colour)
            axes.set_xlabel(name)
            head(axes, "", f"Spearman {interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
        grid[0].set_ylabel(f"{Path(dataset).stem} test {metric}, stand-alone")
        if metric == "perplexity":  # up, and right, is better
            grid[0].invert_yaxis()
            grid[0].invert_xaxis()
        plt.close(figure)
        return figure
