"""Figure 1, section 2: does longer training of the supernet rank better?

One supernet is trained for each budget, epochs doubling. For each: the Spearman correlation with the ground truth,
the top-1 and top-10 architectures' test results, and the exact expectation of ten random ones.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from wsnas.metrics import Floats, top_k
from wsnas.recipe_options import RecipeCommand
from wsnas.studies.figures import counted, ranking_figure
from wsnas.studies.jobs import budgets_option, scores_by_budget
from wsnas.studies.options import StudyOptions, study_options
from wsnas.studies.rankings import finite, ranking
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.verdicts import Verdict

K = 10  # of the top-k


def verdicts_of(space: str, rows: list[dict[str, Any]]) -> list[Verdict]:
    """The paper's statements about longer training and about when weight sharing beats random search."""
    last, verdicts = rows[-1], []
    alone = len(last["correlation_seeds"]) < 2  # one supernet has no spread: it decides nothing
    if len(rows) > 1:
        gains = [last["bootstrap"] - row["bootstrap"] for row in rows[:-1]]
        above_all = all(np.quantile(gain, 0.025) > 0 for gain in gains)
        below_one = any(np.quantile(gain, 1 - 0.025 / len(gains)) < 0 for gain in gains)
        best = max(rows, key=lambda row: row["correlation"])
        verdicts.append(
            Verdict(
                "a longer training does not guarantee a better ranking",
                "section 2, Figure 1",
                space,
                "does not hold where the longest budget's correlation is above every shorter one's (95 % bootstrap "
                "intervals of the differences above 0); holds where some shorter budget's is above the longest's (the "
                "intervals corrected for how many there are); else, and with one supernet, inconclusive",
                f"best {best['correlation']:.2f} at {best['epochs']} epochs, {last['correlation']:.2f} at "
                f"{last['epochs']}",
                "inconclusive" if alone else "does not hold" if above_all else "holds" if below_one else "inconclusive",
            )
        )
    advantages = [top - last["random_top"] for top in last["top_seeds"]]
    above = last["correlation_low"] > 0.4
    verdicts.append(
        Verdict(
            "where the correlation is above 0.4, top-10 clearly outperforms random search",
            "section 2, Figure 1",
            space,
            "asked where the interval of the longest budget's correlation is above 0.4: holds where every supernet's "
            "top-10 is above the expected random top-10, does not hold where none is; else, and with one supernet, "
            "inconclusive",
            f"correlation {last['correlation']:.2f} [{last['correlation_low']:.2f}, {last['correlation_high']:.2f}], "
            f"advantages {min(advantages):+.2f} to {max(advantages):+.2f}",
            "inconclusive"
            if alone or not above or min(advantages) <= 0 < max(advantages)
            else "holds"
            if min(advantages) > 0
            else "does not hold",
        )
    )
    return verdicts


def analyse(scores: Floats, sample: Any, epochs: int) -> dict[str, Any]:
    row = {"epochs": epochs, "x": epochs, "tick": str(epochs)}
    row |= ranking(scores, sample.valid, sample.test, K, sample.parameters, draws=epochs)
    row["top1"] = float(np.mean([top_k(one, sample.valid, sample.test, 1) for one in finite(scores)]))
    return row


@click.command(cls=RecipeCommand)
@study_options("epochs")
@budgets_option
def main(options: StudyOptions, count: int | None) -> None:
    """Ranking ability as the supernet's epochs double (Figure 1)."""
    found = scores_by_budget(options, count)
    panels: list[dict[str, Any]] = []
    verdicts, rows = [], []
    for sample, of_budgets in found:
        ceiling = sample.ceiling()
        lines = []
        for epochs, scores in of_budgets.items():
            row = analyse(scores, sample, epochs)
            lines.append({**row, "ceiling": None if ceiling is None else ceiling.ceiling})
        verdicts += verdicts_of(sample.name, lines)
        for line in lines:
            line.pop("bootstrap")
            rows += [
                {"space": sample.name, "epochs": line["epochs"], "seed": seed, "correlation": c, "top10": top}
                | {name: line[name] for name in ("top1", "random_top", "best", "ceiling", "evaluated")}
                for seed, c, top in zip(options.seeds, line["correlation_seeds"], line["top_seeds"], strict=True)
            ]
        panels.append(sample.panel(lines))
    write_results(
        options,
        settings=settings_of(options, [sample for sample, _ in found]),
        rows=rows,
        verdicts=verdicts,
        results={panel["space"].name: panel["rows"] for panel in panels},
        title="Does a longer training of the supernet rank better?",
        source="Figure 1, section 2",
        figure=ranking_figure(
            panels,
            "Does a longer training of the supernet rank better?",
            "supernet epochs, one training for each budget",
            f"{options.about}, {counted(len(options.seeds), 'supernet')} a budget",
            [("top1", "top-1 by supernet")],
        ),
    )


if __name__ == "__main__":
    main()
