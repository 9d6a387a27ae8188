"""What may happen to a run: kills, a full disk, other writers, damage to its files. How much is lost, or wrong?

- kills: a process that trains a small supernet, saving after every step, and scores submodels of it is killed by
  SIGKILL at random moments and started again, until it ends; weights, metrics and scores must equal those of a run that
  nobody disturbed.
- full disk: the same, but files may not grow beyond a random size; then the disk has room again.
- writers: two processes begin the same run at once, with the same or with other settings; one of them must be refused,
  and the other end as if alone.
- mutations: bits, bytes and pieces of each file of a finished run are changed; what is read must be as before, or
  refused.

    OMP_NUM_THREADS=1 python benchmarks/faults.py --kills 100 --mutations 300
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from trials import mutated, numbered, quiet, tried

from wsnas.environment import environment
from wsnas.errors import WsnasError
from wsnas.evaluation import evaluate, latest_scores
from wsnas.options import Command
from wsnas.recipe import change_recipe
from wsnas.sampling import sample_distinct
from wsnas.space import load_space
from wsnas.supernet import load_supernet, train_supernet

SMALL = {"epochs": 3, "channels": 2, "train_size": 640, "batch": 64, "valid_size": 100, "calibration_batch": 50}
SUBMODELS = 20
FILES = ("run.json", "checkpoint.pt", "metrics.jsonl", "records.sqlite")


def work(out: Path, seed: int = 0) -> None:
    """Trains a supernet and scores some of its submodels."""
    space = load_space("nb201")
    recipe = change_recipe(space.recipes["micro"], **SMALL)
    supernet = train_supernet(space, recipe, seed=seed, out=out, device="cpu", checkpoint_seconds=0)
    evaluate(supernet, sample_distinct(space, SUBMODELS, np.random.default_rng(0)))


def begun(out: Path, seed: int = 0, largest: int | None = None) -> int:
    """Starts ``work`` in a forked process; its exit code is 0, 2 where it is refused, and 1 for any other error."""
    if (pid := os.fork()) == 0:
        code = 1
        try:
            with quiet():
                if largest is not None:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
                work(out, seed)
            code = 0
        except WsnasError:
            code = 2
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """The exit code, -9 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def result(out: Path) -> Any:
    """Everything a run has learnt, to the last bit, without the times."""
    supernet = load_supernet(out, "cpu")
    weights = {name: tensor.numpy().tobytes() for name, tensor in supernet.model.state_dict().items()}
    run = supernet.run
    run.cut_back("metrics.jsonl", int((run.load_checkpoint(torch.device("cpu")) or {})["metrics_size"]))
    return weights, supernet.step, run.identity, run.recipe, run.metrics(), latest_scores(run)


def wait_until_worked(pid: int, seconds: float) -> None:
    """Waits until a child has had so many seconds of a processor, whatever else the machine does, or has ended."""
    while True:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if state == "Z" or (int(fields[10]) + int(fields[11])) / os.sysconf("SC_CLK_TCK") >= seconds:
            return
        time.sleep(0.002)


def killed(place: Path, good: Any, kills: int, seed: int) -> dict[str, int]:
    """Runs that ended as undisturbed ones do, and others, after ``kills`` kills in all, at most ten each."""
    rng, found = numbered(seed, 0), Counter[str]()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended(begun(place / "timed")) == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    alone = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    while found["kills"] < kills:
        out, most = place / f"killed-{found['runs']}", found["kills"] + 10
        while True:
            pid = begun(out)
            if found["kills"] < min(kills, most):
                wait_until_worked(pid, float(rng.uniform(0, alone / 2)))
                os.kill(pid, signal.SIGKILL)
            code = ended(pid)
            found["kills"] += code == -signal.SIGKILL
            if code == 0:
                break
            if code != -signal.SIGKILL:
                found["refused or failed"] += 1
                break
        found["runs"] += 1
        found["as undisturbed"] += code == 0 and result(out) == good
        shutil.rmtree(out, ignore_errors=True)
    return dict(found)


def full(place: Path, good: Any, times: int, seed: int) -> dict[str, int]:
    """How runs on a disk without room end, and whether they go on as undisturbed ones when there is room."""
    found = Counter[str]()
    largest = (place / "good/checkpoint.pt").stat().st_size
    for i in range(times):
        out = place / "full"
        code = ended(begun(out, largest=int(numbered(seed, i).integers(1, 2 * largest))))
        found[{0: "room enough", 2: "refused"}.get(code, "traceback")] += 1
        again = ended(begun(out))
        found["then as undisturbed" if again == 0 and result(out) == good else "then wrong"] += 1
        shutil.rmtree(out)
    return dict(found)


def writers(place: Path, good: Any, times: int, seed: int) -> dict[str, int]:
    """Two processes that begin one run within 50 ms."""
    found = Counter[str]()
    for i in range(times):
        rng, out = numbered(seed, i), place / "writers"
        other = int(i % 2)  # the same settings, or another seed
        first = begun(out)
        time.sleep(float(rng.uniform(0, 0.05)))
        second = begun(out, seed=other)
        codes = ended(first), ended(second)
        found[{(0, 2): "second refused", (2, 0): "first refused", (0, 0): "one after the other"}.get(codes, "odd")] += 1
        if codes[0] == 0 or other == 0:
            found["as undisturbed" if result(out) == good else "wrong"] += 1
        shutil.rmtree(out)
    return dict(found)


def damaged(place: Path, good: Any, name: str, count: int, seed: int, log: Path) -> dict[str, int]:
    """Mutations of one file of a finished run, by how reading the run ended."""
    file = place / "good" / name
    content = file.read_bytes()

    def trial(i: int) -> bool:
        bad = bytearray(content)
        rng = numbered(seed, i)
        if i % 2:
            bad[int(rng.integers(len(bad)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(bad if i % 2 else mutated(content, rng))
        return bool(result(place / "good") == good)

    ends = tried(trial, count, log)
    file.write_bytes(content)
    return ends


@click.command(cls=Command)
@click.option("--kills", type=click.IntRange(0), default=20, show_default=True)
@click.option("--disks", type=click.IntRange(0), default=5, show_default=True, help="Runs on a full disk.")
@click.option("--writers", "pairs", type=click.IntRange(0), default=6, show_default=True, help="Pairs of writers.")
@click.option("--mutations", type=click.IntRange(0), default=50, show_default=True, help="Of each file.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--log", type=click.Path(path_type=Path), default=Path("faults.log"), help="What was wrong, and why.")
def main(kills: int, disks: int, pairs: int, mutations: int, seed: int, log: Path) -> None:
    """Counts of what was tried on a run, and of what was lost or wrong."""
    torch.set_num_threads(1)
    load_space("nb201").sample(np.random.default_rng(0))  # lists the space, before the forks
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)  # imports what the first of a process does: seconds
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        assert ended(begun(place / "good")) == 0
        good = result(place / "good")
        trials: dict[str, Callable[[], dict[str, int]]] = {
            "kills": lambda: killed(place, good, kills, seed),
            "full disk": lambda: full(place, good, disks, seed),
            "writers": lambda: writers(place, good, pairs, seed),
            **{name: partial(damaged, place, good, name, mutations, seed, log) for name in FILES if mutations},
        }
        found = {}
        for name, trial in trials.items():
            found[name] = trial()
            click.echo(f"{name:20} {found[name]}", err=True)
    print(json.dumps({**found, "environment": environment()}, indent=1))


if __name__ == "__main__":
    main()
