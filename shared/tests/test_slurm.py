"""Jobs through submitit's local executor, which runs what Slurm would."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from wsnas.errors import WsnasError
from wsnas.executor import Executor, run_jobs

pytest.importorskip("submitit", reason="needs the extra wsnas[slurm]")


def test_slurms_jobs_have_the_results_and_failures_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = ["1 + 1", "1 / 0", "__import__('os').getpid()", "__import__('os')._exit(3)"]
    found = dict(run_jobs(eval, jobs, Executor(slurm={"cluster": "local", "timeout_min": 5}, retries=0)))
    assert found["1 + 1"] == 2
    assert isinstance(found["1 / 0"], ZeroDivisionError)
    assert found[jobs[2]] != os.getpid()
    assert "ended without a result" in str(found[jobs[3]])


ENDS = {  # and how often the job is tried: submitit itself would give up after three signals
    "Slurm's signal": ("(__import__('signal').raise_signal(12), __import__('time').sleep(60))", 5),  # SIGUSR2
    "a training that stops and saves": ("(_ for _ in ()).throw(KeyboardInterrupt)", 3),
}


@pytest.mark.skipif(sys.platform != "linux", reason="Slurm's")
@pytest.mark.parametrize(("end", "tries"), ENDS.values(), ids=ENDS)
def test_a_slurm_job_whose_time_runs_out_is_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, tries: int
) -> None:
    """However often: a training that is stopped and saved uses up none of the retries for lost workers."""
    monkeypatch.chdir(tmp_path)
    job = (
        f"[p := __import__('pathlib').Path({str(tmp_path / 'tries')!r}), p.open('a').write('x'),"
        f" len(p.read_text()) == {tries} or {end}, 7][-1]"
    )
    executor = Executor(slurm={"cluster": "local", "timeout_min": 5}, retries=0)
    assert list(run_jobs(eval, [job], executor)) == [(job, 7)]
    assert (tmp_path / "tries").read_text() == tries * "x"


def test_parameters_that_submitit_does_not_know_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WsnasError, match="submitit cannot use these parameters"):
        list(run_jobs(eval, ["1"], Executor(slurm={"cluster": "local", "no_such_parameter": 1})))
