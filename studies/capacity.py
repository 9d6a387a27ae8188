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
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from wsnas.errors import WsnasError
from wsnas.metrics import POOL, Floats, Interval, contrast, higher_is_better
from wsnas.randomness import numpy_rng
from wsnas.studies.figures import ranking_figure
from wsnas.studies.jobs import Factors, SupernetJob, all_scores, sub_space_job
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.pruned import Pruning, Reported
from wsnas.studies.rankings import K, Point, csv_rows, judged, ranking_within, resampling_of, search_of
from wsnas.studies.results import desk_rows, settings_of, write_results
from wsnas.studies.sample import ENOUGH, SpaceSample, space_samples
from wsnas.studies.verdicts import FEWEST, Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted

BEYOND = 32  # two doublings after 8x: a growth that one doubling, of few architectures, could not show


SIZES = {
    "micro": Factors((1, 4, 8, 32), architectures=100),
    "desk": Factors((1, 2, 4, 8, 16, 32), architectures=1000),
    "paper": Factors((1, 2, 4, 8, 16, 32, 64, 128), architectures=1000),
}


@dataclass(frozen=True)
class Setting:
    """A space pruned by one factor, and the supernets to train within it."""

    sample: SpaceSample
    pruning: Pruning
    factor: int
    kept: int  # architectures
    reported: Reported  # those to rank
    jobs: tuple[SupernetJob, ...]

    def point(self, scores: Floats, part: tuple[NDArray[np.int64], int], whole: Point | None) -> Point:
        """Scores [supernets, architectures], as measured.

        ``part``: the rows of the architectures among all that any factor ranks; ``whole``: the point at 1x, if there
        is one.
        """
        sample, reported = self.sample, self.reported
        ranked = ranking_within(sample, reported.archs, reported.valid, reported.test, scores, K, part)
        higher, resampling = higher_is_better(scores, sample.space.metric), resampling_of(sample, reported.archs)
        ceiling = self.pruning.ceiling(self.factor, reported.seeds)
        at_whole = ranked.correlation if self.factor == 1 else None
        if whole is not None and whole.reporting_seeds == reported.seeds:
            at_whole = whole.ranking.correlation
        return Point(
            self.factor,
            f"{self.factor}x\n{self.kept:,}",
            ranked,
            ceiling=None if ceiling is None else ceiling.ceiling,
            truth_agreement=None if ceiling is None else ceiling.agreement,
            architectures=self.kept,
            reporting_seeds=reported.seeds,
            any_judge=None if at_whole is None else self.pruning.any_judge(at_whole, self.factor, reported.seeds),
            search=search_of(higher, reported.valid, reported.test, resampling),
        )


def partly(points: Sequence[Point]) -> str | None:
    """What is certain where the claim on all factors is not: a sentence without its full stop."""
    first, alike = points[0], alike_of(points)
    few = min(point.ranking.evaluated for point in points) < FEWEST or len(first.ranking.correlation_seeds) < 2
    for point in reversed(alike if first.setting == 1 and not few else []):
        # the intervals corrected for how many factors are asked
        change = contrast((1, point.ranking.agreement), (-1, first.ranking.agreement), level=1 - 0.05 / len(alike))
        if change.high < 0:
            best = "half" if point.setting == 2 else f"1/{point.setting}"
            return f"Pruning to the best {best} lowers the correlation"
    return None


def alike_of(points: Sequence[Point]) -> list[Point]:
    """The pruned points that are reported by as many trainings as 1x is.

    A training that chooses and reports flatters what it chose, and the mean of two trainings is easier to agree with
    than one: neither is compared.
    """
    return [point for point in points[1:] if point.reporting_seeds == points[0].reporting_seeds]


def verdicts_of(sample: SpaceSample, points: Sequence[Point]) -> list[Verdict]:
    """The paper's statements about pruning, by rules on intervals."""
    first = points[0]
    if first.setting != 1 or len(points) == 1:  # nothing to compare with
        return []
    unit = "points" if sample.space.metric == "accuracy" else "of perplexity"
    pruned, verdicts = alike_of(points), list[Verdict]()
    at8 = next((point for point in pruned if point.setting == 8), None)
    unlike = "" if len(pruned) == len(points) - 1 else "; not all factors are reported by as many trainings"

    def add(claim: str, source: str, rule: str, found: Interval, said: str, numbers: Numbers, *of: Point) -> None:
        rule += "; factors that are not reported by as many trainings as 1x do not count; else, and with one supernet, "
        judged = sign_verdict(found.low, found.high, len(first.ranking.top_seeds))
        verdict = Verdict(claim, source, sample.name, f"{rule}inconclusive", said + unlike, judged, numbers)
        verdicts.extend(enough([verdict], min(point.ranking.evaluated for point in of), "factors"))

    if pruned:
        each, numbers = [(1 / len(pruned), point.ranking.agreement) for point in pruned], Numbers()
        change = contrast(*each, (-1, first.ranking.agreement))
        said = (
            f"{numbers.estimate('change', change)} from 1x to the mean of "
            f"{numbers.count('factors', len(pruned), 'factor')} up to {numbers.say('factor', pruned[-1].setting, 'd')}x"
        )
        if all(point.any_judge is not None for point in pruned):
            by_any = float(np.mean([point.any_judge for point in pruned])) - first.ranking.correlation
            said += f"; of any judge as good at 1x: {numbers.say('change of any judge', by_any, '+.2f')}"
        rule = (
            "holds where the 95 % interval of (mean correlation over the pruned factors - correlation at 1x) is below "
            "0, does not hold where it is above 0; any ranking agrees less with fewer, more similar architectures, so "
            "this alone says nothing against weight sharing"
        )
        claim, source = "pruning to the best lowers the correlation", "section 3, Figure 5 (NAS-Bench-101)"
        add(claim, source, rule, change.flipped(), said, numbers, first, *pruned)
    searched = [(point, point.search) for point in pruned if point.search is not None]
    if searched and first.search is not None and (usual := contrast((1, first.search))).low > 0:
        asked = f"asked where small searches ({POOL} candidates) gain for certain at 1x: "
        (last, gains), numbers = searched[-1], Numbers()
        change = contrast((1, gains), (-1, first.search))
        said = (
            f"the gain of small searches changes by {numbers.estimate('change', change)} {unit} from 1x to "
            f"{numbers.say('factor', last.setting, 'd')}x; at 1x it is {numbers.estimate('gain at 1x', usual)}"
        )
        rule = (
            f"{asked}holds where the 95 % interval of (gain at the largest factor - at 1x) is below 0, does not hold "
            f"where it is above 0; factors that leave fewer than {2 * POOL} architectures do not count"
        )
        claim, source = "the advantage over random shrinks with pruning", "section 3, Figure 5 (NAS-Bench-101)"
        add(claim, source, rule, change.flipped(), said, numbers, first, last)
        if at8 is not None and at8.search is not None:
            left, numbers = contrast((1, at8.search), (-0.5, first.search)), Numbers()
            said = (
                f"small searches gain {numbers.estimate('gain at 8x', contrast((1, at8.search)))} {unit} at 8x, "
                f"{numbers.estimate('gain at 1x', usual)} at 1x: {numbers.estimate('above half', left)} above half"
            )
            rule = (
                f"{asked}holds where the 95 % interval of (gain at 8x - half of that at 1x) is below 0, does not hold "
                "where it is above 0"
            )
            claim, source = "little advantage over random is left at 8x", "section 3, Figure 5 (NAS-Bench-201)"
            add(claim, source, rule, left.flipped(), said, numbers, first, at8)
    if at8 is not None and pruned[-1].setting >= BEYOND:
        last, numbers = pruned[-1], Numbers()
        change = contrast((1, last.ranking.agreement), (-1, at8.ranking.agreement))
        said = f"{numbers.estimate('change', change)} from 8x to {numbers.say('factor', last.setting, 'd')}x"
        rule = (
            f"asked where a factor of {BEYOND} or more leaves enough architectures: holds where the 95 % interval of "
            "(correlation at the largest factor - at 8x) is above 0, does not hold where it is below 0"
        )
        claim = "beyond 8x the correlation grows again"
        source = "section 3, Figure 5 (NAS-Bench-201: up to 0.6 at 128x)"
        add(claim, source, rule, change, said, numbers, at8, last)
    return verdicts


@click.command(cls=StudyCommand)
@study_options("capacity")
@click.option("--factor", "factors", type=click.IntRange(1), multiple=True, help="Prune factors; repeatable.")
def main(options: StudyOptions, factors: tuple[int, ...]) -> None:
    """Capacity of weight sharing on spaces pruned to their best architectures (Figure 5)."""
    usual = SIZES[options.scale]
    factors = tuple(sorted(set(factors))) or usual.factors
    architectures = options.architectures or usual.architectures
    settings = list[Setting]()
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
            jobs = tuple(sub_space_job(options, sample, kept, reported.archs, seed) for seed in options.seeds)
            settings.append(Setting(sample, pruning, factor, len(kept), reported, jobs))
    if not settings:
        raise WsnasError(
            f"no factor of {', '.join(f'{factor}x' for factor in factors)} keeps more than {K} architectures of the "
            "ground truth; choose smaller ones with --factor"
        )
    scores = all_scores([job for one in settings for job in one.jobs], options)
    universes: dict[str, dict[Any, int]] = {}  # of a space: all that are ranked, which overlap, and their rows
    for one in settings:
        rows = universes.setdefault(one.sample.name, {})
        for arch in one.reported.archs:
            rows.setdefault(arch, len(rows))
    panels: dict[str, tuple[SpaceSample, list[Point]]] = {}
    for one in settings:
        rows = universes[one.sample.name]
        part = np.array([rows[arch] for arch in one.reported.archs]), len(rows)
        _, points = panels.setdefault(one.sample.name, (one.sample, []))
        whole = points[0] if points and points[0].setting == 1 else None
        points.append(one.point(np.array([scores[job] for job in one.jobs]), part, whole))
    samples = [sample for sample, _ in panels.values()]
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, samples, factors=factors, architectures=architectures),
        rows=[row for space, (_, points) in panels.items() for row in csv_rows(space, "factor", points)],
        verdicts=[verdict for sample, points in panels.values() for verdict in verdicts_of(sample, judged(points))],
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
            f"{options.about}, {counted(len(options.seeds), 'supernet')} a factor. The first seed of the ground truth "
            "prunes and picks, the others report, unless a panel says that they are the same. Any judge: a training, "
            "made as bad as the supernets at 1x by noise, which the pruning does not change",
            desk_rows(Path(__file__), options, samples),
        ),
    )


if __name__ == "__main__":
    main()
