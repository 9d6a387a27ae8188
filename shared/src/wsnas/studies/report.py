"""One static page of everything that studies left: figures, claims, verdicts, provenance. No network, no scripts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from wsnas.errors import WsnasError
from wsnas.files import atomic_write

ORDER = ("spaces", "epochs", "density", "consistency", "operators", "capacity", "standalone", "tricks", "convergence")
OTHER = "other"  # results of single commands, which belong to no study
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
    """What one study wrote, ready for the page. Raises WsnasError where it is not all there.

    Results that no study wrote (they have no ``study``) are shown, too: their figures and numbers as they are.
    """
    try:
        found: dict[str, Any] = json.loads((folder / "results.json").read_text())
        name, settings = found.get("study"), found.get("settings", {})
        if name is None:
            settings, pictures = {}, sorted(folder.glob("*.png"))
        else:
            pictures = [folder / f"{name}.png", *sorted(folder.glob(f"{name}-*.png"))]
        data = {space: Path(of["dataset"]).stem for space, of in settings.items() if isinstance(of, dict)}
        by_data: dict[str, list[str]] = {}
        for space, of in data.items():
            by_data.setdefault(of, []).append(space)
        return {
            "name": name or OTHER,
            "title": found.get("title") or name or folder.name,
            "source": found.get("source", ""),
            "command": found.get("command"),  # nothing is made up where it was not recorded
            "folder": folder,
            "pictures": [picture(path) for path in pictures],
            "data": data,  # by space: what its networks were trained on
            "about": "; ".join(f"{', '.join(spaces)} on {of}" for of, spaces in by_data.items())
            or "counted, not trained",
            "trainings": trainings(found) if name else [],
            "tables": tricks_tables(found["results"]) if name == "tricks" else [],
            "verdicts": found["verdicts"] if name else [],
            "settings": json.dumps(found["settings"] if name else found, indent=1),
            "environment": json.dumps(found["environment"], indent=1) if name else "",
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WsnasError(
            f"{folder} does not hold a finished study ({type(error).__name__}: {error}); run it again"
        ) from error


def picture(path: Path) -> dict[str, Any]:
    """A PNG for the page, with its width in pixels."""
    data = path.read_bytes()
    return {"name": path.stem, "data": base64.b64encode(data).decode(), "width": int.from_bytes(data[16:20], "big")}


def trainings(found: dict[str, Any]) -> list[str]:
    """A line a space: what was trained or scored, and what failed, as far as the results say."""
    lines = []
    for space, of in found["settings"].items():
        if not isinstance(of, dict):
            continue
        result = found.get("results", {}).get(space)
        said = []
        if isinstance(result, dict) and "status" in result:  # the study trained them itself
            said += [f"trainings: {with_failed(result['status'])}"]
            said += [f"architectures without a result: {result.get('without_result', 'not recorded')}"]
        if "without_ground_truth" in of:
            if of.get("truth_trainings"):
                said.append(f"trainings of the ground truth: {with_failed(of['truth_trainings'])}")
            said.append(f"architectures without ground truth: {of['without_ground_truth']}")
            broken = [count for count in named(result, "not_finite") if isinstance(count, int)]
            if broken:
                said.append(f"scores that are not finite: {sum(broken)}")
        if said:
            lines.append(f"{space}: {'; '.join(said)}.")
    return lines


def with_failed(status: str) -> str:
    """A table's counts ("24 ok, 1 crash"), which say nothing of failures where there are none."""
    return status if not status.endswith(" ok") or "," in status else f"{status}, 0 failed"


def named(value: Any, name: str) -> Iterator[Any]:
    """Everything of that name within results."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from [item] if key == name else named(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from named(item, name)


def tricks_tables(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The paper's Table 3, one a space: the baseline first; numbers as the page shows them."""
    tables = []
    for space, of in results.items():
        sign = -1.0 if of.get("metric") == "perplexity" else 1.0
        seen = {True: "yes", False: "no", None: "–"}
        rows = []
        for row in of["rows"]:
            based = "difference" not in row
            rows.append(
                {
                    "label": row["label"],
                    "corr_baseline": "–" if row["corr_baseline"] is None else f"{row['corr_baseline']:.3f}",
                    "corr_truth": f"{row['corr_truth']:.3f}",
                    "difference": ""
                    if based
                    else f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]",
                    "beyond": "" if based else seen[None if of["seed_noise"] is None else row["beyond_seeds"]],
                    "top": f"{sign * row['top10']:.2f}",
                    "top_difference": "" if based else f"{sign * row['top_difference']:+.2f}",
                    "top_beyond": ""
                    if based
                    else seen[None if of["seed_noise"] is None else row.get("top_beyond_seeds")],
                }
            )
        tables.append({"space": space, "unit": "perplexity" if sign < 0 else "%", "rows": rows})
    return tables


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

    One section a study, with every result of it: at the micro scale, on real data; last what no study wrote.
    ``explorer``: the page beside it to link to (``wsnas.studies.explorer``).
    """
    studies = [read_study(folder) for folder in study_folders(folders)]
    studies.sort(
        key=lambda study: (
            ORDER.index(study["name"]) if study["name"] in ORDER else len(ORDER) + (study["name"] == OTHER)
        )
    )
    sections: dict[str, list[dict[str, Any]]] = {}
    for study in studies:
        sections.setdefault(study["name"], []).append(study)
    for results in sections.values():
        often = Counter(study["about"] for study in results)
        for study in results:  # two of one study, space and data set are told apart by their folders
            study["heading"] = study["about"] + (f" ({study['folder'].name})" if often[study["about"]] > 1 else "")
    columns, claims = claims_table(studies)
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(
        files("wsnas.studies").joinpath("report.html").read_text()
    )
    page = template.render(
        sections=sections, other=OTHER, columns=columns, claims=claims, marks=MARKS, explorer=explorer and explorer.name
    )
    atomic_write(out, page.encode())
    return [name for name in sections if name != OTHER]
