"""``wsnas rank``: how well supernets rank their scored submodels, compared with what is free to know of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.agreement import ground_truth_for, remarks
from wsnas.environment import command_line, environment
from wsnas.errors import WsnasError
from wsnas.evaluation import latest_scores
from wsnas.metrics import (
    Ceiling,
    Floats,
    Interval,
    contrast,
    correlation,
    correlation_over,
    higher_is_better,
    measures,
    noise_ceiling,
    percentiles,
    random_top_k,
    rank_agreement,
    sign_of,
    top_k,
)
from wsnas.randomness import numpy_rng
from wsnas.recipe import digest, files_by_name
from wsnas.runs import Run
from wsnas.space import load_space
from wsnas.studies.figures import BLUE, GREY, STYLE, caption, head
from wsnas.studies.options import require_own_results
from wsnas.studies.rankings import K
from wsnas.studies.results import write_files
from wsnas.words import counted


@dataclass(frozen=True)
class Spread:
    lowest: float
    mean: float
    highest: float
    deviation: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of supernets' scores and of what is free with ground truth; accuracies and perplexities as measured.

    The supernets' numbers are means over them, with intervals that, if there are several, cover other supernets, too.
    None where all sizes are equal, so that there is no order to agree with.
    """

    architectures: int
    spearman: Interval
    supernets: tuple[float, ...]  # the Spearman of each
    parameter_count_spearman: Interval | None
    multiply_adds_spearman: Interval | None
    supernet_minus_parameter_count: tuple[float, float] | None  # 95 % interval of the difference
    score_with_parameter_count: Interval | None
    noise_ceiling: Ceiling | None
    top_10: float  # selected by test result if the table has no validation
    random_top_10: float
    measures: dict[str, Interval]  # other than Spearman's (``metrics.Measures``)
    truth: Spread
    scores: Spread
    evaluated: int = 0  # architectures, by all supernets; those without a finite score or a result are left out
    remarks: tuple[str, ...] = ()  # ``wsnas.agreement.remarks``


def agreement(
    scores: Floats,
    counts: Floats,
    macs: Floats,
    valid: Floats,
    test: Floats,
    seeds: Floats,
    metric: str = "accuracy",
) -> Agreement:
    """Of scores [supernets, n]; counts (parameters), macs (multiply-adds), valid, test [n]; seeds [n, seeds] of test.

    Higher is better: perplexities, if these are the ``metric``, with their sign flipped. Among equal scores, chance
    decides which are selected, not the order of the architectures.
    """
    order = numpy_rng(0, "ties").permutation(len(test))
    drawn = scores[:, order], valid[order], test[order]
    k, mean = min(K, len(test)), scores.mean(0)
    ours, size = rank_agreement(scores, test), rank_agreement(counts, test)
    if len(scores) > 1:
        difference = contrast((1, ours - size))
        found, gain = correlation_over(ours), (difference.low, difference.high)
        with_size = correlation_over(rank_agreement(scores, counts))
    else:
        found, gain = correlation(mean, test), percentiles((ours - size).drawn[0])
        with_size = correlation(mean, counts)
    sized = len(np.unique(counts)) > 1
    measured = [higher_is_better(x, metric) for x in (test, mean)]  # it undoes itself
    truth, spread = (Spread(float(x.min()), float(x.mean()), float(x.max()), float(x.std())) for x in measured)
    return Agreement(
        len(test),
        found,
        tuple(float(one) for one in ours.each),
        correlation(counts, test) if sized else None,
        correlation(macs, test) if len(np.unique(macs)) > 1 else None,
        gain if sized else None,
        with_size if sized else None,
        noise_ceiling(seeds),
        sign_of(metric) * float(np.mean([top_k(one, *drawn[1:], k) for one in drawn[0]])),
        sign_of(metric) * random_top_k(valid, test, k),
        measures(*drawn, k).intervals(),
        truth,
        spread,
    )


def rank(
    runs: Sequence[Path],
    out: Path,
    *,
    table: Path | str | None = None,
    dataset: str | None = None,
    scale: str = "paper",
) -> Agreement:
    """Writes results.json, rank.csv and rank.png for the latest scores of supernet runs of one space to ``out``.

    What all runs have scored, and the ground truth has results of, is compared. ``dataset``: of the ground truth, by
    default the first run's, if the table has it. Parameters and multiply-adds are counted at the recipe ``scale``,
    which should be the ground truth's. Raises WsnasError if the runs' spaces differ, if the space has no such scale, or
    if fewer than two architectures can be compared.
    """
    require_own_results(out, "rank")
    supernets = [Run.read(run) for run in runs]
    names = {supernet.identity["space"] for supernet in supernets}
    if len(names) > 1:
        raise WsnasError(f"the runs are of several spaces ({', '.join(sorted(names))}): rank those of one space")
    if len({digest(supernet.identity) for supernet in supernets}) < len(supernets):
        raise WsnasError("some of the runs are the same supernet: give each only once, and others of other seeds")
    space = load_space(names.pop())
    recipe = space.recipe(scale)
    each = [latest_scores(supernet) for supernet in supernets]
    loaded, dataset = ground_truth_for(space, supernets[0].recipe["dataset"], dataset, table)
    finite = [{arch for arch, score in scores.items() if math.isfinite(score)} for scores in each]
    shared = [arch for arch in each[0] if arch in loaded.row and all(arch in of for of in finite)]
    truth = loaded.select(shared).higher_is_better(space.metric)
    split = "valid" if truth.epochs(dataset, "valid") else "test"
    results = np.array([truth.mean(dataset, one) for one in (split, "test")])
    known = np.isfinite(results).all(0)
    if known.sum() < 2:
        where = runs[0] if len(runs) == 1 else "all runs"
        raise WsnasError(
            f"{known.sum()} of {len(each[0])} scores in {where} are finite and have a {dataset} ground truth: too few "
            "to rank; score others with 'wsnas evaluate RUN --table TABLE'"
        )
    (valid, test), seeds = results[:, known], truth.common_seeds(dataset, "test")[known]
    truth = truth.take(np.flatnonzero(known))
    scored = higher_is_better([[scores[arch] for arch in truth.archs] for scores in each], space.metric)
    archs = [space.decode(arch) for arch in truth.archs]
    counts = np.array([space.parameters(arch, recipe) for arch in archs], dtype=np.float64)
    macs = np.array([space.macs(arch, recipe) for arch in archs], dtype=np.float64)
    compared = agreement(scored, counts, macs, valid, test, seeds, space.metric)
    said = dict.fromkeys(
        remark for scores in each for remark in (*scores.remarks, *remarks(scores, loaded, dataset, "test"))
    )
    if len({_way(supernet) for supernet in supernets}) > 1:
        said["the runs differ in more than their seeds: the interval is not that of one way to train"] = None
    if len(settings := {scores.settings: None for scores in each}) > 1:
        said[f"the runs were scored with different settings ({'; '.join(settings)}): score all of them alike"] = None
    evaluated = len(set(each[0]).intersection(*each))
    compared, score = replace(compared, evaluated=evaluated, remarks=tuple(said)), scored.mean(0)
    described = {
        "command": command_line(),
        "settings": {
            "recipe": files_by_name(supernets[0].recipe),
            "seeds": [supernet.identity["seed"] for supernet in supernets],
            "table": "shipped or imported" if table is None else Path(table).name,
        },
        "environment": environment(),
        "results": {**vars(compared), "last_epochs": [supernet.metrics()[-1:] for supernet in supernets]},
    }
    sign = sign_of(space.metric)  # as measured
    rows = [
        {"arch": arch, "score": float(sign * s), "parameters": int(c), "macs": int(m), "test": float(sign * t)}
        for arch, s, c, m, t in zip(truth.archs, score, counts, macs, test, strict=True)
    ]
    write_files(out, "rank", described, rows, {"rank": _figure(compared, score, counts, test, space.metric, dataset)})
    return compared


def _way(supernet: Run) -> str:
    """A digest of how a supernet was trained, its seed aside and wherever its data were."""
    identity = {**supernet.identity, "seed": 0}
    return digest(identity, {"data": identity.pop("data")} if "data" in identity else None)


def _figure(compared: Agreement, score: Floats, counts: Floats, test: Floats, metric: str, dataset: str) -> Figure:
    several = len(compared.supernets) > 1
    supernets = counted(len(compared.supernets), "supernet")
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(1, 2, figsize=(8, 4), layout="constrained", sharey=True)
        for axes, title, x, name, interval, colour in (
            (
                grid[0],
                f"By {supernets}",
                higher_is_better(score, metric),
                f"submodels' validation {metric}{', mean of supernets' if several else ''}",
                compared.spearman,
                BLUE,
            ),
            (grid[1], "By size", counts / 1e6, "parameters, millions", compared.parameter_count_spearman, GREY),
        ):
            if interval is None:  # all have the same size
                axes.set_visible(False)
                continue
            axes.plot(x, higher_is_better(test, metric), "o", ms=3.5, alpha=0.7, color=colour)
            axes.set_xlabel(name)
            head(axes, title, f"Spearman {interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
        grid[0].set_ylabel(f"{Path(dataset).stem} test {metric}, stand-alone")
        if metric == "perplexity":  # up, and right, is better
            grid[0].invert_yaxis()
            grid[0].invert_xaxis()
        caption(
            figure,
            "Do supernets rank architectures as stand-alone training does, and better than their size does?\n"
            f"{counted(compared.architectures, 'architecture')}; up is better. In brackets: the 95 % interval over "
            f"architectures{' and, on the left, supernets' if several else ''}.",
        )
        plt.close(figure)
        return figure
