"""The published accuracies of NAS-Bench-101, read without TensorFlow and without the benchmark's own code.

=========================================  ==================================================================
``nasbench_only108.tfrecord``              TFRecord, 108 epochs, three runs per cell
``nasbench_full.tfrecord``                 the same with 4, 12, 36 and 108 epochs
``*.npz``                                  arrays ``adjacency`` [n, 7, 7], ``operations`` [n, 5], ``valid_correct_of_M``
                                           and ``test_correct_of_M`` [n, runs] after 108 epochs, and optionally
                                           ``graph_hash`` [n] and ``parameters`` [n] (-1: unknown)
``*.csv``, ``*.csv.gz``                    see ``wsnas.table.read_csv``
``*.parquet``                              written by ``wsnas table import``
=========================================  ==================================================================

A TFRecord file is a sequence of records, each of: length (uint64), masked CRC-32C of the length, that many bytes,
masked CRC-32C of them. The bytes are JSON, ``[hash, epochs, adjacency, operations, metrics]``: 49 digits, seven names
with commas between, and a ``ModelMetrics`` message in base64. Of that, ``evaluation_data`` (field 1: at the start,
half-way, and at the end of the training; in it ``validation_accuracy``, 4, and ``test_accuracy``, 5, as fractions)
and ``trainable_parameters`` (2) are needed. Sources: ``nasbench/api.py`` and ``nasbench/lib/model_metrics.proto``
(google-research/nasbench), the TFRecord description of TensorFlow's guide.

The benchmark measured each class of isomorphic cells once; here every cell of a class has its row.
"""

from __future__ import annotations

import base64
import json
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from nb101.isomorphism import Integers, canonical_codes, classes, hashes
from nb101.space import LABELS, OPS, arch_at, architectures, decode, encode
from wsnas import WsnasError
from wsnas.files import read_npz
from wsnas.table import Column, Floats, Table, checked, read_table, reader, require_whole

OFFICIAL = "nasbench_only108.tfrecord or nasbench_full.tfrecord"
DATASET = "cifar10"
RUNS = 3  # of each cell and number of epochs
EPOCHS = (108, 36, 12, 4)
OPERATIONS = {label: op for op, label in enumerate(LABELS)}
LARGEST = 1 << 20  # bytes; the published records have some 400
CLASSES = {DATASET: 10}
HALFWAY = "columns of 54, 18, 6 and 2 epochs were measured in the middle of the trainings twice as long"


@reader
def import_table(path: Path) -> Table:
    """The cells of this space in one published file; NAS-Bench-101's others are left out.

    Columns are cifar10 valid/test of 108, 36, 12 and 4 epochs, as far as the file has them, and of half as many:
    these were measured half-way through the longer training, before its learning rate had decayed. Seeds are the
    runs in the file's order. ``failed`` marks a cell with a run that ended within 1.1 times chance. Raises WsnasError
    if the file is missing, damaged or of another format, or has too many runs of a cell.
    """
    if path.name.lower().endswith(".parquet"):
        return read_table(path, "nb101", _respell)
    if not path.is_file():
        raise WsnasError(f"there is no file {path}; give {OFFICIAL}, or a .npz, .csv, .csv.gz or .parquet table")
    name = path.name.lower()
    if name.endswith(".tfrecord"):
        return _from_tfrecord(path)
    if name.endswith(".npz"):
        return _from_npz(path)
    if name.endswith((".csv", ".csv.gz")):
        return _from_csv(path)
    raise WsnasError(
        f"cannot read {path}: it is not a .tfrecord, .npz, .csv, .csv.gz or .parquet file; give {OFFICIAL}"
    )


def _spread(path: Path, found: Integers, columns: Mapping[Column, Floats], counts: Integers) -> Table:
    """A table of all cells of the classes ``found`` [k], with the measurements [k] of their class."""
    if not len(found):
        raise WsnasError(f"{path} lists no cell of this space; give {OFFICIAL}")
    row = np.full(len(classes().firsts), -1)
    row[found] = np.arange(len(found))
    rows = row[classes().of_cell]
    cells = np.flatnonzero(rows >= 0)
    rows = rows[cells]
    ends = [column for column in columns if column.epochs in EPOCHS]
    archs = tuple(encode(architectures()[i]) for i in cells)
    table = Table(
        "nb101",
        archs,
        {column: values[rows] for column, values in columns.items()},
        counts[rows],
        about={
            "source": path.name,
            "architectures": f"{len(cells)}, of {len(found)} distinct cells",
            **({"half-way": HALFWAY} if len(ends) < len(columns) else {}),
        },
    )
    ended = replace(table, columns={column: table.columns[column] for column in ends})
    table = replace(table, failed=ended.near_chance(CLASSES))
    return checked(path, table, lambda i: f"cell {archs[i]}", "accuracy")


# TFRecord ------------------------------------------------------------------------------------------------------


def _masked_crc(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, one in memory at a time. Raises WsnasError at the first damaged one."""

    def damaged(what: str) -> WsnasError:
        return WsnasError(f"{path}, record {number}: {what}; download it again")

    def read(file: BinaryIO, size: int) -> bytes:
        data = file.read(size)
        if len(data) < size:
            raise damaged("the file ends in the middle of the record, so it is truncated")
        return data

    number = 0
    with open(path, "rb", buffering=1 << 20) as file:
        while head := file.read(8):
            number += 1
            head += read(file, 12 - len(head))
            size, crc = struct.unpack("<QI", head)
            if crc != _masked_crc(head[:8]) or size > LARGEST:
                raise damaged("its length is damaged" if number > 1 else f"not a TFRecord file (give {OFFICIAL})")
            data = read(file, size)
            if read(file, 4) != _masked_crc(data).to_bytes(4, "little"):
                raise damaged("its checksum does not match, the file is damaged")
            yield data


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protobuf message: int, float (8 bytes) or bytes. Raises ValueError."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(message) or shift > 63:
                raise ValueError("a protobuf message ends too early")
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind, -1) if kind != 2 else varint()
        if size < 0 or at + size > len(message):
            raise ValueError("not a protobuf message")
        data = message[at : at + size]
        at += size
        yield key >> 3, struct.unpack("<d", data)[0] if kind == 1 else data


def _metrics(message: bytes) -> tuple[int, list[float]]:
    """(trainable parameters, [half-way valid, half-way test, valid, test] in percent) of a ``ModelMetrics``."""
    top = list(fields(message))
    evaluations = [dict(fields(value)) for number, value in top if number == 1]
    return dict(top)[2], [100 * evaluations[i][number] for i in (1, 2) for number in (4, 5)]


@cache
def _numbers() -> dict[bytes, int]:
    """Hash -> number of its class of cells."""
    return {name.encode(): number for number, name in enumerate(hashes())}


def _from_tfrecord(path: Path) -> Table:
    known = _numbers()
    n = len(known)
    values = np.zeros((len(EPOCHS), 4, RUNS, n), dtype=np.float64)  # of as many runs as ``runs`` says
    runs = np.zeros((len(EPOCHS), n), dtype=np.int64)
    counts = np.full(n, -1, dtype=np.int64)
    cells: dict[int, tuple[str, str]] = {}
    number = 0
    for number, data in enumerate(records(path), start=1):
        if data[:2] == b'["' and data[34:35] == b'"' and data[2:34] not in known:
            continue  # not in this space, like nine in ten
        try:
            name, epochs, adjacency, operations, encoded = json.loads(data)
            which = known.get(name.encode())
            if which is None:
                continue
            if not isinstance(adjacency, str) or not isinstance(operations, str):
                raise ValueError("a cell that is no text")
            budget = EPOCHS.index(epochs)
            count, accuracies = _metrics(base64.b64decode(encoded, validate=True))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise WsnasError(
                f"{path}, record {number}: it is not in NAS-Bench-101's published format ({type(error).__name__}: "
                f"{error}); give {OFFICIAL}"
            ) from error
        if cells.setdefault(which, (adjacency, operations)) != (adjacency, operations):
            raise WsnasError(f"{path}, record {number}: an earlier cell has the same hash {name}; give {OFFICIAL}")
        run = int(runs[budget, which])
        if run == RUNS:
            raise WsnasError(f"{path}, record {number}: a fourth run of {name} with {epochs} epochs; keep three")
        values[budget, :, run, which] = accuracies
        runs[budget, which] += 1
        counts[which] = count
    if not number:
        raise WsnasError(f"{path} is empty; give {OFFICIAL}")
    found = np.array(sorted(cells), dtype=np.int64)
    _require_classes(path, found, [cells[which] for which in found.tolist()])
    columns = {
        Column(DATASET, split, epochs // part, run): np.where(runs[b, found] > run, values[b, i, run, found], np.nan)
        for b, epochs in enumerate(EPOCHS)
        if runs[b].any()
        for i, (part, split) in enumerate([(2, "valid"), (2, "test"), (1, "valid"), (1, "test")])
        for run in range(RUNS)
    }
    order = sorted(columns, key=lambda column: (-column.epochs, -ord(column.split[0]), column.seed or 0))
    return _spread(path, found, {column: columns[column] for column in order}, counts[found])


def _require_classes(path: Path, found: Integers, cells: list[tuple[str, str]]) -> None:
    """Raises WsnasError unless each cell in the file belongs to the class of its hash."""
    try:
        digits = np.array([[int(digit) for digit in adjacency] for adjacency, _ in cells], dtype=np.int64).reshape(
            len(cells), 7, 7
        )
        labels = [operations.split(",") for _, operations in cells]
        ops = np.array([[OPERATIONS[label] for label in each[1:-1]] for each in labels], dtype=np.int64)
        ops = ops.reshape(len(cells), 5)
    except (ValueError, KeyError) as error:
        raise WsnasError(f"{path} writes a cell in an unknown form ({error}); give {OFFICIAL}") from error
    if (digits > 1).any() or (canonical_codes(digits, ops) != classes().codes[found]).any():
        raise WsnasError(f"{path} lists a cell under the hash of another; give {OFFICIAL}")


# other files ---------------------------------------------------------------------------------------------------


def _cell(row: int) -> str:
    return f"cell {row}"  # as an array counts, from 0


def _from_npz(path: Path) -> Table:
    try:
        arrays_ = read_npz(path)
        for name in {"adjacency", "operations", "parameters"} & arrays_.keys():
            require_whole(path, name, arrays_[name], _cell)
        adjacency, ops = arrays_["adjacency"].astype(np.int64), arrays_["operations"].astype(np.int64)
        n = len(ops)
        if adjacency.shape != (n, 7, 7) or ops.shape != (n, 5) or not n:
            raise ValueError(f"adjacency {adjacency.shape}, operations {ops.shape}")
        columns: dict[Column, Floats] = {}
        for split in ("valid", "test"):
            (name,) = (name for name in arrays_ if name.startswith(f"{split}_correct_of_"))
            correct, images = arrays_[name].astype(np.float64).reshape(n, -1), int(name.rsplit("_", 1)[1])
            require_whole(path, name, correct, _cell)
            if ((correct < 0) | (correct > images)).any():
                row, run = np.argwhere((correct < 0) | (correct > images))[0]
                answers = f"{correct[row, run]:g} correct answers of {images} images"
                raise WsnasError(f"{path}, {_cell(row)}, {name}: {answers}; correct it")
            percent = 100 * correct / images
            columns |= {Column(DATASET, split, EPOCHS[0], run): percent[:, run] for run in range(percent.shape[1])}
        counts = arrays_["parameters"].astype(np.int64) if "parameters" in arrays_ else np.full(n, -1)
        if counts.shape != (n,):
            raise ValueError(f"parameters {counts.shape}")
        published = arrays_["graph_hash"].tolist() if "graph_hash" in arrays_ else None
    except WsnasError:
        raise
    except Exception as error:  # a malformed file can raise nearly anything
        raise WsnasError(
            f"{path} is truncated or not a table of NAS-Bench-101 ({type(error).__name__}: {error}); it needs "
            "adjacency [n, 7, 7], operations [n, 5], valid_correct_of_M and test_correct_of_M [n, runs]"
        ) from error
    binary = ((adjacency == 0) | (adjacency == 1)).all((1, 2)) & ((ops >= 0) & (ops < len(OPS))).all(1)
    codes = canonical_codes(adjacency * binary[:, None, None], ops * binary[:, None])
    place = np.searchsorted(classes().codes, codes).clip(max=len(classes().codes) - 1)
    loops = adjacency.diagonal(axis1=1, axis2=2).any(1)
    outside = loops | adjacency[:, :, 0].any(1) | adjacency[:, 6].any(1) | (adjacency[:, 0, 6] != 0)  # not in a code
    ours = binary & ~outside & (classes().codes[place] == codes)
    found = place[ours]
    if published is not None and [hashes()[i] for i in found] != [published[i] for i in np.flatnonzero(ours)]:
        raise WsnasError(f"{path} lists a cell under the hash of another; get it from its publisher again")
    if len(np.unique(found)) != len(found):
        twice = Counter(found.tolist()).most_common(1)[0][0]
        arch = encode(arch_at(int(classes().firsts[twice])))
        raise WsnasError(f"{path} lists {arch} or cells isomorphic to it twice; keep one of them")
    return _spread(path, found, {column: values[ours] for column, values in columns.items()}, counts[ours])


def _respell(arch: str) -> str:
    return encode(decode(arch))


def _from_csv(path: Path) -> Table:
    """The cells listed in the file; isomorphic cells are not added."""
    table = read_table(path, "nb101", _respell)
    return table if table.failed is not None else replace(table, failed=table.near_chance(CLASSES))
