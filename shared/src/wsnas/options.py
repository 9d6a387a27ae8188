"""Shared by ``wsnas`` and the studies: one-sentence errors, progress, and common options."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wsnas.errors import WsnasError
from wsnas.stopping import stopped_by_signals

if TYPE_CHECKING:
    from wsnas.space import SearchSpace
    from wsnas.training import Report


F = TypeVar("F", bound=Callable[..., Any])


class HomePath(click.Path):
    """A path whose ``~`` is the home folder also where the shell leaves it, as in ``--out=~/runs``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


class Refused(click.ClickException):
    exit_code = 2


class Stopped(click.ClickException):
    exit_code = 130

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turns a WsnasError into one sentence and exit code 2, and Ctrl-C (or Slurm's signals) into exit code 130."""
    try:
        with stopped_by_signals():
            yield
    except WsnasError as error:
        raise Refused(str(error)) from error
    except KeyboardInterrupt as error:
        raise Stopped("stopped; finished work is saved: run the same command again to resume") from error
    except OSError as error:  # a file that is not there, too long a name, a folder without permission
        where = f"{error.filename}: " if error.filename is not None else ""
        raise Refused(f"{where}{error.strerror or error}") from error


class Command(click.Command):
    """A command whose errors are one clear sentence, also used by the studies."""

    def invoke(self, ctx: click.Context) -> Any:
        with one_sentence():
            return super().invoke(ctx)


class Group(click.Group):
    command_class = Command


def is_leader() -> bool:
    """Whether this process prints: under torchrun only rank 0 does. A RANK without other processes means nothing."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Yields a function ``(done, total, note)`` that updates a progress bar; silent if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    quiet = not console.is_terminal or not is_leader()
    with Progress(*columns, console=console, disable=quiet) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, note: bar.update(task, completed=done, total=total, description=note)


def measured(space: SearchSpace[Any], value: float) -> str:
    """A score as text, e.g. ``93.51 %`` or ``perplexity 55.68``."""
    return f"{value:.2f} %" if space.metric == "accuracy" else f"{space.metric} {value:.2f}"


class Number(click.FloatRange):
    """A range of numbers, which NaN and infinity are not in: every comparison with NaN is false."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


EXECUTOR_OPTIONS = (
    click.option("--workers", type=click.IntRange(0), help="Processes; default: one per GPU or CPU core; 0: this one."),
    click.option("--ray", help="Run on a Ray cluster: its address, auto, or local. Needs wsnas[ray]."),
    click.option("--gpus-a-job", "gpus", type=Number(0), help="GPUs per job on Ray; 0.25: four share one."),
    click.option("--timeout", type=Number(0, min_open=True), help="Time limit per job, in seconds."),
)


def executor_options(command: F) -> F:
    """Adds the options that choose where jobs run; the command gets them as one ``executor``."""

    @functools.wraps(command)
    def with_executor(
        *args: Any, workers: int | None, ray: str | None, gpus: float | None, timeout: float | None, **kwargs: Any
    ) -> Any:
        from wsnas.executor import Executor

        if ray is not None and workers is not None:
            raise WsnasError("--workers starts processes on this machine, --ray on a cluster: give only one of them")
        if gpus is not None and ray is None:
            raise WsnasError("--gpus-a-job needs --ray; on one machine use --workers (several can share a GPU)")
        return command(*args, executor=Executor(workers, ray, gpus, timeout), **kwargs)

    wrapped: Any = with_executor
    for option in reversed(EXECUTOR_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]
