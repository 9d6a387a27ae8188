"""The benchmarks run, and what they time side by side is the same computation."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.skipif(not (BENCHMARKS / "supernet_step.py").exists(), reason="not a checkout")
def test_supernet_step_compares_equal_networks() -> None:
    """With copied weights the textbook's supernet and ours give the same logits, before either is timed."""
    command = runpy.run_path(str(BENCHMARKS / "supernet_step.py"))["main"]
    sizes = ["--channels", "2", "--cells", "1", "--batch", "16", "--steps", "2", "--block", "1"]
    result = CliRunner().invoke(command, sizes, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["largest_output_difference_before_training"] < 1e-4
    assert all(report[f"textbook / ours {kind}"]["of totals"] > 0 for kind in ("fp32", "bf16"))


@pytest.mark.skipif(not (BENCHMARKS / "loaders.py").exists(), reason="not a checkout")
def test_loaders_see_the_same_pixels() -> None:
    """Mean and deviation of what both loaders give, in memory and from files: within what chance crops differ by."""
    command = runpy.run_path(str(BENCHMARKS / "loaders.py"))["main"]
    sizes = ["--batch", "16", "--epochs", "1", "--count", "96", "--size", "32"]
    result = CliRunner().invoke(command, sizes, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    for kind, tolerance in (("in memory", 0.05), ("folder", 0.2)):
        seen = report[kind]["mean_and_deviation_of_pixels"]
        assert seen["ours"] == pytest.approx(seen["torchvision"], abs=tolerance)
        assert report[kind]["images_an_epoch"] == 96
        assert report[kind]["ours / torchvision"]["median"] > 0
