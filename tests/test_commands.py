"""Every command that README, CONTRIBUTING and docs show exists, and runs at a small size or is listed with why not."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch

import wsnas
from wsnas.cli import main
from wsnas.recipe import change_recipe

ROOT = Path(__file__).resolve().parents[1]

if not (ROOT / "docs").exists():
    pytest.skip("not a checkout", allow_module_level=True)

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Why a command is not run here, by what it matches; the first reason counts. Its names and options are checked.
NOT_RUN = {
    "installs, which is done by hand from a fresh clone before a release": r"(git clone|cd|python3|\.|pip|uv) .*",
    "a session makes its own environment; of these tests.yml runs tests, oldest, lint, types and release": r"nox .*",
    "names a folder of data sets": r"export .*",
    "test_studies.py unpacks them": r"(mkdir -p|tar -xJf docs/results/desk/).*",
    "test_cli.py asks for the completions": r"eval .*",
    "part of nox -s tests": r"pytest .*",
    "needs a Ray cluster, which shared/tests/test_ray.py starts": r".* --ray .*",
    "shared/tests/test_cluster.py and darts_rnn's test_ranks.py train with torchrun": r"torchrun .*",
    "hours; test_paper_recipes.py takes its steps": r".* --scale (paper|published|desk)\b.*|"
    r"wsnas (evaluate|correlate) .* --table '?runs/trained/.*",
    "CIFAR-10 and tables that cannot be shipped; tests make files of their form": r".*\b(cifar10(-jpeg)?|nb101\.npz|"
    r"darts_cnn\.json|NAS-Bench-201-v1_1-096897\.pth|nasbench_only108\.tfrecord|FILE)\b.*",
    "text and images that cannot be shipped; the spaces' tests make their own": r".* --dataset (ptb|tiny-imagenet) .*|"
    r"wsnas evaluate runs/proxyless .*",
    "minutes to hours; test_studies.py runs every study small": r"python studies/.*",
    "minutes to hours; test_benchmarks.py and test_scripts.py run each small": r"python benchmarks/.*",
    "test_scripts.py and test_docs.py run these scripts": r"python docs/results/.*",
    "test_docs.py trains the example space": r"wsnas .* depth .*",
    "shows the studies before it, of the paper's scale": r"wsnas report( runs/trained)?",
}

SIZES = {
    "nb201": {"channels": "2", "train-size": "640", "valid-size": "100"},
    "nb101": {"channels": "4", "train-size": "256", "valid-size": "100"},
    "darts_cnn": {"channels": "2", "cells": "3", "train-size": "320", "valid-size": "100"},
    "proxyless": {"width": "0.125", "train-size": "128", "valid-size": "100"},
    "darts_rnn": {"units": "8", "train-size": "4000", "valid-size": "2000"},
}
STUDY = ("--space", "nb201", "--architectures", "12", "--seeds", "2", "--workers", "0", "--epochs", "2")


def shown() -> Iterator[tuple[str, str, bool]]:
    """(page, command, whole): of a shell block, its variables filled in, or within a sentence, maybe not whole."""
    for page in PAGES:
        name, text = str(page.relative_to(ROOT)), page.read_text()
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            block = re.sub(r"\\\n\s*", " ", block)
            values = dict(re.findall(r"^(\w+)=\"([^\"]*)\"", block, re.MULTILINE))
            block = re.sub(r"^\w+=\"[^\"]*\"", "", block, flags=re.MULTILINE)
            for line in block.splitlines():
                values |= {name: words.split()[0] for name, words in re.findall(r"for (\w+) in ([^;]+);", line)}
                for variable in sorted(values, key=len, reverse=True):
                    line = re.sub(rf"\$\{{?{variable}\b\}}?", " ".join(values[variable].split()), line)
                yield from ((name, command, True) for command in simple_commands(line))
        for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
            if re.match(r"(wsnas|python|nox|torchrun|pip|uv|pytest|eval) [^.]", span) and "..." not in span:
                yield name, shlex.join(shlex.split(span)), False


def simple_commands(line: str) -> Iterator[str]:
    """Those in a line of shell, without its keywords and assignments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("&|;"):
            if words and words[0] not in ("for", "done"):
                yield shlex.join(words)
            words = []
        elif words or not (word in ("do", "exec") or re.fullmatch(r"\w+=.*", word)):
            words.append(word)


COMMANDS = list(dict.fromkeys(shown()))


def reason(command: str) -> str | None:
    """Why a command is not run; None if it is."""
    return next((why for why, pattern in NOT_RUN.items() if re.fullmatch(pattern, command)), None)


def script_command(path: str) -> Any:
    found = runpy.run_path(str(ROOT / path)).get("main")
    return found if isinstance(found, click.Command) else None


def parsed(command: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Has the parser read a command of ``wsnas``, a script or nox; False if it lacks an argument, as in a sentence.

    Words in capitals stand for names: NAME is a study, SPACE nb201, X.Y.Z and one letter a number. No file need exist.
    """
    words = [
        {"SPACE": "nb201", "NAME": "capacity", "N": "1", "S": "1"}.get(word, word) for word in shlex.split(command)
    ]
    words = [word.replace("study_NAME", "study_capacity") for word in words]
    if words[0] == "torchrun":
        if "-m" not in words:
            return False
        words = words[words.index("-m") + 1 :]
    if words[0] == "nox":
        sessions = (ROOT / "noxfile.py").read_text()
        for name in words[2 : words.index("--") if "--" in words else None]:
            study = name.removeprefix("study_")
            assert f"def {name.split('(')[0]}(" in sessions or (ROOT / f"studies/{study}.py").exists(), command
        if "--" not in words or not words[2].startswith("study_"):
            return True
        words = ["python", f"studies/{words[2].removeprefix('study_')}.py", *words[words.index("--") + 1 :]]
    if words[0] == "python":
        assert (ROOT / words[1]).exists(), command
        monkeypatch.syspath_prepend((ROOT / words[1]).parent)  # where a script finds its neighbours
        found, words = script_command(words[1]), words[2:]
        if found is None:  # plain arguments
            return True
    else:
        found, words = main, words[1:]
        while isinstance(found, click.Group) and words and words[0] in found.list_commands(click.Context(found)):
            found, words = found.get_command(click.Context(found), words[0]), words[1:]
        if isinstance(found, click.Group):
            assert not words, f"there is no such command: {command}"
            return False
    assert found is not None
    for parameter in found.params:
        if isinstance(parameter.type, click.Path):
            monkeypatch.setattr(parameter.type, "exists", False)
    if "--help" not in words:
        try:
            found.make_context("command", words)
        except click.MissingParameter:
            return False
        except click.BadOptionUsage as error:  # --best, of which a sentence speaks
            return "requires an argument" not in str(error)
    return True


@pytest.mark.parametrize(("page", "command", "whole"), COMMANDS, ids=lambda value: str(value)[:60])
def test_a_shown_command_exists(page: str, command: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, arguments and options exist."""
    if command.split()[0] not in ("wsnas", "python", "nox", "torchrun") or " depth " in command:
        assert reason(command) is not None, f"{page}: say why it is not run: {command}"
    else:
        assert parsed(command, monkeypatch) or not whole, command


def test_commands_are_found_and_reasons_used() -> None:
    assert len(COMMANDS) > 100
    assert {*map(reason, (command for _, command, _ in COMMANDS))} == {*NOT_RUN, None}


# running them --------------------------------------------------------------------------------------------------


def small(words: list[str]) -> list[str]:
    """A command with few epochs, images, channels and architectures: of 1,000 as many as that number has digits."""

    def counts(option: str, number: int | None = None) -> None:
        for i, word in enumerate(words[:-1]):
            if word == option:
                words[i + 1] = str(number or len(words[i + 1]))

    if words[1] == "study":
        factors = ("--factor", "1", "--factor", "2") if words[2] == "capacity" else ()
        sizes = [word for name, value in SIZES["nb201"].items() for word in (f"--{name}", value)]
        return [*words, *STUDY, *sizes, *factors]
    if words[1] in ("train-supernet", "train", "ground-truth", "score"):
        without = "" if words[1] == "train-supernet" else "valid-size"
        sizes = {name: value for name, value in SIZES[words[2]].items() if name != without}
        words += [word for name, value in sizes.items() for word in (f"--{name}", value)]
        if words[1] != "score" and "--epochs" not in words:
            words += ["--epochs", "1"]
    if words[1] == "ground-truth":
        if "--workers" not in words:
            words += ["--workers", "0"]
        if "--no-latency" not in words:
            words.append("--no-latency")
        counts("--sample", 8 if "--shard" in words else None)
        counts("--best")
    if words[1] in ("evaluate", "score"):
        counts("--sample", 20)
    return words


RUN = list(dict.fromkeys(page for page, command, _ in COMMANDS if command.startswith("wsnas ") and not reason(command)))


@pytest.mark.parametrize("page", RUN)
def test_a_pages_commands_run(forks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    """From top to bottom in one folder, where the results that are committed lie, too."""
    shutil.copytree(ROOT / "docs/results", tmp_path / "docs/results")
    ran = 0
    for command in [command for where, command, _ in COMMANDS if where == page]:
        if command.split()[0] != "wsnas" or reason(command) or not parsed(command, monkeypatch):
            continue
        words = shlex.split(command)
        if {"SPACE", "NAME", "N", "RUN"} & {*words}:
            continue
        if not {*words} & {*SIZES} <= {*wsnas.installed_spaces()}:
            pytest.skip(f"needs the space of: {command}")
        words = [name for word in words for name in (sorted(map(str, tmp_path.glob(word))) if "*" in word else [word])]
        done = forks.wsnas(*small(words)[1:], cwd=tmp_path)
        assert done.code == 0, f"{command}\n{done.err}"
        assert done.out.strip(), command
        ran += 1
    assert ran or page.startswith("docs/")
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        monkeypatch.chdir(tmp_path)
        if "runs/first" in block:  # the run that is there is not of the micro recipe
            shutil.rmtree("runs/first")
        torch.set_num_threads(1)
        space: Any = wsnas.load_space("nb201")
        sizes = {name.replace("-", "_"): int(value) for name, value in SIZES["nb201"].items()}
        monkeypatch.setitem(space.recipes, "micro", change_recipe(space.recipes["micro"], epochs=1, **sizes))
        exec(block.replace("sample(200)", "sample(12)"), {"wsnas": wsnas})
