"""Processes for the tests that cross packages: what a user would start, without importing torch anew each time.

A new ``python -m wsnas`` spends seconds on imports. Here one process imports everything once and forks for
each request; the fork runs the module (or some code) as ``__main__`` and ends with its own exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SERVER = """
import io, json, os, resource, runpy, sys, traceback
import torch
torch.set_num_threads(1)
import sklearn.datasets, scipy.stats, pyarrow.parquet, rich.progress, rich.table
import wsnas.evaluation, wsnas.studies.results, wsnas.studies.jobs, wsnas.studies.figures
try:
    import torch.utils.tensorboard
except ImportError:
    pass
weight = torch.nn.Parameter(torch.zeros(1))
weight.grad = torch.zeros(1)
optimizer = torch.optim.SGD([weight], 0.1, momentum=0.9, foreach=True)  # from here on: what torch imports late
optimizer.step()
buffer = io.BytesIO()
torch.save(optimizer.state_dict(), buffer)
buffer.seek(0)
optimizer.load_state_dict(torch.load(buffer, weights_only=True))

def work(job):
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    if job["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
    sys.argv = job["argv"]
    if job["kind"] == "module":
        runpy.run_module(job["argv"][0], run_name="__main__", alter_sys=True)
    elif job["kind"] == "script":
        runpy.run_path(job["argv"][0], run_name="__main__")
    else:
        exec(compile(job["argv"][0], "code", "exec"), {"__name__": "__main__", "print": print})

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            work(json.loads(line))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class Finished:
    """A process that has ended. ``code``: its exit code, -N where signal N killed it."""

    code: int
    out: str
    err: str


class Process:
    """A process that runs: ``pid``, and ``wait()`` for its end."""

    def __init__(self, server: subprocess.Popen[str], out: Path, err: Path) -> None:
        assert server.stdout is not None
        self._lines, self._out, self._err = server.stdout, out, err
        self.pid = int(self._lines.readline())

    def wait_for(self, text: str) -> None:
        """Until it has printed ``text``."""
        self.wait_until(lambda: text in self._out.read_text())

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until ``condition`` holds; fails where the process ends before."""
        running = True
        while not condition():
            assert running, self.wait()
            running = self.runs()
            time.sleep(0.002)

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self) -> Finished:
        code = int(self._lines.readline())
        return Finished(code, self._out.read_text(), self._err.read_text())


class Forks:
    """Starts processes, one at a time."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self._server, self._folder = server, folder

    def start(
        self, kind: str, *argv: str | Path, cwd: Path, file_limit: int = 0, env: dict[str, str] | None = None
    ) -> Process:
        """``kind``: "module", "script" or "code". ``file_limit``: no file may grow beyond so many bytes; 0 is off."""
        out, err = self._folder / "out", self._folder / "err"
        out.write_text("")
        job: dict[str, Any] = {"kind": kind, "argv": [str(arg) for arg in argv], "cwd": str(cwd), "env": env or {}}
        job |= {"out": str(out), "err": str(err), "file_limit": file_limit}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return Process(self._server, out, err)

    def wsnas(self, *argv: str | Path, cwd: Path, file_limit: int = 0, env: dict[str, str] | None = None) -> Finished:
        """``python -m wsnas ARGV`` in ``cwd``."""
        return self.start("module", "wsnas", *argv, cwd=cwd, file_limit=file_limit, env=env).wait()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts ``python -m wsnas``, studies and pieces of code as processes of their own, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    command = [sys.executable, "-c", SERVER]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as server,
    ):
        yield Forks(server, Path(folder))
        assert server.stdin is not None
        server.stdin.close()
