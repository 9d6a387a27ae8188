"""What a notebook shows, and what other libraries read, of a table, scores, an interval and a supernet."""

from __future__ import annotations

import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from toy_space import ALL, TOY

from wsnas.errors import WsnasError
from wsnas.evaluation import Scores, evaluate
from wsnas.metrics import Interval
from wsnas.runs import Run
from wsnas.supernet import train_supernet
from wsnas.table import Column, Table, read_csv, read_table


def table(rows: int = 2000) -> Table:
    rng = np.random.default_rng(0)
    columns = {
        Column("digits", split, 8, seed): rng.uniform(20, 90, rows) for split in ("valid", "test") for seed in (0, 1)
    }
    columns[Column("digits", "test", 8, 1)][3] = np.nan
    return Table("toy", tuple(f"arch-{i}" for i in range(rows)), columns, np.arange(rows))


def test_nothing_floods_a_notebook(tmp_path: Path) -> None:
    supernet = train_supernet(TOY, out=tmp_path / "run", device="cpu")
    scores = evaluate(supernet, ALL)
    shown = [table(), scores, Interval(0.5, 0.25, 0.75, 10), supernet]
    assert max(len(repr(one)) for one in shown) < 200
    assert repr(shown[0]) == "Table of toy: 2,000 architectures, 4 columns (digits/valid/8, digits/test/8)"
    assert repr(scores).startswith(f"Scores of {len(ALL)} architectures: accuracy from {min(scores.values()):.2f} to ")
    assert repr(shown[2]) == "0.500 [0.250, 0.750] of 10 architectures"
    assert (
        repr(supernet) == f"Supernet of toy: {supernet.step} steps on {supernet.recipe.dataset}, seed 0: {tmp_path}/run"
    )
    for one in (table(), scores, Interval(0.5, 0.25, 0.75, 10), supernet):
        assert len(one._repr_html_()) < 2000
    assert Interval(0.5, 0.25, 0.75, 1000)._repr_html_() == "<p><b>0.500</b> [0.250, 0.750] of 1,000 architectures</p>"
    best = max(scores, key=lambda arch: scores[arch])
    assert best in scores._repr_html_()
    some = Scores({"a": 50.0, "b": math.nan, "c": 90.0, "d": math.nan, "e": 70.0, "f": 10.0, "g": 95.0})
    assert re.findall(r"<td>(\w?)</td><td>([\d.]*)</td>", some._repr_html_()) == [
        ("g", "95.00"),
        ("c", "90.00"),
        ("e", "70.00"),
        ("a", "50.00"),
        ("f", "10.00"),
        ("d", ""),
    ]
    assert "<td>1,999" not in table()._repr_html_()  # of 4,000 test results one is missing
    assert "<td>3,999</td>" in table()._repr_html_()


def test_scores_are_a_dict_as_before() -> None:
    scores = Scores({"a": 1.0, "b": 2.0})
    assert scores == {"a": 1.0, "b": 2.0}
    assert json.loads(json.dumps(scores)) == scores
    assert pickle.loads(pickle.dumps(scores)) == scores


def test_a_file_can_be_named_in_text(tmp_path: Path) -> None:
    """As people do in a notebook; a missing one is said to be missing, not truncated."""
    table(20).save(f"{tmp_path}/table.parquet")
    table(20).save_csv(f"{tmp_path}/table.csv")
    for read in (
        Table.load(f"{tmp_path}/table.parquet"),
        read_csv(f"{tmp_path}/table.csv", "toy"),
        read_table(f"{tmp_path}/table.csv", "toy", str),
    ):
        assert read.archs == table(20).archs
    with pytest.raises(WsnasError, match=r"there is no ground-truth table nothing\.parquet"):
        Table.load("nothing.parquet")
    train_supernet(TOY, out=f"{tmp_path}/run", device="cpu")
    assert Run.read(f"{tmp_path}/run").identity["space"] == "toy"


def test_arrow_reads_a_table_and_scores() -> None:
    """By the Arrow PyCapsule interface, which polars, pandas and duckdb use, too."""
    read = pa.table(table())
    assert read.column_names == ["arch", *map(str, table().columns), "parameters"]
    np.testing.assert_array_equal(read["digits/test/8/1"].to_numpy(), table().columns[Column("digits", "test", 8, 1)])
    assert read["parameters"].to_pylist() == list(range(2000))
    scores = Scores({"a": 1.0, "b": 2.0})
    scores.metric = "perplexity"
    assert pa.RecordBatchReader.from_stream(scores).read_all().to_pydict() == {
        "arch": ["a", "b"],
        "perplexity": [1.0, 2.0],
    }
