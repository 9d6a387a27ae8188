"""Figure 4, section 2: towards which choices is weight sharing biased?

Every decision of an architecture (the operation of an edge, of a vertex, the activation of a node) groups the sample.
A choice's effect is how much higher supernets rank architectures that made it than the ground truth does, against
all that chose otherwise; tested by permutation, corrected over all choices (Holm). The largest is drawn. The scored
architectures are written down one by one, too: ``wsnas report`` makes a page of them to look around in.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np
from scipy import stats

from wsnas.cli import Command
from wsnas.errors import WsnasError
from wsnas.figures import counted, operators_figure
from wsnas.metrics import Floats, goodness
from wsnas.study import Asked, Subject, Variant, Verdict, finite, scores_of, study_options, subjects, write_results

ARCHITECTURES = {"micro": 200, "paper": 1000}
LEAST = 8  # architectures on either side of a choice
PERMUTATIONS = 20_000  # a smallest p of 5e-5, so that 200 choices corrected for each other still leave 0.01


def effects(subject: Subject, scores: Floats) -> list[dict[str, Any]]:
    """One row a choice that enough architectures made and did not make, strongest first. scores [n]."""
    n = len(scores)
    by_supernet, by_truth = stats.rankdata(scores) / n, stats.rankdata(subject.test) / n
    gap = by_supernet - by_truth  # above 0: ranked too high by the supernet
    made = [subject.space.decisions(subject.space.decode(arch)) for arch in subject.archs]
    shuffled = np.random.default_rng(0).permuted(np.tile(gap, (PERMUTATIONS, 1)), axis=1)
    found: list[dict[str, Any]] = []
    for decision in made[0]:
        values = np.array([one[decision] for one in made])
        for choice in np.unique(values):
            mine = values == choice
            if min(mine.sum(), n - mine.sum()) < LEAST:
                continue
            effect = gap[mine].mean() - gap[~mine].mean()
            weights = mine / mine.sum() - ~mine / (~mine).sum()
            as_large = int((np.abs(shuffled @ weights) >= abs(effect) - 1e-12).sum())
            interval = stats.ttest_ind(gap[mine], gap[~mine], equal_var=False).confidence_interval()  # Welch
            found.append(
                {
                    "decision": decision,
                    "choice": str(choice),
                    "architectures": int(mine.sum()),
                    "effect": float(effect),
                    "low": float(interval.low),
                    "high": float(interval.high),
                    "p": (as_large + 1) / (len(shuffled) + 1),
                    "preferred_by_supernet": float(by_supernet[mine].mean() - by_supernet[~mine].mean()),
                    "better_when_trained": float(by_truth[mine].mean() - by_truth[~mine].mean()),
                }
            )
    order = sorted(found, key=lambda row: row["p"])  # Holm: the i-th smallest p times the number of tests left
    highest = 0.0
    for i, row in enumerate(order):
        highest = max(highest, min(1.0, row["p"] * (len(order) - i)))
        row["p_corrected"] = highest
    return sorted(found, key=lambda row: (row["p_corrected"] >= 0.05, -abs(row["effect"])))


def points(subject: Subject, scores: Floats) -> list[dict[str, Any]]:
    """Each scored architecture: what was measured, and how it looks. scores [supernets, n], higher is better."""
    space = subject.space
    seeds, valid, test = (goodness(one, space.metric) for one in (scores, subject.valid, subject.test))  # as measured
    found = []
    for i, text in enumerate(subject.archs):
        arch = space.decode(text)
        found.append(
            {
                "arch": text,
                "supernet": seeds[:, i].mean(),
                "supernet_seeds": seeds[:, i],
                "valid": valid[i],
                "test": test[i],
                "parameters": int(subject.parameters[i]),
                "decisions": space.decisions(arch),
                "drawing": space.drawing(arch),
            }
        )
    return found


def verdicts_of(subject: Subject, rows: list[dict[str, Any]]) -> list[Verdict]:
    worst, biased = rows[0], [row for row in rows if row["p_corrected"] < 0.05]
    misled = [
        row for row in biased if row["effect"] > 0 and row["better_when_trained"] < 0 < row["preferred_by_supernet"]
    ]
    return [
        Verdict(
            "weight sharing is biased towards certain operators or connections",
            "section 2, Figure 4",
            subject.name,
            "holds where at least one choice's effect has a permutation p below 0.05 after Holm's correction over "
            "all choices; "
            "inconclusive otherwise (no bias found is not none)",
            f"{len(biased)} of {len(rows)} choices; largest: {worst['choice']} at {worst['decision']} "
            f"{worst['effect']:+.2f} [{worst['low']:+.2f}, {worst['high']:+.2f}]",
            "holds" if biased else "inconclusive",
        ),
        Verdict(
            "supernets prefer a choice that is worse when trained",
            "section 2, Figure 4 (conv3x3 from input to output on NAS-Bench-201, tanh on PTB)",
            subject.name,
            "holds where a biased choice is ranked above the others by the supernets and below them by the ground "
            "truth; "
            "inconclusive otherwise",
            "; ".join(f"{row['choice']} at {row['decision']}" for row in misled[:3]) or "none found",
            "holds" if misled else "inconclusive",
        ),
    ]


@click.command(cls=Command)
@study_options("operators")
@click.option("--decision", help="Draw this decision instead of the most biased, e.g. 'edge 0-3'.")
def main(asked: Asked, decision: str | None) -> None:
    """Choices that supernets rank too high or too low (Figure 4)."""
    found = subjects(asked, ARCHITECTURES[asked.scale], least=3 * LEAST, fewest=3 * LEAST)
    if decision is not None:
        for subject in found:
            there = subject.space.decisions(subject.space.decode(subject.archs[0]))
            if decision not in there:
                raise WsnasError(f"--decision '{decision}': {subject.name} has {', '.join(there)}; choose with --space")
    wanted = [(s, Variant(f"{s.recipe.supernet.epochs} epochs", s.recipe, "uniform", asked.seeds)) for s in found]
    scores = scores_of(asked, wanted)
    panels, verdicts, rows, results = [], [], [], {}
    for subject, variant in wanted:
        matrix = scores[subject.name, variant.label]
        ranks = np.mean([stats.rankdata(one) for one in finite(matrix)], axis=0)
        lines = effects(subject, ranks)
        if not lines:
            click.echo(f"{subject.name}: left out: no choice was made by at least {LEAST} of {len(subject.archs)}")
            continue
        drawn = next((line for line in lines if line["decision"] == decision), None if decision else lines[0])
        if drawn is None:
            raise WsnasError(
                f"{subject.name}: no choice at '{decision}' was made by at least {LEAST} of {len(subject.archs)} "
                "architectures; score more with --architectures"
            )
        made = [subject.space.decisions(subject.space.decode(arch))[drawn["decision"]] for arch in subject.archs]
        panels.append(
            {**subject.panel([]), "subject": subject, "scores": matrix.mean(0), "choices": made, "worst": drawn}
        )
        verdicts += verdicts_of(subject, lines)
        results[subject.name] = {
            "metric": subject.space.metric,
            "choices": lines,
            "architectures": points(subject, matrix),
        }
        rows += [{"space": subject.name, **line} for line in lines]
    if not panels:
        raise WsnasError("no space is left to look at; score more with --architectures: the supernets are kept")
    write_results(
        asked,
        settings=asked.settings([panel["subject"] for panel in panels]),
        rows=rows,
        verdicts=verdicts,
        results=results,
        title="Towards which choices is weight sharing biased?",
        source="Figure 4, section 2",
        figure=operators_figure(panels, f"{asked.about}, mean of {counted(len(asked.seeds), 'supernet')}."),
    )


if __name__ == "__main__":
    main()
