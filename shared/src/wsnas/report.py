"""One static page of everything that studies left: figures, claims, verdicts, provenance. No network, no scripts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from wsnas.errors import WsnasError
from wsnas.files import atomic_write

ORDER = ("spaces", "epochs", "density", "consistency", "operators", "capacity", "benchmark", "tricks", "convergence")
MARKS = {"holds": ("holds", "✓"), "does not hold": ("not", "✗"), "inconclusive": ("open", "?")}  # class, sign


def study_folders(folders: Sequence[Path]) -> list[Path]:
    """Those of the folders, or right below them, that hold a study's results."""
    found = [
        folder for each in folders for folder in (each, *sorted(each.glob("*"))) if (folder / "results.json").exists()
    ]
    if not found:
        where = ", ".join(map(str, folders))
        raise WsnasError(f"there are no study results in {where}: run one first, e.g. nox -s study_capacity")
    return list(dict.fromkeys(found))


def read_study(folder: Path) -> dict[str, Any]:
    """What one study wrote, ready for the page. Raises WsnasError where it is not all there."""
    try:
        found: dict[str, Any] = json.loads((folder / "results.json").read_text())
        name, settings = found["study"], found["settings"]
        figure = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        data = {space: Path(of["dataset"]).stem for space, of in settings.items() if isinstance(of, dict)}
        return {
            "name": name,
            "title": found.get("title") or name,
            "source": found.get("source", ""),
            "command": found.get("command", f"nox -s study_{name}"),
            "folder": folder,
            "figure": figure,
            "data": data,  # by space: what its networks were trained on
            "about": ", ".join(dict.fromkeys(data.values())) or "counted, not trained",
            "verdicts": found["verdicts"],
            "settings": json.dumps(settings, indent=1),
            "environment": json.dumps(found["environment"], indent=1),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WsnasError(
            f"{folder} does not hold a finished study ({type(error).__name__}: {error}); run it again"
        ) from error


def claims_table(studies: Sequence[dict[str, Any]]) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Columns (space, data) and rows, a claim each, with ``cells`` [columns] of verdicts or None."""
    columns: dict[tuple[str, str], None] = {}
    often = Counter((study["name"], *pair) for study in studies for pair in study["data"].items())
    for study in studies:  # two results of one study on one data set are told apart by their folders
        for space, data in study["data"].items():
            if often[study["name"], space, data] > 1:
                study["data"] = {**study["data"], space: f"{data}, {study['folder'].name}"}
        columns |= dict.fromkeys(study["data"].items())
    rows: dict[str, dict[str, Any]] = {}
    for study in studies:
        for verdict in study["verdicts"]:
            space = verdict["space"]
            of_space = next((column for column in columns if column[0] == space), (space, ""))
            column = (space, study["data"][space]) if space in study["data"] else of_space  # counts need no data
            columns.setdefault(column)
            row = rows.setdefault(verdict["claim"], {**verdict, "study": study["name"], "of": {}})
            row["of"][column] = verdict
    order = list(columns)
    return order, [{**row, "cells": [row["of"].get(column) for column in order]} for row in rows.values()]


def write_report(folders: Sequence[Path], out: Path, explorer: Path | None = None) -> list[str]:
    """Writes the page of every study in ``study_folders(folders)`` and returns the studies' names.

    One section a study, with every result of it: at the micro scale, on real data. ``explorer``: the page beside it
    to link to (``wsnas.explorer``).
    """
    studies = [read_study(folder) for folder in study_folders(folders)]
    studies.sort(key=lambda study: ORDER.index(study["name"]) if study["name"] in ORDER else len(ORDER))
    sections: dict[str, list[dict[str, Any]]] = {}
    for study in studies:
        sections.setdefault(study["name"], []).append(study)
    columns, claims = claims_table(studies)
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(
        files("wsnas").joinpath("report.html").read_text()
    )
    page = template.render(
        sections=sections, columns=columns, claims=claims, marks=MARKS, explorer=explorer and explorer.name
    )
    atomic_write(out, page.encode())
    return list(sections)
