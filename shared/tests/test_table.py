"""Ground-truth tables: what is computed from them, and reading good, foreign and damaged files."""

from __future__ import annotations

import csv
import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from wsnas.agreement import correlate, remarks
from wsnas.errors import WsnasError
from wsnas.evaluation import Scores
from wsnas.table import Column, Table, read_csv, read_table, reader

NAN = np.nan


def table() -> Table:
    return Table(
        "toy",
        ("a", "b", "c", "d"),
        {
            Column("digits", "test", 8, 1): np.array([4.0, NAN, 6, NAN]),
            Column("digits", "test", 8, 0): np.array([1.0, 2, 4, NAN]),
            Column("digits", "test", 4, 0): np.array([90.0, 91, 92, 93]),
            Column("digits", "valid", 8, 0): np.array([5.0, 6, 7, 8]),
            Column("cifar100", "test", 200, None): np.array([70.0, 71, 72, 73]),
        },
        parameters=np.array([10, 20, -1, 40]),
        macs=np.array([1.5, 2.5, NAN, 4.5]),
        failed=np.array([False, True, False, True]),
        about={"source": "here"},
    )


def assert_equal(one: Table, other: Table) -> None:
    assert (one.space, one.archs, dict(one.about)) == (other.space, other.archs, dict(other.about))
    assert list(one.columns) == list(other.columns)
    for column, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[column])
    for name in ("parameters", "macs", "failed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_only_architectures_with_results_are_drawn() -> None:
    """Those of the length that counts: of a seed, of validation or of another data set; not of other lengths alone."""
    assert table().have_results().all()  # cifar100 has all four
    columns = {column: values for column, values in table().columns.items() if column.dataset == "digits"}
    tests = {column: values for column, values in columns.items() if column.split == "test"}
    assert Table("toy", table().archs, columns).have_results().tolist() == [True, True, True, True]  # valid has
    alone = Table("toy", table().archs, tests)
    assert alone.have_results().tolist() == [True, True, True, False]
    assert sorted(alone.sample(9)) == ["a", "b", "c"]
    assert len({*alone.sample(2)} - {"d"}) == 2
    shorter = Table("toy", table().archs, tests, about={"epochs": "4"})
    assert sorted(shorter.sample(9)) == ["a", "b", "c", "d"]


def test_a_saved_table_comes_back(tmp_path: Path) -> None:
    table().save(tmp_path / "table.parquet")
    assert_equal(Table.load(tmp_path / "table.parquet"), table())
    bare = Table("toy", ("a",), {Column("d", "test", 1, None): np.array([93.5])})
    bare.save(tmp_path / "bare.parquet")
    back = Table.load(tmp_path / "bare.parquet")
    assert (back.parameters, back.macs, back.failed) == (None, None, None)


def test_a_publishers_flops_are_multiply_adds(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    for text, expected in (
        ("architecture,d_test_2_0,flops\na,90,3.0", 3.0),
        ("architecture,parameters,macs,failed,d_test_2_0\na,5,3.0,False,90", 3.0),
    ):
        file.write_text(text)
        assert read_csv(file, "toy").macs == [expected]
    table().save_csv(file)
    np.testing.assert_array_equal(read_csv(file, "toy").macs, table().macs)  # type: ignore[arg-type]


def test_every_accuracy_of_two_decimals_survives_the_file(tmp_path: Path) -> None:
    values = np.arange(10_001) / 100
    names = tuple(map(str, range(10_001)))
    Table("toy", names, {Column("d", "test", 1, 0): values}).save(tmp_path / "t.parquet")
    back = Table.load(tmp_path / "t.parquet").mean("d", "test")
    assert [f"{x:.2f}" for x in back] == [f"{x:.2f}" for x in values]


def test_seeds_are_in_order_and_the_longest_training_counts() -> None:
    np.testing.assert_array_equal(table().seeds("digits", "test"), [[1, 4], [2, NAN], [4, 6], [NAN, NAN]])
    np.testing.assert_array_equal(table().seeds("digits", "test", 4), [[90], [91], [92], [93]])
    np.testing.assert_array_equal(table().seeds("cifar100", "test")[:, 0], [70, 71, 72, 73])
    means = {Column("digits", "test", 8, None): np.array([2.5, 2, 5, NAN])}  # beside the seeds: not one more of them
    both = Table("toy", table().archs, {**means, **table().columns})
    np.testing.assert_array_equal(both.seeds("digits", "test"), table().seeds("digits", "test"))


def test_a_data_set_is_found_whatever_its_case_and_hyphens() -> None:
    np.testing.assert_array_equal(table().seeds("CIFAR-100", "test"), table().seeds("cifar100", "test"))
    assert table().epochs("Digits", "test") == table().epochs("digits", "test")
    own = Table("toy", ("a", "b"), {Column("Digits", "test", 8, 0): np.array([1.0, 2.0])})
    assert own.mean("digits", "test").tolist() == [1, 2]
    both = Table("toy", ("a", "b"), {**own.columns, Column("digits", "test", 8, 0): np.array([3.0, 4.0])})
    assert [both.mean(name, "test").tolist() for name in ("Digits", "digits")] == [[1, 2], [3, 4]]


def test_a_seed_that_some_have_does_not_enter_the_mean() -> None:
    """Seed 0 of 40, seed 1 of 39 (one failed), seed 2 of the ten best: seeds 0 and 1, and all three for the ten."""
    values = np.arange(40.0)
    columns = {Column("d", "test", 8, seed): values + seed for seed in range(3)}
    columns[Column("d", "test", 8, 1)][5] = NAN
    columns[Column("d", "test", 8, 2)][:30] = NAN
    found = Table("toy", tuple(map(str, range(40))), columns)
    assert found.seeds("d", "test").shape == (40, 3)
    common = found.common_seeds("d", "test")
    np.testing.assert_array_equal(common, found.seeds("d", "test")[:, :2])
    np.testing.assert_array_equal(found.mean("d", "test"), [*(values[:5] + 0.5), 5, *(values[6:] + 0.5)])
    best = found.select(list(map(str, range(30, 40))))
    np.testing.assert_array_equal(best.mean("d", "test"), values[30:] + 1)
    np.testing.assert_array_equal(table().mean("digits", "test"), [1, 2, 4, NAN])  # seed 1 has two of three


def test_correlate_compares_means_of_equally_many_seeds() -> None:
    """The two best have a second seed, which was unlucky: by means over all seeds they would be the worst."""
    columns = {Column("d", "test", 8, 0): np.arange(8.0), Column("d", "test", 8, 1): np.full(8, NAN)}
    columns[Column("d", "test", 8, 1)][6:] = -20
    found = Table("toy", tuple("abcdefgh"), columns)
    assert correlate(dict(zip(found.archs, range(8), strict=True)), found).value == 1


def test_what_there_is_and_what_there_is_not() -> None:
    assert table().datasets == ("digits", "cifar100")
    assert table().epochs("digits", "test") == {4, 8}
    assert table().epochs("cifar100", "valid") == set()
    with pytest.raises(WsnasError, match=r"no column cifar100/valid; it has cifar100/test/200, digits/test/4"):
        table().mean("cifar100", "valid")
    with pytest.raises(WsnasError, match="digits/test/5"):
        table().seeds("digits", "test", 5)


def test_select_takes_these_rows_in_this_order() -> None:
    found = table().select(["c", "a"])
    assert found.archs == ("c", "a")
    np.testing.assert_array_equal(found.columns[Column("digits", "valid", 8, 0)], [7, 5])
    np.testing.assert_array_equal(found.parameters, [-1, 10])
    np.testing.assert_array_equal(found.macs, [NAN, 1.5])
    np.testing.assert_array_equal(found.failed, [False, False])
    assert len(table().select([])) == 0
    with pytest.raises(WsnasError, match="zebra is not in the toy table of 4"):
        table().select(["a", "zebra"])


def test_a_sample_is_distinct_uniform_and_decided_by_its_seed() -> None:
    many = Table("toy", tuple("abcdefgh"), {Column("d", "test", 1, 0): np.zeros(8)})
    assert many.sample(5, 3) == many.sample(5, 3)
    assert many.sample(3, 3) == many.sample(5, 3)[:3]
    assert sorted(many.sample(99)) == list("abcdefgh")
    rng = np.random.default_rng(0)
    draws = [many.sample(2, rng) for _ in range(2000)]
    assert all(len(set(pair)) == 2 for pair in draws)
    counts = np.unique([name for pair in draws for name in pair], return_counts=True)[1]
    assert len(counts) == 8
    assert stats.chisquare(counts).pvalue > 1e-3


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(WsnasError, match="d/test/1/0 has 2 rows for 3"):
        Table("toy", ("a", "b", "c"), {Column("d", "test", 1, 0): np.zeros(2)})
    with pytest.raises(WsnasError, match="macs"):
        Table("toy", ("a",), {}, macs=np.zeros(2))


@pytest.mark.parametrize("column", [Column("imagenet16-120", "valid", 200, 777), Column("ptb", "test", 3, None)])
def test_a_columns_name_is_read_back(column: Column) -> None:
    assert Column.parse(str(column)) == column


def test_correlate_leaves_out_what_was_not_measured() -> None:
    scores = {"a": 3.0, "b": 1.0, "c": 5.0, "d": -9.0, "not in the table": 7.0}
    found = correlate(scores, table(), "digits", "test")
    assert found.n == 3
    assert found.value == pytest.approx(stats.spearmanr([3, 1, 5], [1, 2, 4]).statistic)
    for count in (0, -1):
        with pytest.raises(WsnasError, match="give 1 or more"):
            table().sample(count)
    with pytest.raises(WsnasError, match="only 1 of the 2"):
        correlate({"a": 1.0, "d": 2.0}, table(), "digits", "test")


def test_correlate_compares_with_what_was_trained_on() -> None:
    """Of several data sets that of the scores, else the one asked for; never just the first. Order: of accuracies."""
    scores = Scores({"a": 1.0, "b": 2.0, "c": 3.0})
    scores.metric, scores.dataset = "accuracy", "CIFAR-100"
    both = {Column("digits", "test", 8, 0): np.arange(3.0), Column("cifar100", "test", 8, 0): -np.arange(3.0)}
    found = Table("toy", ("a", "b", "c"), both)
    assert correlate(scores, found).value == -1
    assert correlate(scores, found, "digits").value == 1
    with pytest.raises(WsnasError, match=r"has digits, cifar100: say which one to compare with \(dataset\)"):
        correlate(dict(scores), found)
    with pytest.raises(WsnasError, match="has no data set 'svhn', only digits, cifar100"):
        correlate(scores, found, "svhn")
    with pytest.raises(WsnasError, match="expected the scores and then a ground truth, a Table, not Scores"):
        correlate(found, scores)  # type: ignore[arg-type]


def test_a_perplexity_is_compared_with_a_perplexity() -> None:
    scores = Scores({"a": 100.0, "b": 90.0, "c": 80.0})
    scores.metric = scores.truth_metric = "perplexity"
    assert (
        correlate(scores, Table("toy", ("a", "b", "c"), {Column("d", "test", 8, 0): np.array([9.0, 8, 7])})).value == 1
    )


# what is said beside a correlation ------------------------------------------------------------------


def test_scores_that_are_not_finite_are_left_out_and_counted() -> None:
    """An overflowed perplexity made the correlation refuse everything."""
    scores = {"a": 3.0, "b": 1.0, "c": 5.0, "d": math.inf}
    whole = replace(table(), columns={Column("digits", "test", 8, 0): np.array([1.0, 2.0, 3.0, 4.0])})
    found = correlate(scores, whole, "digits", "test")
    assert found.n == 3
    assert found.value == pytest.approx(stats.spearmanr([3, 1, 5], [1, 2, 3]).statistic)
    assert remarks(scores, whole, "digits", "test") == ["left out: 1 of 4 scores, which are not finite"]
    with pytest.raises(WsnasError, match=r"only 1 of the 2 .* and a finite score \(1 have none\)"):
        correlate({"a": 1.0, "d": math.nan}, whole, "digits", "test")


def test_a_constant_side_is_said() -> None:
    archs = ("a", "b", "c", "d")
    whole = Table("toy", archs, {Column("digits", "test", 8, 0): np.arange(4.0), Column("d", "test", 1, 0): np.ones(4)})
    assert correlate(dict.fromkeys(archs, 10.0), whole, "digits").value == 0
    (said,) = remarks(dict.fromkeys(archs, 10.0), whole, "digits", "test")
    assert said == "all 4 scores are equal (10): there is no order, so 0 says nothing"
    (said,) = remarks(dict(zip(archs, range(4), strict=True)), whole, "d", "test")
    assert said == "all 4 values of d test are equal (1): there is no order, so 0 says nothing"
    assert remarks(dict(zip(archs, range(4), strict=True)), whole, "digits", "test") == []


def test_seeds_that_are_copies_are_said() -> None:
    values = np.array([90.0, 91.0, 92.5, NAN, 93.0])
    columns = {Column("digits", "test", 8, seed): values + (seed == 1) for seed in range(3)}
    whole = Table("toy", tuple("abcde"), columns)
    assert whole.equal_seeds("digits", "test") == [(0, 2)]
    scores = {"a": 1.0, "b": 2.0, "c": 3.0, "e": 4.0}
    assert remarks(scores, whole, "digits", "test") == [
        "the table's seeds 0 and 2 are equal everywhere: a copy, not a repetition"
    ]
    few = whole.take(np.arange(3))  # two trainings can agree on three architectures
    assert few.equal_seeds("digits", "test") == []


def test_columns_are_spelled_alike_in_both_files(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table().save(tmp_path / "t.parquet")
    table().save_csv(tmp_path / "t.csv")
    names = [name for name in pq.read_schema(tmp_path / "t.parquet").names if name != "arch"]
    with (tmp_path / "t.csv").open() as file:
        header = next(csv.reader(file))
    assert header[0] == "architecture"
    assert sorted(header[1:]) == sorted(names)
    assert any(name.count("/") == 3 for name in names)


# other people's numbers -----------------------------------------------------------------------------

CSV_NAMES = {"arch": "architecture", "d/test/8/0": "d_test_8_0", "d/valid/8/mean": "d_valid_8"}


def write(folder: Path, suffix: str, columns: dict[str, list[Any]]) -> Path:
    """The same columns, with the names of a wsnas table, as CSV or Parquet, without the checks of a ``Table``."""
    path = folder / f"t{suffix}"
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(
                [[CSV_NAMES.get(name, name) for name in columns], *zip(*columns.values(), strict=True)]
            )
    else:
        stored = pa.table(columns)
        pq.write_table(stored.replace_schema_metadata({"wsnas": '{"space": "toy", "about": {}}'}), path)
    return path


def read(path: Path, metric: str = "accuracy") -> Table:
    return read_table(path, "toy", lambda text: text, metric)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("parameters", [3e5, 0.344346], "0.344346 is not a whole number; if it is in millions, multiply"),
        ("parameters", [300, -7], "-7 is not a number of parameters; correct it"),
        ("parameters", [300, float("inf")], "inf is not a number of parameters"),
        ("d/test/8/0", [90.5, 8586], "8586 is not an accuracy in percent; correct it or leave it empty"),
        ("d/test/8/0", [90.5, -5], "-5 is not an accuracy"),
        ("d/test/8/0", [90.5, float("inf")], "inf is not an accuracy"),
        ("d/valid/8/mean", [90.5, -float("inf")], "-inf is not an accuracy"),
        ("macs", [1.5, -1.0], "-1 is not a number of multiply-adds"),
        ("latency", [1.5, float("inf")], "inf is not a latency"),
        ("latency", [1.5, 1e39], "1e+39 is not a latency"),  # which the float32 of a saved table cannot hold
        ("failed", [0.0, 2.0], "not true or false"),
        ("arch", ["a", None], "the architecture is missing"),
    ],
    ids=str,
)
def test_a_number_that_cannot_be_is_refused_and_named(
    tmp_path: Path, suffix: str, name: str, values: list[Any], says: str
) -> None:
    columns = {"arch": ["a", "b"], "d/test/8/0": [90.5, 91.5], name: values}
    with pytest.raises(WsnasError) as refusal:
        read(write(tmp_path, suffix, columns))
    said = str(refusal.value)
    assert says in said or (name == "failed" and "'2.0' is not true or false" in said)
    assert f"t{suffix}, " + ("line 3" if suffix == ".csv" else "row 2") in said
    assert name == "arch" or (CSV_NAMES.get(name, name) if suffix == ".csv" else name) in said


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_fractions_for_percent_are_refused(tmp_path: Path, suffix: str) -> None:
    """Not a failed training among others, a column of failures, or a perplexity of nearly 1."""
    columns = {"arch": ["a", "b"], "d/test/8/0": [90.5, 0.5], "d/valid/8/mean": [0.94, 0.93]}
    with pytest.raises(WsnasError, match=r"column d.valid.8.*: the largest accuracy is 0\.94, .* multiply them by 100"):
        read(write(tmp_path, suffix, columns))
    path = write(tmp_path, suffix, {**columns, "failed": [1, 1]})
    assert read(path).mean("d", "valid").tolist() == [0.94, 0.93]
    path = write(tmp_path, suffix, {"arch": ["a"], "d/test/8/0": [1.0]})
    assert read(path, "perplexity").mean("d", "test").tolist() == [1]
    with pytest.raises(WsnasError, match=r"0\.5 is not a perplexity"):
        read(write(tmp_path, suffix, {"arch": ["a"], "d/test/8/0": [0.5]}), "perplexity")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_same_architecture_twice_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, {"arch": ["a", "b", "a"], "d/test/8/0": [90.5, 91.5, 92.5]})
    where = "line 2 and line 4" if suffix == ".csv" else "row 1 and row 3"
    with pytest.raises(WsnasError, match=f"lists a twice; keep one of {where}"):
        read(path)


@pytest.mark.parametrize("written", [["true", "FALSE"], ["1", "0"], ["True", ""], [True, None], [1, 0], [1.0, 0.0]])
def test_failed_is_read_however_it_is_spelled(tmp_path: Path, written: list[Any]) -> None:
    for suffix in (".csv", ".parquet") if not isinstance(written[0], str) else (".csv",):
        path = write(tmp_path, suffix, {"arch": ["a", "b"], "d/test/8/0": [90.5, 91.5], "failed": written})
        assert np.array_equal(read(path).failed, [True, False])  # type: ignore[arg-type]


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for header, says in (
        ("architecture,d_test_8_0,d_test_8_0", "the column d_test_8_0 2 times"),
        ("architecture,d_test_8_0,failed,failed", "the column failed 2 times"),
        ("architecture,d_test_8_0,d_test_8_00", "the column d/test/8/0 as d_test_8_0 and d_test_8_00"),
    ):
        path.write_text(header + "\n" + ",".join(["a", *["0"] * header.count(",")]))
        with pytest.raises(WsnasError, match=says):
            read(path)
    for names in (["d/test/8/0", "d/test/8/0"], ["d/test/8/0", "d/test/08/0"]):
        stored = pa.Table.from_arrays([pa.array(["a"]), pa.array([90.5]), pa.array([91.5])], ["arch", *names])
        about = {"wsnas": '{"space": "toy", "about": {}}'}
        pq.write_table(stored.replace_schema_metadata(about), tmp_path / "t.parquet")
        with pytest.raises(WsnasError, match="the column d/test/8/0 2 times; keep one"):
            read(tmp_path / "t.parquet")


# damaged and foreign parquet ------------------------------------------------------------------------


def test_a_missing_table_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match="wsnas table import"):
        Table.load(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize("kind", ["foreign", "no architectures", "text", "empty", "csv", "folder"])
def test_a_foreign_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t.parquet"
    if kind == "foreign":
        pq.write_table(pa.table({"arch": ["a"], "d/test/1/0": [1.0]}), path)
    elif kind == "no architectures":
        stored = pa.table({"d/test/1/0": [1.0]})
        pq.write_table(stored.replace_schema_metadata({"wsnas": '{"space": "toy", "about": {}}'}), path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes({"text": b"hello", "empty": b"", "csv": b"architecture,d_test_1\na,1\n"}[kind])
    with pytest.raises(WsnasError, match="not a wsnas table"):
        Table.load(path)


@pytest.mark.parametrize(
    "columns",
    [{"d/test/one/0": [1.0]}, {"d/test/1/0": ["much"]}, {"d/test/1/0": [1.0], "macs": ["x"]}, {"d/test/1/x": [1.0]}],
    ids=str,
)
def test_columns_that_are_not_numbers_are_refused(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    path = tmp_path / "t.parquet"
    stored = pa.table({"arch": ["a"], **columns})
    pq.write_table(stored.replace_schema_metadata({"wsnas": '{"space": "toy", "about": {}}'}), path)
    with pytest.raises(WsnasError, match="not a wsnas table"):
        Table.load(path)


def test_a_table_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table().save(path)
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(WsnasError, match="truncated"):
            Table.load(path)


# csv ------------------------------------------------------------------------------------------------

GOOD = """architecture,cifar10_valid_200,cifar10_test_200_777,cifar10_test_200_888,cifar10_parameters,note
a,80.5,81.25,,1000,x
"b,c",70,71,72.5,,
"""


@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_is_read(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(GOOD.encode()) if packed else GOOD.encode())
    found = read_csv(path, "toy")
    assert (found.space, found.archs) == ("toy", ("a", "b,c"))
    assert list(found.columns) == [
        Column("cifar10", "valid", 200, None),
        Column("cifar10", "test", 200, 777),
        Column("cifar10", "test", 200, 888),
    ]
    np.testing.assert_array_equal(found.seeds("cifar10", "test"), [[81.25, NAN], [71, 72.5]])
    np.testing.assert_array_equal(found.parameters, [1000, -1])
    assert found.macs is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no architectures"),
        (b"architecture,cifar10_test_200\n", "no architectures"),
        (b"name,score\nx,1\n", "needs a column 'architecture'"),
        (b"architecture,score\nx,1\n", "needs a column"),
        (b"cifar10_test_200,b\n1,2\n", "needs a column 'architecture'"),
        (GOOD.replace("72.5", "seventy").encode(), "line 3, cifar10_test_200_888: 'seventy' is not a number"),
        (GOOD.replace("1000", "1k").encode(), "line 2, cifar10_parameters: '1k' is not a number"),
        (GOOD.encode()[:-6], "line 3"),
        (GOOD.encode()[:-12] + b"\n", "line 3"),
        (GOOD.replace('"b,c"', "a").encode(), "lists a twice"),
        (b"\x80\x81\xff,\xfe\n", "not a CSV table"),
        (gzip.compress(GOOD.encode())[:-20], "truncated"),
        (gzip.compress(GOOD.encode())[:15] + b"\xff" * 40, "not a CSV table"),
        (b"\x1f\x8b", "truncated"),
        (b"arch,c/test/10/0,c/test/10/seed1\na,1,2\n", "has a column 'c/test/10/seed1': a result's is called"),
        (b"arch,c/test/10/0\na,7_1\n", "'7_1' is not a number"),
    ],
    ids=range(16),
)
def test_a_bad_csv_is_refused_and_says_where(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(WsnasError) as refusal:
        read_csv(path, "toy")
    assert says in str(refusal.value)
    assert "t.csv" in str(refusal.value)


def test_a_missing_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match=r"nowhere\.csv"):
        read_csv(tmp_path / "nowhere.csv", "toy")


# what people send -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        b"\xef\xbb\xbfarchitecture,d_test_8\na,90.5\nb,91.5\n",
        b"architecture,d_test_8\r\na,90.5\r\nb,91.5\r\n",
        b"architecture,d_test_8\na,90.5\nb,91.5\n\n\n\r\n",
        b'"architecture","d_test_8"\n"a","90.5"\n"b"," 91.5 "',
        b'note,architecture,d_test_8\n,a,90.5\n"x, y\nz",b,91.5\n',
    ],
    ids=["BOM", "CRLF", "empty lines at the end", "quotes, no last newline", "a note of two lines"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_of_another_program_is_read(tmp_path: Path, written: bytes, packed: bool) -> None:
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(written) if packed else written)
    table = read(path)
    assert table.archs == ("a", "b")
    assert table.mean("d", "test").tolist() == [90.5, 91.5]


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("t.csv", b"architecture;d_test_8\na;90,5\n", "it needs a column 'architecture'"),
        ("t.csv.gz", gzip.compress(b"architecture,d_test_8\na,90.5\n") + b"garbage", "truncated or not a CSV"),
        ("t.csv.gz", gzip.compress(b"architecture,d_test_8\n" + b"a,90.5\n" * 20_000_000), "holds more than 67 MB"),
        ("t.csv", b"architecture,d_test_8\n" + b"," * 11_000_000, "truncated or not a CSV"),
        ("t.csv", b"architecture,d_test_" + b"9" * 5000 + b"\na,90.5\n", "not a ground-truth table"),
        ("t.csv", b"architecture,d_test_8\na," + b"9" * 5000 + b"\n", "is not an accuracy"),
        ("t.csv", b"architecture,d_test_8\na," + b"9" * 200_000 + b"\n", "field larger than field limit"),
        ("t.csv", b"architecture,d_test_8\na,nine\0\n", "is not a number"),
        ("t.csv", "architecture,d_test_8\na,90.5\n".encode("utf-16"), "truncated or not a CSV"),
    ],
    ids=[
        "semicolons",
        "garbage after gzip",
        "a bomb",
        "fields",
        "epochs",
        "digits",
        "a long field",
        "a zero",
        "UTF-16",
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, name: str, written: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(written)
    with pytest.raises(WsnasError, match=says):
        read(tmp_path / name)


def parquet(path: Path, columns: dict[str, Any], about: Any = None, **options: Any) -> Path:
    described = {"wsnas": json.dumps({"space": "toy", "about": {} if about is None else about})}
    pq.write_table(pa.table(columns).replace_schema_metadata(described), path, **options)
    return path


def test_extra_columns_of_parquet_are_left_alone(tmp_path: Path) -> None:
    columns = {"arch": ["a", "b"], "d/test/8/0": [90.5, 91.5], "note": ["x", "y"], "curve": [[1.0], [2.0, 3.0]]}
    table = read(parquet(tmp_path / "t.parquet", columns))
    assert table.archs == ("a", "b")
    assert [str(column) for column in table.columns] == ["d/test/8/0"]


@pytest.mark.parametrize(
    ("columns", "about"),
    [
        ({"parameters": ["1000", "2000"]}, {}),
        ({"parameters": [[1], [2]]}, {}),
        ({}, ["a list"]),
        ({}, "text"),
        ({}, {"epochs": "many"}),
        ({}, {"source": 3}),
        ({}, {"2 epochs": "two"}),
        ({}, {"2 epochs": "[" * 5000}),
        ({}, {"taken over": "{}"}),
        ({"arch": [1, 2]}, {}),
        ({"arch": [["a"], ["b"]]}, {}),
        ({"arch": ["a" * 20_000, "b"]}, {}),
        ({"d/test/" + "9" * 5000 + "/0": [1.0, 2.0]}, {}),
    ],
    ids=str,
)
def test_a_parquet_file_of_other_types_is_refused(tmp_path: Path, columns: dict[str, Any], about: Any) -> None:
    path = parquet(tmp_path / "t.parquet", {"arch": ["a", "b"], "d/test/8/0": [90.5, 91.5], **columns}, about)
    with pytest.raises(WsnasError, match="not a wsnas table"):
        read(path)


def test_null_in_parquet_is_not_measured(tmp_path: Path) -> None:
    columns = {"arch": ["a", "b"], "d/test/8/0": [90.5, None], "failed": pa.nulls(2), "parameters": [None, 5]}
    table = read(parquet(tmp_path / "t.parquet", columns))
    assert math.isnan(table.mean("d", "test")[1])
    assert table.failed is not None
    assert table.parameters is not None
    assert (table.failed.tolist(), table.parameters.tolist()) == ([False, False], [-1, 5])


@pytest.mark.parametrize("kind", ["many rows", "one name"])
def test_a_parquet_bomb_is_refused(tmp_path: Path, kind: str) -> None:
    rows = 30_000_000 if kind == "many rows" else 100_000
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), ["a" if rows > 1e6 else "a" * 9000])
    path = parquet(tmp_path / "t.parquet", {"arch": names, "d/test/8/0": np.zeros(rows, np.float32)})
    assert path.stat().st_size < 200_000
    with pytest.raises(WsnasError, match=r"more than a table can have|too long"):
        read(path)


@pytest.mark.parametrize("name", ["d/test/1000000000/0", "d/test/8/-1", "d/test/-8/0"])
def test_a_column_of_impossible_numbers_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WsnasError, match=r"t\.parquet"):
        read(parquet(tmp_path / "t.parquet", {"arch": ["a"], name: [90.5]}))


def test_only_one_kind_of_error_leaves_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @reader
    def broken(path: Path) -> Table:
        raise AssertionError("what nobody thought of")

    with pytest.raises(WsnasError, match=r"x cannot be read \(AssertionError: what nobody thought of\)"):
        broken(tmp_path / "x")
    with pytest.raises(WsnasError, match="cannot be read"):
        broken(tmp_path / ("x" * 300))
    with pytest.raises(WsnasError, match="not a regular file"):
        broken(Path("/dev/zero"))


def test_a_flipped_bit_of_a_saved_table_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table().save(path)
    content, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(400):
        bad = bytearray(content)
        bit = int(rng.integers(8 * len(bad)))
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            assert_equal(Table.load(path), table())
        except WsnasError:
            refused += 1
    assert refused > 200
