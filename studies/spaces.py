"""Table 1 and Appendix A.1: the sizes of the spaces and of their networks.

A space that can be enumerated is counted completely: valid architectures, the publisher's isomorphism
classes, distinct trained functions, exact parameters and multiply-adds at the paper's size. For the others,
parameters and multiply-adds come from a uniform sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.options import Command, HomePath
from wsnas.progress import progress
from wsnas.randomness import numpy_rng
from wsnas.sampling import sample_distinct
from wsnas.space import SearchSpace
from wsnas.studies.figures import BLACK, BLUE, GREEN, GREY, ORANGE, STYLE, caption
from wsnas.studies.options import require_own_results, space_option, svg_option
from wsnas.studies.results import write_results
from wsnas.studies.sample import chosen_spaces
from wsnas.studies.verdicts import Answer, Holds, Numbers, Verdict


@dataclass(frozen=True)
class Printed:
    """The paper's figures for a space."""

    size: str  # Table 1
    classes: int | None = None  # distinct cells (A.1)
    parameters: tuple[float, float] | None = None  # lowest and highest, in millions (section 2)


PAPER = {
    "nb101": Printed("95985", 42228, (1, 13)),
    "nb201": Printed("15284", parameters=(0.1, 1.3)),
    "darts_cnn": Printed("2.76e+20"),
    "proxyless": Printed("2.22e+17"),
    "darts_rnn": Printed("2.64e+09"),
}


@dataclass(frozen=True)
class Summary:
    """A row of Table 1. Parameters and multiply-adds: lowest, quartiles, highest, as plain counts."""

    space: str
    size: int
    counted: int | None  # architectures, one by one; None: too many
    classes: int | None  # the publisher's isomorphism classes
    functions: int | None  # distinct trained functions
    looked_at: int
    dataset: str
    parameters: list[float]
    macs: list[float]


def summary(space: SearchSpace[Any], sample: int) -> Summary:
    recipe = space.recipes["paper"]
    whole = space.size <= 200_000
    archs = list(space) if whole else sample_distinct(space, sample, numpy_rng(0, "spaces"))
    counts = [space.parameters(arch, recipe) for arch in archs]
    macs = [space.macs(arch, recipe) for arch in archs]
    quantiles = (0, 0.25, 0.5, 0.75, 1)
    return Summary(
        space=space.name,
        size=space.size,
        counted=len(archs) if whole else None,
        classes=len({space.canonical(arch) for arch in archs}) if whole else None,
        functions=len({space.training_key(arch) for arch in archs}) if whole else None,
        looked_at=len(archs),
        dataset=recipe.dataset,
        parameters=[float(q) for q in np.quantile(counts, quantiles)],
        macs=[float(q) for q in np.quantile(macs, quantiles)],
    )


def verdicts_of(row: Summary) -> list[Verdict]:
    printed = PAPER.get(row.space)
    if printed is None:
        return []
    verdicts = []

    def add(claim: str, source: str, rule: str, measured: str, holds: bool, numbers: Numbers) -> None:
        judged: Holds = "holds" if holds else "does not hold"
        verdicts.append(Verdict(claim, source, row.space, rule, measured, judged, numbers))

    if text := printed.size:
        exact = row.size if row.counted is None else row.counted
        same = f"{exact:.2e}" == text if "e" in text else str(exact) == text
        rule = "holds where our exact count, rounded as printed, is the printed number"
        numbers = Numbers()
        measured = f"{numbers.say('architectures', exact, ',')}; printed {numbers.say('printed', float(text), 'g')}"
        add("the space is as large as printed", "Table 1", rule, measured, same, numbers)
    if printed.classes is not None and row.classes is not None:
        same, numbers = row.classes == printed.classes, Numbers()
        measured = f"{numbers.say('classes', row.classes, ',')}; printed {numbers.say('printed', printed.classes, 'd')}"
        add("as many cells are distinct as printed", "A.1", "holds where our count is equal", measured, same, numbers)
    if printed.parameters is not None:
        low, high = printed.parameters
        least, most = row.parameters[0] / 1e6, row.parameters[-1] / 1e6
        digits = 1 if isinstance(low, float) else 0
        same = (round(least, digits), round(most, digits)) == (low, high)
        rule = "holds where the exact range, rounded as printed, is the printed range"
        numbers = Numbers()
        measured = (
            f"{numbers.say('smallest', least, '.3f')} M to {numbers.say('largest', most, '.3f')} M; printed "
            f"{numbers.say('printed smallest', low, 'g')} M to {numbers.say('printed largest', high, 'g')} M"
        )
        add("the smallest and largest networks are as large as printed", "section 2", rule, measured, same, numbers)
    return verdicts


def spaces_figure(rows: Sequence[Summary]) -> Figure:
    """Table 1 drawn: size, duplicates, and the spread of parameters and multiply-adds of each space."""
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(1, 3, figsize=(12, 2 + 0.7 * len(rows)), layout="constrained")
        names = [row.space + ("" if row.counted else f"\n(ranges: {row.looked_at:,} sampled)") for row in rows]
        low, high = min(row.size for row in rows) / 20, max(row.size for row in rows) * 3
        y = np.arange(len(rows))[::-1]
        for (name, text, colour), shift in zip(
            (
                ("size", "valid", BLUE),
                ("classes", "official classes", ORANGE),
                ("functions", "distinct functions", GREEN),
            ),
            (0.25, 0.0, -0.25),
            strict=True,
        ):
            for position, row in zip(y, rows, strict=True):
                count = getattr(row, name)
                if count is not None:
                    grid[0].barh(position + shift, float(count), height=0.22, color=colour)  # beyond 64 bits
                    label = f" {count:,} {text} " if count < 1e7 else f" {count:.3g} {text} "
                    inside = log(count / low) > 0.5 * log(high / low)  # no room beside the bar
                    grid[0].text(
                        float(count),
                        position + shift,
                        label,
                        va="center",
                        ha="right" if inside else "left",
                        fontsize=8,
                        color="white" if inside else BLACK,
                    )
        grid[0].set_xscale("log")
        grid[0].set_xlim(float(low), float(high))
        grid[0].set_xlabel("architectures")
        for axes, name, unit in (
            (grid[1], "parameters", "parameters, millions"),
            (grid[2], "macs", "multiply-adds, millions"),
        ):
            for position, row in zip(y, rows, strict=True):
                values = np.array(getattr(row, name)) / 1e6
                dash = "-" if row.counted else (0, (2, 2))
                axes.plot([values[0], values[-1]], [position, position], color=GREY, lw=1.2, ls=dash)
                axes.plot([values[1], values[3]], [position, position], color=BLUE, lw=5, solid_capstyle="butt")
                axes.plot(values[2], position, "|", color="white", ms=9, mew=2)
                ends = [(values[0], -5, "right"), (values[-1], 5, "left")] if values[-1] > values[0] else []
                for value, offset, side in ends or [(values[2], 6, "left")]:
                    axes.annotate(
                        f"{value:.3g}" if value < 1000 else f"{value:,.0f}",
                        (value, position),
                        xytext=(offset, 0),
                        textcoords="offset points",
                        ha=side,
                        va="center",
                        fontsize=8,
                    )
                if not ends:
                    axes.plot(values[2], position, "o", color=BLUE, ms=4)
            axes.set_xscale("log")
            axes.margins(x=0.25)
            axes.set_xlabel(unit)
            axes.set_ylim(-0.6, len(rows) - 0.4)
        grid[0].set_ylim(-0.6, len(rows) - 0.4)
        for axes in grid:
            axes.set_yticks(y, names if axes is grid[0] else [""] * len(rows))
            axes.grid(axis="y", visible=False)
        caption(
            figure,
            "Left: number of architectures. Middle and right: a network's "
            "parameters and multiply-adds at the paper's size: lowest, quartiles (thick; white: median), highest. "
            "Solid: over all architectures; dashed: over a uniform sample, so the space's true extremes lie further "
            "out.",
        )
        plt.close(figure)
        return figure


@click.command(cls=Command)
@space_option
@click.option(
    "--sample",
    type=click.IntRange(10),
    default=1000,
    show_default=True,
    help="Sample size for spaces too large to enumerate.",
)
@click.option("--out", type=HomePath(path_type=Path), default=Path("runs/study-spaces"), show_default=True)
@svg_option
def main(spaces: tuple[str, ...], sample: int, out: Path, svg: bool) -> None:
    """Sizes, duplicates, parameter and multiply-add ranges of the installed spaces at the paper's size (Table 1)."""
    require_own_results(out, "spaces")
    rows = []
    chosen = chosen_spaces(spaces)
    with progress("spaces") as report:
        for done, space in enumerate(chosen, start=1):
            rows.append(summary(space, sample))
            report(done, len(chosen), f"spaces, {space.name}")
    flat = [
        {name: value for name, value in asdict(row).items() if not isinstance(value, list)}
        | {
            f"{name}_{part}": getattr(row, name)[i]
            for name in ("parameters", "macs")
            for i, part in ((0, "min"), (2, "median"), (4, "max"))
        }
        for row in rows
    ]
    for row in rows:
        counted = f"{row.classes} classes, {row.functions} distinct functions"
        sampled = f"too many to count classes; of {row.looked_at} sampled"
        least, most = row.parameters[0] / 1e6, row.parameters[-1] / 1e6
        click.echo(
            f"{row.space}: {row.size:,} valid, {counted if row.counted else sampled}, "
            f"{least:.3f} M to {most:.3f} M parameters"
        )
    write_results(
        "spaces",
        out,
        settings={"sample": sample},
        rows=flat,
        verdicts=[verdict for row in rows for verdict in verdicts_of(row)],
        results={row.space: row for row in rows},
        title="How large are the spaces, and how far apart their networks?",
        answer=Answer(
            "the space is as large as printed",
            "The space is as large as printed",
            "The space is not as large as printed",
        ),
        source="Table 1, Appendix A.1",
        svg=svg,
        figure=spaces_figure(rows),
    )


if __name__ == "__main__":
    main()
