"""Runs a function in a process of its own with limits on memory and time: the second wall around a stranger's file."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from wsnas.errors import WorkerLost, WsnasError

J = TypeVar("J")
R = TypeVar("R")

MEMORY, SECONDS = 6 << 30, 2 * 3600.0  # the largest published table takes about 1 GB and ten minutes


def apart(function: Callable[[J], R], job: J, memory: int = MEMORY, seconds: float = SECONDS) -> R:
    """``function(job)``, computed by a process that may take ``memory`` bytes more than it starts with.

    ``function`` must be importable, its argument and result picklable. What it raises is raised here; WsnasError if the
    process takes longer than ``seconds``, WorkerLost if it dies.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_limited, args=(there, function, job, memory), daemon=True)  # type: ignore[attr-defined]
    process.start()
    there.close()
    try:
        if not here.poll(seconds):
            raise WsnasError(f"it took longer than {seconds:g} s and was stopped; nothing was written")
        result = here.recv()
    except EOFError as error:
        process.join()
        raise WorkerLost(
            f"the process that read it died (exit code {process.exitcode}), so it is damaged or hostile, or memory is "
            "short"
        ) from error
    finally:
        process.kill()
        process.join()
    if isinstance(result, BaseException):
        raise result
    return result  # type: ignore[no-any-return]


def _limited(answer: Connection, function: Callable[[Any], Any], job: Any, memory: int) -> None:
    if sys.platform == "linux":  # elsewhere such a limit is not enforced
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    try:
        result = function(job)
    except BaseException as error:
        result = error
    answer.send(result)
