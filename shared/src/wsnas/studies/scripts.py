"""``wsnas study NAME``: the studies as commands. A checkout has the scripts in ``studies/``, a wheel a copy of them."""

from __future__ import annotations

import ast
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from wsnas.errors import WsnasError
from wsnas.options import Group


def folder() -> Path:
    """Where the scripts are."""
    packaged = Path(__file__).with_name("packaged")
    return packaged if packaged.is_dir() else Path(__file__).parents[4] / "studies"


def question(script: Path) -> str:
    """The first paragraph of the script's docstring, without running it."""
    described = ast.get_docstring(ast.parse(script.read_text())) or ""
    return " ".join(described.split("\n\n")[0].split())


class Studies(Group):
    """The studies as subcommands; each is imported when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(path.stem for path in folder().glob("*.py"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        script = folder() / f"{name}.py"
        if name not in self.list_commands(ctx):
            return None
        spec = spec_from_file_location(f"wsnas_study_{name}", script)
        if spec is None or spec.loader is None:
            raise WsnasError(f"cannot read the study {script}")
        module = module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        command: Any = module.main
        return command if isinstance(command, click.Command) else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and their questions, without importing any; the options of one need its script."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        listed = [CompletionItem(name, help=question(folder() / f"{name}.py")) for name in names]
        return [*listed, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Studies"):
            formatter.write_dl([(name, question(folder() / f"{name}.py")) for name in self.list_commands(ctx)])
