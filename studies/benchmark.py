"""Figure 6, Appendix B: trains architectures from scratch and publishes them as a benchmark.

A uniform sample is trained with several seeds and published (tables, curves, data card). For networks of
different sizes: accuracy against parameters, multiply-adds and latency; for recurrent cells, which all have one
size: validation against test perplexity. Where the space ships a ground truth of the same recipe, the same
architectures are looked up in it: a training that is run again must give what is published.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from wsnas.benchmark import publish
from wsnas.cli import Command, progress, standalone_recipe
from wsnas.errors import WsnasError
from wsnas.figures import benchmark_figure, counted
from wsnas.ground_truth import load_ground_truth, measure_latencies, train_many
from wsnas.metrics import correlation, goodness, noise_ceiling
from wsnas.randomness import numpy_rng
from wsnas.runs import Run
from wsnas.space import SearchSpace, digest, sample_candidates
from wsnas.study import Asked, Verdict, chosen_spaces, sign_verdict, study_options, write_results
from wsnas.table import Table

ARCHITECTURES = {"micro": 6, "paper": 100}  # trained a space; the paper: 377, 36 and 137


def shipped_truth(space: SearchSpace[Any], table: Table) -> Table | None:
    """The ground truth that ships with the space, where it is of the same recipe."""
    try:
        shipped = load_ground_truth(space)
    except WsnasError:
        return None
    return shipped if shipped.about.get("recipe") == table.about["recipe"] else None


def same_training(table: Table, shipped: Table | None, dataset: str) -> dict[str, Any] | None:
    """How this run's trainings compare with the shipped table's of the same architectures and seeds."""
    if shipped is None:
        return None
    shared = [arch for arch in table.archs if arch in shipped.row]
    if not shared:
        return None
    ours, theirs = (one.select(shared).seeds(dataset, "test") for one in (table, shipped))
    seeds = min(ours.shape[1], theirs.shape[1])
    difference = np.abs(ours[:, :seeds] - theirs[:, :seeds])
    return {
        "trainings": int(np.isfinite(difference).sum()),
        "identical": int((difference < 1e-3).sum()),
        "largest_difference": float(np.nanmax(difference)),
    }


def analyse(table: Table, shipped: Table | None, space: SearchSpace[Any], dataset: str) -> dict[str, Any]:
    """The benchmark's numbers: spread, agreement of seeds, and what predicts the test result."""
    values = table.seeds(dataset, "test")
    valid, test = (goodness(table.mean(dataset, split), space.metric) for split in ("valid", "test"))
    known = np.isfinite(valid) & np.isfinite(test)
    if not known.any():
        raise WsnasError(
            f"{space.name}: no architecture has a result (trainings: {table.about['status']}); mend the cause and "
            "train them again with --fresh"
        )
    ceiling = noise_ceiling(values[np.isfinite(values).all(1)])
    predictors = {"validation": valid, "parameters": table.parameters, "flops": table.flops, "latency": table.latency}
    varied = {name: v for name, v in predictors.items() if v is not None and len(np.unique(v[known])) > 1}
    return {
        "architectures": len(table),
        "without_result": int((~known).sum()),
        "status": table.about["status"],
        "test": {"lowest": np.nanmin(values), "median": np.nanmedian(values), "highest": np.nanmax(values)},
        "two_seeds_agree": None if ceiling is None else ceiling.agreement,
        "reliability": None if ceiling is None else ceiling.reliability,
        "correlation_with_test": {name: correlation(v[known], test[known]) for name, v in varied.items()},
        "trained_again": same_training(table, shipped, dataset),
    }


def verdicts_of(space: SearchSpace[Any], results: dict[str, Any]) -> list[Verdict]:
    found = results["correlation_with_test"]
    name, claim, source = ("parameters", "larger architectures reach more when trained", "section 2, Figures 3 and 6")
    if space.metric == "perplexity":
        name, claim, source = (
            "validation",
            "validation perplexity ranks as test perplexity does",
            "Appendix B, Figure 6",
        )
    if name not in found:
        return []
    rule = f"holds where the 95 % bootstrap interval of the correlation of {name} with the test result is above 0"
    return [Verdict(claim, source, space.name, rule, str(found[name]), sign_verdict(found[name].low, found[name].high))]


@click.command(cls=Command)
@study_options("benchmark")
def main(asked: Asked) -> None:
    """Train a sample of each space from scratch and publish it as a benchmark (Figure 6)."""
    if asked.table is not None:
        raise WsnasError("this study trains its own table; to look at yours: wsnas table show SPACE --table FILE")
    count, scale = asked.architectures or ARCHITECTURES[asked.scale], asked.scale
    panels, rows, verdicts, results = [], [], [], {}
    for space in chosen_spaces(asked.spaces):
        chosen = standalone_recipe(space, scale, **asked.recipe)
        archs = sample_candidates(space, chosen, min(count, space.size), numpy_rng(0, "ground truth"))
        run = asked.out.parent / "ground-truth" / f"{space.name}-{digest(chosen.identity())}"
        if not asked.resume:
            Run.remove(run)
        with progress(f"{space.name} ground truth") as report:
            trained = train_many(space, archs, run, chosen, seeds=asked.seeds, executor=asked.executor, report=report)
        trained = measure_latencies(space, trained, run, chosen)
        for line in publish(space, trained, run):
            click.echo(f"{space.name}: {line}")
        shipped = shipped_truth(space, trained)
        found = analyse(trained, shipped, space, chosen.dataset)
        panels.append({"space": space, "recipe": chosen, "table": trained, "shipped": shipped, "results": found})
        verdicts += verdicts_of(space, found)
        results[space.name] = found
        values = trained.seeds(chosen.dataset, "test")
        rows += [
            {"space": space.name, "arch": arch, "seed": seed, "test": values[i, seed]}
            | {name: getattr(trained, name)[i] for name in ("parameters", "flops", "latency")}
            for i, arch in enumerate(trained.archs)
            for seed in asked.seeds
        ]
    settings = {"scale": scale, "architectures": count, "seeds": len(asked.seeds)}
    settings |= {panel["space"].name: panel["recipe"].to_json() for panel in panels}
    write_results(
        asked,
        settings=settings,
        rows=rows,
        verdicts=verdicts,
        results=results,
        title="What do architectures reach when they are trained from scratch?",
        source="Figure 6, Appendix B",
        figure=benchmark_figure(panels, f"{asked.about}, {counted(len(asked.seeds), 'seed')}"),
    )


if __name__ == "__main__":
    main()
