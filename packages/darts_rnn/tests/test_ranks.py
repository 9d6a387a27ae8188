"""Two processes of torchrun (gloo, on the CPU) are killed or stopped and go on, each with a folder of its own.

Their hidden states differ, so a resumed run has the same numbers only if every rank gets its own back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_rnn import SPACE
from darts_rnn.recipes import MICRO
from wsnas import WsnasError, train_supernet
from wsnas.recipe import change_recipe
from wsnas.runs import Run

RECIPE = change_recipe(MICRO, epochs=2, train_size=16_000)
SCRIPT = """
import os, signal, sys
from pathlib import Path
from darts_rnn import SPACE
from darts_rnn.recipes import MICRO
from wsnas import WsnasError, train_supernet
from wsnas.recipe import change_recipe

folder, seed, killed = (text.format(rank=os.environ["RANK"]) for text in sys.argv[1:])

def report(done, total, note):
    if done == 20 and killed and not Path(killed).exists():
        Path(killed).touch()
        if killed.endswith("stopped"):
            os.kill(os.getppid(), signal.SIGTERM)  # torchrun's, which tells its processes
        else:
            os.kill(os.getpid(), signal.SIGKILL)

try:
    recipe = change_recipe(MICRO, epochs=2, train_size=16_000)
    train_supernet(SPACE, recipe, seed=int(seed), out=folder, device="cpu", checkpoint_seconds=0, report=report)
except WsnasError as error:
    sys.exit(f"refused: {error}")
except KeyboardInterrupt:
    sys.exit("this rank stopped")
"""


def torchrun(
    folder: Path,
    out: str,
    *,
    processes: int = 2,
    seed: str = "0",
    kill: bool = False,
    stop: bool = False,
    restarts: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Trains into ``out``, with {rank} for each process's number; once, at step 20, ``kill``: rank 0 kills itself,
    ``stop``: torchrun gets SIGTERM.
    """
    (folder / "script.py").write_text(SCRIPT)
    many = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    how = "stopped" if stop else "killed"
    command = [sys.executable, "-m", "torch.distributed.run", *many, str(folder / "script.py")]
    return subprocess.run(
        [*command, str(folder / out), seed, str(folder / f"{out}.{how}".format(rank="")) if kill or stop else ""],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )


def weights(path: Path) -> dict[str, Any]:
    state = Run.read(path).load_checkpoint(torch.device("cpu"))
    assert state is not None
    return {"step": state["step"], **state["model"]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = torchrun(folder, "run")
    assert done.returncode == 0, done.stderr
    return weights(folder / "run")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of two ranks, killed at step 20: run0 has a checkpoint, run1, the other rank's, nothing."""
    folder = tmp_path_factory.mktemp("killed")
    assert torchrun(folder, "run{rank}", kill=True).returncode != 0
    assert weights(folder / "run0")["step"] >= 19
    assert not (folder / "run1").exists()
    return folder


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(
        torch.equal(value, expected[name]) if isinstance(value, torch.Tensor) else value == expected[name]
        for name, value in found.items()
    )


def test_ranks_with_folders_of_their_own_go_on_as_if_undisturbed(
    killed: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(killed / "run0", tmp_path / "run0")
    done = torchrun(tmp_path, "run{rank}")
    assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path / "run0"), undisturbed)


def test_torchrun_restarts_a_killed_rank_as_if_undisturbed(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    done = torchrun(tmp_path, "run", kill=True, restarts=1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run.killed").exists()
    assert same(weights(tmp_path / "run"), undisturbed)


def test_another_number_of_ranks_is_refused(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed / "run0", tmp_path / "run")
    with pytest.raises(WsnasError, match="was trained by 2 processes until now"):
        train_supernet(SPACE, RECIPE, out=tmp_path / "run", device="cpu")


def test_ranks_with_other_options_are_refused(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "run{rank}", seed="{rank}")
    assert done.returncode != 0
    assert "refused: process 1 of 2 was started with other options than process 0" in done.stderr


def test_a_checkpoint_that_only_another_rank_has_is_not_ignored(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed / "run0", tmp_path / "run1")
    done = torchrun(tmp_path, "run{rank}")
    assert done.returncode != 0
    assert "refused: process 1 has a checkpoint of step" in done.stderr
    assert "process 0 has no checkpoint" in done.stderr


def test_sigterm_to_torchrun_stops_every_rank_after_the_same_step(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """And they save it, and go on as if undisturbed."""
    done = torchrun(tmp_path, "run", stop=True)
    assert done.returncode != 0
    assert done.stderr.count("this rank stopped") == 2, done.stderr
    stopped_at = weights(tmp_path / "run")["step"]
    assert 20 <= stopped_at < undisturbed["step"]
    done = torchrun(tmp_path, "run")
    assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path / "run"), undisturbed)
