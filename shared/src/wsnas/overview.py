"""What the run directories in a folder are, and how far they have come."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsnas.errors import WsnasError
from wsnas.runs import Run


@dataclass(frozen=True)
class Overview:
    """One run directory or study. ``command``: what started it; the same command continues it."""

    path: Path
    what: str  # e.g. "nb201 supernet, seed 0"
    progress: str  # e.g. "epoch 12 of 20"
    finished: bool
    megabytes: float
    command: str


def overview(folder: Path) -> list[Overview]:
    """All run directories and study results below ``folder``, by path. Raises WsnasError if there is no such folder."""
    if not folder.is_dir():
        raise WsnasError(f"there is no folder {folder}; name one that holds run directories")
    runs = [_of_run(file.parent) for file in folder.rglob("run.json")]
    studies = [_of_study(file) for file in folder.rglob("results.json")]
    return sorted([*runs, *(one for one in studies if one is not None)], key=lambda one: one.path)


def _megabytes(path: Path) -> float:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


def _of_run(path: Path) -> Overview:
    try:
        run = Run.read(path)
        command = str(run.started()["command"])
        what = f"{run.identity['space']} {run.identity['kind']}"
        what += f", seed {run.identity['seed']}" if "seed" in run.identity else ""
        progress, finished = _progress(run)
    except (WsnasError, KeyError, TypeError) as error:
        return Overview(path, "damaged run", str(error), False, _megabytes(path), "")
    return Overview(path, what, progress, finished, _megabytes(path), command)


def _progress(run: Run) -> tuple[str, bool]:
    """How far a run is, in words, and whether it has all that it was to do."""
    if run.identity["kind"] == "ground truth":
        trainings, wanted = run.records("training"), run.records("architecture")
        published = (run.path / "table.parquet").exists()
        said = f"{len(trainings)} trainings of {len(wanted)} architectures"
        return said + ("" if published else ", not published"), published
    training: Any = run.recipe["supernet" if run.identity["kind"] == "supernet" else "standalone"]
    last = run.metrics()[-1:]
    done, epochs = last[0]["epoch"] if last else 0, training["epochs"]
    scored = sum(len(run.records(kind)) for kind in run.kinds() if kind.startswith("evaluation "))
    return f"epoch {done} of {epochs}" + (f", {scored} submodels scored" if scored else ""), done == epochs


def _of_study(file: Path) -> Overview | None:
    try:
        described = json.loads(file.read_text())
        what, verdicts = f"study {described['study']}", len(described["verdicts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # another program's results
    return Overview(file.parent, what, f"{verdicts} verdicts", True, _megabytes(file.parent), described["command"])
