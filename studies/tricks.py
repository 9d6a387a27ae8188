"""Table 3 and Figure 7, Appendix C: do training tricks and other settings change how a supernet ranks?

Rows: the baseline, strict fairness, multi-path, another learning rate and weight decay, another seed and other
training data sets (for NAS-Bench-201 at the paper scale CIFAR-10 and ImageNet16-120; at the micro and desk scales the
same images, labelled by their weaker digit). Each row has its correlation with the baseline (Corr-BL) and the ground
truth (Corr-GT), its top-10, the differences from the baseline, and whether a difference exceeds the variation between
seeds. A second figure shows the mutual correlations of all these supernets, the parameter count and the ground truth
(Figure 7).

Every variant has the same epochs, as in the paper, so the cost of FairNAS and multi-path is multiplied by their
paths per step. At the micro and desk scales these are half the recipe's epochs, the second longest budget of the study
``epochs``, and there are rows for the baseline trained longer: the last of them trains as many paths as multi-path.
Spaces with a small ground truth are left out there, because 50 architectures cannot distinguish differences of this
size from chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.errors import WsnasError
from wsnas.metrics import (
    Floats,
    Interval,
    Measures,
    PerSupernet,
    contrast,
    measures,
    mutual_agreement,
    rank_agreement,
    sign_of,
    spearman,
    top_k,
    top_k_advantage,
    without_noise,
)
from wsnas.recipe import change_recipe
from wsnas.recipe_options import chosen_recipe
from wsnas.studies.figures import BLACK, BLUE, GREY, RED, STYLE, Matrix, caption, head, matrix_figure, matrix_of
from wsnas.studies.jobs import Variant, scores_of
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import K, finite, measures_csv, measures_json, not_finite
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import ENOUGH, SpaceSample, space_samples
from wsnas.studies.verdicts import HARDLY, NOISELESS, Answer, Holds, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted

LONGER, MULTI = ", not ", "multi-path"  # in the labels of variants
OTHERS = {"digits": ("faint-digits",), "cifar100": ("cifar10", "imagenet16-120")}  # training data sets, by the recipe's


@dataclass(frozen=True)
class Size:
    """The settings of a scale."""

    architectures: int  # scored per space
    shortened: int  # the recipe's epochs are divided by this
    paths: int  # per step of a multi-path supernet


SIZES = {
    "micro": Size(100, shortened=2, paths=2),
    "desk": Size(1000, shortened=2, paths=4),
    "paper": Size(1000, shortened=1, paths=4),
}


def variants(sample: SpaceSample, seeds: int, scale: str, dataset: str | None) -> list[Variant]:
    """The baseline first; each trick with the baseline's seeds; then another seed, and last other data sets."""
    numbers, paths, longest = tuple(range(seeds)), SIZES[scale].paths, sample.recipe.supernet.epochs
    recipe = change_recipe(sample.recipe, epochs=max(1, round(longest / SIZES[scale].shortened)))
    # as the paper: lr 0.1 -> 0.05, weight decay 1e-4 -> 3e-4 on NAS-Bench-101
    half = change_recipe(recipe, lr=recipe.supernet.optimizer.lr / 2, weight_decay=3e-4)
    rule = half.supernet.optimizer
    wanted = [
        Variant("baseline", recipe, "uniform", numbers),
        Variant("FairNAS", recipe, "fair", numbers),
        Variant(f"{MULTI} ({paths})", recipe, f"multi:{paths}", numbers),
        Variant(f"lr {rule.lr:g}, decay {rule.weight_decay:g}", half, "uniform", numbers),
        Variant("another seed", recipe, "uniform", (seeds,)),
    ]
    if (shortened := SIZES[scale].shortened) > 1:
        full = recipe.supernet.epochs * shortened  # the recipe's epochs, unless they do not divide
        longer = [change_recipe(sample.recipe, epochs=full * more) for more in (1, 2)[: paths // 2]]
        wanted[1:1] = [
            Variant(
                f"{counted(one.supernet.epochs, 'epoch')}{LONGER}{recipe.supernet.epochs:,}", one, "uniform", numbers
            )
            for one in longer  # the last one trains as many paths as multi-path
        ]
    for other in (dataset,) if dataset else OTHERS.get(recipe.dataset, ()):
        path = chosen_recipe(sample.space, scale, {"dataset": other}).dataset  # absolute, of a file
        if path == recipe.dataset:
            raise WsnasError(f"--other-dataset {other} is the baseline's own: give another")
        wanted.append(Variant(f"on {Path(other).stem}", recipe.on(path), "uniform", numbers))
    return wanted


@dataclass(frozen=True)
class Change:
    """How a variant's supernets differ from the baseline's, and whether by more than seeds differ."""

    difference: float  # of the correlations with the ground truth
    difference_low: float  # its 95 % interval over architectures and supernets
    difference_high: float
    beyond_seeds: bool  # the interval leaves 0
    above_as_one_of_two: bool  # also the interval corrected for two tricks is above 0
    top_difference: float
    top_difference_low: float
    top_difference_high: float
    top_beyond_seeds: bool


@dataclass(frozen=True)
class Row:
    """A row of Table 3. Higher results are better; ``*_seeds``: of each supernet."""

    label: str
    corr_baseline: float | None  # mean correlation with the baseline's supernets; None: one supernet, no other
    corr_truth: float
    corr_truth_seeds: list[float]
    top10: float
    top10_seeds: list[float]
    measures: Measures
    change: Change | None = None  # None: the baseline itself
    gap: PerSupernet | None = None  # corr_baseline - corr_truth, without noise; None: the baseline, or few supernets

    def to_json(self) -> dict[str, Any]:
        gap = None if self.gap is None else contrast((1, self.gap))
        row = vars(self) | {"measures": measures_json(self.measures), "gap": gap}
        del row["change"]
        return row | ({} if self.change is None else vars(self.change))

    def to_csv(self) -> dict[str, Any]:
        row = {name: value for name, value in self.to_json().items() if not isinstance(value, list | dict | Interval)}
        return row | measures_csv(self.measures)


@dataclass(frozen=True)
class VariantScores:
    """The supernets of one variant."""

    label: str
    seeds: tuple[int, ...]
    scores: Floats  # [supernets, n], higher is better


@dataclass(frozen=True)
class Table3:
    """Table 3 and Figure 7 of one space."""

    sample: SpaceSample
    seed_noise: float | None  # how far two seeds of the baseline differ in correlation; None: there is one
    top_noise: float | None  # as seed_noise, of the top-10
    rows: list[Row]  # the baseline first
    at_equal_cost: Interval | None  # multi-path's correlation minus that of a baseline of as many paths
    supernets: Matrix

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.sample.space.metric,
            "ceiling": self.sample.ceiling(),
            "seed_noise": self.seed_noise,
            "top_noise": self.top_noise,
            "multi_path_at_equal_cost": self.at_equal_cost,
            "rows": [row.to_json() for row in self.rows],
            "supernets": {"names": self.supernets.names, "matrix": self.supernets.values},
        }


def row_of(sample: SpaceSample, base: VariantScores, variant: VariantScores) -> Row:
    """The row of a variant, or of the baseline."""
    scores = variant.scores
    correlations = [spearman(one, sample.test) for one in scores]
    tops = [top_k(one, sample.valid, sample.test, K) for one in scores]
    agreement, change, gap = None, None, None
    if variant is not base:
        change = change_of(sample, base.scores, scores)
        agreement = float(np.mean([spearman(one, other) for one in scores for other in base.scores]))
        if variant.seeds == base.seeds:
            mutual = mutual_agreement(scores, base.scores)
            agreement = mutual.mean
            if len(scores) > 2:
                truth = rank_agreement(scores, sample.test)
                gap = mutual - without_noise(truth, sample.truth.seeds(sample.archs))
    elif len(scores) > 1:
        agreement = float(np.mean([spearman(one, other) for one, other in combinations(scores, 2)]))
    return Row(
        label=variant.label,
        corr_baseline=agreement,
        corr_truth=float(np.mean(correlations)),
        corr_truth_seeds=correlations,
        top10=float(np.mean(tops)),
        top10_seeds=tops,
        measures=measures(scores, sample.valid, sample.test, K),
        change=change,
        gap=gap,
    )


def change_of(sample: SpaceSample, base: Floats, scores: Floats) -> Change:
    ours, theirs = (rank_agreement(each, sample.test) for each in (scores, base))
    tops, base_tops = (top_k_advantage(each, sample.valid, sample.test, K) for each in (scores, base))
    change, top = contrast((1, ours), (-1, theirs)), contrast((1, tops), (-1, base_tops))
    several = len(base) > 1  # one supernet does not show the variation between seeds
    return Change(
        difference=change.value,
        difference_low=change.low,
        difference_high=change.high,
        beyond_seeds=several and (change.low > 0 or change.high < 0),
        above_as_one_of_two=several and contrast((1, ours), (-1, theirs), level=1 - 0.05 / 2).low > 0,
        top_difference=top.value,
        top_difference_low=top.low,
        top_difference_high=top.high,
        top_beyond_seeds=several and (top.low > 0 or top.high < 0),
    )


def table_of(sample: SpaceSample, variants: Sequence[Variant], scores: Mapping[str, Floats]) -> Table3:
    """scores: by label [supernets, n], the baseline first."""
    scored = [VariantScores(variant.label, variant.seeds, scores[variant.label]) for variant in variants]
    base = scored[0]
    rows = [row_of(sample, base, one) for one in scored]
    several = len(base.seeds) > 1
    predictors = {
        variant.label if variant.label == "another seed" else f"{variant.label}, {seed}": one
        for variant in variants
        for seed, one in zip(variant.seeds, scores[variant.label], strict=True)
    }
    return Table3(
        sample,
        max(rows[0].corr_truth_seeds) - min(rows[0].corr_truth_seeds) if several else None,
        max(rows[0].top10_seeds) - min(rows[0].top10_seeds) if several else None,
        rows,
        at_equal_cost(sample, scored),
        matrix_of(sample, predictors),
    )


def at_equal_cost(sample: SpaceSample, scored: Sequence[VariantScores]) -> Interval | None:
    """Multi-path against the longest baseline, which trains as many paths; None where there is no longer one."""
    longer, multi = ([one for one in scored if part in one.label] for part in (LONGER, MULTI))
    if not (longer and multi):
        return None
    ours, theirs = (rank_agreement(one.scores, sample.test) for one in (multi[0], longer[-1]))
    return contrast((1, ours), (-1, theirs))


def verdicts_of(table: Table3) -> list[Verdict]:
    noise, baseline, rows = table.seed_noise, table.rows[0], table.rows[1:]
    changes = [
        (row.label, row.change) for row in rows if row.change is not None and row.label.startswith(("FairNAS", MULTI))
    ]
    helped = any(change.above_as_one_of_two for _, change in changes)
    gaps = [(row.label, row.gap) for row in rows if row.gap is not None]
    tricks, ways = Numbers(), Numbers()
    different: Holds = "inconclusive"
    of_tricks = ", ".join(
        f"{label} {tricks.say(label, c.difference, '+.2f')} "
        f"[{tricks.say(f'{label}, low', c.difference_low, '+.2f')}, "
        f"{tricks.say(f'{label}, high', c.difference_high, '+.2f')}]"
        for label, c in changes
    )
    if table.at_equal_cost is not None:
        of_tricks += f" at equal epochs; multi-path at equal cost {tricks.estimate('equal cost', table.at_equal_cost)}"
    of_ways = "fewer than three seeds"
    if gaps and baseline.corr_baseline is not None:
        together = contrast((1, PerSupernet.mean_of([gap for _, gap in gaps])))
        opposed = any(contrast((1, gap), level=1 - 0.05 / len(gaps)).high < 0 for _, gap in gaps)
        different = sign_verdict(together.low, together.high)
        if different == "holds" and opposed:
            different = "inconclusive"
        of_ways = f"on average {ways.estimate('mean', together)} ("
        of_ways += ", ".join(f"{label} {ways.estimate(label, contrast((1, gap)))}" for label, gap in gaps)
        of_ways += f"); two seeds of the baseline agree at {ways.say('seeds', baseline.corr_baseline)}"
    if noise is None:
        beneficial: Holds = "inconclusive"
    elif helped:
        beneficial = "does not hold"
    else:
        small = all(change.difference_high < HARDLY for _, change in changes)
        beneficial = "holds" if small else "inconclusive"
    return [
        Verdict(
            "no trick is beneficial",
            "Appendix C, Table 3",
            table.sample.name,
            "at equal epochs, as in the paper: "
            "does not hold where the interval of FairNAS's or multi-path's difference in correlation is above 0, "
            f"corrected for the two; holds where both 95 % intervals end below +{HARDLY}; else, and with one seed, "
            "inconclusive",
            of_tricks + ("; one seed" if noise is None else f"; seeds differ by up to {tricks.say('seeds', noise)}"),
            beneficial,
            tricks,
        ),
        Verdict(
            "supernets trained in different ways agree with each other more than with the ground truth",
            "Appendix C, Table 3 and Figure 7",
            table.sample.name,
            "holds where the 95 % interval of (correlation with the baseline - with the ground truth, "
            f"{NOISELESS}), a mean over the variants, is above 0 and no variant's own, corrected for how many there "
            "are, is below 0; does not hold where the mean's is below 0; else, and with fewer than three seeds, "
            "inconclusive",
            of_ways,
            different,
            ways,
        ),
    ]


def look(beyond_seeds: bool, difference: float) -> tuple[str, str]:
    """Colour and marker of a difference; right is better. The marker tells all three apart in grey, too."""
    if not beyond_seeds:
        return GREY, "."
    return (BLUE, ">") if difference > 0 else (RED, "<")


def tricks_figure(tables: Sequence[Table3], note: str) -> Figure:
    """Table 3: each variant's correlations and top-10, and their differences to the baseline's, with intervals."""
    with plt.rc_context(STYLE):
        figure: Figure
        longest = max(len(table.rows) for table in tables)
        figure, grid = plt.subplots(
            len(tables),
            3,
            figsize=(12, 0.9 + (0.9 + 0.34 * longest) * len(tables)),
            width_ratios=(1.5, 1.2, 1),
            squeeze=False,
            layout="constrained",
        )
        for (left, right, numbers), table in zip(grid, tables, strict=True):
            rows, sign = table.rows, sign_of(table.sample.space.metric)
            y = np.arange(len(rows))[::-1]
            for position, row in zip(y, rows, strict=True):
                agreement = "–" if row.corr_baseline is None else f"{row.corr_baseline:.2f}"
                cells = (agreement, f"{row.corr_truth:.2f}", f"{sign * row.top10:.2f}")
                for at, text in zip((0.2, 0.55, 0.95), cells, strict=True):
                    numbers.text(at, position, text, ha="right", va="center")
                change = row.change
                if change is None:
                    for axes in (left, right):
                        axes.plot(0, position, "o", color=BLACK, mfc="white", ms=5, zorder=3)
                    continue
                colour, marker = look(change.beyond_seeds, change.difference)
                left.plot([change.difference_low, change.difference_high], [position] * 2, color=colour, lw=2)
                left.plot(change.difference, position, marker, color=colour, ms=7)
                ends = [sign * change.top_difference_low, sign * change.top_difference_high]
                colour, marker = look(change.top_beyond_seeds, change.top_difference)
                right.plot(ends, [position] * 2, color=colour, lw=2)
                right.plot(sign * change.top_difference, position, marker, color=colour, ms=7)
            for axes, noise in ((left, table.seed_noise), (right, table.top_noise)):
                if noise is not None:
                    axes.axvspan(-noise, noise, color=GREY, alpha=0.15, lw=0)
            for axes in (left, right, numbers):
                axes.set_yticks(y, [row.label for row in rows] if axes is left else [""] * len(rows))
                axes.set_ylim(-0.6, len(rows) - 0.4)
                axes.grid(axis="y", visible=False)
            for axes in (left, right):
                axes.axvline(0, color=BLACK, lw=0.8)
            if sign < 0:
                right.invert_xaxis()  # right is better everywhere
            numbers.set_axis_off()
            numbers.set_xlim(0, 1)
            for at, text in zip((0.2, 0.55, 0.95), ("Corr-BL", "Corr-GT", "top-10"), strict=True):
                numbers.annotate(
                    text, (at, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points", ha="right"
                )
            head(left, table.sample.title, "correlation with ground truth (Corr-GT), minus the baseline's")
            head(right, "", "top-10, minus the baseline's" + (", perplexity" if sign < 0 else ", points"))
        caption(figure, note)
        plt.close(figure)
        return figure


@click.command(cls=StudyCommand)
@study_options("tricks")
@click.option(
    "--other-dataset",
    help="Also train on this data set. Default: faint-digits for digits; cifar10 and imagenet16-120 for cifar100.",
)
def main(options: StudyOptions, other_dataset: str | None) -> None:
    """Training tricks and settings against the baseline (Table 3)."""
    number, size = len(options.seeds), SIZES[options.scale]
    samples = space_samples(options, size.architectures, least=12 if options.spaces else ENOUGH)
    wanted = [(s, v) for s in samples for v in variants(s, number, options.scale, other_dataset)]
    scores = scores_of(options, wanted)
    tables = []
    for sample in samples:
        mine = [variant for other, variant in wanted if other is sample]
        tables.append(table_of(sample, mine, {v.label: finite(scores[sample.name, v.label]) for v in mine}))
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, samples, epochs_divided_by=size.shortened),
        rows=[{"space": table.sample.name, **row.to_csv()} for table in tables for row in table.rows],
        verdicts=[one for table in tables for one in enough(verdicts_of(table), len(table.sample.archs))],
        results={
            table.sample.name: table.to_json()
            | {"not_finite": sum(not_finite(scores[s.name, v.label]) for s, v in wanted if s is table.sample)}
            for table in tables
        },
        title="Do training tricks change how a supernet ranks?",
        answer=Answer(
            "no trick is beneficial",
            "No trick helps",
            "A trick helps at equal epochs",
        ),
        source="Table 3 and Figure 7, Appendix C",
        svg=options.svg,
        figure=tricks_figure(
            tables,
            f"{options.about}, {counted(number, 'supernet')} per row. Bars: 95 % intervals over architectures and "
            "supernets. Grey band: difference between two seeds of the baseline. Dots: within the variation of seeds; "
            "triangles: beyond it, those to the right (blue) better, to the left (orange) worse. Corr-BL: correlation "
            "with the baseline, in its own row that of two seeds.",
        ),
        more={
            "matrix": matrix_figure(
                [table.supernets for table in tables],
                "Spearman correlations of all trained supernets (by variant, seed), parameter count (P) and ground "
                f"truth (GT). {options.about}.",
                0.37,
            )
        },
    )


if __name__ == "__main__":
    main()
