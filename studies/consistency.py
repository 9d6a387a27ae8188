"""Figure 3: do supernets agree with each other more than with the ground truth?

Mutual Spearman correlations of the rankings by supernets of several budgets and seeds, by parameter count, and by
ground truth, over the same architectures. The supernets are those of the study ``epochs``; the study ``tricks`` draws
Figure 7, with supernets of training tricks and other data sets.
"""

from __future__ import annotations

from itertools import combinations

import click
import numpy as np

from wsnas.metrics import Floats, PerSupernet, contrast, mutual_agreement, rank_agreement, without_noise
from wsnas.studies.figures import Matrix, matrix_figure, matrix_of
from wsnas.studies.jobs import budgets_option, scores_by_budget
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import finite, not_finite
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample
from wsnas.studies.verdicts import HARDLY, NOISELESS, Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted


def agreements(sample: SpaceSample, predictors: Floats) -> tuple[PerSupernet, PerSupernet] | None:
    """By seed: how supernets of the two longest budgets agree with each other (``metrics.mutual_agreement``), and with
    the ground truth. Its noise is still in the latter.

    Shorter ones have learned too little to agree with anything; with them, the answer would depend on how many there
    are. ``predictors`` [budgets, seeds, n]; None of one budget.
    """
    if len(predictors) < 2:
        return None
    shorter, longest = predictors[-2:]
    truth = PerSupernet.mean_of([rank_agreement(of_budget, sample.test) for of_budget in (shorter, longest)])
    return mutual_agreement(shorter, longest), truth


def verdicts_of(sample: SpaceSample, predictors: Floats) -> list[Verdict]:
    """Statements about ``predictors`` [budgets, seeds, n], the longest budget last."""
    longest, supernets = predictors[-1], predictors.shape[1]
    verdicts = []
    trainings = sample.truth.seeds(sample.archs)  # their noise weakens agreement with the truth alone
    if (found := agreements(sample, predictors)) is not None:
        mutual, with_truth = found
        truth, numbers = without_noise(with_truth, trainings), Numbers()
        gap = contrast((1, mutual - truth))
        verdicts.append(
            Verdict(
                "supernets agree with each other more than with the ground truth",
                "section 2, Figure 3",
                sample.name,
                "holds where the 95 % interval of (mean correlation of a supernet of the longest and one of the next "
                f"budget, of different seeds - their mean correlation with the ground truth, {NOISELESS}) is above 0, "
                "does not hold where it is below 0; else, and with fewer than three seeds, inconclusive",
                f"{numbers.say('mutual', mutual.mean)} against "
                f"{numbers.say('with the ground truth', with_truth.mean)}, without noise "
                f"{numbers.say('without noise', truth.mean)}: difference {numbers.interval('difference', gap)}",
                sign_verdict(gap.low, gap.high) if supernets > 2 else "inconclusive",
                numbers,
            )
        )
    if len(np.unique(sample.parameters)) > 1:
        ranked = rank_agreement(longest, sample.test)
        by_size = rank_agreement(sample.parameters, sample.test)
        gap, numbers = contrast((1, by_size - ranked)), Numbers()
        verdicts.append(
            Verdict(
                "the parameter count ranks better than weight sharing",
                "section 2 (NAS-Bench-101: 0.67, above every supernet)",
                sample.name,
                "holds where the 95 % interval of (correlation of the parameter count with the ground "
                "truth - that of the longest-trained supernets) is above 0, does not hold where it ends below "
                f"+{HARDLY}; else, and with one supernet, inconclusive",
                f"{numbers.say('correlation', by_size.mean)}, difference {numbers.interval('difference', gap)}",
                sign_verdict(gap.low, gap.high, supernets, hardly=HARDLY),
                numbers,
            )
        )
        with_size, truth = rank_agreement(longest, sample.parameters), without_noise(ranked, trainings)
        gap, numbers = contrast((1, with_size - truth)), Numbers()
        verdicts.append(
            Verdict(
                "supernets follow model size more than ground truth",
                "section 2",
                sample.name,
                "holds where the 95 % interval of (the longest-trained supernets' correlation with the "
                f"parameter count - that with the ground truth, {NOISELESS}) is above 0, does not hold where it is "
                "below 0; else, and with one supernet, inconclusive",
                f"{numbers.say('correlation', with_size.mean)} with size, "
                f"{numbers.say('without noise', truth.mean)} with the ground truth without noise: "
                f"difference {numbers.interval('difference', gap)}",
                sign_verdict(gap.low, gap.high, supernets),
                numbers,
            )
        )
    return verdicts


@click.command(cls=StudyCommand)
@study_options("consistency")
@budgets_option
def main(options: StudyOptions, count: int | None) -> None:
    """Mutual correlations of supernets, parameter count and ground truth (Figure 3)."""
    panels: list[tuple[SpaceSample, Matrix]] = []
    verdicts: list[Verdict] = []
    means: dict[str, dict[str, float]] = {}
    for sample, by_epochs in scores_by_budget(options, count):
        ranked = {epochs: finite(scores) for epochs, scores in by_epochs.items()}
        predictors = {  # of each budget one supernet: the first seed of the longest, neighbours of different seeds
            counted(epochs, "epoch"): scores[(len(ranked) - 1 - i) % len(scores)]
            for i, (epochs, scores) in enumerate(ranked.items())
        }
        longest = ranked[max(ranked)]
        predictors |= {f"seed {seed}": one for seed, one in zip(options.seeds[1:], longest[1:], strict=True)}
        panels.append((sample, matrix_of(sample, predictors)))
        every = np.array(list(ranked.values()))
        found = agreements(sample, every)
        means[sample.name] = {} if found is None else {"mutual": found[0].mean, "with_ground_truth": found[1].mean}
        means[sample.name]["not_finite"] = sum(map(not_finite, by_epochs.values()))
        verdicts += enough(verdicts_of(sample, every), len(sample.archs))
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, [sample for sample, _ in panels]),
        rows=[
            {"space": sample.name, "a": matrix.names[i], "b": matrix.names[j], "correlation": matrix.values[i, j]}
            for sample, matrix in panels
            for i, j in combinations(range(len(matrix.names)), 2)
        ],
        verdicts=verdicts,
        results={
            sample.name: {
                "names": matrix.names,
                "matrix": matrix.values,
                "ceiling": sample.ceiling(),
                **means[sample.name],
            }
            for sample, matrix in panels
        },
        title="Do supernets agree with each other more than with the ground truth?",
        answer=Answer(
            "supernets agree with each other more than with the ground truth",
            "Supernets agree with each other more than with the ground truth",
            "Supernets agree with the ground truth more than with each other",
        ),
        source="Figure 3, section 2",
        svg=options.svg,
        figure=matrix_figure(
            [matrix for _, matrix in panels],
            "Spearman correlations of supernets "
            "(by epochs, one each, neighbours of different seeds; then the other seeds of the longest), parameter "
            f"count (P) and ground truth (GT). {options.about}.",
        ),
    )


if __name__ == "__main__":
    main()
