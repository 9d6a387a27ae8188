"""Ground truth of DARTS cells from files of genotypes with accuracies.

==========================  ===========================================================================================
``*.json``                  a list of ``{"normal": CELL, "reduce": CELL, MEASUREMENT: accuracy, ...}``, one
                            per architecture; CELL has four nodes, ``[[operation, input], [operation, input]]`` each. Or
                            ``"architecture"``, a genotype as text, instead of the two cells
``*.csv``, ``*.csv.gz``     see ``wsnas.table.read_csv``; architectures are genotypes as text, in quotes
``*.parquet``               written by ``wsnas table import`` or ``wsnas ground-truth``
==========================  ===========================================================================================

A measurement in JSON is named as in CSV, ``cifar10_test_600`` or ``cifar10_test_600_SEED``, or, as for the random cells
of Yang et al. (2020, "NAS evaluation is frustratingly hard"), ``cifar10_test_last`` and ``cifar10_test_best``: after
600 epochs, and at the epoch that is best on these same images. The latter becomes the data set ``cifar10-best``;
because it is selected on the test set, it is slightly too high.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from darts_cnn.space import Architecture, cell_of, decode, encode
from wsnas import WsnasError
from wsnas.files import read_file
from wsnas.table import LARGEST, Column, Table, checked, read_table, reader

FILES = "a .json list of genotypes with accuracies, or a .csv, .csv.gz or .parquet table"
CLASSES = {"cifar10": 10, "cifar10-best": 10}
EPOCHS = 600  # of DARTS's evaluation
_MEASURED = re.compile(
    r"(?P<dataset>[A-Za-z0-9-]+)_(?P<split>valid|test)_(?:(?P<when>last|best)|(?P<epochs>\d{1,6})(?:_(?P<seed>\d{1,9}))?)"
)


@reader
def import_table(path: Path) -> Table:
    """The architectures of one file, in its order. Raises WsnasError naming the first malformed entry."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        return read_table(path, "darts_cnn", _respell)
    if not path.exists():
        raise WsnasError(f"there is no {path}; give {FILES}")
    if name.endswith(".json"):
        return _described(path, _read_json(path))
    if name.endswith((".csv", ".csv.gz")):
        return _described(path, read_table(path, "darts_cnn", _respell))
    raise WsnasError(f"cannot read {path}: give {FILES}")


def _respell(text: str) -> str:
    return encode(decode(text))


def _described(path: Path, table: Table) -> Table:
    """``failed`` marks accuracies within 1.1 times chance, unless the file says what failed."""
    failed = table.near_chance(CLASSES) if table.failed is None else table.failed
    about = {**table.about, "source": path.name, "architectures": str(len(table))}
    return replace(table, failed=failed, about=about)


def _read_json(path: Path) -> Table:
    try:
        entries = json.loads(read_file(path, LARGEST), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise WsnasError(f"{path} is truncated or not JSON ({type(error).__name__}: {error}); give {FILES}") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise WsnasError(f"{path} is not a list of architectures with accuracies; give {FILES}")
    archs: list[str] = []
    columns: dict[Column, Any] = {}
    for row, entry in enumerate(entries):
        try:
            archs.append(encode(_architecture(entry)))
            named = {name: column for name in entry if (column := _column(name))}
            if len(set(named.values())) < len(named):
                raise ValueError(f"two of {', '.join(named)} are the same measurement; keep one of them")
            for name, column in named.items():
                value = entry[name]
                columns.setdefault(column, np.full(len(entries), np.nan))[row] = _accuracy(name, value)
        except (ValueError, WsnasError) as error:
            raise WsnasError(f"{path}, entry {row + 1}: {error}") from error
    if not columns:
        raise WsnasError(f"{path} holds no accuracies, such as cifar10_test_last or cifar10_test_600")
    in_order = sorted(columns, key=lambda column: (column.dataset.endswith("-best"), str(column)))
    table = Table("darts_cnn", tuple(archs), {column: columns[column] for column in in_order})
    return checked(path, table, lambda i: f"entry {i + 1}", "accuracy")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file. Raises ValueError if it has a name twice; Python would take the later value."""
    name, times = Counter(name for name, _ in pairs).most_common(1)[0] if pairs else ("", 0)
    if times > 1:
        raise ValueError(f"an entry has '{name}' twice")
    return dict(pairs)


def _architecture(entry: Mapping[str, Any]) -> Architecture:
    if isinstance(entry.get("architecture"), str):
        return decode(entry["architecture"])
    cells = []
    for name in ("normal", "reduce"):
        nodes = entry.get(name)
        if not isinstance(nodes, list) or not all(isinstance(node, list) and len(node) == 2 for node in nodes):
            raise ValueError(f"'{name}' must be four nodes of two slots, [[operation, input], [operation, input]]")
        cells.append(cell_of([slot for node in nodes for slot in node], name))
    return Architecture(*cells)


def _column(name: str) -> Column | None:
    match = _MEASURED.fullmatch(name)
    if match is None:
        return None
    dataset = match["dataset"] + ("-best" if match["when"] == "best" else "")
    return Column(
        dataset, match["split"], int(match["epochs"] or EPOCHS), int(match["seed"]) if match["seed"] else None
    )


def _accuracy(name: str, value: Any) -> float:
    """Percent; NaN for null, which means "not measured"."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError(f"{name} must be an accuracy in percent, not {str(value)[:40]}")
    return float(value)
