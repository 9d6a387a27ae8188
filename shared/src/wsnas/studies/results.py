"""A study's output files: results.json (every number with its interval, and the verdicts), a tidy CSV, and figures."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import matplotlib.pyplot as plt
import numpy as np

from wsnas.environment import command_line, commit, environment
from wsnas.errors import WsnasError
from wsnas.files import atomic_write
from wsnas.studies.figures import STYLE, ask_below, say_at_the_top, spread_labels
from wsnas.studies.options import StudyOptions
from wsnas.studies.sample import SpaceSample
from wsnas.studies.verdicts import Answer, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def to_jsonable(value: Any) -> Any:
    """Converts to numbers, strings and containers that JSON supports; NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_jsonable(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def desk_rows(script: Path, options: StudyOptions, samples: Sequence[SpaceSample]) -> dict[str, list[dict[str, float]]]:
    """By space, the committed desk results of the study ``script``, which a figure at the micro scale shows faintly.

    Only of the same data and the same ground truth. Empty at other scales, with options that change the recipe or the
    table, and without a checkout.
    """
    found: dict[str, list[dict[str, float]]] = {}
    if options.scale == "micro" and not options.recipe and options.table is None:
        own = {sample.name: _compared(sample.settings()) for sample in samples}
        for path in sorted(script.parents[1].glob(f"docs/results/desk/*{script.stem}/results.json")):
            stored = json.loads(path.read_text())
            for space, rows in stored["results"].items():
                if own.get(space) == _compared(stored["settings"][space]):
                    found[space] = rows
    return found


def _compared(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two results must share to be drawn as one curve."""
    return tuple(settings[name] for name in ("dataset", "truth", "truth_epochs"))


def settings_of(options: StudyOptions, samples: Sequence[SpaceSample], **more: Any) -> dict[str, Any]:
    """The study's settings in ``results.json``."""
    return {"scale": options.scale, "seeds": len(options.seeds), **more, **{s.name: s.settings() for s in samples}}


def write_results(
    study: str,
    out: Path,
    *,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    results: Mapping[str, Any],
    figure: Figure,
    title: str,
    answer: Answer,
    source: str,
    svg: bool,
    more: Mapping[str, Figure] | None = None,
) -> None:
    """Writes results.json, STUDY.csv and STUDY.png to ``out`` and prints their names.

    ``title``: the study's question, with which captions begin and whose ``answer`` by the verdicts stands above the
    figure. ``svg``: also writes STUDY.svg. ``more``: further figures, saved as STUDY-NAME.png and shown in the report.
    """
    said = answer.sentence(title, verdicts)
    say_at_the_top(figure, said)
    described = {
        "study": study,
        "title": title,
        "answer": said,
        "source": source,
        "command": f"python studies/{command_line()}" if Path(sys.argv[0]).name == f"{study}.py" else command_line(),
        "settings": settings,
        "environment": {**environment(), "commit": commit()},
        "results": results,
        "verdicts": verdicts,
    }
    figures = {study: figure, **{f"{study}-{name}": other for name, other in (more or {}).items()}}
    for each in figures.values():
        ask_below(each, title)
    written = write_files(out, study, described, rows, figures, svg)
    for verdict in verdicts:
        click.echo(f"{verdict.space}: {verdict.claim}: {verdict.verdict} ({verdict.measured})")
    click.echo(said)
    click.echo(", ".join([f"{out / 'results.json'}, {study}.csv", *written]))


def write_files(
    out: Path,
    name: str,
    described: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Figure],
    svg: bool = False,
) -> list[str]:
    """Writes ``described`` to results.json, ``rows`` to NAME.csv, and each figure as PNG, in ``out``.

    ``svg``: as SVG, too. Returns the figures' file names.
    """
    atomic_write(out / "results.json", (json.dumps(to_jsonable(described), indent=1) + "\n").encode())
    write_csv(out / f"{name}.csv", rows)
    written = [(title, kind) for title in figures for kind in ("png", *(["svg"] if svg else []))]
    for title, kind in written:
        save_figure(figures[title], out / f"{title}.{kind}")
    return [f"{title}.{kind}" for title, kind in written]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode())


def save_figure(figure: Figure, file: Path) -> None:
    """Writes a .png, .svg or .pdf file, the same bytes for the same figure. Raises WsnasError for another ending."""
    kind = file.suffix.lower().removeprefix(".")
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if kind not in metadata:
        raise WsnasError(f"cannot draw {file}: its name must end in .png, .svg or .pdf")
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):  # of an SVG's letters and names
        spread_labels(figure)
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata[kind])
    atomic_write(file, buffer.getvalue())
