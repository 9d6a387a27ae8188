"""How well supernet scores agree with ground truth: loading and correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wsnas.errors import NoGroundTruth, WsnasError
from wsnas.metrics import Floats, Interval, correlation, higher_is_better
from wsnas.space import SearchSpace, load_space
from wsnas.table import Table, import_home
from wsnas.words import spelled


def table_file(path: Path | str) -> Path:
    """The file of a table: of a published benchmark, if ``path`` is its folder. Raises WsnasError for another run."""
    path = Path(path)
    if path.is_dir() and (path / "table.parquet").exists():
        return path / "table.parquet"
    if (path / "run.json").exists():
        raise WsnasError(
            f"{path} is a run without a table: give a folder that 'wsnas ground-truth' finished, or a table file"
        )
    return path


def load_ground_truth(
    space: SearchSpace[Any] | str, dataset: str | None = None, table: Table | Path | str | None = None
) -> Table:
    """The ground truth of a space (or of the space of this name): ``table`` (a file, or one that is loaded already), or
    one that the space ships, or an imported official one.

    ``dataset``, in any case and with or without hyphens, chooses between the last two, by default the micro recipe's;
    of a table of several data sets, only its results are returned. If there is none, raises NoGroundTruth with the
    command that helps; WsnasError if it cannot be read.
    """
    found = _load(load_space(space), dataset, table)
    if dataset is None:
        return found
    chosen = dataset_of(found, dataset, dataset)
    return replace(found, columns={column: of for column, of in found.columns.items() if column.dataset == chosen})


def ground_truth_for(
    space: SearchSpace[Any], trained_on: str, asked: str | None = None, table: Path | str | None = None
) -> tuple[Table, str]:
    """The ground truth to compare with what was trained on a data set, and which of its data sets (``dataset_of``).

    Raises as ``load_ground_truth``.
    """
    found = _load(space, asked or trained_on, table)
    return found, dataset_of(found, trained_on, asked)


def _load(space: SearchSpace[Any], dataset: str | None, table: Table | Path | str | None) -> Table:
    """An imported table, whether it has the data set or not."""
    if isinstance(table, Table):
        if table.space != space.name:
            raise WsnasError(f"the table is of the space {table.space}, not of {space.name}")
        return table
    if table is not None:
        return space.import_table(table_file(table))
    from wsnas.data.sources import KNOWN, nearest  # imports torch

    known = {*KNOWN, *(recipe.dataset for recipe in space.recipes.values())}
    micro = space.recipes["micro"].dataset
    dataset = micro if dataset is None else spelled(dataset, known)
    if dataset in space.tables:
        return space.load_table(space.tables[dataset])
    imported = import_home() / f"{space.name}.parquet"
    if imported.exists():
        return space.load_table(imported)
    if dataset not in known and (hint := nearest(dataset, known)):
        raise NoGroundTruth(f"{space.name} has no ground truth on {dataset}{hint}")
    missing = "ships no ground truth" if dataset == micro else f"has no ground truth on {dataset}"
    helps = f"train one with 'wsnas ground-truth {space.name} ...'"
    if dataset != micro and space.published:
        helps = f"get {space.published}, and import it with 'wsnas table import {space.name} FILE'; or {helps}"
    raise NoGroundTruth(f"{space.name} {missing}: {helps}, or give a table with --table")


def dataset_of(truth: Table, trained_on: str, asked: str | None = None) -> str:
    """The data set of a ground truth to compare with: the one asked for, else the one trained on, else its first.

    Raises NoGroundTruth if the table does not have the one asked for, or none at all.
    """
    if not truth.datasets:
        raise NoGroundTruth(f"the table of {truth.space} has no results")
    found = spelled(asked or trained_on, truth.datasets)
    if found in truth.datasets:
        return found
    if asked is not None:
        raise NoGroundTruth(f"the table of {truth.space} has no data set '{asked}', only {', '.join(truth.datasets)}")
    return truth.datasets[0]


def correlate(scores: Mapping[str, float], truth: Table, dataset: str | None = None, split: str = "test") -> Interval:
    """Spearman correlation of supernet scores with ground truth over the architectures that have both, and finite.

    ``dataset``: of the ground truth; by default what the supernet was trained on or, if the table has only one, that.
    ``truth``: as it is loaded. What is better is known of ``Scores``: a low perplexity, a high zero-cost score; the
    numbers of another mapping are compared as they are.
    """
    from wsnas.evaluation import Scores  # imports torch

    if not isinstance(truth, Table):
        raise WsnasError(f"expected the scores and then a ground truth, a Table, not {type(truth).__name__}")
    trained_on = scores.dataset if isinstance(scores, Scores) else ""
    if dataset is None and spelled(trained_on, truth.datasets) not in truth.datasets and len(truth.datasets) > 1:
        raise WsnasError(f"the ground truth has {', '.join(truth.datasets)}: say which one to compare with (dataset)")
    own, values = _pairs(scores, truth, dataset_of(truth, trained_on, dataset), split)
    if isinstance(scores, Scores):
        own, values = higher_is_better(own, scores.metric), higher_is_better(values, scores.truth_metric)
    return correlation(own, values)


def _pairs(scores: Mapping[str, float], truth: Table, dataset: str, split: str) -> tuple[Floats, Floats]:
    shared = sorted(arch for arch in scores if arch in truth.row)  # the interval must not depend on their order
    values = truth.select(shared).mean(dataset, split)
    own = np.array([scores[arch] for arch in shared])
    known = ~np.isnan(values) & np.isfinite(own)
    if known.sum() < 2:
        raise WsnasError(
            f"only {int(known.sum())} of the {len(scores)} scored architectures have a {dataset} ground truth"
            + (f" and a finite score ({count} have none)" if (count := int((~np.isfinite(own)).sum())) else "")
            + ": score some that have one with 'wsnas evaluate RUN --table TABLE', or train them with "
            "'wsnas ground-truth'"
        )
    return own[known], values[known]


def remarks(scores: Mapping[str, float], truth: Table, dataset: str, split: str) -> list[str]:
    """What a reader of the correlation should know: scores left out, no order to agree with, seeds that are copies."""
    own, values = _pairs(scores, truth, dataset, split)
    overflowed = sum(not math.isfinite(score) for score in scores.values())
    found = [f"left out: {overflowed} of {len(scores)} scores, which are not finite"] if overflowed else []
    for what, side in (("scores", own), (f"values of {dataset} {split}", values)):
        if (side == side[0]).all():
            found.append(f"all {len(side)} {what} are equal ({side[0]:g}): there is no order, so 0 says nothing")
    equal = truth.equal_seeds(dataset, split)
    return found + [f"the table's seeds {a} and {b} are equal everywhere: a copy, not a repetition" for a, b in equal]
