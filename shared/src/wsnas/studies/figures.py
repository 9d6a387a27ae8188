"""The paper's figures, with intervals. Okabe & Ito's colours suit colour-blind readers; markers and dashes still
differ in grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib

matplotlib.use("Agg")  # studies run without a display

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import ScaledTranslation

from wsnas.metrics import Floats, correlation_matrix, sign_of
from wsnas.studies.rankings import Point
from wsnas.studies.sample import SpaceSample

BLUE, RED, GREEN, ORANGE, BLACK, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#000000", "#767676"
INK = {RED: "#A34700", GREEN: "#006B4F", ORANGE: "#8A5F00"}  # the same, dark enough for small letters
STYLE = {
    "font.size": 9,
    "legend.fontsize": 8,
    "figure.constrained_layout.h_pad": 0.08,  # inches, to keep titles apart
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "svg.hashsalt": "wsnas",  # the same figure is the same file
    "svg.fonttype": "none",
}

LINE = 11.0  # points, between texts at the ends of lines
AT_THE_END = "at the end of a line"  # the label, in matplotlib's sense, of such a text
WIDEST = 13.6  # inches: beyond that a page of the report shrinks the letters


def caption(figure: Figure, text: str) -> None:
    """Writes a description below the figure, in lines that fit its width."""
    width = int(16 * figure.get_figwidth())
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, width)]
    figure.supxlabel("\n".join(lines), fontsize=8, color=GREY, x=0.01, ha="left")


def ask_below(figure: Figure, question: str) -> None:
    """Puts the question that a figure answers before its caption, as a line of its own."""
    caption(figure, f"{question}\n{figure.get_supxlabel()}")


def say_at_the_top(figure: Figure, answer: str) -> None:
    """Writes a study's answer above its figure, in lines that fit its width."""
    lines = textwrap.wrap(answer, int(10 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), fontsize=11, fontweight="bold", x=0.01, ha="left")


def head(axes: Axes, title: str, said: str = "", colour: str = GREY) -> None:
    """A bold title above the axes, with small lines below it."""
    lines = said.count("\n") + 1 if said else 0
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10, pad=6 + 12 * lines)
    if said:
        axes.annotate(
            said,
            (0, 1),
            xytext=(0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=INK.get(colour, colour),
        )


def legend_below(axes: Axes, columns: int, title: str | None = None) -> None:
    """A legend under the axes and their label, where it hides no point."""
    half_an_inch = axes.transAxes + ScaledTranslation(0, -0.5, axes.figure.dpi_scale_trans)
    axes.legend(
        title=title,
        title_fontsize=8,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=half_an_inch,
        borderaxespad=0,
        frameon=False,
        markerscale=1.5,
    )


def axes_grid(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``panels`` axes of this size in inches, at most three per row and as many as fit."""
    columns = max(1, min(panels, 3, int(WIDEST / width)))
    rows = -(-panels // columns)
    figure: Figure
    figure, grid = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows + 0.6), squeeze=False, layout="constrained"
    )
    for spare in grid.flat[panels:]:
        spare.set_visible(False)
    return figure, list(grid.flat[:panels])


def end_labels(axes: Axes, labels: Iterable[Label], x: float) -> None:
    """Writes each label to the right of its line's end, (x, y). ``spread_labels`` moves them apart."""
    for y, text, colour in labels:
        axes.annotate(
            text,
            (x, y),
            xytext=(7, 0),
            textcoords="offset points",
            color=INK.get(colour, colour),
            va="center",
            fontsize=8,
            clip_on=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            label=AT_THE_END,
        )


def spread_labels(figure: Figure) -> None:
    """Moves labels at the ends of lines apart where they would overlap.

    It needs the final layout: call it when all else is drawn.
    """
    ends = [
        [text for text in axes.texts if isinstance(text, Annotation) and text.get_label() == AT_THE_END]
        for axes in figure.axes
    ]
    if any(ends):
        figure.canvas.draw()
    for axes, labels in zip(figure.axes, ends, strict=True):
        points = np.array([axes.transData.transform(label.xy)[1] * 72 / figure.dpi for label in labels])
        placed, order = points.copy(), np.argsort(points)
        for _ in range(50):
            for low, high in pairwise(order):
                overlap = LINE - (placed[high] - placed[low])
                if overlap > 0:
                    placed[low] -= overlap / 2
                    placed[high] += overlap / 2
        for label, offset in zip(labels, placed - points, strict=True):
            label.xyann = (7, offset)


def part_ticks(axes: Axes) -> None:
    """Blanks each label of the x axis that comes within two points of one given before it.

    It needs the final width: call it when all else is drawn.
    """
    axes.figure.canvas.draw()
    space, kept, shown = 2 / 72 * axes.figure.dpi, list[tuple[float, float]](), list[str]()
    for label in axes.get_xticklabels():
        box = label.get_window_extent()
        apart = all(box.x0 > end + space or box.x1 < start - space for start, end in kept)
        kept += [(box.x0, box.x1)] if apart else []
        shown.append(label.get_text() if apart else "")
    axes.set_xticks(axes.get_xticks(), shown)


def ranking_figure(
    panels: Sequence[tuple[SpaceSample, Sequence[Point]]],
    x_label: str,
    note: str,
    desk: Mapping[str, Sequence[Mapping[str, float]]],
) -> Figure:
    """Figures 1, 2 and 5: correlation above top-k, over the setting; one column per space, three per row.

    ``desk``: rows of the same study's results at the desk scale, by space, drawn faintly.
    """
    with plt.rc_context(STYLE):
        columns = min(len(panels), 3)
        bands = -(-len(panels) // columns)
        figure: Figure
        figure, grid = plt.subplots(
            2 * bands, columns, figsize=(1 + 4.2 * columns, 0.6 + 6 * bands), squeeze=False, layout="constrained"
        )
        pairs = grid.reshape(bands, 2, columns).transpose(0, 2, 1).reshape(-1, 2)
        for axes in pairs[len(panels) :].flat:
            axes.set_visible(False)
        for (upper, lower), (sample, points) in zip(pairs, panels, strict=False):
            upper.sharex(lower)
            upper.tick_params(labelbottom=False)
            x = np.array([point.setting for point in points], dtype=float)
            trained_out = desk.get(sample.name, [])
            names = _draw_correlations(upper, sample, points, trained_out)
            ends = _draw_tops(lower, sample, points)
            lower.set_xscale("log", base=2)
            if len(x) == 1:
                lower.set_xlim(x[0] / 1.5, x[0] * 1.5)
            end_labels(upper, names, _along(x)[-1])
            end_labels(lower, ends, _along(x)[-1])
            beyond = [row["x"] for row in trained_out if row["x"] > x.max()]
            lower.set_xticks([*x, *beyond], [*(point.tick for point in points), *(f"{one:g}" for one in beyond)])
            lower.minorticks_off()
            lower.set_xlabel(x_label)
        caption(
            figure,
            f"{note}.\nBars: min-max over supernets. Band above: 95 % interval over architectures and "
            "supernets. Band below: 95 % of all random top-10."
            + (" Faint line: the same study at the desk scale, with longer supernets." if desk else ""),
        )
        for _, lower in pairs[: len(panels)]:
            part_ticks(lower)
        plt.close(figure)
        return figure


Label = tuple[float, str, str]  # height, text and colour of what stands at a line's right end


def _line(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _along(x: Floats) -> Floats:
    """Where bands and level lines run: a single point has no width."""
    return x if len(x) > 1 else np.array([x[0] / 1.1, x[0] * 1.1])


def _level(values: Floats) -> Floats:
    """The heights of a line over ``_along``."""
    return values if len(values) > 1 else np.repeat(values, 2)


def _draw_correlations(
    axes: Axes, sample: SpaceSample, points: Sequence[Point], desk: Sequence[Mapping[str, float]]
) -> list[Label]:
    """The supernets' correlations over the setting, beside the noise ceiling and the parameter count's."""
    rankings = [point.ranking for point in points]
    x = np.array([point.setting for point in points], dtype=float)
    along = _along(x)
    low, high = _line(r.correlation_low for r in rankings), _line(r.correlation_high for r in rankings)
    correlations, ceilings = _line(r.correlation for r in rankings), _line(point.ceiling for point in points)
    axes.fill_between(along, _level(low), _level(high), color=BLACK, alpha=0.12, lw=0)
    axes.plot(x, correlations, color=BLACK, marker="o", ms=4)
    spread = np.array([[min(r.correlation_seeds), max(r.correlation_seeds)] for r in rankings])
    axes.vlines(x, spread[:, 0], spread[:, 1], color=BLACK, lw=1.6)
    axes.axhline(0, color=GREY, lw=0.8)
    labels = [(correlations[-1], "supernet", BLACK)]
    if desk:
        low, high, middle, at = (
            np.array([row[name] for row in desk])
            for name in ("correlation_low", "correlation_high", "correlation", "x")
        )
        axes.fill_between(at, low, high, color=BLUE, alpha=0.08, lw=0)
        axes.plot(at, middle, color=BLUE, alpha=0.45, lw=1.2, marker="o", ms=2.5)
        axes.annotate("desk", (at[-1], middle[-1]), (0, 6), textcoords="offset points", color=BLUE, fontsize=8)
    for values, text, colour, dash, marker in (
        (ceilings, "noise ceiling", GREEN, "--", "s"),
        (_line(r.parameters_correlation for r in rankings), "parameter count", ORANGE, ":", "^"),
        (_line(point.any_judge for point in points), "any judge as good at 1x", GREY, "-.", "x"),
        (_line(point.whole_correlation for point in points), "1x, same architectures", GREY, "-.", "x"),
    ):
        if np.isfinite(values).any():
            axes.plot(along, _level(values), color=colour, ls=dash, marker=marker, ms=3)
            labels.append((values[np.isfinite(values)][-1], text, colour))
    said = []
    if not np.isfinite(ceilings).any():
        said.append("noise ceiling not available: too few seeds in the ground truth")
    alone = [f"{point.setting}x" for point in points if point.reporting_seeds == 0]
    if alone:  # what was lucky is chosen for it, and reported so
        where = "" if len(alone) == len(points) else f" at {', '.join(alone)}"
        said.append(f"selection and report are the same trainings{where}: they share noise")
    axes.text(0.02, 0.02, "\n".join(said), transform=axes.transAxes, color=INK[GREEN], fontsize=8)
    axes.set_ylim(min(-0.25, axes.dataLim.ymin - 0.05), 1.03)
    axes.set_ylabel("Spearman correlation with ground truth")
    evaluated = max(r.evaluated for r in rankings)
    head(axes, sample.title, f"{'up to ' if len(points) > 1 else ''}{evaluated:,} architectures")
    return labels


def _draw_tops(axes: Axes, sample: SpaceSample, points: Sequence[Point]) -> list[Label]:
    """What the best of the supernets' top-10 reach when trained, beside the best of ten random ones."""
    rankings, metric = [point.ranking for point in points], sample.space.metric
    sign = sign_of(metric)  # the axis shows what was measured
    x = np.array([point.setting for point in points], dtype=float)
    along = _along(x)
    best_of = sign * np.array([r.top_seeds for r in rankings])
    random_top, best = (sign * _line(getattr(r, name) for r in rankings) for name in ("random_top", "best"))
    mean = best_of.mean(1)
    spread = [mean - best_of.min(1), best_of.max(1) - mean]
    axes.errorbar(x, mean, yerr=spread, color=BLUE, marker="o", ms=4, capsize=2)
    chance = [sign * _line(getattr(r, f"random_top_{end}") for r in rankings) for end in ("low", "high")]
    axes.fill_between(along, _level(chance[0]), _level(chance[1]), color=RED, alpha=0.15, lw=0)
    axes.plot(along, _level(random_top), color=RED, ls="--", marker="D", ms=3)
    axes.plot(along, _level(best), color=GREEN, ls="-.", lw=1)
    labels = [
        (mean[-1], "top-10 by supernet", BLUE),
        (random_top[-1], "random top-10", RED),
        (best[-1], "best evaluated", GREEN),
    ]
    top1 = sign * _line(point.top1 for point in points)
    if np.isfinite(top1).any():
        axes.plot(x, top1, color=BLACK, ls=":", marker="v", ms=3)
        labels.append((top1[-1], "top-1 by supernet", BLACK))
    if metric == "perplexity":
        axes.invert_yaxis()  # up is better everywhere
    axes.set_ylabel("test accuracy, %" if metric == "accuracy" else "test perplexity")
    return labels


@dataclass(frozen=True)
class Matrix:
    """Mutual Spearman correlations of predictors of one space."""

    title: str
    names: list[str]
    values: Floats  # [n, n]


def matrix_of(sample: SpaceSample, predictors: Mapping[str, Floats]) -> Matrix:
    """Correlations of the predictors [n], the parameter count (P, unless constant) and the ground truth (GT)."""
    sizes = {"P": sample.parameters} if len(np.unique(sample.parameters)) > 1 else {}
    rows = {**predictors, **sizes, "GT": sample.test}
    return Matrix(sample.title, list(rows), correlation_matrix(list(rows.values())))


def matrix_figure(panels: Sequence[Matrix], title: str, cell: float = 0.45) -> Figure:
    """Figures 3 and 7: a panel per space, the half below the diagonal. ``cell``: inches per predictor.

    A white line parts the seeds of one variant, named ``VARIANT, SEED``, from those of the next.
    """
    with plt.rc_context({**STYLE, "axes.grid": False}):
        side = max(3.2, cell * max(len(panel.names) for panel in panels))
        figure, grid = axes_grid(len(panels), 1.08 * side, 0.95 * side)
        for axes, panel in zip(grid, panels, strict=True):
            names, below = panel.names, np.tri(len(panel.names), k=-1, dtype=bool)
            rows, columns = names[1:], names[:-1]
            matrix = np.where(below, panel.values, np.nan)[1:, :-1]
            shown = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu")  # white is none, and blue agrees
            for i, j in zip(*np.nonzero(~np.isnan(matrix)), strict=True):
                value = round(float(matrix[i, j]), 2) + 0.0  # no -0
                ground = shown.to_rgba(np.array([value]))[0]
                text = f"{value:.2f}".replace("0.", ".", 1).replace("1.00", "1")
                ink = "white" if _luminance(ground) < 0.179 else "black"  # whichever contrasts more
                axes.text(j, i, text, ha="center", va="center", fontsize=min(8.0, 20 * cell), color=ink)
            groups = [name.rpartition(", ")[0] or name for name in names]
            if len(set(groups)) < len(groups):
                for end in (k for k in range(1, len(names)) if groups[k] != groups[k - 1]):
                    axes.plot([-0.5, end - 0.5], [end - 1.5, end - 1.5], color="white", lw=2)
                    axes.plot([end - 0.5, end - 0.5], [end - 1.5, len(rows) - 0.5], color="white", lw=2)
            axes.set_xlim(-0.5, len(columns) - 0.5)
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
            axes.set_yticks(range(len(rows)), rows, fontsize=8)
            figure.colorbar(shown, ax=axes, shrink=0.5, label="Spearman correlation")
            head(axes, panel.title)
        caption(figure, title)
        plt.close(figure)
        return figure


def _luminance(colour: Sequence[float] | np.ndarray) -> float:
    """Relative luminance of red, green, blue in 0 to 1, as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
