"""Figure 8, Appendix D: how far supernets converge, and what their mean score says of the ranking.

The supernets are those of the study ``epochs``: one training for each budget. The mean score of the sampled
submodels against the mean ground truth of the same architectures trained on their own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import click
import numpy as np

from wsnas.cli import Command
from wsnas.figures import convergence_figure, counted
from wsnas.metrics import percentiles, rank_bootstrap, spearman
from wsnas.study import (
    Asked,
    Verdict,
    budgets_option,
    finite,
    scores_by_budget,
    sign_verdict,
    study_options,
    write_results,
)


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


@click.command(cls=Command)
@study_options("convergence")
@budgets_option
def main(asked: Asked, count: int | None) -> None:
    """Mean supernet performance by epochs against mean ground truth (Figure 8)."""
    found = scores_by_budget(asked, count)
    panels: list[dict[str, Any]] = []
    verdicts, rows = [], []
    for subject, of_budgets in found:
        lines: list[dict[str, Any]] = []
        for epochs, matrix in of_budgets.items():
            known = np.where(np.isfinite(matrix), matrix, np.nan)
            low, high = percentiles(rank_bootstrap(finite(matrix), subject.test))
            lines.append(
                {
                    "epochs": epochs,
                    "mean": float(np.nanmean(known)),
                    "mean_seeds": [float(np.nanmean(one)) for one in known],
                    "not_finite": int((~np.isfinite(matrix)).sum()),
                    "correlation": float(np.mean([spearman(one, subject.test) for one in finite(matrix)])),
                    "correlation_low": low,
                    "correlation_high": high,
                }
            )
        mean_truth = float(subject.valid.mean())
        verdicts += verdicts_of(subject.name, lines, mean_truth)
        panels.append({**subject.panel(lines), "mean_truth": mean_truth})
        rows += [{"space": subject.name, **{k: v for k, v in line.items() if k != "mean_seeds"}} for line in lines]
    write_results(
        asked,
        settings=asked.settings([subject for subject, _ in found]),
        rows=rows,
        verdicts=verdicts,
        results={p["space"].name: {"rows": p["rows"], "mean_truth": p["mean_truth"]} for p in panels},
        title="How far do supernets converge?",
        source="Figure 8, Appendix D",
        figure=convergence_figure(panels, f"{asked.about}, {counted(len(asked.seeds), 'supernet')} a budget."),
    )


if __name__ == "__main__":
    main()
