"""Publishes a run's trainings as ground truth: tables, training curves, and a data card."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsnas.environment import command_line
from wsnas.files import atomic_write
from wsnas.metrics import ceiling_interval, noise_ceiling
from wsnas.recipe import Recipe
from wsnas.runs import Run
from wsnas.space import SearchSpace
from wsnas.table import MACS, Table
from wsnas.words import counted


def publish(space: SearchSpace[Any], table: Table, out: Path | str, sample: str = "") -> list[str]:
    """Writes table.parquet, table.csv, curves.parquet and README.md (the data card) into the run ``out``.

    ``sample``: what the card says of how the architectures were chosen. Returns a summary, one sentence per line.
    ``Table.load`` and ``wsnas.table.read_csv`` read the tables back; the folder can be given as --table.
    """
    run, out = Run.read(out), Path(out)
    table = replace(table, about={**table.about, "command": command_line()})
    table.save(out / "table.parquet")
    table.save_csv(out / "table.csv")
    _save_curves(run, out / "curves.parquet")
    said = _said(table)
    atomic_write(out / "README.md", _card(space, table, said, sample).encode())
    return [*said, f"{out / 'table.parquet'}, table.csv, curves.parquet, README.md"]


def drawn_uniformly(table: Table, count: int, recipe: Recipe) -> str:
    """What a data card says of a table that holds ``count`` architectures drawn by ``sample_candidates``."""
    which = "these" if count == len(table) else f"{count:,} of these"
    limit = "" if recipe.max_macs is None else f" of those with at most {recipe.max_macs:,} multiply-adds"
    return f"{which} are a uniform sample{limit}"


def _said(table: Table) -> list[str]:
    dataset = table.datasets[0]
    failed = 0 if table.failed is None else int(table.failed.sum())
    seeds = table.seeds(dataset, "test")
    said = [
        f"{counted(len(table), 'architecture')}, {counted(seeds.shape[1], 'seed')}, {failed} with a failed training "
        f"(trainings: {table.about['status']})"
    ]
    if "guesses" in table.about:
        said.append(f"{table.about['guesses']}; if that is many, lower the learning rate, or train for more epochs")
    common = table.common_seeds(dataset, "test")
    ceiling = noise_ceiling(common)
    if ceiling is not None:
        said.append(
            f"two seeds agree at {ceiling.agreement:.3f} (Spearman); the mean of {common.shape[1]} is reliable to "
            f"{ceiling.reliability:.3f}: no predictor can correlate above {ceiling_interval(common)}"
        )
    return said


def _card(space: SearchSpace[Any], table: Table, said: list[str], sample: str) -> str:
    """The data card, in Markdown: what was measured, how, and how reliable it is."""
    unit = "accuracy in percent" if space.metric == "accuracy" else "perplexity (lower is better)"
    latency = [] if table.latency is None else [f"| latency | {table.about['latency']} |"]
    lines = [
        f"# Ground truth of {space.name}\n",
        *(f"- {line}" for line in said),
        f"- the space has {space.size:,} architectures{'; ' if sample else ''}{sample}\n",
        "| column | meaning |",
        "|---|---|",
        "| architecture | the usual notation; `wsnas.load_space(...).decode` reads it |",
        "| parameters | trainable parameters of the stand-alone network |",
        f"| macs | {MACS} |",
        *latency,
        "| failed | one of its trainings diverged, crashed or timed out |",
        *(f"| {column} | {unit}: data set, split, epochs, seed |" for column in table.columns),
        "\nArchitectures with the same training key (the same function) share the trainings of one, unless the",
        "command says `--no-dedupe`. `curves.parquet` holds the mean training loss of each epoch.\n",
        "## About\n",
        *(f"- {name}: `{value}`" for name, value in table.about.items()),
        "\n## Read it\n",
        "```python",
        "import wsnas\n",
        f'table = wsnas.load_ground_truth(wsnas.load_space("{space.name}"), table="THIS FOLDER")',
        f'table.mean("{table.datasets[0]}", "test")  # [architectures], the mean over the seeds nearly all have',
        "```\n",
    ]
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
