"""Figure 3: do supernets agree with each other more than with the ground truth?

Mutual Spearman correlations of the rankings by supernets of several budgets and seeds, by parameter count, and by
ground truth, over the same architectures. The supernets are those of the study ``epochs``; Figure 7, which has those
of training tricks and of other data sets, is drawn by ``tricks``.
"""

from __future__ import annotations

from itertools import combinations

import click
import numpy as np

from wsnas.cli import Command
from wsnas.figures import matrix_figure
from wsnas.metrics import Floats, correlation_matrix, mean_of_judges, percentiles, rank_bootstrap
from wsnas.study import (
    Asked,
    Subject,
    Verdict,
    budgets_option,
    finite,
    scores_by_budget,
    sign_verdict,
    study_options,
    write_results,
)


def verdicts_of(subject: Subject, judges: Floats) -> list[Verdict]:
    """Statements about ``judges`` [budgets, seeds, n], the longest budget last."""
    longest, supernets = judges[-1], judges.shape[1]
    pairs = list(combinations(range(len(judges)), 2))
    verdicts = []
    if pairs:  # of each seed: its supernets of different budgets among each other, and with the ground truth
        of_seeds = [
            np.mean([rank_bootstrap(judges[i, seed], judges[j, seed]) for i, j in pairs], axis=0)
            for seed in range(supernets)
        ]
        with_truth = [
            np.mean([rank_bootstrap(judge, subject.test) for judge in judges[:, seed]], axis=0)
            for seed in range(supernets)
        ]
        mutual, truth = mean_of_judges(of_seeds), mean_of_judges(with_truth)
        low, high = percentiles(mutual - truth)
        verdicts.append(
            Verdict(
                "supernets agree with each other more than with the ground truth",
                "section 2, Figure 3",
                subject.name,
                "holds where the 95 % bootstrap interval of (mean correlation of two supernets of different budgets "
                "- mean correlation with the ground truth) is above 0",
                f"{mutual.mean():.2f} against {truth.mean():.2f}: difference [{low:+.2f}, {high:+.2f}]",
                sign_verdict(low, high, supernets),
            )
        )
    if len(np.unique(subject.parameters)) > 1:
        ranked = rank_bootstrap(longest, subject.test)
        by_size = rank_bootstrap(subject.parameters, subject.test)
        low, high = percentiles(by_size - ranked)
        verdicts.append(
            Verdict(
                "the parameter count ranks better than weight sharing",
                "section 2 (NAS-Bench-101: 0.67, above every supernet)",
                subject.name,
                "holds where the 95 % bootstrap interval of (correlation of the parameter count with the ground "
                "truth - that of the longest-trained supernets) is above 0",
                f"{by_size.mean():.2f}, difference [{low:+.2f}, {high:+.2f}]",
                sign_verdict(low, high, supernets),
            )
        )
        with_size = rank_bootstrap(longest, subject.parameters)
        low, high = percentiles(with_size - ranked)
        verdicts.append(
            Verdict(
                "supernets follow model size more than ground truth",
                "section 2",
                subject.name,
                "holds where the 95 % bootstrap interval of (the longest-trained supernets' correlation with the "
                "parameter count - that with the ground truth) is above 0",
                f"{with_size.mean():.2f} with size, difference [{low:+.2f}, {high:+.2f}]",
                sign_verdict(low, high, supernets),
            )
        )
    return verdicts


@click.command(cls=Command)
@study_options("consistency")
@budgets_option
def main(asked: Asked, count: int | None) -> None:
    """Mutual correlations of supernets, parameter count and ground truth (Figure 3)."""
    found = scores_by_budget(asked, count)
    panels, verdicts, rows, results = [], [], [], {}
    for subject, of_budgets in found:
        ranked = {epochs: finite(scores) for epochs, scores in of_budgets.items()}
        judges = np.array([scores[0] for scores in ranked.values()])  # the first seed of each budget
        names = [str(epochs) for epochs in ranked]
        others = ranked[max(ranked)][1:]
        stacked = [*judges, *others]
        names += [f"seed {seed}" for seed in asked.seeds[1:]]
        if len(np.unique(subject.parameters)) > 1:
            stacked.append(subject.parameters)
            names.append("P")
        stacked.append(subject.test)
        names.append("GT")
        matrix = correlation_matrix(stacked)
        panels.append({**subject.panel([]), "names": names, "matrix": matrix})
        verdicts += verdicts_of(subject, np.array(list(ranked.values())))
        results[subject.name] = {"names": names, "matrix": matrix.tolist()}
        rows += [
            {"space": subject.name, "a": names[i], "b": names[j], "correlation": matrix[i, j]}
            for i, j in combinations(range(len(names)), 2)
        ]
    write_results(
        asked,
        settings=asked.settings([subject for subject, _ in found]),
        rows=rows,
        verdicts=verdicts,
        results=results,
        title="Do supernets agree with each other more than with the ground truth?",
        source="Figure 3, section 2",
        figure=matrix_figure(
            panels,
            "Do supernets agree with each other more than with the ground truth? Spearman correlations of supernets "
            "(by epochs, one seed each; then the other seeds of the longest), parameter count (P) and ground truth "
            f"(GT). {asked.about}.",
        ),
    )


if __name__ == "__main__":
    main()
