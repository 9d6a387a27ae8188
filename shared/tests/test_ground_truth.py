"""Many trainings: what is recorded, what is counted, what is published, and how it is read back."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from toy_space import ALL, MICRO, TOY, Toy, images, splits

from wsnas import load_ground_truth
from wsnas.cli import main
from wsnas.data.images import Images
from wsnas.errors import NoGroundTruth, WsnasError
from wsnas.executor import Executor
from wsnas.ground_truth import FAILED, best_of, measure_latencies, splits_once, train_many
from wsnas.overview import overview
from wsnas.publish import publish
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe, recipe_fields
from wsnas.runs import Run
from wsnas.sampling import sample_candidates
from wsnas.standalone import Trained, train_architecture
from wsnas.supernet import train_supernet
from wsnas.table import Column, Table, join, read_csv

HERE = Executor(workers=0)
SOME = ALL[:4]


@pytest.fixture
def trained(toy_installed: Path, tmp_path: Path) -> tuple[Table, Path]:
    out = tmp_path / "truth"
    table = train_many(TOY, SOME, out, seeds=(0, 1), executor=HERE)
    return measure_latencies(TOY, table, out, MICRO), out


def test_rows_are_single_trainings(trained: tuple[Table, Path]) -> None:
    table, _ = trained
    for seed in (0, 1):
        alone = train_architecture(TOY, SOME[2], seed=seed)
        row = {c.split + str(c.epochs): values[2] for c, values in table.columns.items() if c.seed == seed}
        assert row == {"valid2": alone.valid, "test2": alone.test, "valid1": alone.half_valid}
        assert len(alone.curve) == 2


def test_without_validation_images_only_the_test_is_scored(toy_installed: Path, tmp_path: Path) -> None:
    """All training images train: the table has no validation column, nothing chooses by one, no supernet is trained."""
    pixels, labels = images(80, 0)
    np.savez(
        tmp_path / "all.npz",
        **{f"{p}_{n}": v for p in ("train", "test") for n, v in (("images", pixels), ("labels", labels))},
    )
    recipe = change_recipe(MICRO, dataset=str(tmp_path / "all.npz"), train_size=80)
    alone = train_architecture(TOY, SOME[0], recipe)
    assert math.isnan(alone.valid)
    assert math.isnan(alone.half_valid)
    assert 0 < alone.test <= 100
    table = train_many(TOY, SOME[:2], tmp_path / "truth", recipe, seeds=(0,), executor=HERE)
    assert [(c.split, c.epochs) for c in table.columns] == [("test", 2)]
    assert table.seeds(recipe.dataset, "test")[0, 0] == alone.test
    timed = measure_latencies(TOY, table, tmp_path / "truth", recipe)
    assert timed.latency is not None
    publish(TOY, timed, tmp_path / "truth")
    known = Table.load(tmp_path / "truth" / "table.parquet")
    again = train_many(TOY, SOME[:2], tmp_path / "again", recipe, seeds=(0,), executor=HERE, known=known)
    assert again.about["seconds"].startswith("0 in all of 0")  # none trained again
    with pytest.raises(WsnasError, match="has a validation score to choose"):
        best_of(TOY, SOME[:2], tmp_path / "truth", recipe, 1)
    with pytest.raises(WsnasError, match="validation images"):
        train_supernet(TOY, recipe, out=tmp_path / "net")
    with pytest.raises(WsnasError, match="patience"):
        train_architecture(TOY, SOME[0], change_recipe(recipe, **{"standalone.patience": 1}))


TWO_WORKERS = """
import sys
from pathlib import Path
from toy_space import ALL, TOY
from wsnas.executor import Executor
from wsnas.ground_truth import train_many
if __name__ == "__main__":
    train_many(TOY, ALL[:14], Path(sys.argv[1]), seeds=(0, 1), executor=Executor(2))
"""


def test_two_killed_workers_resume(
    toy_installed: Path, tmp_path: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """What was recorded stays as it is, the rest is trained: the table of an undisturbed run."""
    out = tmp_path / "killed"
    process = python(TWO_WORKERS, out)
    rows: dict[str, Any] = {}
    while len(rows) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
        rows = Run.read(out).records("training") if (out / "records.sqlite").exists() else {}
    process.kill()
    process.communicate()
    rows = Run.read(out).records("training")
    assert 5 <= len(rows) < 28
    table = train_many(TOY, ALL[:14], out, seeds=(0, 1), executor=HERE)
    again = Run.read(out).records("training")
    assert {name: again[name] for name in rows} == rows
    undisturbed = train_many(TOY, ALL[:14], tmp_path / "undisturbed", seeds=(0, 1), executor=HERE)
    assert table.about["status"] == "28 ok"
    for column, values in undisturbed.columns.items():
        np.testing.assert_array_equal(table.columns[column], values)


def test_a_published_benchmark_is_read_back(trained: tuple[Table, Path]) -> None:
    """Parquet and CSV hold the same numbers, the curves are the trainings', the card says how it was made."""
    table, out = trained
    said = publish(TOY, table, out)
    assert said[0].startswith("4 architectures, 2 seeds, 0 with a failed training (trainings: 8 ok)")
    for found in (
        Table.load(out / "table.parquet"),
        read_csv(out / "table.csv", "toy"),
        load_ground_truth(TOY, table=out),
    ):
        assert found.archs == table.archs
        assert found.columns.keys() == table.columns.keys()
        for column, values in table.columns.items():
            np.testing.assert_array_equal(found.columns[column], values.astype(np.float32))
        for name in ("parameters", "macs", "latency", "failed"):
            np.testing.assert_allclose(getattr(found, name), getattr(table, name), rtol=1e-6)
    assert (table.latency > 0).all()
    curves = pq.read_table(out / "curves.parquet").to_pylist()  # long form: arch, seed, epoch, loss
    assert sorted((row["arch"], row["seed"], row["epoch"]) for row in curves) == sorted(
        (TOY.encode(arch), seed, epoch) for arch in SOME for seed in (0, 1) for epoch in (1, 2)
    )
    alone = train_architecture(TOY, SOME[1], seed=1)
    losses = [row["loss"] for row in curves if (row["arch"], row["seed"]) == (TOY.encode(SOME[1]), 1)]
    assert losses == pytest.approx(alone.curve, rel=1e-6)
    card = (out / "README.md").read_text()
    for part in ("Ground truth of toy", "two seeds agree", '"epochs": 2', "latency", "8 ok", "load_ground_truth"):
        assert part in card


def test_the_number_of_a_forward_pass_is_that_of_what_went_through_it(
    trained: tuple[Table, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split may have fewer than the 32 images that are asked for."""
    table, out = trained
    assert table.about["latency"].startswith("milliseconds per forward pass of 32, fastest of 12, ")
    whole, passed = splits(), list[int]()
    few = dataclasses.replace(whole, valid=Images(*images(9, 1), whole.valid.mean, whole.valid.std, whole.valid.device))
    monkeypatch.setattr("wsnas.ground_truth.splits_once", lambda *_: few)
    monkeypatch.setattr("wsnas.ground_truth._milliseconds", lambda network, x: passed.append(len(x)) or 1.0)
    Run.read(out).forget_records()
    timed = measure_latencies(TOY, table, out, MICRO)
    assert passed == [9] * len(SOME)
    assert timed.about["latency"].startswith("milliseconds per forward pass of 9, fastest of 12, ")
    timed.save(out / "table.parquet")
    assert Table.load(out / "table.parquet").about["latency"] == timed.about["latency"]


def test_known_rows_are_not_trained(
    trained: tuple[Table, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = trained
    calls: list[Any] = []
    monkeypatch.setattr(
        "wsnas.ground_truth.train_architecture", lambda *a, **k: calls.append(a) or pytest.fail("trained")
    )
    again = train_many(TOY, SOME, tmp_path / "run", seeds=(0, 1), executor=HERE, known=table)
    for column, values in table.columns.items():
        np.testing.assert_allclose(again.columns[column], values, atol=1e-6)
    assert again.about["seconds"].startswith("0 in all of 0 trainings")  # its own
    maker = {name: table.about[name] for name in ("environment", "seconds")}
    assert json.loads(again.about["taken over"]) == [maker]
    assert "taken over" not in table.about
    third = train_many(TOY, SOME, tmp_path / "third", seeds=(0, 1), executor=HERE, known=again)
    makers = [maker, {name: again.about[name] for name in ("environment", "seconds")}]
    assert json.loads(third.about["taken over"]) == makers
    two = train_many(TOY, SOME[:2], tmp_path / "two", seeds=(0,), executor=HERE, known=table)
    assert len(two) == 2
    assert len(Run.read(tmp_path / "two").records("training")) == 2  # no other row of the table, which nobody asked for
    (run,) = overview(tmp_path / "two")
    publish(TOY, two, tmp_path / "two")
    assert not run.finished
    (run,) = overview(tmp_path / "two")
    assert (run.progress, run.finished) == ("2 trainings of 2 architectures", True)
    same = train_many(TOY, SOME, tmp_path / "third", seeds=(0, 1), executor=HERE, known=third)  # needs no row of it
    assert json.loads(same.about["taken over"]) == makers
    other = dataclasses.replace(MICRO, channels=5)
    with pytest.raises(WsnasError, match="another recipe"):
        train_many(TOY, SOME, tmp_path / "other", other, executor=HERE, known=table)


def test_known_rows_of_another_length_are_found_in_a_joined_table(
    trained: tuple[Table, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of 1-epoch trainings into which the 2-epoch ones were joined still knows the recipe of both."""
    table, _ = trained
    short = train_many(TOY, SOME, tmp_path / "short", change_recipe(MICRO, **{"standalone.epochs": 1}), executor=HERE)
    monkeypatch.setattr("wsnas.ground_truth.train_architecture", lambda *a, **k: pytest.fail("trained"))
    both = join([short, table])
    assert both.length(MICRO.dataset, "test") == 1
    again = train_many(TOY, SOME, tmp_path / "run", seeds=(0, 1), executor=HERE, known=both)
    np.testing.assert_allclose(again.mean(MICRO.dataset, "test"), table.mean(MICRO.dataset, "test"), atol=1e-6)


def test_a_second_call_keeps_what_the_first_trained_and_the_best_are_those_of_seed_0(
    toy_installed: Path, tmp_path: Path
) -> None:
    """Seed 0 of all, then a second seed for the two best of them by seed 0's validation: one table of both."""
    out = tmp_path / "truth"
    first = train_many(TOY, SOME, out, seeds=(0,), executor=HERE)
    with pytest.raises(WsnasError, match="1 of 5 architectures have no training with seed 0"):
        best_of(TOY, ALL[:5], out, 2)
    best = best_of(TOY, SOME, out, 2)
    valid = first.columns[Column(MICRO.dataset, "valid", 2, 0)]
    assert sorted(valid[SOME.index(arch)] for arch in best) == sorted(valid)[-2:]
    table = train_many(TOY, best, out, seeds=(0, 1), executor=HERE)
    assert set(table.archs) == {TOY.encode(arch) for arch in SOME}
    second = table.columns[Column(MICRO.dataset, "test", 2, 1)]
    assert {name for name, value in zip(table.archs, second, strict=True) if np.isfinite(value)} == {
        TOY.encode(arch) for arch in best
    }
    assert table.failed is not None
    assert not table.failed.any()  # a seed that was never asked for is no failure
    assert table.about["trainings"].startswith("6,")


def test_one_training_for_one_function(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TOY), "training_key", lambda self, arch: "all the same")
    table = train_many(TOY, SOME, tmp_path / "once", seeds=(0,), executor=HERE)
    assert len(Run.read(tmp_path / "once").records("training")) == 1
    assert len(set(table.mean("toy", "test"))) == 1
    train_many(TOY, SOME, tmp_path / "each", seeds=(0,), executor=HERE, dedupe=False)
    assert len(Run.read(tmp_path / "each").records("training")) == 4
    for name, dedupe in (("once", False), ("each", True)):  # none of its rows would be found, and all be trained again
        before = Run.read(tmp_path / name).records("training")
        with pytest.raises(WsnasError, match=r"this command could use none of its trainings: .* --no-dedupe"):
            train_many(TOY, SOME[:2], tmp_path / name, seeds=(0,), executor=HERE, dedupe=dedupe)
        assert Run.read(tmp_path / name).records("training") == before


def test_an_architecture_that_cannot_be_built_is_a_row_without_a_size(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' results are kept; a space that cannot count its networks is refused before they train."""
    real, broken = Toy.build, {ALL[1]}

    def build(space: Any, recipe: Any, arch: Any = None) -> Any:
        if arch in broken:
            raise ZeroDivisionError
        return real(space, recipe, arch)

    def macs(space: Any, arch: Any, recipe: Any) -> int:
        return sum(p.numel() for p in space.build(recipe, space.arch(arch)).parameters())

    monkeypatch.setattr(Toy, "build", build)
    monkeypatch.setattr(Toy, "macs", macs)
    table = train_many(TOY, SOME, tmp_path / "run", seeds=(0,), executor=HERE)
    assert table.failed is not None
    assert table.failed.tolist() == [False, True, False, False]
    assert (table.parameters == -1).tolist() == np.isnan(table.macs).tolist() == table.failed.tolist()
    publish(TOY, table, tmp_path / "run")
    assert Table.load(tmp_path / "run/table.parquet").failed.tolist() == table.failed.tolist()  # type: ignore[union-attr]
    broken.add(ALL[0])
    with pytest.raises(ZeroDivisionError):
        train_many(TOY, SOME, tmp_path / "refused", seeds=(0,), executor=HERE)
    assert not (tmp_path / "refused").exists()


def test_trainings_of_all_lengths_share_the_data_in_memory(toy_installed: Path) -> None:
    first = splits_once("toy", MICRO, torch.device("cpu"))
    assert splits_once("toy", change_recipe(MICRO, epochs=9, **{"standalone.batch": 8}), torch.device("cpu")) is first
    assert splits_once("toy", change_recipe(MICRO, channels=8), torch.device("cpu")) is not first  # it might matter


def test_failures_are_rows_and_are_counted(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One diverges, one crashes, one takes too long; trained again only when asked to."""
    real = train_architecture
    broken = True

    def sometimes(space: Any, arch: Any, recipe: Any, **options: Any) -> Any:
        number = ALL.index(arch)
        if broken and number == 0:
            recipe = change_recipe(recipe, **{"standalone.lr": 1e30})
        if broken and number == 1:
            raise RuntimeError("out of memory")
        if broken and number == 2:
            raise TimeoutError
        return real(space, arch, recipe, **options)

    monkeypatch.setattr("wsnas.ground_truth.train_architecture", sometimes)
    out = tmp_path / "run"
    table = train_many(TOY, SOME, out, seeds=(0,), executor=HERE)
    statuses = {row["arch"]: row["status"] for row in Run.read(out).records("training").values()}
    assert [statuses[TOY.encode(arch)] for arch in SOME] == ["diverged", "crash", "timeout", "ok"]
    assert table.failed is not None
    assert table.failed.tolist() == [True, True, True, False]
    assert [math.isnan(value) for value in table.mean("toy", "test")] == [True, True, True, False]
    assert "3 with a failed training (trainings: 1 crash, 1 diverged, 1 ok, 1 timeout)" in publish(TOY, table, out)[0]
    broken = False
    assert train_many(TOY, SOME, out, seeds=(0,), executor=HERE).failed.tolist() == [True, True, True, False]
    mended = train_many(TOY, SOME, out, seeds=(0,), executor=HERE, retry=("crash", "timeout"))
    assert mended.failed.tolist() == [True, False, False, False]
    assert not train_many(TOY, SOME, out, seeds=(0,), executor=HERE, retry=FAILED).failed.any()


def test_a_perplexity_too_large_for_the_table_is_a_failure(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's float32 ends at 3.4e38; beyond it the whole table was refused when it was read."""
    values = dict(zip(SOME, (3.4e38, 3.5e38, math.inf, 90.0), strict=True))

    def trained(space: Any, arch: Any, recipe: Any, **options: Any) -> Trained:
        return Trained(values[arch], values[arch], 100.0, 1.0)

    monkeypatch.setattr("wsnas.ground_truth.train_architecture", trained)
    monkeypatch.setattr(type(TOY), "metric", "perplexity")
    table = train_many(TOY, SOME, tmp_path / "run", seeds=(0,), executor=HERE)
    publish(TOY, table, tmp_path / "run")
    found = load_ground_truth(TOY, table=tmp_path / "run")
    np.testing.assert_allclose(found.mean("toy", "test"), [3.4e38, np.nan, np.nan, 90.0])
    assert found.failed is not None
    assert found.failed.tolist() == [False, True, True, False]


def test_a_space_ships_a_table_for_each_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default that of the micro recipe's; a data set without one is not answered with another's table."""
    for dataset, value in (("toy", 70.0), ("more-digits", 80.0)):
        table = Table(TOY.name, (TOY.encode(SOME[0]),), {Column(dataset, "test", 2, 0): np.array([value])})
        table.save(tmp_path / f"{dataset}.parquet")
    paths = {dataset: tmp_path / f"{dataset}.parquet" for dataset in ("toy", "more-digits")}
    monkeypatch.setattr(type(TOY), "tables", paths)
    for asked, dataset, value in ((None, "toy", 70.0), ("toy", "toy", 70.0), ("More-Digits", "more-digits", 80.0)):
        found = load_ground_truth(TOY, asked)
        assert (found.datasets, found.mean(dataset, "test").tolist()) == ((dataset,), [value])
    with pytest.raises(WsnasError, match="toy has no ground truth on faint-digits"):
        load_ground_truth(TOY, "faint-digits")


def test_an_imported_table_answers_only_for_its_own_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the results on the one that was asked for alone. A table is returned as it is."""
    names = ("cifar10", "cifar100")
    columns = {Column(name, "test", 2, 0): np.array([10.0 * i]) for i, name in enumerate(names, start=1)}
    table = Table(TOY.name, (TOY.encode(SOME[0]),), columns)
    monkeypatch.setattr("wsnas.agreement.import_home", lambda: tmp_path)
    table.save(tmp_path / "toy.parquet")
    found = load_ground_truth(TOY, "CIFAR-100")
    assert (found.datasets, found.mean("cifar100", "test").tolist()) == (("cifar100",), [20.0])
    assert load_ground_truth(TOY).datasets == names
    assert load_ground_truth(TOY, table=table) is table
    with pytest.raises(WsnasError, match="the table is of the space nb201, not of toy"):
        load_ground_truth(TOY, table=dataclasses.replace(table, space="nb201"))
    for wrong in ("svhn", "runs/truth"):
        with pytest.raises(NoGroundTruth, match=f"the table of toy has no data set '{wrong}', only cifar10, cifar100"):
            load_ground_truth(TOY, wrong)


class Wider(type(TOY)):  # type: ignore[misc]
    """Another space under the name of one that is installed."""


def test_workers_train_the_space_that_was_given_or_none(toy_installed: Path, tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match="workers load the space toy by its name, and that is not yours"):
        train_many(Wider(), SOME[:2], tmp_path / "truth")
    with pytest.raises(WsnasError, match="there are no architectures to train"):
        train_many(TOY, [], tmp_path / "truth")
    assert not (tmp_path / "truth").exists()


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("No module named 'toy_space'"), FileNotFoundError("toy.npz"), WsnasError("no data set 'toy'")],
    ids=["a package", "a file", "a data set"],
)
def test_what_is_missing_stops_the_run_at_once(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is not the architectures' fault: no row says so, and the next call trains all of them."""
    tried: list[Any] = []

    def missing(space: Any, arch: Any, recipe: Any, **options: Any) -> Any:
        tried.append(arch)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("wsnas.ground_truth.train_architecture", missing)
        with pytest.raises(WsnasError, match=str(error)):
            train_many(TOY, SOME, tmp_path / "run", seeds=(0,), executor=HERE)
    assert len(tried) == 1
    assert Run.read(tmp_path / "run").records("training") == {}
    assert train_many(TOY, SOME, tmp_path / "run", seeds=(0,), executor=HERE).about["status"] == "4 ok"


def test_when_nothing_ever_succeeds_nothing_is_recorded(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After twenty failures it stops; failures after or before a success are rows."""
    tried: list[Any] = []
    fine: list[int] = []

    def breaks(space: Any, arch: Any, recipe: Any, **options: Any) -> Any:
        tried.append(arch)
        if ALL.index(arch) in fine:
            return train_architecture(space, arch, recipe, **options)
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr("wsnas.ground_truth.train_architecture", breaks)
    for archs, count in ((ALL[:3], 3), (ALL, 20)):
        tried.clear()
        with pytest.raises(WsnasError, match=f"none of {count} trainings succeeded.*no kernel image"):
            train_many(TOY, archs, tmp_path / "run", seeds=(0,), executor=HERE)
        assert len(tried) == count
        assert "training" not in Run.read(tmp_path / "run").kinds()
    fine.append(2)
    table = train_many(TOY, ALL[:5], tmp_path / "run", seeds=(0,), executor=HERE)
    assert table.failed is not None
    assert [table.failed[table.row[TOY.encode(arch)]] for arch in ALL[:5]] == [True, True, False, True, True]
    with pytest.raises(WsnasError, match="none of 20 trainings succeeded"):
        train_many(TOY, ALL, tmp_path / "run", seeds=(0,), executor=HERE)
    table = train_many(TOY, ALL[:8], tmp_path / "run", seeds=(0,), executor=HERE)  # a few more that fail
    assert set(table.archs) == {TOY.encode(arch) for arch in ALL[:8]}
    assert len(Run.read(tmp_path / "run").records("training")) == 8


def test_what_a_stopped_command_asked_for_does_not_stay(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sample that was too large by mistake, or epochs that were: nothing came, so nothing is kept."""

    def stops(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    short = change_recipe(MICRO, **{"standalone.epochs": 1})
    for recipe, count in ((MICRO, 1), (short, 2)):  # the first is stopped before anything came, the second is not
        with monkeypatch.context() as patch:
            patch.setattr("wsnas.ground_truth.train_architecture", stops)
            with pytest.raises(KeyboardInterrupt):
                train_many(TOY, ALL, tmp_path / "run", recipe, seeds=(0,), executor=HERE)
        table = train_many(TOY, SOME[:count], tmp_path / "run", short, seeds=(0,), executor=HERE)
        assert table.archs == tuple(map(TOY.encode, SOME[:count]))


def test_the_best_of_no_run_are_asked_for_as_those_of_one_without_trainings(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match=r"4 of 4 architectures have no training with seed 0.*--seeds 1 first"):
        best_of(TOY, SOME, tmp_path / "new", 2)


@pytest.mark.parametrize("name", ["channels", "crop", "batch", "standalone.batch"])
def test_a_whole_number_has_an_end(name: str) -> None:
    with pytest.raises(WsnasError, match=r"must be at most 2,147,483,647, not 4611686018427387904"):
        change_recipe(MICRO, **{name: 2**62})
    with pytest.raises(WsnasError, match=r"epochs must be at least 1 and at most 1,000,000, not 1000000000"):
        change_recipe(MICRO, epochs=10**9)


def test_what_failed_before_may_fail_again(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than twenty that always fail: a command that has finished once finishes again."""

    def fails(space: Any, arch: Any, recipe: Any, **options: Any) -> Any:
        if arch == ALL[0]:
            return train_architecture(space, arch, recipe, **options)
        raise RuntimeError("always")

    monkeypatch.setattr("wsnas.ground_truth.train_architecture", fails)
    for _ in range(2):
        table = train_many(TOY, ALL, tmp_path / "run", seeds=(0,), executor=HERE, retry=FAILED)
        assert table.about["status"] == "26 crash, 1 ok"


def test_the_half_of_a_training_is_not_taken_from_another(toy_installed: Path, tmp_path: Path) -> None:
    """A table that also has trainings of half the epochs has their results where the half's would be."""
    short = train_many(
        TOY, SOME, tmp_path / "short", change_recipe(MICRO, **{"standalone.epochs": 1}), seeds=(0,), executor=HERE
    )
    whole = train_many(TOY, SOME, tmp_path / "whole", seeds=(0,), executor=HERE)
    half = Column("toy", "valid", 1, 0)
    alone = train_many(TOY, SOME, tmp_path / "alone", seeds=(0,), executor=HERE, known=whole)
    np.testing.assert_allclose(alone.columns[half], whole.columns[half], atol=1e-6)
    both = train_many(TOY, SOME, tmp_path / "both", seeds=(0,), executor=HERE, known=join([whole, short]))
    assert np.isnan(both.columns[half]).all()
    again = join([whole, join([whole, short])])  # adds no trainings of two epochs, so says nothing of any
    assert [name for name in again.about if name.endswith(" epochs")] == ["1 epochs"]
    assert both.about["seconds"].startswith("0 in all of 0 trainings")


def test_a_table_names_the_machine_that_trained_not_the_one_that_repeats_the_command(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_many(TOY, SOME, tmp_path / "run", seeds=(0,), executor=HERE).about["environment"]
    monkeypatch.setattr("wsnas.environment._processor", lambda: "another")
    assert train_many(TOY, SOME, tmp_path / "run", seeds=(0,), executor=HERE).about["environment"] == first


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": ()}, "there are no seeds to train with"),
        ({"seeds": (10**9,)}, "from 0 to 999,999,999, not 1000000000"),
        ({"shard": (0, 2)}, "such as 2/8, not '0/2'"),
        ({"shard": (3, 2)}, "such as 2/8, not '3/2'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    toy_installed: Path, tmp_path: Path, options: Any, said: str
) -> None:
    with pytest.raises(WsnasError, match=said):
        train_many(TOY, SOME, tmp_path / "run", executor=HERE, **options)
    assert not (tmp_path / "run").exists()


def test_a_table_of_validation_results_alone_is_shown(toy_installed: Path, tmp_path: Path) -> None:
    lines = ["architecture,toy/valid/2/0", *(f"{TOY.encode(arch)},{50 + i}" for i, arch in enumerate(SOME))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    done = CliRunner().invoke(main, ["table", "show", "toy", "--table", str(tmp_path / "t.csv"), "--json"])
    assert done.exit_code == 0, done.output
    assert '"measured": 4' in done.output


def test_a_limit_that_too_few_keep_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine of the 27 have a pool first: a hundred thousand draws or more looked for a tenth."""
    drawn: list[Any] = []
    monkeypatch.setattr(TOY, "sample", lambda rng: drawn.append(0) or ALL[int(rng.integers(len(ALL)))])
    monkeypatch.setattr(TOY, "macs", lambda arch, recipe: 100 if arch.ops[0] == 2 else 200)
    recipe = dataclasses.replace(MICRO, max_macs=150)
    assert len(sample_candidates(TOY, recipe, 9, numpy_rng(0))) == 9
    drawn.clear()
    with pytest.raises(WsnasError, match="with at most 150 multiply-adds: only 9 were found"):
        sample_candidates(TOY, recipe, 10, numpy_rng(0))
    assert len(drawn) < 10_000


def test_many_failures_are_no_success(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is there, and the exit code says that something is wrong."""

    def sometimes(space: Any, arch: Any, recipe: Any, **options: Any) -> Any:
        if arch == bad:
            raise RuntimeError("out of memory")
        return train_architecture(space, arch, recipe, **options)

    monkeypatch.setattr("wsnas.ground_truth.train_architecture", sometimes)
    for sample, code in ((8, 2), (10, 0)):
        out = tmp_path / str(sample)
        bad = sample_candidates(TOY, MICRO, sample, numpy_rng(0, "ground truth"))[-1]
        options = ["--sample", str(sample), "--seeds", "1", "--workers", "0", "--no-latency", "--out", str(out)]
        done = CliRunner().invoke(main, ["ground-truth", "toy", *options])
        assert done.exit_code == code, done.output
        assert f"1 of {sample} trainings failed: find out why" in done.output or code == 0
        assert Table.load(out / "table.parquet").about["status"] == f"1 crash, {sample - 1} ok"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "0", "-1"])
def test_a_time_limit_is_a_finite_number(toy_installed: Path, tmp_path: Path, value: str) -> None:
    done = CliRunner().invoke(
        main,
        ["ground-truth", "toy", "--sample", "2", "--workers", "0", "--timeout", value, "--out", str(tmp_path / "x")],
    )
    assert done.exit_code == 2
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not (tmp_path / "x").exists()
    with pytest.raises(WsnasError, match="time limit"):
        Executor(timeout=float(value))


def test_every_number_of_a_command_is_finite(toy_installed: Path, tmp_path: Path) -> None:
    """Each option of the recipe that takes a number refuses nan and inf, and leaves nothing behind."""
    names = [name for name, field in recipe_fields(MICRO).items() if field.type is float]
    assert len(names) > 5
    for name in names:
        for value in (math.nan, math.inf):
            with pytest.raises(WsnasError, match=f"{name.removeprefix('supernet.')} must be a finite number"):
                change_recipe(MICRO, **{name: value})
            option = f"--{name.replace('_', '-')}"
            done = CliRunner().invoke(main, ["train-supernet", "toy", option, str(value), "--out", str(tmp_path / "x")])
            assert done.exit_code == 2, (name, done.output)
            assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--ray", "auto", "--workers", "2"), "give only one"), (("--gpus-a-job", "0.5"), "--workers")],
    ids=["both", "gpus without a cluster"],
)
def test_where_it_runs_is_chosen_once(toy_installed: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(main, ["ground-truth", "toy", "--sample", "2", "--out", str(tmp_path / "x"), *options])
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "x").exists()
