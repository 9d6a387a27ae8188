"""One static page of single architectures: supernet score, ground truth, and a drawing of the cell.

It shows the results.json of the study ``operators`` and computes nothing itself. plotly's JavaScript is copied into
the page, which therefore works offline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from wsnas.errors import WsnasError
from wsnas.files import atomic_write, read_file
from wsnas.studies.report import strength, study_folders


def read_panels(folder: Path) -> list[dict[str, Any]]:
    """The study's results, one per space; empty if ``folder`` holds another study."""
    try:
        stored = json.loads(read_file(folder / "results.json", 1 << 28))
        if stored.get("study") != "operators":
            return []
        settings = stored["settings"]
        return [
            {
                "name": name,
                "folder": folder.name,
                "scale": settings["scale"],
                "seeds": settings["seeds"],
                "epochs": settings[name]["supernet"]["epochs"],
                "truth": settings[name]["truth"],
                "truth_epochs": settings[name].get("truth_epochs"),
                **{part: space[part] for part in ("metric", "choices", "architectures")},
            }
            for name, space in stored["results"].items()
        ]
    except Exception as error:  # whatever stands in the file may be of another form
        raise WsnasError(
            f"{folder} holds no architectures of the study operators ({type(error).__name__}: {error}); run it again "
            "(it reuses its trained supernets)"
        ) from error


def write_explorer(folders: Sequence[Path], out: Path, report: str) -> Path | None:
    """Writes the page for all results of ``operators`` in ``study_folders(folders)``; returns None if there are none.

    ``report``: the report page to link to. Raises WsnasError without plotly, an optional dependency.
    """
    panels = [panel for folder in study_folders(folders) for panel in read_panels(folder)]
    if not panels:
        return None
    panels.sort(key=lambda panel: (strength(panel["scale"]), -len(panel["architectures"])))  # what says most first
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise WsnasError("it needs plotly: pip install plotly") from None
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # decisions keep their order
    template = environment.from_string(files("wsnas.studies").joinpath("explorer.html").read_text())
    atomic_write(out, template.render(panels=panels, report=report, plotly=get_plotlyjs()).encode())
    return out
