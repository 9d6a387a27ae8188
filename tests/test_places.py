"""A run is the same wherever it lies and however it is started; what two studies share is made once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from wsnas import evaluate, installed_spaces, load_space, load_supernet, train_supernet
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe
from wsnas.runs import Run
from wsnas.sampling import sample_distinct
from wsnas.studies import jobs

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

SPACE = load_space("nb201")
SMALL = {"epochs": 2, "channels": 2, "train_size": 640, "batch": 128, "valid_size": 100}
RECIPE = change_recipe(SPACE.recipes["micro"], **SMALL)
OPTIONS = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
ARCHS = sample_distinct(SPACE, 3, numpy_rng(0, "sample"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet that this process trained and scored."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("plain") / "net"
    evaluate(train_supernet(SPACE, RECIPE, out=out, device="cpu"), ARCHS)
    return out


def weights(out: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in load_supernet(out, "cpu").model.state_dict().items()}


def scores(out: Path) -> dict[str, Any]:
    run = Run.read(out)
    return {kind: run.records(kind) for kind in run.kinds()}


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ([], {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        (["-O"], {"PYTHONHASHSEED": "1"}),
        (["-OO"], {"PYTHONHASHSEED": "2"}),
    ],
    ids=["LANG=C", "-O", "-OO"],
)
def test_another_process_of_another_kind_trains_the_same(
    plain: Path, tmp_path: Path, options: list[str], environment: dict[str, str]
) -> None:
    """In another folder, with umask 077 and a name of blanks, quotes and other letters."""
    out = tmp_path / "a run's übung, # 100 %"
    command = [sys.executable, *options, "-m", "wsnas", "train-supernet", "nb201", *OPTIONS, "--device", "cpu"]
    done = subprocess.run(
        [*command, "--out", os.fsencode(out)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        preexec_fn=lambda: os.umask(0o077),
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert weights(out) == weights(plain)
    assert (out / "metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()
    assert stat.S_IMODE((out / "checkpoint.pt").stat().st_mode) & 0o077 == 0


def test_a_run_can_be_moved_and_linked_to(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "first"
    train_supernet(SPACE, RECIPE, out=out, device="cpu")
    out.rename(tmp_path / "zweite, ü")
    (tmp_path / "link").symlink_to(tmp_path / "zweite, ü")
    evaluate(load_supernet(tmp_path / "link", "cpu"), ARCHS[:1])
    (tmp_path / "zweite, ü").rename(tmp_path / "third")
    (tmp_path / "link").unlink()
    evaluate(load_supernet(tmp_path / "third", "cpu"), ARCHS)
    assert scores(tmp_path / "third") == scores(plain)
    assert train_supernet(SPACE, RECIPE, out=tmp_path / "third", device="cpu").step == 10


def test_a_thread_that_is_not_the_main_one_trains_the_same(plain: Path, tmp_path: Path) -> None:
    """As in a notebook or a server: signals are not its business."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            torch.set_num_threads(1)
            evaluate(train_supernet(SPACE, RECIPE, out=tmp_path / "net", device="cpu"), ARCHS)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed
    assert weights(tmp_path / "net") == weights(plain)
    assert scores(tmp_path / "net") == scores(plain)


def test_a_study_waits_for_what_another_trains(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes the shared supernet it looks again and again, and then takes what is there."""
    mine, other, waited = job(tmp_path), ExitStack(), []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:  # the other study has finished
            other.close()
            evaluate(train_supernet(SPACE, RECIPE, out=mine.out, device="cpu"), ARCHS)

    monkeypatch.setattr(jobs.time, "sleep", sleep)
    other.enter_context(Run.open(mine.out, *identity_of(mine)).writing())
    found = jobs.supernet_scores(mine).tolist()
    assert waited == [jobs.PAUSE] * 2
    assert scores(mine.out) == scores(plain)
    (rows,) = scores(mine.out).values()
    assert found == [rows[SPACE.encode(arch)]["accuracy"] for arch in ARCHS]


def job(folder: Path) -> jobs.SupernetJob:
    return jobs.SupernetJob("nb201", RECIPE, 0, None, tuple(ARCHS), str(folder))


def identity_of(mine: jobs.SupernetJob) -> tuple[dict[str, Any], dict[str, Any]]:
    from wsnas.supernet import supernet_identity

    return supernet_identity(SPACE, mine.recipe, mine.seed), mine.recipe.to_json()
