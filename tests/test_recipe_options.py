"""Command-line options come from the recipes of the chosen spaces."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from wsnas import installed_spaces, load_space
from wsnas.cli import main
from wsnas.errors import WsnasError
from wsnas.recipe import recipe_fields
from wsnas.recipe_options import RecipeCommand, chosen_recipe

STUDIES = Path(__file__).parents[1] / "studies"
SMALL = ("--train-size", "128", "--batch", "64", "--epochs", "1", "--channels", "2", "--device", "cpu")

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)


def wsnas(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "200"})


def help_of(*arguments: str) -> str:
    done = wsnas(*arguments, "--help")
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize("scale", ["micro", "desk", "paper"])
@pytest.mark.parametrize("name", installed_spaces())
def test_help_lists_what_the_recipe_has(name: str, scale: str) -> None:
    """Every field with its default, except those of the other training; and no field of another space."""
    recipe = load_space(name).recipes[scale]
    shown = help_of("train-supernet", name, "--scale", scale)
    every = {one for space in installed_spaces() for one in recipe_fields(load_space(space).recipes[scale])}
    for field in every:
        option = f" --{field.removeprefix('supernet.').replace('_', '-')} "
        assert (option in shown) == (field in recipe_fields(recipe) and not field.startswith("standalone.")), field
    lr = recipe.supernet.optimizer.lr
    assert f"[default: {lr:g}]" in shown
    alone = help_of("train", name, "--scale", scale)
    assert f"[default: {recipe.standalone.optimizer.lr:g}]" in alone
    assert " --valid-size " not in alone


def test_without_a_space_help_says_where_to_look() -> None:
    assert "wsnas train-supernet SPACE --help" in help_of("train-supernet").replace("main", "wsnas")


def test_both_spellings_reach_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--supernet.flip", "--crop=1", "--schedule", "cosine-per-step", "--no-nesterov", "--train-size", "96")
    done = wsnas("train-supernet", *SMALL, "nb201", *options, "--valid-size", "none", "--out", "net")
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "net/run.json").read_text())["recipe"]
    assert stored["supernet"]["inputs"] == {"flip": True, "crop": 1, "cutout": 0, "last_batch": "drop"}
    assert stored["supernet"]["schedule"] == {"kind": "cosine-per-step"}
    assert stored["supernet"]["optimizer"]["nesterov"] is False
    assert (stored["train_size"], stored["valid_size"]) == (96, None)  # the last one counts; none is a value
    assert stored["standalone"]["inputs"]["flip"] is False


def test_the_paths_of_a_recipe_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run can be scored from another folder."""
    monkeypatch.chdir(tmp_path)
    Path("set.npz").touch()
    recipe = chosen_recipe(load_space("nb201"), "micro", {"dataset": "set.npz", "split_file": "split.json"})
    assert (recipe.dataset, recipe.split_file) == (str(tmp_path / "set.npz"), str(tmp_path / "split.json"))


def test_a_split_file_of_the_test_images_leaves_the_number_of_training_images_open() -> None:
    """As of CIFAR-100, by NAS-Bench-201; elsewhere it says which images train."""
    space, both = load_space("nb201"), {"split_file": "/split.json", "train_size": 500}
    for dataset in ("CIFAR-100", "imagenet16-120"):
        recipe = chosen_recipe(space, "micro", {**both, "dataset": dataset})
        assert (recipe.split_file, recipe.train_size) == ("/split.json", 500)
    for other in ({"dataset": "cifar10"}, {}):
        with pytest.raises(WsnasError, match="leave out --train-size or --split-file"):
            chosen_recipe(space, "micro", {**both, **other})


def test_another_optimizer_has_other_options() -> None:
    assert "--eps " not in help_of("train-supernet", "nb201")
    shown = help_of("train-supernet", "nb201", "--supernet.optimizer=rmsprop-tf")
    assert "--eps " in shown
    assert "--nesterov " not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train-supernet", "nb201", "--vocabulary", "9"), "--vocabulary"),
        (("train-supernet", "nb201", "--standalone.epochs", "9"), "--standalone.epochs"),
        (("train-supernet", "nb201", "--warmup", "0.1", "--schedule", "fixed"), "--warmup"),
        (("train", "nb201", "x", "--valid-size", "9"), "--valid-size"),
        (("train-supernet", "nb201", "--last-batch", "keep"), "--last-batch"),
        (("train-supernet", "nb201", "--momentum", "0"), "Nesterov"),
        (("train-supernet", "nb999", "--epochs", "9"), "nb999"),
        (("train-supernet", "nb201", "--patience", "3"), "of nb201; --help lists them"),  # not the argument SPACE
    ],
)
def test_a_field_the_recipe_lacks_is_refused_in_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    done = wsnas(*arguments)
    assert done.exit_code == 2
    assert len(done.output.strip().splitlines()) == 1, done.output
    assert words in done.output


@pytest.mark.parametrize("option", ["--folder", "--out", "--dataset", "--split-file", "--device"])
def test_a_value_that_spells_a_space_is_not_the_space(option: str) -> None:
    shown = help_of("train-supernet", option, "nb201", "proxyless")
    assert " --width " in shown
    assert " --channels " not in shown


def test_one_of_some_words_is_a_choice() -> None:
    assert "--last-batch [drop|keep|carry]" in help_of("train", "nb201")
    done = wsnas("train", "nb201", "x", "--last-batch", "lose")
    assert done.exit_code == 2
    assert "drop" in done.output


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_a_value_out_of_range_is_refused(value: str) -> None:
    done = wsnas("train-supernet", "nb201", "--epochs", value)
    assert done.exit_code == 2
    assert "--epochs" in done.output


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    if not STUDIES.exists() or len(installed_spaces()) < 2:
        pytest.skip("needs the studies and two spaces")
    monkeypatch.setattr(sys, "argv", ["epochs.py"])
    command: Any = runpy.run_path(str(STUDIES / "epochs.py"))["main"]
    return lambda *arguments: CliRunner().invoke(command, arguments, env={"COLUMNS": "200"})


def test_a_study_takes_what_all_of_its_spaces_have(study: Callable[..., Result]) -> None:
    one, two = (study("--space", "nb201", *more, "--help").output for more in ((), ("--space", "proxyless")))
    assert " --channels " in one
    assert " --channels " not in two
    assert " --epochs " in two
    refused = study("--space", "nb201", "--space", "proxyless", "--channels", "2")
    assert refused.exit_code == 2
    assert refused.output.strip() == (
        "Error: --channels: the recipe of proxyless has no such field; choose spaces with --space"
    )


def test_studies_have_three_scales(study: Callable[..., Result]) -> None:
    refused = study("--space", "proxyless", "--scale", "published")
    assert refused.exit_code == 2
    assert "'published' is not one of 'micro', 'desk', 'paper'" in refused.output


def test_no_field_takes_an_option_of_the_command() -> None:
    """A recipe's field never takes the name of a command's own option."""
    for command in main.commands.values():
        if isinstance(command, RecipeCommand):
            for name in installed_spaces():
                ctx = click.Context(command, resilient_parsing=True)
                command.parse_args(ctx, [name])
                options = [opt for one in command.get_params(ctx) for opt in (*one.opts, *one.secondary_opts)]
                assert len(options) == len(set(options)), command.name
