"""The paper's figures, with intervals. Colours are Okabe & Ito's: told apart by colour-blind readers, and in
grey by marker and dash.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # studies run without a display

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, RED, GREEN, ORANGE, BLACK, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#000000", "#767676"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "svg.hashsalt": "wsnas",  # the same figure is the same file
    "svg.fonttype": "none",
}


def _say(figure: Figure, text: str) -> None:
    """What the figure shows, above it, in lines that fit its width."""
    width = int(17 * figure.get_figwidth())
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, width)]
    figure.suptitle("\n".join(lines), fontsize=8, color=GREY, x=0.01, ha="left")


def _grid(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of axes, three a row at most, each of so many inches."""
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure: Figure
    figure, grid = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows + 0.6), squeeze=False, layout="constrained"
    )
    for spare in grid.flat[panels:]:
        spare.set_visible(False)
    return figure, list(grid.flat[:panels])


def _end_label(axes: Axes, x: float, y: float, text: str, colour: str, offset: float = 0.0) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(7, offset),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=8,
        clip_on=False,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )


def _spread(labels: list[tuple[float, str, str]], axes: Axes, x: float, gap: float = 11.0) -> None:
    """Labels at the right end of lines, moved apart to ``gap`` points where they would overlap."""
    axes.figure.canvas.draw()
    points = [axes.transData.transform((x, y))[1] * 72 / axes.figure.dpi for y, _, _ in labels]
    order = np.argsort(points)
    placed = np.array(points, dtype=float)
    for _ in range(50):
        for low, high in pairwise(order):
            overlap = gap - (placed[high] - placed[low])
            if overlap > 0:
                placed[low] -= overlap / 2
                placed[high] += overlap / 2
    for (y, text, colour), where, point in zip(labels, placed, points, strict=True):
        _end_label(axes, x, y, text, colour, where - point)


def ranking_figure(
    panels: Sequence[Mapping[str, Any]], title: str, x_label: str, note: str, tops: Sequence[tuple[str, str]] = ()
) -> Figure:
    """Figures 1, 2 and 5: a column a space, three side by side; correlation above, top-k below, over ``x``.

    A panel has its subject's space, recipe and dataset, and rows of ``wsnas.study.ranking`` with ``x`` and ``tick``.
    ``tops``: more lines of a row's fields below, with their names.
    """
    with plt.rc_context(STYLE):
        columns = min(len(panels), 3)
        bands = -(-len(panels) // columns)
        figure: Figure
        figure, grid = plt.subplots(
            2 * bands, columns, figsize=(1.2 + 5.2 * columns, 6.4 * bands), squeeze=False, layout="constrained"
        )
        pairs = grid.reshape(bands, 2, columns).transpose(0, 2, 1).reshape(-1, 2)
        for axes in pairs[len(panels) :].flat:
            axes.set_visible(False)
        for (upper, lower), panel in zip(pairs, panels, strict=False):
            upper.sharex(lower)
            upper.tick_params(labelbottom=False)
            rows, recipe, metric = panel["rows"], panel["recipe"], panel["space"].metric
            sign = (
                -1.0 if metric == "perplexity" else 1.0
            )  # rows are "higher is better"; the axis shows what was measured
            x = np.array([row["x"] for row in rows], dtype=float)

            def line(name: str, rows: Any = rows) -> np.ndarray:
                return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)

            upper.fill_between(x, line("correlation_low"), line("correlation_high"), color=BLACK, alpha=0.12, lw=0)
            upper.plot(x, line("correlation"), color=BLACK, marker="o", ms=4)
            spread = np.array([[min(row["correlation_seeds"]), max(row["correlation_seeds"])] for row in rows])
            upper.vlines(x, spread[:, 0], spread[:, 1], color=BLACK, lw=1.6)
            upper.axhline(0, color=GREY, lw=0.8)
            labels = [(line("correlation")[-1], "supernet", BLACK)]
            for name, text, colour, dash in (
                ("ceiling", "noise ceiling", GREEN, "--"),
                ("parameters_correlation", "parameter count", ORANGE, ":"),
            ):
                values = line(name)
                if np.isfinite(values).any():
                    upper.plot(x, values, color=colour, ls=dash, marker="s" if dash == "--" else "^", ms=3)
                    labels.append((values[np.isfinite(values)][-1], text, colour))
            if not np.isfinite(line("ceiling")).any():
                upper.text(
                    0.02,
                    0.02,
                    "noise ceiling not available: ground truth has no seeds",
                    transform=upper.transAxes,
                    color=GREEN,
                    fontsize=7,
                )
            upper.set_ylim(min(-0.25, float(np.nanmin(line("correlation_low"))) - 0.05), 1.03)
            upper.set_ylabel("Spearman correlation with ground truth")
            about = f"{Path(recipe.dataset).name}, ground truth {Path(panel['dataset']).name}"
            upper.set_title(f"{panel['space'].name}  ({about})", loc="left", fontweight="bold", fontsize=10)
            _spread(labels, upper, x[-1])

            best_of = sign * np.array([row["top_seeds"] for row in rows])
            lower.errorbar(
                x,
                best_of.mean(1),
                yerr=[best_of.mean(1) - best_of.min(1), best_of.max(1) - best_of.mean(1)],
                color=BLUE,
                marker="o",
                ms=4,
                capsize=2,
            )
            draws = sign * np.array([row["random_top_draws"] for row in rows])
            lower.fill_between(x, draws.min(1), draws.max(1), color=RED, alpha=0.15, lw=0)
            lower.plot(x, sign * line("random_top"), color=RED, ls="--", marker="D", ms=3)
            lower.plot(x, sign * line("best"), color=GREEN, ls="-.", lw=1)
            ends = [
                (best_of.mean(1)[-1], "top-10 by supernet", BLUE),
                (sign * line("random_top")[-1], "random top-10", RED),
                (sign * line("best")[-1], "best evaluated", GREEN),
            ]
            for name, text in tops:
                lower.plot(x, sign * line(name), color=BLACK, ls=":", marker="v", ms=3)
                ends.append((sign * line(name)[-1], text, BLACK))
            if metric == "perplexity":
                lower.invert_yaxis()  # up is better everywhere
            _spread(ends, lower, x[-1])
            if len(x) > 1:
                lower.set_xscale("log", base=2)
            lower.set_xticks(x, [row["tick"] for row in rows])
            lower.minorticks_off()
            lower.set_xlabel(x_label)
            lower.set_ylabel("test accuracy, %" if metric == "accuracy" else "test perplexity")
            evaluated = max(row["evaluated"] for row in rows)
            said = f"{note}, up to {evaluated} architectures"
            lower.annotate(said, (0, -0.3), xycoords="axes fraction", fontsize=7, color=GREY)
        _say(
            figure,
            f"{title}\nBars: min-max over supernets. Grey band: 95 % bootstrap over architectures and supernets.\n"
            "Red band: min-max of 3 random draws.",
        )
        plt.close(figure)
        return figure


def matrix_figure(panels: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Figures 3 and 7: mutual Spearman correlations of judges, a panel a space: ``names`` and ``matrix``."""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        size = max(len(panel["names"]) for panel in panels)
        figure, places = _grid(len(panels), max(3.2, 0.5 * size), max(3.2, 0.5 * size))
        for axes, panel in zip(places, panels, strict=True):
            matrix, names = np.array(panel["matrix"]), panel["names"]
            shown = axes.imshow(matrix, vmin=-1, vmax=1, cmap="cividis")  # in grey, too: light is high
            for i, j in np.ndindex(*matrix.shape):
                axes.text(
                    j,
                    i,
                    f"{matrix[i, j]:.2f}".replace("0.", ".", 1).replace("1.00", "1"),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if matrix[i, j] < 0.35 else "black",
                )
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
            axes.set_title(panel["space"].name, loc="left", fontweight="bold", fontsize=10)
        figure.colorbar(shown, ax=places, shrink=0.5, label="Spearman correlation")
        _say(figure, title)
        plt.close(figure)
        return figure


def operators_figure(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """Figure 4: supernet score against ground truth, a panel a space, the most biased choice highlighted."""
    with plt.rc_context(STYLE):
        figure, places = _grid(len(panels), 4.6, 4.4)
        markers = "osD^vPX<>*hp"
        for axes, panel in zip(places, panels, strict=True):
            subject, worst = panel["subject"], panel["worst"]
            sign = -1.0 if subject.space.metric == "perplexity" else 1.0
            choices = sorted(set(panel["choices"]))
            for choice, marker in zip(choices, markers * (1 + len(choices) // len(markers)), strict=False):
                mine = np.array([one == choice for one in panel["choices"]])
                highlighted = choice == worst["choice"]
                axes.plot(
                    sign * panel["scores"][mine],
                    sign * subject.test[mine],
                    marker,
                    ms=5 if highlighted else 4,
                    color=RED if highlighted else GREY,
                    alpha=0.9 if highlighted else 0.45,
                    zorder=3 if highlighted else 2,
                    label=f"{choice} ({int(mine.sum())})",
                    ls="none",
                )
            if sign < 0:
                axes.invert_xaxis()
                axes.invert_yaxis()
            axes.legend(fontsize=7, frameon=False, loc="best")
            axes.set_xlabel(f"supernet {subject.space.metric} (mean over supernets)")
            axes.set_ylabel(f"ground truth {subject.space.metric}")
            axes.set_title(f"{subject.name}  ({worst['decision']})", loc="left", fontweight="bold", fontsize=10)
            axes.annotate(
                f"{worst['choice']}: ranked too {'high' if worst['effect'] > 0 else 'low'}, by {worst['effect']:+.2f} "
                f"[{worst['low']:+.2f}, {worst['high']:+.2f}], p = {worst['p_corrected']:.2g}",
                (0, -0.2),
                xycoords="axes fraction",
                fontsize=7,
                color=GREY,
            )
        _say(
            figure,
            "Which choice do supernets rank too high (or too low)? Upper right is better. Effect: mean of (rank by "
            "supernet -\n"
            "rank by ground truth), as a fraction of the sample, against all other choices of that decision; p by "
            "Holm.",
        )
        plt.close(figure)
        return figure


def convergence_figure(panels: Sequence[Mapping[str, Any]], note: str) -> Figure:
    """Figure 8: mean supernet score over epochs, and the mean ground truth; correlation on the right axis."""
    with plt.rc_context(STYLE):
        figure, places = _grid(len(panels), 4.4, 3.6)
        for axes, panel in zip(places, panels, strict=True):
            rows, metric = panel["rows"], panel["space"].metric
            sign = -1.0 if metric == "perplexity" else 1.0
            x = [row["epochs"] for row in rows]
            means = sign * np.array([row["mean_seeds"] for row in rows])
            axes.plot(x, means.mean(1), color=BLUE, marker="o", ms=4)
            axes.vlines(x, means.min(1), means.max(1), color=BLUE, lw=1.6)
            truth = sign * panel["mean_truth"]
            axes.axhline(truth, color=GREEN, ls=":")
            axes.annotate("mean ground truth", (x[0], truth), xytext=(0, 4), textcoords="offset points", color=GREEN)
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
            other.plot(x, [row["correlation"] for row in rows], color=BLACK, ls="--", marker="s", ms=3)
            other.set_ylim(-0.5, 1)
            other.set_ylabel("correlation with ground truth (dashed)")
            axes.set_title(panel["space"].name, loc="left", fontweight="bold", fontsize=10)
        _say(figure, f"Does a supernet converge? {note}")
        plt.close(figure)
        return figure


def tricks_figure(panels: Sequence[Mapping[str, Any]], note: str) -> Figure:
    """Table 3 drawn: the difference of each variant's correlation and top-10 to the baseline's, with intervals."""
    with plt.rc_context(STYLE):
        figure: Figure
        longest = max(len(panel["rows"]) for panel in panels)
        figure, grid = plt.subplots(
            len(panels),
            2,
            figsize=(10, 0.9 + (0.6 + 0.34 * longest) * len(panels)),
            squeeze=False,
            layout="constrained",
        )
        for (left, right), panel in zip(grid, panels, strict=True):
            rows, sign = panel["rows"], -1.0 if panel["space"].metric == "perplexity" else 1.0
            y = np.arange(len(rows))[::-1]
            for position, row in zip(y, rows, strict=True):
                colour = GREY if not row["beyond_seeds"] else BLUE if row["difference"] > 0 else RED
                left.plot([row["difference_low"], row["difference_high"]], [position] * 2, color=colour, lw=2)
                left.plot(row["difference"], position, "o", color=colour, ms=5)
                right.plot(sign * row["top_difference"], position, "D", color=colour, ms=4)
            if panel["seed_noise"] is not None:
                left.axvspan(-panel["seed_noise"], panel["seed_noise"], color=GREY, alpha=0.15, lw=0)
            for axes in (left, right):
                axes.axvline(0, color=BLACK, lw=0.8)
                axes.set_yticks(y, [row["label"] for row in rows] if axes is left else [""] * len(rows))
                axes.grid(axis="y", visible=False)
            left.set_title(
                f"{panel['space'].name}: correlation with ground truth, difference to the baseline's "
                f"{panel['baseline']:.2f}",
                loc="left",
                fontsize=9,
            )
            right.set_title(
                "top-10, difference" + (" (lower is better)" if sign < 0 else ", points"), loc="left", fontsize=9
            )
        _say(figure, f"Do tricks help? {note}")
        plt.close(figure)
        return figure


def spaces_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Table 1 drawn: size, duplicates, and the spread of parameters and multiply-adds of each space."""
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(1, 3, figsize=(11, 1.6 + 0.7 * len(rows)), layout="constrained")
        names = [row["space"] for row in rows]
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
                if row[name] is not None:
                    grid[0].barh(position + shift, float(row[name]), height=0.22, color=colour)  # beyond 64 bits
                    label = f" {row[name]:,} {text}" if row[name] < 1e7 else f" {row[name]:.3g} {text}"
                    grid[0].text(row[name], position + shift, label, va="center", fontsize=8)
        grid[0].set_xscale("log")
        low, high = min(row["size"] for row in rows) / 20, max(row["size"] for row in rows)
        grid[0].set_xlim(low, (high / low) ** 1.9 * low)  # room for the words beside the bars
        grid[0].set_xlabel("architectures")
        for axes, name, unit in (
            (grid[1], "parameters", "parameters, millions"),
            (grid[2], "macs", "multiply-adds, millions"),
        ):
            for position, row in zip(y, rows, strict=True):
                values = np.array(row[name]) / 1e6
                axes.plot([values[0], values[-1]], [position, position], color=GREY, lw=1)
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
            axes.set_xlabel(f"{unit} (lowest, quartiles, highest)")
            axes.set_ylim(-0.6, len(rows) - 0.4)
        grid[0].set_ylim(-0.6, len(rows) - 0.4)
        for axes in grid:
            axes.set_yticks(y, names if axes is grid[0] else [""] * len(rows))
            axes.grid(axis="y", visible=False)
        plt.close(figure)
        return figure


def benchmark_figure(panels: Sequence[Mapping[str, Any]], scale: str, seeds: int) -> Figure:
    """Figure 6: a row a space; test result against parameters, multiply-adds and latency, or against validation."""
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(
            len(panels), 3, figsize=(11, 0.9 + 3.1 * len(panels)), squeeze=False, layout="constrained"
        )
        for row, panel in zip(grid, panels, strict=True):
            space, table, recipe = panel["space"], panel["table"], panel["recipe"]
            values = table.seeds(recipe.dataset, "test")
            test = table.mean(recipe.dataset, "test")
            unit = "test accuracy, %" if space.metric == "accuracy" else "test perplexity"
            predictors = [
                ("parameters", table.parameters / 1e3, "parameters, thousands"),
                ("flops", table.flops, "operations an item, millions"),
                ("latency", table.latency, "latency, ms a batch of 32"),
            ]
            if len(set(table.parameters)) == 1:  # every architecture has the same size
                measured = table.mean(recipe.dataset, "valid")
                predictors = [("validation", measured, f"validation {space.metric}"), predictors[2]]
            shipped = panel["shipped"]
            for axes, (name, x, label) in zip(row, predictors, strict=False):
                known = None
                if shipped is not None:
                    known = {"parameters": shipped.parameters, "flops": shipped.flops}.get(name)
                    known = shipped.mean(recipe.dataset, "valid") if name == "validation" else known
                if known is not None:
                    scale_of = 1e3 if name == "parameters" else 1.0
                    published = shipped.mean(recipe.dataset, "test")
                    axes.plot(
                        known / scale_of, published, ".", color=GREY, ms=4, alpha=0.4, mew=0, zorder=1, rasterized=True
                    )
                axes.vlines(x, values.min(1), values.max(1), color=GREY, lw=0.8, alpha=0.7)
                axes.plot(x, test, "o", color=BLUE, ms=4, mec="white", mew=0.5)
                axes.set_xlabel(label)
                found = panel["results"]["correlation_with_test"].get(name)
                if found is not None:
                    axes.text(
                        0.98, 0.03, f"Spearman {found}", transform=axes.transAxes, ha="right", fontsize=8, color=BLUE
                    )
            for axes in row[len(predictors) :]:
                axes.set_visible(False)
            row[0].set_ylabel(unit)
            row[0].set_title(f"{space.name}  ({Path(recipe.dataset).name})", loc="left", fontweight="bold", fontsize=10)
        _say(
            figure,
            f"Architectures trained from scratch, scale {scale}: the mean over {seeds} seeds, bars from the lowest to "
            "the highest.\nSpearman correlations of these with 95 % bootstrap intervals. Grey dots: the whole ground "
            "truth that ships.",
        )
        plt.close(figure)
        return figure
