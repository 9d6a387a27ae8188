"""Ground truth: what an architecture reaches when it is trained on its own.

The loop, the images and the checkpoints are the supernet's (training.py); only the network and its
``Recipe.standalone`` training differ.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsnas.calibration import calibrate
from wsnas.devices import choose_device, place
from wsnas.errors import Diverged, WsnasError
from wsnas.executor import run_jobs
from wsnas.images import Splits
from wsnas.metrics import Interval, correlation
from wsnas.randomness import torch_seeded
from wsnas.runs import Run, environment
from wsnas.space import Recipe, SearchSpace, load_space
from wsnas.table import Column, Table, import_home
from wsnas.training import Report, train


def standalone_part(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides a stand-alone training: the identity of such a run."""
    other = {"supernet", "evaluation_batch", "valid_images"}
    return {name: value for name, value in recipe.identity().items() if name not in other}


@dataclass(frozen=True)
class Trained:
    """One stand-alone training. Accuracies in percent; ``half_valid`` after half of the epochs."""

    valid: float
    test: float
    half_valid: float
    seconds: float
    status: str = "ok"  # or "diverged"


def train_architecture(
    space: SearchSpace[Any],
    arch: Any,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    out: Path | str | None = None,
    device: str | None = None,
    splits: Splits | None = None,
    report: Report | None = None,
) -> Trained:
    """Trains one architecture from scratch and scores it on all validation and test images.

    ``arch``: the architecture or its encoding. With ``out`` the training is a run directory: it
    checkpoints and resumes. ``splits``: the recipe's data, when it is already on the device. Raises
    Diverged where the loss is not finite.
    """
    arch = space.decode(arch) if isinstance(arch, str) else arch
    recipe = space.recipes["micro"] if recipe is None else recipe
    chosen = choose_device(device)
    splits = space.loaders(recipe, chosen) if splits is None else splits
    with torch_seeded(seed, "init"):
        network = place(space.network(arch, recipe), chosen)
    training = recipe.standalone
    started = time.perf_counter()
    half = math.nan

    def on_epoch(done: int) -> None:
        nonlocal half
        if done == training.epochs // 2:
            half, _ = splits.valid.score(network, arch, recipe.evaluation_batch)
            network.train()
            if run is not None:
                run.record("half", "valid", {"accuracy": half})

    run = None
    if out is not None:
        identity = {"kind": "stand-alone", "space": space.name, "arch": space.encode(arch)}
        run = Run.open(Path(out), {**identity, "recipe": standalone_part(recipe), "seed": seed}, recipe.to_json())
        half = run.records("half").get("valid", {}).get("accuracy", math.nan)

    def work() -> None:
        train(
            network,
            splits.train,
            training,
            lambda step: [(arch, 1.0)],
            seed=seed,
            run=run,
            captured=chosen.type == "cuda",
            validate=lambda: splits.valid.score(network, arch, recipe.evaluation_batch)[1],
            on_epoch=on_epoch,
            report=report,
        )

    if run is None:
        work()
    else:
        with run.writing(), run.sitting(chosen):
            work()
    if training.average:  # the running statistics are those of the weights before they were averaged
        images = recipe.calibration_batch * recipe.calibration_steps
        calibrate(network, arch, (x for x, _ in splits.train.ordered(recipe.calibration_batch, images)))
    valid, test = (part.score(network, arch, recipe.evaluation_batch)[0] for part in (splits.valid, splits.test))
    trained = Trained(valid, test, half, seconds=time.perf_counter() - started)
    if run is not None:
        run.record("training", space.encode(arch), asdict(trained))
    return trained


@lru_cache(maxsize=1)
def splits_once(space: str, recipe: Recipe, device: torch.device) -> Splits:
    """The recipe's data; a worker, which trains many networks on the same images, loads them once."""
    return load_space(space).loaders(recipe, device)


def _train_job(job: tuple[str, Recipe, str, int]) -> Trained:
    name, recipe, arch, seed = job
    splits = splits_once(name, recipe, choose_device())
    try:
        return train_architecture(load_space(name), arch, recipe, seed=seed, splits=splits)
    except Diverged:
        return Trained(math.nan, math.nan, math.nan, math.nan, "diverged")


def train_many(
    space: SearchSpace[Any],
    archs: Sequence[Any],
    out: Path,
    recipe: Recipe | None = None,
    *,
    seeds: Iterable[int] = (0, 1, 2),
    workers: int | None = None,
    report: Report | None = None,
) -> Table:
    """Trains every architecture with every seed into the run ``out`` and returns the table.

    Architectures of one ``training_key`` are the same function: the first of them is trained, for all.
    Rows are committed as they come; a second call trains only what is missing.
    """
    recipe = space.recipes["micro"] if recipe is None else recipe
    seeds = tuple(seeds)
    run = Run.open(
        out, {"kind": "ground truth", "space": space.name, "recipe": standalone_part(recipe)}, recipe.to_json()
    )
    first: dict[str, str] = {}  # training key -> the architecture that is trained for it
    for arch in archs:
        first.setdefault(space.training_key(arch), space.encode(arch))
    with run.writing():
        rows = run.records("training")
        wanted = {(arch, seed): f"{key}@{seed}" for key, arch in first.items() for seed in seeds}
        jobs = [(space.name, recipe, *job) for job, name in wanted.items() if name not in rows]
        done = len(wanted) - len(jobs)
        for (_, _, arch, seed), result in run_jobs(_train_job, jobs, workers):
            if isinstance(result, WsnasError):
                raise result
            row: dict[str, Any] = {"arch": arch}
            if isinstance(result, BaseException):
                run.record("training", wanted[arch, seed], row | {"error": repr(result)}, "failed")
            else:
                row |= {name: None if value != value else value for name, value in asdict(result).items()}
                run.record("training", wanted[arch, seed], row, result.status)
            done += 1
            if report is not None:
                report(done, len(wanted), "trainings")
    return table_of(space, archs, run, recipe, seeds)


def table_of(space: SearchSpace[Any], archs: Sequence[Any], run: Run, recipe: Recipe, seeds: Sequence[int]) -> Table:
    """The ground-truth table of the trainings that a run holds; what is missing or failed is NaN."""
    rows = run.records("training")
    names = [space.training_key(arch) for arch in archs]
    epochs = recipe.standalone.epochs
    columns: dict[Column, Any] = {}
    for seed in seeds:
        found = [rows.get(f"{name}@{seed}", {}) for name in names]
        for field, split, budget in (
            ("valid", "valid", epochs),
            ("test", "test", epochs),
            ("half_valid", "valid", epochs // 2),
        ):
            values = [np.nan if row.get(field) is None else row[field] for row in found]
            columns[Column(recipe.dataset, split, budget, seed)] = np.array(values, dtype=np.float64)
    failed = np.array([any(rows.get(f"{n}@{s}", {}).get("status", "ok") != "ok" for s in seeds) for n in names])
    return Table(
        space.name,
        tuple(space.encode(arch) for arch in archs),
        columns,
        np.array([space.parameters(arch, recipe) for arch in archs], dtype=np.int64),
        np.array([2e-6 * space.macs(arch, recipe) for arch in archs], dtype=np.float64),
        failed,
        {
            "source": "trained by wsnas",
            "recipe": json.dumps(standalone_part(recipe), sort_keys=True),
            "seeds": ", ".join(map(str, seeds)),
            "trainings": f"{len(rows)}, one a training key and seed",
            "environment": json.dumps(environment(), sort_keys=True),
        },
    )


def load_ground_truth(space: SearchSpace[Any], dataset: str | None = None, table: Path | str | None = None) -> Table:
    """The space's ground truth: the file ``table``, or the shipped micro table, or an imported official one.

    ``dataset`` chooses between the last two; by default the micro recipe's. Raises WsnasError, naming the
    command that helps, where there is none.
    """
    if table is not None:
        path = Path(table)
        found = Table.load(path) if path.suffix == ".parquet" else space.import_table(path)
        if found.space != space.name:
            raise WsnasError(f"{path} is a table of {found.space}, not of {space.name}")
        return found
    if dataset is None or dataset == space.recipes["micro"].dataset:
        return Table.load(space.micro_table)
    imported = import_home() / f"{space.name}.parquet"
    if not imported.exists():
        raise WsnasError(
            f"there is no ground truth of {space.name} on {dataset}: import the official file with "
            f"'wsnas table import {space.name} FILE', or name one with --table"
        )
    return Table.load(imported)


def correlate(scores: dict[str, float], truth: Table, dataset: str | None = None, split: str = "test") -> Interval:
    """Spearman of supernet scores against ground truth over the architectures that have both."""
    dataset = truth.datasets[0] if dataset is None else dataset
    shared = [arch for arch in scores if arch in truth.row]
    values = truth.select(shared).mean(dataset, split)
    known = ~np.isnan(values)
    if known.sum() < 2:
        raise WsnasError(
            f"only {int(known.sum())} of the {len(scores)} scored architectures have a {dataset} ground truth"
        )
    return correlation(np.array([scores[arch] for arch in shared])[known], values[known])
