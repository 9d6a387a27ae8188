"""What the run directories in a folder are, and how far they have come."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsnas.errors import WsnasError
from wsnas.files import read_file
from wsnas.runs import Run
from wsnas.table import Table
from wsnas.words import counted


@dataclass(frozen=True)
class Overview:
    """One run directory or study. ``command``: what started it, or extended it last; the same command continues it."""

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
    found: list[Overview | None] = []

    def unlisted(error: OSError) -> None:
        found.append(Overview(Path(error.filename), "unreadable folder", str(error.strerror), False, 0, ""))

    for where, _, files in os.walk(folder, onerror=unlisted):
        found += [_of_run(Path(where))] if "run.json" in files else []
        found += [_of_study(Path(where))] if "results.json" in files else []
    return sorted((one for one in found if one is not None), key=lambda one: one.path)


def _megabytes(path: Path) -> float:
    size = 0
    for where, _, files in os.walk(path):
        for file in files:
            with suppress(OSError):  # a link to nothing, or a folder without permission
                size += os.path.getsize(os.path.join(where, file))
    return size / 1e6


def _of_run(path: Path) -> Overview:
    try:
        run = Run.read(path)
        command = str(_request(run).get("command") or run.started()["command"])
        what = f"{run.identity['space']} {run.identity['kind']}"
        what += f", seed {run.identity['seed']}" if "seed" in run.identity else ""
        progress, finished = _progress(run)
    except (WsnasError, KeyError, TypeError, ValueError) as error:
        return Overview(path, "damaged run", str(error), False, _megabytes(path), "")
    return Overview(path, what, progress, finished, _megabytes(path), command)


def _request(run: Run) -> dict[str, Any]:
    """What a run of ground truth was asked for last: its trainings, and (not in older runs) the command."""
    return run.records("request").get("latest", {})


def _progress(run: Run) -> tuple[str, bool]:
    """How far a run is, in words, and whether it has all that it was to do."""
    if run.identity["kind"] == "ground truth":
        trainings, wanted = run.records("training"), run.records("architecture")
        said = f"{counted(len(trainings), 'training')} of {counted(len(wanted), 'architecture')}"
        missing = len(set(_request(run).get("trainings", [])) - trainings.keys())
        if missing:
            return f"{said}, {missing} missing", False
        if not (run.path / "table.parquet").exists():
            return f"{said}, not published", False
        table = Table.load(run.path / "table.parquet")
        statuses = dict(Counter(str(row["status"]) for row in trainings.values()))
        counts = (part.split(" ", 1) for part in table.about["status"].split(", "))
        published = {status: int(count) for count, status in counts if status != "missing"}
        whole = len(table) == len(wanted) and published == statuses
        return said + ("" if whole else ", not all published"), whole
    if run.identity["kind"] == "zero-cost score":  # of how many, it does not say
        return f"{counted(len(run.records('proxy')), 'architecture')} scored", True
    done, epochs = run.epochs()
    scored = sum(len(run.records(kind)) for kind in run.kinds() if kind.startswith("evaluation "))
    return f"epoch {done} of {epochs}" + (f", {counted(scored, 'submodel')} scored" if scored else ""), done == epochs


def _of_study(path: Path) -> Overview | None:
    try:
        described = json.loads(read_file(path / "results.json", 1 << 28))
        what, verdicts = f"study {described['study']}", len(described["verdicts"])
        command = str(described["command"])
    except (WsnasError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # another program's results
    return Overview(path, what, counted(verdicts, "verdict"), True, _megabytes(path), command)
