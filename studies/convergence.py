"""Figure 8, Appendix D: how far supernets converge, and what their mean score says of the ranking.

The supernets are those of the study ``epochs``: one training for each budget. The mean score of the sampled
submodels against the mean ground truth of the same architectures trained on their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.metrics import percentiles, rank_bootstrap, spearman
from wsnas.recipe_options import RecipeCommand
from wsnas.studies.figures import (
    BLACK,
    BLUE,
    GREEN,
    STYLE,
    axes_grid,
    caption,
    counted,
    head,
)
from wsnas.studies.jobs import budgets_option, scores_by_budget
from wsnas.studies.options import StudyOptions, study_options
from wsnas.studies.rankings import finite
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.verdicts import Verdict, sign_verdict


def verdicts_of(space: str, rows: list[dict[str, Any]], truth: float) -> list[Verdict]:
    first, last = rows[0]["mean_seeds"], rows[-1]["mean_seeds"]
    improved = sign_verdict(min(last) - max(first), max(last) - min(first), len(last))
    rises = all(b["mean"] > a["mean"] for a, b in pairwise(rows))
    measured = (
        f"{abs(rows[0]['mean']):.2f} at {rows[0]['epochs']} epochs, {abs(rows[-1]['mean']):.2f} at {rows[-1]['epochs']}"
    )
    return [
        Verdict(
            "extended training raises the mean supernet performance throughout",
            "Appendix D, Figure 8",
            space,
            "holds where the mean over supernets improves at every budget and every supernet of the longest is "
            "better than every one of the shortest; does not hold where every one is worse; else, and with one "
            "supernet, inconclusive",
            measured,
            improved if improved != "holds" or rises else "inconclusive",
        ),
        Verdict(
            "the mean supernet performance surpasses the mean ground truth",
            "Appendix D, Figure 8 (NAS-Bench-101)",
            space,
            "holds where every supernet of the longest budget is above the mean ground truth, does not hold where "
            "every one is below; else, and with one supernet, inconclusive",
            f"{measured}; mean ground truth {abs(truth):.2f}",
            sign_verdict(min(last) - truth, max(last) - truth, len(last)),
        ),
    ]


def convergence_figure(panels: Sequence[Mapping[str, Any]], note: str) -> Figure:
    """Figure 8: mean supernet score over epochs, and the mean ground truth; correlation on the right axis."""
    with plt.rc_context(STYLE):
        figure, places = axes_grid(len(panels), 4.4, 3.6)
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
            head(axes, panel, f"dotted: mean ground truth, {truth:.1f}{unit}", GREEN)
        caption(
            figure,
            f"Does a supernet converge? {note} Blue: mean over submodels and supernets, bars from the lowest supernet "
            "to the highest. Dashed: Spearman correlation, with its 95 % bootstrap band over architectures and "
            "supernets.",
        )
        plt.close(figure)
        return figure


@click.command(cls=RecipeCommand)
@study_options("convergence")
@budgets_option
def main(options: StudyOptions, count: int | None) -> None:
    """Mean supernet performance by epochs against mean ground truth (Figure 8)."""
    found = scores_by_budget(options, count)
    panels: list[dict[str, Any]] = []
    verdicts, rows = [], []
    for sample, of_budgets in found:
        lines: list[dict[str, Any]] = []
        for epochs, matrix in of_budgets.items():
            known = np.where(np.isfinite(matrix), matrix, np.nan)
            low, high = percentiles(rank_bootstrap(finite(matrix), sample.test))
            lines.append(
                {
                    "epochs": epochs,
                    "mean": float(np.nanmean(known)),
                    "mean_seeds": [float(np.nanmean(one)) for one in known],
                    "not_finite": int((~np.isfinite(matrix)).sum()),
                    "correlation": float(np.mean([spearman(one, sample.test) for one in finite(matrix)])),
                    "correlation_low": low,
                    "correlation_high": high,
                }
            )
        mean_truth = float(sample.valid.mean())
        verdicts += verdicts_of(sample.name, lines, mean_truth)
        panels.append({**sample.panel(lines), "mean_truth": mean_truth})
        rows += [{"space": sample.name, **{k: v for k, v in line.items() if k != "mean_seeds"}} for line in lines]
    write_results(
        options,
        settings=settings_of(options, [sample for sample, _ in found]),
        rows=rows,
        verdicts=verdicts,
        results={p["space"].name: {"rows": p["rows"], "mean_truth": p["mean_truth"]} for p in panels},
        title="How far do supernets converge?",
        source="Figure 8, Appendix D",
        figure=convergence_figure(panels, f"{options.about}, {counted(len(options.seeds), 'supernet')} a budget."),
    )


if __name__ == "__main__":
    main()
