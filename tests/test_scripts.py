"""The scripts in docs/ are run."""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import wsnas
from wsnas.evaluation import latest_scores
from wsnas.recipe import change_recipe
from wsnas.runs import Run

ROOT = Path(__file__).resolve().parents[1]

if not (ROOT / "docs").exists():
    pytest.skip("not a checkout", allow_module_level=True)


def test_every_script_is_run_by_a_test() -> None:
    """A new script must be named in a test; studies and benchmarks have their own tests."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
    scripts = list((ROOT / "docs").rglob("*.py"))
    assert len(scripts) >= 5
    for script in scripts:
        assert script.name in tests or f"import {script.stem}" in tests or f"{script.stem}:" in tests, script


def test_rank(forks: Any, tmp_path: Path) -> None:
    """``wsnas rank`` against scipy, and the files it writes."""
    if "nb201" not in wsnas.installed_spaces():
        pytest.skip("needs the space nb201")
    small = (
        "--channels",
        "2",
        "--train-size",
        "640",
        "--valid-size",
        "2000",
        "--epochs",
        "2",
        "--calibration-steps",
        "1",
    )
    assert forks.wsnas("train-supernet", "nb201", *small, "--out", "run", cwd=tmp_path).code == 0
    assert forks.wsnas("evaluate", "run", "--sample", "20", cwd=tmp_path).code == 0
    done = forks.wsnas("rank", "run", "--scale", "micro", cwd=tmp_path)
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "run/rank/results.json").read_text())["results"]
    space, scores = wsnas.load_space("nb201"), latest_scores(Run.read(tmp_path / "run"))
    truth = wsnas.load_ground_truth(space).select(scores)
    test = truth.mean("digits", "test")
    counts = [space.parameters(space.decode(arch), space.recipes["micro"]) for arch in scores]
    assert results["architectures"] == len(scores) == 20
    expected = stats.spearmanr(list(scores.values()), test).statistic
    assert results["spearman"]["value"] == pytest.approx(expected)
    assert results["parameter_count_spearman"]["value"] == pytest.approx(stats.spearmanr(counts, test).statistic)
    low, high = results["supernet_minus_parameter_count"]
    assert low < expected - results["parameter_count_spearman"]["value"] < high
    assert results["top_10"] in [pytest.approx(value) for value in test]
    found = {name: one["value"] for name, one in results["measures"].items()}
    assert found["kendall"] == pytest.approx(stats.kendalltau(list(scores.values()), test).statistic)
    assert found["regret"] == pytest.approx(test.max() - results["top_10"])
    best = sorted(range(20), key=lambda i: -test[i])[:2]  # 10 % of twenty
    first = sorted(range(20), key=lambda i: -list(scores.values())[i])[:2]
    assert found["precision_10"] == len({*best} & {*first}) / 2
    assert {path.name for path in (tmp_path / "run/rank").iterdir()} == {
        "results.json", "rank.csv", "rank.png",
    }  # fmt: skip
    macs = [space.macs(space.decode(arch), space.recipes["micro"]) for arch in scores]
    assert results["multiply_adds_spearman"]["value"] == pytest.approx(stats.spearmanr(macs, test).statistic)

    more = ("train-supernet", "nb201", *small, "--seed", "1", "--out", "other")
    assert forks.wsnas(*more, cwd=tmp_path).code == 0
    assert forks.wsnas("evaluate", "other", "--sample", "15", cwd=tmp_path).code == 0  # the first 15 of those 20
    done = forks.wsnas("rank", "run", "other", "--scale", "micro", "--out", "both", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "2 supernets" in done.out
    both = json.loads((tmp_path / "both/results.json").read_text())["results"]
    others = latest_scores(Run.read(tmp_path / "other"))
    known = [i for i, arch in enumerate(scores) if arch in others]
    assert both["architectures"] == len(known) == 15
    each = [stats.spearmanr([of[list(scores)[i]] for i in known], test[known]).statistic for of in (scores, others)]
    assert both["supernets"] == pytest.approx(each)
    assert both["spearman"]["value"] == pytest.approx(sum(each) / 2)
    nothing = forks.wsnas("rank", "run", "--truth", "cifar10", cwd=tmp_path)
    assert nothing.code == 2
    assert "wsnas table import" in nothing.err


def test_activations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/results/real/darts_rnn-ptb/activations.py on a supernet of one epoch."""
    if "darts_rnn" not in wsnas.installed_spaces():
        pytest.skip("needs the space darts_rnn")
    space = wsnas.load_space("darts_rnn")
    recipe = change_recipe(space.recipes["micro"], epochs=1, train_size=4000, valid_size=2000, units=8)
    wsnas.train_supernet(space, recipe, out=tmp_path / "run", device="cpu")
    table = wsnas.load_ground_truth(space)
    table.select(table.archs[:8]).save(tmp_path / "table.parquet")
    script = runpy.run_path(str(ROOT / "docs/results/real/darts_rnn-ptb/activations.py"))
    monkeypatch.setitem(script["main"].__globals__, "sample_distinct", lambda space, count, rng: [])
    script["main"](tmp_path / "run", tmp_path / "table.parquet", tmp_path)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["cells"] == {"trained": 8, "scored": 8}
    assert set(result["activations"]) == {"tanh", "relu", "sigmoid", "identity"}
    assert (tmp_path / "activations.png").stat().st_size > 10_000


def test_unpack_jpeg_npz(tmp_path: Path) -> None:
    """JPEG bytes become the pixels that pillow decodes them to."""
    rng, stored, pixels = np.random.default_rng(0), {}, {}
    for part, count in (("train", 3), ("test", 2)):
        images = [rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(count)]
        files = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "jpeg")
            files.append(buffer.getvalue())
        stored[f"{part}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        stored[f"{part}_offsets"] = np.cumsum([0, *map(len, files)])
        stored[f"{part}_labels"] = np.arange(count)
        pixels[part] = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    np.savez(tmp_path / "in.npz", allow_pickle=False, **stored)
    unpack = runpy.run_path(str(ROOT / "docs/results/unpack_jpeg_npz.py"))["main"]
    unpack(str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as found:
        for part in ("train", "test"):
            np.testing.assert_allclose(found[f"{part}_images"].astype(int), pixels[part].astype(int), atol=2)
            assert found[f"{part}_labels"].tolist() == stored[f"{part}_labels"].tolist()
