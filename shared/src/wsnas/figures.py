"""The paper's figures, with intervals. Colours are Okabe & Ito's: told apart by colour-blind readers, and in
grey by marker and dash.
"""

from __future__ import annotations

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


def capacity_figure(panels: Sequence[Mapping[str, Any]], scale: str, seeds: int) -> Figure:
    """Figure 5: a column a space; correlation above, top-10 against random below, over the prune factor."""
    with plt.rc_context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(
            2, len(panels), figsize=(1.2 + 5.4 * len(panels), 6.4), squeeze=False, sharex="col", layout="constrained"
        )
        for (upper, lower), panel in zip(grid.T, panels, strict=True):
            rows, recipe = panel["rows"], panel["recipe"]
            x = np.array([row["factor"] for row in rows], dtype=float)

            def line(name: str, rows: Any = rows) -> np.ndarray:
                return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)

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
            about = f"{Path(recipe.dataset).name}, ground truth {panel['dataset']}"
            upper.set_title(f"{panel['space'].name}  ({about})", loc="left", fontweight="bold", fontsize=10)
            _spread(labels, upper, x[-1])

            tops = np.array([row["top10_seeds"] for row in rows])
            lower.errorbar(
                x,
                tops.mean(1),
                yerr=[tops.mean(1) - tops.min(1), tops.max(1) - tops.mean(1)],
                color=BLUE,
                marker="o",
                ms=4,
                capsize=2,
            )
            draws = np.array([row["random_top10_draws"] for row in rows])
            lower.fill_between(x, draws.min(1), draws.max(1), color=RED, alpha=0.15, lw=0)
            lower.plot(x, line("random_top10"), color=RED, ls="--", marker="D", ms=3)
            lower.plot(x, line("best"), color=GREEN, ls="-.", lw=1)
            _spread(
                [
                    (tops.mean(1)[-1], "top-10 by supernet", BLUE),
                    (line("random_top10")[-1], "random top-10", RED),
                    (line("best")[-1], "best evaluated", GREEN),
                ],
                lower,
                x[-1],
            )
            lower.set_xscale("log", base=2)
            lower.set_xticks(x, [f"{int(k)}x\n{row['architectures']:,}" for k, row in zip(x, rows, strict=True)])
            lower.minorticks_off()
            lower.set_xlabel("prune factor (kept: the best by ground truth), architectures left")
            lower.set_ylabel("test accuracy, %")
            evaluated = max(row["evaluated"] for row in rows)
            valid = "all" if recipe.valid_images is None else f"{recipe.valid_images:,}"
            note = (
                f"scale {scale}: {recipe.supernet.epochs} epochs, batch {recipe.supernet.batch}, "
                f"{seeds} supernets a factor, up to {evaluated} architectures, {valid} validation images"
            )
            lower.annotate(note, (0, -0.3), xycoords="axes fraction", fontsize=7, color=GREY)
        figure.suptitle(
            "Is weight sharing still effective on a space pruned to its best architectures?\n"
            "Bars: min-max over supernets. Grey band: 95 % bootstrap over architectures.\n"
            "Red band: min-max of 3 random draws.",
            fontsize=8,
            color=GREY,
            x=0.01,
            ha="left",
        )
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
                for value in (values[0], values[2], values[-1]):
                    axes.annotate(
                        f"{value:.3g}",
                        (value, position),
                        xytext=(0, 8),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8,
                    )
            axes.set_xlabel(f"{unit} (lowest, quartiles, highest)")
            axes.set_ylim(-0.6, len(rows) - 0.4)
        grid[0].set_ylim(-0.6, len(rows) - 0.4)
        for axes in grid:
            axes.set_yticks(y, names if axes is grid[0] else [""] * len(rows))
            axes.grid(axis="y", visible=False)
        plt.close(figure)
        return figure
