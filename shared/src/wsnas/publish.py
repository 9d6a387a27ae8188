"""Publishes a run's trainings as ground truth: tables, training curves, and a data card."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wsnas.environment import command_line
from wsnas.errors import WsnasError
from wsnas.files import atomic_write
from wsnas.metrics import noise_ceiling
from wsnas.runs import Run
from wsnas.space import SearchSpace
from wsnas.table import Table

Curves = dict[tuple[str, int], tuple[float, ...]]  # (trained architecture, seed) -> mean loss of each epoch, nats


def publish(space: SearchSpace[Any], table: Table, out: Path) -> list[str]:
    """Writes table.parquet, table.csv, curves.parquet and README.md (the data card) into the run ``out``.

    Returns a summary, one sentence per line. Read the files back with ``Table.load``, ``wsnas.table.read_csv`` and
    ``load_curves``, or give the folder as --table.
    """
    run = Run.read(out)
    table = replace(table, about={**table.about, "command": command_line()})
    table.save(out / "table.parquet")
    table.save_csv(out / "table.csv")
    _save_curves(run, out / "curves.parquet")
    said = _said(table)
    atomic_write(out / "README.md", _card(space, table, said).encode())
    return [*said, f"{out / 'table.parquet'}, table.csv, curves.parquet, README.md"]


def _said(table: Table) -> list[str]:
    dataset = table.datasets[0]
    failed = 0 if table.failed is None else int(table.failed.sum())
    seeds = table.seeds(dataset, "test")
    said = [
        f"{len(table)} architectures, {seeds.shape[1]} seeds, {failed} with a failed training "
        f"(trainings: {table.about['status']})"
    ]
    common = table.common_seeds(dataset, "test")
    whole = common[np.isfinite(common).all(1)]
    ceiling = noise_ceiling(whole) if len(whole) > 1 else None
    if ceiling is not None:
        said.append(
            f"two seeds agree at {ceiling.agreement:.3f} (Spearman); the mean of {common.shape[1]} is reliable to "
            f"{ceiling.reliability:.3f}: no predictor can correlate above {ceiling.ceiling:.3f}"
        )
    return said


def _card(space: SearchSpace[Any], table: Table, said: list[str]) -> str:
    """The data card, in Markdown: what was measured, how, and how reliable it is."""
    unit = "accuracy in percent" if space.metric == "accuracy" else "perplexity (lower is better)"
    lines = [f"# Ground truth of {space.name}", "", *(f"- {line}" for line in said)]
    lines += [
        f"- the space has {space.size:,} architectures; these are a uniform sample",
        "",
        "| column | meaning |",
        "|---|---|",
    ]
    lines.append("| architecture | the usual notation; `wsnas.load_space(...).decode` reads it |")
    lines.append("| parameters | trainable parameters of the stand-alone network |")
    lines.append("| flops | millions of operations per item, two per multiply-add |")
    if table.latency is not None:
        lines.append(f"| latency | {table.about['latency']} |")
    lines.append("| failed | one of its trainings diverged, crashed or timed out |")
    lines += [f"| {column} | {unit}: data set, split, epochs, seed |" for column in table.columns]
    lines += [
        "",
        "Architectures with the same training key (the same function) share the trainings of one, unless the",
    ]
    lines += [
        "command says `--no-dedupe`. `curves.parquet` holds the mean training loss of each epoch.",
        "",
        "## About",
        "",
    ]
    lines += [f"- {name}: `{value}`" for name, value in table.about.items()]
    reader = f'table = wsnas.load_ground_truth(wsnas.load_space("{space.name}"), table="THIS FOLDER")'
    lines += ["", "## Read it", "", "```python", "import wsnas", "", reader]
    lines += [f'table.mean("{table.datasets[0]}", "test")  # [architectures], the mean over seeds', "```", ""]
    return "\n".join(lines)


def _save_curves(run: Run, path: Path) -> None:
    """Long form: arch, seed, epoch (from 1), loss (nats); one file, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (row["arch"], int(key.rpartition("@")[2]), epoch, loss)
        for key, row in run.records("training").items()
        for epoch, loss in enumerate(row.get("curve") or (), start=1)
    ]
    types = (pa.string(), pa.int32(), pa.int32(), pa.float32())
    columns = [pa.array([row[i] for row in rows], type) for i, type in enumerate(types)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, names=["arch", "seed", "epoch", "loss"]), buffer, compression="zstd")
    atomic_write(path, buffer.getvalue())


def load_curves(path: Path) -> Curves:
    """Training curves by (trained architecture, seed). Raises WsnasError for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, columns=["arch", "seed", "epoch", "loss"]).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise WsnasError(f"{path} does not hold training curves ({type(error).__name__})") from error
    losses_of: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows:
        losses_of.setdefault((row["arch"], row["seed"]), {})[row["epoch"]] = row["loss"]
    return {key: tuple(loss for _, loss in sorted(losses.items())) for key, losses in losses_of.items()}
