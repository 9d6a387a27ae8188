"""A recipe cannot lie: what changes a run's identity changes the run, or is refused; nothing else changes it.

Every field of every installed space's recipe is changed, one at a time, in trainings of a few steps.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch

from wsnas import WsnasError, installed_spaces, load_space, train_architecture, train_supernet
from wsnas.data.images import Images, Splits
from wsnas.data.tokens import Tokens
from wsnas.recipe import RecipeField, change_recipe, recipe_fields, with_changes
from wsnas.runs import Run
from wsnas.supernet import supernet_identity

CPU = torch.device("cpu")
SMALL = {"evaluation_batch": 100, "supernet.batch": 32, "standalone.batch": 32, "calibration_batch": 16}
SMALL |= {"supernet.epochs": 2, "standalone.epochs": 2, "train_size": 80, "calibration_steps": 2, "valid_size": 64}
SMALL |= {"channels": 4, "units": 8, "vocabulary": 60}
OWN: dict[str, dict[str, Any]] = {  # so that every field has something to act on
    "nb101": {"standalone.optimizer": "rmsprop-tf", "standalone.lr": 0.05, "standalone.eps": 1.0},
    "darts_cnn": {"auxiliary_head": True},
    "darts_rnn": {"train_size": 4000, "supernet.batch": 16, "standalone.batch": 16},
}
VALUES: dict[str, Any] = {  # where twice the value will not do
    "batch": 24,
    "eps": 0.1,
    "momentum": 0.5,
    "weight_decay": 0.05,
    "warmup": 0.6,
    "clip": 0.01,
    "average_last": 0.7,
    "label_smoothing": 0.1,
    "crop": 1,
    "cutout": 3,
    "colour_jitter": 0.4,
    "auxiliary": 0.4,
    "drop_path": 0.5,
    "alpha": 0.5,
    "cells": 4,
    "bn_momentum": 0.5,
    "strides": "2211121",
    "dropout": 0.3,
    "dropout_hidden": 0.3,
    "dropout_input": 0.3,
    "dropout_embedding": 0.3,
    "dropout_words": 0.3,
    "slowness": 0.5,
    "vocabulary": 50,
    "bptt": 9,
    "max_macs": 10**12,
    "size": 32,
    "split_file": "split.json",
    "train_size": 60,
    "units": 10,
}
NOT_HERE = {
    "standalone.patience": "gives the same weights while validation improves; tested in darts_rnn",
    "supernet.hue": "needs colour jitter",
    "standalone.hue": "needs colour jitter",
}


def small(space: Any) -> Any:
    recipe = space.recipes["micro"]
    known = recipe_fields(recipe)
    return change_recipe(recipe, **({n: v for n, v in SMALL.items() if n in known} | OWN.get(space.name, {})))


def changes(field: RecipeField, folder: Path) -> list[Any]:
    """Other values of a field; every other kind of optimizer or schedule."""
    if field.kinds:
        return [kind for kind in field.kinds if kind != field.value]
    if field.type is bool:
        return [not field.value]
    if get_origin(field.type) is Literal:
        return [value for value in get_args(field.type) if value != field.value]
    name = field.name.rpartition(".")[2]
    if name == "dataset":
        if field.value in ("digits", "more-digits"):
            return ["faint-digits"]
        words = np.random.default_rng(0).choice(["to", "be", "or", "not", "a", "king"], (3000, 9))
        (folder / "words.txt").write_text("\n".join(map(" ".join, words)))
        return [str(folder / "words.txt")]
    if name == "train_size" and field.value > 1000:
        return [3600]
    return [VALUES[name] if name in VALUES else 2 * field.value]


def loaded(space: Any, recipe: Any) -> Splits:
    """The recipe's data, little of it to score on."""
    found = space.load_data(recipe, CPU)

    def short(part: Any) -> Any:
        if isinstance(part, Images):
            return Images(part.pixels[:400].numpy(), part.labels[:400].numpy(), part.mean, part.std, CPU)
        return Tokens(part.ids[:2000].numpy(), CPU, part.streams)

    return dataclasses.replace(found, valid=short(found.valid), test=short(found.test))


def outcome(space: Any, recipe: Any, which: str) -> tuple[dict[str, Any], tuple[float, ...]] | str:
    """Weights and statistics in the end, and scores; or why the recipe is refused."""
    weights: dict[str, Any] = {}

    def keep(run: Run, state: dict[str, Any]) -> None:  # writing and reading them would take most of the time
        weights.update({n: value.clone() for n, value in state["model"].items() if isinstance(value, torch.Tensor)})

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save_checkpoint", keep)
        try:
            splits = loaded(space, recipe)
            if which == "supernet":
                train_supernet(space, recipe, out=folder, device="cpu", splits=splits)
                scores: tuple[float, ...] = ()
            else:
                arch = space.sample(np.random.default_rng(1))
                done = train_architecture(space, arch, recipe, out=folder, device="cpu", splits=splits)
                scores = (done.valid, done.test, done.half_valid)
        except WsnasError as error:
            return str(error)
    assert weights
    return weights, scores


def same(a: Any, b: Any) -> bool:
    (weights, scores), (others, other_scores) = a, b
    return (
        weights.keys() == others.keys()
        and all(x.shape == others[n].shape and torch.equal(x, others[n]) for n, x in weights.items())
        and scores == pytest.approx(other_scores, rel=1e-5, nan_ok=True)
    )


@pytest.mark.parametrize("which", ["supernet", "standalone"])
@pytest.mark.parametrize("name", installed_spaces())
def test_a_run_changes_where_its_identity_does_and_only_there(name: str, which: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    space = load_space(name)
    recipe = small(space)

    def identity(recipe: Any) -> Any:
        return supernet_identity(space, recipe, 0) if which == "supernet" else recipe.standalone_identity()

    base = outcome(space, recipe, which)
    assert not isinstance(base, str), base
    assert same(outcome(space, recipe, which), base)
    seen, lies = 0, []
    for field in recipe_fields(recipe).values():
        other = "standalone" if which == "supernet" else "supernet"
        if field.name.startswith(other) or field.name in NOT_HERE:
            continue
        for value in changes(field, tmp_path):
            changed = with_changes(recipe, {field.name: value})
            assert changed != recipe
            found = outcome(space, changed, which)
            if isinstance(found, str):  # refused, so that it cannot lie
                assert field.name.rpartition(".")[2] in ("split_file", "size", "skip_corrupt", "colour_jitter"), found
                continue
            seen += 1
            if same(found, base) != (identity(changed) == identity(recipe)):
                lies.append((field.name, value))
    assert not lies
    assert seen > 20


@pytest.mark.parametrize("name", installed_spaces())
def test_the_other_trainings_fields_are_not_in_an_identity(name: str) -> None:
    recipe = load_space(name).recipes["micro"]
    changed = change_recipe(recipe, **{"standalone.epochs": 77})
    assert changed.supernet_identity() == recipe.supernet_identity()
    assert changed.standalone_identity() != recipe.standalone_identity()
    changed = change_recipe(recipe, epochs=77)
    assert changed.standalone_identity() == recipe.standalone_identity()
    assert changed.supernet_identity() != recipe.supernet_identity()
