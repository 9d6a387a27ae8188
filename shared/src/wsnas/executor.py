"""Runs many independent jobs: here, in local worker processes, on a Ray cluster, as Slurm's jobs, or in another pool.

On a CPU, one single-threaded process per core beats one process with all threads for networks of this
size; on GPUs, each worker has one or a share of one. Results come back as they finish. Only the caller writes
records, so jobs in flight on a lost worker or node are simply rerun.
"""

from __future__ import annotations

import ast
import atexit
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch

from wsnas.devices import cores
from wsnas.errors import WorkerLost, WsnasError, first_line, of_the_gpu, warnings_as_sentences
from wsnas.space import ENTRY_POINTS
from wsnas.stopping import SIGNALS, let_through, postponed, require_signals, stopped_in_a_job

J = TypeVar("J")
R = TypeVar("R")

ARRAY = 500  # Slurm's jobs at a time; it usually accepts up to 1,000 in an array
LONGEST = 1e8  # seconds: three years
READY = b"ready"  # a worker's first message
ALONE = threading.RLock()  # a process's one job at a time: jobs share torch's random numbers and cached supernets


@dataclass(frozen=True)
class Executor:
    """Where jobs run, their time limit and retries.

    ``workers``: local processes; by default one per GPU, else one per CPU core; 0 is this process. ``ray``: the
    address of a Ray cluster to use instead ("auto", "host:port", or "local" for one on this machine), with
    ``gpus`` GPUs per job (0.25: four jobs share a card; by default 1 if the cluster has any). ``slurm``: submitit's
    parameters, to run each job as one of Slurm's instead, e.g. ``{"slurm_partition": "gpu", "gpus_per_node": 1}``.
    ``pool``: any other pool whose ``submit(function, *arguments)`` returns something with ``done()``, ``result()`` and
    ``cancel()``, such as those of ``concurrent.futures``; jobs that it runs in one process, such as in threads, wait
    for each other. ``timeout``: seconds per job, which needs jobs in their process's main thread. ``retries``: how
    often a job is retried after its worker died (on Ray at least 3 times, as nodes come and go).
    """

    workers: int | None = None
    ray: str | None = None
    gpus: float | None = None
    timeout: float | None = None
    retries: int = 1
    slurm: Mapping[str, str | int] | None = None
    pool: Any = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout <= LONGEST:
            raise WsnasError(f"a time limit of {self.timeout:g} s makes no sense: give at most {LONGEST:g}, or none")
        if self.gpus is not None and not 0 <= self.gpus <= 1000:
            raise WsnasError(f"a job cannot have {self.gpus:g} GPUs")
        if (self.workers or 0) < 0 or self.retries < 0:
            raise WsnasError(
                f"{self.workers} workers and {self.retries} retries make no sense: neither can be negative"
            )
        places = [name for name in ("workers", "ray", "slurm", "pool") if getattr(self, name) is not None]
        if len(places) > 1:
            raise WsnasError(f"jobs run in one place: give one of {' and '.join(places)}")
        if self.gpus is not None and self.ray is None:
            raise WsnasError("GPUs per job are for Ray (ray=); on one machine several workers can share a GPU")

    @property
    def processes(self) -> int | None:
        """How many jobs run at once on this machine; None where Ray, Slurm or a pool decides."""
        if self.ray is not None or self.slurm is not None or self.pool is not None:
            return None
        return max(1, _gpus() or cores() if self.workers is None else self.workers)


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def run_jobs(
    function: Callable[[J], R], jobs: Iterable[J], executor: Executor | None = None
) -> Generator[tuple[J, R | BaseException], None, None]:
    """Yields (job, ``function(job)``), or (job, the exception it raised), as jobs finish.

    ``function`` must be importable (module level), and jobs and results picklable. A job that exceeds the time limit
    gives TimeoutError; one whose worker died on every attempt, or that the pool does not take, WorkerLost. Ctrl-C ends
    the local workers' jobs at their next safe point and is raised here; results already yielded stay valid. Raises
    WsnasError if a time limit cannot be kept, and on Windows.
    """
    require_signals()
    pending, executor = list(jobs), executor or Executor()
    if not pending:
        return
    if executor.ray is not None:
        yield from _on_ray(function, pending, executor)
    elif executor.slurm is not None:
        yield from _on_slurm(function, pending, executor)
    elif executor.pool is not None:
        yield from _in_a_pool(executor.pool, function, pending, executor)
    elif executor.workers == 0:
        for job in pending:
            yield job, _attempt(function, job, executor.timeout)
    else:
        yield from _in_processes(function, pending, executor)


def _attempt(function: Callable[[J], R], job: J, timeout: float | None) -> R | Exception:
    """The result of one job, or its exception, which the caller handles. Raises WsnasError for a limit outside the main
    thread: no other receives the signal that ends a job.
    """
    if timeout is not None and threading.current_thread() is not threading.main_thread():
        raise WsnasError(
            "outside the main thread a time limit needs a process for each job: give at least one worker, or a pool of "
            "processes"
        )
    try:
        with ALONE, _alarm(timeout):
            return function(job)
    except Overdue as late:
        return TimeoutError(str(late))
    except Exception as error:
        chained: BaseException | None = error
        while chained is not None:  # their frames hold the job's model and data
            traceback.clear_frames(chained.__traceback__)
            chained = chained.__cause__ or chained.__context__
        return error


class Overdue(BaseException):
    """The time limit of a job is over. No OSError, as TimeoutError is, nor an Exception: the job must not catch it."""


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raises Overdue in the block after this many seconds."""
    if seconds is None:
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise Overdue(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _work(pipe: Connection, timeout: float | None, gpu: int | None) -> None:
    """A worker process: one thread, its own GPU if there are any, one job after the other until an empty message.

    It receives pickles of (function, job), and sends pickles of (the result or its exception, what the parent is to
    raise instead). Ctrl-C and the like interrupt a job; between jobs SIGTERM ends the worker. When its parent is gone,
    it leaves at once.
    """
    for number in (signal.SIGINT, *SIGNALS):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        if parent is not None:
            wait_for([parent.sentinel])
            os._exit(1)

    with postponed():  # a thread that may receive signals keeps them from interrupting what the job waits for
        threading.Thread(target=leave_with_parent, daemon=True).start()
    let_through()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    if gpu is not None:
        os.environ["LOCAL_RANK"] = str(gpu)  # read by choose_device
    with suppress(EOFError, OSError):  # the other end is closed
        pipe.send_bytes(READY)
        while received := pipe.recv_bytes():
            result, raised = None, None
            try:
                with stopped_in_a_job(), warnings_as_sentences():
                    function, job = pickle.loads(received)
                    result = _attempt(function, job, timeout)
                # every further job of this process would fail: another one repeats this job
                if of_the_gpu(result):
                    sys.stderr.write(f"a worker leaves, as its GPU answers no more: {result}\n")
                    os._exit(1)
            except BaseException as error:
                raised = error
            pipe.send_bytes(_message(result, raised))
            if isinstance(raised, KeyboardInterrupt):
                return


def _message(result: Any, raised: BaseException | None) -> Any:
    """Both pickled; why not, where they cannot be."""
    try:
        return ForkingPickler.dumps((_sendable(result), _sendable(raised)))
    except Exception as error:
        return ForkingPickler.dumps((None, _sendable(error)))


def _sendable(result: Any) -> Any:
    """The result of a job; an exception that cannot be pickled and read again is replaced by its text."""
    if isinstance(result, BaseException):
        try:
            pickle.loads(pickle.dumps(result))
        except Exception:
            return RuntimeError(f"{type(result).__name__}: {result}")
    return result


@dataclass
class _Worker(Generic[J]):
    process: BaseProcess
    gpu: int | None
    ready: bool = False
    task: tuple[J, int] | None = None  # the job that it is doing, and how often it may be retried

    def message(self, pipe: Connection) -> bytes | None:
        """What it has sent: nothing yet, ``READY``, or a result. Raises EOFError if it has died."""
        died = self.process.exitcode is not None  # asked first: all that it sent is there by then
        try:
            if pipe.poll():
                return pipe.recv_bytes()
        except OSError as error:
            raise EOFError from error
        if died:  # a process that it forked still holds its end of the pipe
            raise EOFError
        return None


def _in_processes(
    function: Callable[[J], R], jobs: list[J], executor: Executor
) -> Iterator[tuple[J, R | BaseException]]:
    """Each worker has a pipe of its own: one that dies, at whatever moment, holds up no other."""
    _require_main_guard()
    gpus, count = _gpus(), min(executor.processes or 1, len(jobs))
    free = deque(i % gpus if gpus else None for i in range(count))  # a GPU, or nothing, for each worker to come
    context = multiprocessing.get_context("spawn")
    pending = deque((job, executor.retries) for job in jobs)
    workers: dict[Connection, _Worker[J]] = {}
    finished: list[tuple[J, R | BaseException]] = []
    stopped: BaseException | None = None
    failed_starts = 0

    def end() -> None:
        with postponed():
            for pipe, worker in workers.items():
                with suppress(OSError):  # it has ended
                    if not worker.ready:
                        worker.process.kill()
                    elif worker.task is not None:
                        worker.process.terminate()  # the job ends at its safe point
                    else:
                        pipe.send_bytes(b"")
                pipe.close()

    resource_tracker.ensure_running()  # its start would let the signals through to the first worker
    atexit.register(end)  # before multiprocessing waits for the workers of whoever neither finished nor closed this
    try:
        while True:
            for pipe, worker in workers.items():
                if pending and worker.ready and worker.task is None:
                    sent = ForkingPickler.dumps((function, pending[0][0]))
                    worker.task = pending.popleft()
                    with suppress(OSError):  # it died, as is seen below
                        pipe.send_bytes(sent)
            while pending and free:
                pipe, its_end = context.Pipe()
                gpu = free.popleft()
                process = context.Process(target=_work, args=(its_end, executor.timeout, gpu))
                with postponed():
                    process.start()
                    workers[pipe] = _Worker(process, gpu)
                its_end.close()  # so that the pipe ends with the worker
            yield from finished
            finished = []
            if stopped is not None:
                raise stopped
            if not pending and all(worker.task is None for worker in workers.values()):
                return
            wait_for(list(workers), timeout=1)
            for pipe, worker in list(workers.items()):
                try:
                    message = worker.message(pipe)
                except EOFError:
                    del workers[pipe]
                    pipe.close()
                    worker.process.terminate()  # if it still waits for a thread of its job
                    worker.process.join()
                    free.append(worker.gpu)
                    if worker.task is None:
                        failed_starts += not worker.ready
                    elif worker.task[1]:
                        pending.append((worker.task[0], worker.task[1] - 1))
                    else:
                        why = f"its worker process died (exit code {worker.process.exitcode}): killed, or out of memory"
                        finished.append((worker.task[0], _lost(why)))
                    continue
                if message == READY:
                    worker.ready, failed_starts = True, 0
                elif message is not None and worker.task is not None:
                    (job, _), worker.task = worker.task, None
                    result, error = pickle.loads(message)
                    if error is None:
                        finished.append((job, result))
                    stopped = stopped or error  # KeyboardInterrupt, or a job or result that cannot be sent
            if failed_starts > executor.retries:
                stopped = stopped or _lost("the worker processes died before their first job: killed, or out of memory")
    finally:
        end()
        atexit.unregister(end)
        for worker in workers.values():
            worker.process.join()


def _require_main_guard() -> None:
    """Raises WsnasError if the script that is running would start the workers again when they import it."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is None or getattr(main, "__spec__", None) is not None:  # typed in, or python -m
        return
    frame: FrameType | None = sys._getframe()
    while frame is not None and not (frame.f_code.co_name == "<module>" and frame.f_globals is vars(main)):
        frame = frame.f_back
    if frame is None:
        return
    try:
        statements = ast.parse(Path(script).read_text()).body
    except (OSError, ValueError, SyntaxError):
        return
    running = [s for s in statements if s.lineno <= frame.f_lineno <= (s.end_lineno or s.lineno)]
    if running and not isinstance(running[-1], ast.If):
        raise WsnasError(
            f"the workers import {script}, which would start workers again at line {frame.f_lineno}: put its work "
            "under 'if __name__ == \"__main__\":', or use this process alone (workers=0)"
        )


def _lost(why: str) -> WorkerLost:
    return WorkerLost(f"{why}; run the same command again, with fewer --workers if memory is short")


def _on_ray(function: Callable[[J], R], jobs: list[J], executor: Executor) -> Iterator[tuple[J, R | BaseException]]:
    """Ray itself reruns the jobs of a lost node; torch and what else the code imports must be on every node."""
    try:
        import ray
    except ImportError as error:
        raise WsnasError("--ray needs Ray here and on every node: pip install ray") from error
    with tempfile.TemporaryDirectory() as folder:
        yield from _in_a_session(ray, function, jobs, executor, Path(folder))


def _in_a_session(
    ray: Any, function: Callable[[J], R], jobs: list[J], executor: Executor, folder: Path
) -> Iterator[tuple[J, R | BaseException]]:
    if executor.gpus is not None and executor.gpus > 1 and executor.gpus % 1:
        raise WsnasError(f"{executor.gpus:g} GPUs a job: above one, Ray gives only whole GPUs; change --gpus-a-job")
    try:
        host, _, port = executor.ray.rpartition(":") if executor.ray is not None else ("", "", "")
        if host and "/" not in host and port.isdecimal():  # Ray itself would wait for minutes
            _greet(host, int(port))
        ours = not ray.is_initialized()  # inside a notebook the session there is used, and left running
        theirs = executor.ray == "local" or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ  # a Ray job has its own code
        if ours:
            ray.init(
                address=None if executor.ray == "local" else executor.ray,
                include_dashboard=False if executor.ray == "local" else None,
                runtime_env=None if theirs else {"py_modules": _code(folder)},
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise WsnasError(
            f"no Ray cluster answers at '{executor.ray}' ({first_line(error)}); start one with 'ray start "
            "--head', or use --ray local"
        ) from error
    try:
        gpus = executor.gpus if executor.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus for node in nodes):  # Ray would wait for one
            have = "; ".join(f"{node.get('CPU', 0):g} CPU cores and {node.get('GPU', 0):g} GPUs" for node in nodes)
            raise WsnasError(
                f"no node of the Ray cluster '{executor.ray}' has a CPU core and {gpus:g} GPUs for a job; they have "
                f"{have}: change --gpus-a-job"
            )
        folders = {name: os.environ[name] for name in ("WSNAS_DATA", "WSNAS_TABLES") if name in os.environ}
        variables = {name: os.path.abspath(os.path.expanduser(path)) for name, path in folders.items()}
        # Ray gives a worker other GPUs for its next task, but CUDA stays with its first: one task a worker
        remote = (ray.remote(num_gpus=gpus, max_calls=1)(_on_a_node) if gpus else ray.remote(_on_a_node)).options(
            num_cpus=1,
            num_gpus=gpus,
            max_retries=max(executor.retries, 3),
            **({"runtime_env": {"env_vars": variables}} if variables else {}),
        )
        pending, running = deque(jobs), dict[Any, J]()
        # Ray queues what it cannot run yet; a bound keeps its tables, and a look at all that run, small
        slots = max(100, 4 * int(sum(node.get("CPU", 0) for node in nodes)))
        while pending or running:
            while pending and len(running) < slots:
                job = pending.popleft()
                running[remote.remote(function, job, executor.timeout)] = job
            ray.wait(list(running), num_returns=1)
            finished, _ = ray.wait(list(running), num_returns=len(running), timeout=0)  # all that are, in one look
            for reference in finished:
                job = running.pop(reference)
                try:
                    yield job, ray.get(reference)
                except (ray.exceptions.RayTaskError, ray.exceptions.RaySystemError) as error:
                    reason = next(reversed(str(error).strip().splitlines()), "")[:200]
                    raise WsnasError(
                        f"a node of the cluster cannot run a job ({reason}): every node needs the packages that wsnas "
                        "needs, such as torch; in a Ray session of your own also wsnas and the space"
                    ) from error
                except ray.exceptions.RayError as error:
                    yield job, _lost(f"Ray lost the job on every attempt ({type(error).__name__})")
    finally:
        if ours:
            ray.shutdown()  # cancels jobs still in flight
        else:
            for reference in running:
                ray.cancel(reference)


def _code(folder: Path) -> list[str]:
    """What Ray sends to its nodes: the code of the core and of every installed space, and their entry points."""
    points = entry_points(group=ENTRY_POINTS)
    found = [find_spec(name) for name in ("wsnas", *sorted({point.module.split(".")[0] for point in points}))]
    info = folder / "wsnas_spaces-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wsnas-spaces\nVersion: 0\n")
    lines = [f"{point.name} = {point.value}" for point in points]
    (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines, ""]))
    code = [path for spec in found if spec for path in spec.submodule_search_locations or [spec.origin or ""]]
    return [str(info), *code]


def _greet(host: str, port: int) -> None:
    """Raises OSError if nothing answers there, or what answers does not speak HTTP/2, as Ray's head does (gRPC)."""
    with socket.create_connection((host, port), timeout=10) as connection:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # an empty frame: length, type 4, flags, stream
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
            if connection.recv(9)[3:4] != b"\x04":
                raise ConnectionError("what answers there is not Ray")


def _on_a_node(function: Callable[[J], R], job: J, timeout: float | None) -> R | Exception:
    torch.set_num_threads(1)
    return _attempt(function, job, timeout)


class _Stopped:
    """What a job of Slurm's returns whose training was stopped by the signal that its time runs out, and saved."""


class _Requeued:
    """A job of Slurm's that is submitted again when its time runs out; trainings go on from their checkpoints."""

    def __call__(self, function: Callable[[J], R], job: J, timeout: float | None) -> R | Exception | _Stopped:
        try:
            return _on_a_node(function, job, timeout)
        except KeyboardInterrupt:
            return _Stopped()

    def checkpoint(self, function: Callable[[J], R], job: J, timeout: float | None) -> Any:
        """What submitit submits instead, called when Slurm's signal comes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, function, job, timeout)


def _on_slurm(function: Callable[[J], R], jobs: list[J], executor: Executor) -> Iterator[tuple[J, R | BaseException]]:
    """Arrays of Slurm's jobs through submitit, which writes them, their logs and results to the folder ``slurm``."""
    try:
        import submitit
    except ImportError as error:
        raise WsnasError("--slurm needs submitit: pip install submitit") from error
    parameters = dict(executor.slurm or {})
    try:
        often = {"slurm_max_num_timeout": 1000, "local_max_num_timeout": 1000}  # submitit gives up after three
        pool = submitit.AutoExecutor(folder=Path("slurm") / "%j", cluster=parameters.pop("cluster", None), **often)
        pool.update_parameters(name="wsnas", **parameters)
    except (RuntimeError, TypeError, ValueError, NameError) as error:
        raise WsnasError(f"submitit cannot use these parameters of --slurm ({error})") from error
    yield from _in_a_pool(pool, function, jobs, executor, pool.batch)


def _in_a_pool(
    pool: Any,
    function: Callable[[J], R],
    jobs: list[J],
    executor: Executor,
    together: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[tuple[J, R | BaseException]]:
    """Through a pool's ``submit``; ``together``: a block whose jobs it submits at once."""
    pending, running = deque((job, executor.retries) for job in jobs), dict[Any, tuple[J, int]]()
    try:
        while pending or running:
            some = [pending.popleft() for _ in range(min(len(pending), ARRAY - len(running)))]
            if some:
                submitted: list[Any] = []
                try:
                    with together():
                        for job, _ in some:
                            submitted.append(pool.submit(_Requeued(), function, job, executor.timeout))
                    running |= dict(zip(submitted, some, strict=True))
                except Exception as error:  # one of its processes died, or it was shut down
                    with suppress(Exception):  # what was submitted may be no task yet
                        for task in submitted:
                            task.cancel()
                    refused = _lost(f"the pool takes no more jobs ({type(error).__name__}: {error})")
                    yield from ((job, refused) for job, _ in (*some, *pending))
                    pending.clear()
            finished = [task for task in running if task.done()]
            for task in finished:
                job, retries = running.pop(task)
                try:
                    result = task.result()
                except WsnasError:  # a time limit that cannot be kept
                    raise
                except Exception as error:  # the pool's: a job's own is returned
                    if retries:
                        pending.append((job, retries - 1))
                        continue
                    what = f"job {task.job_id}" if hasattr(task, "job_id") else "a job of the pool"
                    result = _lost(f"{what} ended without a result ({type(error).__name__})")
                if isinstance(result, _Stopped):
                    pending.append((job, retries))
                else:
                    yield job, result
            if not finished:
                time.sleep(0.5)
    finally:
        for task in running:
            task.cancel()
