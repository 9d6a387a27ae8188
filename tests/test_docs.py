"""What the documentation shows is run."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import wsnas
from wsnas.cli import main
from wsnas.executor import Executor
from wsnas.ground_truth import train_many
from wsnas.paths import name_of
from wsnas.recipe import change_recipe
from wsnas.sampling import sample_distinct
from wsnas.supernet import inherit

EXAMPLES = Path(__file__).parents[1] / "docs/examples"

if not EXAMPLES.exists():
    pytest.skip("not a checkout", allow_module_level=True)


@pytest.fixture
def depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example space, made known as a package makes its own known."""
    info = tmp_path / "site/depth_space-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: depth-space\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[wsnas.spaces]\ndepth = depth_space:SPACE\n")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield wsnas.load_space("depth")
    for name in ("depth_space", "rarest_paths"):
        sys.modules.pop(name, None)


def test_a_space_and_a_sampler_of_ones_own(depth: Any, tmp_path: Path) -> None:
    """Trained, evaluated and correlated like any other space; its submodels are its networks."""
    from rarest_paths import rarest_of_four

    assert "depth" in wsnas.installed_spaces()
    recipe = change_recipe(depth.recipes["micro"], epochs=1, train_size=640, valid_size=200)
    supernet = wsnas.train_supernet(depth, recipe, paths=rarest_of_four, out=tmp_path / "run")
    assert supernet.run.identity["paths"] == name_of(rarest_of_four)
    archs = sample_distinct(depth, 6, np.random.default_rng(0))
    scores = wsnas.evaluate(supernet, archs)
    truth = train_many(depth, archs, tmp_path / "truth", recipe, seeds=(0,), executor=Executor(workers=0))
    assert wsnas.correlate(scores, truth).n == 6
    x, _ = next(supernet.splits.valid.ordered(8))
    network = inherit(supernet.model, depth.network(archs[0], recipe)).eval()
    np.testing.assert_allclose(
        network(x).detach().numpy(), supernet.model.eval()(x, archs[0]).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert depth.parameters(archs[0], recipe) == sum(p.numel() for p in network.parameters())
    assert depth.training_key(depth.decode("conv3-skip-conv1-skip-skip-skip")) == "conv3-conv1"


def test_the_verdicts_are_those_of_the_results() -> None:
    """The committed table is what the script makes from the committed results."""
    results = EXAMPLES.parents[0] / "results"
    script = runpy.run_path(str(results / "verdicts.py"))
    page = script["verdicts"]()
    assert (results / "verdicts.md").read_text() == page, "results changed: python docs/results/verdicts.py"
    assert page.count("holds") > 10
    pages = sorted((EXAMPLES.parents[0] / "studies").glob("*.md"))
    assert {path.stem for path in pages} == {path.stem for path in (EXAMPLES.parents[1] / "studies").glob("*.py")}
    for path in pages:
        assert path.read_text() == script["with_verdicts"](path.read_text(), path.stem), "as above"


def test_what_the_documentation_looks_up_is_there() -> None:
    """Every ``wsnas table query`` on a page finds its architecture in the shipped tables."""
    pages = [EXAMPLES.parents[1] / "README.md", *EXAMPLES.parents[0].glob("*.md")]
    found = [line for page in pages for line in re.findall(r"^wsnas (table query .*)$", page.read_text(), re.MULTILINE)]
    assert found
    for line in found:
        result = CliRunner().invoke(main, shlex.split(line, comments=True))
        assert result.exit_code == 0, result.output
        assert "digits" in result.output


@pytest.mark.parametrize("name", ["depth_space.py", "rarest_paths.py"])
def test_examples_are_short(name: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) < 80
