"""Two processes (gloo, on the CPU) are killed or stopped and go on, each with a folder of its own.

One process imports everything once and forks for each pair of ranks; torchrun itself starts those that it restarts or
stops.

Their hidden states differ, so a resumed run has the same numbers only if every rank gets its own back.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
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
IMPORTS = """
import json, os, signal, sys
from pathlib import Path
import torch
from darts_rnn import SPACE
from darts_rnn.recipes import MICRO
from wsnas import WsnasError, train_supernet
from wsnas.recipe import change_recipe
"""
RANK = """
folder, seed, mark, disturb = (text.format(rank=os.environ["RANK"]) for text in sys.argv[1:])

def report(done, total, note):
    if done == 20 and disturb and not Path(mark).exists():
        Path(mark).touch()
        if disturb == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            os.kill(os.getppid(), signal.SIGTERM)  # torchrun's, which tells its processes

try:
    recipe = change_recipe(MICRO, epochs=2, train_size=16_000)
    train_supernet(SPACE, recipe, seed=int(seed), out=folder, device="cpu", checkpoint_seconds=0, report=report)
except WsnasError as error:
    sys.exit(f"refused: {error}")
except KeyboardInterrupt:
    sys.exit("this rank stopped")
"""
SERVER = f"""{IMPORTS}
RANK = compile({RANK!r}, "rank", "exec")
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)  # imports what the first of a process does

def work():
    os.dup2(os.open(job["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    code = 1
    try:
        exec(RANK, globals())
        code = 0
    except SystemExit as end:
        print(end, file=sys.stderr)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    job, ranks, codes = json.loads(line), [], []
    sys.argv = ["rank", *job["argv"]]
    for rank in range(2):
        os.environ |= {{"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), **job["env"]}}
        ranks.append(os.fork() or work())
    while ranks:
        pid, status = os.wait()
        ranks.remove(pid)
        codes.append(os.waitstatus_to_exitcode(status))
        if codes[-1]:  # as torchrun does
            for other in ranks:
                os.kill(other, signal.SIGTERM)
    print(json.dumps(codes), flush=True)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
Start = Callable[..., tuple[bool, str]]


def arguments(folder: Path, out: str, seed: str, disturb: str) -> list[str]:
    """Trains into ``out``, with {rank} for each process's number; once, at step 20, ``disturb``: "kill", rank 0 kills
    itself; "stop", the process that started the ranks gets SIGTERM.
    """
    return [str(folder / out), seed, str(folder / f"{out}.disturbed".format(rank="")), disturb]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Trains by two ranks; returns whether both finished, and what they wrote to stderr."""
    errors, pipe = tmp_path_factory.mktemp("ranks") / "errors", subprocess.PIPE
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def start(folder: Path, out: str, *, seed: str = "0", kill: bool = False) -> tuple[bool, str]:
            errors.write_text("")
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
            job = {"argv": arguments(folder, out, seed, "kill" if kill else ""), "env": address, "errors": str(errors)}
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            codes = json.loads(server.stdout.readline())
            assert len(codes) == 2
            return codes == [0, 0], errors.read_text()

        yield start
        server.stdin.close()


def torchrun(folder: Path, out: str, *, disturb: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """The same by torchrun, which starts the ranks again when one has died."""
    (folder / "script.py").write_text(IMPORTS + RANK)
    many = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command = [sys.executable, "-m", "torch.distributed.run", *many, str(folder / "script.py")]
    return subprocess.run(
        [*command, *arguments(folder, out, "0", disturb)], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def weights(path: Path) -> dict[str, Any]:
    state = Run.read(path).load_checkpoint(torch.device("cpu"))
    assert state is not None
    return {"step": state["step"], **state["model"]}


@pytest.fixture(scope="module")
def undisturbed(two_ranks: Start, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    finished, errors = two_ranks(folder, "run")
    assert finished, errors
    return weights(folder / "run")


@pytest.fixture(scope="module")
def killed(two_ranks: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of two ranks, killed at step 20: run0 has a checkpoint, run1, the other rank's, nothing."""
    folder = tmp_path_factory.mktemp("killed")
    assert not two_ranks(folder, "run{rank}", kill=True)[0]
    assert weights(folder / "run0")["step"] >= 19
    assert not (folder / "run1").exists()
    return folder


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(
        torch.equal(value, expected[name]) if isinstance(value, torch.Tensor) else value == expected[name]
        for name, value in found.items()
    )


def test_ranks_with_folders_of_their_own_go_on_as_if_undisturbed(
    two_ranks: Start, killed: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(killed / "run0", tmp_path / "run0")
    finished, errors = two_ranks(tmp_path, "run{rank}")
    assert finished, errors
    assert same(weights(tmp_path / "run0"), undisturbed)


def test_torchrun_restarts_a_killed_rank_as_if_undisturbed(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    done = torchrun(tmp_path, "run", disturb="kill", restarts=1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run.disturbed").exists()
    assert same(weights(tmp_path / "run"), undisturbed)


def test_another_number_of_ranks_is_refused(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed / "run0", tmp_path / "run")
    with pytest.raises(WsnasError, match="was trained by 2 processes until now"):
        train_supernet(SPACE, RECIPE, out=tmp_path / "run", device="cpu")


def test_ranks_with_other_options_are_refused(two_ranks: Start, tmp_path: Path) -> None:
    finished, errors = two_ranks(tmp_path, "run{rank}", seed="{rank}")
    assert not finished
    assert "refused: process 1 of 2 was started with other options than process 0" in errors


def test_a_checkpoint_that_only_another_rank_has_is_not_ignored(two_ranks: Start, killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed / "run0", tmp_path / "run1")
    finished, errors = two_ranks(tmp_path, "run{rank}")
    assert not finished
    assert "refused: process 1 has a checkpoint of step" in errors
    assert "process 0 has no checkpoint" in errors


def test_sigterm_to_torchrun_stops_every_rank_after_the_same_step(
    two_ranks: Start, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """And they save it, and go on as if undisturbed."""
    done = torchrun(tmp_path, "run", disturb="stop")
    assert done.returncode != 0
    assert done.stderr.count("this rank stopped") == 2, done.stderr
    assert 20 <= weights(tmp_path / "run")["step"] < undisturbed["step"]
    finished, errors = two_ranks(tmp_path, "run")
    assert finished, errors
    assert same(weights(tmp_path / "run"), undisturbed)
