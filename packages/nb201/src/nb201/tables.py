"""The published accuracies of NAS-Bench-201, read from the official files without executing code in them.

===========================================  ================================================================
``NAS-Bench-201-v1_*.pth``                   torch file: ``arch2infos`` {index: {"less": state, "full": state}}
``NATS-tss-v1_0-3ffb9-simple/``              ``NNNNNN.pickle.pbz2``, one per architecture: {"12": state, "200": state}
``*.csv``, ``*.csv.gz``                      see ``wsnas.table.read_csv``
``*.parquet``                                written by ``wsnas table import``
===========================================  ================================================================

A state is the ``__dict__`` of the API's ``ArchResults``: ``arch_str`` and ``all_results``
{(training set, seed): result}. A result is the ``__dict__`` of ``ResultsCount``: ``params`` and ``flop`` in
millions, and ``eval_acc1es`` {"EVALUATION@EPOCH": top-1 in percent}, epochs from 0. Some results hold every
epoch, others only the last; many architectures were trained with fewer seeds than three. Sources:
``nats_bench/api_utils.py`` and ``api_topology.py`` (D-X-Y/NATS-Bench), ``nas_201_api/api_201.py``
(D-X-Y/NAS-Bench-201), ``exps/NAS-Bench-201/statistics-v2.py`` and ``exps/NATS-Bench/tss-collect.py``
(D-X-Y/AutoDL-Projects), which wrote the files.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from nb201.space import Architecture, decode, encode, is_valid
from wsnas import WsnasError
from wsnas.files import read_file
from wsnas.pickles import read_pickle
from wsnas.table import MACS, Column, Table, checked, read_csv, reader
from wsnas.words import counted

OFFICIAL = "NAS-Bench-201-v1_1-096897.pth or the directory NATS-tss-v1_0-3ffb9-simple"
LARGEST = 32 << 20  # bytes of one architecture's pickle; the published ones have about 1 MB
EPOCHS = {"less": 12, "full": 200, "12": 12, "200": 200}  # .pth and NATS names of the two recipes

# Training set and evaluation of the benchmark -> data set and split here. "cifar10-valid" is trained on 25,000
# images and "cifar10" on all 50,000, so they are two data sets here; the API answers "cifar10 test" with the
# latter (``remap_dataset_set_names``). "ori-test" of the other two is x-valid and x-test together: left out.
EVALUATIONS = {
    "cifar10-valid": {"x-valid": ("cifar10", "valid"), "ori-test": ("cifar10", "test")},
    "cifar10": {"ori-test": ("cifar10-full", "test")},
    "cifar100": {"x-valid": ("cifar100", "valid"), "x-test": ("cifar100", "test")},
    "ImageNet16-120": {"x-valid": ("imagenet16-120", "valid"), "x-test": ("imagenet16-120", "test")},
}
TRAININGS = {"cifar10-valid": (10, 32), "cifar10": (10, 32), "cifar100": (100, 32), "ImageNet16-120": (120, 16)}
CLASSES = {"cifar10": 10, "cifar10-full": 10, "cifar100": 100, "imagenet16-120": 120}


class Result(NamedTuple):
    """One architecture's final top-1 in percent (NaN: the training diverged), and its cost."""

    arch: str  # as written in the file
    accuracies: Mapping[Column, float]
    parameters: int  # for 10 classes; -1: no trial of the file gives the architecture's
    macs: float  # multiply-adds in millions, one 32 x 32 image; NaN: likewise
    trials: int
    disagreeing: int  # trials with parameters or FLOPs that are another network's


@reader
def import_table(path: Path) -> Table:
    """The valid architectures of one published file or directory, in its order.

    Columns are cifar10 valid/test (trained on 25,000 images), cifar10-full test (on 50,000), cifar100 and
    imagenet16-120 valid/test, of 12 and 200 epochs, one per seed; CSV keeps its own names. ``Table.about`` counts the
    architectures "dropped" because they are not valid, and the trials "disagreeing" with their architecture's
    parameters or FLOPs. ``failed`` marks a diverged training or one within 1.1 times chance, unless the file says
    itself what failed. Raises WsnasError if the file is missing, truncated, of another format or asks to run code, or
    refused by ``wsnas.table.checked``.
    """
    if path.is_dir():
        return _from_results(path, _nats(path))
    name = path.name.lower()
    if name.endswith(".parquet"):
        return Table.load(path, "nb201", "accuracy", lambda arch: encode(decode(arch)))
    if not path.exists():
        raise WsnasError(f"there is no {path}; give {OFFICIAL}, or a .csv, .csv.gz or .parquet table")
    if name.endswith(".pth"):
        return _from_results(path, _pth(path))
    if name.endswith((".csv", ".csv.gz")):
        table = read_csv(path, "nb201", respell=_respell)
        failed = table.near_chance(CLASSES) if table.failed is None else table.failed
        return replace(table, failed=failed, about={**table.about, "architectures": str(len(table))})
    raise WsnasError(
        f"cannot read {path}: it is neither a .pth, .csv, .csv.gz or .parquet file nor a directory; "
        f"give {OFFICIAL}, unpacked"
    )


@cache
def _not_valid() -> frozenset[str]:
    """The 341 strings of the benchmark whose cell does not connect its input to its output."""
    every = (Architecture(ops) for ops in itertools.product(range(5), repeat=6))  # type: ignore[arg-type]
    return frozenset(encode(arch) for arch in every if not is_valid(arch))


def _respell(arch: str) -> str | None:
    """The encoded architecture, or None if it is not valid. Raises WsnasError if it is malformed."""
    return None if arch.strip() in _not_valid() else encode(decode(arch))


def _from_results(path: Path, results: Iterable[Result]) -> Table:
    """A table from the official results, one at a time; missing seeds are NaN."""
    found = list(results)
    measured = sorted({column for result in found for column in result.accuracies}, key=_order)
    if not measured:
        raise WsnasError(f"{path} holds no accuracies for a known data set; give {OFFICIAL}")
    columns = {c: np.array([result.accuracies.get(c, np.nan) for result in found]) for c in measured}
    table = Table(
        "nb201",
        tuple(result.arch for result in found),
        columns,
        np.array([result.parameters for result in found], dtype=np.int64),
        np.array([result.macs for result in found]),
        about={
            "source": path.name,
            "macs": MACS,
            "cifar10": "trained on 25,000 images",
            "cifar10-full": "trained on all 50,000 images",
        },
    )
    diverged = np.array([any(np.isnan(list(result.accuracies.values()))) for result in found], dtype=np.bool_)
    table = replace(table, failed=diverged)
    table = checked(path, table, lambda i: f"architecture {found[i].arch}", "accuracy", _respell)
    failed = table.near_chance(CLASSES) | (False if table.failed is None else table.failed)
    about = {**table.about, "architectures": str(len(table))}
    wrong = [result.disagreeing for result in found if result.disagreeing]
    if wrong:
        about["disagreeing"] = (
            f"{sum(wrong)} of {sum(result.trials for result in found)} trials, in "
            f"{counted(len(wrong), 'architecture')}, give the parameters or FLOPs of another network; "
            "these were left out, their accuracies were not"
        )
    return replace(table, failed=failed, about=about)


def _order(column: Column) -> tuple[int, int, int, int]:
    """Longest training first, then data sets in the order of ``CLASSES``, valid before test, seeds in order."""
    return -column.epochs, list(CLASSES).index(column.dataset), -ord(column.split[0]), column.seed or 0


def _result(states: Mapping[str, Any], where: Path, what: str) -> Result:
    """One architecture's ``{recipe: state}``. Raises WsnasError if it has another form."""
    accuracies: dict[Column, float] = {}
    given: dict[tuple[str, str, Any], tuple[float, float]] = {}  # of each trial: parameters and FLOPs, in millions
    arch = ""
    try:
        for recipe in [name for name in EPOCHS if name in states]:
            arch = states[recipe]["arch_str"]
            for (training, seed), result in states[recipe]["all_results"].items():
                given[training, recipe, seed] = float(result["params"]), float(result["flop"])
                for evaluation, (dataset, split) in EVALUATIONS.get(training, {}).items():
                    accuracy = result["eval_acc1es"].get(f"{evaluation}@{EPOCHS[recipe] - 1}")
                    if accuracy is not None:
                        accuracies[Column(dataset, split, EPOCHS[recipe], int(seed))] = float(accuracy)
        try:  # here, so a directory of another benchmark is refused at its first file
            valid = _respell(arch)
        except WsnasError as error:
            raise WsnasError(f"{where}: {error}") from error
        return Result(arch, accuracies, *_costs(valid, given))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise WsnasError(
            f"{where}: {what} is not in NAS-Bench-201's published format ({type(error).__name__}: {error}); "
            f"give {OFFICIAL}"
        ) from error


def _costs(arch: str | None, given: Mapping[tuple[str, str, Any], tuple[float, float]]) -> tuple[int, float, int, int]:
    """Parameters and multiply-adds where a trial confirms them; the numbers of trials, and of those that disagree.

    The published file has trials that name one architecture and give the parameters and FLOPs of another.
    """
    if arch is None:  # dropped
        return -1, math.nan, 0, 0
    from nb201.network import macs, parameters

    cell, count, counted, trials, disagreeing = decode(arch), -1, math.nan, 0, 0
    for (training, _, _), (millions, flops) in given.items():
        if training not in TRAININGS:
            continue
        classes, size = TRAININGS[training]
        exact, adds = parameters(cell, 16, 5, classes), macs(cell, 16, 5, classes, 3, size, size)
        same = abs(millions - exact / 1e6) < 5e-7
        same_flops = abs(flops - (adds + classes) / 1e6) < 5e-6  # with the linear layer's bias
        trials, disagreeing = trials + 1, disagreeing + (not (same and same_flops))
        if classes == 10:
            count, counted = exact if same else count, adds / 1e6 if same_flops else counted
    return count, counted, trials, disagreeing


def _nats(path: Path) -> Iterator[Result]:
    """The results of a NATS-Bench topology directory, one file in memory at a time.

    ``meta`` is not needed: each file names its architecture.
    """
    files = [file for file in path.iterdir() if re.fullmatch(r"\d+\.pickle\.pbz2", file.name)]
    if not files:
        raise WsnasError(f"{path} holds no NNNNNN.pickle.pbz2; give {OFFICIAL}, unpacked")
    for file in sorted(files, key=lambda file: int(file.name.split(".")[0])):
        try:
            content = read_file(file, LARGEST, packed=True)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise WsnasError(
                f"{file} is truncated or not a .pbz2 file ({error}); unpack or download it again"
            ) from error
        yield _result(read_pickle(content, file, _keep, f"give {OFFICIAL}"), file, "its content")


def _pth(path: Path) -> Iterator[Result]:
    """The results of the official .pth, in the order of their index."""
    content = _read_pth(path)
    names = {"meta_archs", "arch2infos", "evaluated_indexes"}
    if not isinstance(content, dict) or not names <= content.keys() or not isinstance(content["arch2infos"], dict):
        have = ", ".join(map(str, list(content)[:4])) if isinstance(content, dict) else type(content).__name__
        raise WsnasError(
            f"{path} is not the NAS-Bench-201 table, which holds {', '.join(sorted(names))}; it has {have}"
        )
    if not all(type(index) is int for index in content["arch2infos"]):
        raise WsnasError(f"{path} names architectures by something other than their numbers; give {OFFICIAL}")
    for index, states in sorted(content["arch2infos"].items()):
        yield _result(states, path, f"architecture {index}")


def _keep(key: Any, value: Any) -> bool:
    """Drops the learning curves as they are read.

    The whole official file is some 300 million numbers in dicts: about 34 GB of memory and a quarter of an
    hour with ``torch.load(weights_only=True)``. Without all but the last epochs' numbers it takes about 1 GB and ten
    minutes (both extrapolated from a file of 60 architectures).
    """
    # a float is a point of a curve {epoch: x} or {"x-valid@EPOCH": x}, or a named number such as params
    return type(value) is not float or (
        type(key) is str and ("@" not in key or key.endswith(("@11", "@199")))  # the last of 12 and 200
    )


class _Whole(io.BufferedReader):
    """A file that refuses to make room for more bytes than it has."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 1 << 20 and size > os.fstat(self.fileno()).st_size:
            raise EOFError("it ends too early")
        return super().read(size)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The pickle inside a torch file: a zip's ``*/data.pkl``, or, before torch 1.6, the fourth in a row."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith("/data.pkl")]
            if not members or members[0].compress_type != zipfile.ZIP_STORED:  # torch compresses nothing
                raise WsnasError(f"{path} is a zip file but not a torch file; give {OFFICIAL}")
            with archive.open(members[0]) as file:
                yield file
    else:
        with _Whole(io.FileIO(path)) as file:
            if read_pickle(file, path, advice="download it again") != 0x1950A86A20F9469CFC6C:  # torch's magic number
                raise WsnasError(f"{path} is a pickle but not a torch file; give {OFFICIAL}")
            for _ in ("version", "byte order"):
                read_pickle(file, path)
            yield file


def _read_pth(path: Path) -> Any:
    """The content of a torch file without tensors, minus its curves. Raises WsnasError for anything else."""
    try:
        with _opened(path) as file:
            return read_pickle(file, path, _keep, f"give {OFFICIAL}")
    except WsnasError:
        raise
    except Exception as error:  # a malformed zip file can raise nearly anything
        raise WsnasError(
            f"{path} is truncated or not a torch file ({type(error).__name__}: {error}); download it again"
        ) from error
