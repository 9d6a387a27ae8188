"""The options of studies."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from wsnas.errors import WsnasError
from wsnas.executor import Executor
from wsnas.files import read_file
from wsnas.options import HomePath, complete_spaces, executor_options
from wsnas.recipe_options import RecipeCommand, data_set_option

F = TypeVar("F", bound=Callable[..., Any])
SCALES = ("micro", "desk", "paper")


class StudyCommand(RecipeCommand):
    """The command of a study, at ``SCALES`` only; supernets ignore a network's limit of multiply-adds."""

    def __init__(self, *args: Any, without: tuple[str, ...] = ("max_macs",), **kwargs: Any) -> None:
        super().__init__(*args, without=without, scales=SCALES, **kwargs)


@dataclass(frozen=True)
class StudyOptions:
    """A study's command-line options."""

    study: str
    scale: str
    spaces: tuple[str, ...]  # none: every installed one
    seeds: tuple[int, ...]  # of the supernets (or trainings) of each setting
    architectures: int | None  # to score or train; None: the study's default for the scale
    table: str | None
    truth: str | None  # data set of the ground truth; None: the supernet's
    resume: bool
    executor: Executor
    out: Path
    recipe: Mapping[str, Any]  # changes on top of the scale's
    svg: bool = False  # also write figures as SVG

    @property
    def supernets(self) -> str:
        """The folder of runs shared by the studies, next to their results; absolute, for workers elsewhere."""
        return str((self.out.parent / "supernets").resolve())

    @property
    def about(self) -> str:
        """The recipe as named in a figure: the scale, and whether options changed it."""
        return f"{self.scale.capitalize()} {'recipe, changed by options' if self.recipe else 'scale'}"


space_option = click.option(
    "--space",
    "spaces",
    multiple=True,
    shell_complete=complete_spaces,
    help="Search space; repeatable. Default: all installed.",
)
svg_option = click.option("--svg", is_flag=True, help="Write figures as SVG, too.")
TRUTH_OPTIONS = (
    click.option("--table", type=HomePath(), help="Ground truth to use instead of the shipped or imported table."),
    data_set_option("--truth", help="Data set of the ground truth. Default: the supernet's."),
)


def study_options(study: str, truth: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options of a study that trains; the StudyCommand gets them as its argument ``options``.

    ``truth``: whether the study compares with a ground truth, which ``--table`` and ``--truth`` choose.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_options(
            spaces: tuple[str, ...],
            scale: str,
            seeds: int | None,
            architectures: int | None,
            resume: bool,
            executor: Executor,
            out: Path | None,
            svg: bool,
            recipe: dict[str, Any],
            table: str | None = None,
            truth: str | None = None,
            **mine: Any,
        ) -> Any:
            where = out or Path("runs") / f"study-{study}-{scale}"
            require_own_results(where, study)
            number = tuple(range(seeds or (5 if scale == "desk" else 3)))
            options = StudyOptions(
                study, scale, spaces, number, architectures, table, truth, resume, executor, where, recipe, svg
            )
            return command(options, **mine)

        return _with_options(with_options, truth)

    return decorate


def require_own_results(out: Path, study: str) -> None:
    """Raises WsnasError if the folder has the results of another study (or of ``rank``), which these would replace."""
    try:
        other = json.loads(read_file(out / "results.json", 1 << 28)).get("study", "rank")
    except (OSError, ValueError, AttributeError, RecursionError):
        return  # none that could be read
    if other != study:
        raise WsnasError(f"{out} has results of {other}, which those of {study} would replace: give another --out")


def _with_options(command: F, truth: bool) -> F:
    options = (
        space_option,
        click.option(
            "--seeds",
            type=click.IntRange(1),
            help="Supernets per setting (standalone: trainings per architecture). Default: 3, desk 5.",
        ),
        click.option("--architectures", type=click.IntRange(4), help="Architectures scored, or trained, per space."),
        *(TRUTH_OPTIONS if truth else ()),
        click.option("--resume/--fresh", default=True, show_default=True, help="Reuse earlier runs, or start over."),
        click.option("--out", type=HomePath(path_type=Path), help="Default: runs/study-NAME-SCALE."),
        svg_option,
    )
    command = executor_options(command)
    for option in reversed(options):
        command = option(command)
    return command
