"""Figure 1, section 2: does longer training of the supernet rank better?

Several supernets are trained per budget, and each budget has twice the epochs of the last. For each budget: the
Spearman correlation with the ground truth, the top-1 and top-10 architectures' test results, and the exact
expectation for ten random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import click
import numpy as np

from wsnas.metrics import POOL, Floats, contrast, top_k
from wsnas.studies.figures import ranking_figure
from wsnas.studies.jobs import budgets_option, scores_by_budget
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import K, Point, csv_rows, finite, ranking, search_of
from wsnas.studies.results import desk_rows, settings_of, write_results
from wsnas.studies.sample import SpaceSample
from wsnas.studies.verdicts import FEWEST, Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted


def surpassed_budgets(points: Sequence[Point]) -> int:
    """How many budgets, from the shortest on, rank worse than the longest (95 % intervals); none for one supernet."""
    last = points[-1].ranking
    if len(last.correlation_seeds) < 2:
        return 0
    worse = (contrast((1, last.agreement), (-1, point.ranking.agreement)).low > 0 for point in points[:-1])
    return sum(1 for _ in takewhile(bool, worse))


def partly(points: Sequence[Point]) -> str | None:
    """What is certain where the claim on longer training is not: a sentence without its full stop."""
    surpassed = surpassed_budgets(points)
    if not surpassed or points[-1].ranking.evaluated < FEWEST:
        return None
    return f"The longest training ranks better than those of less than {points[surpassed].setting} epochs"


def verdicts_of(space: str, points: Sequence[Point]) -> list[Verdict]:
    """The paper's statements about longer training and about when weight sharing beats random search."""
    last, verdicts = points[-1].ranking, []
    alone = len(last.correlation_seeds) < 2  # one supernet has no spread: it decides nothing
    if len(points) > 1:
        gains = [((1, last.agreement), (-1, point.ranking.agreement)) for point in points[:-1]]
        leads = [] if alone else [contrast(*gain) for gain in gains]
        above_all = bool(leads) and all(lead.low > 0 for lead in leads)
        below_one = any(contrast(*gain, level=1 - 0.05 / len(gains)).high < 0 for gain in gains)
        best, numbers = max(points, key=lambda point: point.ranking.correlation), Numbers()
        measured = (
            f"best {numbers.say('best correlation', best.ranking.correlation)} at "
            f"{numbers.count('best epochs', best.setting, 'epoch')}, "
            f"{numbers.say('longest correlation', last.correlation)} at "
            f"{numbers.say('longest epochs', points[-1].setting, ',')}"
        )
        if leads:
            least, point = min(zip(leads, points[:-1], strict=True), key=lambda one: one[0].low)
            measured += (
                f"; its least certain lead, over {numbers.count('least epochs', point.setting, 'epoch')}, is "
                f"{numbers.estimate('least lead', least)}"
            )
        verdicts.append(
            Verdict(
                "a longer training does not guarantee a better ranking",
                "section 2, Figure 1",
                space,
                "does not hold where the longest budget's correlation is above every shorter one's (95 % intervals of "
                "the differences above 0); holds where some shorter budget's is above the longest's (the "
                "intervals corrected for how many there are); else, and with one supernet, inconclusive",
                measured,
                "inconclusive" if alone else "does not hold" if above_all else "holds" if below_one else "inconclusive",
                numbers,
            )
        )
    if last.correlation_low > 0.4:
        numbers, of_search = Numbers(), points[-1].search
        search = None if of_search is None else contrast((1, of_search))
        verdicts.append(
            Verdict(
                "where the correlation is above 0.4, top-10 clearly outperforms random search",
                "section 2, Figure 1",
                space,
                "asked where the interval of the longest budget's correlation is above 0.4; judged by small searches: "
                f"of {POOL} candidates, the best of the {POOL // 10} that the supernet scores highest against the best "
                f"of {POOL // 10} random ones, a mean over all choices of candidates: holds where the 95 % interval of "
                f"the gain is above 0, does not hold where it is below 0; else, with one supernet, and with fewer than "
                f"{2 * POOL} architectures, inconclusive",
                f"correlation {numbers.say('correlation', last.correlation)} "
                f"[{numbers.say('correlation_low', last.correlation_low)}, "
                f"{numbers.say('correlation_high', last.correlation_high)}], "
                + ("" if search is None else f"small searches gain {numbers.estimate('gain', search)}; ")
                + f"the best of the top-10 of all {numbers.say('advantage', last.advantage, '+.2f')} "
                f"[{numbers.say('advantage_low', last.advantage_low, '+.2f')}, "
                f"{numbers.say('advantage_high', last.advantage_high, '+.2f')}]",
                "inconclusive" if search is None else sign_verdict(search.low, search.high, len(last.top_seeds)),
                numbers,
            )
        )
    return verdicts


def point_of(sample: SpaceSample, epochs: int, scores: Floats, ceiling: float | None) -> Point:
    """Scores [supernets, n], higher is better."""
    ranked = ranking(scores, sample.valid, sample.test, K, sample.parameters)
    top1 = float(np.mean([top_k(one, sample.valid, sample.test, 1) for one in finite(scores)]))
    search = search_of(scores, sample.valid, sample.test)
    return Point(epochs, str(epochs), ranked, ceiling, top1=top1, search=search)


@click.command(cls=StudyCommand)
@study_options("epochs")
@budgets_option
def main(options: StudyOptions, count: int | None) -> None:
    """Ranking ability as the supernet's epochs double (Figure 1)."""
    panels: list[tuple[SpaceSample, list[Point]]] = []
    for sample, by_epochs in scores_by_budget(options, count):
        ceiling = sample.ceiling()
        panels.append((sample, [point_of(sample, epochs, scores, ceiling) for epochs, scores in by_epochs.items()]))
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, [sample for sample, _ in panels]),
        rows=[row for sample, points in panels for row in csv_rows(sample.name, "epochs", points)],
        verdicts=[
            verdict
            for sample, points in panels
            for verdict in enough(verdicts_of(sample.name, points), len(sample.archs))
        ],
        results={sample.name: [point.to_json("epochs") for point in points] for sample, points in panels},
        title="Does a longer training of the supernet rank better?",
        answer=Answer(
            "a longer training does not guarantee a better ranking",
            "A shorter training ranks better",
            "Longer training ranks better",
            {sample.name: said for sample, points in panels if (said := partly(points))},
        ),
        source="Figure 1, section 2",
        svg=options.svg,
        figure=ranking_figure(
            panels,
            "supernet epochs, one training for each budget",
            f"{options.about}, {counted(len(options.seeds), 'supernet')} a budget",
            desk_rows(Path(__file__), options, [sample for sample, _ in panels]),
        ),
    )


if __name__ == "__main__":
    main()
