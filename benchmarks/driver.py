"""What the driver of many jobs costs: time a job, and whether its memory grows. The jobs only sleep.

    python benchmarks/driver.py --jobs 100000 --ray local    # needs wsnas[ray]
    python benchmarks/driver.py --jobs 20000 --workers 2

Each result is committed as one row of a run's records, as a training's is. A paper-scale training takes minutes to
hours, so the driver keeps up with (seconds a training) / (seconds a job) workers.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import click

from wsnas.environment import environment
from wsnas.executor import Executor, run_jobs
from wsnas.runs import Run

ROW = {"arch": "a" * 80, "valid": 91.2, "test": 90.9, "half_valid": 88.1, "seconds": 1234.5, "curve": [1.0] * 200}


def nap(job: tuple[int, float]) -> int:
    number, seconds = job
    time.sleep(seconds)
    return number


def megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@click.command()
@click.option("--jobs", type=click.IntRange(10), default=10_000, show_default=True)
@click.option("--sleep", type=click.FloatRange(0), default=0.001, show_default=True, help="Seconds a job sleeps.")
@click.option("--workers", type=click.IntRange(1), help="Local processes.")
@click.option("--ray", help="A Ray cluster: its address, auto, or local.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the figures.")
def main(jobs: int, sleep: float, workers: int | None, ray: str | None, out: Path | None) -> None:
    """Run many jobs that sleep, and print the driver's time and memory along the way."""
    marks = {round(jobs * part / 10) for part in range(1, 11)}
    table: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(Path(folder) / "run", {"kind": "driver"}, {})
        started = cpu = 0.0
        numbers = [(number, sleep) for number in range(jobs)]
        with run.writing():  # as a run of trainings does
            for done, (job, result) in enumerate(run_jobs(nap, numbers, Executor(workers, ray)), start=1):
                if isinstance(result, BaseException):
                    raise result
                if done == 1:  # the workers have started
                    started, cpu = time.perf_counter(), time.process_time()
                run.record("training", str(job[0]), ROW)
                if done in marks:
                    each = 1e3 / max(1, done - 1)
                    line = {
                        "jobs": done,
                        "ms a job": round(each * (time.perf_counter() - started), 3),
                        "ms of the driver's processor a job": round(each * (time.process_time() - cpu), 3),
                        "MB": round(megabytes(), 1),
                    }
                    table.append(line)
                    click.echo("  ".join(f"{name} {value:,}" for name, value in line.items()))
        assert len(run.records("training")) == jobs
        size = (Path(folder) / "run" / "records.sqlite").stat().st_size / 1e6
    click.echo(f"records: {size:.0f} MB")
    if out is not None:
        found = {
            "jobs": jobs,
            "sleep": sleep,
            "workers": workers,
            "ray": ray,
            "records MB": round(size, 1),
            "rows": table,
        }
        out.write_text(json.dumps({**found, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
