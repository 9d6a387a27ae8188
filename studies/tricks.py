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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.metrics import Floats, correlation_matrix, percentiles, rank_bootstrap, spearman, top_k
from wsnas.recipe import change_recipe
from wsnas.recipe_options import RecipeCommand, chosen_recipe
from wsnas.studies.figures import (
    BLACK,
    BLUE,
    GREY,
    RED,
    STYLE,
    caption,
    counted,
    head,
    matrix_figure,
)
from wsnas.studies.jobs import Variant, scores_of
from wsnas.studies.options import StudyOptions, study_options
from wsnas.studies.rankings import finite
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample, space_samples
from wsnas.studies.verdicts import Verdict, sign_verdict

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


def variants(sample: SpaceSample, seeds: int, scale: str, dataset: str | None) -> list[Variant]:
    """The baseline first; each trick with the baseline's seeds; another seed last but for another data set."""
    numbers, paths, longest = tuple(range(seeds)), BUDGETS[scale].paths, sample.recipe.supernet.epochs
    recipe = change_recipe(sample.recipe, epochs=max(1, round(longest / BUDGETS[scale].shortened)))
    half = change_recipe(
        recipe, lr=recipe.supernet.optimizer.lr / 2, weight_decay=3e-4
    )  # as the paper: lr 0.1 -> 0.05, weight decay 1e-4 -> 3e-4 on NAS-Bench-101
    rule = half.supernet.optimizer
    found = [
        Variant("baseline", recipe, "uniform", numbers),
        Variant("FairNAS", recipe, "fair", numbers),
        Variant(f"multi-path ({paths})", recipe, f"multi:{paths}", numbers),
        Variant(f"lr {rule.lr:g}, decay {rule.weight_decay:g}", half, "uniform", numbers),
        Variant("another seed", recipe, "uniform", (seeds,)),
    ]
    if recipe != sample.recipe:
        found.insert(1, Variant(f"{longest} epochs, not {recipe.supernet.epochs}", sample.recipe, "uniform", numbers))
    dataset = dataset or OTHER.get(recipe.dataset)
    if dataset is not None:
        other = chosen_recipe(sample.space, scale, {"dataset": dataset})
        found.append(Variant(f"on {Path(dataset).stem}", replace(recipe, dataset=other.dataset), "uniform", numbers))
    return found


def tops_of(sample: SpaceSample, scores: Floats) -> list[float]:
    """The top-10 of each supernet. scores [seeds, n]."""
    return [top_k(one, sample.valid, sample.test, K) for one in scores]


def analyse(sample: SpaceSample, base: Floats, scores: Floats, label: str, noise: float | None) -> dict[str, Any]:
    """One row of Table 3. base, scores [seeds, n]. ``noise``: how far two seeds differ; None: there is one.

    A correlation's difference exceeds the seeds' where its interval is on one side of 0 and it is larger than
    ``noise``; a top-10's where every supernet's, of several, is beyond every one of the baseline's and it is larger
    than these differ.
    """
    difference = rank_bootstrap(scores, sample.test) - rank_bootstrap(base, sample.test)
    corr = float(np.mean([spearman(one, sample.test) for one in scores]))
    change = corr - float(np.mean([spearman(one, sample.test) for one in base]))
    low, high = percentiles(difference)
    tops, base_tops = tops_of(sample, scores), tops_of(sample, base)
    top_change = float(np.mean(tops) - np.mean(base_tops))
    apart = min(tops) > max(base_tops) or max(tops) < min(base_tops)
    return {
        "label": label,
        "corr_baseline": float(np.mean([spearman(one, other) for one in scores for other in base])),
        "corr_truth": corr,
        "corr_truth_seeds": [spearman(one, sample.test) for one in scores],
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


def every_supernet(sample: SpaceSample, wanted: list[Variant], ranked: dict[str, Floats]) -> dict[str, Any]:
    """Figure 7: names and mutual correlations of each supernet of each variant, parameter count and ground truth."""
    predictors = {
        v.label if v.label == "another seed" else f"{v.label}, {seed}": one
        for v in wanted
        for seed, one in zip(v.seeds, ranked[v.label], strict=True)
    }
    if len(np.unique(sample.parameters)) > 1:
        predictors["P"] = sample.parameters
    predictors["GT"] = sample.test
    return {"names": list(predictors), "matrix": correlation_matrix(list(predictors.values())).tolist()}


def verdicts_of(
    sample: SpaceSample, rows: list[dict[str, Any]], mutual: float | None, noise: float | None
) -> list[Verdict]:
    tricks = [row for row in rows if row["label"].startswith(("FairNAS", "multi-path"))]
    helped = [row["label"] for row in tricks if row["beyond_seeds"] and row["difference"] > 0]
    harmed = all(row["beyond_seeds"] and row["difference"] < 0 for row in tricks)
    gaps = [row["corr_baseline"] - row["corr_truth"] for row in rows]
    return [
        Verdict(
            "no trick is beneficial",
            "Appendix C, Table 3",
            sample.name,
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
            sample.name,
            "holds where every variant's correlation with the baseline is above its correlation with the ground "
            "truth, does not hold where none is; else, and with one seed, inconclusive",
            f"Corr-BL {min(r['corr_baseline'] for r in rows):.2f} to {max(r['corr_baseline'] for r in rows):.2f} "
            f"({'one seed' if mutual is None else f'two seeds {mutual:.2f}'}), Corr-GT "
            f"{min(r['corr_truth'] for r in rows):.2f} to {max(r['corr_truth'] for r in rows):.2f}",
            sign_verdict(min(gaps), max(gaps), 1 if mutual is None else 2),
        ),
    ]


def tricks_figure(panels: Sequence[Mapping[str, Any]], note: str) -> Figure:
    """Table 3: each variant's correlations and top-10, and their differences to the baseline's, drawn with intervals.

    A panel has ``rows``, the baseline first, and ``seed_noise`` and ``top_noise``: how far its seeds differ, or None.
    """
    with plt.rc_context(STYLE):
        figure: Figure
        longest = max(len(panel["rows"]) for panel in panels)
        figure, grid = plt.subplots(
            len(panels),
            3,
            figsize=(12, 0.9 + (0.9 + 0.34 * longest) * len(panels)),
            width_ratios=(1.5, 1.2, 1),
            squeeze=False,
            layout="constrained",
        )
        for (left, right, numbers), panel in zip(grid, panels, strict=True):
            rows, sign = panel["rows"], -1.0 if panel["space"].metric == "perplexity" else 1.0
            y = np.arange(len(rows))[::-1]
            for position, row in zip(y, rows, strict=True):
                cells = (
                    "–" if row["corr_baseline"] is None else f"{row['corr_baseline']:.2f}",
                    f"{row['corr_truth']:.2f}",
                )
                for at, text in zip((0.2, 0.55, 0.95), (*cells, f"{sign * row['top10']:.2f}"), strict=True):
                    numbers.text(at, position, text, ha="right", va="center")
                if row is rows[0]:
                    for axes in (left, right):
                        axes.plot(0, position, "o" if axes is left else "D", color=BLACK, mfc="white", ms=5, zorder=3)
                    continue
                colour, of_top = (
                    GREY if not row[beyond] else BLUE if row[difference] > 0 else RED
                    for beyond, difference in (("beyond_seeds", "difference"), ("top_beyond_seeds", "top_difference"))
                )
                left.plot([row["difference_low"], row["difference_high"]], [position] * 2, color=colour, lw=2)
                left.plot(row["difference"], position, "o", color=colour, ms=5)
                seeds = sign * (np.array(row["top10_seeds"]) - rows[0]["top10"])
                right.plot([seeds.min(), seeds.max()], [position] * 2, color=of_top, lw=2)
                right.plot(sign * row["top_difference"], position, "D", color=of_top, ms=4)
            for axes, noise in ((left, panel["seed_noise"]), (right, panel["top_noise"])):
                if noise is not None:
                    axes.axvspan(-noise, noise, color=GREY, alpha=0.15, lw=0)
            for axes in (left, right, numbers):
                axes.set_yticks(y, [row["label"] for row in rows] if axes is left else [""] * len(rows))
                axes.set_ylim(-0.6, len(rows) - 0.4)
                axes.grid(axis="y", visible=False)
            for axes in (left, right):
                axes.axvline(0, color=BLACK, lw=0.8)
            if sign < 0:
                right.invert_xaxis()  # right is better everywhere
            numbers.set_axis_off()
            numbers.set_xlim(0, 1)
            for at, text in zip((0.2, 0.55, 0.95), ("Corr-BL", "Corr-GT", "top-10"), strict=True):
                numbers.annotate(
                    text, (at, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points", ha="right"
                )
            head(left, panel, "correlation with ground truth (Corr-GT), minus the baseline's")
            head(right, None, "top-10, minus the baseline's" + (", perplexity" if sign < 0 else ", points"))
        caption(figure, f"Do tricks help? {note}")
        plt.close(figure)
        return figure


@click.command(cls=RecipeCommand)
@study_options("tricks")
@click.option(
    "--other-dataset",
    help="Also train on this data set. Default: faint-digits where the others train on digits, cifar10 for cifar100.",
)
def main(options: StudyOptions, other_dataset: str | None) -> None:
    """Training tricks and settings against the baseline (Table 3)."""
    number, budget = len(options.seeds), BUDGETS[options.scale]
    found = space_samples(options, budget.architectures, least=12 if options.spaces else ENOUGH)
    wanted = [(s, v) for s in found for v in variants(s, number, options.scale, other_dataset)]
    scores = scores_of(options, wanted)
    panels, verdicts, rows, results = [], [], [], {}
    for sample in found:
        mine = [v for s, v in wanted if s is sample]
        ranked = {v.label: finite(scores[sample.name, v.label]) for v in mine}
        base = ranked["baseline"]
        alone = [spearman(one, sample.test) for one in base]
        noise = max(alone) - min(alone) if number > 1 else None
        pairs = [spearman(base[i], base[j]) for i in range(number) for j in range(i)]
        lines = [analyse(sample, base, ranked[v.label], v.label, noise) for v in mine[1:]]
        mutual = float(np.mean(pairs)) if pairs else None
        verdicts += verdicts_of(sample, lines, mutual, noise)
        tops = tops_of(sample, base)
        baseline = {
            "label": "baseline",
            "corr_baseline": mutual,
            "corr_truth": float(np.mean(alone)),
            "corr_truth_seeds": alone,
            "top10": float(np.mean(tops)),
            "top10_seeds": tops,
        }
        found_here: dict[str, Any] = {
            "metric": sample.space.metric,
            "seed_noise": noise,
            "top_noise": max(tops) - min(tops) if number > 1 else None,
            "rows": [baseline, *lines],
            "supernets": every_supernet(sample, mine, ranked),
        }
        results[sample.name] = found_here
        panels.append({**sample.panel([]), **found_here, **found_here["supernets"]})
        rows += [
            {"space": sample.name, **{k: v for k, v in line.items() if not k.endswith("_seeds") or "beyond" in k}}
            for line in (baseline, *lines)
        ]
    write_results(
        options,
        settings=settings_of(options, found, epochs_divided_by=budget.shortened),
        rows=rows,
        verdicts=verdicts,
        results=results,
        title="Do training tricks change how a supernet ranks?",
        source="Table 3 and Figure 7, Appendix C",
        figure=tricks_figure(
            panels,
            f"{options.about}, {counted(number, 'supernet')} a row. Bars, left: 95 % bootstrap over architectures and "
            "supernets; right: from the lowest supernet to the highest. Grey band: how far two seeds of the baseline "
            "differ. Grey bars: within what seeds change; blue: better beyond that, red: worse. Corr-BL: correlation "
            "with the baseline, in its own row that of two seeds.",
        ),
        more={
            "matrix": matrix_figure(
                panels,
                "Spearman correlations of all trained supernets (by variant, seed), parameter count (P) and ground "
                f"truth (GT). {options.about}.",
                0.37,
            )
        },
    )


if __name__ == "__main__":
    main()
