"""The benchmarks run, and what they time side by side is the same computation."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from wsnas import installed_spaces

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


@pytest.mark.skipif("darts_rnn" not in installed_spaces(), reason="needs the space darts_rnn")
def test_rnn_step_compares_equal_networks() -> None:
    """With copied weights the reference's formulation and ours give the same logits."""
    command = runpy.run_path(str(BENCHMARKS / "rnn_step.py"))["main"]
    result = CliRunner().invoke(command, ["--scale", "micro", "--steps", "2"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)["micro"]
    assert report["largest_output_difference_before_training"] < 1e-5
    assert all(report[f"ours {kind} / reference"]["of totals"] > 0 for kind in ("fp32", "bf16"))
