"""Where many independent jobs run: this process, or local worker processes.

On a CPU one single-threaded process a core beats one process with all threads for networks of this
size; on GPUs each worker gets one. Results come back as they finish; only the caller writes records.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

import torch

from wsnas.errors import WsnasError

J = TypeVar("J")
R = TypeVar("R")


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(devices: Any) -> None:
    """One thread a worker; its own GPU where there are some; gone when the parent is gone, however it went."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    gpu = devices.get()
    if gpu is not None:
        os.environ["LOCAL_RANK"] = str(gpu)  # what choose_device looks at
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        if parent is not None:
            wait_for([parent.sentinel])
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def run_jobs(
    function: Callable[[J], R], jobs: Iterable[J], workers: int | None = None
) -> Iterator[tuple[J, R | BaseException]]:
    """``function(job)`` of every job, as they finish, each with its result or the exception it raised.

    ``workers``: processes; by default one a GPU, or one a CPU core; 0 runs in this process. ``function``
    must be importable (module level) and jobs and results picklable. Ctrl-C ends the workers' jobs at
    their next safe point and is raised here. A worker that dies (killed, out of memory) is a WsnasError
    once the others are done; what was yielded before is the caller's to keep.
    """
    pending = list(jobs)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if workers is None:
        workers = gpus or cores()
    workers = min(workers, len(pending))
    if workers == 0:
        for job in pending:
            try:
                yield job, function(job)
            except Exception as error:  # the caller decides what a failed job means
                yield job, error
        return
    context = multiprocessing.get_context("spawn")
    devices: Any = context.Queue()
    for worker in range(workers):
        devices.put(worker % gpus if gpus else None)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(devices,))
    running: dict[Future[R], J] = {}
    try:
        while pending or running:
            while pending and len(running) < 2 * workers:  # a short queue: Ctrl-C leaves little undone
                job = pending.pop(0)
                running[pool.submit(function, job)] = job
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(finished, key=lambda future: future.exception() is not None):  # keep results first
                job = running.pop(future)
                failure = future.exception()
                if isinstance(failure, BrokenProcessPool):
                    raise failure
                if isinstance(failure, KeyboardInterrupt):
                    raise KeyboardInterrupt
                yield job, failure if failure is not None else future.result()
    except BrokenProcessPool as error:  # from a job, or on handing out the next one
        raise WsnasError(
            "a worker process died (killed, or out of memory); what was finished is kept: "
            "run the same command again, with fewer --workers if memory is short"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
