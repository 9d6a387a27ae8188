"""Figure 2: does it help when fewer architectures share the weights?

For growing k a random 1/k of the architectures with a ground truth becomes the space. Supernets are
trained on it by uniform sampling inside it, and up to N of its architectures are scored. Only for spaces whose
ground truth is large enough to be downscaled.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from wsnas.errors import WsnasError
from wsnas.metrics import mean_of_predictors, noise_ceiling, percentiles
from wsnas.randomness import numpy_rng
from wsnas.recipe_options import RecipeCommand
from wsnas.studies.figures import counted, ranking_figure
from wsnas.studies.jobs import all_scores, sub_space_job
from wsnas.studies.options import StudyOptions, study_options
from wsnas.studies.rankings import ranking_within
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import random_archs, space_samples
from wsnas.studies.verdicts import Holds, Verdict, sign_verdict

K = 10  # of the top-k
ENOUGH = 500  # architectures with a ground truth
HARDLY = 0.05  # a correlation that is higher by less than this hardly is
BUDGETS = {"micro": ((1, 8, 64), 100), "paper": ((1, 2, 4, 8, 16, 32, 64), 1000)}  # factors, architectures scored


def verdicts_of(space: str, rows: list[dict[str, Any]]) -> list[Verdict]:
    """The paper: an improvement only at 64x on NAS-Bench-201, no trend on NAS-Bench-101."""
    first, last = rows[0], rows[-1]
    if first["factor"] != 1 or first is last:  # nothing to compare with
        return []
    supernets = len(first["correlation_seeds"])
    low, high = percentiles(last["bootstrap"] - first["bootstrap"])
    change = last["correlation"] - first["correlation"]
    measured = f"{change:+.2f} [{low:+.2f}, {high:+.2f}] from {first['factor']}x to {last['factor']}x"
    return [
        Verdict(
            "a random sub-space at the largest factor ranks better than the whole",
            "section 2, Figure 2 (NAS-Bench-201, 64x)",
            space,
            "holds where the 95 % bootstrap interval of (correlation at the largest factor - at 1x) is above 0",
            measured,
            sign_verdict(low, high, supernets),
        ),
        Verdict(
            "reducing the sharing density hardly helps",
            "section 2, Figure 2",
            space,
            "holds where, at every factor below the largest, the 95 % bootstrap interval of (correlation - at 1x) "
            f"ends below +{HARDLY}; does not hold where it is above 0 at every one; else inconclusive",
            ", ".join(f"{row['correlation']:.2f} at {row['factor']}x" for row in rows),
            hardly(rows) if supernets > 1 else "inconclusive",
        ),
    ]


def hardly(rows: list[dict[str, Any]]) -> Holds:
    gains = [percentiles(row["bootstrap"] - rows[0]["bootstrap"]) for row in rows[1:-1]]
    if not gains:
        return "inconclusive"
    if all(high < HARDLY for _, high in gains):
        return "holds"
    return "does not hold" if all(low > 0 for low, _ in gains) else "inconclusive"


@click.command(cls=RecipeCommand)
@study_options("density")
@click.option("--factor", "factors", type=click.IntRange(1), multiple=True, help="Downscaling factors; repeatable.")
def main(options: StudyOptions, factors: tuple[int, ...]) -> None:
    """Weight sharing on randomly downscaled spaces (Figure 2)."""
    factors = tuple(sorted(set(factors))) or BUDGETS[options.scale][0]
    count, number = options.architectures or BUDGETS[options.scale][1], len(options.seeds)
    found = space_samples(options, count, least=K + 1 if options.spaces else ENOUGH)
    jobs, slots = [], []
    for sample in found:
        archs = sample.truth.table.archs
        for factor in factors:
            if len(archs) / factor <= K:
                click.echo(f"{sample.name}: left out {factor}x, which would keep {len(archs) // factor} architectures")
                continue
            for seed in options.seeds:  # another sub-space for each supernet
                kept = random_archs(archs, factor, numpy_rng(seed, "density", factor))
                order = numpy_rng(seed, "density sample", factor).permutation(len(kept))[:count]
                scored = sample.archs if factor == 1 else tuple(kept[int(i)] for i in order)
                jobs.append(sub_space_job(options, sample, kept, scored, seed))
                slots.append((sample, factor, len(kept), scored))
    if not jobs:
        raise WsnasError("no factor leaves enough architectures of the ground truth; choose smaller ones with --factor")
    scores = all_scores(jobs, options)
    panels: list[dict[str, Any]] = []
    verdicts, rows = [], []
    for sample in found:
        lines = []
        for factor in factors:
            mine = [
                (slot, one) for slot, one in zip(slots, scores, strict=True) if slot[0] is sample and slot[1] == factor
            ]
            if not mine:
                continue
            parts, ceilings = [], []
            for (_, _, _, scored), one in mine:
                parts.append(ranking_within(sample, scored, [one], K, draws=factor))
                ceilings.append(noise_ceiling(sample.truth.seeds(scored)))
            drawn = mean_of_predictors([part["bootstrap"] for part in parts])
            low, high = percentiles(drawn)
            known = [one.ceiling for one in ceilings if one is not None]
            kept_count = mine[0][0][2]
            lines.append(
                {
                    "factor": factor,
                    "x": factor,
                    "tick": f"{factor}x\n{kept_count:,}",
                    "architectures": kept_count,
                    "evaluated": min(part["evaluated"] for part in parts),
                    "not_finite": sum(part["not_finite"] for part in parts),
                    "correlation": float(np.mean([part["correlation"] for part in parts])),
                    "correlation_low": low,
                    "correlation_high": high,
                    "correlation_seeds": [part["correlation"] for part in parts],
                    "top": float(np.mean([part["top"] for part in parts])),
                    "top_seeds": [part["top"] for part in parts],
                    "random_top": float(np.mean([part["random_top"] for part in parts])),
                    # three draws as everywhere, of several parts: at 1x these are one sample, which draws the same
                    "random_top_draws": [parts[i % len(parts)]["random_top_draws"][i] for i in range(3)],
                    "best": float(np.mean([part["best"] for part in parts])),
                    "ceiling": float(np.mean(known)) if known else None,
                    "bootstrap": drawn,
                }
            )
        if not lines:
            continue
        verdicts += verdicts_of(sample.name, lines)
        for line in lines:
            line.pop("bootstrap")
            rows += [
                {"space": sample.name, "factor": line["factor"], "seed": seed, "correlation": c, "top10": top}
                | {name: line[name] for name in ("random_top", "architectures", "evaluated", "ceiling", "best")}
                for seed, (c, top) in enumerate(zip(line["correlation_seeds"], line["top_seeds"], strict=True))
            ]
        panels.append(sample.panel(lines))
    write_results(
        options,
        settings=settings_of(options, [s for s in found if any(slot[0] is s for slot in slots)], factors=factors),
        rows=rows,
        verdicts=verdicts,
        results={panel["space"].name: panel["rows"] for panel in panels},
        title="Does it help when fewer architectures share the weights?",
        source="Figure 2, section 2",
        figure=ranking_figure(
            panels,
            "Does weight sharing rank better when fewer architectures share the weights?",
            "downscaling factor (kept at random), architectures left",
            f"{options.about}, {counted(number, 'supernet')} a factor, each of a sub-space of its own",
        ),
    )


if __name__ == "__main__":
    main()
