"""A run is the same wherever it lies and however it is started; what two studies share is made once."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from wsnas import evaluate, installed_spaces, load_ground_truth, load_space, load_supernet, train_supernet
from wsnas.proxies import parse, proxy_identity, proxy_scores
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe
from wsnas.runs import Run
from wsnas.sampling import sample_distinct
from wsnas.studies import jobs, scripts
from wsnas.table import Table

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


KEEPING_FILES = """
import ctypes, os, runpy, sys
for name in ("HOME", "USER", "LOGNAME", "USERNAME"):
    os.environ.pop(name, None)
libc = ctypes.CDLL(None)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
both = (ctypes.c_uint32 * 6)(6, 6)  # files may still be read and written, wherever Python and this folder lie
assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), both) == 0
sys.argv = ["wsnas", *{arguments!r}]
runpy.run_module("wsnas", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def everyones() -> Iterator[Path]:
    """A folder that every user gets to, unlike ``tmp_path``, and writes to."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root can be another user")
def test_a_user_that_the_system_does_not_know(forks: Any, plain: Path, everyones: Path) -> None:
    """As ``docker run -u 12345``, without HOME: all works once the two folders are named."""
    (everyones / "table.csv").write_text(f"architecture,cifar10_test_8\n{SPACE.encode(ARCHS[0])},50.5\n")
    folders = {"WSNAS_TABLES": str(everyones / "tables"), "WSNAS_DATA": str(everyones / "data")}

    def run(*arguments: str, env: dict[str, str] | None = None) -> Any:
        done = forks.start("code", KEEPING_FILES.format(arguments=arguments), cwd=everyones, env=env or {}).wait()
        assert "Traceback" not in done.err
        return done

    assert run("train-supernet", "nb201", *OPTIONS, "--device", "cpu", "--out", "net", env=folders).code == 0
    assert (everyones / "net").stat().st_uid == 12345
    assert weights(everyones / "net") == weights(plain)
    done = run("evaluate", "net", *(part for arch in ARCHS for part in ("--arch", SPACE.encode(arch))), env=folders)
    assert done.code == 0, done.err
    assert scores(everyones / "net") == scores(plain)
    assert run("table", "import", "nb201", "table.csv", env=folders).code == 0
    assert (everyones / "tables/nb201.parquet").exists()
    done = run("table", "import", "nb201", "table.csv")
    assert (done.code, done.err) == (2, "Error: this user has no home directory: set WSNAS_TABLES to a folder\n")


def test_what_is_installed_needs_no_sources(plain: Path, tmp_path: Path) -> None:
    """Packages as wheels unpack them, in a folder without a checkout near it."""
    site = tmp_path / "site"
    for package in ("wsnas", "nb201"):
        shutil.copytree(Path(sys.modules[package].__file__ or "").parent, site / package)
    studies = scripts.folder()
    shutil.copytree(studies, site / "wsnas/studies/packaged", dirs_exist_ok=True)  # as shared/hatch_build.py does
    for distribution in ("wsnas", "wsnas-nb201"):
        described = Path(str(metadata.distribution(distribution)._path))  # type: ignore[attr-defined]
        shutil.copytree(described, site / described.name)
    path = os.pathsep.join([str(site), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    commands = [
        ["train-supernet", "nb201", *OPTIONS, "--device", "cpu", "--out", "net"],
        ["evaluate", "net", *(part for arch in ARCHS for part in ("--arch", SPACE.encode(arch)))],
        ["table", "show", "nb201"],
        ["study", "spaces", "--space", "nb201", "--sample", "20"],
        ["report"],
    ]
    code = f"""
from pathlib import Path
import nb201, wsnas
from wsnas.cli import main
assert {{Path(module.__file__).parent.parent for module in (nb201, wsnas)}} == {{Path({str(site)!r})}}
for arguments in {commands!r}:
    main(arguments, standalone_mode=False)
"""
    # -S: the folders of packages are searched, but the .pth files in them, which lead to a checkout, are not read
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "net") == weights(plain)
    assert scores(tmp_path / "net") == scores(plain)
    assert (tmp_path / "runs/report.html").exists()


TRUTH = ["ground-truth", "nb201", "--sample", "2", "--seeds", "1", "--epochs", "1", "--channels", "2"]
TRUTH += ["--train-size", "640", "--no-latency"]


@pytest.fixture(scope="module")
def trained_here(forks: Any, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A ground truth that one process trained alone."""
    folder = tmp_path_factory.mktemp("truth")
    done = forks.wsnas(*TRUTH, "--workers", "0", "--out", "here", cwd=folder)
    assert done.code == 0, done.err
    return load_ground_truth("nb201", table=folder / "here")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_how_python_starts_processes_plays_no_part(trained_here: Table, tmp_path: Path, method: str) -> None:
    """Other systems, and Python from 3.14 on, start them in other ways than fork."""
    code = f"""
import multiprocessing
from pathlib import Path
from wsnas.cli import main
multiprocessing.set_start_method({method!r})
main([*{TRUTH!r}, "--workers", "1", "--out", "truth-1"], standalone_mode=False)
main(["table", "import", "nb201", "truth-1/table.parquet", "--out", "table.parquet"], standalone_mode=False)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there, imported = (load_ground_truth("nb201", table=tmp_path / name) for name in ("truth-1", "table.parquet"))
    here = trained_here
    assert here.archs == there.archs == imported.archs
    for column, values in here.columns.items():
        assert values.tolist() == there.columns[column].tolist() == imported.columns[column].tolist()


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


def test_a_study_waits_for_zero_cost_scores_that_another_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = jobs.ProxyJob("nb201", RECIPE, "naswot", 8, 0, tuple(ARCHS), str(tmp_path)), ExitStack()
    waited: list[float] = []
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: (waited.append(seconds), other.close()))
    identity = proxy_identity(SPACE, RECIPE, parse("naswot"), 8, 0)
    other.enter_context(Run.open(mine.out, identity, RECIPE.to_json()).writing())
    found, _ = jobs.untrained_scores(mine)
    assert waited == [jobs.PAUSE]
    assert found.tolist() == list(proxy_scores(SPACE, ARCHS, RECIPE, images=8, device="cpu").values())


def job(folder: Path) -> jobs.SupernetJob:
    return jobs.SupernetJob("nb201", RECIPE, 0, None, tuple(ARCHS), str(folder))


def identity_of(mine: jobs.SupernetJob) -> tuple[dict[str, Any], dict[str, Any]]:
    from wsnas.supernet import supernet_identity

    return supernet_identity(SPACE, mine.recipe, mine.seed), mine.recipe.to_json()
