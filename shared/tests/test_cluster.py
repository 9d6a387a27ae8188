"""What users of several machines need: shards and their merge, long trainings that move, scoring by workers."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_space import ALL, MICRO, TOY, images

from wsnas.cli import main
from wsnas.devices import fixed_order
from wsnas.errors import WsnasError
from wsnas.evaluation import evaluate
from wsnas.executor import Executor, run_jobs
from wsnas.ground_truth import FAILED, TrainingJob, merge_runs, train_job, train_many
from wsnas.recipe import change_recipe
from wsnas.runs import Run
from wsnas.standalone import Trained, train_architecture
from wsnas.studies.jobs import SupernetJob, supernet_scores
from wsnas.supernet import train_supernet
from wsnas.table import Table

HERE = Executor(workers=0)
LONG = change_recipe(MICRO, **{"standalone.epochs": 340})  # 1,020 steps


def test_shards_put_together_are_the_run_that_was_not_split(toy_installed: Path, tmp_path: Path) -> None:
    whole = train_many(TOY, ALL[:5], tmp_path / "whole", seeds=(0, 1), executor=HERE)
    for i in (1, 2, 3):
        train_many(TOY, ALL[:5], tmp_path / f"shard-{i}", seeds=(0, 1), executor=HERE, shard=(i, 3))
    counts = [len(Run.read(tmp_path / f"shard-{i}").records("training")) for i in (1, 2, 3)]
    assert counts == [4, 3, 3]
    _, merged = merge_runs([tmp_path / f"shard-{i}" for i in (1, 2, 3)], tmp_path / "merged")
    assert sorted(merged.archs) == sorted(whole.archs)
    assert merged.about["status"] == "10 ok"
    for column, values in whole.columns.items():
        np.testing.assert_array_equal(merged.select(whole.archs).columns[column], values)
    extended = train_many(TOY, ALL[:6], tmp_path / "merged", seeds=(0, 1), executor=HERE)
    assert extended.about["status"] == "12 ok"
    first = Run.read(tmp_path / "shard-1").records("training")
    assert first.items() <= Run.read(tmp_path / "merged").records("training").items()  # their seconds, too


def test_single_trainings_are_merged_into_a_table(toy_installed: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train_architecture(TOY, ALL[3], MICRO, seed=seed, out=tmp_path / f"alone-{seed}")
    train_many(TOY, ALL[:2], tmp_path / "truth", seeds=(0,), executor=HERE)
    runs = [str(tmp_path / name) for name in ("truth", "alone-0", "alone-1")]
    done = CliRunner().invoke(main, ["table", "merge", *runs, "--out", str(tmp_path / "all")])
    assert done.exit_code == 0, done.output
    assert "uniform" not in (tmp_path / "all" / "README.md").read_text()  # they were chosen by hand
    merged = Table.load(tmp_path / "all" / "table.parquet")
    merged = merged.select([TOY.encode(arch) for arch in (*ALL[:2], ALL[3])])
    assert len(merged) == 3
    expected = [train_architecture(TOY, ALL[3], MICRO, seed=seed).test for seed in (0, 1)]
    np.testing.assert_allclose(merged.seeds("toy", "test")[2], expected, rtol=1e-6)
    assert np.isnan(merged.seeds("toy", "test")[:2, 1]).all()


def test_what_is_merged_decides_whether_architectures_share_trainings(toy_installed: Path, tmp_path: Path) -> None:
    """In a space where the order of the operations is said to be no difference: two of these four are the same."""
    some = ("conv3-conv1-pool", "conv3-pool-conv1", "conv1-conv1-pool", "pool-pool-pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(TOY), "training_key", lambda self, arch: str(sorted(arch.ops)))
        for dedupe, count in ((True, 3), (False, 4)):
            shards = [tmp_path / f"{dedupe}-{i}" for i in (1, 2)]
            for i, shard in enumerate(shards, start=1):
                train_many(TOY, some, shard, seeds=(0,), executor=HERE, dedupe=dedupe, shard=(i, 2))
            whole = train_many(TOY, some, tmp_path / str(dedupe), seeds=(0,), executor=HERE, dedupe=dedupe)
            _, merged = merge_runs(shards, tmp_path / f"{dedupe}-merged")
            assert merged.about["trainings"] == whole.about["trainings"]
            assert merged.about["trainings"].startswith(f"{count}, one per ")
            for column, values in whole.columns.items():
                np.testing.assert_array_equal(merged.select(whole.archs).columns[column], values)
        _, both = merge_runs([tmp_path / "True", tmp_path / "False"], tmp_path / "both")
        assert both.about["status"] == "4 ok"
        before = Run.read(tmp_path / "True-merged").records("training")
        with pytest.raises(WsnasError, match=r"True-merged trains one of several equal architectures, but not all"):
            merge_runs([tmp_path / "False"], tmp_path / "True-merged")
        assert Run.read(tmp_path / "True-merged").records("training") == before
        merge_runs([tmp_path / "True"], tmp_path / "False-merged")
        for name, dedupe in (("True-merged", True), ("False-merged", False)):  # both can still be extended
            extended = train_many(TOY, [*some, ALL[0]], tmp_path / name, seeds=(0,), executor=HERE, dedupe=dedupe)
            assert extended.about["status"] == f"{5 if not dedupe else 4} ok"


@pytest.mark.usefixtures("toy_installed")
def test_a_repeated_merge_keeps_what_was_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a failed and a successful training the latter stays, in whichever run it is; else the one that is there."""

    def failing(*args: Any, **options: Any) -> Trained:
        if args[1] == ALL[1]:
            raise RuntimeError("its node died")
        return train_architecture(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr("wsnas.ground_truth.train_architecture", failing)
        train_many(TOY, ALL[:3], tmp_path / "shard", seeds=(0,), executor=HERE)
    assert merge_runs([tmp_path / "shard"], tmp_path / "all")[1].about["status"] == "1 crash, 2 ok"
    train_many(TOY, ALL[:3], tmp_path / "all", seeds=(0,), executor=HERE, retry=FAILED)
    mended = Run.read(tmp_path / "all").records("training")
    assert merge_runs([tmp_path / "shard"], tmp_path / "all")[1].about["status"] == "3 ok"
    assert Run.read(tmp_path / "all").records("training") == mended
    assert merge_runs([tmp_path / "all"], tmp_path / "shard")[1].about["status"] == "3 ok"


def test_shards_put_together_say_where_known_rows_were_made(toy_installed: Path, tmp_path: Path) -> None:
    known = train_many(TOY, ALL[:2], tmp_path / "known", seeds=(0,), executor=HERE)
    shards = [tmp_path / f"shard-{i}" for i in (1, 2)]
    for i, out in enumerate(shards, start=1):
        train_many(TOY, ALL[:4], out, seeds=(0,), executor=HERE, known=known, shard=(i, 2))
    makers = json.loads(merge_runs(shards, tmp_path / "merged")[1].about["taken over"])
    assert makers.count({name: known.about[name] for name in ("environment", "seconds")}) == 1


def test_a_merged_table_that_is_taken_over_counts_its_trainings_once(toy_installed: Path, tmp_path: Path) -> None:
    train_many(TOY, ALL[:2], tmp_path / "run", seeds=(0,), executor=HERE)
    merged = merge_runs([tmp_path / "run"], tmp_path / "merged")[1]
    both = train_many(TOY, ALL[:4], tmp_path / "both", seeds=(0,), executor=HERE, known=merged)
    (maker,) = json.loads(both.about["taken over"])
    assert " in all of 2 trainings" in maker["seconds"]


def test_a_run_that_grew_is_counted_once_when_it_is_merged_again(toy_installed: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        train_many(TOY, ALL[:count], tmp_path / "run", seeds=(0,), executor=HERE)
        (maker,) = json.loads(merge_runs([tmp_path / "run"], tmp_path / "all")[1].about["taken over"])
        assert f" in all of {count} trainings" in maker["seconds"]
    with pytest.raises(WsnasError, match="there are no runs to merge"):
        merge_runs([], tmp_path / "all")


def test_trainings_on_all_images_merge_into_a_table_of_test_results(toy_installed: Path, tmp_path: Path) -> None:
    """They validate on nothing, which a run of its own writes as NaN."""
    train_architecture(TOY, ALL[0], out=tmp_path / "one", device="cpu")
    run = Run.read(tmp_path / "one")
    with run.writing():
        ((name, row),) = run.records("training").items()
        run.record("training", name, {**row, "valid": math.nan, "half_valid": math.nan})
    _, table = merge_runs([tmp_path / "one"], tmp_path / "all")
    assert {column.split for column in table.columns} == {"test"}


def test_runs_without_a_result_are_not_merged(toy_installed: Path, tmp_path: Path) -> None:
    """Stopped before the first training ended."""
    train_many(TOY, ALL[:2], tmp_path / "run", seeds=(0,), executor=HERE)
    with closing(sqlite3.connect(tmp_path / "run" / "records.sqlite")) as database, database:
        database.execute("DELETE FROM records WHERE kind = 'training'")
    done = CliRunner().invoke(main, ["table", "merge", str(tmp_path / "run"), "--out", str(tmp_path / "all")])
    assert done.exit_code == 2, done.output
    assert "is finished: repeat the command" in done.output
    assert not (tmp_path / "all").exists()


def test_runs_of_several_recipes_are_not_merged(toy_installed: Path, tmp_path: Path) -> None:
    train_architecture(TOY, ALL[3], MICRO, out=tmp_path / "a")
    train_architecture(TOY, ALL[3], change_recipe(MICRO, **{"standalone.epochs": 3}), out=tmp_path / "b")
    with pytest.raises(WsnasError, match="different spaces or recipes"):
        merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_of_several_data_sets_are_not_merged(toy_installed: Path, tmp_path: Path) -> None:
    """The file was replaced between two shards; what is merged keeps the fingerprint."""
    file = tmp_path / "set.npz"
    recipe = change_recipe(MICRO, dataset=str(file), train_size=60)
    for i in (0, 1):
        pixels, labels = images(80, i)
        np.savez(file, train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
        train_many(TOY, ALL[:2], tmp_path / f"run{i}", recipe, seeds=(0,), executor=HERE)
    with pytest.raises(WsnasError, match="was made with other data"):
        merge_runs([tmp_path / "run0", tmp_path / "run1"], tmp_path / "out")
    merge_runs([tmp_path / "run1"], tmp_path / "out")
    assert Run.read(tmp_path / "out").identity == Run.read(tmp_path / "run1").identity


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "-1/2"])
def test_a_shard_that_does_not_exist_is_refused(toy_installed: Path, tmp_path: Path, shard: str) -> None:
    options = ["ground-truth", "toy", "--sample", "3", "--no-latency", "--workers", "0", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, [*options, "--shard", shard])
    assert done.exit_code == 2
    assert f"not '{shard}'" in done.output
    assert not (tmp_path / "run").exists()


def test_a_long_training_goes_on_in_another_process(toy_installed: Path, tmp_path: Path) -> None:
    """Killed within its 1,020 steps, it continues from its checkpoint, with the result of an undisturbed one."""
    expected = train_architecture(TOY, ALL[5], LONG)
    script = (
        "from toy_space import ALL, TOY, MICRO\nfrom wsnas.recipe import change_recipe\n"
        "import functools, wsnas.ground_truth as g\n"
        "g.train_architecture = functools.partial(g.train_architecture, checkpoint_seconds=0.0)\n"
        "recipe = change_recipe(MICRO, **{'standalone.epochs': 340})\n"
        f"g.train_job(g.TrainingJob('toy', recipe, ALL[5], 0, {str(tmp_path / 'jobs')!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    job = TrainingJob("toy", LONG, ALL[5], 0, str(tmp_path / "jobs"))
    while not (job.out / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = Run.read(job.out).load_checkpoint(torch.device("cpu"))
    assert state is not None
    assert 0 < state["step"] < 1020
    found = train_job(job)
    assert (found.valid, found.test, found.half_valid) == (expected.valid, expected.test, expected.half_valid)
    assert found.curve == expected.curve


def test_long_trainings_leave_no_folders_and_short_ones_make_none(toy_installed: Path, tmp_path: Path) -> None:
    table = train_many(TOY, ALL[5:6], tmp_path / "long", LONG, seeds=(0,), executor=HERE)
    assert table.about["status"] == "1 ok"
    assert not (tmp_path / "long" / "trainings").exists()
    job = TrainingJob("toy", MICRO, ALL[5], 0, str(tmp_path / "short"))
    train_job(job)
    assert not job.out.exists()


def test_workers_score_as_one_process_does(toy_installed: Path, tmp_path: Path) -> None:
    supernet = train_supernet(TOY, MICRO, out=tmp_path / "run", device="cpu")
    alone = evaluate(supernet, ALL, resume=False)
    reports: list[tuple[int, int]] = []
    shared = evaluate(
        supernet,
        ALL,
        resume=False,
        executor=Executor(2),
        report=lambda done, total, note: reports.append((done, total)),
    )
    assert shared == alone
    assert reports[-1] == (27, 27)
    assert evaluate(supernet, ALL, executor=Executor(workers=0)) == alone  # recorded: nothing to do


@pytest.mark.usefixtures("toy_installed")
def test_every_worker_has_submodels_to_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def one_by_one(function: Any, jobs: Any, executor: Executor) -> Any:
        sizes.extend(len(job.archs) for job in jobs)
        return run_jobs(function, jobs, HERE)

    monkeypatch.setattr("wsnas.evaluation.run_jobs", one_by_one)
    supernet = train_supernet(TOY, MICRO, out=tmp_path / "run", device="cpu")
    evaluate(supernet, ALL[:20], executor=Executor(workers=8))
    assert sizes == [3] * 6 + [2]
    sizes.clear()
    evaluate(supernet, ALL[:24], executor=Executor(workers=1), resume=False)
    assert sizes == [20, 4]


@pytest.mark.usefixtures("toy_installed")
def test_what_a_worker_has_sent_is_kept_at_a_stop(tmp_path: Path) -> None:
    """It scores 20 submodels at a time; Ctrl-C comes when the first of these are recorded."""
    supernet = train_supernet(TOY, MICRO, out=tmp_path / "run", device="cpu")

    def press(done: int, total: int, note: str) -> None:
        if done == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        evaluate(supernet, ALL, executor=HERE, report=press)
    (kind,) = supernet.run.kinds()
    assert len(supernet.run.records(kind)) == 20


@pytest.mark.usefixtures("toy_installed")
def test_a_worker_scores_the_weights_that_are_there_now(tmp_path: Path) -> None:
    """Another supernet trained in the place of one that this process has scored."""
    for seed in (0, 1):
        supernet = train_supernet(TOY, seed=seed, out=tmp_path / "net")
        shared = evaluate(tmp_path / "net", ALL[:4], executor=HERE)
        assert shared == evaluate(supernet, ALL[:4], resume=False)
        shutil.rmtree(tmp_path / "net")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_study_finds_the_supernet_that_was_trained_for_it(
    toy_installed: Path, tmp_path: Path, processes: int
) -> None:
    """By another machine or by torchrun: in the folder of the study's supernets, named by what affects it."""
    options = ["--device", "cpu", "--seed", "1", "--paths", "fair", "--folder", str(tmp_path / "supernets")]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "wsnas", "train-supernet", "toy", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    job = SupernetJob("toy", MICRO, 1, None, ALL[:4], str(tmp_path / "supernets"), "fair")
    assert [job.out] == list((tmp_path / "supernets").iterdir())
    weights = (job.out / "checkpoint.pt").read_bytes()
    assert len(Run.read(job.out).load_checkpoint(torch.device("cpu"))["ranks"]) == processes  # type: ignore[index]
    scores = supernet_scores(job)
    assert (job.out / "checkpoint.pt").read_bytes() == weights
    recorded = job.recorded()
    assert recorded is not None
    np.testing.assert_array_equal(scores, recorded)


def test_records_need_no_shared_memory(toy_installed: Path, tmp_path: Path) -> None:
    """A write-ahead log does not work on network filesystems; a run that has one is converted."""
    run = Run.open(tmp_path / "run", {"kind": "test"}, {})
    run.record("kind", "key", {"value": 1})
    database = tmp_path / "run" / "records.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)  # a connection's own, unless WAL
        connection.execute("PRAGMA journal_mode=WAL")
    Run.read(tmp_path / "run").record("kind", "other", {"value": 2})
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert len(Run.read(tmp_path / "run").records("kind")) == 2


def test_any_pool_has_the_results_and_failures_of_this_process() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = dict(run_jobs(eval, ["1 + 1", "1 / 0", "__import__('os').getpid()"], Executor(pool=pool)))
    assert found["1 + 1"] == 2
    assert isinstance(found["1 / 0"], ZeroDivisionError)
    assert found["__import__('os').getpid()"] != os.getpid()


def test_threads_have_the_numbers_of_this_process(toy_installed: Path, tmp_path: Path) -> None:
    """They share torch's random numbers, and the supernet that a worker loads once, with its batch statistics."""
    supernet = train_supernet(TOY, MICRO, out=tmp_path / "net", device="cpu")
    expected = train_many(TOY, ALL[:8], tmp_path / "here", seeds=(0,), executor=HERE)
    with ThreadPoolExecutor(3) as threads:
        found = train_many(TOY, ALL[:8], tmp_path / "threads", seeds=(0,), executor=Executor(pool=threads))
        scores = evaluate(supernet, ALL, executor=Executor(pool=threads))
    for column, values in expected.columns.items():
        np.testing.assert_array_equal(found.columns[column], values)
    assert scores == evaluate(supernet, ALL, resume=False)


def test_deterministic_kernels_are_asked_for_and_given_back(tmp_path: Path, toy_installed: Path) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with fixed_order(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert torch.are_deterministic_algorithms_enabled() == before
    with pytest.raises(WsnasError, match="on the CPU every training is deterministic"):
        train_supernet(TOY, MICRO, out=tmp_path / "run", device="cpu", deterministic=True)


def test_a_run_is_put_in_one_place(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match="give only one of them"):
        train_supernet(TOY, MICRO, out=tmp_path / "run", folder=tmp_path, device="cpu")
    assert not (tmp_path / "run").exists()
