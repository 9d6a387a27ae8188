"""The supernet recipes of the paper's scale against Table 2, as printed."""

from __future__ import annotations

from typing import Any

import pytest

from wsnas import installed_spaces, load_space
from wsnas.recipe import recipe_fields

COSINE = "cosine-per-epoch"
TABLE_2 = {  # batch, learning rate, schedule, weight decay, clip, epochs; calibration: batch, steps
    "nb101": (256, 0.1, COSINE, 1e-4, 5.0, 1000, 400, 25),
    "nb201": (256, 0.05, COSINE, 5e-4, 5.0, 1000, 400, 25),
    "darts_cnn": (448, 0.1, COSINE, 3e-4, 5.0, 1000, 200, 100),
    "proxyless": (1024, 0.2, COSINE, 5e-4, 0.0, 1000, 400, 25),
    "darts_rnn": (256, 40.0, "fixed", 8e-7, 0.1, 1000, 0, 0),  # 8 * 10^7 in print, which can only be 8e-7
}
MOMENTUM = {"darts_rnn": 0.0}  # 0.9 elsewhere: not in the table, our choice; DARTS's recurrent code has none


@pytest.mark.parametrize("name", installed_spaces())
def test_supernet_recipe_is_table_2(name: str) -> None:
    recipe: Any = load_space(name).recipes["paper"]
    found = {field: one.value for field, one in recipe_fields(recipe.supernet).items()}
    printed = [found[field] for field in ("batch", "lr", "schedule", "weight_decay", "clip", "epochs")]
    assert (*printed, recipe.calibration_batch, recipe.calibration_steps) == TABLE_2[name]
    assert found["optimizer"] == "sgd"
    assert found["momentum"] == MOMENTUM.get(name, 0.9)
