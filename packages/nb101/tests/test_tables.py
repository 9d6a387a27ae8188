"""The published tables.

The official TFRecord files were not at hand: those written here follow the published description (see
``nb101.tables``) with a writer of their own, down to the checksums.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nb101.isomorphism import arrays, classes, hashes, index
from nb101.network import parameters
from nb101.space import arch_at, canonical, decode, encode
from nb101.tables import fields, import_table, records
from wsnas import WsnasError
from wsnas.metrics import spearman
from wsnas.table import Column, Table

LABELS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
FOREIGN = "00005c142e6f48ac74fdcf73e3439874"  # a hash of NAS-Bench-101 that is not of this space


# a writer ------------------------------------------------------------------------------------------------------


def crc32c(data: bytes) -> int:
    """Bit by bit, from the polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def metrics(count: int, evaluations: Iterable[tuple[float, float]]) -> bytes:
    """A ModelMetrics message with everything the published ones hold: times, train accuracies, a checkpoint's path."""
    message = b""
    for i, (valid, test) in enumerate(evaluations):
        values = enumerate((54.0 * i, 700.5 * i, 0.99, valid, test), start=1)
        inner = b"".join(bytes([number << 3 | 1]) + struct.pack("<d", value) for number, value in values)
        inner += bytes([6 << 3 | 2, 5]) + b"model"
        message += bytes([1 << 3 | 2]) + varint(len(inner)) + inner
    return message + bytes([2 << 3]) + varint(count) + bytes([3 << 3 | 1]) + struct.pack("<d", 1234.5)


def accuracy(cell: int, epochs: int, run: int, half: bool, test: bool) -> float:
    """A different fraction for every measurement. The last cell's last run at 108 epochs fails."""
    if (cell, epochs, run, half) == (CELLS[-1], 108, 2, False):
        return 0.1002 if test else 0.0998
    return round(0.3 + cell % 1000 / 5000 + epochs / 500 + run / 100 - 0.05 * half - 0.01 * test, 6)


CELLS = [0, 777, 54321, 95_984]  # indices in the order of the space


def payload(cell: int, epochs: int, run: int, changed: dict[str, Any] | None = None) -> list[Any]:
    arch = arch_at(cell)
    adjacency = np.zeros((7, 7), dtype=int)
    for target, taken in enumerate(arch.sources, start=1):
        adjacency[list(taken), target] = 1
    evaluations = [
        (0.1, 0.1),
        *(
            (accuracy(cell, epochs, run, half, False), accuracy(cell, epochs, run, half, True))
            for half in (True, False)
        ),
    ]
    message = metrics(parameters(arch, 128, 3, 10), evaluations)
    found = {
        "hash": canonical(arch),
        "epochs": epochs,
        "adjacency": "".join(map(str, adjacency.reshape(-1))),
        "operations": ",".join(["input", *(LABELS[op] for op in arch.ops), "output"]),
        "metrics": base64.b64encode(message).decode(),
    }
    return list((found | (changed or {})).values())


def foreign(epochs: int = 108) -> bytes:
    values = [
        FOREIGN,
        epochs,
        "010001000",
        "input,conv3x3-bn-relu,output",
        base64.b64encode(metrics(9, [(0.1, 0.1)] * 3)).decode(),
    ]
    return json.dumps(values).encode()


def write(path: Path, payloads: Iterable[Any]) -> Path:
    path.write_bytes(b"".join(record(p if isinstance(p, bytes) else json.dumps(p).encode()) for p in payloads))
    return path


def official(budgets: tuple[int, ...]) -> Iterator[Any]:
    for cell in CELLS:
        for epochs in budgets:
            yield foreign(epochs)
            for run in range(3):
                yield payload(cell, epochs, run)


# TFRecord ------------------------------------------------------------------------------------------------------


def test_crc32c_is_castagnolis() -> None:
    """The check value of the catalogue of CRCs; 32 zeros of RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.parametrize("budgets", [(108,), (4, 12, 36, 108)], ids=["only108", "full"])
def test_every_published_value_lands_in_its_column(tmp_path: Path, budgets: tuple[int, ...]) -> None:
    table = import_table(write(tmp_path / "nasbench.tfrecord", official(budgets)))
    assert table.space == "nb101"
    assert len(set(map(str, table.columns))) == len(budgets) * 2 * 2 * 3
    hash_of = {canonical(arch_at(cell)): cell for cell in CELLS}
    assert {canonical(decode(arch)) for arch in table.archs} == set(hash_of)
    assert table.parameters is not None
    assert table.failed is not None
    for row, arch in enumerate(table.archs):
        cell = hash_of[canonical(decode(arch))]
        for epochs in budgets:
            for run in range(3):
                for half in (False, True):
                    for split in ("valid", "test"):
                        column = Column("cifar10", split, epochs // 2 if half else epochs, run)
                        expected = 100 * accuracy(cell, epochs, run, half, split == "test")
                        assert table.columns[column][row] == pytest.approx(expected, abs=1e-9), (arch, str(column))
        assert table.parameters[row] == parameters(decode(arch), 128, 3, 10)
        assert table.failed[row] == (cell == CELLS[-1])
    assert table.mean("cifar10", "test").shape == (len(table),)  # the 108 epochs' by default
    assert np.array_equal(table.mean("cifar10", "test"), table.mean("cifar10", "test", 108))
    table.save(tmp_path / "table.parquet")
    again = import_table(tmp_path / "table.parquet")
    assert again.archs == table.archs
    assert list(again.columns) == list(table.columns)
    assert again.about == table.about


def test_isomorphic_cells_share_their_measurement(tmp_path: Path) -> None:
    """A class of twelve is measured once and has twelve rows."""
    sizes = np.bincount(classes().of_cell)
    cell = int(np.flatnonzero(classes().of_cell == sizes.argmax())[5])
    table = import_table(write(tmp_path / "nasbench.tfrecord", [payload(cell, 108, 0)]))
    assert len(table) == 12
    assert len({canonical(decode(arch)) for arch in table.archs}) == 1
    assert encode(arch_at(cell)) in table.archs
    assert table.about["architectures"] == "12, of 1 distinct cells"
    assert np.isnan(table.columns[Column("cifar10", "test", 108, 1)]).all()  # a run that is not there
    assert len(np.unique(table.mean("cifar10", "test"))) == 1


def test_damage_is_found(tmp_path: Path) -> None:
    """Every byte: a flipped one of the second record is noticed, whatever it is part of; every way to be cut short."""
    first, second = foreign(), json.dumps(payload(CELLS[0], 108, 0)).encode()
    path = write(tmp_path / "nasbench.tfrecord", [first, second, foreign()])
    content = path.read_bytes()
    start, end = len(record(first)), len(record(first)) + len(record(second))
    for at in [*range(start, start + 40), *range(end - 40, end)]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(WsnasError, match=r"nasbench\.tfrecord, record 2: .*(damaged|checksum).*download it again"):
            list(records(path))
    for size in (start + 1, start + 8, start + 11, start + 12, start + 100, end - 4, end - 1):
        path.write_bytes(content[:size])
        with pytest.raises(WsnasError, match=r"record 2: the file ends in the middle.*download it again"):
            list(records(path))
    path.write_bytes(content[:end])
    assert list(records(path)) == [first, second]


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "nasbench.tfrecord"
    path.write_bytes(b"<html>not found</html>" * 9)
    with pytest.raises(WsnasError, match=r"record 1: not a TFRecord file .give nasbench_only108"):
        import_table(path)
    path.write_bytes(b"")
    with pytest.raises(WsnasError, match="is empty"):
        import_table(path)
    huge = struct.pack("<Q", 2**40)
    path.write_bytes(huge + masked(huge))
    with pytest.raises(WsnasError, match="record 1: not a TFRecord"):
        import_table(path)
    with pytest.raises(WsnasError, match="lists no cell of this space"):
        import_table(write(path, [foreign()]))
    with pytest.raises(WsnasError, match=r"there is no file .*missing\.tfrecord"):
        import_table(tmp_path / "missing.tfrecord")
    (tmp_path / "table.pickle").write_bytes(b"x")
    with pytest.raises(WsnasError, match=r"cannot read .*table\.pickle: .*give nasbench_only108"):
        import_table(tmp_path / "table.pickle")
    Table("nb201", ("a",), {}).save(tmp_path / "other.parquet")
    with pytest.raises(WsnasError, match="of the space nb201, not nb101"):
        import_table(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"epochs": 50}, "published format"),
        ({"epochs": "108"}, "published format"),
        ({"metrics": "*"}, "published format"),
        ({"metrics": ""}, "published format"),
        ({"metrics": base64.b64encode(metrics(9, [(0.1, 0.1)] * 2)).decode()}, "published format"),
        ({"metrics": base64.b64encode(metrics(9, [(0.1, 0.1)] * 3)[:-20]).decode()}, "published format"),
        ({"metrics": 7}, "published format"),
        ({"hash": 7}, "published format"),
        ({"more": 1}, "published format"),
        ({"adjacency": "0" * 49}, "under the hash of another"),
        ({"adjacency": "0101"}, "unknown form"),
        ({"adjacency": "x" * 49}, "unknown form"),
        ({"operations": "input,conv5x5-bn-relu,output"}, "unknown form"),
    ],
)
def test_records_of_another_form(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    path = write(tmp_path / "nasbench.tfrecord", [foreign(), payload(CELLS[0], 108, 0, changed)])
    with pytest.raises(WsnasError, match=rf"nasbench\.tfrecord.*{reason}"):
        import_table(path)


@pytest.mark.parametrize(
    "changed",
    [{"operations": "input,output"}, {"operations": ""}, {"adjacency": "0" * 98}, {"operations": "input," * 12}],
    ids=str,
)
def test_a_cell_of_another_size(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(WsnasError, match=r"writes a cell in an unknown form|cell under the hash of another"):
        import_table(write(tmp_path / "t.tfrecord", [payload(777, 108, 0, changed)]))


@pytest.mark.parametrize("changed", [{"adjacency": 3}, {"operations": [1]}, {"adjacency": None}], ids=str)
def test_a_cell_that_is_no_text(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(WsnasError, match="record 1: it is not in NAS-Bench-101's published format"):
        import_table(write(tmp_path / "t.tfrecord", [payload(777, 108, 0, changed)]))


def test_an_npz_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    """A header of 1 TB, an entry that is no array, and a bomb."""
    good = npz(tmp_path / "good.npz", [0, 777])
    with zipfile.ZipFile(good) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    header = entries["operations.npy"].replace(b"(2, 5), }         ", b"(2000000000, 60), }")
    assert header != entries["operations.npy"]
    for name, content in (("operations.npy", header), ("operations.txt", b"hello"), ("more.npy", bytes(300 << 20))):
        with zipfile.ZipFile(tmp_path / "bad.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, value in (entries | {name: content}).items():
                archive.writestr(entry, value)
        with pytest.raises(WsnasError, match=r"bad\.npz is truncated or not a table"):
            import_table(tmp_path / "bad.npz")


def test_a_run_too_many(tmp_path: Path) -> None:
    path = write(tmp_path / "nasbench.tfrecord", [payload(CELLS[0], 108, run) for run in (0, 1, 2, 0)])
    with pytest.raises(WsnasError, match=r"record 4: a fourth run of .* with 108 epochs"):
        import_table(path)
    other = payload(CELLS[0], 108, 1, {"operations": payload(CELLS[1], 108, 0)[3]})
    with pytest.raises(WsnasError, match="record 2: an earlier cell has the same hash"):
        import_table(write(path, [payload(CELLS[0], 108, 0), other]))


def test_protobuf_by_hand() -> None:
    """The examples of the encoding's specification: 150 as field 1, "testing" as field 2; and what is not one."""
    assert list(fields(bytes.fromhex("089601"))) == [(1, 150)]
    assert list(fields(bytes.fromhex("120774657374696e67"))) == [(2, b"testing")]
    assert list(fields(b"\x0d\x01\x02\x03\x04" + b"\x19" + struct.pack("<d", 0.25))) == [(1, b"\1\2\3\4"), (3, 0.25)]
    for bad in ("0896", "1207746573", "0b", "08" + "ff" * 12, "19000000"):
        with pytest.raises(ValueError, match="protobuf"):
            list(fields(bytes.fromhex(bad)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 40 MB, or of $WSNAS_TEST_TFRECORD_MB (2000 was run once), adds little to what a small one takes."""
    megabytes = int(os.environ.get("WSNAS_TEST_TFRECORD_MB", "40"))
    small = write(tmp_path / "small.tfrecord", official((4, 12, 36, 108)))
    large = tmp_path / "large.tfrecord"
    block = record(foreign()) * 2000
    adjacency, ops = (array[classes().firsts] for array in arrays())
    with open(large, "wb") as file:
        if megabytes >= 1000:  # every cell of the space, as the official file has
            from google_crc32c import value

            def quick(data: bytes) -> bytes:
                crc = value(data)
                return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

            message = base64.b64encode(metrics(3_000_000, [(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)])).decode()
            for name, graph, labels in zip(hashes(), adjacency.tolist(), ops.tolist(), strict=True):
                written = "".join(str(entry) for row in graph for entry in row)
                operations = ",".join(["input", *(LABELS[op] for op in labels), "output"])
                for epochs in (4, 12, 36, 108):
                    data = json.dumps([name, epochs, written, operations, message]).encode()
                    length = struct.pack("<Q", len(data))
                    file.write((length + quick(length) + data + quick(data)) * 3)
        else:
            file.write(small.read_bytes())
        while file.tell() < megabytes * 1_000_000:
            file.write(block)
    code = (
        "import re, sys, time; from pathlib import Path; from nb101.tables import import_table\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]) / 1000\n"
        "found = []\n"
        "for path in sys.argv[1:]:\n"
        "    start = time.perf_counter(); rows = len(import_table(Path(path)))\n"
        "    found.append((rows, peak(), time.perf_counter() - start))\n"
        "import json; print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small), str(large)], capture_output=True, text=True, check=True
    )
    (few, before, _), (many, after, seconds) = json.loads(done.stdout)
    print(f"{megabytes} MB: {many} rows, {seconds:.1f} s, {after:.0f} MB of memory; {before:.0f} MB for a small file")
    assert many >= few
    assert after < 500
    if megabytes < 1000:
        assert after - before < 15


# other files ---------------------------------------------------------------------------------------------------


def npz(path: Path, cells: list[int], **changes: Any) -> Path:
    adjacency, ops = (array[cells].astype(np.uint8) for array in arrays())
    content = {
        "graph_hash": np.array([canonical(arch_at(cell)) for cell in cells]),
        "adjacency": adjacency,
        "operations": ops,
        "valid_correct_of_9984": np.array([[9000 + i, 9001, 9002] for i in range(len(cells))], dtype=np.int16),
        "test_correct_of_9984": np.array(
            [[8000 + i, 998, 8002] if i == 1 else [8000 + i, 8001, 8002] for i in range(len(cells))]
        ),
        "parameters": np.array([-1] + [parameters(arch_at(cell), 128, 3, 10) for cell in cells[1:]]),
    }
    np.savez(path, **{name: value for name, value in (content | changes).items() if value is not None})
    return path


def test_npz(tmp_path: Path) -> None:
    table = import_table(npz(tmp_path / "nb101.npz", CELLS))
    hash_of = {canonical(arch_at(cell)): i for i, cell in enumerate(CELLS)}
    assert table.failed is not None
    assert table.parameters is not None
    for row, arch in enumerate(table.archs):
        i = hash_of[canonical(decode(arch))]
        assert table.columns[Column("cifar10", "valid", 108, 0)][row] == 100 * (9000 + i) / 9984
        assert table.columns[Column("cifar10", "test", 108, 2)][row] == 100 * 8002 / 9984
        assert table.failed[row] == (i == 1)
        assert table.parameters[row] == (parameters(decode(arch), 128, 3, 10) if i else -1)
    plain = import_table(npz(tmp_path / "plain.npz", CELLS, graph_hash=None, parameters=None))
    assert plain.archs == table.archs


def test_npz_keeps_what_is_of_this_space(tmp_path: Path) -> None:
    """A cell with an edge from input to output, or to itself, is another; one in another order of vertices is not."""
    adjacency, ops = (array[CELLS].copy() for array in arrays())
    adjacency[0, 0, 6] = adjacency[2, 3, 3] = 1
    order = np.array([0, 2, 1, 3, 4, 5, 6])
    adjacency[1], ops[1] = adjacency[1][order][:, order], ops[1][order[1:6] - 1]
    table = import_table(npz(tmp_path / "nb101.npz", CELLS, adjacency=adjacency, operations=ops))
    kept = [CELLS[1], *CELLS[3:]]
    assert {canonical(decode(arch)) for arch in table.archs} == {canonical(arch_at(cell)) for cell in kept}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"adjacency": None}, "KeyError"),
        ({"test_correct_of_9984": None}, "not enough values"),
        ({"adjacency": np.zeros((4, 6, 6))}, r"adjacency \(4, 6, 6\)"),
        ({"valid_correct_of_9984": np.zeros((3, 3))}, "cannot reshape"),
        ({"parameters": np.zeros(3)}, r"parameters \(3,\)"),
        ({"parameters": np.array([-1, 3e6, 3.344, 3e6])}, r"cell 2, parameters: 3\.344 is not a whole number"),
        ({"operations": np.full((4, 5), 0.5)}, r"cell 0, operations: 0\.5 is not a whole number"),
        ({"adjacency": np.full((4, 7, 7), 0.9)}, r"cell 0, adjacency: 0\.9 is not a whole number"),
        ({"valid_correct_of_9984": np.full((4, 3), 90.5)}, r"cell 0, valid_correct_of_9984: 90\.5 is not a whole"),
        (
            {"test_correct_of_9984": np.full((4, 3), 10_000)},
            r"cell 0, test_correct.*: 10000 correct answers of 9984 im",
        ),
        ({"test_correct_of_9984": np.full((4, 3), -1)}, r"cell 0, test_correct_of_9984: -1 correct answers"),
        ({"graph_hash": np.array(["0" * 32] * 4)}, "under the hash of another"),
        ({"graph_hash": np.array([{}, 1, 2, 3], dtype=object)}, "allow_pickle=False"),
        ({"adjacency": np.zeros((4, 7, 7))}, "lists no cell of this space"),
    ],
)
def test_bad_npz(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(WsnasError, match=rf"nb101\.npz.*{reason}"):
        import_table(npz(tmp_path / "nb101.npz", CELLS, **changed))


def test_npz_lists_a_cell_twice(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match="twice; keep one"):
        import_table(npz(tmp_path / "nb101.npz", [CELLS[0], CELLS[1], CELLS[0]]))
    path = npz(tmp_path / "nb101.npz", CELLS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(WsnasError, match=r"nb101\.npz is truncated"):
        import_table(path)


def test_npz_holds_an_array_twice(tmp_path: Path) -> None:
    """The later would win."""
    path = npz(tmp_path / "nb101.npz", CELLS)
    with zipfile.ZipFile(path) as archive:
        content = archive.read("test_correct_of_9984.npy")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("test_correct_of_9984.npy", content)
    with pytest.raises(WsnasError, match=r"nb101\.npz .*it holds an array twice"):
        import_table(path)


def test_csv(tmp_path: Path) -> None:
    names = [encode(arch_at(cell)) for cell in CELLS]

    def file(name: str, archs: list[str]) -> Path:
        text = "architecture,cifar10_test_108_0,cifar10_parameters\n"
        text += "".join(f'"{arch}",{90.5 - 80 * (i == 1)},1000\n' for i, arch in enumerate(archs))
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    for name in ("table.csv", "table.csv.gz"):
        table = import_table(file(name, [*names[:2], f" {names[2]} "]))
        assert table.archs == tuple(names[:3])
        assert table.columns[Column("cifar10", "test", 108, 0)].tolist() == [90.5, 10.5, 90.5]
        assert table.failed is not None
        assert table.failed.tolist() == [False, True, False]
    for archs, message in (
        ([names[0].replace("conv3x3", "conv5x5")], r"table\.csv, line 2: .* unknown operation 'conv5x5'"),
        (["nonsense"], r"table\.csv, line 2: 'nonsense' is not a cell of nb101"),
        ([names[0], f" {names[0]}"], "twice; keep one"),
    ):
        with pytest.raises(WsnasError, match=message):
            import_table(file("table.csv", archs))


def test_the_published_npz() -> None:
    """10,975 cells, a quarter of the distinct ones; 93.98 the best; parameters rank them at 0.68 (paper: 0.67)."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("WSNAS_TEST_DATA", default)) / "nb101.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    table = import_table(path)
    which = classes().of_cell[[index(decode(arch)) for arch in table.archs]]
    distinct, first = np.unique(which, return_index=True)
    assert len(distinct) == 10_975
    assert len(table) == np.isin(classes().of_cell, distinct).sum() == 24_822
    test = table.mean("cifar10", "test")
    assert round(float(test.max()), 2) == 93.98
    counts = np.array([parameters(decode(table.archs[row]), 128, 3, 10) for row in first])
    assert table.parameters is not None
    known = table.parameters[first] >= 0
    assert known.sum() == 500
    assert (counts[known] == table.parameters[first][known]).all()
    assert round(spearman(counts, test[first]), 2) == 0.68
    assert table.failed is not None
    lowest = np.min(list(table.columns.values()), axis=0)
    assert (table.failed == (lowest <= 11)).all()
    assert table.failed.any()
