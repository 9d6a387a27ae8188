"""The paper's figures, with intervals. Colours are Okabe & Ito's: told apart by colour-blind readers, and in
grey by marker and dash.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log
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
    "legend.fontsize": 8,
    "figure.constrained_layout.h_pad": 0.08,  # inches, so that a title is nobody else's
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "svg.hashsalt": "wsnas",  # the same figure is the same file
    "svg.fonttype": "none",
}


WIDEST = 13.6  # inches: beyond that a page of the report shrinks the letters


def counted(number: int, what: str) -> str:
    """So many, in words: 1 supernet, 3 supernets."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _say(figure: Figure, text: str) -> None:
    """What the figure shows, above it, in lines that fit its width."""
    width = int(16 * figure.get_figwidth())
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, width)]
    figure.suptitle("\n".join(lines), fontsize=8, color=GREY, x=0.01, ha="left")


def _head(axes: Axes, panel: Mapping[str, Any] | None, said: str = "", colour: str = GREY) -> None:
    """Above the axes the panel's space and data sets (as ``Subject.panel`` has them), and below that a small line."""
    name = ""
    if panel is not None:
        data, truth = (Path(of).stem for of in (panel["recipe"].dataset, panel.get("dataset", panel["recipe"].dataset)))
        name = f"{panel['space'].name} on {data}" + (f", ground truth on {truth}" if truth != data else "")
    axes.set_title(name, loc="left", fontweight="bold", fontsize=10, pad=18 if said else 6)
    if said:
        axes.annotate(
            said, (0, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=colour
        )


def _grid(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of axes, three a row at most and as many as fit, each of so many inches."""
    columns = max(1, min(panels, 3, int(WIDEST / width)))
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
            2 * bands, columns, figsize=(1 + 4.2 * columns, 0.6 + 6 * bands), squeeze=False, layout="constrained"
        )
        pairs = grid.reshape(bands, 2, columns).transpose(0, 2, 1).reshape(-1, 2)
        for axes in pairs[len(panels) :].flat:
            axes.set_visible(False)
        for (upper, lower), panel in zip(pairs, panels, strict=False):
            upper.sharex(lower)
            upper.tick_params(labelbottom=False)
            rows, metric = panel["rows"], panel["space"].metric
            sign = (
                -1.0 if metric == "perplexity" else 1.0
            )  # rows are "higher is better"; the axis shows what was measured
            x = np.array([row["x"] for row in rows], dtype=float)

            def line(name: str, rows: Any = rows) -> np.ndarray:
                return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)

            along = x if len(x) > 1 else np.array([x[0] / 1.1, x[0] * 1.1])  # one point: bands and lines need a width

            def level(values: np.ndarray, along: Any = along) -> np.ndarray:
                return values if len(values) > 1 else np.repeat(values, len(along))

            low, high = level(line("correlation_low")), level(line("correlation_high"))
            upper.fill_between(along, low, high, color=BLACK, alpha=0.12, lw=0)
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
                    upper.plot(along, level(values), color=colour, ls=dash, marker="s" if dash == "--" else "^", ms=3)
                    labels.append((values[np.isfinite(values)][-1], text, colour))
            if not np.isfinite(line("ceiling")).any():
                upper.text(
                    0.02,
                    0.02,
                    "noise ceiling not available: ground truth has no seeds",
                    transform=upper.transAxes,
                    color=GREEN,
                    fontsize=8,
                )
            upper.set_ylim(min(-0.25, float(np.nanmin(line("correlation_low"))) - 0.05), 1.03)
            upper.set_ylabel("Spearman correlation with ground truth")
            evaluated = max(row["evaluated"] for row in rows)
            _head(upper, panel, f"{'up to ' if len(rows) > 1 else ''}{evaluated:,} architectures")

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
            lower.fill_between(along, level(draws.min(1)), level(draws.max(1)), color=RED, alpha=0.15, lw=0)
            lower.plot(along, level(sign * line("random_top")), color=RED, ls="--", marker="D", ms=3)
            lower.plot(along, level(sign * line("best")), color=GREEN, ls="-.", lw=1)
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
            lower.set_xscale("log", base=2)
            if len(x) == 1:
                lower.set_xlim(x[0] / 1.5, x[0] * 1.5)
            _spread(labels, upper, along[-1])
            _spread(ends, lower, along[-1])
            lower.set_xticks(x, [row["tick"] for row in rows])
            lower.minorticks_off()
            lower.set_xlabel(x_label)
            lower.set_ylabel("test accuracy, %" if metric == "accuracy" else "test perplexity")
        _say(
            figure,
            f"{title} {note}.\nBars: min-max over supernets. Grey band: 95 % bootstrap over architectures and "
            "supernets. Red band: min-max of 3 random draws.",
        )
        plt.close(figure)
        return figure


def matrix_figure(panels: Sequence[Mapping[str, Any]], title: str, cell: float = 0.45) -> Figure:
    """Figures 3 and 7: mutual Spearman correlations of judges, a panel a space: ``names`` and ``matrix``.

    A panel is its subject's, too: space, recipe and data set. ``cell``: inches a judge.
    """
    with plt.rc_context({**STYLE, "axes.grid": False}):
        side = max(3.2, cell * max(len(panel["names"]) for panel in panels))
        figure, places = _grid(len(panels), side, 0.95 * side)
        for axes, panel in zip(places, panels, strict=True):
            matrix, names = np.array(panel["matrix"]), panel["names"]
            shown = axes.imshow(matrix, vmin=-1, vmax=1, cmap="cividis")  # in grey, too: light is high
            for i, j in np.ndindex(*matrix.shape):
                value = round(float(matrix[i, j]), 2) + 0.0  # no -0
                ground = shown.to_rgba(np.array([value]))[0]
                text = f"{value:.2f}".replace("0.", ".", 1).replace("1.00", "1")
                ink = "white" if _luminance(ground) < 0.179 else "black"  # whichever contrasts more
                axes.text(j, i, text, ha="center", va="center", fontsize=min(8.0, 20 * cell), color=ink)
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
            _head(axes, panel)
        figure.colorbar(shown, ax=places, shrink=0.5, label="Spearman correlation")
        _say(figure, title)
        plt.close(figure)
        return figure


def _luminance(colour: Sequence[float] | np.ndarray) -> float:
    """Relative luminance of red, green, blue in 0 to 1, as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def operators_figure(panels: Sequence[Mapping[str, Any]], note: str) -> Figure:
    """Figure 4: supernet score against ground truth, a panel a space, the most biased choice highlighted."""
    with plt.rc_context(STYLE):
        figure, places = _grid(len(panels), 4.5, 4.5)
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
            legend = axes.legend(title=worst["decision"], title_fontsize=8, fontsize=8, loc="best", framealpha=0.8)
            legend.get_frame().set_edgecolor("none")
            axes.set_xlabel(f"supernet {subject.space.metric} (mean over supernets)")
            axes.set_ylabel(f"ground truth {subject.space.metric}")
            _head(
                axes,
                panel,
                f"{worst['choice']} too {'high' if worst['effect'] > 0 else 'low'}: {worst['effect']:+.2f} "
                f"[{worst['low']:+.2f}, {worst['high']:+.2f}], p = {worst['p_corrected']:.2g}",
            )
        _say(
            figure,
            "Which choice do supernets rank too high (or too low)? Upper right is better. Effect: mean of (rank by "
            "supernet minus rank by ground truth), as a fraction of the sample, against all other choices of that "
            f"decision, with its 95 % interval; p after Holm's correction. {note}",
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
            low, high = ([row[f"correlation_{end}"] for row in rows] for end in ("low", "high"))
            other.fill_between(x, low, high, color=BLACK, alpha=0.08, lw=0)
            other.plot(x, [row["correlation"] for row in rows], color=BLACK, ls="--", marker="s", ms=3)
            other.set_ylim(min(-0.5, min(low) - 0.05), 1)
            other.set_ylabel("correlation with ground truth (dashed)")
            unit = " %" if metric == "accuracy" else ""
            _head(axes, panel, f"dotted: mean ground truth, {truth:.1f}{unit}", GREEN)
        _say(
            figure,
            f"Does a supernet converge? {note} Blue: mean over submodels and supernets, bars from the lowest supernet "
            "to the highest. Dashed: Spearman correlation, with its 95 % bootstrap band over architectures and "
            "supernets.",
        )
        plt.close(figure)
        return figure


def tricks_figure(panels: Sequence[Mapping[str, Any]], note: str) -> Figure:
    """Table 3: each variant's correlations and top-10, and their differences to the baseline's, drawn with intervals.

    A panel has ``rows``, the baseline first, and ``seed_noise`` and ``top_noise``: how far its seeds differ, or None.
    """
    with plt.rc_context(STYLE):
        figure: Figure
        longest = max(len(panel["rows"]) for panel in panels)
        figure, grid = plt.subplots(
            len(panels),
            3,
            figsize=(12, 0.9 + (0.9 + 0.34 * longest) * len(panels)),
            width_ratios=(1.5, 1.2, 1),
            squeeze=False,
            layout="constrained",
        )
        for (left, right, numbers), panel in zip(grid, panels, strict=True):
            rows, sign = panel["rows"], -1.0 if panel["space"].metric == "perplexity" else 1.0
            y = np.arange(len(rows))[::-1]
            for position, row in zip(y, rows, strict=True):
                cells = (
                    "–" if row["corr_baseline"] is None else f"{row['corr_baseline']:.2f}",
                    f"{row['corr_truth']:.2f}",
                )
                for at, text in zip((0.2, 0.55, 0.95), (*cells, f"{sign * row['top10']:.2f}"), strict=True):
                    numbers.text(at, position, text, ha="right", va="center")
                if row is rows[0]:
                    for axes in (left, right):
                        axes.plot(0, position, "o" if axes is left else "D", color=BLACK, mfc="white", ms=5, zorder=3)
                    continue
                colour, of_top = (
                    GREY if not row[beyond] else BLUE if row[difference] > 0 else RED
                    for beyond, difference in (("beyond_seeds", "difference"), ("top_beyond_seeds", "top_difference"))
                )
                left.plot([row["difference_low"], row["difference_high"]], [position] * 2, color=colour, lw=2)
                left.plot(row["difference"], position, "o", color=colour, ms=5)
                seeds = sign * (np.array(row["top10_seeds"]) - rows[0]["top10"])
                right.plot([seeds.min(), seeds.max()], [position] * 2, color=of_top, lw=2)
                right.plot(sign * row["top_difference"], position, "D", color=of_top, ms=4)
            for axes, noise in ((left, panel["seed_noise"]), (right, panel["top_noise"])):
                if noise is not None:
                    axes.axvspan(-noise, noise, color=GREY, alpha=0.15, lw=0)
            for axes in (left, right, numbers):
                axes.set_yticks(y, [row["label"] for row in rows] if axes is left else [""] * len(rows))
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
            _head(left, panel, "correlation with ground truth (Corr-GT), minus the baseline's")
            _head(right, None, "top-10, minus the baseline's" + (", perplexity" if sign < 0 else ", points"))
        _say(figure, f"Do tricks help? {note}")
        plt.close(figure)
        return figure


def spaces_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Table 1 drawn: size, duplicates, and the spread of parameters and multiply-adds of each space."""
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(1, 3, figsize=(12, 2 + 0.7 * len(rows)), layout="constrained")
        names = [row["space"] + ("" if row["counted"] else f"\n(ranges: {row['looked_at']:,} sampled)") for row in rows]
        low, high = min(row["size"] for row in rows) / 20, max(row["size"] for row in rows) * 3
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
                    label = f" {row[name]:,} {text} " if row[name] < 1e7 else f" {row[name]:.3g} {text} "
                    inside = log(row[name] / low) > 0.5 * log(high / low)  # no room beside the bar
                    grid[0].text(
                        float(row[name]),
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
                values = np.array(row[name]) / 1e6
                dash = "-" if row["counted"] else (0, (2, 2))
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
        _say(
            figure,
            "How large are the spaces, and how far apart their networks? Left: architectures, counted. Middle and "
            "right: a network's parameters and multiply-adds at the paper's size: lowest, quartiles (blue; white: "
            "median), highest. Solid: of all architectures; dashed: of a uniform sample, so that the space's own "
            "extremes lie further out.",
        )
        plt.close(figure)
        return figure


def benchmark_figure(panels: Sequence[Mapping[str, Any]], note: str) -> Figure:
    """Figure 6: a row a space; test result against parameters, multiply-adds and latency, or against validation."""
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(
            len(panels), 3, figsize=(11, 0.9 + 3.3 * len(panels)), squeeze=False, layout="constrained"
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
                _head(axes, panel if axes is row[0] else None, "" if found is None else f"Spearman {found}", BLUE)
                if space.metric == "perplexity":  # up, and right, is better everywhere
                    axes.set_yscale("log")
                    axes.invert_yaxis()
                    if name == "validation":
                        axes.set_xscale("log")
                        axes.invert_xaxis()
                    for axis in (axes.yaxis, axes.xaxis)[: 1 + (name == "validation")]:
                        axis.set_major_formatter("{x:g}")
                        axis.set_minor_formatter("{x:g}")
            for axes in row[len(predictors) :]:
                axes.set_visible(False)
            row[0].set_ylabel(unit)
        _say(
            figure,
            f"What do architectures reach when they are trained from scratch? {note}: the mean over seeds, bars from "
            "the lowest to the highest. Up is better. Above each: the Spearman correlation of these with the test "
            "result, higher being better in it, and its 95 % bootstrap interval. Grey dots, from no training of this "
            "run and not in its results.json: the whole ground truth that ships with the package.",
        )
        plt.close(figure)
        return figure
