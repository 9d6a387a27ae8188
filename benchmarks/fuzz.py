"""Damaged and hostile inputs for every reader of files: how many are read, refused, or worse.

Each input is a good file with some changes. Packed files (gzip, bzip2, zip, a torch file) are changed inside and packed
again half of the time, and others lose their checksum or get a new one, so that the changes get past it. Half of the
changes to JSON replace values by others. An input that is read may have been changed to another good one; where a
checksum was left as it was, a difference counts as wrong.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py --inputs 100000
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import pickle
import sqlite3
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from trials import PICKLE_WORDS, mutated, numbered, odd, tried

from wsnas.data.cifar import read_parquet
from wsnas.data.sources import folder, imagenet16, npz, two_parts
from wsnas.environment import environment
from wsnas.options import Command
from wsnas.overview import overview
from wsnas.pickles import read_pickle
from wsnas.recipe import recipe_from_json
from wsnas.runs import Run, _crc, _with_digest, sealed
from wsnas.space import load_space
from wsnas.studies.explorer import read_panels
from wsnas.studies.report import claims_table, read_study
from wsnas.table import Column, Table

Read = Callable[[Path], Any]


class Reader(NamedTuple):
    """``good``: contents of good files. ``name``: of the file that gets them, below a folder. ``read``: of that."""

    good: list[bytes]
    name: str
    read: Read
    strict: bool = False  # whether what is read must be as before: it has a checksum, which ``pack`` makes anew
    unpack: Callable[[bytes], bytes] | None = None
    pack: Callable[[bytes], bytes] | None = None
    words: np.ndarray | None = None  # to be inserted, see ``mutated``


def zipped(entries: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, 1)


def saved(save: Callable[[Any], Any]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def npy(values: np.ndarray) -> bytes:
    return saved(lambda file: np.save(file, values))


def encoded(image: Image.Image, kind: str) -> bytes:
    return saved(lambda file: image.save(file, kind))


def readers(place: Path) -> dict[str, Reader]:
    """Every reader of a file that may come from somewhere else."""
    return {**_tables(place), **_data(place), **_results(place)}


def _tables(place: Path) -> dict[str, Reader]:
    spaces = {name: load_space(name) for name in ("nb101", "nb201", "darts_cnn")}
    nb201 = spaces["nb201"]
    names = [nb201.encode(arch) for arch in list(nb201)[:3]]
    measured = {Column("cifar10", split, 200, 777): np.array([90.5, 91.5, 92.5]) for split in ("valid", "test")}
    table = Table("nb201", tuple(names), measured, np.array([1000, 2000, 3000]), failed=np.zeros(3, dtype=np.bool_))
    table.save(place / "good.parquet")
    table.save_csv(place / "good.csv")
    parquet, text = (place / "good.parquet").read_bytes(), (place / "good.csv").read_bytes()

    def state(name: str, epochs: int) -> dict[str, Any]:
        curve = {f"{part}@{epochs - 1}": 90.25 for part in ("x-valid", "ori-test", "x-test")}
        result = {"params": np.float64(0.4), "flop": 15.6, "eval_acc1es": curve, "seed": "777"}
        return {"arch_str": name, "all_results": {("cifar10-valid", 777): result, ("cifar100", 777): result}}

    official = {
        "meta_archs": names,
        "arch2infos": {i: {"full": state(name, 200), "less": state(name, 12)} for i, name in enumerate(names)},
        "evaluated_indexes": {0, 1, 2},
    }
    legacy = saved(lambda file: torch.save(official, file, _use_new_zipfile_serialization=False))
    stored = pickle.dumps({"12": state(names[0], 12), "200": state(names[0], 200)}, protocol=4)

    def torch_zip(content: bytes) -> bytes:
        return zipped({"table/data.pkl": content, "table/version": b"3\n"}, zipfile.ZIP_STORED)

    from nb101.isomorphism import classes, hashes
    from nb101.space import LABELS, arch_at
    from nb101.tables import _masked_crc

    cell, adjacency = arch_at(int(classes().firsts[5])), np.zeros((7, 7), dtype=int)
    for target, taken in enumerate(cell.sources, start=1):
        adjacency[list(taken), target] = 1
    graph = spaces["nb101"].encode(cell)
    cells = {"architecture": graph, "cifar10_test_108": 93.5}
    arrays = {"adjacency": adjacency[None].astype(np.int8), "operations": np.array([cell.ops], np.int8)}
    arrays |= {f"{part}_correct_of_10000": np.full((1, 3), 9000, np.int16) for part in ("valid", "test")}
    numbers = struct.pack("<d", 0.93)
    evaluation = b"\x19" + numbers + b"\x21" + numbers + b"\x29" + numbers
    message = (b"\x0a" + bytes([len(evaluation)]) + evaluation) * 3 + b"\x10\xb8\x17"
    labels = ",".join(["input", *(LABELS[op] for op in cell.ops), "output"])
    described = [hashes()[5], 108, "".join(map(str, adjacency.reshape(-1))), labels, base64.b64encode(message).decode()]
    record = json.dumps(described).encode()

    def tfrecord(content: bytes) -> bytes:
        head = struct.pack("<Q", len(content))
        crcs = [_masked_crc(part).to_bytes(4, "little") for part in (head, content)]
        return head + crcs[0] + content + crcs[1]

    darts = spaces["darts_cnn"]
    arch = darts.encode(darts.sample(np.random.default_rng(0)))
    entry = {"architecture": arch, "cifar10_test_600": 96.5, "cifar10_test_600_3": 97}
    made = zipped({f"{name}.npy": npy(values) for name, values in arrays.items()})
    return {
        "Parquet": Reader([parquet], "t.parquet", nb201.import_table, strict=True),
        "CSV": Reader([text], "t.csv", nb201.import_table),
        "CSV, gzip": Reader([gzipped(text)], "t.csv.gz", nb201.import_table, False, gzip.decompress, gzipped),
        "torch file, old": Reader([legacy], "t.pth", nb201.import_table, words=PICKLE_WORDS),
        "torch file, zip": Reader([torch_zip(pickle.dumps(official, 2))], "t.pth", nb201.import_table, False,
                                  lambda content: _entry(content, "table/data.pkl"), torch_zip, PICKLE_WORDS),
        "NATS": Reader([bz2.compress(stored)], "nats/000000.pickle.pbz2", lambda path: nb201.import_table(path.parent),
                       False, bz2.decompress, bz2.compress, PICKLE_WORDS),
        "TFRecord": Reader([tfrecord(record)], "t.tfrecord", spaces["nb101"].import_table, False,
                           lambda content: content[12:-4], tfrecord),
        "NAS-Bench-101 npz": Reader([made], "t.npz", spaces["nb101"].import_table, False,
                                    lambda content: _entry(content, "adjacency.npy"),
                                    lambda content: _with(made, "adjacency.npy", content)),
        "DARTS JSON": Reader([json.dumps([entry]).encode()], "t.json", darts.import_table),
        "NAS-Bench-101 CSV": Reader([",".join(cells).encode() + f'\n"{graph}",93.5\n'.encode()], "t.csv",
                                    spaces["nb101"].import_table),
    }  # fmt: skip


def _entry(content: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name)


def _with(content: bytes, name: str, entry: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return zipped({n: entry if n == name else archive.read(n) for n in archive.namelist()})


def _data(place: Path) -> dict[str, Reader]:
    rng = np.random.default_rng(0)
    arrays = {
        f"{part}_{kind}": values
        for part, n in (("train", 12), ("test", 8))
        for kind, values in (
            ("images", rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)),
            ("labels", np.arange(n) % 3),
        )
    }
    made = zipped({f"{name}.npy": npy(values) for name, values in arrays.items()})
    image = Image.fromarray(arrays["train_images"][0]).resize((16, 16))
    images = [encoded(image, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]
    for part in ("train", "val"):
        (place / "images" / part / "cat").mkdir(parents=True)
    image.save(place / "images/val/cat/0.png")
    stored = [{"bytes": encoded(Image.fromarray(one), "PNG")} for one in rng.integers(0, 256, (3, 32, 32, 3), np.uint8)]
    parquet = saved(lambda file: pq.write_table(pa.table({"img": stored, "label": [0, 9, 3]}), file))
    batch = pickle.dumps({"data": rng.integers(0, 256, (6, 768), dtype=np.uint8), "labels": [1, 2, 3] * 2}, protocol=2)
    split = json.dumps({name: ["int", [str(i) for i in range(s, 20, 2)]] for s, name in enumerate(("train", "valid"))})
    lines = "\n".join(f"the {i} cat sat on mat {i % 7} and ran" for i in range(240)).encode()
    parts = {f"{part}.txt": lines[:4000] for part in ("train", "valid", "test")}

    def text(path: Path) -> Any:
        from darts_rnn.text import _load_text, load_text

        _load_text.cache_clear()  # files may change faster than their times
        return load_text(str(path)).train.sum()

    return {
        "images npz": Reader([made], "d.npz", npz, False, lambda content: _entry(content, "train_labels.npy"),
                             lambda content: _with(made, "train_labels.npy", content)),
        "image": Reader(images, "images/train/cat/0.png", lambda path: folder(path.parents[2])),
        "ImageNet16 pickle": Reader([batch], "batch", lambda path: read_pickle(path.read_bytes(), path),
                                    words=PICKLE_WORDS),
        "ImageNet16": Reader([batch], "val_data", lambda path: _batches(path), words=PICKLE_WORDS),
        "CIFAR Parquet": Reader([parquet], "cifar10/train.parquet", lambda path: read_parquet([path], "cifar10")),
        "split file": Reader([split.encode()], "s.json", lambda path: two_parts(20, 10, str(path), ("train", "valid"))),
        "text": Reader([lines], "text.txt", text),
        "text, gzip": Reader([gzipped(lines)], "text.gz", text, False, gzip.decompress, gzipped),
        "text, zip": Reader([zipped(parts)], "text.zip", text, False, lambda content: _entry(content, "train.txt"),
                            lambda content: _with(zipped(parts), "train.txt", content)),
    }  # fmt: skip


def _batches(path: Path) -> Any:
    """The batch as both training and validation, since the reader wants both."""
    training = path.with_name("train_data_batch_1")
    training.write_bytes(path.read_bytes())
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    return imagenet16(path.parent, {"train_data_batch_1": md5, "val_data": md5}, 120)


def _results(place: Path) -> dict[str, Reader]:
    recipe = load_space("nb201").recipes["micro"]
    run = Run.open(place / "run", {"kind": "supernet", "space": "nb201", "seed": 1}, recipe.to_json())
    with run.writing():
        for epoch in range(3):
            run.append("metrics.jsonl", {"epoch": epoch, "loss": 1.5})
        run.save_checkpoint({"model": {"w": torch.arange(50.0)}, "step": 3})
        run.record_all("evaluation", {f"arch {i}": {"accuracy": 50.0 + i} for i in range(20)})
    verdict = {"claim": "c", "source": "s", "space": "nb201", "rule": "r", "measured": "m", "verdict": "holds"}
    settings = {"scale": "micro", "seeds": 3, "nb201": {"dataset": "digits", "without_ground_truth": 0}}
    ranking = {"factor": 2, "correlation": 0.5, "epochs": 3}
    described = {
        "study": "capacity", "title": "t", "source": "s", "command": "c", "settings": settings, "environment": {},
        "results": {"nb201": [ranking]}, "verdicts": [verdict],
    }  # fmt: skip
    image = saved(lambda file: Image.new("RGB", (4, 4)).save(file, "PNG"))
    (place / "study").mkdir()
    (place / "study/capacity.png").write_bytes(image)

    def study(path: Path) -> Any:
        read_panels(path.parent)
        return claims_table([read_study(path.parent)])

    def run_reader(
        name: str, read: Callable[[Run], Any], unpack: Callable[[bytes], bytes], pack: Callable[[bytes], bytes]
    ) -> Reader:
        content = (place / "run" / name).read_bytes()
        return Reader([content], f"run/{name}", lambda path: read(Run.read(path.parent)), True, unpack, pack)

    def unsealed(content: bytes) -> bytes:
        lines = [json.loads(line) for line in ([content] if content[:2] == b"{\n" else content.splitlines())]
        return b"".join(json.dumps({k: v for k, v in line.items() if k != "crc"}).encode() + b"\n" for line in lines)

    def resealed(content: bytes) -> bytes:
        try:
            return json.dumps(sealed(json.loads(content))).encode()
        except (ValueError, TypeError, RecursionError):  # no JSON any more
            return content

    def checkpoint(content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(good)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        changed = {name: content if name.endswith("/data.pkl") else entry for name, entry in entries.items()}
        return _with_digest(zipped(changed, zipfile.ZIP_STORED))

    def rows(content: bytes) -> bytes:
        with closing(sqlite3.connect(place / "rows")) as database, database:
            database.deserialize(stored)
            values = database.execute("SELECT kind, key, status FROM records LIMIT 1").fetchone()
            row = (*values, content.decode(errors="replace"))
            with suppress(UnicodeEncodeError):
                database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", (*row, _crc(row)))
            database.commit()
            return database.serialize()

    good, stored = ((place / "run" / name).read_bytes() for name in ("checkpoint.pt", "records.sqlite"))

    def settings_of(run: Run) -> Any:
        return (
            run.identity,
            recipe_from_json(recipe, run.recipe),
            [(one.what, one.progress) for one in overview(run.path)],
            run.started(),
        )

    cpu, size = torch.device("cpu"), (place / "run/metrics.jsonl").stat().st_size

    def metrics(run: Run) -> Any:
        run.cut_back("metrics.jsonl", size)  # what a checkpoint says of it
        return run.metrics()

    return {
        "results.json": Reader([json.dumps(described).encode()], "study/results.json", study),
        "run.json": run_reader("run.json", settings_of, unsealed, resealed),
        "metrics.jsonl": run_reader("metrics.jsonl", metrics, unsealed, bytes),
        "checkpoint.pt": run_reader("checkpoint.pt", lambda run: repr(run.load_checkpoint(cpu)),
                                    lambda content: _entry(content, "archive/data.pkl"), checkpoint),
        "records.sqlite": run_reader("records.sqlite", lambda run: {kind: run.records(kind) for kind in run.kinds()},
                                     lambda _: b'{"accuracy": 50.0, "curve": [1, 2]}', rows),
    }  # fmt: skip


def fuzzed(reader: Reader, place: Path, seed: int, count: int, log: Path) -> dict[str, int]:
    """``count`` mutations of a reader's good files, counted by how reading them ended."""
    file = place / reader.name
    file.parent.mkdir(parents=True, exist_ok=True)
    good = []
    for content in reader.good:
        file.write_bytes(content)
        good.append(_comparable(reader.read(file)))

    def trial(i: int) -> bool:
        rng = numbered(seed, i)
        which = int(rng.integers(len(good)))
        content = reader.good[which]
        strict = reader.strict
        if reader.unpack is not None and reader.pack is not None and rng.random() < 0.5:
            content, strict = reader.pack(_changed(reader.unpack(content), rng, reader.words)), False
        else:
            content = _changed(content, rng, reader.words)
        file.unlink(missing_ok=True)
        file.write_bytes(content)
        found = _comparable(reader.read(file))
        return not strict or found == good[which] or not content

    ends = tried(trial, count, log)
    file.write_bytes(reader.good[0])
    return ends


def _changed(content: bytes, rng: np.random.Generator, words: np.ndarray | None) -> bytes:
    if content[:1] in (b"{", b"[") and rng.random() < 0.5:
        lines = content.splitlines() if content[:2] == b'{"' else [content]
        which = int(rng.integers(len(lines)))
        lines[which] = json.dumps(odd(json.loads(lines[which]), rng)).encode()
        return b"\n".join(lines) + b"\n"
    return mutated(content, rng, words)


def _comparable(found: Any) -> Any:
    if isinstance(found, Table):
        columns = {str(column): values.tolist() for column, values in found.columns.items()}
        single = {name: values.tolist() for name, values in found.single().items()}
        return found.space, found.archs, columns, single, dict(found.about)
    return found


@click.command(cls=Command)
@click.option("--inputs", type=click.IntRange(1), default=1000, show_default=True, help="Inputs for each reader.")
@click.option("--reader", "only", multiple=True, help="Only this reader; repeatable.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("fuzz.json"), help="Counts; it goes on from there."
)
@click.option("--log", type=click.Path(path_type=Path), default=Path("fuzz.log"), help="What was wrong, and why.")
def main(inputs: int, only: tuple[str, ...], seed: int, out: Path, log: Path) -> None:
    """Mutations for every reader: how each ended."""
    torch.set_num_threads(1)
    settings = {"inputs": inputs, "seed": seed}
    stored = json.loads(out.read_text()) if out.exists() else {}
    counts = stored["readers"] if settings.items() <= stored.items() else {}
    with tempfile.TemporaryDirectory() as folder_:
        place = Path(folder_)
        every = readers(place)
        for name in only or every:
            if name in counts:
                continue
            started = time.perf_counter()
            counts[name] = fuzzed(every[name], place, seed, inputs, log)
            click.echo(f"{name:20} {counts[name]}  {time.perf_counter() - started:.1f} s", err=True)
            ordered = {name: counts[name] for name in every if name in counts}
            out.write_text(json.dumps({**settings, "readers": ordered, "environment": environment()}, indent=1) + "\n")
    print(out.read_text(), end="")


if __name__ == "__main__":
    main()
