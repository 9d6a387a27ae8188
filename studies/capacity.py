"""Figure 5, section 3: is weight sharing still effective on a space pruned to its best architectures?

For growing k the best 1/k of the architectures by ground-truth validation score become the space.
Supernets are trained by uniform sampling within it, and up to N of its architectures are scored.
For each k: the Spearman correlation with the ground truth, the highest correlation its noise allows, the
top-10 architecture's test score, and the exact expectation for ten random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np

from wsnas.errors import WsnasError
from wsnas.metrics import Interval, contrast, noise_ceiling, pruned_ceiling
from wsnas.randomness import numpy_rng
from wsnas.recipe_options import RecipeCommand
from wsnas.studies.figures import counted, ranking_figure
from wsnas.studies.jobs import all_scores, sub_space_job
from wsnas.studies.options import StudyOptions, study_options
from wsnas.studies.rankings import K, Point, csv_rows, ranking_within
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample, best_archs, space_samples
from wsnas.studies.verdicts import Verdict, sign_verdict

ENOUGH = 500  # architectures with a ground truth needed to include a space that --space does not name


@dataclass(frozen=True)
class Budget:
    """A scale's factors, and its maximum number of architectures scored per factor."""

    factors: tuple[int, ...]
    architectures: int


BUDGETS = {
    "micro": Budget((1, 8, 32), architectures=100),
    "desk": Budget((1, 2, 4, 8, 16, 32), architectures=1000),
    "paper": Budget((1, 2, 4, 8, 16, 32, 64, 128), architectures=1000),
}


def change_in_words(change: Interval, a: Point, b: Point) -> str:
    return f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}] from {a.setting}x to {b.setting}x"


def verdicts_of(space: str, points: Sequence[Point]) -> list[Verdict]:
    """The paper's statements about pruning, by rules on intervals."""
    first, last = points[0], points[-1]
    if first.setting != 1 or first is last:  # nothing to compare with
        return []
    supernets = len(first.ranking.top_seeds)
    at8 = next((point for point in points if point.setting == 8), None)
    verdicts = []
    change = contrast((1, last.ranking.agreement), (-1, first.ranking.agreement))
    verdicts.append(
        Verdict(
            "pruning to the best lowers the correlation",
            "section 3, Figure 5 (NAS-Bench-101)",
            space,
            "holds where the 95 % interval of (correlation at the largest factor - at 1x) is below 0, does not hold "
            "where it is above 0",
            change_in_words(change, first, last),
            sign_verdict(-change.high, -change.low, supernets),
        )
    )
    change = contrast((1, last.ranking.advantages), (-1, first.ranking.advantages))
    verdicts.append(
        Verdict(
            "the advantage over random shrinks with pruning",
            "section 3, Figure 5 (NAS-Bench-101)",
            space,
            "holds where the 95 % interval of (top-10 advantage at the largest factor - at 1x) is below 0, does not "
            "hold where it is above 0",
            f"{change_in_words(change, first, last)}, of {first.ranking.advantage:+.2f} points",
            sign_verdict(-change.high, -change.low, supernets),
        )
    )
    if at8 is not None and at8 is not last:
        left = contrast((1, at8.ranking.advantages), (-0.5, first.ranking.advantages))
        verdicts.append(
            Verdict(
                "little advantage over random is left at 8x",
                "section 3, Figure 5 (NAS-Bench-201)",
                space,
                "holds where the 95 % interval of (top-10 advantage at 8x - half of that at 1x) is below 0, does not "
                "hold where it is above 0",
                f"{at8.ranking.advantage:+.2f} points at 8x, {first.ranking.advantage:+.2f} at 1x: "
                f"{left.value:+.2f} [{left.low:+.2f}, {left.high:+.2f}] above half",
                sign_verdict(-left.high, -left.low, supernets),
            )
        )
        change = contrast((1, last.ranking.agreement), (-1, at8.ranking.agreement))
        verdicts.append(
            Verdict(
                "beyond 8x the correlation grows again",
                "section 3, Figure 5 (NAS-Bench-201: up to 0.6 at 128x)",
                space,
                "holds where the 95 % interval of (correlation at the largest factor - at 8x) is above 0, does not "
                "hold where it is below 0",
                change_in_words(change, at8, last),
                sign_verdict(change.low, change.high, supernets),
            )
        )
    return verdicts


@click.command(cls=RecipeCommand, without=("max_macs",))
@study_options("capacity")
@click.option("--factor", "factors", type=click.IntRange(1), multiple=True, help="Prune factors; repeatable.")
def main(options: StudyOptions, factors: tuple[int, ...]) -> None:
    """Capacity of weight sharing on spaces pruned to their best architectures (Figure 5)."""
    budget = BUDGETS[options.scale]
    factors = tuple(sorted(set(factors))) or budget.factors
    architectures = options.architectures or budget.architectures
    jobs, settings = [], []
    for sample in space_samples(options, architectures, least=1 if options.spaces else ENOUGH):
        seeds = sample.truth.seeds()
        for factor in factors:
            kept = best_archs(sample.truth.archs, sample.truth.valid, factor)
            if len(kept) <= K:
                click.echo(f"{sample.name}: left out {factor}x, which would keep {len(kept)} architectures")
                continue
            order = numpy_rng(0, "capacity", factor).permutation(len(kept))[:architectures]
            # at 1x the same sample as other studies, to share its scores
            scored = sample.archs if factor == 1 else tuple(kept[int(i)] for i in order)
            jobs += [sub_space_job(options, sample, kept, scored, seed) for seed in options.seeds]
            ceiling = noise_ceiling(seeds) if factor == 1 else pruned_ceiling(seeds, factor)
            settings.append((sample, factor, len(kept), scored, ceiling))
    if not settings:
        raise WsnasError(
            f"no factor of {', '.join(f'{factor}x' for factor in factors)} keeps more than {K} architectures of the "
            "ground truth; choose smaller ones with --factor"
        )
    scores, seeds_each = all_scores(jobs, options), len(options.seeds)
    panels: dict[str, tuple[SpaceSample, list[Point]]] = {}
    for i, (sample, factor, size, scored, ceiling) in enumerate(settings):
        matrix = np.array(scores[i * seeds_each : (i + 1) * seeds_each])
        ranked = ranking_within(sample, scored, matrix, K, draws=factor)
        highest, agreement = (None, None) if ceiling is None else (ceiling.ceiling, ceiling.agreement)
        point = Point(factor, f"{factor}x\n{size:,}", ranked, highest, agreement, architectures=size)
        panels.setdefault(sample.name, (sample, []))[1].append(point)
    samples = [sample for sample, _ in panels.values()]
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, samples, factors=factors, architectures=architectures),
        rows=[row for space, (_, points) in panels.items() for row in csv_rows(space, "factor", points)],
        verdicts=[verdict for space, (_, points) in panels.items() for verdict in verdicts_of(space, points)],
        results={space: [point.to_json("factor") for point in points] for space, (_, points) in panels.items()},
        title="Is weight sharing still effective on a space pruned to its best architectures?",
        source="Figure 5, section 3",
        figure=ranking_figure(
            list(panels.values()),
            "Is weight sharing still effective on a space pruned to its best architectures?",
            "prune factor (kept: the best by ground truth), architectures left",
            f"{options.about}, {counted(seeds_each, 'supernet')} a factor",
        ),
    )


if __name__ == "__main__":
    main()
