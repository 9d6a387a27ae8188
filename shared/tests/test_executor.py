"""Jobs in worker processes. The jobs are Python expressions, so that workers need nothing of these tests."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from pickle import PicklingError
from typing import Any, ClassVar

import pytest

from wsnas.devices import cores
from wsnas.errors import WorkerLost, WsnasError, of_the_gpu
from wsnas.executor import Executor, run_jobs
from wsnas.runs import Run

Start = Callable[..., "subprocess.Popen[str]"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.parent.parent.joinpath("self").exists() or status.read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_and_this_process_give_the_same_results_and_failures() -> None:
    jobs = ["1 + 1", "1 / 0", "'a' * 3", "[][1]", "__import__('os').getpid()"]
    here, there = (dict(run_jobs(eval, jobs, Executor(workers))) for workers in (0, 2))
    pids = here.pop(jobs[4]), there.pop(jobs[4])
    assert pids[0] == os.getpid() != pids[1]
    assert list(here) == jobs[:4]
    for found in (here, there):
        assert (found["1 + 1"], found["'a' * 3"]) == (2, "aaa")
        assert isinstance(found["1 / 0"], ZeroDivisionError)
        assert isinstance(found["[][1]"], IndexError)
    assert here.keys() == there.keys()


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: cudaErrorIllegalAddress", True),
        ("Triton Error [CUDA]: an illegal memory access was encountered", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        ("CUDA error: out of memory", False),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_errors_after_which_a_gpu_answers_no_more(said: str, stays: bool) -> None:
    assert of_the_gpu(RuntimeError(said)) is stays
    assert not of_the_gpu(ValueError(said))


class Held:
    """Something large that a failing job holds."""

    alive: ClassVar[weakref.WeakSet[Held]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


def holds_and_fails(number: int) -> None:
    held = Held()
    try:
        raise KeyError(number)
    except KeyError as error:
        raise RuntimeError(f"{number} with {type(held).__name__}") from error


def test_a_failed_job_holds_nothing() -> None:
    """Its exception, which is kept, has the frames of its functions: a model and its memory on a GPU."""
    found = [(result, len(Held.alive)) for _, result in run_jobs(holds_and_fails, range(3), Executor(0))]
    assert [(str(result), left) for result, left in found] == [(f"{number} with Held", 0) for number in range(3)]


def test_a_worker_whose_gpu_is_lost_repeats_nothing_and_fails_no_other_job(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An illegal access stays until the process ends: a new one repeats the job. Lack of memory does not stay."""
    note = tmp_path / "lost once"
    raising = "(_ for _ in ()).throw(RuntimeError('CUDA error: {}'))"
    once = f"__import__('pathlib').Path({str(note)!r}).exists() or "
    once += f"(__import__('pathlib').Path({str(note)!r}).touch(), {raising.format('an illegal memory access')})"
    full = raising.format("out of memory")
    jobs = [once, full, "__import__('os').getpid()", "1 + 1"]
    found = dict(run_jobs(eval, jobs, Executor(1)))
    assert found[once] is True
    assert isinstance(found[full], RuntimeError)
    assert found["1 + 1"] == 2
    assert capfd.readouterr().err.count("its GPU answers no more: CUDA error: an illegal memory access") == 1


@pytest.mark.parametrize(
    "places", [{"ray": "auto", "slurm": {}}, {"slurm": {}, "pool": 1}, {"ray": "local", "pool": 1}]
)
def test_jobs_run_in_one_place(places: dict[str, Any]) -> None:
    with pytest.raises(WsnasError, match=f"give one of {' and '.join(places)}"):
        Executor(**places)
    with pytest.raises(WsnasError, match="neither can be negative"):
        Executor(workers=-1)


def test_no_jobs_start_no_processes() -> None:
    assert list(run_jobs(eval, [], Executor(4))) == []


def test_a_dead_worker_loses_no_other_job(tmp_path: Path) -> None:
    """Its job is retried in a new worker; a job that kills every worker is WorkerLost, the others have results."""
    note = tmp_path / "died once"
    once = f"__import__('pathlib').Path({str(note)!r}).exists() or "
    once += f"(__import__('pathlib').Path({str(note)!r}).touch(), __import__('os')._exit(9))"
    always = "__import__('os')._exit(3)"
    jobs = ["__import__('torch').get_num_threads()", once, always, *(f"{i} + 1" for i in range(6))]
    found = dict(run_jobs(eval, jobs, Executor(2)))
    assert found.keys() == set(jobs)
    assert found[jobs[0]] == 1  # a worker has one thread
    assert found[once] is True
    lost = found[always]
    assert isinstance(lost, WorkerLost)
    assert "exit code 3" in str(lost)
    assert [found[f"{i} + 1"] for i in range(6)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_job_that_takes_too_long_is_ended(workers: int) -> None:
    jobs = ["__import__('time').sleep(60)", "7"]
    started = time.monotonic()
    found = dict(run_jobs(eval, jobs, Executor(workers, timeout=0.5)))
    assert isinstance(found[jobs[0]], TimeoutError)
    assert found["7"] == 7
    assert time.monotonic() - started < 40


def test_a_time_limit_is_not_taken_for_a_failure_of_what_was_going_on(tmp_path: Path) -> None:
    """A job that is about to write, which waits for the pipe's reader, and one that forgives every error."""
    os.mkfifo(tmp_path / "pipe")

    def forgiving(path: Path) -> None:
        with suppress(Exception):
            time.sleep(10)

    writing: Any = Run(tmp_path, {}, {}).append
    for job in (lambda name: writing(name, {}), forgiving):
        ((_, result),) = run_jobs(job, ["pipe"], Executor(0, timeout=0.2))
        assert repr(result) == "TimeoutError('took longer than 0.2 s')"


def test_a_time_limit_that_could_not_be_kept_is_refused() -> None:
    """A process ends its own job by a signal, which only its main thread receives."""
    with ThreadPoolExecutor(1) as thread:
        with pytest.raises(WsnasError, match="give at least one worker"):
            thread.submit(lambda: list(run_jobs(eval, ["7"], Executor(0, timeout=5)))).result()
        assert thread.submit(lambda: list(run_jobs(eval, ["7"], Executor(0)))).result() == [("7", 7)]
        with pytest.raises(WsnasError, match="or a pool of processes"):
            list(run_jobs(eval, ["7", "8"], Executor(pool=thread, timeout=5)))
        assert list(run_jobs(eval, ["7"], Executor(pool=thread))) == [("7", 7)]


def test_jobs_of_one_process_run_one_at_a_time() -> None:
    running: list[int] = []

    def together(job: int) -> int:
        running.append(job)
        time.sleep(0.05)
        seen = len(running)
        running.remove(job)
        return seen

    with ThreadPoolExecutor(4) as threads:
        assert dict(run_jobs(together, range(4), Executor(pool=threads))) == dict.fromkeys(range(4), 1)


def test_what_a_broken_pool_does_not_take_is_lost() -> None:
    """A process that dies breaks the pool of ``concurrent.futures``; one that is shut down takes nothing at all."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        dead = list(run_jobs(os._exit, [3, 3], Executor(pool=pool)))
    with ThreadPoolExecutor(1) as thread:
        pass
    shut = list(run_jobs(eval, ["7"], Executor(pool=thread)))
    for found, jobs, why in ((dead, [3, 3], "BrokenProcessPool"), (shut, ["7"], "RuntimeError")):
        assert [job for job, _ in found] == jobs
        for _, lost in found:
            assert isinstance(lost, WorkerLost)
            assert f"takes no more jobs ({why}: " in str(lost)


@pytest.mark.parametrize("options", [{"workers": 4, "ray": "auto"}, {"workers": 2, "gpus": 0.5}])
def test_an_option_without_effect_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(WsnasError, match=r"give one of workers and ray|are for Ray"):
        Executor(**options)


def test_missing_ray_or_cluster_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)  # import ray then raises ImportError
    with pytest.raises(WsnasError, match=r"pip install ray"):
        list(run_jobs(eval, ["1"], Executor(ray="auto")))


PARENT = """
from wsnas.executor import Executor, run_jobs
job = "__import__('pathlib').Path({!r}).write_text(str(__import__('os').getpid())), __import__('time').sleep(60)"
if __name__ == "__main__":
    import sys
    list(run_jobs(eval, [job.format(sys.argv[1])], Executor(1)))
"""


def noted(note: Path, process: subprocess.Popen[str]) -> int:
    """The process id that one of `process`'s workers writes into `note`, waited for."""
    started = time.monotonic()
    while not (note.exists() and note.read_text()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - started < 60
        time.sleep(0.05)
    return int(note.read_text())


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path, python: Start) -> None:
    note = tmp_path / "pid"
    parent = python(PARENT, note)
    worker = noted(note, parent)
    assert alive(worker)
    parent.send_signal(signal.SIGKILL)
    waited = time.monotonic()
    while alive(worker):
        assert time.monotonic() - waited < 10, "the worker outlived its parent"
        time.sleep(0.05)


UNGUARDED = """
from wsnas.executor import Executor, run_jobs
results = [result for _, result in run_jobs(eval, ["1 + 1"], Executor(1))]
print(results)
"""


def test_a_script_without_a_main_guard_is_told_at_once(tmp_path: Path, python: Start) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    _, errors = python(code, script).communicate(timeout=60)
    assert errors.strip().splitlines()[-1] == (
        f"wsnas.errors.WsnasError: the workers import {script}, which would start workers again at line 3: put its "
        "work under 'if __name__ == \"__main__\":', or use this process alone (workers=0)"
    )
    assert len(errors.splitlines()) < 25
    guarded = UNGUARDED.replace("results =", "if __name__ == '__main__':\n    results =").replace("print", "    print")
    script.write_text(guarded)
    output, errors = python(code, script).communicate(timeout=120)
    assert output == "[2]\n", errors


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_killed_before_its_first_job_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """The worker dies while it starts, as when it is killed in its first two seconds."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        f"note = pathlib.Path({str(tmp_path / 'deaths')!r})\n"
        "died = len(note.read_text()) if note.exists() else 0\n"
        f"if '--multiprocessing-fork' in sys.argv and died < {deaths}:\n"
        "    note.write_text((died + 1) * 'x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    if deaths == 1:
        assert dict(run_jobs(eval, ["1 + 1", "2 + 2"], Executor(1))) == {"1 + 1": 2, "2 + 2": 4}
    else:
        with pytest.raises(WorkerLost, match=r"died before their first job: killed, or out of memory; run the same"):
            list(run_jobs(eval, ["1 + 1", "2 + 2"], Executor(1)))


SLOW_TO_READ = """
import os, pathlib, time
from wsnas.executor import Executor, run_jobs

note = pathlib.Path(__file__).with_name("pid")

def read():
    if note.exists():
        return "read"
    note.write_text(str(os.getpid()))
    time.sleep(60)

class Slow:
    def __reduce__(self):
        return read, ()

if __name__ == "__main__":
    for job, result in run_jobs(str, [Slow(), *range(5)], Executor(2)):
        print(result, flush=True)
"""


def test_a_worker_that_dies_while_it_reads_its_job_holds_up_no_other(tmp_path: Path, python: Start) -> None:
    """The others go on meanwhile; a new worker reads the job again."""
    note, script = tmp_path / "pid", tmp_path / "script.py"
    script.write_text(SLOW_TO_READ)
    process = python("import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')", script)
    assert process.stdout is not None
    assert sorted(process.stdout.readline() for _ in range(5)) == [f"{i}\n" for i in range(5)]
    os.kill(noted(note, process), signal.SIGKILL)  # the worker may be the slower one to start
    output, errors = process.communicate(timeout=30)
    assert output == "read\n", errors


def test_what_cannot_be_sent() -> None:
    """An exception of a class that only the worker knows keeps its name; a result must be picklable."""
    odd = "(_ for _ in ()).throw(type('Odd', (Exception,), {})('seven'))"
    jobs = run_jobs(eval, [odd, "lambda: 7", "8"], Executor(1))
    assert repr(next(jobs)[1]) == "RuntimeError('Odd: seven')"
    with pytest.raises((PicklingError, AttributeError), match="lambda"):
        next(jobs)
    with pytest.raises(RuntimeError, match="requires_grad"):
        next(run_jobs(eval, ["__import__('torch').ones(3, requires_grad=True) * 2"], Executor(1)))


INTERRUPTED = """
import os, signal, sys, time
from multiprocessing.process import BaseProcess
from wsnas.executor import Executor, run_jobs

start = BaseProcess.start

def interrupted(process):
    os.killpg(0, signal.SIGINT)
    start(process)
    time.sleep(float(sys.argv[-1]))
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in a shell's background
    os.setpgid(0, 0)
    BaseProcess.start = interrupted
    list(run_jobs(eval, ["1 + 1"] * 9, Executor(2)))
"""


def test_a_stop_while_workers_start_leaves_none(python: Start) -> None:
    """Ctrl-C, to the whole group as in a terminal, before and while a worker starts: one traceback."""
    for process in [python(INTERRUPTED, seconds) for seconds in (0, 1)]:
        output, errors = process.communicate(timeout=60)  # the workers hold its ends, too
        assert errors.splitlines()[-1] == "KeyboardInterrupt", errors
        assert errors.count("Traceback") == 1
        assert output == ""


def test_whoever_stops_asking_stops_the_jobs() -> None:
    """The job naps: a signal that comes just before a long sleep begins does not end it."""
    started = time.monotonic()
    jobs = run_jobs(eval, ["1", "[__import__('time').sleep(0.1) for _ in range(600)]"], Executor(2))
    assert next(jobs) == ("1", 1)
    jobs.close()
    assert time.monotonic() - started < 40


KEPT = """
from wsnas.executor import Executor, run_jobs
if __name__ == "__main__":
    jobs = run_jobs(eval, ["1", "2", "2"], Executor(2))
    print(next(jobs)[1])
"""
BLOCKED = """
import os, signal, sys, threading, time
from wsnas.executor import Executor, run_jobs
wait = f"open({sys.argv[-1]!r}, 'w').write('7'), __import__('time').sleep(60)"

def stop():
    while not os.path.exists(sys.argv[-1]):
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    os.setpgid(0, 0)
    threading.Thread(target=stop, daemon=True).start()
    list(run_jobs(eval, [wait], Executor(1)))
"""


def test_an_end_waits_for_nothing(tmp_path: Path, python: Start) -> None:
    """Of a program that keeps the generator, and, by Ctrl-C, of a job that waits in a system call."""
    started = time.monotonic()
    kept, blocked = python(KEPT), python(BLOCKED, tmp_path / "note")
    assert kept.communicate(timeout=60)[0] == "1\n"
    errors = blocked.communicate(timeout=60)[1]
    assert errors.splitlines()[-1] == "KeyboardInterrupt", errors
    assert errors.count("Traceback") == 1
    assert time.monotonic() - started < 50


FORKING = """
import os, pathlib, time
from wsnas.executor import Executor, run_jobs

note = pathlib.Path(__file__).with_name("pid")

def sleep():
    note.write_text(str(os.getpid()))
    os.closerange(1, 3)
    time.sleep(60)
    os._exit(0)

def dying(job):
    if child := os.fork():
        while not note.exists() or note.read_text() != str(child):
            time.sleep(0.01)
        os._exit(3)
    sleep()

if __name__ == "__main__":
    for job, result in run_jobs(eval, ["1", "2"], Executor(1)):
        if job == "1":
            child = os.fork()  # it has the parent's end of the pipe
            if child == 0:
                sleep()
    os.kill(child, 9)
    print(next(run_jobs(dying, [0], Executor(1, retries=0)))[1], flush=True)
"""


def test_forks_do_not_hide_that_a_worker_is_done_or_dead(tmp_path: Path, python: Start) -> None:
    script, started = tmp_path / "script.py", time.monotonic()
    script.write_text(FORKING)
    process = python("import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')", script)
    assert process.stdout is not None
    said = process.stdout.readline()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert said.startswith("its worker process died (exit code 3)"), process.communicate()
    assert time.monotonic() - started < 50


def test_cores_counts_those_this_process_may_use() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
