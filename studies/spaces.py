"""Table 1 and Appendix A.1: how large the spaces are, and how far apart their smallest and largest networks.

A space that can be enumerated is counted whole: valid architectures, the benchmark's own isomorphism
classes, distinct trained functions, exact parameters and multiply-adds at the paper's size. Of the others,
parameters and multiply-adds come from a uniform sample.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from wsnas.cli import Command, progress
from wsnas.figures import spaces_figure
from wsnas.randomness import numpy_rng
from wsnas.space import sample_distinct
from wsnas.study import Asked, Verdict, chosen_spaces, study_options, write_results

# What the paper prints: size (Table 1), distinct cells (A.1), parameters in millions (section 2).
PAPER: dict[str, dict[str, Any]] = {
    "nb101": {"size": "95985", "classes": 42228, "parameters": (1, 13)},
    "nb201": {"size": "15284", "parameters": (0.1, 1.3)},
    "darts_cnn": {"size": "2.76e+20"},
    "proxyless": {"size": "2.22e+17"},
    "darts_rnn": {"size": "2.64e+09"},
}


def summary(space: Any, sample: int) -> dict[str, Any]:
    """One row of Table 1. Parameters and multiply-adds: lowest, quartiles, highest, as plain counts."""
    recipe = space.recipes["paper"]
    whole = space.size <= 200_000
    archs = list(space) if whole else sample_distinct(space, sample, numpy_rng(0, "spaces"))
    counts = [space.parameters(arch, recipe) for arch in archs]
    macs = [space.macs(arch, recipe) for arch in archs]
    quantiles = (0, 0.25, 0.5, 0.75, 1)
    return {
        "space": space.name,
        "size": space.size,
        "counted": len(archs) if whole else None,
        "classes": len({space.canonical(arch) for arch in archs}) if whole else None,
        "functions": len({space.training_key(arch) for arch in archs}) if whole else None,
        "looked_at": len(archs),
        "dataset": recipe.dataset,
        "parameters": [float(q) for q in np.quantile(counts, quantiles)],
        "macs": [float(q) for q in np.quantile(macs, quantiles)],
    }


def verdicts_of(row: dict[str, Any]) -> list[Verdict]:
    printed = PAPER.get(row["space"], {})
    found = []

    def add(claim: str, source: str, rule: str, measured: str, holds: bool) -> None:
        found.append(Verdict(claim, source, row["space"], rule, measured, "holds" if holds else "does not hold"))

    if "size" in printed:
        text = printed["size"]
        exact = row["size"] if row["counted"] is None else row["counted"]
        same = f"{exact:.2e}" == text if "e" in text else str(exact) == text
        rule = "holds where our exact count, rounded as printed, is the printed number"
        add("the space is as large as printed", "Table 1", rule, f"{exact:,}; printed {text}", same)
    if "classes" in printed and row["classes"] is not None:
        same = row["classes"] == printed["classes"]
        add(
            "as many cells are distinct as printed",
            "A.1",
            "holds where our count is equal",
            f"{row['classes']:,}; printed {printed['classes']}",
            same,
        )
    if "parameters" in printed:
        low, high = printed["parameters"]
        least, most = row["parameters"][0] / 1e6, row["parameters"][-1] / 1e6
        digits = 1 if isinstance(low, float) else 0
        same = (round(least, digits), round(most, digits)) == (low, high)
        rule = "holds where the exact range, rounded as printed, is the printed range"
        measured = f"{least:.3f} M to {most:.3f} M; printed {low} M to {high} M"
        add("the smallest and largest networks are as large as printed", "section 2", rule, measured, same)
    return found


@click.command(cls=Command)
@study_options("spaces")
@click.option("--sample", type=click.IntRange(10), default=1000, show_default=True, help="Of spaces too large.")
def main(asked: Asked, sample: int) -> None:
    """Sizes, duplicates, parameter and multiply-add ranges of the installed spaces at the paper's size (Table 1)."""
    rows = []
    spaces = chosen_spaces(asked.spaces)
    with progress("spaces") as report:
        for done, space in enumerate(spaces, start=1):
            rows.append(summary(space, sample))
            report(done, len(spaces), space.name)
    flat = [
        {name: value for name, value in row.items() if not isinstance(value, list)}
        | {
            f"{name}_{part}": row[name][i]
            for name in ("parameters", "macs")
            for i, part in ((0, "min"), (2, "median"), (4, "max"))
        }
        for row in rows
    ]
    for row in rows:
        counted = f"{row['classes']} classes, {row['functions']} distinct functions"
        sampled = f"too many to count classes; of {row['looked_at']} sampled"
        least, most = row["parameters"][0] / 1e6, row["parameters"][-1] / 1e6
        click.echo(
            f"{row['space']}: {row['size']:,} valid, {counted if row['counted'] else sampled}, "
            f"{least:.3f} M to {most:.3f} M parameters"
        )
    write_results(
        asked,
        settings={"scale": asked.scale, "sample": sample},
        rows=flat,
        verdicts=[verdict for row in rows for verdict in verdicts_of(row)],
        results={row["space"]: row for row in rows},
        title="How large are the spaces, and how far apart their networks?",
        source="Table 1, Appendix A.1",
        figure=spaces_figure(rows),
    )


if __name__ == "__main__":
    main()
