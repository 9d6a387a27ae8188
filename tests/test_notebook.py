"""The notebook of the documentation: it was executed, and its code runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import wsnas
from wsnas.recipe import change_recipe

NOTEBOOK = Path(__file__).parents[1] / "docs/notebook.ipynb"

if not NOTEBOOK.exists() or "nb201" not in wsnas.installed_spaces():
    pytest.skip("needs a checkout and the space nb201", allow_module_level=True)

CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_it_was_executed_from_top_to_bottom() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("Supernet of nb201" in "".join(output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert NOTEBOOK.stat().st_size < 300_000


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, with a smaller recipe and sample."""
    pytest.importorskip("plotly")
    torch.set_num_threads(1)
    space: Any = wsnas.load_space("nb201")
    small = change_recipe(space.recipes["micro"], epochs=1, channels=2, train_size=640, valid_size=200)
    monkeypatch.setitem(space.recipes, "micro", small)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in CELLS:
        exec("".join(cell["source"]).replace("sample(200)", "sample(12)"), names)
    assert len(names["scores"]) == 12
    assert names["other"].run.identity["paths"].startswith("busier_of_two ")
    assert list(names["points"].text) == names["names"]
    assert sum(count for _, count, *_ in names["means"]) == 12 * 6  # six edges
