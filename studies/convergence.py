"""Figure 8, Appendix D: how far supernets converge, and how their mean score relates to the ranking.

The supernets are those of the study ``epochs``, several per budget. The mean score of the sampled
submodels is compared with the mean ground truth of the same architectures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import hypot, sqrt

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from wsnas.devices import choose_device
from wsnas.ground_truth import splits_once
from wsnas.metrics import Floats, Interval, PerSupernet, contrast, correlation_over, mean_score, rank_agreement, sign_of
from wsnas.studies.costs import same_networks
from wsnas.studies.figures import BLACK, BLUE, GREEN, STYLE, axes_grid, caption, head, part_ticks
from wsnas.studies.jobs import budgets_option, scores_by_budget
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import finite, not_finite
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample
from wsnas.studies.verdicts import Answer, Holds, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted

THROUGHOUT = "extended training raises the mean supernet performance throughout"


@dataclass(frozen=True)
class Budget:
    """The supernets of one budget. Higher scores are better; perplexities are negated."""

    epochs: int
    mean: float  # over supernets of their means
    mean_seeds: list[float]  # of each supernet
    not_finite: int  # scores, left out of the means
    correlation: float  # Spearman with the ground truth, mean over supernets, and its 95 % interval
    correlation_low: float
    correlation_high: float


def budget_of(sample: SpaceSample, epochs: int, scores: Floats) -> Budget:
    """``scores`` [supernets, n]."""
    means, correlation = mean_score(scores), correlation_over(rank_agreement(finite(scores), sample.test))
    return Budget(
        epochs=epochs,
        mean=means.mean,
        mean_seeds=[float(one) for one in means.each],
        not_finite=not_finite(scores),
        correlation=correlation.value,
        correlation_low=correlation.low,
        correlation_high=correlation.high,
    )


def on_other_images(gap: Interval, accuracy: float, images: int, of: int) -> Interval:
    """The interval of a difference of mean accuracies, in percent, one of the first ``images``, one of all ``of``.

    Networks mistake the same images, so that the first may be easier than all by up to the standard error of a sample
    without replacement, which a mean over networks does not lower.
    """
    share = min(max(accuracy / 100, 0.0), 1.0)
    error = 100 * sqrt(share * (1 - share) * (1 / images - 1 / of))
    half = hypot((gap.high - gap.low) / 2, float(stats.norm.ppf(0.975)) * error)
    return Interval(gap.value, gap.value - half, gap.value + half, gap.n)


def verdicts_of(
    space: str, means: Mapping[int, PerSupernet], truth: PerSupernet | None, images: tuple[int, int] | None = None
) -> list[Verdict]:
    """``means`` by epochs, ascending; ``truth`` of the same networks; all higher is better.

    ``images``: how many validation images the means are of, and how many the ground truth is; None: the same.

    A single budget says nothing about longer training, a ground truth of other networks (None) nothing about its mean.
    """
    shortest, longest = min(means), max(means)
    first, last = means[shortest], means[longest]
    change, supernets = contrast((1, last), (-1, first)), len(last.each)
    steps = list(pairwise(means.values()))
    gains = [contrast((1, b), (-1, a)) for a, b in steps]
    rises = all(gain.low > 0 for gain in gains)
    falls = any(contrast((1, b), (-1, a), level=1 - 0.05 / len(steps)).high < 0 for a, b in steps)
    throughout: Holds = "holds" if rises else "does not hold" if falls else "inconclusive"

    def means_in_words(numbers: Numbers) -> str:
        return (
            f"{numbers.say('mean of the shortest', abs(first.mean))} at "
            f"{numbers.count('shortest', shortest, 'epoch')}, "
            f"{numbers.say('mean of the longest', abs(last.mean))} at {numbers.say('longest', longest, ',')}"
        )

    verdicts, rising, passing = list[Verdict](), Numbers(), Numbers()
    if first is not last:
        verdicts.append(
            Verdict(
                THROUGHOUT,
                "Appendix D, Figure 8",
                space,
                "holds where the 95 % interval of the improvement from every budget to the next is above 0; does not "
                "hold where one of them, corrected for how many there are, is below 0; else, and with one supernet, "
                "inconclusive",
                f"{means_in_words(rising)}: better by {rising.estimate('improvement', change, '.2f')}"
                + "".join(
                    f", in the least certain step by {rising.estimate('step', gain, '.2f')}"
                    for gain in sorted(gains, key=lambda gain: gain.low)[: len(gains) > 1]
                ),
                throughout if supernets > 1 else "inconclusive",
                rising,
            )
        )
    if truth is not None:
        gap = contrast((1, last - truth))
        if images is not None:
            gap = on_other_images(gap, last.mean, *images)
        verdicts.append(
            Verdict(
                "the mean supernet performance surpasses the mean ground truth",
                "Appendix D, Figure 8 (NAS-Bench-101)",
                space,
                "asked where the ground truth trained networks of the same size: holds where the 95 % interval of "
                "(mean at the longest budget - mean ground truth) is above 0, does not hold where it is below 0, wider "
                "by what accuracies on some of the validation images may differ from those on all; else, and with one "
                "supernet, inconclusive",
                f"{means_in_words(passing)}; mean ground truth {passing.say('mean ground truth', abs(truth.mean))}: "
                f"better by {passing.estimate('lead', gap, '.2f')}",
                sign_verdict(gap.low, gap.high, supernets),
                passing,
            )
        )
    return verdicts


def convergence_figure(panels: Sequence[tuple[SpaceSample, Sequence[Budget]]], note: str) -> Figure:
    """Figure 8: mean supernet score over epochs, and the mean ground truth; correlation on the right axis."""
    with plt.rc_context(STYLE):
        figure, grid = axes_grid(len(panels), 4.4, 3.6)
        for axes, (sample, budgets) in zip(grid, panels, strict=True):
            metric = sample.space.metric
            sign = sign_of(metric)
            x = [budget.epochs for budget in budgets]
            means = sign * np.array([budget.mean_seeds for budget in budgets])
            axes.plot(x, means.mean(1), color=BLUE, marker="o", ms=4)
            axes.vlines(x, means.min(1), means.max(1), color=BLUE, lw=1.6)
            truth = sign * float(sample.valid.mean())
            axes.axhline(truth, color=GREEN, ls=":")
            axes.set_xscale("log", base=2)
            axes.set_xticks(x, [str(one) for one in x])
            axes.minorticks_off()
            axes.set_xlabel("supernet epochs")
            axes.set_ylabel(f"mean supernet {metric}", color=BLUE)
            if metric == "perplexity":
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter("{x:g}")
                axes.invert_yaxis()
            other = axes.twinx()
            other.grid(visible=False)
            low, high = [b.correlation_low for b in budgets], [b.correlation_high for b in budgets]
            other.fill_between(x, low, high, color=BLACK, alpha=0.08, lw=0)
            other.plot(x, [budget.correlation for budget in budgets], color=BLACK, ls="--", marker="s", ms=3)
            other.set_ylim(min(-0.5, min(low) - 0.05), 1)
            other.set_ylabel("correlation with ground truth (dashed)")
            unit = " %" if metric == "accuracy" else ""
            head(axes, sample.title, f"dotted: mean ground truth, {truth:.1f}{unit}", GREEN)
        caption(
            figure,
            f"{note} Solid: mean over submodels and supernets, bars from the lowest supernet "
            "to the highest. Dashed: Spearman correlation, with its 95 % band over architectures and "
            "supernets.",
        )
        for axes, _ in zip(grid, panels, strict=True):
            part_ticks(axes)
        plt.close(figure)
        return figure


@click.command(cls=StudyCommand)
@study_options("convergence")
@budgets_option
def main(options: StudyOptions, count: int | None) -> None:
    """Mean supernet performance by epochs against mean ground truth (Figure 8)."""
    panels: list[tuple[SpaceSample, list[Budget]]] = []
    verdicts: list[Verdict] = []
    for sample, by_epochs in scores_by_budget(options, count):
        panels.append((sample, [budget_of(sample, epochs, scores) for epochs, scores in by_epochs.items()]))
        means = {epochs: mean_score(scores) for epochs, scores in by_epochs.items()}
        mean_truth = mean_score(sample.valid) if same_networks(sample) else None
        images = None
        if mean_truth is not None and sample.space.metric == "accuracy":
            whole = len(splits_once(sample.name, sample.recipe, choose_device()).valid)
            images = (sample.recipe.validation_images(whole), whole)
        verdicts += enough(verdicts_of(sample.name, means, mean_truth, images), len(sample.archs))
    truth = {sample.name: float(sample.valid.mean()) for sample, _ in panels}
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, [sample for sample, _ in panels]),
        rows=[
            {"space": sample.name, **{name: value for name, value in asdict(budget).items() if name != "mean_seeds"}}
            for sample, budgets in panels
            for budget in budgets
        ],
        verdicts=verdicts,
        results={s.name: {"rows": budgets, "mean_truth": truth[s.name]} for s, budgets in panels},
        title="How far do supernets converge?",
        answer=Answer(
            "the mean supernet performance surpasses the mean ground truth",
            "Submodels surpass trained networks on average",
            "Submodels stay below trained networks on average",
            {
                one.space: "Submodels improve with every longer training"
                for one in verdicts
                if (one.claim, one.verdict) == (THROUGHOUT, "holds")
            },
        ),
        source="Figure 8, Appendix D",
        svg=options.svg,
        figure=convergence_figure(panels, f"{options.about}, {counted(len(options.seeds), 'supernet')} a budget."),
    )


if __name__ == "__main__":
    main()
