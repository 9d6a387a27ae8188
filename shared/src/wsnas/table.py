"""A ground-truth table: the scores of architectures trained stand-alone.

A column is one measurement, named by data set, split, epochs and seed. Higher accuracy and lower
perplexity are better; the table stores measured values, and ``Table.higher_is_better`` is the one to
rank by. On disk it is one Parquet file; nothing in a table file is ever executed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from html import escape
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsnas.errors import WsnasError
from wsnas.files import atomic_write, cannot_read, home, read_file
from wsnas.metrics import NEARLY_ALL, higher_is_better
from wsnas.recipe import as_if_in_place
from wsnas.words import counted, spelled

Floats = NDArray[np.float64]
SINGLE = {"parameters": np.int64, "macs": np.float64, "latency": np.float64, "failed": np.bool_}  # beside ``columns``
MACS = "multiply-adds of all convolutions and linear layers for one item, in millions; not of biases, norms and pools"
LARGEST, CELLS, LONGEST = 64 << 20, 20_000_000, 10_000  # a CSV file's bytes, a table's numbers, a name's characters
NUMBER = 10**9  # above a column's epochs and seed
LARGEST_NUMBER = float(np.finfo(np.float32).max)  # that a saved table can hold
TRAINED = "trained by wsnas"  # the source of a table that is not a publisher's


class Column(NamedTuple):
    """One measurement of every architecture. ``seed`` is None if the publisher gives only a mean."""

    dataset: str
    split: str  # "valid" or "test"
    epochs: int
    seed: int | None

    def __str__(self) -> str:
        return f"{self.dataset}/{self.split}/{self.epochs}/{'mean' if self.seed is None else self.seed}"

    @staticmethod
    def parse(text: str) -> Column:
        dataset, split, epochs, seed = text.rsplit("/", 3)  # a data set may be a path
        if len(epochs) > 9 or len(seed) > 9:
            raise ValueError(f"{text[:100]} names too large a number")
        return Column(dataset, split, int(epochs), None if seed == "mean" else int(seed))


def _mean_measured(values: Floats) -> Floats:
    """[n, seeds] -> [n]: the mean of what was measured; NaN where nothing was."""
    count = (~np.isnan(values)).sum(1)
    return np.where(count > 0, np.nansum(values, 1) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Table:
    """Ground truth of ``archs`` (encoded). Every array has one entry per architecture; NaN: not measured."""

    space: str
    archs: tuple[str, ...]
    columns: Mapping[Column, Floats]  # accuracy in percent, or perplexity
    parameters: NDArray[np.int64] | None = None  # -1: unknown
    macs: Floats | None = None  # millions of multiply-adds per item, see ``MACS``
    failed: NDArray[np.bool_] | None = None  # a training that ended in chance accuracy, NaN or a crash
    about: Mapping[str, str] = field(default_factory=dict)  # provenance: source, recipe, command ...
    latency: Floats | None = None  # milliseconds; ``about["latency"]`` describes the measurement

    def __post_init__(self) -> None:
        for name, values in [*self.columns.items(), *self.single().items()]:
            if len(values) != len(self.archs):
                raise WsnasError(
                    f"ground-truth column {name} has {len(values)} rows for {len(self.archs)} architectures"
                )

    def __len__(self) -> int:
        return len(self.archs)

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(f"{c.dataset}/{c.split}/{c.epochs}" for c in self.columns))
        size = f"{counted(len(self), 'architecture')}, {counted(len(self.columns), 'column')}"
        return f"Table of {self.space}: {size} ({names})"

    def _repr_html_(self) -> str:
        """What was measured, a row for each data set, split and training length."""
        rows = []
        for dataset, split, epochs in dict.fromkeys(c[:3] for c in self.columns):
            values = self.seeds(dataset, split, epochs)
            known = values[~np.isnan(values)]
            spread = f"{known.min():.2f} to {known.max():.2f}" if len(known) else "not measured"
            cells = (dataset, split, epochs, values.shape[1], f"{len(known):,}", spread)
            rows.append("".join(f"<td>{escape(str(cell))}</td>" for cell in cells))
        heads = "".join(f"<th>{name}</th>" for name in ("data set", "split", "epochs", "seeds", "measured", "range"))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<p>{escape(self.space)}: {counted(len(self), 'architecture')}</p><table><tr>{heads}</tr>{body}</table>"

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``: ``arch``, a column for each measurement, e.g. ``digits/test/8/0``, and ``single``."""
        import pyarrow as pa

        columns = {str(column): values for column, values in self.columns.items()} | self.single()
        return pa.table({"arch": pa.array(self.archs, pa.string()), **columns})

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Makes ``polars.DataFrame(table)``, ``pandas.DataFrame.from_arrow(table)`` and duckdb's queries work."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def single(self) -> dict[str, NDArray[Any]]:
        """What the table has of ``SINGLE``."""
        return {name: values for name in SINGLE if (values := getattr(self, name)) is not None}

    @cached_property
    def row(self) -> Mapping[str, int]:
        """Encoded architecture -> row."""
        return {arch: i for i, arch in enumerate(self.archs)}

    def seeds(self, dataset: str, split: str, epochs: int | None = None) -> Floats:
        """[architectures, seeds] for one data set and split, seeds in order; by default after ``length`` epochs.

        A publisher's mean counts as a single seed, but is left out if the seeds are there.
        """
        dataset = spelled(dataset, self.datasets)
        matching = [c for c in self.columns if (c.dataset, c.split) == (dataset, split)]
        if epochs is None and matching:
            epochs = self.length(dataset, split)
        matching = [c for c in matching if c.epochs == epochs]
        seeded = sorted((c for c in matching if c.seed is not None), key=lambda c: c.seed or 0)
        matching = seeded or matching
        if not matching:
            have = ", ".join(sorted({f"{c.dataset}/{c.split}/{c.epochs}" for c in self.columns}))
            raise WsnasError(
                f"the {self.space} table has no column {dataset}/{split}{'' if epochs is None else f'/{epochs}'}; "
                f"it has {have}"
            )
        return np.stack([self.columns[c] for c in matching], axis=1)

    def mean(self, dataset: str, split: str, epochs: int | None = None) -> Floats:
        """[architectures]: the mean over the ``common_seeds`` it was measured with; NaN where there is none."""
        return _mean_measured(self.common_seeds(dataset, split, epochs))

    def common_seeds(self, dataset: str, split: str, epochs: int | None = None) -> Floats:
        """``seeds`` without those that only some architectures have: fewer than 95 % as many as the seed most have.

        Means over these too would rank the architectures that were trained more often, such as the best by one seed, by
        other luck than the rest.
        """
        values = self.seeds(dataset, split, epochs)
        measured = np.isfinite(values).sum(0)
        return values[:, measured >= NEARLY_ALL * measured.max()]

    def equal_seeds(self, dataset: str, split: str, epochs: int | None = None) -> list[tuple[int, int]]:
        """Pairs of seeds whose results are equal to the last digit for all of at least four architectures."""
        dataset = spelled(dataset, self.datasets)
        length = self.length(dataset, split) if epochs is None else epochs
        own = {c.seed: values for c, values in self.columns.items() if c[:3] == (dataset, split, length)}
        pairs = combinations(sorted(seed for seed in own if seed is not None), 2)
        known = {seed: np.isfinite(values) for seed, values in own.items()}
        return [
            (a, b)
            for a, b in pairs
            if (known[a] & known[b]).sum() >= 4 and (own[a] == own[b])[known[a] & known[b]].all()
        ]

    def epochs(self, dataset: str, split: str) -> set[int]:
        """The training lengths of one data set and split."""
        dataset = spelled(dataset, self.datasets)
        return {c.epochs for c in self.columns if (c.dataset, c.split) == (dataset, split)}

    def length(self, dataset: str, split: str) -> int:
        """The training length, in epochs, that counts as ground truth: the one named in ``about``, else the longest.

        Trainings of some architectures for twice as long only test whether that length is sufficient.
        """
        lengths, named = self.epochs(dataset, split), int(self.about.get("epochs", 0))
        return named if named in lengths else max(lengths)

    def about_length(self, epochs: int) -> Mapping[str, str]:
        """What ``about`` says of the trainings of so many epochs; empty where it says nothing."""
        if self.about.get("epochs") == str(epochs):
            return self.about
        stored = json.loads(self.about.get(f"{epochs} epochs", "{}"))
        return stored if isinstance(stored, dict) else {}

    def in_place_of(self, other: Mapping[str, str]) -> Table:
        """The table with the files of its data set where they lie for another table, if they are the same files.

        ``other``: that table's ``about``, of which ``recipe`` and ``data`` are used.
        """
        names: dict[str, str] = {}

        def moved(about: Mapping[str, str]) -> Mapping[str, str]:
            try:
                own, there = ({**one, "recipe": json.loads(one["recipe"])} for one in (about, other))
                recipe = as_if_in_place(own, there)["recipe"]
                before, after = own["recipe"]["dataset"], recipe["dataset"]
            except (KeyError, TypeError, ValueError, AttributeError):  # no training of ours, or damaged
                return about
            if recipe == own["recipe"]:
                return about
            names[before] = after
            return {**about, "recipe": json.dumps(recipe, sort_keys=True)}

        about = {**moved(self.about)}
        lengths = {int(name.split()[0]) for name in about if re.fullmatch(r"\d{1,9} epochs", name)}
        about |= {f"{n} epochs": json.dumps(moved(self.about_length(n)), sort_keys=True) for n in lengths}
        if not names:
            return self
        columns = {c._replace(dataset=names.get(c.dataset, c.dataset)): of for c, of in self.columns.items()}
        return replace(self, columns=columns, about=about)

    def have_results(self) -> NDArray[np.bool_]:
        """[architectures]: whether they have a result, on any data set, of the training length that counts."""
        kinds = {(column.dataset, column.split) for column in self.columns}
        known = np.zeros(len(self), dtype=np.bool_)
        for kind in kinds:
            known |= np.isfinite(self.mean(*kind))
        return known

    def near_chance(self, classes: Mapping[str, int]) -> NDArray[np.bool_]:
        """[architectures]: whether a training ended within 1.1 times chance.

        ``classes``: how many the data sets have; others do not count.
        """
        low = np.zeros(len(self), dtype=np.bool_)
        for column, accuracies in self.columns.items():
            if column.dataset in classes:
                low |= accuracies <= 1.1 * 100 / classes[column.dataset]
        return low

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c.dataset for c in self.columns))

    def take(self, rows: NDArray[np.int64]) -> Table:
        """These rows, in this order, and everything else as it is."""
        single: dict[str, Any] = {name: values[rows] for name, values in self.single().items()}
        columns = {column: values[rows] for column, values in self.columns.items()}
        return replace(self, archs=tuple(self.archs[i] for i in rows), columns=columns, **single)

    def select(self, archs: Iterable[str]) -> Table:
        """The rows of these architectures, in this order. Raises WsnasError if one is not in the table."""
        archs = tuple(archs)
        missing = [arch for arch in archs if arch not in self.row]
        if missing:
            raise WsnasError(
                f"{missing[0]} is not in the {self.space} table of {len(self)} architectures; to train "
                f"it: wsnas train {self.space} '{missing[0]}'"
            )
        return self.take(np.array([self.row[arch] for arch in archs], dtype=np.int64))

    def sample(self, count: int, rng: np.random.Generator | int = 0) -> list[str]:
        """``count`` different architectures that ``have_results``, uniform; all of them, shuffled, if there are fewer.

        ``rng``: a generator or a seed; ``wsnas evaluate --sample-seed`` draws the same ones with the same seed.
        """
        from wsnas.randomness import numpy_rng  # here, because it imports torch

        if count < 1:
            raise WsnasError(f"cannot sample {count} architectures: give 1 or more")
        rng = numpy_rng(rng, "evaluate") if isinstance(rng, int | np.integer) else rng
        order = rng.permutation(np.flatnonzero(self.have_results()))[:count]
        return [self.archs[int(i)] for i in order]

    def higher_is_better(self, metric: str) -> Table:
        """The table to rank by: accuracies as they are, every perplexity with its sign flipped. Not to be saved."""
        return replace(self, columns={c: higher_is_better(values, metric) for c, values in self.columns.items()})

    def save(self, path: Path | str) -> None:
        """Writes one compressed Parquet file, atomically. float32 is precise enough for published accuracies."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, pa.Array] = {"arch": pa.array(self.archs, pa.string())}
        for column, values in [*self.columns.items(), *self.single().items()]:
            columns[str(column)] = pa.array(values.astype(np.float32) if values.dtype.kind == "f" else values)
        stored, described = pa.table(columns), {"space": self.space, "about": dict(self.about)}
        described["digest"] = _digest(described, stored)
        buffer = io.BytesIO()
        stored = stored.replace_schema_metadata({"wsnas": json.dumps(described, sort_keys=True)})
        pq.write_table(stored, buffer, compression="zstd", compression_level=3)
        atomic_write(Path(path), buffer.getvalue())

    def save_csv(self, path: Path | str) -> None:
        """Writes the CSV that ``read_csv`` reads, atomically; an empty field means "not measured"."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = self.single() | {str(column): values for column, values in self.columns.items()}
        writer.writerow(["architecture", *columns])
        for i, arch in enumerate(self.archs):
            row = [np.float32(v[i]) if v.dtype.kind == "f" else v[i] for v in columns.values()]
            writer.writerow([arch, *("" if value != value else value for value in row)])
        atomic_write(Path(path), text.getvalue().encode())

    @staticmethod
    def load(
        path: Path | str,
        space: str | None = None,
        metric: str | None = None,
        respell: Callable[[str], str] | None = None,
    ) -> Table:
        """A table that ``save`` wrote, of ``space`` if given, ``checked``. Raises WsnasError for any other file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from wsnas.pages import unpacked

        path = Path(path)

        def numbers(name: str) -> Floats:
            kind = stored[name].type
            fine = pa.types.is_floating(kind) or pa.types.is_integer(kind) or kind in (pa.bool_(), pa.null())
            if not fine:
                raise WsnasError(
                    f"{path} is not a wsnas table: its column {name[:100]} holds {str(kind)[:100]}, which are not "
                    "numbers; import the original file again"
                )
            values: Floats = stored[name].cast(pa.float64(), safe=False).to_numpy()
            return values

        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ValueError("it is no file")
            with path.open("rb") as opened:
                size = unpacked(opened)  # before pyarrow makes room for it
            with pq.ParquetFile(path, read_dictionary=["arch"]) as file:  # one copy of a name, however often it occurs
                names = file.schema_arrow.names
                _refuse_twice(path, names)
                named = [name for name in names if name.count("/") >= 3]
                wanted = ["arch", *named, *(name for name in SINGLE if name in names)]
                if file.metadata.num_rows * len(wanted) > CELLS or size > 16 * CELLS:
                    raise WsnasError(f"{path} claims {file.metadata.num_rows} rows, more than a table can have")
                described = json.loads((file.schema_arrow.metadata or {})[b"wsnas"])
                stored = file.read(columns=wanted)
            if space is not None and described["space"] != space:
                raise WsnasError(
                    f"{path} is a table of the space {described['space']}, not {space}; give one of {space}"
                )
            archs = _names(path, stored["arch"])
            if "digest" in described and described.pop("digest") != _digest(described, stored):
                raise WsnasError(f"{path} is damaged: its digest does not match; import the original file again")
            if not all(isinstance(value, str) for value in described["about"].values()):
                raise ValueError("about is no text")
            int(described["about"].get("epochs", 0))
            for name, text in described["about"].items():  # where it is JSON
                if name.endswith(" epochs") and not isinstance(json.loads(text), dict):
                    raise ValueError(f"{name} is no object")
                if name == "taken over" and not isinstance(json.loads(text), list):
                    raise ValueError(f"{name} is no list")
            written = {Column.parse(name): name for name in named}
            _refuse_twice(path, [str(Column.parse(name)) for name in named])
            columns = {column: numbers(name) for column, name in written.items()}
            single: dict[str, NDArray[Any]] = {name: numbers(name) for name in SINGLE if name in names}
            table = Table(str(described["space"]), archs, columns, about=described["about"], **single)
        except FileNotFoundError as error:
            raise WsnasError(f"there is no ground-truth table {path}; make one with 'wsnas table import'") from error
        except PermissionError as error:
            raise cannot_read(path, error) from error
        except WsnasError:
            raise
        except Exception as error:  # a malformed Parquet file can raise nearly anything
            raise WsnasError(
                f"{path} is truncated or not a wsnas table ({type(error).__name__}); import the original file again"
            ) from error
        return checked(path, table, lambda i: f"row {i + 1}", metric or table.about.get("metric"), respell, written)


def _names(path: Path, written: Any) -> tuple[str, ...]:
    """The names of a Parquet column, read as a dictionary. Raises WsnasError if they are no text, or would be too much.

    A file of a kilobyte can repeat a name of a megabyte a million times.
    """
    import pyarrow as pa

    kind = written.type.value_type if pa.types.is_dictionary(written.type) else None
    if kind not in (pa.string(), pa.large_string()):
        raise WsnasError(f"{path} is not a wsnas table: its column arch is no text; import the original file again")
    names: list[Any] = []  # None is refused with the row's number
    for chunk in written.chunks:
        words = chunk.dictionary.to_pylist()
        lengths = np.array([0, *map(len, words)])
        if lengths.max() > LONGEST or lengths[chunk.indices.fill_null(-1).to_numpy() + 1].sum() > LARGEST:
            raise WsnasError(f"{path} is not a wsnas table: its architectures are too long")
        names += [None if index is None else words[index] for index in chunk.indices.to_pylist()]
    return tuple(names)


def _digest(described: Mapping[str, Any], stored: Any) -> str:
    """Names everything in a Parquet table, so that a flipped bit is noticed."""
    found = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for name in stored.column_names:
        values = stored[name].to_pylist() if name == "arch" else stored[name].to_numpy().tobytes()
        found.update(f"\n{name}\n".encode())
        found.update(values if isinstance(values, bytes) else "\n".join(map(str, values)).encode())
    return found.hexdigest()


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise WsnasError(f"{path} has the column {name} {times} times; keep one of them")


def require_whole(
    path: Path, name: str, values: NDArray[Any], where: Callable[[int], str], advice: str = "correct it"
) -> None:
    """Raises WsnasError at the first of ``values`` [n, ...] that is no integer: a cast would cut it."""
    wrong = ~np.isfinite(values) | (values != np.trunc(values))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise WsnasError(f"{path}, {where(int(at[0]))}, {name}: {values[at]:.9g} is not a whole number; {advice}")


def checked(
    path: Path,
    table: Table,
    where: Callable[[int], str],
    metric: str | None,
    respell: Callable[[str], str | None] | None = None,
    written: Mapping[Any, str] | None = None,
) -> Table:
    """What every reader returns: ``table`` as read from ``path``, or WsnasError naming the first row that cannot be.

    Accuracies are percent (a column of which nothing exceeds 1 holds fractions, unless wsnas trained it), perplexities
    at least 1, parameters whole numbers, ``failed`` 0 or 1; NaN stands for "not measured". ``where``: names a row in
    the file. ``metric``: None if not known. ``respell``: converts a written architecture to the space's encoding; it
    raises WsnasError if that is malformed, and None drops the row. ``written``: the columns' names in the file.
    """
    names = {name: (written or {}).get(name, str(name)) for name in [*table.columns, *SINGLE]}
    most = LARGEST_NUMBER  # not infinity
    measured = {"accuracy": (0.0, 100.0, "an accuracy in percent"), "perplexity": (1.0, most, "a perplexity")}
    limits: dict[Any, tuple[float, float, str]] = {
        "parameters": (-1.0, 2.0**53, "a number of parameters"),
        "macs": (0.0, most, "a number of multiply-adds in millions"),
        "latency": (0.0, most, "a latency in milliseconds"),
        "failed": (0.0, 1.0, "true or false"),
        **dict.fromkeys(table.columns, measured.get(metric or "", (0.0, most, "an accuracy or perplexity"))),
    }
    for column in table.columns:
        if not (0 <= column.epochs < NUMBER and 0 <= (column.seed or 0) < NUMBER):
            raise WsnasError(f"{path}, column {names[column][:100]}: its epochs or its seed cannot be")
    for name, values in [*table.columns.items(), *table.single().items()]:
        least, largest, kind = limits[name]
        wrong = ~np.isnan(values) & ~((values >= least) & (values <= largest))
        if name == "failed":
            wrong |= ~np.isin(np.nan_to_num(values), (0, 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise WsnasError(
                f"{path}, {where(row)}, {names[name]}: {values[row]:g} is not {kind}; correct it or leave it empty"
            )
    single: dict[str, Any] = table.single()
    if "parameters" in single:
        counts = np.nan_to_num(single["parameters"], nan=-1)
        require_whole(path, names["parameters"], counts, where, "if it is in millions, multiply it by 1,000,000")
        single["parameters"] = counts.astype(np.int64)
    if "failed" in single:
        single["failed"] = np.nan_to_num(single["failed"]).astype(np.bool_)
    if metric == "accuracy" and table.about.get("source") != TRAINED:
        fine = ~single.get("failed", np.zeros(len(table), dtype=np.bool_))
        for column, values in table.columns.items():
            if 0 < (largest := np.max(values, where=fine & ~np.isnan(values), initial=0)) <= 1:
                raise WsnasError(
                    f"{path}, column {names[column]}: the largest accuracy is {largest:g}, so these are fractions; "
                    "multiply them by 100"
                )
    archs: list[str | None] = list(table.archs)
    for row, arch in enumerate(archs):
        if not arch:
            raise WsnasError(f"{path}, {where(row)}: the architecture is missing; add it or delete the row")
        try:
            archs[row] = arch if respell is None else respell(arch)
        except WsnasError as error:
            raise WsnasError(f"{path}, {where(row)}: {error}") from error
    rows = [row for row, arch in enumerate(archs) if arch is not None]
    if archs and not rows:
        raise WsnasError(f"{path} lists no valid architecture of {table.space}; give another file")
    seen: dict[str | None, int] = {}
    for row in rows:
        if (first := seen.setdefault(archs[row], row)) != row:
            raise WsnasError(f"{path} lists {archs[row]} twice; keep one of {where(first)} and {where(row)}")
    table = replace(table, **single)
    if len(rows) < len(archs):
        table = replace(
            table.take(np.array(rows)), about={**table.about, "dropped": f"{len(archs) - len(rows)} not valid"}
        )
    return replace(table, archs=tuple(arch for arch in archs if arch is not None))


def join(tables: Sequence[Table]) -> Table:
    """One table with all architectures and columns of several tables of one space.

    The first table decides what counts as ground truth: the result has its ``about``, with that of tables with other
    training lengths added as JSON under "2 epochs" and so on. Where tables overlap, the first wins. Validation halfway
    through longer trainings is left out if other tables have trainings of that length. Raises WsnasError for tables of
    several spaces, if the first has no measurements, and if two tables count parameters or multiply-adds differently or
    have trainings of one length by different recipes.
    """
    first, *others = tables
    others = [table.in_place_of(first.about) for table in others]
    tables = [first, *others]
    if not first.columns:
        raise WsnasError(
            f"the first table of {first.space} has no measurements, which would be the ground truth: begin with another"
        )
    longest = str(max(column.epochs for column in first.columns))
    archs = tuple(dict.fromkeys(arch for table in tables for arch in table.archs))
    position = {arch: i for i, arch in enumerate(archs)}
    columns: dict[Column, Floats] = {}
    single: dict[str, NDArray[Any]] = {}
    failed = np.zeros(len(archs), dtype=np.bool_)
    about = {"epochs": longest, **first.about}
    trained = [{(c.dataset, c.epochs) for c in table.columns if c.split == "test"} for table in tables]
    tested = set[tuple[str, int]]().union(*trained)
    for length in sorted({epochs for _, epochs in tested}):
        have = [table for table, own in zip(tables, trained, strict=True) if length in {epochs for _, epochs in own}]
        recipes = {table.about_length(length).get("recipe") for table in have}
        if len(recipes) > 1:
            by = "by different recipes" if None not in recipes else "of which only some say by which recipe"
            raise WsnasError(f"tables with trainings of {counted(length, 'epoch')} {by} cannot be joined")
    for table in tables:
        if table.space != first.space:
            raise WsnasError(f"tables of {first.space} and {table.space} cannot be joined")
        rows = np.array([position[arch] for arch in table.archs], dtype=np.int64)
        for column, values in table.columns.items():
            halfway = column.epochs not in table.epochs(column.dataset, "test")
            if halfway and (column.dataset, column.epochs) in tested:
                continue
            joined = columns.setdefault(column, np.full(len(archs), np.nan))
            joined[rows] = np.where(np.isnan(joined[rows]), values, joined[rows])
        for name, unknown in (("parameters", -1), ("macs", np.nan), ("latency", np.nan)):
            values = getattr(table, name)
            if values is None:
                continue
            joined = single.setdefault(name, np.full(len(archs), unknown, values.dtype))
            here = joined[rows]
            known = here >= 0
            both = known & (values >= 0)
            tolerance = 0 if name == "parameters" else 1e-5  # stored as float32
            if name != "latency" and not np.allclose(here[both], values[both], rtol=tolerance, atol=0):
                raise WsnasError(f"tables of {first.space} with different {name} cannot be joined: networks differ")
            joined[rows] = np.where(known, here, values)
        if table.failed is not None:
            failed[rows] |= table.failed
    for table, own_lengths in zip(others, trained[1:], strict=True):
        lengths = {epochs for _, epochs in own_lengths} - {epochs for _, epochs in trained[0]}
        own = {k: v for k, v in table.about.items() if not k.endswith(" epochs")}
        length = int(own.get("epochs", max(lengths, default=0)))
        if length in lengths:
            about[f"{length} epochs"] = json.dumps(own, sort_keys=True)
        about |= {k: v for k, v in table.about.items() if k.endswith(" epochs") and k not in about}
        if "latency" in table.about:
            about.setdefault("latency", table.about["latency"])
    if any(table.failed is not None for table in tables):
        single["failed"] = failed
    return Table(first.space, archs, columns, about=about, **single)


_CSV_COLUMN = re.compile(
    r"(?P<dataset>.+)(?P<between>[/_])(?P<split>valid|test)(?P=between)(?P<epochs>\d{1,9})(?:(?P=between)(?P<seed>\d{1,9}|mean))?"
)


def read_csv(
    path: Path | str, space: str, metric: str | None = "accuracy", respell: Callable[[str], str | None] | None = None
) -> Table:
    """A table from CSV (``.csv`` or ``.csv.gz``): a column ``architecture`` (or ``arch``), and columns
    ``DATASET/valid/EPOCHS`` / ``DATASET/test/EPOCHS`` with an optional ``/SEED`` or ``/mean`` (or with ``_`` in place
    of ``/``); ``parameters``
    (or ``DATASET_parameters``), ``macs``, ``latency`` and ``failed`` (true or false, 1 or 0) are optional. A column
    ``flops`` is read as ``macs``, as publishers count. An empty field means "not measured".
    Architectures are kept as written unless ``respell`` is given; see ``checked``, which says what is refused.
    """
    path = Path(path)
    try:
        content = io.BytesIO(read_file(path, LARGEST, packed=True))
        reader = csv.reader(io.TextIOWrapper(content, encoding="utf-8-sig", newline=""))
        rows, fields = [], 0
        for row in reader:
            if row:
                rows.append((reader.line_num, row))
                fields += len(row)
            if fields > CELLS // 2:
                raise ValueError(f"more than {CELLS // 2} fields")
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        raise WsnasError(f"{path} is truncated or not a CSV table ({type(error).__name__}: {error})") from error
    if len(rows) < 2:
        raise WsnasError(f"{path} holds no architectures")
    header, lines, body = rows[0][1], [line for line, _ in rows[1:]], [row for _, row in rows[1:]]
    key = next((header.index(name) for name in ("architecture", "arch") if name in header), None)
    measured = {i: match for i, name in enumerate(header) if (match := _CSV_COLUMN.fullmatch(name))}
    if key is None or not measured:
        raise WsnasError(
            f"{path} is not a ground-truth table: it needs a column 'architecture' and columns such as "
            f"cifar10/valid/200 or cifar10/test/200/777; it has {', '.join(header[:8])}"
        )
    _refuse_twice(path, [name for name in header if name])
    if odd := [name for i, name in enumerate(header) if name.count("/") > 1 and i not in measured]:
        raise WsnasError(
            f"{path} has a column '{odd[0][:100]}': a result's is called DATASET/valid/EPOCHS or DATASET/test/EPOCHS, "
            "with an optional /SEED or /mean"
        )
    for line, row in zip(lines, body, strict=True):
        if len(row) != len(header):
            raise WsnasError(f"{path}, line {line}: {len(row)} fields where the header has {len(header)}; truncated?")

    def values(i: int, words: Mapping[str, float]) -> Floats:
        result = np.full(len(body), np.nan)
        for number, row in enumerate(body):
            try:
                text = row[i].strip().lower()
                result[number] = words[text] if text in words else float(text.replace("_", "?"))  # 8_1 is no 81
            except ValueError as error:
                kind = "true or false" if "true" in words else "a number"
                raise WsnasError(f"{path}, line {lines[number]}, {header[i]}: '{row[i][:40]}' is not {kind}") from error
        return result

    empty, flags = {"": np.nan}, {"": 0.0, "true": 1.0, "false": 0.0}
    written: dict[Any, str] = {}
    columns: dict[Column, Floats] = {}
    for i, m in measured.items():
        column = Column(
            m["dataset"], m["split"], int(m["epochs"]), int(m["seed"]) if m["seed"] not in (None, "mean") else None
        )
        if column in columns:
            raise WsnasError(f"{path} has the column {column} as {written[column]} and {header[i]}; keep one of them")
        columns[column], written[column] = values(i, empty), header[i]
    counts = next((i for i, name in enumerate(header) if name.split("_")[-1] == "parameters"), None)
    single: dict[str, Any] = {n: values(header.index(n), empty) for n in ("macs", "latency") if n in header}
    if "flops" in header and "macs" not in single:
        single["macs"], written["macs"] = values(header.index("flops"), empty), "flops"
    if counts is not None:
        single["parameters"], written["parameters"] = values(counts, empty), header[counts]
    if "failed" in header:
        single["failed"] = values(header.index("failed"), flags)
    table = Table(space, tuple(row[key] for row in body), columns, about={"source": path.name}, **single)
    return checked(path, table, lambda i: f"line {lines[i]}", metric, respell, written)


def reader(read: Callable[[Path], Table]) -> Callable[[Path | str], Table]:
    """Around a function that reads a table: only WsnasError leaves it, and only regular files and folders enter."""

    @wraps(read)
    def within(path: Path | str) -> Table:
        path = Path(path)
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or a device might never end
                raise WsnasError(f"{path} is not a regular file")
            return read(path)
        except WsnasError:
            raise
        except Exception as error:  # whatever a file that nobody thought of makes Python raise
            raise WsnasError(
                f"{path} cannot be read ({type(error).__name__}: {str(error)[:200]}); get it from its publisher again"
            ) from error

    return within


def read_table(path: Path | str, space: str, respell: Callable[[str], str], metric: str | None = "accuracy") -> Table:
    """A wsnas table, CSV or Parquet.

    ``respell``: converts a written architecture to the space's encoding; raises WsnasError if it is invalid.
    Raises WsnasError if the file is missing, in another format, of another space or refused by ``checked``.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".parquet"):
        return Table.load(path, space, metric, respell)
    if not path.exists():
        raise WsnasError(f"there is no {path}; give a .csv, .csv.gz or .parquet table")
    if name.endswith((".csv", ".csv.gz")):
        return read_csv(path, space, metric, respell)
    raise WsnasError(f"cannot read {path}: give a .csv, .csv.gz or .parquet table")


def import_home() -> Path:
    """The folder of imported tables: ``$WSNAS_TABLES``, else ``~/.local/share/wsnas``."""
    return home("WSNAS_TABLES", ".local/share")
