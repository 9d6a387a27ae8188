"""Figure 6, Appendix B: trains architectures from scratch and publishes their table.

A uniform sample is trained with several seeds and published (tables, curves, data card). For networks of
different sizes: accuracy against parameters, multiply-adds and latency; for recurrent cells, which all have the same
size: validation against test perplexity. If the space ships a ground truth of the same recipe, the trainings are
compared with its rows: repeating a training on the same kind of processor must reproduce the published result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsnas.agreement import load_ground_truth
from wsnas.errors import WsnasError
from wsnas.ground_truth import (
    INTERRUPTED,
    measure_latencies,
    require_trainings,
    require_validation,
    table_of,
    train_many,
)
from wsnas.metrics import (
    LEAST_CEILING,
    Floats,
    Interval,
    correlation,
    noise_ceiling,
    pairs_agreement,
    percentiles,
)
from wsnas.progress import progress
from wsnas.publish import drawn_uniformly, publish
from wsnas.randomness import numpy_rng
from wsnas.recipe import Recipe, digest, files_by_name
from wsnas.recipe_options import chosen_recipe
from wsnas.runs import Run
from wsnas.sampling import sample_candidates
from wsnas.space import SearchSpace
from wsnas.studies.figures import BLUE, GREY, STYLE, caption, head, legend_below
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.results import write_results
from wsnas.studies.sample import chosen_spaces
from wsnas.studies.verdicts import HARDLY, Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.table import Table
from wsnas.words import counted

LABELS = {  # of the predictors of the test result
    "validation": "validation {metric}",
    "parameters": "parameters, thousands",
    "macs": "multiply-adds per item, millions",
    "latency": "latency, ms per batch",
}
ARCHITECTURES = {"micro": 4, "desk": 4, "paper": 100}  # trained per space; the paper: 377, 36 and 137


def shipped_truth(space: SearchSpace[Any], table: Table, recipe: Recipe) -> Table | None:
    """The trainings of the same recipe, of any length, in the ground truth that ships with the space, if any."""
    if recipe.dataset not in space.tables:
        return None
    shipped, epochs = load_ground_truth(space, recipe.dataset), recipe.standalone.epochs
    about = shipped.about_length(epochs)
    if about.get("recipe") != table.about["recipe"]:
        return None
    columns = {column: values for column, values in shipped.columns.items() if column.epochs == epochs}
    of_length = replace(shipped, columns=columns, about={**about, "epochs": str(epochs)})
    return of_length.take(np.flatnonzero(np.isfinite(of_length.mean(recipe.dataset, "test"))))


@dataclass(frozen=True)
class Repeated:
    """Comparison of this run's trainings with the shipped table's for the same architectures and seeds."""

    trainings: int
    identical: int
    largest_difference: float


@dataclass(frozen=True)
class Range:
    lowest: float
    median: float
    highest: float


@dataclass(frozen=True)
class Findings:
    """The numbers of one space: spread, agreement of seeds, and predictors of the test result."""

    architectures: int
    without_result: int
    status: str  # of the trainings, counted
    test: Range
    two_seeds_agree: float | None  # Spearman; None: there is one seed
    reliability: float | None
    correlation_with_test: dict[str, Interval]
    correlation_in_shipped: dict[str, Interval]  # the same in the shipped table of this recipe, which is larger
    splits_agree: Interval | None  # of the shipped table, if there is one, else of this run's
    trained_again: Repeated | None


@dataclass(frozen=True)
class Panel:
    """One space with its table, and the shipped one of the same recipe, if there is one."""

    space: SearchSpace[Any]
    recipe: Recipe
    table: Table
    shipped: Table | None
    findings: Findings


def repeated(table: Table, shipped: Table | None, dataset: str) -> Repeated | None:
    """None if the two tables share no training."""
    shared = [] if shipped is None else [arch for arch in table.archs if arch in shipped.row]
    if shipped is None or not shared:
        return None
    ours, theirs = (one.select(shared).columns for one in (table, shipped))
    tests = [column for column in ours.keys() & theirs.keys() if column[:2] == (dataset, "test")]
    difference = np.abs([ours[column] - theirs[column] for column in tests])
    if not np.isfinite(difference).any():
        return None
    return Repeated(int(np.isfinite(difference).sum()), int((difference < 1e-3).sum()), float(np.nanmax(difference)))


def correlations_of(table: Table, dataset: str, names: Sequence[str]) -> dict[str, Interval]:
    """Spearman correlation of each predictor that varies with the test result; a table in which higher is better."""
    valid, test = (table.mean(dataset, split) for split in ("valid", "test"))
    trained, found = np.isfinite(valid) & np.isfinite(test), {}
    for name in names:
        values = valid if name == "validation" else getattr(table, name)
        if values is None:
            continue
        known = trained & np.isfinite(values)  # a latency may be measured of some alone
        if len(np.unique(values[known])) > 1:
            found[name] = correlation(values[known], test[known])
    return found


def splits_agree(table: Table, dataset: str) -> Interval | None:
    """Whether validation results rank as test results: their Spearman correlation without the noise of trainings.

    Both results of one training share its luck, so seeds are compared with other seeds; noise lowers that as much as
    the agreement of seeds within either split (Spearman, American Journal of Psychology 15, 1904). 1: they rank alike.
    With its bootstrap interval over architectures; None from one seed.
    """
    valid, test = (table.common_seeds(dataset, split) for split in ("valid", "test"))
    known = np.isfinite(valid).all(1) & np.isfinite(test).all(1)
    valid, test = valid[known], test[known]
    if min(valid.shape[1], test.shape[1]) < 2 or len(valid) < 2:
        return None

    def agreement(ours: Floats, theirs: Floats) -> Floats:
        """[1 + resamples]: of different seeds, a mean over all pairs."""
        seeds = permutations(range(min(ours.shape[1], theirs.shape[1])), 2)
        found = pairs_agreement((ours[:, i], theirs[:, j]) for i, j in seeds)
        return np.array([found.mean, *found.drawn[0]])

    within = np.sqrt(np.maximum(agreement(valid, valid) * agreement(test, test), LEAST_CEILING**2))
    found = agreement(valid, test) / within
    return Interval(float(found[0]), *percentiles(found[1:]), len(valid))


def findings_of(table: Table, shipped: Table | None, space: SearchSpace[Any], dataset: str) -> Findings:
    values = table.common_seeds(dataset, "test")
    higher = table.higher_is_better(space.metric)
    valid, test = (higher.mean(dataset, split) for split in ("valid", "test"))
    known = np.isfinite(valid) & np.isfinite(test)
    if not known.any():
        raise WsnasError(
            f"{space.name}: no architecture has a result (trainings: {table.about['status']}); fix the cause and "
            "train them again with --fresh"
        )
    ceiling = noise_ceiling(values[np.isfinite(values).all(1)])
    return Findings(
        architectures=len(table),
        without_result=int((~known).sum()),
        status=table.about["status"],
        test=Range(float(np.nanmin(values)), float(np.nanmedian(values)), float(np.nanmax(values))),
        two_seeds_agree=None if ceiling is None else ceiling.agreement,
        reliability=None if ceiling is None else ceiling.reliability,
        correlation_with_test=correlations_of(higher, dataset, tuple(LABELS)),
        correlation_in_shipped={}
        if shipped is None
        else correlations_of(shipped.higher_is_better(space.metric), dataset, tuple(LABELS)),
        splits_agree=splits_agree(table if shipped is None else shipped, dataset),
        trained_again=repeated(table, shipped, dataset),
    )


def verdicts_of(space: SearchSpace[Any], findings: Findings) -> list[Verdict]:
    """By the shipped ground truth of the same recipe if there is one, else by this run's trainings."""
    shipped = "over the shipped ground truth of the same recipe if there is one"
    correlations = findings.correlation_in_shipped or findings.correlation_with_test
    name, least, how = "parameters", 0.0, ""
    found = correlations.get(name)
    claim, source = "larger architectures reach more when trained", "section 2, Figures 3 and 6"
    rule = "the correlation of parameters with the test result is above 0"
    if space.metric == "perplexity":
        found, least, how = findings.splits_agree, 1 - HARDLY, ", without noise,"
        claim, source = "validation perplexity ranks as test perplexity does", "Appendix B, Figure 6"
        rule = f"their correlation, of different seeds and without the noise of trainings, is above {least:g}"
    if found is None:
        return []
    numbers = Numbers()
    said = f"{numbers.estimate('correlation', found, '.3f')}{how} over {numbers.say('architectures', found.n, ',')}"
    rule = f"holds where the 95 % bootstrap interval of {rule}, does not hold where it is below; {shipped}"
    judged = sign_verdict(found.low - least, found.high - least)
    return enough([Verdict(claim, source, space.name, rule, said, judged, numbers)], found.n)


def clip_outliers(axes: Axes, published: Floats, values: Floats) -> None:
    """Limits the y axis to all but the outermost 1 % of the published results, and to all of this run's.

    What lies beyond is counted by a triangle at the edge.
    """
    known = published[np.isfinite(published)]
    low, high = np.quantile(known, [0.01, 0.99])
    low, high = min(low, np.nanmin(values)), max(high, np.nanmax(values))
    margin = 0.08 * (high - low) if high > low else 1.0
    axes.set_ylim(low - margin, high + margin)
    for beyond, y, marker in ((known < low - margin, 0.02, "v"), (known > high + margin, 0.98, "^")):
        if beyond.any():
            axes.plot(0.02, y, marker, color=GREY, ms=5, transform=axes.transAxes, clip_on=False)
            axes.text(
                0.04, y, f"{beyond.sum():,} beyond", transform=axes.transAxes, fontsize=7, color=GREY, va="center"
            )


def predictor(table: Table, dataset: str, name: str) -> Floats | None:
    """The values of every architecture, in the unit of its label; None: not known."""
    if name == "validation":
        return table.mean(dataset, "valid")
    values: Floats | None = getattr(table, name)
    return None if values is None or not np.isfinite(values).any() else values / (1e3 if name == "parameters" else 1.0)


def drawn_predictors(
    table: Table, shipped: Table | None, dataset: str
) -> list[tuple[str, Floats | None, Floats | None]]:
    """Names, values in this run's table and in the shipped one.

    Sizes and latency, or validation and latency where every architecture has the same size. A shipped table that does
    not know a predictor leaves its panel out: a few trainings say nothing. Milliseconds that were measured in another
    way, or elsewhere, are not drawn beside the shipped ones.
    """
    assert table.parameters is not None  # counted by ``train_many``
    names = ("parameters", "macs") if len(set(table.parameters)) > 1 else ("validation",)
    drawn = []
    for name in (*names, "latency"):
        ours = predictor(table, dataset, name)
        known = None if shipped is None else predictor(shipped, dataset, name)
        alike = shipped is None or name != "latency" or table.about.get(name) == shipped.about.get(name)
        if (ours if shipped is None else known) is not None:
            drawn.append((name, ours if alike else None, known))
    return drawn


def standalone_figure(panels: Sequence[Panel], note: str) -> Figure:
    """Figure 6: one row per space; test result against parameters, multiply-adds and latency, or validation."""
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(
            len(panels), 3, figsize=(11, 0.9 + 3.5 * len(panels)), squeeze=False, layout="constrained"
        )
        for row, panel in zip(grid, panels, strict=True):
            space, table, recipe, shipped = panel.space, panel.table, panel.recipe, panel.shipped
            values = table.common_seeds(recipe.dataset, "test")
            test = table.mean(recipe.dataset, "test")
            unit = "test accuracy, %" if space.metric == "accuracy" else "test perplexity"
            drawn = drawn_predictors(table, shipped, recipe.dataset)
            for axes, (name, x, known) in zip(row, drawn, strict=False):
                if shipped is not None:
                    published = shipped.mean(recipe.dataset, "test")
                    dots = {"ms": 4, "alpha": 0.4, "mew": 0, "zorder": 1, "rasterized": True}
                    axes.plot(known, published, ".", color=GREY, label="shipped ground truth", **dots)
                    clip_outliers(axes, published, values)
                if x is not None:
                    axes.vlines(x, values.min(1), values.max(1), color=BLUE, lw=1)
                    axes.plot(x, test, "o", color=BLUE, ms=4, mec="white", mew=0.5, label="trained in this run")
                axes.set_xlabel(LABELS[name].format(metric=space.metric))
                in_shipped = panel.findings.correlation_in_shipped.get(name)
                agreement = in_shipped or panel.findings.correlation_with_test.get(name)
                title = f"{space.name} on {Path(recipe.dataset).stem}" if axes is row[0] else ""
                said = "" if agreement is None else f"Spearman {agreement} of {agreement.n:,}"
                head(axes, title, said, GREY if in_shipped else BLUE)
                if space.metric == "perplexity":  # up, and right, is better everywhere
                    axes.set_yscale("log")
                    axes.invert_yaxis()
                    if name == "validation":
                        axes.set_xscale("log")
                        axes.invert_xaxis()
                    for axis in (axes.yaxis, axes.xaxis)[: 1 + (name == "validation")]:
                        axis.set_major_formatter("{x:g}")
                        axis.set_minor_formatter("{x:g}")
            for axes in row[len(drawn) :]:
                axes.set_visible(False)
            row[0].set_ylabel(f"{unit}, {counted(recipe.standalone.epochs, 'epoch')}")
            if shipped is not None:
                legend_below(row[0], 2)
        caption(
            figure,
            f"{note}: the mean over seeds, bars from the lowest "
            "to the highest. Up is better. Above each: the Spearman correlation with the test result (higher is "
            "better), its 95 % bootstrap interval and the number of architectures: in grey those of the whole ground "
            "truth that ships with the package, else those trained in this run. Triangles: results beyond the edge.",
        )
        plt.close(figure)
        return figure


@click.command(cls=StudyCommand, trains="standalone", without=("valid_size",))
@study_options("standalone", truth=False)
def main(options: StudyOptions) -> None:
    """Train a sample of each space from scratch and publish their table (Figure 6)."""
    count, scale = options.architectures or ARCHITECTURES[options.scale], options.scale
    wanted, panels = [], list[Panel]()
    for space in chosen_spaces(options.spaces):
        recipe = chosen_recipe(space, scale, options.recipe)
        archs = sample_candidates(space, recipe, min(count, space.size), numpy_rng(0, "ground truth"))
        if options.executor.ray is None:  # where only the nodes need to have the data
            require_trainings(space, archs, recipe)
            require_validation(space, recipe, "this study")
        wanted.append((space, recipe, archs))
    for space, recipe, archs in wanted:
        name = digest(recipe.standalone_identity(), space.data_identity(recipe))
        run = options.out.parent / "ground-truth" / f"{space.name}-{name}"
        if not options.resume:
            Run.remove(run)
        with progress(f"{space.name} ground truth") as report:
            whole = train_many(
                space,
                archs,
                run,
                recipe,
                seeds=options.seeds,
                executor=options.executor,
                retry=INTERRUPTED,
                report=report,
            )
        sample = drawn_uniformly(whole, len(archs), recipe)
        for line in publish(space, measure_latencies(space, whole, run, recipe), run, sample):
            click.echo(f"{space.name}: {line}")
        asked = table_of(space, archs, Run.read(run), recipe, options.seeds, whole=False)  # not what others trained
        table = measure_latencies(space, asked, run, recipe)
        shipped = shipped_truth(space, table, recipe)
        panels.append(Panel(space, recipe, table, shipped, findings_of(table, shipped, space, recipe.dataset)))
    settings = {"scale": scale, "architectures": count, "seeds": len(options.seeds)}
    write_results(
        options.study,
        options.out,
        settings=settings | {panel.space.name: files_by_name(panel.recipe.to_json()) for panel in panels},
        rows=[
            {"space": panel.space.name, "arch": arch, "seed": seed, "test": test}
            | {name: getattr(panel.table, name)[i] for name in ("parameters", "macs", "latency")}
            for panel in panels
            for i, (arch, tests) in enumerate(
                zip(panel.table.archs, panel.table.seeds(panel.recipe.dataset, "test"), strict=True)
            )
            for seed, test in zip(options.seeds, tests, strict=True)
        ],
        verdicts=[one for panel in panels for one in verdicts_of(panel.space, panel.findings)],
        results={panel.space.name: panel.findings for panel in panels},
        title="What do architectures reach when they are trained from scratch?",
        answer=Answer(
            "larger architectures reach more when trained",
            "Larger architectures reach more when trained",
            "Larger architectures reach less when trained",
        ),
        source="Figure 6, Appendix B",
        svg=options.svg,
        figure=standalone_figure(panels, f"{options.about}, {counted(len(options.seeds), 'seed')}"),
    )


if __name__ == "__main__":
    main()
