"""What every study does: options, supernets trained once and shared, verdicts, and the files it leaves.

A study writes ``results.json`` (every number with its interval, and the verdicts), a tidy CSV and its
figure as PNG and SVG into one directory, and says where.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
import numpy as np

from wsnas.cli import executor_options, recipe_options
from wsnas.devices import choose_device
from wsnas.errors import WsnasError
from wsnas.evaluation import evaluate
from wsnas.executor import Executor, run_jobs
from wsnas.files import atomic_write
from wsnas.ground_truth import splits_once
from wsnas.runs import environment
from wsnas.space import Recipe, digest, installed_spaces, load_space
from wsnas.supernet import supernet_identity, train_supernet
from wsnas.training import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

F = TypeVar("F", bound=Callable[..., Any])
Holds = Literal["holds", "does not hold", "inconclusive"]


def study_options(command: F) -> F:
    """The options every study takes, the recipe's included."""
    options = (
        click.option(
            "--space", "spaces", multiple=True, help="Search space; repeatable. Default: every installed one."
        ),
        click.option("--seeds", type=click.IntRange(1), help="Supernets a setting. Default: 3."),
        click.option("--table", type=click.Path(), help="Ground truth, in place of the shipped or imported table."),
        click.option("--resume/--fresh", default=True, show_default=True, help="Use what earlier runs left, or not."),
        click.option("--out", type=click.Path(path_type=Path), help="Default: runs/study-NAME-SCALE."),
    )
    command = recipe_options(executor_options(command))
    for option in reversed(options):
        command = option(command)
    return command


def chosen_spaces(names: Sequence[str]) -> list[Any]:
    """The named spaces, or all installed ones. Raises WsnasError where there are none."""
    found = names or installed_spaces()
    if not found:
        raise WsnasError("no search space is installed; install one, e.g. pip install ./packages/nb201")
    return [load_space(name) for name in found]


@dataclass(frozen=True)
class SupernetJob:
    """Train one supernet and score some of its submodels; found again by its content."""

    space: str
    recipe: Recipe
    seed: int
    within: tuple[str, ...] | None  # encoded architectures of the sub-space; None: the whole space
    evaluate: tuple[str, ...]  # encoded architectures to score
    runs: str  # the folder that holds content-addressed runs
    resume: bool = True


def supernet_scores(job: SupernetJob) -> dict[str, float]:
    """Validation accuracy in percent of each architecture of the job; trains the supernet where needed."""
    space = load_space(job.space)
    within = None if job.within is None else [space.decode(arch) for arch in job.within]
    identity = supernet_identity(space, job.recipe, job.seed, within=within)
    out = Path(job.runs) / f"{job.space}-{digest(identity)}"
    if not job.resume and out.exists():
        shutil.rmtree(out)
    splits = splits_once(job.space, job.recipe, choose_device())
    supernet = train_supernet(space, job.recipe, seed=job.seed, within=within, out=out, splits=splits)
    return evaluate(supernet, job.evaluate)


def all_scores(jobs: Sequence[SupernetJob], executor: Executor, report: Report) -> list[dict[str, float]]:
    """The scores of every job, in the jobs' order. A job that fails raises once the others are done."""
    results: dict[int, dict[str, float]] = {}
    position = {id(job): i for i, job in enumerate(jobs)}
    failed: list[BaseException] = []
    for job, result in run_jobs(supernet_scores, jobs, executor):
        if isinstance(result, BaseException):
            failed.append(result)
        else:
            results[position[id(job)]] = result
        report(len(results) + len(failed), len(jobs), "supernets")
    if failed:
        known = isinstance(failed[0], WsnasError)
        raise WsnasError(
            f"{len(failed)} of {len(jobs)} supernets failed, the others are kept; the first said: "
            f"{failed[0] if known else repr(failed[0])}"
        ) from failed[0]
    return [results[i] for i in range(len(jobs))]


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, what was measured, and what a rule written beforehand says of it."""

    claim: str
    source: str  # where the paper says so
    space: str
    rule: str
    measured: str
    verdict: Holds


def sign_verdict(low: float, high: float) -> Holds:
    """For a claim "this number is above zero": by the interval [low, high]."""
    return "holds" if low > 0 else "does not hold" if high < 0 else "inconclusive"


def plain(value: Any) -> Any:
    """Numbers, strings and containers that JSON can hold; NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_results(
    out: Path,
    study: str,
    *,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    results: Mapping[str, Any],
    figure: Figure,
) -> None:
    """Writes results.json, STUDY.csv, STUDY.png and STUDY.svg into ``out`` and says so."""
    described = {
        "study": study,
        "settings": settings,
        "environment": environment(),
        "results": results,
        "verdicts": verdicts,
    }
    atomic_write(out / "results.json", (json.dumps(plain(described), indent=1) + "\n").encode())
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(out / f"{study}.csv", text.getvalue().encode())
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        atomic_write(out / f"{study}.{kind}", buffer.getvalue())
    for verdict in verdicts:
        click.echo(f"{verdict.space}: {verdict.claim}: {verdict.verdict} ({verdict.measured})")
    click.echo(f"{out / 'results.json'}, {study}.csv, {study}.png, {study}.svg")
