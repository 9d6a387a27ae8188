"""Tables of genotypes with accuracies: the real one, small ones by hand, and damaged ones."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darts_cnn import SPACE
from darts_cnn.space import OPS, Architecture, encode, sample
from darts_cnn.tables import import_table
from wsnas import WsnasError
from wsnas.table import Column, Table


def in_json(one: Architecture) -> dict[str, Any]:
    return {
        name: [[[OPS[op], source] for op, source in node] for node in cell]
        for name, cell in (("normal", one.normal), ("reduce", one.reduce))
    }


ARCHS = [sample(np.random.default_rng(seed)) for seed in range(3)]


def entries(**measured: list[Any]) -> list[dict[str, Any]]:
    return [in_json(one) | {name: values[i] for name, values in measured.items()} for i, one in enumerate(ARCHS)]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_the_real_table() -> None:
    """214 architectures; best and last epoch as the file has them, the last first."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("WSNAS_TEST_DATA", default)) / "darts_cnn.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    table = import_table(path)
    raw = json.loads(path.read_text())
    assert (table.space, len(table)) == ("darts_cnn", 214)
    assert table.datasets == ("cifar10", "cifar10-best")
    assert table.mean("cifar10", "test", 600).tolist() == [entry["cifar10_test_last"] for entry in raw]
    assert table.mean("cifar10-best", "test").tolist() == [entry["cifar10_test_best"] for entry in raw]
    assert table.failed is not None
    assert not table.failed.any()
    for text, entry in zip(table.archs, raw, strict=True):
        assert in_json(SPACE.decode(text)) == {name: entry[name] for name in ("normal", "reduce")}


def test_json_by_hand(tmp_path: Path) -> None:
    measured = entries(cifar10_test_600_7=[96.0, None, 10], cifar10_valid_300=[90, 91.5, 92], comment=["a", "b", "c"])
    measured[1] = {key: value for key, value in measured[1].items() if key not in ("normal", "reduce")}
    measured[1]["architecture"] = f" {encode(ARCHS[1])}\n"
    table = import_table(write(tmp_path / "table.json", measured))
    assert table.archs == tuple(encode(one) for one in ARCHS)
    assert set(table.columns) == {Column("cifar10", "test", 600, 7), Column("cifar10", "valid", 300, None)}
    np.testing.assert_array_equal(table.columns[Column("cifar10", "test", 600, 7)], [96.0, np.nan, 10.0])
    np.testing.assert_array_equal(table.columns[Column("cifar10", "valid", 300, None)], [90, 91.5, 92])
    assert table.failed is not None
    assert table.failed.tolist() == [False, False, True]  # 10 % is chance
    assert table.about == {"source": "table.json", "architectures": "3"}
    table.save(tmp_path / "table.parquet")
    again = import_table(tmp_path / "table.parquet")
    assert again.archs == table.archs
    np.testing.assert_array_equal(again.mean("cifar10", "valid"), [90, 91.5, 92])


def test_csv_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "cifar10_test_600", "parameters"])
        writer.writerows([[encode(one).replace(", ", ","), 97.0 + i, 3_000_000 + i] for i, one in enumerate(ARCHS)])
    table = import_table(path)
    assert table.archs == tuple(encode(one) for one in ARCHS)
    assert table.mean("cifar10", "test").tolist() == [97.0, 98.0, 99.0]
    assert table.parameters is not None
    assert table.parameters.tolist() == [3_000_000, 3_000_001, 3_000_002]
    path.write_text(path.read_text().replace("max_pool_3x3", "min_pool_3x3", 1))
    with pytest.raises(WsnasError, match=r"table\.csv, line \d: .* the operation 'min_pool_3x3' is unknown"):
        import_table(path)


def changed(row: int, **fields: Any) -> list[dict[str, Any]]:
    found = entries(cifar10_test_last=[96.1, 96.2, 96.3])
    found[row].update(fields)
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is not a list of architectures"),
        ({"normal": []}, "is not a list of architectures"),
        ([1, 2], "is not a list of architectures"),
        (entries(), "holds no accuracies"),
        (entries(accuracy=[1, 2, 3]), "holds no accuracies"),
        (changed(1, normal=None), r"entry 2: 'normal' must be four nodes of two slots"),
        (changed(1, reduce=[[["skip_connect", 0]]] * 4), "entry 2: 'reduce' must be four nodes"),
        (changed(1, reduce=in_json(ARCHS[1])["reduce"][:3]), "entry 2: reduce needs 8 slots, two per node, but has 6"),
        (changed(2, normal=[[["skip_connect", 0], ["skip_connect", 0]]] * 4), "entry 3: normal, node 2 reads node 0"),
        (changed(2, architecture="resnet"), "entry 3: 'resnet' is not a genotype"),
        (changed(0, cifar10_test_last="97"), "entry 1: cifar10_test_last must be an accuracy in percent, not 97"),
        (changed(0, cifar10_test_last=971.0), "must be an accuracy in percent, not 971"),
        (changed(0, cifar10_test_last=float("nan")), "must be an accuracy in percent, not nan"),
        (changed(0, cifar10_test_last=True), "must be an accuracy in percent, not True"),
        (
            changed(0, cifar10_test_600=97),
            "entry 1: two of cifar10_test_last, cifar10_test_600 are the same measurement",
        ),
        (
            entries(cifar10_test_last=[0.96, 0.97, 0.95]),
            r"cifar10/test/600/mean: the largest accuracy is 0\.97, so .* fr",
        ),
        (changed(1, **in_json(ARCHS[0])), "lists Genotype.* twice; keep one"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(WsnasError, match=message) as caught:
        import_table(write(tmp_path / "table.json", content))
    assert "table.json" in str(caught.value)


def test_a_name_twice_in_an_entry_is_refused(tmp_path: Path) -> None:
    """Python would take the later value."""
    path = write(tmp_path / "table.json", changed(0))
    path.write_text(
        path.read_text().replace('"cifar10_test_last": 96.1', '"cifar10_test_last": 9, "cifar10_test_last": 90')
    )
    with pytest.raises(WsnasError, match=r"table\.json .*an entry has 'cifar10_test_last' twice"):
        import_table(path)


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "table.json", changed(0))
    content = path.read_bytes()
    for bad in (content[: len(content) // 2], b"", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(bad)
        with pytest.raises(WsnasError, match=r"table\.json is truncated or not JSON"):
            import_table(path)
    with pytest.raises(WsnasError, match="there is no"):
        import_table(tmp_path / "missing.json")
    (tmp_path / "table.txt").write_bytes(content)
    with pytest.raises(WsnasError, match=r"cannot read .*table\.txt: give a \.json"):
        import_table(tmp_path / "table.txt")
    Table("nb101", ("a",), {}).save(tmp_path / "other.parquet")
    with pytest.raises(WsnasError, match="of the space nb101, not darts_cnn"):
        import_table(tmp_path / "other.parquet")
