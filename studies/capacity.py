"""Figure 5, section 3: is weight sharing still effective on a space pruned to its best architectures?

For growing k the best 1/k of the architectures by ground-truth validation score become the space.
Supernets are trained by uniform sampling within it, and up to N of its architectures are scored.
For each k: the Spearman correlation with the ground truth, the highest correlation its noise allows, the
top-10 architecture's test score, and the exact expectation for ten random ones.

One seed of the ground truth chooses (it prunes, and picks from the top-10), the others report: supernets, random
search, parameter count and ceiling alike (``wsnas.studies.pruned``). Another line shows what the correlation of any
judge that is as good at 1x would come to: that much of a fall is the pruning's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from wsnas.errors import WsnasError
from wsnas.metrics import Interval, contrast
from wsnas.randomness import numpy_rng
from wsnas.studies.figures import ranking_figure
from wsnas.studies.jobs import all_scores, sub_space_job
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.pruned import Pruning
from wsnas.studies.rankings import K, Point, csv_rows, judged, ranking_within
from wsnas.studies.results import desk_rows, settings_of, write_results
from wsnas.studies.sample import ENOUGH, SpaceSample, space_samples
from wsnas.studies.verdicts import FEWEST, Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted


@dataclass(frozen=True)
class Size:
    """A scale's factors, and its maximum number of architectures scored per factor."""

    factors: tuple[int, ...]
    architectures: int


SIZES = {
    "micro": Size((1, 4, 8, 32), architectures=100),
    "desk": Size((1, 2, 4, 8, 16, 32), architectures=1000),
    "paper": Size((1, 2, 4, 8, 16, 32, 64, 128), architectures=1000),
}


def partly(points: Sequence[Point]) -> str | None:
    """What is certain where the claim on the largest factor is not: a sentence without its full stop."""
    first, *pruned = points
    alike = [point for point in pruned if bool(point.reporting_seeds) == bool(first.reporting_seeds)]
    few = min(point.ranking.evaluated for point in points) < FEWEST or len(first.ranking.correlation_seeds) < 2
    for point in reversed(alike if first.setting == 1 and not few else []):
        # the intervals corrected for how many factors are asked
        change = contrast((1, point.ranking.agreement), (-1, first.ranking.agreement), level=1 - 0.05 / len(alike))
        if change.high < 0:
            best = "half" if point.setting == 2 else f"1/{point.setting}"
            return f"Pruning to the best {best} lowers the correlation"
    return None


def verdicts_of(space: str, points: Sequence[Point]) -> list[Verdict]:
    """The paper's statements about pruning, by rules on intervals."""
    first, last = points[0], points[-1]
    if first.setting != 1 or first is last:  # nothing to compare with
        return []
    at8 = next((point for point in points if point.setting == 8), None)
    verdicts = []

    def add(
        claim: str, source: str, rule: str, found: Interval, sign: int, said: str, numbers: Numbers, *of: Point
    ) -> None:
        low, high = (found.low, found.high) if sign > 0 else (-found.high, -found.low)
        # a training that chooses and reports flatters what it chose: no comparison with one that only reports
        alike = len({bool(point.reporting_seeds) for point in of}) == 1
        judged = sign_verdict(low, high, len(first.ranking.top_seeds)) if alike else "inconclusive"
        unlike = "" if alike else "; not all reported by trainings that did not choose: not compared"
        rule += "; else, with one supernet, and where only some points are reported by other trainings, inconclusive"
        found_so = Verdict(claim, source, space, rule, said + unlike, judged, numbers)
        verdicts.extend(enough([found_so], min(point.ranking.evaluated for point in of), "factors"))

    for claim, name, of in (
        ("pruning to the best lowers the correlation", "correlation", "agreement"),
        ("the advantage over random shrinks with pruning", "top-10 advantage", "advantages"),
    ):
        change, numbers = contrast((1, getattr(last.ranking, of)), (-1, getattr(first.ranking, of))), Numbers()
        said = f"{numbers.estimate('change', change)} from 1x to {numbers.say('factor', last.setting, 'd')}x"
        if of == "advantages":
            said += f", of {numbers.say('advantage at 1x', first.ranking.advantage, '+.2f')} points"
        elif last.any_judge is not None:
            by_any = last.any_judge - first.ranking.correlation
            said += f"; of any judge as good at 1x: {numbers.say('change of any judge', by_any, '+.2f')}"
        rule = (
            f"holds where the 95 % interval of ({name} at the largest factor - at 1x) is below 0, does not hold where "
            "it is above 0"
        )
        add(claim, "section 3, Figure 5 (NAS-Bench-101)", rule, change, -1, said, numbers, first, last)
    if at8 is not None and at8 is not last:
        left, numbers = contrast((1, at8.ranking.advantages), (-0.5, first.ranking.advantages)), Numbers()
        said = (
            f"{numbers.say('advantage at 8x', at8.ranking.advantage, '+.2f')} points at 8x, "
            f"{numbers.say('advantage at 1x', first.ranking.advantage, '+.2f')} at 1x: "
            f"{numbers.estimate('above half', left)} above half"
        )
        rule = (
            "holds where the 95 % interval of (top-10 advantage at 8x - half of that at 1x) is below 0, does not hold "
            "where it is above 0"
        )
        claim, source = "little advantage over random is left at 8x", "section 3, Figure 5 (NAS-Bench-201)"
        add(claim, source, rule, left, -1, said, numbers, first, at8)
        change, numbers = contrast((1, last.ranking.agreement), (-1, at8.ranking.agreement)), Numbers()
        said = f"{numbers.estimate('change', change)} from 8x to {numbers.say('factor', last.setting, 'd')}x"
        rule = (
            "holds where the 95 % interval of (correlation at the largest factor - at 8x) is above 0, does not hold "
            "where it is below 0"
        )
        claim, source = (
            "beyond 8x the correlation grows again",
            "section 3, Figure 5 (NAS-Bench-201: up to 0.6 at 128x)",
        )
        add(claim, source, rule, change, 1, said, numbers, at8, last)
    return verdicts


@click.command(cls=StudyCommand)
@study_options("capacity")
@click.option("--factor", "factors", type=click.IntRange(1), multiple=True, help="Prune factors; repeatable.")
def main(options: StudyOptions, factors: tuple[int, ...]) -> None:
    """Capacity of weight sharing on spaces pruned to their best architectures (Figure 5)."""
    usual = SIZES[options.scale]
    factors = tuple(sorted(set(factors))) or usual.factors
    architectures = options.architectures or usual.architectures
    jobs, settings = [], []
    for sample in space_samples(options, architectures, least=1 if options.spaces else ENOUGH):
        pruning = Pruning.of(sample.truth)
        for factor in factors:
            kept = pruning.best(factor)
            order = numpy_rng(0, "capacity", factor).permutation(len(kept))[:architectures]
            # at 1x the same sample as other studies, to share its scores
            reported = pruning.reported(sample.archs if factor == 1 else [kept[int(i)] for i in order])
            if len(reported.archs) <= K:
                left = counted(len(reported.archs), "architecture")
                click.echo(f"{sample.name}: left out {factor}x, which would keep {left}")
                continue
            if not reported.seeds:
                click.echo(
                    f"{sample.name}, {factor}x: the trainings that choose also report; there are no others of these"
                )
            jobs += [sub_space_job(options, sample, kept, reported.archs, seed) for seed in options.seeds]
            settings.append((sample, pruning, factor, len(kept), reported))
    if not settings:
        raise WsnasError(
            f"no factor of {', '.join(f'{factor}x' for factor in factors)} keeps more than {K} architectures of the "
            "ground truth; choose smaller ones with --factor"
        )
    scores, seeds_each = all_scores(jobs, options), len(options.seeds)
    panels: dict[str, tuple[SpaceSample, list[Point]]] = {}
    for i, (sample, pruning, factor, size, reported) in enumerate(settings):
        matrix = np.array(scores[i * seeds_each : (i + 1) * seeds_each])
        ranked = ranking_within(sample, reported.archs, reported.valid, reported.test, matrix, K)
        ceiling = pruning.ceiling(factor, reported.seeds)
        _, points = panels.setdefault(sample.name, (sample, []))
        whole = None  # the correlation at 1x, if it was reported alike
        if factor == 1:
            whole = ranked.correlation
        elif points and (points[0].setting, points[0].reporting_seeds) == (1, reported.seeds):
            whole = points[0].ranking.correlation
        points.append(
            Point(
                factor,
                f"{factor}x\n{size:,}",
                ranked,
                ceiling=None if ceiling is None else ceiling.ceiling,
                truth_agreement=None if ceiling is None else ceiling.agreement,
                architectures=size,
                reporting_seeds=reported.seeds,
                any_judge=None if whole is None else pruning.any_judge(whole, factor, reported.seeds),
            )
        )
    samples = [sample for sample, _ in panels.values()]
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, samples, factors=factors, architectures=architectures),
        rows=[row for space, (_, points) in panels.items() for row in csv_rows(space, "factor", points)],
        verdicts=[verdict for space, (_, points) in panels.items() for verdict in verdicts_of(space, judged(points))],
        results={space: [point.to_json("factor") for point in points] for space, (_, points) in panels.items()},
        title="Is weight sharing still effective on a space pruned to its best architectures?",
        answer=Answer(
            "pruning to the best lowers the correlation",
            "Pruning to the best lowers the correlation",
            "Pruning to the best raises the correlation",
            {space: said for space, (_, points) in panels.items() if (said := partly(judged(points)))},
        ),
        source="Figure 5, section 3",
        svg=options.svg,
        figure=ranking_figure(
            list(panels.values()),
            "prune factor, best architectures left",
            f"{options.about}, {counted(seeds_each, 'supernet')} a factor. The first seed of the ground truth prunes "
            "and picks, the others report, unless a panel says that they are the same. Any judge: a training, made as "
            "bad as the supernets at 1x by noise, which the pruning does not change",
            desk_rows(Path(__file__), options, [sample for sample, _ in panels.values()]),
        ),
    )


if __name__ == "__main__":
    main()
