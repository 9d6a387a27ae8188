"""Figure 2: does it help when fewer architectures share the weights?

For growing k a random 1/k of the architectures with a ground truth becomes the space. Supernets are
trained by uniform sampling within it, and up to N of its architectures are scored. This needs a ground truth
large enough to be downscaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from wsnas.errors import WsnasError
from wsnas.metrics import contrast, noise_ceiling
from wsnas.randomness import numpy_rng
from wsnas.studies.figures import ranking_figure
from wsnas.studies.jobs import all_scores, sub_space_job
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import K, Point, Ranking, csv_rows, judged, mean_ranking, ranking_within
from wsnas.studies.results import desk_rows, settings_of, write_results
from wsnas.studies.sample import ENOUGH, SpaceSample, random_archs, space_samples
from wsnas.studies.verdicts import Answer, Holds, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted

HARDLY = 0.05  # a correlation that is higher by less than this hardly is
SIZES = {  # factors, architectures scored
    "micro": ((1, 4, 16, 64), 100),
    "desk": ((1, 4, 16, 64), 1000),
    "paper": ((1, 2, 4, 8, 16, 32, 64), 1000),
}


def verdicts_of(space: str, points: Sequence[Point]) -> list[Verdict]:
    """The paper: an improvement only at 64x on NAS-Bench-201, no trend on NAS-Bench-101."""
    first, last = points[0], points[-1]
    if first.setting != 1 or first is last:  # nothing to compare with
        return []
    supernets = len(first.ranking.correlation_seeds)
    change = contrast((1, last.ranking.agreement), (-1, first.ranking.agreement))
    at_largest, at_all = Numbers(), Numbers()
    found = [
        Verdict(
            "a random sub-space at the largest factor ranks better than the whole",
            "section 2, Figure 2 (NAS-Bench-201, 64x)",
            space,
            "holds where the 95 % interval of (correlation at the largest factor - at 1x) is above 0, does not hold "
            "where it is below 0",
            f"{at_largest.estimate('change', change)} from 1x to {at_largest.say('factor', last.setting, 'd')}x",
            sign_verdict(change.low, change.high, supernets),
            at_largest,
        ),
        Verdict(
            "reducing the sharing density hardly helps",
            "section 2, Figure 2",
            space,
            "holds where, at every factor below the largest, the 95 % interval of (correlation - at 1x) "
            f"ends below +{HARDLY}; does not hold where it is above 0 at every one; else inconclusive",
            ", ".join(
                f"{at_all.say(f'factor {point.setting}', point.setting, 'd')}x: "
                f"{at_all.say(f'correlation at {point.setting}x', point.ranking.correlation)}"
                for point in points
            ),
            hardly([point.ranking for point in points]) if supernets > 1 else "inconclusive",
            at_all,
        ),
    ]
    return enough(found, min(point.ranking.evaluated for point in points), "factors")


def hardly(rankings: Sequence[Ranking]) -> Holds:
    gains = [contrast((1, one.agreement), (-1, rankings[0].agreement)) for one in rankings[1:-1]]
    if not gains:
        return "inconclusive"
    if all(gain.high < HARDLY for gain in gains):
        return "holds"
    return "does not hold" if all(gain.low > 0 for gain in gains) else "inconclusive"


@click.command(cls=StudyCommand)
@study_options("density")
@click.option("--factor", "factors", type=click.IntRange(1), multiple=True, help="Downscaling factors; repeatable.")
def main(options: StudyOptions, factors: tuple[int, ...]) -> None:
    """Weight sharing on randomly downscaled spaces (Figure 2)."""
    factors = tuple(sorted(set(factors))) or SIZES[options.scale][0]
    count = options.architectures or SIZES[options.scale][1]
    jobs, settings = [], []
    for sample in space_samples(options, count, least=K + 1 if options.spaces else ENOUGH):
        archs = sample.truth.archs
        for factor in factors:
            if len(archs) / factor <= K:
                left = counted(len(archs) // factor, "architecture")
                click.echo(f"{sample.name}: left out {factor}x, which would keep {left}")
                continue
            subsets = []
            for seed in options.seeds:  # another sub-space for each supernet
                kept = random_archs(archs, factor, numpy_rng(seed, "density", factor))
                order = numpy_rng(seed, "density sample", factor).permutation(len(kept))[:count]
                subsets.append(sample.archs if factor == 1 else tuple(kept[int(i)] for i in order))
                jobs.append(sub_space_job(options, sample, kept, subsets[-1], seed))
            settings.append((sample, factor, len(kept), subsets))
    if not jobs:
        raise WsnasError("no factor leaves enough architectures of the ground truth; choose smaller ones with --factor")
    scores = iter(all_scores(jobs, options))
    panels: dict[str, tuple[SpaceSample, list[Point]]] = {}
    for sample, factor, size, subsets in settings:
        parts = [
            ranking_within(sample, scored, *sample.truth.means(scored), next(scores)[None], K) for scored in subsets
        ]
        ceilings = [noise_ceiling(sample.truth.seeds(scored)) for scored in subsets]
        known = [ceiling.ceiling for ceiling in ceilings if ceiling is not None]
        mean = float(np.mean(known)) if known else None
        point = Point(factor, f"{factor}x\n{size:,}", mean_ranking(parts), mean, architectures=size)
        panels.setdefault(sample.name, (sample, []))[1].append(point)
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, [sample for sample, _ in panels.values()], factors=factors),
        rows=[row for space, (_, points) in panels.items() for row in csv_rows(space, "factor", points)],
        verdicts=[verdict for space, (_, points) in panels.items() for verdict in verdicts_of(space, judged(points))],
        results={space: [point.to_json("factor") for point in points] for space, (_, points) in panels.items()},
        title="Does it help when fewer architectures share the weights?",
        answer=Answer(
            "reducing the sharing density hardly helps",
            "Sharing among fewer architectures hardly helps",
            "Sharing among fewer architectures helps",
        ),
        source="Figure 2, section 2",
        svg=options.svg,
        figure=ranking_figure(
            list(panels.values()),
            "downscaling factor (kept at random), architectures left",
            f"{options.about}, {counted(len(options.seeds), 'supernet')} per factor, each on a different sub-space",
            desk_rows(Path(__file__), options, [sample for sample, _ in panels.values()]),
        ),
    )


if __name__ == "__main__":
    main()
