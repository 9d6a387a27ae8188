"""Shared by ``wsnas`` and the studies: one-sentence errors and common options."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from wsnas.errors import SHORT, WsnasError, short_of_memory, warnings_as_sentences
from wsnas.progress import is_leader
from wsnas.stopping import require_signals, stopped_by_signals
from wsnas.words import did_you_mean

if TYPE_CHECKING:
    from wsnas.space import SearchSpace


F = TypeVar("F", bound=Callable[..., Any])


class HomePath(click.Path):
    """A path whose ``~`` is the home folder also where the shell leaves it, as in ``--out=~/runs``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("it is empty, which would be this folder; for that, write .", param, ctx)
        try:
            os.fsencode(value).decode()
        except UnicodeDecodeError:
            self.fail(f"{os.fsencode(value)!r} is no UTF-8: use another name", param, ctx)
        return super().convert(os.path.expanduser(value), param, ctx)


def was_given(name: str) -> bool:
    """Whether an option of the command that runs is on the command line."""
    return click.get_current_context().get_parameter_source(name) == ParameterSource.COMMANDLINE


class Refused(click.ClickException):
    exit_code = 2


class Stopped(click.ClickException):
    exit_code = 130

    def show(self, file: Any = None) -> None:
        if is_leader():
            click.echo(self.message, err=True)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turns a WsnasError, or a lack of memory, into one sentence and exit code 2, and Ctrl-C (or Slurm's signals) into
    exit code 130.
    """
    try:
        require_signals()
        with stopped_by_signals(), warnings_as_sentences():
            yield
    except WsnasError as error:
        raise Refused(str(error)) from error
    except KeyboardInterrupt as error:
        context = click.get_current_context(silent=True)
        fresh = context is not None and context.params.get("resume") is False  # would start over again
        again = "the same command without --fresh" if fresh else "the same command again"
        raise Stopped(f"stopped; finished work is saved: run {again} to resume") from error
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        raise Refused(SHORT) from error
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough: click ends quietly
        raise
    except OSError as error:  # a file that is not there, too long a name, a folder without permission
        where = f"{error.filename}: " if error.filename is not None else ""
        raise Refused(f"{where}{error.strerror or error}") from error


class Command(click.Command):
    """A command whose errors are one clear sentence, also used by the studies."""

    def invoke(self, ctx: click.Context) -> Any:
        with one_sentence():
            return super().invoke(ctx)


class Group(click.Group):
    """A group whose help shows each command's whole first sentence."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in (known := self.list_commands(ctx)) and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{args[0]}'{did_you_mean(args[0], known)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(200)) for name, one in commands if one is not None])


def complete_spaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell: the installed spaces."""
    from wsnas.space import installed_spaces

    return [name for name in installed_spaces() if name.startswith(incomplete)]


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
    click.option("--ray", help="Run on a Ray cluster: its address, auto, or local."),
    click.option("--gpus-a-job", "gpus", type=Number(0), help="GPUs per job on Ray; 0.25: four share one."),
    click.option(
        "--slurm",
        metavar="'NAME=VALUE NAME=VALUE'",
        help="Run as Slurm's jobs, with submitit's parameters, e.g. 'slurm_partition=gpu gpus_per_node=1 "
        "timeout_min=240'.",
    ),
    click.option("--timeout", type=Number(0, min_open=True), help="Time limit per job, in seconds."),
)


def _parameters(text: str | None) -> dict[str, str | int] | None:
    """Submitit's parameters from "name=value name=value"."""
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split()]
    if not pairs or not all(name and value for name, _, value in pairs):
        raise WsnasError(f"--slurm takes submitit's parameters as 'name=value name=value', not '{text}'")
    return {name: int(value) if value.isdecimal() else value for name, _, value in pairs}


def executor_options(command: F, *, default: str = "one per GPU or CPU core; 0: this one") -> F:
    """Adds the options that choose where jobs run; the command gets them as one ``executor``.

    ``default``: what ``--help`` says of a command without ``--workers``.
    """

    @functools.wraps(command)
    def with_executor(
        *args: Any,
        workers: int | None,
        ray: str | None,
        gpus: float | None,
        slurm: str | None,
        timeout: float | None,
        **kwargs: Any,
    ) -> Any:
        from wsnas.executor import Executor

        if sum(where is not None for where in (ray, workers, slurm)) > 1:
            raise WsnasError(
                "--workers starts processes on this machine, --ray and --slurm on a cluster: give only one of them"
            )
        if gpus is not None and ray is None:
            raise WsnasError("--gpus-a-job needs --ray; on one machine use --workers (several can share a GPU)")
        return command(*args, executor=Executor(workers, ray, gpus, timeout, slurm=_parameters(slurm)), **kwargs)

    wrapped: Any = with_executor
    processes = click.option("--workers", type=click.IntRange(0), help=f"Processes; default: {default}.")
    for option in reversed((processes, *EXECUTOR_OPTIONS)):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]
