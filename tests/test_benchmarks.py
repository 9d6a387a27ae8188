"""The benchmarks run, and what they time side by side is the same computation."""

from __future__ import annotations

import importlib
import json
import math
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from wsnas import installed_spaces

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.skipif(not (BENCHMARKS / "supernet_step.py").exists(), reason="not a checkout")
def test_supernet_step_compares_equal_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With copied weights, the textbook's supernet and ours give the same logits."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    command = runpy.run_path(str(BENCHMARKS / "supernet_step.py"))["main"]
    sizes = ["--channels", "2", "--cells", "1", "--batch", "16", "--steps", "2", "--block", "1"]
    result = CliRunner().invoke(command, sizes, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["largest_output_difference_before_training"] < 1e-4
    taken = report["seconds_a_step"]
    for kind in ("fp32", "bf16"):  # the ratio is the way round that it says
        ratio = taken["textbook"] / taken[f"ours {kind}"]
        assert report[f"textbook / ours {kind}"]["of totals"] == pytest.approx(ratio, rel=0.05)


@pytest.mark.skipif(not (BENCHMARKS / "loaders.py").exists(), reason="not a checkout")
def test_loaders_see_the_same_pixels() -> None:
    """Mean and deviation of both loaders' images, in memory and from files, differ no more than random crops do."""
    command = runpy.run_path(str(BENCHMARKS / "loaders.py"))["main"]
    sizes = ["--batch", "16", "--epochs", "1", "--count", "96", "--size", "32"]
    result = CliRunner().invoke(command, sizes, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    for kind, tolerance in (("in memory", 0.05), ("folder", 0.2)):
        seen = report[kind]["mean_and_deviation_of_pixels"]
        assert seen["ours"] == pytest.approx(seen["torchvision"], abs=tolerance)
        assert report[kind]["images_an_epoch"] == 96
        rates = report[kind]["images_a_second"]  # of the one epoch
        ratio = rates["ours"] / rates["torchvision"]
        assert report[kind]["ours / torchvision"]["median"] == pytest.approx(ratio, rel=0.05)


@pytest.mark.skipif("darts_rnn" not in installed_spaces(), reason="needs the space darts_rnn")
def test_rnn_step_compares_equal_networks() -> None:
    """With copied weights the reference's formulation and ours give the same logits."""
    command = runpy.run_path(str(BENCHMARKS / "rnn_step.py"))["main"]
    result = CliRunner().invoke(command, ["--scale", "micro", "--steps", "2"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)["micro"]
    assert report["largest_output_difference_before_training"] < 1e-5
    rates = report["tokens_a_second"]
    for kind in ("fp32", "bf16"):
        ratio = rates[f"ours {kind}"] / rates["reference"]
        assert report[f"ours {kind} / reference"]["of totals"] == pytest.approx(ratio, rel=0.05)


@pytest.mark.skipif(not (BENCHMARKS / "ground_truth.py").exists(), reason="not a checkout")
def test_ground_truth_compares_equal_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both train the same function; each reports a rate and the accuracy reached."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = runpy.run_path(str(BENCHMARKS / "ground_truth.py"))
    small = replace(
        module["MICRO"], train_size=256, channels=2, standalone=replace(module["MICRO"].standalone, epochs=2)
    )
    archs = module["sample_distinct"](module["SPACE"], 2, module["numpy_rng"](0, "ground truth"))
    report = module["compare"](small, archs, workers=0)
    assert report["largest_output_difference_before_training"] < 1e-4
    rates = report["an hour"]
    assert report["ours / textbook"] == pytest.approx(rates["ours"] / rates["textbook"], rel=0.05)
    assert all(0 <= value <= 100 for way in report["mean accuracy"].values() for value in way.values())
    assert sum(report["our time by operation, %"].values()) == pytest.approx(100, abs=1)


@pytest.mark.skipif(not (BENCHMARKS / "ground_truth.py").exists(), reason="not a checkout")
def test_ground_truth_takes_more_than_a_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four architectures per worker by default; too few are refused in one sentence."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = runpy.run_path(str(BENCHMARKS / "ground_truth.py"))
    assert [module["enough"](None, 16, workers) for workers in (0, 2, 64)] == [16, 16, 256]
    assert module["enough"](8, 16, 2) == 8
    refused = CliRunner().invoke(module["main"], ["--workers", "4", "--architectures", "15"])
    assert refused.exit_code == 2
    assert "give --architectures 16 or more" in refused.output


@pytest.mark.skipif(not (BENCHMARKS / "small_training.py").exists(), reason="not a checkout")
def test_small_training_compares_equal_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both train on the same batches to the same losses, and score a submodel alike."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()
    command = runpy.run_path(str(BENCHMARKS / "small_training.py"))["main"]
    result = CliRunner().invoke(command, ["--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == threads
    report = json.loads(result.output)
    assert "not a measurement" in report["benchmark"]
    for name in ("nb101", "nb201", "proxyless"):
        training, evaluation = report[name]["training"], report[name]["evaluation"]
        assert training["losses of the first epoch"] == pytest.approx(training["textbook's"], rel=1e-3)
        assert evaluation["largest difference of cross-entropies"] < 0.02  # the textbook's variances are unbiased
        for part in (training["a step"], evaluation["a submodel"]):
            taken = part["milliseconds"]  # medians of two, so means
            assert part["textbook / ours"]["of totals"] == pytest.approx(taken["textbook"] / taken["ours"], rel=0.05)


@pytest.mark.skipif(not (BENCHMARKS / "gpu.py").exists(), reason="not a checkout")
def test_gpu_runs_dry_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part except captured graphs, including two trainings side by side in worker processes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = importlib.import_module("gpu")  # by its name, as the workers import it
    result = CliRunner().invoke(gpu.main, ["--dry-run", "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert "not a measurement" in report["benchmark"]
    assert report["fp32 means"] == {"convolutions": "float32", "matrix products": "float32"}
    alone = report["standalone"]  # batches of 8
    for name, rate in alone["images a second"].items():
        assert rate == pytest.approx(8 / alone["seconds a step"][name], abs=0.5)
        projected = alone["projected seconds for 200 epochs of 25,000 images"][name]
        assert projected == pytest.approx(200 * 3125 * alone["seconds a step"][name], abs=0.06)
    (together,) = (value for name, value in report["standalone"].items() if name.startswith("2 on the card"))
    assert together["wall seconds, starting included"] > 1  # they wait for each other, and a second more
    if not torch.cuda.is_available():
        refused = CliRunner().invoke(gpu.main, [])
        assert refused.exit_code == 2
        assert "finds no CUDA GPU" in refused.output


@pytest.mark.skipif(not (BENCHMARKS / "gpu.py").exists(), reason="not a checkout")
def test_a_steps_time_is_estimated_from_all_its_convolutions_and_batch_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by hand at paper size: 15 cells of five conv-BNs, the stem, two reductions and the last batch norm."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = importlib.import_module("gpu")
    arch = gpu.SPACE.decode(gpu.ARCH)
    found = gpu.estimates(gpu.SPACE.build(gpu.PAPER, arch), arch, 1, {"matmul TFLOP/s": 1e-12, "copy GB/s": 1e-9})
    assert found["by operations"] == 6 * gpu.SPACE.macs(arch, gpu.PAPER)  # forward and backward, two a multiply-add
    cells, ends = 2 * 25 * (16_384 + 8_192 + 4_096), 2 * 16_384 + 5 * (8_192 + 4_096) + 4_096
    products = 6 * 4_096  # on 8x8 maps a CPU computes conv1x1 as matrix products, which are not counted
    assert found["by activations"] == 12 * (cells + ends - products)


@pytest.mark.skipif(not (BENCHMARKS / "gpu.py").exists(), reason="not a checkout")
def test_trainings_side_by_side_count_while_all_of_them_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 12 s to 20 s: two epochs of four seconds, and half of one of sixteen."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    rate = runpy.run_path(str(BENCHMARKS / "gpu.py"))["images_a_second"]
    assert rate([[12.0, 16.0, 20.0], [8.0, 12.0, 28.0]], 100) == pytest.approx((200 + 50) / 8)
    assert rate([[0.0, 1.0], [1.0, 2.0]], 100) is None  # one after the other, however fast each


@pytest.mark.skipif(not (BENCHMARKS / "gpu_check.py").exists(), reason="not a checkout")
def test_gpu_check_runs_dry_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part runs in its own process; the published accuracies come from a table written here."""
    from nb201 import SPACE

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    main = runpy.run_path(str(BENCHMARKS / "gpu_check.py"))["main"]
    rows = [f"{SPACE.encode(arch)},{50 + i / 1000}" for i, arch in enumerate(SPACE)]
    (tmp_path / "truth.csv").write_text("\n".join(["architecture,cifar10_test_200", *rows]) + "\n")
    options = ["--device", "cpu", "--dry-run", "--submodels", "5", "--truth", str(tmp_path / "truth.csv")]
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "out"), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gpu_check.json"]
    report = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert "not a measurement" in report["benchmark"]
    parts = [report[name] for name in ("tests", "rates", "supernet")]
    assert [part["ended"] for part in parts] == ["exit code 0"] * 3
    tests, rates, supernet = parts
    assert tests["failed"] == []
    assert tests["passed"] + tests["skipped"] >= 5
    assert not any("failed" in value for value in rates.values() if isinstance(value, str)), rates
    timed = {name for name, value in rates.items() if isinstance(value, dict) and "ms a step" in value}
    assert timed >= {"nb201 supernet, pieces fp32", *(f"{space} supernet, eager bf16" for space in installed_spaces())}
    assert supernet["trained"][-1]["epoch"] == 2
    assert len(supernet["scores"]) == supernet["spearman"]["supernet"]["n"] == 5
    if not torch.cuda.is_available():
        refused = CliRunner().invoke(main, ["--out", str(tmp_path / "out")])
        assert refused.exit_code == 2
        assert "finds no CUDA GPU" in refused.output


@pytest.mark.skipif(not (BENCHMARKS / "intervals.py").exists(), reason="not a checkout")
def test_intervals_runs_dry_and_its_expectation_is_known() -> None:
    """Every case; and of normal scores without a supernet effect the mean correlation is known: 6 / pi asin(r / 2)."""
    module = runpy.run_path(str(BENCHMARKS / "intervals.py"))
    result = CliRunner().invoke(module["main"], ["--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert "not a measurement" in report["benchmark"]
    cases = {(one["supernets"], one["scores"], one["supernet effect"]) for one in report["cases"]}
    assert len(cases) == 12
    assert {supernets for supernets, _, _ in cases} == {2, 3, 5}
    for one in report["cases"]:
        assert all(0 <= value <= 1 for name, value in one.items() if name not in ("supernets", "scores"))
    assert module["expected"](0.0, False, 1_000) == pytest.approx(6 / math.pi * math.asin(0.25), abs=0.005)


@pytest.mark.skipif(not (BENCHMARKS / "biases.py").exists(), reason="not a checkout")
def test_supernets_that_favour_nothing_are_not_biased() -> None:
    """Of 160 architectures each: none is said to be biased, though plain differences of ranks would say so."""
    module = runpy.run_path(str(BENCHMARKS / "biases.py"))
    effects = runpy.run_path(str(BENCHMARKS.parent / "studies/operators.py"))["effects"]
    found = module["case"](effects, 160, 2)
    assert (found["said to be biased"], found["said to be biased, by plain differences"]) == (0, 100)
    assert found["bias found"] == 100
    result = CliRunner().invoke(module["main"], ["--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "not a measurement" in json.loads(result.output)["benchmark"]


@pytest.mark.skipif(not (BENCHMARKS / "searches.py").exists(), reason="not a checkout")
def test_small_searches_of_simulated_supernets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 700 architectures each: what supernets know is found, and nothing where there is nothing."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = runpy.run_path(str(BENCHMARKS / "searches.py"))
    found = module["case"](700, 5, 2)
    assert (found["gain found"], found["nothing known, said to gain or lose"]) == (100, 0)
    result = CliRunner().invoke(module["main"], ["--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "not a measurement" in json.loads(result.output)["benchmark"]


@pytest.mark.skipif(not {"nb101", "nb201"} <= set(installed_spaces()), reason="needs the spaces nb101 and nb201")
def test_the_ceiling_is_near_the_truth_of_drawn_tables() -> None:
    """Thirty tables like nb101's: the line is within 0.03 of what quality reaches; that of all seeds was not."""
    module = runpy.run_path(str(BENCHMARKS / "ceiling.py"))
    rows = {row["factor"]: row for row in module["cases"]("nb101", 30)}
    assert list(rows) == [1, 8, 32]
    for row in rows.values():
        assert row["line"] - row["truth"] == pytest.approx(row["line minus truth"], abs=2e-4)
        assert abs(row["line minus truth"]) < 0.03
        assert abs(row["agreement"] - row["shipped table"]["agreement"]) < 0.06  # drawn tables are like the table
    assert all(rows[factor]["line"] - rows[factor]["where all seeds choose and report"] > 0.05 for factor in (8, 32))
    result = CliRunner().invoke(module["main"], ["--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert "not a measurement" in report["benchmark"]
    assert [(row["space"], row["factor"]) for row in report["cases"]] == [
        (space, factor) for space in ("nb201", "nb101") for factor in (1, 8, 32)
    ]


BAD_ENDS = ("wrong", "traceback", "hang", "over 1 GB", "crash")


@pytest.mark.skipif(not (BENCHMARKS / "fuzz.py").exists(), reason="not a checkout")
@pytest.mark.skipif(not {"nb101", "nb201", "darts_cnn", "darts_rnn"} <= {*installed_spaces()}, reason="needs spaces")
def test_damaged_inputs_are_read_or_refused(tmp_path: Path) -> None:
    """The short form of benchmarks/fuzz.py."""
    files = ["--out", str(tmp_path / "counts"), "--log", str(tmp_path / "log")]
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), "--inputs", "40", *files]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    readers = json.loads(done.stdout)["readers"]
    assert len(readers) > 20
    for name, ends in readers.items():
        assert sum(ends.values()) == 40
        assert ends["refused"] > 0, name
        assert not any(ends[end] for end in BAD_ENDS), (name, ends, (tmp_path / "log").read_text())


@pytest.mark.skipif(not (BENCHMARKS / "faults.py").exists(), reason="not a checkout")
@pytest.mark.skipif("nb201" not in installed_spaces(), reason="needs the space nb201")
def test_disturbed_runs_end_as_others(tmp_path: Path) -> None:
    """The short form of benchmarks/faults.py."""
    counts = ["--kills", "3", "--disks", "1", "--writers", "1", "--mutations", "6", "--log", str(tmp_path / "log")]
    command = [sys.executable, str(BENCHMARKS / "faults.py"), *counts]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"]["kills"] == 3
    assert found["kills"]["runs"] == found["kills"]["as undisturbed"]
    assert found["full disk"]["then as undisturbed"] == found["writers"]["as undisturbed"] == 1
    for name in ("run.json", "checkpoint.pt", "metrics.jsonl", "records.sqlite"):
        assert not any(found[name][end] for end in BAD_ENDS), (name, found[name])
