"""Table 3 and Figure 7, Appendix C: do training tricks and other settings change how a supernet ranks?

Rows: the baseline, strict fairness, multi-path, another learning rate and weight decay, another seed and, where there
is one, another training data set (at the micro scale the same images, named by their weaker digit). Each with its
correlation with the baseline (Corr-BL), with the ground truth (Corr-GT) and its top-10, the differences to the
baseline, and whether a difference exceeds what a seed changes. A second picture has the mutual correlations of all
these supernets, the parameter count and the ground truth (Figure 7).

Every variant has the same epochs, as in the paper: FairNAS and multi-path cost as many times more as they train
paths a step. At the micro scale that is half of the recipe's epochs, the second longest budget of the study ``epochs``,
whose longest is one more row: what the baseline itself makes of twice the cost. Spaces of a small ground truth are
left out there: over 50 architectures no difference of the size that tricks make could be told from chance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from wsnas.cli import Command, chosen_recipe
from wsnas.figures import counted, matrix_figure, tricks_figure
from wsnas.metrics import Floats, correlation_matrix, percentiles, rank_bootstrap, spearman, top_k
from wsnas.space import change_recipe
from wsnas.study import (
    Asked,
    Subject,
    Variant,
    Verdict,
    finite,
    scores_of,
    sign_verdict,
    study_options,
    subjects,
    write_results,
)

K = 10  # of the top-k
OTHER = {"digits": "faint-digits", "cifar100": "cifar10"}  # by data set: the other one that is trained on
ENOUGH = 500  # architectures with a ground truth, for a space to be looked at without being asked for by name


@dataclass(frozen=True)
class Budget:
    """What is computed at a scale."""

    architectures: int  # scored a space
    shortened: int  # the recipe's epochs are divided by this
    paths: int  # a step of a multi-path supernet


BUDGETS = {"micro": Budget(100, shortened=2, paths=2), "paper": Budget(1000, shortened=1, paths=4)}


def variants(subject: Subject, seeds: int, scale: str, dataset: str | None) -> list[Variant]:
    """The baseline first; each trick with the baseline's seeds; another seed last but for another data set."""
    numbers, paths, longest = tuple(range(seeds)), BUDGETS[scale].paths, subject.recipe.supernet.epochs
    recipe = change_recipe(subject.recipe, epochs=max(1, round(longest / BUDGETS[scale].shortened)))
    half = replace(
        recipe, supernet=replace(recipe.supernet, lr=recipe.supernet.lr / 2, weight_decay=3e-4)
    )  # as the paper: lr 0.1 -> 0.05, weight decay 1e-4 -> 3e-4 on NAS-Bench-101
    found = [
        Variant("baseline", recipe, "uniform", numbers),
        Variant("FairNAS", recipe, "fair", numbers),
        Variant(f"multi-path ({paths})", recipe, f"multi:{paths}", numbers),
        Variant(f"lr {half.supernet.lr:g}, decay {half.supernet.weight_decay:g}", half, "uniform", numbers),
        Variant("another seed", recipe, "uniform", (seeds,)),
    ]
    if recipe != subject.recipe:
        found.insert(1, Variant(f"{longest} epochs, not {recipe.supernet.epochs}", subject.recipe, "uniform", numbers))
    dataset = dataset or OTHER.get(recipe.dataset)
    if dataset is not None:
        other = chosen_recipe(subject.space, scale, dataset=dataset)
        found.append(Variant(f"on {Path(dataset).stem}", replace(recipe, dataset=other.dataset), "uniform", numbers))
    return found


def tops_of(subject: Subject, scores: Floats) -> list[float]:
    """The top-10 of each supernet. scores [seeds, n]."""
    return [top_k(one, subject.valid, subject.test, K) for one in scores]


def analyse(subject: Subject, base: Floats, scores: Floats, label: str, noise: float | None) -> dict[str, Any]:
    """One row of Table 3. base, scores [seeds, n]. ``noise``: how far two seeds differ; None: there is one.

    A correlation's difference exceeds the seeds' where its interval is on one side of 0 and it is larger than
    ``noise``; a top-10's where every supernet's, of several, is beyond every one of the baseline's and it is larger
    than these differ.
    """
    difference = rank_bootstrap(scores, subject.test) - rank_bootstrap(base, subject.test)
    corr = float(np.mean([spearman(one, subject.test) for one in scores]))
    change = corr - float(np.mean([spearman(one, subject.test) for one in base]))
    low, high = percentiles(difference)
    tops, base_tops = tops_of(subject, scores), tops_of(subject, base)
    top_change = float(np.mean(tops) - np.mean(base_tops))
    apart = min(tops) > max(base_tops) or max(tops) < min(base_tops)
    return {
        "label": label,
        "corr_baseline": float(np.mean([spearman(one, other) for one in scores for other in base])),
        "corr_truth": corr,
        "corr_truth_seeds": [spearman(one, subject.test) for one in scores],
        "difference": change,
        "difference_low": low,
        "difference_high": high,
        "beyond_seeds": noise is not None and (low > 0 or high < 0) and abs(change) > noise,
        "top10": float(np.mean(tops)),
        "top10_seeds": tops,
        "top_difference": top_change,
        "top_beyond_seeds": noise is not None
        and len(tops) > 1
        and apart
        and abs(top_change) > max(base_tops) - min(base_tops),
    }


def every_supernet(subject: Subject, wanted: list[Variant], ranked: dict[str, Floats]) -> dict[str, Any]:
    """Figure 7: names and mutual correlations of each supernet of each variant, parameter count and ground truth."""
    judges = {
        v.label if v.label == "another seed" else f"{v.label}, {seed}": one
        for v in wanted
        for seed, one in zip(v.seeds, ranked[v.label], strict=True)
    }
    if len(np.unique(subject.parameters)) > 1:
        judges["P"] = subject.parameters
    judges["GT"] = subject.test
    return {"names": list(judges), "matrix": correlation_matrix(list(judges.values())).tolist()}


def verdicts_of(
    subject: Subject, rows: list[dict[str, Any]], mutual: float | None, noise: float | None
) -> list[Verdict]:
    tricks = [row for row in rows if row["label"].startswith(("FairNAS", "multi-path"))]
    helped = [row["label"] for row in tricks if row["beyond_seeds"] and row["difference"] > 0]
    harmed = all(row["beyond_seeds"] and row["difference"] < 0 for row in tricks)
    gaps = [row["corr_baseline"] - row["corr_truth"] for row in rows]
    return [
        Verdict(
            "no trick is beneficial",
            "Appendix C, Table 3",
            subject.name,
            "does not hold where FairNAS's or multi-path's difference in correlation has a 95 % interval above 0 and "
            "exceeds the largest difference between two seeds of the baseline; holds where both are below 0 in that "
            "sense, or where their intervals end below +0.05; else, and with one seed, inconclusive",
            ", ".join(
                f"{r['label']} {r['difference']:+.2f} [{r['difference_low']:+.2f}, {r['difference_high']:+.2f}]"
                for r in tricks
            )
            + ("; one seed" if noise is None else f"; seeds differ by up to {noise:.2f}"),
            "inconclusive"
            if noise is None
            else "does not hold"
            if helped
            else "holds"
            if harmed or all(row["difference_high"] < 0.05 for row in tricks)
            else "inconclusive",
        ),
        Verdict(
            "supernets trained in different ways agree with each other more than with the ground truth",
            "Appendix C, Table 3 and Figure 7",
            subject.name,
            "holds where every variant's correlation with the baseline is above its correlation with the ground "
            "truth, does not hold where none is; else, and with one seed, inconclusive",
            f"Corr-BL {min(r['corr_baseline'] for r in rows):.2f} to {max(r['corr_baseline'] for r in rows):.2f} "
            f"({'one seed' if mutual is None else f'two seeds {mutual:.2f}'}), Corr-GT "
            f"{min(r['corr_truth'] for r in rows):.2f} to {max(r['corr_truth'] for r in rows):.2f}",
            sign_verdict(min(gaps), max(gaps), 1 if mutual is None else 2),
        ),
    ]


@click.command(cls=Command)
@study_options("tricks")
@click.option(
    "--other-dataset",
    help="Also train on this data set. Default: faint-digits where the others train on digits, cifar10 for cifar100.",
)
def main(asked: Asked, other_dataset: str | None) -> None:
    """Training tricks and settings against the baseline (Table 3)."""
    number, budget = len(asked.seeds), BUDGETS[asked.scale]
    found = subjects(asked, budget.architectures, least=12 if asked.spaces else ENOUGH)
    wanted = [(s, v) for s in found for v in variants(s, number, asked.scale, other_dataset)]
    scores = scores_of(asked, wanted)
    panels, verdicts, rows, results = [], [], [], {}
    for subject in found:
        mine = [v for s, v in wanted if s is subject]
        ranked = {v.label: finite(scores[subject.name, v.label]) for v in mine}
        base = ranked["baseline"]
        alone = [spearman(one, subject.test) for one in base]
        noise = max(alone) - min(alone) if number > 1 else None
        pairs = [spearman(base[i], base[j]) for i in range(number) for j in range(i)]
        lines = [analyse(subject, base, ranked[v.label], v.label, noise) for v in mine[1:]]
        mutual = float(np.mean(pairs)) if pairs else None
        verdicts += verdicts_of(subject, lines, mutual, noise)
        tops = tops_of(subject, base)
        baseline = {
            "label": "baseline",
            "corr_baseline": mutual,
            "corr_truth": float(np.mean(alone)),
            "corr_truth_seeds": alone,
            "top10": float(np.mean(tops)),
            "top10_seeds": tops,
        }
        found_here: dict[str, Any] = {
            "metric": subject.space.metric,
            "seed_noise": noise,
            "top_noise": max(tops) - min(tops) if number > 1 else None,
            "rows": [baseline, *lines],
            "supernets": every_supernet(subject, mine, ranked),
        }
        results[subject.name] = found_here
        panels.append({**subject.panel([]), **found_here, **found_here["supernets"]})
        rows += [
            {"space": subject.name, **{k: v for k, v in line.items() if not k.endswith("_seeds") or "beyond" in k}}
            for line in (baseline, *lines)
        ]
    write_results(
        asked,
        settings=asked.settings(found, epochs_divided_by=budget.shortened),
        rows=rows,
        verdicts=verdicts,
        results=results,
        title="Do training tricks change how a supernet ranks?",
        source="Table 3 and Figure 7, Appendix C",
        figure=tricks_figure(
            panels,
            f"{asked.about}, {counted(number, 'supernet')} a row. Bars, left: 95 % bootstrap over architectures and "
            "supernets; right: from the lowest supernet to the highest. Grey band: how far two seeds of the baseline "
            "differ. Grey bars: within what seeds change; blue: better beyond that, red: worse. Corr-BL: correlation "
            "with the baseline, in its own row that of two seeds.",
        ),
        more={
            "matrix": matrix_figure(
                panels,
                "Spearman correlations of all trained supernets (by variant, seed), parameter count (P) and ground "
                f"truth (GT). {asked.about}.",
                0.37,
            )
        },
    )


if __name__ == "__main__":
    main()
