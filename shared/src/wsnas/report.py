"""One static page of everything that studies left: figures, claims, verdicts, provenance. No network, no scripts."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from wsnas.errors import WsnasError
from wsnas.files import atomic_write

ORDER = ("spaces", "epochs", "density", "consistency", "operators", "capacity", "benchmark", "tricks", "convergence")
MARKS = {"holds": "holds", "does not hold": "not", "inconclusive": "open"}


def read_study(folder: Path) -> dict[str, Any]:
    """What one study wrote, ready for the page. Raises WsnasError where it is not all there."""
    try:
        found: dict[str, Any] = json.loads((folder / "results.json").read_text())
        name = found["study"]
        figure = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        verdicts = found["verdicts"]
        return {
            "name": name,
            "title": found.get("title") or name,
            "source": found.get("source", ""),
            "command": found.get("command", f"nox -s study_{name}"),
            "folder": folder.name,
            "figure": figure,
            "verdicts": verdicts,
            "rules": list({verdict["claim"]: verdict for verdict in verdicts}.values()),
            "settings": json.dumps(found["settings"], indent=1),
            "environment": json.dumps(found["environment"], indent=1),
            "scale": found["settings"].get("scale", ""),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WsnasError(
            f"{folder} does not hold a finished study ({type(error).__name__}: {error}); run it again"
        ) from error


def write_report(runs: Path, out: Path, explorer: Path | None = None) -> list[str]:
    """Writes the page of every study below ``runs`` (folders with a results.json) and returns the studies' names.

    ``explorer``: the page beside it to link to (``wsnas.explorer``).
    """
    studies = [read_study(path.parent) for path in sorted(runs.glob("*/results.json"))]
    if not studies:
        raise WsnasError(f"there are no study results in {runs}: run one first, e.g. nox -s study_capacity")
    studies.sort(
        key=lambda study: (ORDER.index(study["name"]) if study["name"] in ORDER else len(ORDER), study["folder"])
    )
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(
        files("wsnas").joinpath("report.html").read_text()
    )
    scales = ", ".join(sorted({study["scale"] for study in studies if study["scale"]}))
    page = template.render(studies=studies, scale=scales, marks=MARKS, explorer=explorer and explorer.name)
    atomic_write(out, page.encode())
    return [study["name"] for study in studies]
