"""A run that is killed or stopped, ten times if need be, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsnas import WsnasError, installed_spaces
from wsnas.runs import Run

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

KILLS = 10

# Trains a tiny supernet that saves after every step, then scores submodels of it; argv: run directory, what to do.
CODE = """
import sys, torch
from pathlib import Path
from wsnas import evaluate, load_space, runs, train_supernet
from wsnas.data.images import Images, Splits
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe
from wsnas.sampling import sample_distinct

space = load_space("nb201")
options = {"epochs": 12, "channels": 2, "train_size": 640, "batch": 64, "valid_size": 100, "calibration_batch": 80}
recipe = change_recipe(space.recipes["micro"], **options)
rng = numpy_rng(0, "noise")  # made here rather than loaded: a kill shall meet the run, not its beginning
cpu = torch.device("cpu")
parts = [
    Images(rng.integers(0, 256, (n, 8, 8, 1), "uint8"), rng.integers(0, 10, n), torch.tensor([128.0]),
           torch.tensor([70.0]), cpu)
    for n in (640, 200, 200)
]
space.sample(rng)  # lists the space
print("started", flush=True)
Path(sys.argv[1]).mkdir(exist_ok=True)
net = train_supernet(space, recipe, out=sys.argv[1], device="cpu", splits=Splits(*parts, 10), checkpoint_seconds=0)
if sys.argv[2] == "evaluate":
    runs.COMMIT_SECONDS = 0.05
    evaluate(net, sample_distinct(space, 120, numpy_rng(0, "sample")))
"""


def tensors(state: Any, name: str = "") -> dict[str, Any]:
    """Every tensor and number of a checkpoint, by its place."""
    if isinstance(state, dict):
        return {k: v for key, item in state.items() for k, v in tensors(item, f"{name}/{key}").items()}
    if isinstance(state, list | tuple):
        return {k: v for i, item in enumerate(state) for k, v in tensors(item, f"{name}/{i}").items()}
    return {name: state}


def same_checkpoint(one: Path, other: Path) -> None:
    found, expected = (tensors(torch.load(path / "checkpoint.pt", weights_only=True)) for path in (one, other))
    assert found.keys() == expected.keys()
    assert sum(isinstance(value, torch.Tensor) for value in expected.values()) > 50  # weights and momenta
    for name, value in expected.items():
        assert torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value, name


@pytest.fixture(scope="module")
def undisturbed(forks: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody killed, trained and evaluated."""
    run = tmp_path_factory.mktemp("undisturbed") / "net"
    done = forks.start("code", CODE, run, "evaluate", cwd=run.parent).wait()
    assert done.code == 0, done.err
    return run


def steps(run: Path) -> int:
    """Steps that a run's checkpoint holds, of 120."""
    path = run / "checkpoint.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def rows(run: Path) -> int:
    """Submodels that a run holds scores of, of 120."""
    held = Run.read(run)
    return sum(len(held.records(kind)) for kind in held.kinds())


def killed_again_and_again(forks: Any, run: Path, what: str, progress: Callable[[Path], int], seed: int) -> None:
    """Starts the code, kills it ten times while it works, then lets it end.

    A kill is due by what is on disk, a tenth of the work after the last, not by the clock: machines differ in speed.
    The moment within a step is random.
    """
    rng = np.random.default_rng(seed)
    seen = []  # how far it was after each kill
    for kill in range(KILLS):
        due = 10 * kill + int(rng.integers(0, 10))  # of 120: even the last leaves it twenty to do
        process = forks.start("code", CODE, run, what, cwd=run.parent)
        process.wait_for("started")
        process.wait_until(lambda due=due: progress(run) >= due)
        time.sleep(float(rng.uniform(0, 0.05)))
        assert process.runs(), f"it ended before kill {kill + 1}: {process.wait()}"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
        seen.append(progress(run))
        assert due <= seen[-1] < 120
    assert seen == sorted(seen)
    assert len(set(seen)) > 5, "the kills met the start rather than the work"
    done = forks.start("code", CODE, run, what, cwd=run.parent).wait()
    assert done.code == 0, done.err


def test_training_survives_ten_kills(forks: Any, undisturbed: Path, tmp_path: Path) -> None:
    """Weights, momenta and metrics are equal to the last bit; no partly written file is left."""
    run = tmp_path / "net"
    killed_again_and_again(forks, run, "train", steps, seed=0)
    same_checkpoint(run, undisturbed)
    metrics = (run / "metrics.jsonl").read_bytes()
    assert metrics == (undisturbed / "metrics.jsonl").read_bytes()
    assert len(metrics.splitlines()) == 12
    assert {path.name for path in run.iterdir()} <= {
        *("run.json", "checkpoint.pt", "metrics.jsonl", "sessions.jsonl", "lock", "tensorboard")
    }


def test_evaluation_survives_ten_kills(forks: Any, undisturbed: Path, tmp_path: Path) -> None:
    """Every row exists once and is equal; a committed row is not computed again. Here rows wait 0.05 seconds."""
    run = tmp_path / "net"
    done = forks.start("code", CODE, run, "train", cwd=tmp_path).wait()
    assert done.code == 0, done.err
    killed_again_and_again(forks, run, "evaluate", rows, seed=1)
    found, wanted = Run.read(run), Run.read(undisturbed)
    (kind,) = wanted.kinds()
    assert found.kinds() == [kind]
    assert len(wanted.records(kind)) == 120
    assert found.records(kind) == wanted.records(kind)
    same_checkpoint(run, undisturbed)


def test_a_killed_writer_leaves_no_lock(forks: Any, tmp_path: Path) -> None:
    """A second writer is refused while the first runs, but not once it is killed."""
    run = tmp_path / "net"
    process = forks.start("code", CODE, run, "train", cwd=tmp_path)
    process.wait_until((run / "checkpoint.pt").exists)
    os.kill(process.pid, signal.SIGSTOP)  # it holds still, lock in hand
    with pytest.raises(WsnasError, match="being written by another process"), Run.read(run).writing():
        pass
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    with Run.read(run).writing():
        pass


def command(out: Path) -> list[str]:
    options = ["--epochs", "20", "--channels", "2", "--train-size", "640", "--batch", "64", "--device", "cpu"]
    return ["train-supernet", "nb201", *options, "--out", str(out)]


def stopped_well(code: int, out: str, err: str, run: Path) -> None:
    """The exit code is 130, the last line says how to go on, and the run was stopped in the middle."""
    assert code == 130, err
    assert err.splitlines()[-1] == "stopped; finished work is saved: run the same command again to resume"
    assert out == ""
    step = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    assert 10 <= step < 200


def test_ctrl_c(forks: Any, tmp_path: Path) -> None:
    """The real command exits with code 130 and a message; repeated, it resumes to the undisturbed result."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    start = [sys.executable, "-m", "wsnas", *command(tmp_path / "net")]
    with subprocess.Popen(
        start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=default_signals
    ) as process:
        while not (tmp_path / "net/metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    stopped_well(process.returncode, out, err, tmp_path / "net")
    for name in ("net", "undisturbed"):
        done = forks.wsnas(*command(tmp_path / name), cwd=tmp_path)
        assert done.code == 0, done.err
    same_checkpoint(tmp_path / "net", tmp_path / "undisturbed")
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("net", "undisturbed")]
    assert metrics[0] == metrics[1]


FROM_A_SHELL = """
import runpy, signal, sys
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_DFL)
sys.argv = ["wsnas", *sys.argv[1:]]
runpy.run_module("wsnas", run_name="__main__", alter_sys=True)
"""


COMMITS_OFTEN = """
import runpy, sys
from wsnas import runs
runs.COMMIT_SECONDS = 0.05
sys.argv = ["wsnas", *sys.argv[1:]]
runpy.run_module("wsnas", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_other_signals_stop_like_ctrl_c(forks: Any, tmp_path: Path, number: str) -> None:
    """As when Slurm, a spot machine or a closed terminal stops it."""
    process = forks.start("code", FROM_A_SHELL, *command(tmp_path / "net"), cwd=tmp_path)
    process.wait_until((tmp_path / "net/metrics.jsonl").exists)
    os.kill(process.pid, getattr(signal, number))
    done = process.wait()
    stopped_well(done.code, done.out, done.err, tmp_path / "net")


def default_signals() -> None:
    """A test that a shell runs in the background, or below nohup, ignores some of them, and so would its children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    code = "import signal; from wsnas.stopping import heard; print([n.name for n in heard()])"
    for ignored, left in (("", "['SIGTERM', 'SIGHUP', 'SIGUSR1']"), ("HUP", "['SIGTERM', 'SIGUSR1']")):
        shell = (f"trap '' {ignored}; " if ignored else "") + f'exec {sys.executable} -c "{code}"'
        done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, preexec_fn=default_signals)
        assert done.stdout.strip() == left, done.stderr


@pytest.mark.parametrize("to", ["the process", "the whole group"])
def test_workers_stop_too(tmp_path: Path, to: str) -> None:
    """SIGTERM to a study's or ground truth's process, or to it and its workers at once: no row says crash."""
    options = ["--sample", "40", "--seeds", "1", "--epochs", "2", "--channels", "2", "--train-size", "640"]
    start = [sys.executable, "-m", "wsnas", "ground-truth", "nb201", *options, "--workers", "2", "--no-latency"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        [*start, "--out", str(tmp_path / "truth")],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=default_signals,
        start_new_session=True,
    ) as process:
        while len(records(tmp_path / "truth")) < 3:
            assert process.poll() is None
            time.sleep(0.02)
        (os.killpg if to == "the whole group" else os.kill)(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "stopped; finished work is saved: run the same command again to resume"
    assert "Traceback" not in err
    found = records(tmp_path / "truth")
    assert 3 <= len(found) < 40
    assert {row["status"] for row in found.values()} == {"ok"}


def test_ctrl_c_while_evaluating(forks: Any, tmp_path: Path) -> None:
    """Finished rows are kept, and the same command adds the others."""
    training = [*command(tmp_path / "net"), "--valid-size", "200"]
    training[training.index("--epochs") + 1] = "1"
    assert forks.wsnas(*training, cwd=tmp_path).code == 0
    arguments = ("evaluate", "net", "--sample", "100", "--device", "cpu")
    process = forks.start("code", COMMITS_OFTEN, *arguments, cwd=tmp_path)
    process.wait_until(lambda: rows(tmp_path / "net") >= 3)
    os.kill(process.pid, signal.SIGINT)
    done = process.wait()
    assert done.code == 130, done.err
    assert done.err.splitlines()[-1].startswith("stopped; finished work is saved")  # a slow machine reports progress
    run = Run.read(tmp_path / "net")
    (kind,) = run.kinds()
    first = run.records(kind)
    assert 3 <= len(first) < 100
    done = forks.wsnas(*arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(run.records(kind)) == 100
    assert first.items() <= run.records(kind).items()


def test_a_killed_ground_truth_resumes(forks: Any, tmp_path: Path) -> None:
    """After three kills every row equals that of an undisturbed run, and no committed row is trained again."""
    options = ("--sample", "12", "--seeds", "2", "--epochs", "1", "--channels", "2", "--train-size", "640")
    start = ("ground-truth", "nb201", *options, "--workers", "0", "--no-latency")
    assert forks.wsnas(*start, "--out", "undisturbed", cwd=tmp_path).code == 0
    kept: dict[str, Any] = {}
    for kill in range(3):
        process = forks.start("module", "wsnas", *start, "--out", "killed", cwd=tmp_path)
        many = 3 + 5 * kill
        process.wait_until(lambda many=many: len(records(tmp_path / "killed")) >= many)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
        found = records(tmp_path / "killed")
        assert kept.items() <= found.items()  # seconds and all
        kept = found
    assert forks.wsnas(*start, "--out", "killed", cwd=tmp_path).code == 0
    found, wanted = records(tmp_path / "killed"), records(tmp_path / "undisturbed")
    assert kept.items() <= found.items()
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert {**found[name], "seconds": 0} == {**wanted[name], "seconds": 0}


def records(run: Path) -> dict[str, dict[str, Any]]:
    return Run.read(run).records("training") if (run / "run.json").exists() else {}


def test_a_killed_study_resumes(forks: Any, tmp_path: Path) -> None:
    """After a kill a finished supernet is not trained again, and all numbers equal those of an undisturbed study."""
    study = Path(__file__).resolve().parents[1] / "studies/epochs.py"
    size = ("--channels", "2", "--train-size", "640", "--valid-size", "200", "--epochs", "8", "--budgets", "3")
    command = (study, "--space", "nb201", *size, "--seeds", "1", "--architectures", "12", "--workers", "0")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    assert forks.start("script", *command, "--out", "runs/epochs", cwd=undisturbed).wait().code == 0
    process = forks.start("script", *command, "--out", "runs/epochs", cwd=killed)
    nets = killed / "runs/supernets"
    process.wait_until(lambda: nets.exists() and len(list(nets.iterdir())) >= 2)  # the second has begun
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    assert not (killed / "runs/epochs").exists()
    stamps = {file.parent.name: file.stat().st_mtime_ns for file in nets.glob("*/checkpoint.pt")}
    assert len(stamps) in (1, 2)
    assert forks.start("script", *command, "--out", "runs/epochs", cwd=killed).wait().code == 0
    first = min(stamps, key=lambda name: stamps[name])
    assert (nets / first / "checkpoint.pt").stat().st_mtime_ns == stamps[first]
    results = [json.loads((where / "runs/epochs/results.json").read_text()) for where in (undisturbed, killed)]
    assert results[0]["results"] == results[1]["results"]
    assert results[0]["verdicts"] == results[1]["verdicts"]
