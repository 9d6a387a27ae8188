"""Every study runs from end to end on a tiny budget and leaves its four files, which open and agree."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
import runpy
import shutil
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from html import escape, unescape
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from wsnas import installed_spaces, load_ground_truth, load_space, proxy_scores
from wsnas import paths as path_samplers
from wsnas.executor import Executor
from wsnas.metrics import Floats, Interval, PerSupernet
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe, with_changes
from wsnas.runs import Run
from wsnas.sampling import sample_distinct
from wsnas.studies.costs import same_networks, trained_with
from wsnas.studies.figures import axes_grid, caption, legend_below, ranking_figure, say_at_the_top
from wsnas.studies.options import StudyOptions
from wsnas.studies.pruned import Pruning
from wsnas.studies.rankings import K, Point, finite, judged, ranking
from wsnas.studies.report import write_report
from wsnas.studies.results import desk_rows, save_figure, to_jsonable, write_results
from wsnas.studies.sample import GroundTruth, SpaceSample, ground_truth_of, space_samples
from wsnas.studies.scripts import Studies
from wsnas.studies.verdicts import FEWEST, Answer, Numbers, Verdict, enough
from wsnas.table import TRAINED, Column, Table
from wsnas.words import counted

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

STUDIES = Path(__file__).resolve().parents[1] / "studies"
SMALL = ("--channels", "2", "--train-size", "640", "--workers", "0")
TABLE = ("--seeds", "2", "--architectures", "12", "--table", "TRUTH")
TINY = (*SMALL, "--epochs", "1", "--valid-size", "200")


def study(forks: Any, name: str, *options: str | Path, cwd: Path) -> Any:
    return forks.start("script", STUDIES / f"{name}.py", *options, cwd=cwd).wait()


def opened(out: Path, name: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """results.json and the CSV of a finished study, after looking at its figures."""
    import matplotlib.pyplot as plt

    picture = plt.imread(out / f"{name}.png")
    assert picture.shape[0] > 200
    assert picture.shape[1] > 200
    assert picture[..., :3].std() > 0.01  # not a blank page
    if (out / f"{name}.svg").exists():
        root = ET.parse(out / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10
    results = json.loads((out / "results.json").read_text())
    assert results["study"] == name
    with (out / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for verdict in results["verdicts"]:
        assert set(verdict) == {"claim", "source", "space", "rule", "measured", "verdict", "numbers"}
        assert verdict["verdict"] in ("holds", "does not hold", "inconclusive")
        assert verdict["rule"]
        assert verdict["source"]
    return results, rows


def without_command(path: Path) -> dict[str, Any]:
    """A results.json but for the command, which may say --fresh."""
    results = json.loads(path.read_text())
    assert results.pop("command").startswith("python studies/")
    return results


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up ground truth of 44 architectures, 3 seeds: a true score and noise. Any study can be held against it."""
    space, rng = load_space("nb201"), np.random.default_rng(0)
    archs = sample_distinct(space, 44, rng)
    score = rng.uniform(30, 80, len(archs))
    dataset = space.recipes["micro"].dataset
    columns = {
        Column(dataset, split, 8, seed): score + rng.normal(0, 2, len(archs))
        for split in ("valid", "test")
        for seed in range(3)
    }
    path = tmp_path_factory.mktemp("truth") / "truth.parquet"
    Table("nb201", tuple(space.encode(arch) for arch in archs), columns).save(path)
    return path


def test_every_study_is_tested_here() -> None:
    """A study without an entry in OPTIONS would go untested."""
    assert {path.stem for path in STUDIES.glob("*.py")} == set(OPTIONS)


OPTIONS: dict[str, tuple[str, ...]] = {
    "standalone": (*SMALL, "--epochs", "2", "--seeds", "2", "--architectures", "4"),
    "consistency": (*TINY, "--epochs", "4", *TABLE, "--budgets", "2"),
    "convergence": (*TINY, "--epochs", "4", *TABLE, "--budgets", "2"),
    "density": (*TINY, *TABLE, "--architectures", "44", "--factor", "1", "--factor", "2"),
    "epochs": (*TINY, "--epochs", "4", *TABLE, "--budgets", "2", "--svg"),
    "operators": (*TINY, "--seeds", "2", "--architectures", "28", "--table", "TRUTH"),
    "scoring": (*TINY, *TABLE, "--steps", "2"),
    "spaces": (),
    "tricks": (*TINY, *TABLE),
    "capacity": (*TINY, *TABLE, "--factor", "1", "--factor", "2"),
    "worth": (*TINY, "--epochs", "4", *TABLE, "--budgets", "2", "--images", "16", "--architectures", "24"),
}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_runs_and_writes_its_files(forks: Any, truth: Path, tmp_path: Path, name: str) -> None:
    options = [str(truth) if option == "TRUTH" else option for option in OPTIONS[name]]
    scale = () if name == "spaces" else ("--scale", "micro")
    done = study(forks, name, "--space", "nb201", *scale, *options, "--out", "out", cwd=tmp_path)
    assert done.code == 0, done.err
    results, _ = opened(tmp_path / "out", name)
    assert all(math.isfinite(number) for number in numbers(results))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.json", f"{name}.csv", f"{name}.png"),
        *(("tricks-matrix.png",) if name == "tricks" else ()),
        *((f"{name}.svg",) if name == "epochs" else ()),
    }
    for verdict in results["verdicts"]:
        assert f"{verdict['claim']}: {verdict['verdict']}" in done.out
        if name != "spaces":  # of 12, 4 or 28 architectures
            assert verdict["verdict"] == "inconclusive"
            assert verdict["measured"].endswith("; too few architectures")
            assert verdict["rule"].endswith("; inconclusive from fewer than 30 architectures")
    assert results["settings"].get("scale") == (None if name == "spaces" else "micro")
    assert results["environment"]["torch"]
    assert results["answer"] in done.out
    if name == "density":
        first = results["results"]["nb201"][0]
        assert first["random_top_low"] <= first["random_top"] <= first["random_top_high"] <= first["best"]
        gains_are_on_the_same_architectures(results["results"]["nb201"][1], tmp_path, Table.load(truth))
    every_number_is_in_the_results(tmp_path / "out", tmp_path / "report.html")


def gains_are_on_the_same_architectures(point: dict[str, Any], folder: Path, table: Table) -> None:
    """By scipy from the records: a sub-space's supernet against that of its seed that all architectures share."""
    by_seed: dict[int, list[dict[str, float]]] = {}
    for net in sorted((folder / "supernets").iterdir(), key=lambda net: Run.read(net).identity["candidates"]):
        run = Run.read(net)
        (kind,) = run.kinds()
        scores = {arch: record["accuracy"] for arch, record in run.records(kind).items()}
        by_seed.setdefault(run.identity["seed"], []).append(scores)
    test, gains = table.mean("digits", "test"), []
    for part, whole in by_seed.values():  # of 22 and of 44 architectures
        assert part.keys() < whole.keys()
        truth = [test[table.row[arch]] for arch in part]
        own, same = ([one[arch] for arch in part] for one in (part, whole))
        gains.append(stats.spearmanr(own, truth).statistic - stats.spearmanr(same, truth).statistic)
    assert point["gain"] == pytest.approx(np.mean(gains))
    assert point["gain"] == pytest.approx(point["correlation"] - point["whole_correlation"])


NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def assert_shown(text: str, values: list[float]) -> None:
    """The text's numbers are these, in this order, rounded as they are written."""
    shown = NUMBER.findall(text)
    assert len(shown) == len(values), (text, values)
    for one, value in zip(shown, values, strict=True):
        digits = len(one.partition(".")[2]) if "e" not in one else 2 - int(one.partition("e")[2])
        assert float(one.replace(",", "")) == pytest.approx(value, abs=0.5001 * 10.0**-digits), (text, values)


def labels(results: Any) -> list[str]:
    """Rows of Table 3, and choices at decisions: they have digits in them."""
    rows = results if isinstance(results, list) else results.get("rows", results.get("choices", []))
    return [
        row.get("label") or f"{row['choice']} at {row['decision']}" for row in rows if {"label", "choice"} & set(row)
    ]


def cells_of(row: str) -> list[str]:
    return [unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in re.findall(r"(?s)<t[hd].*?</t[hd]>", row)]


def every_number_is_in_the_results(folder: Path, out: Path) -> None:
    """Each number of the page is the one under its key: of verdicts, rankings, Table 3 and the line on trainings."""
    write_report([folder], out)
    html = re.sub(r"(?s)<(script|style|pre|details).*?</\1>", "", out.read_text())
    stored = json.loads((folder / "results.json").read_text())
    bodies: dict[str, list[list[str]]] = {}
    for kind, body in re.findall(r'(?s)<table class="([\w ]+)">.*?<tbody>(.*?)</tbody>', html):
        bodies[kind] = [cells_of(row) for row in re.findall(r"(?s)<tr>.*?</tr>", body)]
    assert set(bodies) <= {"claims", "verdicts", "trick", "trick rankings", "headline"}
    assert ("headline" in bodies) == (stored["study"] == "epochs")
    for shown in bodies.get("headline", []):
        last = stored["results"][shown[0].split()[0]][-1]
        assert_shown(shown[1], [last["correlation"], last["correlation_low"], last["correlation_high"]])
        of_last = [last["epochs"], last["parameters_correlation"], last["ceiling"], last["evaluated"]]
        assert_shown(" ".join([shown[2], shown[3], shown[5], shown[8]]), [x for x in of_last if x is not None])
        assert_shown(shown[7], [last["measures"]["regret"][end] for end in ("value", "low", "high")])

    verdicts = {(one["claim"], one["space"]): one for one in stored["verdicts"]}
    assert {row[0] for row in bodies["claims"]} == {claim for claim, _ in verdicts}
    assert not any(NUMBER.search(cell) for row in bodies["claims"] for cell in row[1:])
    assert len(bodies.get("verdicts", [])) == len(verdicts)
    for claim, space, verdict, measured in bodies.get("verdicts", []):
        one = verdicts[claim, space]
        assert (measured, verdict) == (one["measured"], one["verdict"])
        said = re.sub(r"(?<=at )[18]x|(?<=from )[18]x|top-10", "", measured)  # the factors that claims are about
        for label in labels(stored["results"][space]):
            said = said.replace(label, "")
        assert_shown(said, list(one["numbers"].values()))
        expected = SAID[claim](stored["results"][space])
        ends = {name for name in one["numbers"] if name.endswith((", low", ", high"))}
        assert set(one["numbers"]) - ends <= set(expected), claim
        for name, value in expected.items():
            assert one["numbers"].get(name, value) == pytest.approx(value), (claim, name)
        for end in ends:
            middle, _, which = end.rpartition(", ")
            sign = 1 if which == "high" else -1
            assert sign * one["numbers"][end] >= sign * expected.get(middle, one["numbers"].get(middle, 0)) - 1e-9

    of_space = stored["results"]["nb201"]
    if stored["study"] in ("epochs", "density", "capacity", "tricks", "worth", "scoring"):
        points = of_space["rows"] if stored["study"] in ("tricks", "worth") else of_space
        for row, point in zip(bodies["trick rankings"], points, strict=True):
            label = point.get("label") or (
                f"{point['factor']}x" if "factor" in point else counted(point["epochs"], "epoch")
            )
            assert row[0] == label
            if stored["study"] == "tricks":
                assert_shown(row[1], [point["corr_truth"]])
            else:
                assert_shown(row[1], [point["correlation"], point["correlation_low"], point["correlation_high"]])
            names = ("kendall", "sparse_kendall", "precision_5", "precision_10", "best_rank", "ndcg", "regret")
            for cell, name in zip(row[2:], names, strict=True):
                assert_shown(cell, [point["measures"][name][end] for end in ("value", "low", "high")])
                assert np.mean(point["measures"][name]["seeds"]) == pytest.approx(point["measures"][name]["value"])
    else:
        assert "trick rankings" not in bodies
    if stored["study"] == "tricks":
        for shown, row in zip(bodies["trick"], of_space["rows"], strict=True):
            assert shown[0] == row["label"]
            for cell, name in ((1, "corr_baseline"), (2, "corr_truth"), (5, "top10")):
                assert_shown(shown[cell], [row[name]])
            if row is of_space["rows"][0]:
                assert shown[3:5] + shown[6:] == ["", "", "", ""]
                continue
            assert_shown(shown[3], [row["difference"], row["difference_low"], row["difference_high"]])
            assert_shown(shown[6], [row["top_difference"]])
            yes = [{True: "yes", False: "no"}[row[field]] for field in ("beyond_seeds", "top_beyond_seeds")]
            assert [shown[4], shown[7]] == yes

    trainings = re.findall(r'<p class="soft">(nb201: [^<]*)</p>', html)
    settings = stored["settings"].get("nb201", {})
    counts = {
        "architectures without ground truth": settings.get("without_ground_truth"),
        "scores that are not finite": sum(
            row["not_finite"]
            for row in (of_space if isinstance(of_space, list) else of_space.get("rows", []))
            if "not_finite" in row
        ),
        "architectures without a result": of_space.get("without_result") if isinstance(of_space, dict) else None,
    }
    assert bool(trainings) == (stored["study"] != "spaces")
    for line in trainings:
        for name, count in re.findall(r"([a-z ]+): (\d+)[;.]", line.removeprefix("nb201: ")):
            assert int(count) == counts[name.strip()], line
        for status in re.findall(r"trainings: ([^;.]*)", line):
            assert status.removesuffix(", 0 failed") == of_space["status"]


def _of_the_last(points: list[dict[str, Any]], *names: str) -> dict[str, float]:
    return {name: points[-1][name] for name in names}


def _judged(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Factors that leave enough architectures; all, if there are no two."""
    large = [point for point in points if point["evaluated"] >= FEWEST]
    return large if len(large) > 1 else points


def _change(points: list[dict[str, Any]]) -> dict[str, float]:
    """From 1x to the mean over the other factors."""
    first, *pruned = _judged(points)
    change = np.mean([point["correlation"] for point in pruned]) - first["correlation"]
    found = {"change": float(change), "factors": len(pruned), "factor": pruned[-1]["factor"]}
    if any("any_judge" not in point for point in pruned):
        return found
    any_judge = float(np.mean([point["any_judge"] for point in pruned]))
    return found | {"change of any judge": any_judge - first["correlation"]}


def _mean_gap(gaps: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(gaps))} if gaps else {}


def _between(names: list[str], matrix: list[list[float]], a: str, b: str) -> float:
    return matrix[names.index(a)][names.index(b)]


def _means(of: dict[str, Any]) -> dict[str, float]:
    first, last = of["rows"][0], of["rows"][-1]
    return {
        "mean of the shortest": first["mean"],
        "shortest": first["epochs"],
        "mean of the longest": last["mean"],
        "longest": last["epochs"],
        "mean ground truth": of["mean_truth"],
        "improvement": last["mean"] - first["mean"],
        "lead": last["mean"] - of["mean_truth"],
    }


def _last(of: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = [row for row in of["rows"] if row["kind"] == kind][-1]
    return found


def _affordable(of: dict[str, Any], kind: str) -> dict[str, float]:
    net = _last(of, "supernet and parameter count" if kind == "predictor" else "supernet")
    other = max((row for row in of["rows"] if row["kind"] == kind and row["cost"] <= net["cost"]), key=_cost)
    return {
        "supernet": net["correlation"],
        "cost of the supernet": net["cost"],
        "other": other["correlation"],
        "cost of the other": other["cost"],
        "difference": net["correlation"] - other["correlation"],
    }


def _cost(row: dict[str, Any]) -> float:
    return float(row["cost"])


def _two_ways(of: list[dict[str, Any]], one: str, other: str) -> dict[str, float]:
    """Rows of study ``scoring``, by how their labels begin: the correlations, and their difference."""
    found = [next(row["correlation"] for row in of if row["label"].startswith(start)) for start in (one, other)]
    return {"one": found[0], "other": found[1], "difference": found[0] - found[1]}


SAID: dict[str, Callable[[Any], dict[str, float]]] = {  # claim -> the numbers of its sentence, from the study's results
    "the space is as large as printed": lambda of: {"architectures": of["counted"], "printed": 15284},
    "the smallest and largest networks are as large as printed": lambda of: {
        "smallest": of["parameters"][0] / 1e6,
        "largest": of["parameters"][4] / 1e6,
        "printed smallest": 0.1,
        "printed largest": 1.3,
    },
    "a longer training does not guarantee a better ranking": lambda of: {
        "best correlation": max(point["correlation"] for point in of),
        "best epochs": max(of, key=lambda point: point["correlation"])["epochs"],
        "longest correlation": of[-1]["correlation"],
        "longest epochs": of[-1]["epochs"],
        "least epochs": of[0]["epochs"],  # of two budgets there is only one lead
        "least lead": of[-1]["correlation"] - of[0]["correlation"],
    },
    "where the correlation is above 0.4, top-10 clearly outperforms random search": lambda of: {
        **_of_the_last(of, *(f"{name}{end}" for name in ("correlation", "advantage") for end in ("", "_low", "_high"))),
        **({"gain": of[-1]["search_gain"]} if "search_gain" in of[-1] else {}),
    },
    "a random sub-space at the largest factor ranks better than the whole": lambda of: _of_the_last(
        _judged(of), "gain", "factor"
    ),
    "reducing the sharing density hardly helps": lambda of: {
        name: value
        for point in _judged(of)[1:]
        for name, value in (
            (f"gain at {point['factor']}x", point["gain"]),
            (f"factor {point['factor']}", point["factor"]),
        )
    },
    "pruning to the best lowers the correlation": _change,
    "supernets agree with each other more than with the ground truth": lambda of: {
        "mutual": of["mutual"],
        "with the ground truth": of["with_ground_truth"],
        "without noise": of["with_ground_truth"] / of["ceiling"],
        "difference": of["mutual"] - of["with_ground_truth"] / of["ceiling"],
    },
    "the parameter count ranks better than weight sharing": lambda of: {
        "correlation": _between(of["names"], of["matrix"], "P", "GT"),
        "difference": _between(of["names"], of["matrix"], "P", "GT")
        - np.mean([_between(of["names"], of["matrix"], name, "GT") for name in of["names"][1:-2]]),
    },
    "supernets follow model size more than ground truth": lambda of: {
        "correlation": np.mean([_between(of["names"], of["matrix"], name, "P") for name in of["names"][1:-2]]),
        "without noise": np.mean([_between(of["names"], of["matrix"], name, "GT") for name in of["names"][1:-2]])
        / of["ceiling"],
        "difference": np.mean(
            [
                _between(of["names"], of["matrix"], name, "P")
                - _between(of["names"], of["matrix"], name, "GT") / of["ceiling"]
                for name in of["names"][1:-2]
            ]
        ),
    },
    "weight sharing is biased towards certain operators or connections": lambda of: {
        "biased": sum(one["p_corrected"] < 0.05 for one in of["choices"]),
        "choices": len(of["choices"]),
        "effect": of["choices"][0]["effect"],
        "effect, low": of["choices"][0]["low"],
        "effect, high": of["choices"][0]["high"],
        "unsettled": sum(not one["negligible"] for one in of["choices"]),
    },
    "supernets prefer a choice that is worse when trained": lambda of: {
        "suspects": sum(not one["harmless"] for one in of["choices"]),
        "choices": len(of["choices"]),
    },
    "recalibrated batch norms rank better than inherited statistics": lambda of: _two_ways(
        of, "recalibrated, 640 images: accuracy", "inherited: accuracy"
    ),
    "recalibrated batch norms rank better than each batch's own statistics": lambda of: _two_ways(
        of, "recalibrated, 640 images: accuracy", "batch: accuracy"
    ),
    "tuning the batch norms first ranks better than recalibration alone": lambda of: _two_ways(
        of, "tuned for 2 steps, 640 images: accuracy", "recalibrated, 640 images: accuracy"
    ),
    "the loss ranks better than the accuracy": lambda of: _two_ways(
        of, "recalibrated, 640 images: loss", "recalibrated, 640 images: accuracy"
    ),
    "larger architectures reach more when trained": lambda of: {
        name: of["correlation_with_test"]["parameters"][end]
        for name, end in (
            *(("correlation", "value"), ("correlation, low", "low"), ("correlation, high", "high")),
            ("architectures", "n"),
        )
    },
    "no trick is beneficial": lambda of: {
        "seeds": of["seed_noise"],
        **{
            f"equal cost{name}": of["multi_path_at_equal_cost"][end]
            for name, end in (("", "value"), (", low", "low"), (", high", "high"))
            if of["multi_path_at_equal_cost"]
        },
        **{
            f"{row['label']}{name}": row[f"difference{end}"]
            for row in of["rows"][1:]
            for name, end in (("", ""), (", low", "_low"), (", high", "_high"))
        },
    },
    "supernets trained in different ways agree with each other more than with the ground truth": lambda of: {
        "seeds": of["rows"][0]["corr_baseline"],
        **_mean_gap([row["gap"]["value"] for row in of["rows"] if row["gap"]]),
        **{row["label"]: row["corr_baseline"] - row["corr_truth"] / of["ceiling"] for row in of["rows"][1:]},
        **{
            f"{row['label']}, {end}": row["gap"][end] for row in of["rows"][1:] if row["gap"] for end in ("low", "high")
        },
    },
    "weight sharing knows more than the parameter count": lambda of: {
        "partial": _last(of, "supernet")["partial"]["parameters"]["value"]
    },
    "a supernet and the parameter count together rank better than the count": lambda of: {
        "together": _last(of, "supernet and parameter count")["correlation"],
        "parameter count": of["rows"][0]["correlation"],
        "difference": _last(of, "supernet and parameter count")["correlation"] - of["rows"][0]["correlation"],
    },
    "a supernet ranks better than every zero-cost score": lambda of: {
        "supernet": _last(of, "supernet")["correlation"],
        "best score": max(row["correlation"] for row in of["rows"] if row["kind"] == "zero-cost score"),
    },
    "a supernet ranks better than a predictor of its cost": lambda of: _affordable(of, "predictor"),
    "a supernet ranks better than short trainings of its cost": lambda of: _affordable(of, "short trainings"),
    "extended training raises the mean supernet performance throughout": _means,
    "the mean supernet performance surpasses the mean ground truth": _means,
}


def test_verdicts_need_a_minimum_of_architectures() -> None:
    verdict = Verdict("c", "s", "nb201", "r", "m", "holds")
    (many,), (few,) = (enough([verdict], n) for n in (FEWEST, FEWEST - 1))
    assert (many.verdict, many.measured) == ("holds", "m")
    assert (few.verdict, few.measured) == ("inconclusive", "m; too few architectures")
    assert many.rule == few.rule == "r; inconclusive from fewer than 30 architectures"


def test_two_readings_of_the_same_supernets_are_compared_pair_by_pair() -> None:
    """Five supernets differ widely, but each ranks a little worse by one reading, as a paired t-test sees."""
    noise, truth = numpy_rng(8), np.arange(2000.0)
    strengths = np.array([0.5, 0.7, 1.0, 1.3, 1.6])[:, None]
    better = strengths * stats.zscore(truth) + noise.standard_normal((5, 2000))
    worse = better + 0.4 * noise.standard_normal((5, 2000))
    good, poor = (ranking(scores, truth, truth, K) for scores in (better, worse))
    assert stats.ttest_rel(good.correlation_seeds, poor.correlation_seeds).pvalue < 0.05
    assert stats.ttest_ind(good.correlation_seeds, poor.correlation_seeds).pvalue > 0.5

    code = runpy.run_path(str(STUDIES / "scoring.py"))
    protocols = [
        code["Protocol"](*what) for what in (["inherited"], ["batch"], ["recalibrated", 8], ["recalibrated", 8, 1])
    ]
    rankings = {"batch": poor, "recalibrated, 8 images": good, "tuned for 1 steps, 8 images": good}
    ways = [
        code["Way"](protocol, reading, 0, 0.0, rankings.get(protocol.name, poor))
        for protocol in protocols
        for reading in ("accuracy", "loss")
    ]
    _, own_statistics, tuned, _ = code["verdicts_of"](SimpleNamespace(name="nb201"), ways)
    assert own_statistics.verdict == "holds"
    assert (tuned.verdict, tuned.numbers["difference"]) == ("does not hold", 0)  # the very same scores


def test_results_have_the_interval_that_is_drawn() -> None:
    """Also of predictors, which were fitted on draws from one pool."""
    noise, truth = numpy_rng(14), np.arange(200.0)
    ranked_scores = truth + 60 * noise.standard_normal((5, 200))
    ranked = ranking(ranked_scores, truth, truth, K)
    pooled = ranking(ranked_scores, truth, truth, K, common=3.0)
    judge = runpy.run_path(str(STUDIES / "worth.py"))["Judge"]
    alone, together = (judge("predictor", "20 trained", 20, 20.0, None, truth[None], one) for one in (ranked, pooled))
    for one in (alone, together):
        found = one.interval()
        known = one.known()
        assert (known["correlation"], known["correlation_low"], known["correlation_high"]) == (
            found.value,
            found.low,
            found.high,
        )
    assert together.known()["correlation_low"] < alone.known()["correlation_low"]
    wider, usual = (one.ranking.measures.intervals() for one in (together, alone))
    for name, found in wider.items():
        assert (found.value, found.high >= usual[name].high, found.low <= usual[name].low) == (
            usual[name].value,
            True,
            True,
        )
    assert wider["kendall"].low < usual["kendall"].low
    assert pooled.advantage_low < ranked.advantage_low


@pytest.mark.parametrize("lowest", [0.0, 50.0, -3.0, -1e17])
def test_a_score_that_is_not_finite_ranks_last(lowest: float) -> None:
    """Also beside scores so large that 1 less is the same number."""
    scores = finite(np.array([lowest, np.inf, lowest + abs(lowest) + 1, np.nan]))
    assert np.argsort(-scores, kind="stable")[:2].tolist() == [2, 0]
    assert scores[1] == scores[3] < lowest


def test_a_single_supernet_shows_no_bias_of_supernets() -> None:
    code = runpy.run_path(str(STUDIES / "operators.py"))
    numbers = (0.4, 0.3, 0.5, 0.0, 0.4, 0.3, 0.5, -0.1, -0.2, -0.05, 0.0)
    effect = code["Effect"]("edge 0-1", "skip", 40, *numbers, False, False, 0.0, 0.0)
    verdicts = [code["verdicts_of"](SimpleNamespace(name="nb201"), [effect], supernets) for supernets in (1, 2)]
    assert [[one.verdict for one in found] for found in verdicts] == [["inconclusive"] * 2, ["holds"] * 2]
    unsure = dataclasses.replace(effect, p_misleads_corrected=0.06)  # biased, but which of the two it is is not certain
    found = code["verdicts_of"](SimpleNamespace(name="nb201"), [unsure], 2)
    assert [one.verdict for one in found] == ["holds", "inconclusive"]


def test_many_architectures_exclude_a_bias_and_a_misleading_choice() -> None:
    """Supernets rank as trainings do, one choice is better: 1,500 architectures show it, 60 do not."""
    code, noise = runpy.run_path(str(STUDIES / "operators.py")), numpy_rng(12)

    def found(n: int, favour: float = 0.0) -> list[str]:
        made = [
            {f"edge {i}": "skip" if has else "none" for i, has in enumerate(one)} for one in noise.random((n, 3)) < 0.5
        ]
        skips = np.array([one["edge 0"] == "skip" for one in made])
        truth = noise.standard_normal(n) + skips
        scores = np.array([truth + noise.standard_normal(n) + favour * skips for _ in range(3)])
        effects = code["effects"](truth, made, scores)
        return [one.verdict for one in code["verdicts_of"](SimpleNamespace(name="nb201"), effects, 3)]

    assert found(1500) == ["does not hold", "does not hold"]
    assert found(60) == ["inconclusive", "inconclusive"]
    assert found(1500, favour=1.0) == ["holds", "does not hold"]  # ranked too high, but it is better


def test_holms_correction_by_hand() -> None:
    holm = runpy.run_path(str(STUDIES / "operators.py"))["holm"]
    assert holm([0.03, 0.01, 0.04, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert holm([0.5, 0.5]) == [1, 1]


def test_among_many_choices_one_that_trains_worse_by_chance_misleads_nobody() -> None:
    """Supernets prefer all twenty, and training tells none of them from the others: one in forty seems worse."""
    effects, noise = runpy.run_path(str(STUDIES / "operators.py"))["effects"], numpy_rng(11)
    made = [
        {f"edge {i}": "skip" if has else "none" for i, has in enumerate(one)} for one in noise.random((300, 20)) < 0.5
    ]
    skips = np.array([[choice == "skip" for choice in one.values()] for one in made])
    truth = noise.standard_normal(300)
    scores = np.array([skips.sum(1) + 0.5 * noise.standard_normal(300) for _ in range(3)])
    found = effects(truth, made, scores)
    assert any(one.preferred_low > 0 > one.better_high for one in found)
    assert not any(one.misleads for one in found)


def test_a_bias_that_supernets_do_not_share_is_none() -> None:
    """Three supernets favour a choice by 0.45, 0.25 and 0.02 of the ranks: on average certain for these three only."""
    effects, noise = runpy.run_path(str(STUDIES / "operators.py"))["effects"], numpy_rng(9)
    made = [{"edge": "skip" if i % 2 else "none"} for i in range(200)]
    truth, skips = noise.standard_normal(200), np.arange(200) % 2

    def found(*favours: float) -> Any:
        scores = np.array([truth + 0.3 * noise.standard_normal(200) + favour * skips for favour in favours])
        return effects(truth, made, scores)[0]

    alike, unlike = found(0.8, 0.8, 0.8), found(2.0, 0.8, 0.0)
    assert abs(unlike.effect) == pytest.approx(abs(alike.effect), abs=0.01)
    assert (alike.p_corrected < 0.001, unlike.p_corrected > 0.05) == (True, True)
    assert abs(alike.low - alike.high) < abs(unlike.low - unlike.high)


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("capacity", "pruning to the best lowers the correlation"),
        ("density", "a random sub-space at the largest factor ranks better than the whole"),
    ],
)
def test_factors_that_leave_too_few_architectures_do_not_spoil_a_verdict(name: str, claim: str) -> None:
    """It is about the factors that leave enough; if only 1x does, it is inconclusive."""
    space = "nb201" if name == "density" else SimpleNamespace(name="nb201", space=load_space("nb201"))
    verdicts_of, noise = runpy.run_path(str(STUDIES / f"{name}.py"))["verdicts_of"], numpy_rng(7)

    def found(**left: int) -> Verdict:
        points = []
        for factor, (size, strength) in enumerate(zip(left.values(), (1.0, -1.0, 1.0), strict=False)):
            truth = np.arange(float(size))
            ranked, whole = (
                ranking(one * truth + 0.2 * size * noise.standard_normal((5, size)), truth, truth, min(K, size))
                for one in (strength, 1.0)
            )
            gain = ranked.agreement - whole.agreement if factor else None
            points.append(Point(16**factor, "", ranked, None, gain=gain))
        (verdict,) = [one for one in verdicts_of(space, judged(points)) if one.claim == claim]
        return verdict

    expected = "holds" if name == "capacity" else "does not hold"
    assert (found(a=80, b=FEWEST, c=12).verdict, found(a=80, b=FEWEST, c=12).numbers["factor"]) == (expected, 16)
    assert found(a=80, b=FEWEST, c=FEWEST).numbers["factor"] == 256
    few = found(a=80, b=FEWEST - 1, c=12)
    assert (few.verdict, few.numbers["factor"]) == ("inconclusive", 256)
    assert few.measured.endswith("too few architectures")


def test_standalone_at_desk_judges_by_the_shipped_trainings_of_its_length() -> None:
    """The shipped table of nb101 has trainings of 2, 10 and 20 epochs; desk's are those of 20."""
    code, space = runpy.run_path(str(STUDIES / "standalone.py")), load_space("nb101")
    recipe, shipped = space.recipes["desk"], load_ground_truth(space)
    table = SimpleNamespace(about={"recipe": json.dumps(recipe.standalone_identity(), sort_keys=True)})
    found = code["shipped_truth"](space, table, recipe)
    tests = shipped.mean("digits", "test", 20)
    known = np.isfinite(tests)
    assert len(found) == known.sum()
    assert found.length("digits", "test") == 20
    assert shipped.parameters is not None
    expected = stats.spearmanr(shipped.parameters[known], tests[known]).statistic
    assert code["correlations_of"](found, "digits", ["parameters"])["parameters"].value == pytest.approx(expected)
    other = change_recipe(recipe, channels=3)
    table.about["recipe"] = json.dumps(other.standalone_identity(), sort_keys=True)
    assert code["shipped_truth"](space, table, other) is None


def test_standalone_judges_by_the_whole_ground_truth_where_it_ships() -> None:
    """Six trainings say nothing on a claim that hundreds of shipped ones of the same recipe decide."""
    code = runpy.run_path(str(STUDIES / "standalone.py"))
    space = load_space("nb201")
    shipped = load_ground_truth(space)
    six = shipped.select(shipped.archs[:6])
    found = code["findings_of"](six, shipped, space, "digits")
    (verdict,) = code["verdicts_of"](space, found)
    tests = shipped.mean("digits", "test")
    known = np.isfinite(tests) & np.isfinite(shipped.mean("digits", "valid"))
    assert shipped.parameters is not None
    expected = stats.spearmanr(shipped.parameters[known], tests[known]).statistic
    assert verdict.numbers["correlation"] == pytest.approx(expected, abs=1e-9)
    assert verdict.numbers["architectures"] == known.sum() >= 700
    assert verdict.verdict == "holds"
    (alone,) = code["verdicts_of"](space, code["findings_of"](six, None, space, "digits"))
    assert alone.verdict == "inconclusive"


def test_standalone_reports_what_it_was_asked_for(forks: Any, tmp_path: Path) -> None:
    """Not what an earlier command trained into the same ground truth, which is published with it; and no folder."""
    rng, data = np.random.default_rng(0), tmp_path / "mine.npz"
    parts = {f"{part}_images": rng.integers(0, 255, (40, 8, 8, 3), np.uint8) for part in ("train", "test")}
    np.savez(data, **parts, **{f"{part}_labels": np.arange(40) % 4 for part in ("train", "test")})
    more, fewer = (("--seeds", n, "--architectures", m) for n, m in (("2", "5"), ("1", "4")))
    little = ("--dataset", "mine.npz", "--train-size", "20", "--batch", "10", "--channels", "2", "--workers", "0")
    common, found = ("--space", "nb201", *little, "--epochs", "1"), []
    for options in (more, fewer):
        done = study(forks, "standalone", *common, *options, cwd=tmp_path)
        assert done.code == 0, done.err
        results, rows = opened(tmp_path / "runs/study-standalone-micro", "standalone")
        assert results["settings"]["nb201"]["dataset"] == "mine.npz"
        found.append({(row["arch"], row["seed"]): row["test"] for row in rows})
        asked = results["settings"]["architectures"] * results["settings"]["seeds"]
        assert len(rows) == asked
        assert results["results"]["nb201"]["status"] == f"{asked} ok"
    assert found[1].items() < found[0].items()
    (table,) = (tmp_path / "runs/ground-truth").glob("*/table.parquet")
    assert Table.load(table).seeds(str(data), "test").shape == (5, 2)


def test_spaces_counts_what_the_paper_prints(forks: Any, tmp_path: Path) -> None:
    """Table 1 and the published number of classes, at the paper's size."""
    done = study(forks, "spaces", "--space", "nb201", cwd=tmp_path)
    assert done.code == 0, done.err
    results, rows = opened(tmp_path / "runs/study-spaces", "spaces")
    row = results["results"]["nb201"]
    assert (row["size"], row["counted"], row["classes"], row["functions"]) == (15_284, 15_284, 6_461, 5_476)
    space = load_space("nb201")
    counts = [space.parameters(arch, space.recipes["paper"]) for arch in space]
    assert row["parameters"] == [float(q) for q in np.quantile(counts, (0, 0.25, 0.5, 0.75, 1))]
    assert float(rows[0]["parameters_max"]) == max(counts)
    found = {verdict["claim"]: verdict["verdict"] for verdict in results["verdicts"]}
    assert found["the space is as large as printed"] == "holds"


def test_capacity_numbers(forks: Any, truth: Path, tmp_path: Path) -> None:
    """Correlations, selections and ceilings are recomputed from the supernets' rows; a second run trains nothing."""
    command = ("--space", "nb201", *TINY, "--seeds", "2", "--factor", "1", "--factor", "2", "--architectures", "14")
    command += ("--table", str(truth))
    done = study(forks, "capacity", *command, cwd=tmp_path)
    assert done.code == 0, done.err
    results, rows = opened(tmp_path / "runs/study-capacity-micro", "capacity")
    table = Table.load(truth)
    dataset = table.datasets[0]
    valid, seeds = table.seeds(dataset, "valid")[:, 0], table.seeds(dataset, "test")
    test = seeds[:, 1:].mean(1)  # the first seed chooses, the others report
    nets = sorted((tmp_path / "runs/supernets").iterdir())
    assert len(nets) == 4  # two factors, two seeds

    scores: dict[tuple[int, int], dict[str, float]] = {}
    for net in nets:
        run = Run.read(net)
        candidates = json.loads((net / "run.json").read_text())["identity"]["candidates"]
        (kind,) = run.kinds()
        found = {arch: record["accuracy"] for arch, record in run.records(kind).items()}
        assert candidates is not None  # the table has 44 of the architectures, so both factors are sub-spaces
        factor = {44: 1, 22: 2}[int(candidates.split()[0])]
        scores[factor, run.identity["seed"]] = found
    best = {table.archs[i] for i in np.argsort(-valid)[:22]}
    assert set(scores[2, 0]) <= best
    assert not set(scores[1, 0]) <= best

    for row in results["results"]["nb201"]:
        factor = row["factor"]
        archs = list(scores[factor, 0])
        assert len(archs) == row["evaluated"] == 14
        index = [table.row[arch] for arch in archs]
        expected = []
        for seed in (0, 1):
            assert set(scores[factor, seed]) == set(archs)
            expected.append(stats.spearmanr([scores[factor, seed][arch] for arch in archs], test[index]).statistic)
        assert row["correlation_seeds"] == pytest.approx(expected)
        assert row["correlation"] == pytest.approx(np.mean(expected))
        assert -1 <= row["correlation_low"] < row["correlation"] < row["correlation_high"] <= 1
        assert row["best"] == pytest.approx(test[index].max())
        for top in row["top_seeds"]:
            assert top in [pytest.approx(x) for x in test[index]]
        assert min(test[index]) <= row["random_top"] <= max(test[index])
        assert row["architectures"] == {1: 44, 2: 22}[factor]
        assert row["reporting_seeds"] == 2
        agreements = []
        for chooser, i, j in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
            chosen = np.argsort(-table.seeds(dataset, "valid")[:, chooser])[: row["architectures"]]
            agreements.append(stats.spearmanr(seeds[chosen, i], seeds[chosen, j]).statistic)
        r = np.mean(agreements)
        assert row["truth_agreement"] == pytest.approx(r)
        assert row["ceiling"] == pytest.approx((2 * r / (1 + r)) ** 0.5)
    whole = results["results"]["nb201"][0]
    assert whole["any_judge"] == pytest.approx(whole["correlation"], abs=0.01)  # nothing is chosen at 1x
    assert [(int(row["factor"]), int(row["seed"])) for row in rows] == [(1, 0), (1, 1), (2, 0), (2, 1)]

    stamps = {net.name: (net / "checkpoint.pt").stat().st_mtime_ns for net in nets}
    first = without_command(tmp_path / "runs/study-capacity-micro/results.json")
    again = study(forks, "capacity", *command, cwd=tmp_path)
    assert again.code == 0, again.err
    assert without_command(tmp_path / "runs/study-capacity-micro/results.json") == first
    assert {net.name: (net / "checkpoint.pt").stat().st_mtime_ns for net in nets} == stamps
    for net in nets:
        (net / "checkpoint.pt").rename(net / "aside")
    recorded = study(forks, "capacity", *command, cwd=tmp_path)  # the rows are enough
    assert recorded.code == 0, recorded.err
    assert without_command(tmp_path / "runs/study-capacity-micro/results.json") == first
    for net in nets:
        assert not (net / "checkpoint.pt").exists()
        (net / "aside").rename(net / "checkpoint.pt")
    anew = study(forks, "capacity", *command, "--fresh", cwd=tmp_path)
    assert anew.code == 0, anew.err
    assert without_command(tmp_path / "runs/study-capacity-micro/results.json") == first  # same seeds, same numbers
    assert all((net / "checkpoint.pt").stat().st_mtime_ns != stamps[net.name] for net in nets)


def test_only_architectures_without_any_training_are_worth_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most of nb201's shipped table has trainings of two epochs only, which is no news; two of another have none."""
    space = load_space("nb201")
    recipe, shipped = space.recipes["micro"], load_ground_truth(space)
    asked: Any = SimpleNamespace(truth=None, table=None)
    truth = ground_truth_of(space, asked, recipe)
    assert len(truth.archs) == shipped.have_results().sum() == len(shipped) - truth.left_out
    assert capsys.readouterr().out == ""
    few = shipped.take(np.array([0, 1, 2, 15_000, 15_001]))
    for values in few.columns.values():
        values[[1, 3]] = np.nan
    few.save(tmp_path / "few.parquet")
    asked.table = tmp_path / "few.parquet"
    truth = ground_truth_of(space, asked, recipe)
    assert (len(truth.archs), truth.left_out) == (2, 3)
    assert capsys.readouterr().out == "nb201: 2 of 5 architectures have no result (failed or not trained)\n"


def test_a_training_of_the_ground_truth_is_counted_on_its_own_data() -> None:
    """Also where supernets train on other data: 10 epochs of 6,000 digits are 460 batches of 128, not 4,680."""
    space = load_space("nb201")
    recipe = space.recipes["desk"].on("more-digits")
    truth = ground_truth_of(space, SimpleNamespace(truth="digits", table=None), recipe)  # type: ignore[arg-type]
    sample = SpaceSample(space, recipe, truth, truth.archs[:5], *truth.means(truth.archs[:5]), np.ones(5))
    assert truth.epochs == 10
    assert trained_with(sample, SimpleNamespace(), 10)[1] == 460 * 128  # type: ignore[arg-type]


def test_means_of_other_networks_are_not_compared() -> None:
    """Published accuracies are those of 16 channels and 5 cells a stage; the shipped ones of the micro recipe's."""
    space = load_space("nb201")
    recipe = space.recipes["desk"]
    truth = ground_truth_of(space, SimpleNamespace(truth="digits", table=None), recipe)  # type: ignore[arg-type]
    sample = SpaceSample(space, recipe, truth, truth.archs[:5], *truth.means(truth.archs[:5]), np.ones(5))
    assert same_networks(sample)
    plain = change_recipe(recipe, **{"standalone.average_last": 0}).standalone_identity()  # it recalibrates nothing
    table = dataclasses.replace(truth.table, about={"epochs": "10", "source": TRAINED, "recipe": json.dumps(plain)})
    uncalibrated = dataclasses.replace(truth, table=table)
    assert same_networks(dataclasses.replace(sample, truth=uncalibrated))
    assert not same_networks(dataclasses.replace(sample, recipe=change_recipe(recipe, channels=4)))
    official = dataclasses.replace(truth, table=dataclasses.replace(truth.table, about={}), dataset="cifar10")
    assert not same_networks(dataclasses.replace(sample, truth=official))
    of_paper = space.recipes["paper"].on("cifar10")
    assert same_networks(dataclasses.replace(sample, truth=official, recipe=of_paper))


@pytest.mark.parametrize(("cost", "asked"), [(8.0, False), (16.8, True), (21.0, True), (21.5, False)])
def test_what_costs_much_less_is_no_comparison(cost: float, asked: bool) -> None:
    noise, truth = numpy_rng(16), np.arange(60.0)
    code = runpy.run_path(str(STUDIES / "worth.py"))
    kinds = {code["UNIFORM"]: (3, 21.0), code["SHORT"]: (2, cost)}
    judges = []
    for kind, (count, price) in kinds.items():
        scores = truth + 20 * noise.standard_normal((count, 60))
        judges.append(code["Judge"](kind, kind, None, price, None, scores, ranking(scores, truth, truth, K)))
    claims = [one.claim for one in code["verdicts_of"](SimpleNamespace(name="nb201", test=truth), judges)]
    assert claims == ["a supernet ranks better than short trainings of its cost"] * asked


def test_worth_numbers(forks: Any, truth: Path, tmp_path: Path) -> None:
    """Costs are counted anew from the paths that were drawn, correlations from the table and the supernets' rows."""
    table, space = Table.load(truth), load_space("nb201")
    dataset, rng = table.datasets[0], np.random.default_rng(1)
    score = table.mean(dataset, "test")
    short = {Column(dataset, "valid", 3, seed): score + rng.normal(0, 5, len(table)) for seed in range(2)}
    short |= {Column(dataset, "test", 3, seed): score for seed in range(2)}
    for half in (4, 5):  # half-way through trainings of 8 and 11 epochs: no judge
        short[Column(dataset, "valid", half, 0)] = score
    fewer = change_recipe(space.recipes["micro"], channels=2, train_size=256, **{"standalone.epochs": 3})
    about = {**table.about, "3 epochs": json.dumps({"recipe": json.dumps(fewer.standalone_identity())})}
    dataclasses.replace(table, columns={**table.columns, **short}, about=about).save(tmp_path / "truth.parquet")
    command = ("--space", "nb201", *TINY, "--epochs", "8", "--seeds", "2", "--architectures", "16", "--budgets", "2")
    command += ("--images", "16", "--paths", "fair", "--table", "truth.parquet", "--short", "1", "--short", "1")
    done = study(forks, "worth", *command, cwd=tmp_path)
    assert done.code == 0, done.err
    results, rows = opened(tmp_path / "runs/study-worth-micro", "worth")
    found = results["results"]["nb201"]
    by_label = {row["label"]: row for row in found["rows"]}
    assert len(by_label) == len(found["rows"])
    assert [float(row["cost"]) for row in rows] == pytest.approx([row["cost"] for row in found["rows"]])

    recipe = change_recipe(space.recipes["micro"], channels=2, train_size=640)
    nets = [Run.read(path) for path in (tmp_path / "runs/supernets").iterdir() if (path / "checkpoint.pt").exists()]
    scored: dict[tuple[str, int], dict[int, dict[str, float]]] = {}
    for net in nets:
        (kind,) = net.kinds()
        key = (net.identity["paths"], net.metrics()[-1]["epoch"])
        of_seed = {arch: record["accuracy"] for arch, record in net.records(kind).items()}
        scored.setdefault(key, {})[net.identity["seed"]] = of_seed
    assert set(scored) == {("uniform", 4), ("uniform", 8), ("fair", 1), ("fair", 2)}
    archs = list(scored["uniform", 8][0])
    macs = np.array([space.macs(space.decode(arch), recipe) for arch in archs])
    test = table.select(archs).mean(dataset, "test")
    training = 3 * macs.mean() * 640 * 8
    assert found["training"]["total"] == pytest.approx(training)
    for (paths, epochs), of_seeds in scored.items():
        row = by_label[f"{paths}, {counted(epochs, 'epoch')}"]
        drawn = [
            sum(
                space.macs(arch, recipe)
                for arch, _ in path_samplers.parse(paths)(space, numpy_rng(seed, "paths", step))
            )
            for seed in (0, 1)
            for step in range(5 * epochs)
        ]
        scoring = macs.sum() * (2000 + 200)  # calibration and validation images
        assert row["cost"] == pytest.approx((3 * 128 * sum(drawn) / 2 + scoring) / training)
        assert row["seconds"] > 0
        correlations = [stats.spearmanr([of_seeds[seed][arch] for arch in archs], test).statistic for seed in (0, 1)]
        assert row["correlation_seeds"] == pytest.approx(correlations)

    sizes = [space.parameters(space.decode(arch), recipe) for arch in archs]
    assert by_label["parameters"]["correlation"] == pytest.approx(stats.spearmanr(sizes, test).statistic)
    assert by_label["parameters"]["cost"] == 0
    together = [
        stats.spearmanr(
            stats.rankdata([scored["uniform", 8][seed][arch] for arch in archs]) + stats.rankdata(sizes), test
        ).statistic
        for seed in (0, 1)
    ]
    assert by_label["uniform, 8 epochs, and size"]["correlation_seeds"] == pytest.approx(together)

    naswot = proxy_scores(space, archs, recipe, "naswot", images=16, seed=1, device="cpu")
    row = by_label["NASWOT"]
    assert row["correlation_seeds"][1] == pytest.approx(stats.spearmanr(list(naswot.values()), test).statistic)
    assert row["cost"] == pytest.approx(macs.sum() * 16 / training)
    assert by_label["SynFlow"]["cost"] == pytest.approx(macs.sum() * 3 / training)

    labels = [row["label"] for row in found["rows"] if row["kind"] == "short trainings"]
    assert labels == ["1 epoch, trained here", "3 of 8 epochs"]
    row = by_label[labels[0]]
    (trained,) = (tmp_path / "runs/supernets").glob("nb201-alone-*")
    trainings = Run.read(trained).records("training").items()
    valid = {(one["arch"], int(key.rpartition("@")[2])): one["valid"] for key, one in trainings}
    fresh = sorted({seed for _, seed in valid})
    assert len(fresh) == 2
    assert not {column.seed for column in table.columns} & set(fresh)  # other luck than the ground truth's
    keys = {space.training_key(space.decode(arch)): arch for arch, _ in valid}  # equal functions are trained once
    judged = [[valid[keys[space.training_key(space.decode(arch))], seed] for arch in archs] for seed in fresh]
    assert row["correlation_seeds"] == pytest.approx([stats.spearmanr(one, test).statistic for one in judged])
    assert row["cost"] == pytest.approx(16 / 8)
    row = by_label["3 of 8 epochs"]
    judged = [short[Column(dataset, "valid", 3, seed)][[table.row[arch] for arch in archs]] for seed in (0, 1)]
    assert row["correlation_seeds"] == pytest.approx([stats.spearmanr(one, test).statistic for one in judged], abs=1e-6)
    assert row["cost"] == pytest.approx(16 * 3 / 8 * 256 / 640)  # they saw fewer images
    counts = [row["setting"] for row in found["rows"] if row["kind"] == "predictor"]
    assert counts == [10, 20]  # of 44, without a part of the 16
    assert found["exchange"]["sentence"] in done.out
    assert found["exchange"]["scoring"] == pytest.approx(macs.sum() * (2000 + 200) / training)
    assert found["exchange"]["rates"].keys() == {"predictor", "short trainings"}


def test_worth_exchange_rates() -> None:
    """Between two settings: by a straight line over the logarithm."""
    equal = runpy.run_path(str(STUDIES / "worth.py"))["equal_setting"]
    judges = [
        SimpleNamespace(setting=setting, ranking=SimpleNamespace(correlation=reached))
        for setting, reached in ((10, 0.2), (40, 0.6), (50, 0.5), (100, 0.7))
    ]
    epochs = [SimpleNamespace(setting=n, ranking=SimpleNamespace(correlation=n / 10)) for n in (1, 2)]
    assert equal(epochs, 0.15) == "1.4"
    assert equal(judges, 0.1) == "at most 10"
    assert equal(judges, 0.4) == "20"
    assert equal(judges, 0.6) == "40"
    assert equal(judges, 0.65) == "84"  # 50 * 2^(0.15 / 0.2)
    assert equal(judges, 0.71) == "more than 100"


def test_operators_architectures(forks: Any, truth: Path, tmp_path: Path) -> None:
    """Each scored architecture has the supernets' scores, the table's results, its decisions and its graph."""
    command = ("--space", "nb201", *TINY, "--seeds", "2", "--architectures", "30", "--table", str(truth))
    done = study(forks, "operators", *command, cwd=tmp_path)
    assert done.code == 0, done.err
    results, rows = opened(tmp_path / "runs/study-operators-micro", "operators")
    found = results["results"]["nb201"]
    assert found["metric"] == "accuracy"
    assert len(found["choices"]) == len(rows)
    records = {}
    for net in (tmp_path / "runs/supernets").iterdir():
        run = Run.read(net)
        (kind,) = run.kinds()
        records[run.identity["seed"]] = {arch: record["accuracy"] for arch, record in run.records(kind).items()}
    table, space = Table.load(truth), load_space("nb201")
    archs = [one["arch"] for one in found["architectures"]]
    assert len(set(archs)) == 30
    for one in found["architectures"]:
        arch = space.decode(one["arch"])
        assert one["supernet_seeds"] == pytest.approx([records[seed][one["arch"]] for seed in (0, 1)])
        assert one["supernet"] == pytest.approx(np.mean(one["supernet_seeds"]))
        for split in ("valid", "test"):
            assert one[split] == pytest.approx(table.mean(table.datasets[0], split)[table.row[one["arch"]]])
        network = space.network(arch, change_recipe(space.recipes["micro"], channels=2))
        assert one["parameters"] == sum(p.numel() for p in network.parameters())
        assert list(one["decisions"].items()) == list(space.decisions(arch).items())
        assert one["cell_graph"] == {name: [*map(list, edges)] for name, edges in space.cell_graph(arch).items()}
    for row in found["choices"]:
        made = [one for one in found["architectures"] if one["decisions"][row["decision"]] == row["choice"]]
        assert row["architectures"] == len(made) >= 8


def test_perplexities_are_written_as_measured() -> None:
    """Studies flip the sign to rank; results.json has the measured values."""
    if "darts_rnn" not in installed_spaces():
        pytest.skip("needs the space darts_rnn")
    space = load_space("darts_rnn")
    archs = tuple(space.sample(np.random.default_rng(seed)) for seed in range(2))
    truth: Any = None
    low, high = np.array([-41.0, -42.0]), np.array([-39.0, -38.0])
    sample = SpaceSample(space, space.recipes["micro"], truth, archs, low, high, np.array([7.0, 7.0]))
    scored = runpy.run_path(str(STUDIES / "operators.py"))["scored_architectures"](
        sample, [space.decisions(arch) for arch in archs], np.array([[-60.0, -80.0], [-70.0, -np.inf]])
    )
    first, second = json.loads(json.dumps(to_jsonable(scored)))
    assert (first["supernet"], first["valid"], first["test"], first["parameters"]) == (65.0, 41.0, 39.0, 7)
    assert first["supernet_seeds"] == [60.0, 70.0]
    assert (second["supernet"], second["supernet_seeds"]) == (None, [80.0, None])  # overflowed


def test_settings_name_a_data_set_without_the_folder_it_lies_in(tmp_path: Path) -> None:
    space, archs, one = load_space("nb201"), (), np.ones(0)
    table = Table("nb201", (), {}, about={"status": "2 ok"})
    truth = GroundTruth(table, archs, str(tmp_path / "cifar100.npz"), 200, one, one, 0)
    files = {"dataset": str(tmp_path / "cifar10.npz"), "split_file": str(tmp_path / "split.json")}
    recipe = dataclasses.replace(space.recipes["micro"], **files)
    settings = SpaceSample(space, recipe, truth, archs, one, one, one).settings()
    assert [settings[name] for name in ("dataset", "truth", "split_file")] == [
        "cifar10.npz",
        "cifar100.npz",
        "split.json",
    ]
    assert str(tmp_path) not in json.dumps(settings)


def test_convergence_writes_the_mean_that_its_verdicts_compare() -> None:
    """Every supernet counts as one, however many of its scores overflowed."""
    code, test = runpy.run_path(str(STUDIES / "convergence.py")), np.arange(6.0)
    scores = np.array([[-60.0, -50, -40, -70, -30, -50], [-90.0, -80, *[-np.inf] * 4]])
    budget = code["budget_of"](SimpleNamespace(test=test), 4, scores)
    assert (budget.mean_seeds, budget.mean, budget.not_finite) == ([-50, -85], -67.5, 4)
    means = {epochs: code["mean_score"](scores - epochs) for epochs in (0, 1)}
    verdict, _ = code["verdicts_of"]("nb201", means, code["mean_score"](test))
    assert verdict.numbers["mean of the shortest"] == pytest.approx(-budget.mean)
    (alone,) = code["verdicts_of"]("nb201", {4: means[0]}, code["mean_score"](test))
    assert alone.claim == "the mean supernet performance surpasses the mean ground truth"
    (of_supernets,) = code["verdicts_of"]("nb201", means, None)  # the ground truth is of other networks
    assert of_supernets.claim == "extended training raises the mean supernet performance throughout"


@pytest.mark.parametrize(
    ("means", "verdict"),
    [((10, 40, 60, 70), "holds"), ((10, 40, 41, 70), "inconclusive"), ((10, 60, 40, 70), "does not hold")],
)
def test_a_mean_rises_throughout_if_every_step_does(means: Sequence[float], verdict: str) -> None:
    """Three supernets a budget, whose means spread by 2."""
    code, noise = runpy.run_path(str(STUDIES / "convergence.py")), numpy_rng(12)
    found = {2**i: mean + np.array([[-2], [0], [2]]) + noise.random((3, 50)) for i, mean in enumerate(means)}
    by_epochs = {epochs: code["mean_score"](scores) for epochs, scores in found.items()}
    throughout, _ = code["verdicts_of"]("nb201", by_epochs, code["mean_score"](np.zeros(50)))
    assert throughout.verdict == verdict


def test_supernets_that_have_hardly_trained_do_not_decide_whether_supernets_agree() -> None:
    code, noise = runpy.run_path(str(STUDIES / "consistency.py")), numpy_rng(13)
    truth, shared = noise.standard_normal((2, 100))
    longest = np.array([[truth + 2 * shared + 0.5 * noise.standard_normal(100) for _ in range(3)] for _ in range(2)])
    short = noise.standard_normal((5, 3, 100))
    once = SimpleNamespace(seeds=lambda archs: truth[:, None])  # of one training each no noise is known
    sample = SimpleNamespace(name="nb201", test=truth, parameters=np.ones(100), truth=once, archs=())
    (alone,), (among,) = (code["verdicts_of"](sample, one) for one in (longest, np.concatenate([short, longest])))
    assert alone.verdict == among.verdict == "holds"
    assert alone.numbers == among.numbers


def test_noise_of_the_ground_truth_is_no_disagreement_with_it() -> None:
    """Supernets score quality with noise of their own, size is nothing but a good guess at quality."""
    code, noise = runpy.run_path(str(STUDIES / "consistency.py")), numpy_rng(17)
    quality, n = noise.standard_normal(500), 500
    seeds = quality[:, None] + 1.2 * noise.standard_normal((n, 2))
    supernets = quality + 0.4 * noise.standard_normal((2, 3, n))
    size = quality + 0.5 * noise.standard_normal(n)

    def found(trainings: Any) -> list[str]:
        truth = SimpleNamespace(seeds=lambda archs: trainings)
        sample = SimpleNamespace(name="nb201", test=seeds.mean(1), parameters=size, truth=truth, archs=())
        return [one.verdict for one in code["verdicts_of"](sample, supernets) if "ranks better" not in one.claim]

    assert found(seeds[:, :1]) == ["holds", "holds"]  # as if the ground truth had no noise
    assert "holds" not in found(seeds)


def test_all_of_a_perplexity_ground_truth_is_higher_is_better(tmp_path: Path) -> None:
    """Seeds as means; and the ceiling of a pruned space is that of its best, which agree here, not of its worst."""
    if "darts_rnn" not in installed_spaces():
        pytest.skip("needs the space darts_rnn")
    space, rng = load_space("darts_rnn"), np.random.default_rng(0)
    dataset, archs = space.recipes["micro"].dataset, sample_distinct(space, 200, rng)
    quality = np.linspace(40, 60, 200)  # perplexity: the first are best
    noise = np.where(np.arange(200) < 100, 0.1, 20.0)
    columns = {
        Column(dataset, split, 8, seed): quality + noise * rng.random(200)
        for split in ("valid", "test")
        for seed in range(3)
    }
    Table("darts_rnn", tuple(map(space.encode, archs)), columns).save(tmp_path / "truth.parquet")
    table = str(tmp_path / "truth.parquet")
    options = StudyOptions("capacity", "micro", (), (0,), None, table, None, True, Executor(), tmp_path, {})
    truth = ground_truth_of(space, options, space.recipes["micro"])
    stored = np.stack([columns[Column(dataset, "test", 8, seed)] for seed in range(3)], axis=1)
    np.testing.assert_allclose(truth.seeds(), -stored, rtol=1e-6)
    np.testing.assert_allclose(truth.seeds(truth.archs[:5]), -stored[:5], rtol=1e-6)
    np.testing.assert_allclose(truth.test, truth.seeds().mean(1))
    assert (truth.valid < 0).all()
    best = Pruning.of(truth).ceiling(4, 2)
    assert best is not None
    assert best.agreement > 0.99


def ground_truth(table: Table, tmp_path: Path) -> GroundTruth:
    """As a study reads it from a file."""
    table.save(tmp_path / "truth.parquet")
    options = StudyOptions(
        "capacity", "micro", (), (0,), None, str(tmp_path / "truth.parquet"), None, True, Executor(), tmp_path, {}
    )
    space = load_space("nb201")
    return ground_truth_of(space, options, space.recipes["micro"])


def test_a_sample_larger_than_the_ground_truth_is_said(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wanted, said in (
        (45, "nb201: all 44 architectures with a ground truth are scored, which are fewer than --architectures 45\n"),
        (44, ""),
    ):
        options = StudyOptions(
            "epochs", "micro", ("nb201",), (0,), wanted, str(truth), None, True, Executor(), tmp_path, {}
        )
        (sample,) = space_samples(options, 100)
        assert len(sample.archs) == 44
        assert capsys.readouterr().out == said


def test_other_seeds_report_where_they_were_trained(truth: Path, tmp_path: Path) -> None:
    """Seed 0 of all, the others of its best ten: these ten are judged by the others, the whole by seed 0 alone."""
    table = Table.load(truth)
    dataset = table.datasets[0]
    first = table.columns[Column(dataset, "valid", 8, 0)]
    rest = np.argsort(-first)[10:]
    columns = {column: values.copy() for column, values in table.columns.items()}
    for column, values in columns.items():
        if column.seed:
            values[rest] = np.nan
    columns[Column(dataset, "valid", 8, 0)][3] = np.nan  # a training that failed
    found = ground_truth(dataclasses.replace(table, columns=columns), tmp_path)
    pruning = Pruning.of(found)
    test = table.seeds(dataset, "test")

    best = pruning.best(4)
    expected = [row for row in np.argsort(-first) if row != 3][:11]  # of the 43 that seed 0 knows
    rows = [table.row[load_space("nb201").encode(arch)] for arch in best]
    assert rows == expected
    by_others = pruning.reported(best[:9])
    assert by_others.seeds == 2
    np.testing.assert_allclose(by_others.test, test[rows[:9], 1:].mean(1), rtol=1e-6)
    np.testing.assert_allclose(by_others.valid, first[rows[:9]], rtol=1e-6)
    whole = pruning.reported(found.archs)
    assert whole.seeds == 0
    assert len(whole.archs) == 43
    kept = [table.row[load_space("nb201").encode(arch)] for arch in whole.archs]
    np.testing.assert_allclose(whole.test, test[kept, 0], rtol=1e-6)
    assert pruning.ceiling(1, whole.seeds) is None
    assert pruning.any_judge(0.5, 4, 2) is None  # the whole was not trained twice
    # nor are the ten ranked by the mean of three among others by one
    assert found.seeds().shape == (43, 1)
    np.testing.assert_allclose(found.seeds(best[:9]), test[rows[:9]], rtol=1e-6)
    np.testing.assert_allclose(found.means(best[:9])[1], test[rows[:9]].mean(1), rtol=1e-6)


def test_a_published_mean_chooses_and_reports(truth: Path, tmp_path: Path) -> None:
    """It says so with 0 seeds; what any judge would come to is told by trainings on another data set."""
    table = Table.load(truth)
    dataset = table.datasets[0]
    means = {Column(dataset, split, 8, None): table.mean(dataset, split) for split in ("valid", "test")}
    pruning = Pruning.of(ground_truth(dataclasses.replace(table, columns=means), tmp_path))
    found = pruning.reported(pruning.best(2))
    assert found.seeds == 0
    np.testing.assert_allclose(
        found.test, table.mean(dataset, "test")[np.argsort(-means[Column(dataset, "valid", 8, None)])[:22]], rtol=1e-6
    )
    assert pruning.ceiling(2, found.seeds) is None
    assert pruning.any_judge(0.5, 2, found.seeds) is None
    elsewhere = {
        Column("another", "test", 8, None): np.random.default_rng(0).permutation(
            means[Column(dataset, "test", 8, None)]
        )
    }
    pruning = Pruning.of(ground_truth(dataclasses.replace(table, columns={**means, **elsewhere}), tmp_path))
    unrelated = pruning.any_judge(0.5, 2, 0)
    assert unrelated is not None
    assert abs(unrelated) < 0.4


def test_studies_rank_by_the_tables_training_length(truth: Path, tmp_path: Path) -> None:
    """Trainings of twice the epochs, of a few architectures, only test whether that length is sufficient."""
    table = Table.load(truth)
    few = np.where(np.arange(44) < 12, 50.0, np.nan)
    longer = {Column(table.datasets[0], split, 16, 0): few for split in ("valid", "test")}
    about = {**table.about, "epochs": "8"}
    found = ground_truth(dataclasses.replace(table, columns={**table.columns, **longer}, about=about), tmp_path)
    assert (found.epochs, len(found.archs), found.left_out) == (8, 44, 0)


def test_capacity_with_nothing_left(forks: Any, truth: Path, tmp_path: Path) -> None:
    """44 architectures pruned by 30 leave one, which is reported in one sentence."""
    command = ("--space", "nb201", *TINY, "--factor", "30", "--table", str(truth))
    done = study(forks, "capacity", *command, cwd=tmp_path)
    assert done.code == 2, (done.out, done.err)
    assert "Traceback" not in done.err
    assert done.err.startswith("Error: ")
    assert "30x" in done.out + done.err


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("epochs", ("--truth", "cifra10"), "the table of nb201 has no data set 'cifra10', only digits"),
        ("density", ("--architectures", "9"), "--architectures 9 is too few for this study: give at least 12"),
        ("operators", ("--architectures", "23"), "--architectures 23 is too few for this study: give at least 24"),
        ("scoring", ("--calibration-batch", "0"), "this study recalibrates: give --calibration-batch and "),
        ("scoring", ("--calibration-steps", "0"), "this study recalibrates: give --calibration-batch and "),
        ("scoring", ("--train-size", "640", "--steps", "3"), "tuned for 3 steps, 640 images: this takes 750 training "),
        ("operators", ("--decision", "edge 0-9"), "--decision 'edge 0-9': nb201 has edge 0-1, edge 0-2, edge 1-2, "),
    ],
)
def test_a_mistake_is_reported_before_anything_is_trained(
    forks: Any, truth: Path, tmp_path: Path, name: str, options: tuple[str, ...], said: str
) -> None:
    done = study(forks, name, "--space", "nb201", "--table", str(truth), *options, cwd=tmp_path)
    assert done.code == 2, (done.out, done.err)
    assert done.err.startswith(f"Error: {said}")
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spaces", ("--scale", "micro")),
        ("spaces", ("--channels", "2")),
        ("spaces", ("--epochs", "2")),
        ("spaces", ("--seeds", "2")),
        ("spaces", ("--workers", "0")),
        ("standalone", ("--table", "truth.parquet")),
        ("standalone", ("--truth", "digits")),
        ("standalone", ("--valid-size", "100")),
        ("epochs", ("--max-macs", "1000000")),
        ("epochs", ("--standalone.epochs", "2")),
    ],
)
def test_an_option_without_effect_cannot_be_given(
    forks: Any, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    done = study(forks, name, "--space", "nb201", *options, cwd=tmp_path)
    assert done.code == 2, (done.out, done.err)
    assert re.search(rf"[Nn]o such option:? '?{options[0]}\b", done.err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("nb201", "paper", {"on cifar10": ("cifar10", 4), "on imagenet16-120": ("imagenet16-120", 2)}),
        ("nb201", "micro", {"on faint-digits": ("faint-digits", 0)}),
        ("nb101", "paper", {}),
    ],
)
def test_tricks_trains_on_table_3s_other_data_sets(name: str, scale: str, expected: dict[str, tuple[str, int]]) -> None:
    """Its last two rows: CIFAR-10 and ImageNet-16-120, of NAS-Bench-201 only. Nothing but data set and crop differs."""
    if name not in installed_spaces():
        pytest.skip(f"needs the space {name}")
    space = load_space(name)
    sample: Any = SimpleNamespace(space=space, recipe=space.recipes[scale])
    baseline, *rows = runpy.run_path(str(STUDIES / "tricks.py"))["variants"](sample, 3, scale, None)
    found = {row.label: row for row in rows if row.label.startswith("on ")}
    assert {label: (row.recipe.dataset, row.recipe.supernet.inputs.crop) for label, row in found.items()} == expected
    for row in found.values():
        assert (row.seeds, row.paths) == (baseline.seeds, baseline.paths)
        back = change_recipe(row.recipe, dataset=baseline.recipe.dataset, crop=baseline.recipe.supernet.inputs.crop)
        assert back.supernet == baseline.recipe.supernet


@pytest.mark.parametrize("scale", ["micro", "desk", "paper"])
def test_multi_path_is_compared_with_a_baseline_of_as_many_paths(scale: str) -> None:
    """Where the baseline is shorter than the recipe: of nb201 at desk 50 epochs of four paths, and 200 of one."""
    space = load_space("nb201")
    sample: Any = SimpleNamespace(space=space, recipe=space.recipes[scale])
    baseline, *rows = runpy.run_path(str(STUDIES / "tricks.py"))["variants"](sample, 3, scale, None)
    (multi,) = [row for row in rows if row.paths.startswith("multi:")]
    longer = [row.recipe.supernet.epochs for row in rows if "epochs, not" in row.label]
    paths = int(multi.paths.removeprefix("multi:")) * multi.recipe.supernet.epochs
    assert longer == {"micro": [20], "desk": [100, 200], "paper": []}[scale]
    assert longer[-1:] in ([paths], [])
    assert [change_recipe(row.recipe, epochs=baseline.recipe.supernet.epochs) for row in rows[: len(longer)]] == [
        baseline.recipe
    ] * len(longer)


def test_figures_need_no_colour() -> None:
    """Better, worse and within noise have a marker each in tricks, and so has every kind of judge in worth."""
    tricks = runpy.run_path(str(STUDIES / "tricks.py"))

    def row(label: str, difference: float | None, beyond: bool = False) -> Any:
        ends = {f"{top}difference{end}": difference for top in ("", "top_") for end in ("", "_low", "_high")}
        change = None if difference is None else SimpleNamespace(**ends, beyond_seeds=beyond, top_beyond_seeds=beyond)
        return SimpleNamespace(label=label, corr_baseline=0.5, corr_truth=0.5, top10=80.0, change=change)

    rows = [row("baseline", None), row("same", 0.1), row("better", 0.2, True), row("worse", -0.2, True)]
    sample = SimpleNamespace(title="nb201", space=SimpleNamespace(metric="accuracy"))
    table = SimpleNamespace(sample=sample, rows=rows, seed_noise=0.1, top_noise=0.1)
    for axes in tricks["tricks_figure"]([table], "note").axes[:2]:
        drawn = {tuple(line.get_ydata()): line.get_marker() for line in axes.lines if line.get_marker() != "None"}
        assert [drawn[3 - i,] for i in range(4)] == ["o", ".", ">", "<"]
    looks = runpy.run_path(str(STUDIES / "worth.py"))["LOOKS"].values()
    assert len({marker for _, marker, _ in looks}) == len(looks)


def test_captions_begin_with_the_question(tmp_path: Path) -> None:
    """Of every figure; an SVG has it as text, and is the same file each time."""
    import matplotlib.pyplot as plt

    question, captions = "Do supernets whose training was longer rank better than those of short ones?", []
    for folder in ("one", "two"):
        figures = [plt.figure(figsize=(4, 3), layout="constrained") for _ in range(2)]
        for figure, said in zip(figures, ("Three supernets.", ""), strict=True):
            figure.subplots().plot([1, 2], gid="line")
            if said:
                caption(figure, said)
            plt.close(figure)
        write_results(
            "epochs",
            tmp_path / folder,
            settings={},
            rows=[{"a": 1}],
            verdicts=[],
            results={},
            figure=figures[0],
            more={"matrix": figures[1]},
            title=question,
            answer=Answer("", "", ""),
            source="",
            svg=True,
        )
        captions = [" ".join(figure.get_supxlabel().split()) for figure in figures]
    assert captions == [f"{question} Three supernets.", question]
    for name in ("epochs.svg", "epochs-matrix.svg", "epochs.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = "".join(ET.parse(tmp_path / "one/epochs-matrix.svg").getroot().itertext())
    assert "rank better than those of" in text


def drawn(settings: list[int], desk: list[int], ticks: list[str], **changed: float) -> Any:
    """Three panels of a study's ``settings``, ``desk`` results behind them; ``changed``: of the rankings in front."""
    numbers = {"correlation": 0.5, "correlation_low": 0.4, "correlation_high": 0.6}
    row = {**numbers, "correlation_seeds": [0.5, 0.6], "parameters_correlation": 0.3, "evaluated": 50}
    row |= {"top_seeds": [70, 71], "random_top": 69, "random_top_low": 66, "random_top_high": 70, "best": 72}
    none = {"ceiling": 0.9, "any_judge": None, "whole_correlation": None, "top1": None, "reporting_seeds": None}
    points: Any = [
        SimpleNamespace(setting=one, tick=tick, ranking=SimpleNamespace(**row | changed), **none)
        for one, tick in zip(settings, ticks, strict=True)
    ]
    sample: Any = SimpleNamespace(name="nb201", title="nb201", space=SimpleNamespace(metric="accuracy"))
    return ranking_figure([(sample, points)] * 3, "x", "note", {"nb201": [{"x": x, **numbers} for x in desk]})


@pytest.mark.parametrize("desk", [[], [20, 40]])
@pytest.mark.parametrize("lowest", ["correlation_low", "parameters_correlation"])
def test_a_figure_shows_its_lowest_correlation(desk: list[int], lowest: str) -> None:
    figure = drawn([5, 10], desk, ["5", "10"], **{lowest: -0.7})
    assert all(upper.get_ylim()[0] < -0.7 for upper in figure.axes[:3])


@pytest.mark.parametrize("near", [{"parameters_correlation": 0.85, "correlation": 0.86}, {"best": 70.3}])
def test_labels_at_the_ends_of_lines_do_not_touch(near: dict[str, float], tmp_path: Path) -> None:
    """Neither when an answer of several lines above the figure has made its axes lower."""
    figure = drawn([5, 10], [], ["5", "10"], **near)
    say_at_the_top(figure, "An answer that takes more than a line. " * 12)
    save_figure(figure, tmp_path / "figure.png")
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text() and text.get_position()[0] == 7]
        heights = sorted((box.y0 + box.y1) / 2 * 72 / figure.dpi for box in boxes)
        assert len(heights) >= 3
        assert all(above - below > 9 for below, above in pairwise(heights))  # points; letters are 8 high


@pytest.mark.parametrize(
    ("settings", "desk"),
    [([5, 10, 20], [12, 21, 50, 100]), ([2**i for i in range(10)], []), ([1], [])],
    ids=["desk", "many", "one"],
)
def test_tick_labels_do_not_touch(settings: list[int], desk: list[int]) -> None:
    """At budgets next to those of the desk scale, and at many factors with the sizes of their sub-spaces."""
    ticks = [str(one) if desk else f"{one}x\n{15284 // one:,}" for one in settings]
    figure = drawn(settings, desk, ticks)
    figure.draw_without_rendering()
    for lower in figure.axes[3:]:
        shown = [label for label in lower.get_xticklabels() if label.get_text()]
        boxes = sorted((label.get_window_extent().x0, label.get_window_extent().x1) for label in shown)
        assert all(left[1] < right[0] for left, right in pairwise(boxes))
        texts = [label.get_text() for label in shown]
        assert texts[0] == ticks[0]
        assert set(texts) <= {*ticks, *(str(one) for one in desk)}
        if desk:
            assert texts == ["5", "10", "20", "50", "100"]
        assert len(texts) >= min(3, len(ticks))


def test_legends_are_off_the_points() -> None:
    """Of operators, scoring and standalone, at the sizes of their figures, and of worth: outside of all axes."""
    for width, height, columns in ((4.5, 5, 3), (6.4, 3.4, 2), (3.5, 3.5, 2)):
        figure, grid = axes_grid(4, width, height)
        for axes in grid:
            for i in range(7):
                axes.plot([0, 1], [i, i + 1], "o", label=f"a choice, {i}")
            axes.set_xlabel("accuracy")
            legend_below(axes, columns, "edge")
        figure.draw_without_rendering()
        inside = [axes.get_window_extent() for axes in grid] + [axes.xaxis.label.get_window_extent() for axes in grid]
        legends = [axes.get_legend() for axes in grid]
        assert all(legend is not None for legend in legends)
        shown = [legend.get_window_extent() for legend in legends if legend is not None]
        assert not any(legend.overlaps(other) for legend in shown for other in inside)
        assert all(legend.x0 >= 0 and legend.y0 >= 0 for legend in shown)
    scripts = {path.stem: path.read_text() for path in STUDIES.glob("*.py")}
    assert not [name for name, script in scripts.items() if 'loc="best"' in script]


def test_one_seed_decides_nothing(forks: Any, truth: Path, tmp_path: Path) -> None:
    """One seed has neither spread nor agreement: "not available", and every verdict is inconclusive."""
    command = ("--space", "nb201", *TINY, "--seeds", "1", "--architectures", "12", "--table", str(truth))
    done = study(forks, "tricks", *command, cwd=tmp_path)
    assert done.code == 0, done.err
    results, _ = opened(tmp_path / "runs/study-tricks-micro", "tricks")
    assert results["results"]["nb201"]["seed_noise"] is None
    assert results["results"]["nb201"]["rows"][0]["corr_baseline"] is None
    assert {verdict["verdict"] for verdict in results["verdicts"]} == {"inconclusive"}


def test_validation_and_test_are_of_one_training_length(truth: Path, tmp_path: Path) -> None:
    """Test results after 200 epochs are useless if validation ended after 12."""
    table = Table.load(truth)
    longer = {Column(table.datasets[0], "test", 200, None): np.zeros(len(table))}
    dataclasses.replace(table, columns={**table.columns, **longer}).save(tmp_path / "longer.parquet")
    space = load_space("nb201")
    options = [
        StudyOptions("epochs", "micro", (), (0,), None, str(path), None, True, Executor(), tmp_path, {})
        for path in (truth, tmp_path / "longer.parquet")
    ]
    one, other = (ground_truth_of(space, each, space.recipes["micro"]) for each in options)
    assert (one.epochs, other.epochs) == (8, 8)
    np.testing.assert_array_equal(one.test, other.test)
    np.testing.assert_array_equal(one.seeds(), other.seeds())


def test_the_recipe_chooses_among_the_training_lengths_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own length if the space's table has it; else the table's, never the longer trainings that only test that one.

    A table that was asked for is taken at its word.
    """
    space = load_space("nb201")
    dataset, archs = "digits", sample_distinct(space, 30, np.random.default_rng(0))
    columns = {
        Column(dataset, split, epochs, seed): np.full(30, float(epochs))
        for split in ("valid", "test")
        for epochs, seeds in ((2, 3), (10, 3), (20, 1))
        for seed in range(seeds)
    }
    for column in list(columns):
        if column.epochs > 2:
            columns[column] = np.where(np.arange(30) < 20, columns[column], np.nan)
    about = {"epochs": "2"}
    Table("nb201", tuple(map(space.encode, archs)), columns, about=about).save(tmp_path / "truth.parquet")
    monkeypatch.setattr(type(space), "tables", {dataset: tmp_path / "truth.parquet"})
    options = StudyOptions("epochs", "micro", (), (0,), None, None, None, True, Executor(), tmp_path, {})
    asked_for = dataclasses.replace(options, table=str(tmp_path / "truth.parquet"))
    for given, epochs, expected, rows in (
        (options, 10, 10, 20),
        (options, 2, 2, 30),
        (options, 7, 2, 30),
        (asked_for, 10, 2, 30),
    ):
        found = ground_truth_of(space, given, with_changes(space.recipes["micro"], {"standalone.epochs": epochs}))
        assert (found.epochs, len(found.table), found.left_out) == (expected, rows, 30 - rows)
        assert set(found.test) == {float(expected)}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_a_space_that_is_not_installed(forks: Any, tmp_path: Path, name: str) -> None:
    """One sentence that names the package to install."""
    done = study(forks, name, "--space", "nb999", cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("Error: no search space 'nb999' is installed")
    assert "pip install ./packages/NAME" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_the_report_shows_every_study(forks: Any, truth: Path, tmp_path: Path) -> None:
    """Figures are inlined, every verdict is on the page, nothing is fetched; without results it is one sentence."""
    done = study(forks, "spaces", "--space", "nb201", "--out", "runs/study-spaces", cwd=tmp_path)
    assert done.code == 0, done.err
    page = forks.wsnas("report", cwd=tmp_path)
    assert page.code == 0, page.err
    assert page.out.startswith("1 study (spaces)")
    html = (tmp_path / "runs/report.html").read_text()
    results, _ = opened(tmp_path / "runs/study-spaces", "spaces")
    assert results["verdicts"]
    for verdict in results["verdicts"]:
        for text in (verdict["claim"], verdict["verdict"], verdict["rule"]):
            assert escape(text) in html
    assert "data:image/png;base64," in html
    assert not re.search(r"(src|href)=[\"'](https?:)?//", html)  # no network
    (tmp_path / "runs/study-spaces/results.json").write_text("{")
    assert forks.wsnas("report", cwd=tmp_path).code == 2
    (tmp_path / "empty").mkdir()
    nothing = forks.wsnas("report", "empty", cwd=tmp_path)
    assert nothing.code == 2
    assert "no study results" in nothing.err


def test_the_report_sets_data_sets_side_by_side(tmp_path: Path) -> None:
    """A claim is one row of verdicts by space and data set, empty where not tested; one section per study.

    Where two scales ask, the desk's verdict is in the row, whichever is read first.
    """
    wanted = {
        "a claim": {
            ("digits", "micro"): "inconclusive",
            ("digits", "desk"): "holds",
            ("cifar10", "micro"): "does not hold",
        },
        "another": {("cifar10", "micro"): "inconclusive", ("cifar10", "desk"): "holds"},
        "a third": {("cifar10", "micro"): "inconclusive"},
    }
    for data, scale in (("digits", "micro"), ("digits", "desk"), ("cifar10", "desk"), ("cifar10", "micro")):
        verdicts = [
            {"claim": claim, "source": "", "space": "nb201", "rule": "r", "measured": "m", "verdict": of[data, scale]}
            for claim, of in wanted.items()
            if (data, scale) in of
        ]
        settings = {"scale": scale, "nb201": {"dataset": f"folder/{data}.npz"}}
        folder = tmp_path / data / scale / "study"
        folder.mkdir(parents=True)
        (folder / "epochs.png").write_bytes(b"")
        written = {"study": "epochs", "settings": settings, "environment": {}, "verdicts": verdicts}
        (folder / "results.json").write_text(json.dumps(written))
    read = ("digits/micro", "digits/desk", "cifar10/desk", "cifar10/micro/study")  # a study, or a folder of some
    write_report([tmp_path / folder for folder in read], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    matrix = html[html.index('<table class="claims">') : html.index("</table>")]
    assert re.findall(r"<span>nb201<br><small>(\w+)</small>", matrix) == ["digits", "cifar10"]
    assert matrix.count("<small>desk</small>") == 2
    rows = re.findall(r'<th scope="row">.*?>([^<]+)</a></th>(.*?)</tr>', matrix, re.DOTALL)
    found = {
        name: [re.findall(r'aria-label="([^"]+)"', cell) for cell in row.split("</td>")[:-1]] for name, row in rows
    }
    assert found == {
        "a claim": [["holds"], ["does not hold"]],
        "another": [[], ["holds"]],
        "a third": [[], ["inconclusive"]],
    }
    assert html.count("<section") == 1
    assert html.count("<figure") == 4


def test_the_report_begins_with_the_answer(tmp_path: Path) -> None:
    """A row a space from the longest budget of the strongest scale, with what ``worth`` found; then decided answers."""
    for scale, correlation, truth_epochs in (("micro", 0.25, 2), ("desk", 0.75, 20)):
        settings = {"scale": scale, "nb101": {"dataset": "digits", "truth": "digits", "truth_epochs": truth_epochs}}
        point = {"epochs": 9, "correlation": correlation, "correlation_low": correlation - 0.125, "evaluated": 60}
        point |= {"correlation_high": correlation + 0.125, "parameters_correlation": 0.5, "ceiling": None}
        answer = "Longer is better on nb101." if scale == "desk" else "Is longer better? Undecided on nb101."
        epochs = {"study": "epochs", "title": "Is longer better?", "answer": answer, "results": {"nb101": [{}, point]}}
        rows = [
            {"kind": "zero-cost score", "label": label, "correlation": c}
            for label, c in (("A", 0.1), (scale, correlation))
        ]
        rows += [{"kind": "supernet", "setting": epochs, "correlation": 0.5} for epochs in (3, 9)]
        exchange = {"sentence": f"a {scale} supernet ranks as well as nine trainings", "cost": 20.96}
        exchange |= {"correlation": {"n": 60}, "with_size": {"value": 0.875, "low": 0.75, "high": 1.0}}
        exchange |= {"rates": {"predictor": {"value": "more than 20", "low": "9", "high": "more than 20"}}}
        worth = {"study": "worth", "results": {"nb101": {"rows": rows, "exchange": exchange}}}
        for stored in (epochs, worth):
            folder = tmp_path / scale / str(stored["study"])
            folder.mkdir(parents=True)
            (folder / f"{stored['study']}.png").write_bytes(b"")
            if stored is worth and scale == "micro":
                settings = {**settings, "scale": "paper"}  # its scores are of the micro ground truth all the same
            written = {**stored, "settings": settings, "environment": {}, "verdicts": []}
            (folder / "results.json").write_text(json.dumps(written))
    write_report([tmp_path / "micro", tmp_path / "desk"], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()

    def headlines(html: str) -> list[list[str]]:
        table = html[html.index('<table class="headline">') : html.index("</table>")].replace("\u00a0", " ")
        return [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in table.split("<tr>")[2:]]

    (found,) = headlines(html)
    assert found[:9] == ["0.75 [0.62, 0.88]", "9", "0.50", "0.75 (desk)", "–", "0.62", "–", "60", "21"]
    assert found[9:] == ["0.88 [0.75, 1.00]", "more than 20 [9, more than 20]"]
    assert html.count("a desk supernet ranks as well as nine trainings") == 1
    answers = html[html.index('<ul class="answers">') : html.index("</ul>")]
    assert re.findall(r"<a [^>]*>(.*?)</a>", answers) == ["Longer is better on nb101."]

    weaker = shutil.copytree(tmp_path / "desk/worth", tmp_path / "weaker/worth") / "results.json"
    weaker.write_text(weaker.read_text().replace('"scale": "desk"', '"scale": "micro"').replace('"desk"', '"weaker"'))
    write_report([tmp_path / "desk", tmp_path / "weaker"], tmp_path / "report.html")  # of the same ground truth
    assert headlines((tmp_path / "report.html").read_text()) == [found]

    other = tmp_path / "desk/worth/results.json"  # of supernets that trained for fewer epochs
    other.write_text(other.read_text().replace('"setting": 9', '"setting": 5'))
    shutil.copytree(tmp_path / "desk/worth", tmp_path / "desk/worth-other")  # of another ground truth
    another = tmp_path / "desk/worth-other/results.json"
    another.write_text(other.read_text().replace('"setting": 5', '"setting": 9').replace('epochs": 20', 'epochs": 2'))
    shutil.copytree(tmp_path / "desk/epochs", tmp_path / "desk/repeated")  # of one scale, all are shown
    write_report([tmp_path / "desk"], tmp_path / "report.html")
    assert [row[-2:] for row in headlines((tmp_path / "report.html").read_text())] == [["–", "–"]] * 2


def test_the_report_says_which_rule_judged_and_which_answer_counts(tmp_path: Path) -> None:
    """Every rule of a claim, with whose it was if there are several; no answer that a stronger scale has, too."""
    for name, scale, rule in (("a", "micro", "the old rule"), ("b", "desk", "the new rule"), ("c", "desk", "new")):
        claim = "a claim" if name != "c" else "another"
        verdict = {"claim": claim, "source": "s", "space": "nb201", "rule": rule, "measured": "m", "verdict": "holds"}
        written = {"study": "epochs", "title": "Is it so?", "answer": f"So says {name}.", "environment": {}}
        data = "digits" if name != "c" else "cifar10"
        written |= {"settings": {"scale": scale, "nb201": {"dataset": data}}, "verdicts": [verdict]}
        (tmp_path / name).mkdir()
        (tmp_path / name / "epochs.png").write_bytes(b"")
        (tmp_path / name / "results.json").write_text(json.dumps(written))
    write_report([tmp_path], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    said = html[html.index("The rule of each verdict") :]
    assert re.findall(r"<strong>(.*?)</strong> \(s\)(.*?).</li>", said) == [
        ("a claim", ", of nb201 on digits, desk: the new rule"),
        ("a claim", ", of nb201 on digits, micro: the old rule"),
        ("another", ": new"),
    ]
    headings = dict(re.findall(r'<h3 id="(.*?)">(.*?)</h3>', html))  # the strongest first, and each can be linked to
    assert [*headings.values()] == ["nb201 on digits, desk", "nb201 on cifar10, desk", "nb201 on digits, micro"]
    answers = html[html.index('<ul class="answers">') : html.index("</ul>")]
    linked = {headings[anchor]: answer for anchor, answer in re.findall(r'<a href="#(.*?)">(.*?)</a>', answers)}
    assert linked == {"nb201 on digits, desk": "So says b.", "nb201 on cifar10, desk": "So says c."}
    cells = html[html.index('<table class="claims">') : html.index("</table>")]
    assert [headings[one] for one in re.findall(r'<td><a href="#(.*?)">', cells)] == [*headings.values()][:2]


def test_the_report_shows_results_of_single_commands(tmp_path: Path) -> None:
    """Their figure and numbers are in the last section, without an invented command."""
    folder = tmp_path / "darts-cifar10"
    folder.mkdir()
    (folder / "rank.png").write_bytes(b"")
    (folder / "results.json").write_text(json.dumps({"results": {"spearman": 0.1875}}))
    assert write_report([folder], tmp_path / "report.html") == []
    html = (tmp_path / "report.html").read_text()
    assert re.search("<h3[^>]*>darts-cifar10</h3>", html)
    assert html.count("<img") == 1
    assert "0.1875" in html
    assert "(the command was not recorded)" in html
    assert "nox -s" not in html


def test_a_sentence_keeps_its_numbers_by_name() -> None:
    numbers = Numbers()
    text = f"{numbers.estimate('change', Interval(0.104, -0.206, 0.414, 9))} at {numbers.say('factor', 8, 'd')}x"
    assert text == "+0.10 [-0.21, +0.41] at 8x"
    assert list(numbers.items()) == [("change", 0.104), ("change, low", -0.206), ("change, high", 0.414), ("factor", 8)]
    with pytest.raises(KeyError):
        numbers.say("factor", 32, "d")


def test_the_report_shows_each_measure_under_its_name(tmp_path: Path) -> None:
    """A number and an interval of its own for each; results without measures, as older ones, have no such table."""
    names = ("kendall", "sparse_kendall", "precision_5", "precision_10", "best_rank", "ndcg", "regret")
    measures = {name: {"value": i + 0.5, "low": i + 0.25, "high": i + 0.75} for i, name in enumerate(names, 1)}
    point = {"factor": 8, "correlation": 0.5, "correlation_low": 0.25, "correlation_high": 0.75}
    for folder, row in (("new", {**point, "measures": measures}), ("old", point)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "capacity.png").write_bytes(b"")
        written = {"study": "capacity", "settings": {"nb201": {"dataset": "digits"}}, "environment": {}, "verdicts": []}
        (tmp_path / folder / "results.json").write_text(json.dumps({**written, "results": {"nb201": [row]}}))
    write_report([tmp_path / "new"], tmp_path / "new.html")
    html = (tmp_path / "new.html").read_text()
    table = html[html.index('<table class="trick rankings">') :]
    headings, cells = (cells_of(row) for row in re.findall(r"(?s)<tr>.*?</tr>", table)[:2])
    assert dict(zip(headings, cells, strict=True)) == {
        "ranked by": "8x",
        "Spearman": "0.500 [0.250, 0.750]",
        "Kendall's tau-b": "1.500 [1.250, 1.750]",
        "sparse tau": "2.500 [2.250, 2.750]",
        "precision, top 5 %": "3.50 [3.25, 3.75]",
        "top 10 %": "4.50 [4.25, 4.75]",
        "best rank of top-10": "5.5 [5.2, 5.8]",
        "NDCG of top-10": "6.500 [6.250, 6.750]",
        "regret of top-10": "7.50 [7.25, 7.75]",
    }
    write_report([tmp_path / "old"], tmp_path / "old.html")
    assert "rankings" not in re.sub(r"(?s)<style.*?</style>", "", (tmp_path / "old.html").read_text())


def test_the_report_counts_failed_trainings(tmp_path: Path) -> None:
    """Even if none failed; two spaces of one study and data set have separate headings."""
    for space, status in (("nb101", "24 ok"), ("nb201", "1 crash, 23 ok")):
        folder = tmp_path / space
        folder.mkdir()
        (folder / "standalone.png").write_bytes(b"")
        results = {space: {"status": status, "without_result": 1 if "crash" in status else 0}}
        written = {"study": "standalone", "settings": {space: {"dataset": "cifar10.npz"}}, "environment": {}}
        (folder / "results.json").write_text(json.dumps({**written, "results": results, "verdicts": []}))
    write_report([tmp_path], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "nb101: trainings: 24 ok, 0 failed; architectures without a result: 0." in html
    assert "nb201: trainings: 1 crash, 23 ok; architectures without a result: 1." in html
    assert re.findall("<h3.*?>(.*?)</h3>", html) == ["nb101 on cifar10", "nb201 on cifar10"]


def test_the_answer_names_the_spaces() -> None:
    answer = Answer("it helps", "It helps", "It hurts")

    def said(*verdicts: str) -> str:
        found = [Verdict("it helps", "", f"space{i}", "", "", verdict) for i, verdict in enumerate(verdicts)]
        return answer.sentence("Does it help?", [*found, Verdict("another", "", "space0", "", "", "holds")])

    assert said("holds", "holds", "holds") == "It helps on space0, space1 and space2."
    assert said("does not hold", "inconclusive") == "It hurts on space0; undecided on space1."
    assert (
        said("inconclusive", "holds", "does not hold") == "It helps on space1; it hurts on space2; undecided on space0."
    )
    assert said("inconclusive", "inconclusive") == "Does it help? Undecided on space0 and space1."
    assert said() == "Does it help?"


def test_top_10_is_asked_only_where_the_correlation_is_above_0_4() -> None:
    """The paper claims an advantage where supernets rank well; elsewhere there is no verdict, not an open one."""
    code, truth, noise = runpy.run_path(str(STUDIES / "epochs.py")), np.arange(200.0), numpy_rng(5)
    sample = SimpleNamespace(valid=truth, test=truth, parameters=truth)

    def asked(strength: float, supernets: int = 3) -> list[tuple[float, str]]:
        scores = strength * truth + 10 * noise.standard_normal((supernets, 200))
        point = code["point_of"](sample, 4, scores, None)
        found = [one for one in code["verdicts_of"]("nb201", [point]) if one.claim.startswith("where the correlation")]
        return [(point.ranking.correlation_low, one.verdict) for one in found]

    ((low, said),) = asked(1.0)
    assert (low > 0.4, said) == (True, "holds")
    assert [said for _, said in asked(1.0, supernets=1)] == ["inconclusive"]
    assert asked(0.0) == asked(-1.0) == []
    assert asked(0.07) == []  # about 0.4: its interval begins below


def test_the_answer_says_what_is_certain_where_the_claim_is_undecided() -> None:
    """Budgets that rank at random, well, and better by nothing: the longest surpasses only the first."""
    points_of, partly = (runpy.run_path(str(STUDIES / "epochs.py"))[name] for name in ("point_of", "partly"))
    truth, noise = np.arange(80.0), numpy_rng(5)
    sample = SimpleNamespace(valid=truth, test=truth, parameters=truth)

    def points(*strengths: float, supernets: int = 3, archs: int = 80) -> list[Any]:
        sample.valid = sample.test = sample.parameters = truth[:archs]
        scores = [truth[:archs] * one + 10 * noise.standard_normal((supernets, archs)) for one in strengths]
        return [points_of(sample, 2**i, one, None) for i, one in enumerate(scores)]

    assert partly(points(0.0, 1.0, 1.0)) == "The longest training ranks better than those of less than 2 epochs"
    assert partly(points(0.0, 0.0, 1.0)) == "The longest training ranks better than those of less than 4 epochs"
    assert partly(points(1.0, 0.0, 1.0)) is None
    assert partly(points(0.0, 1.0, 1.0, supernets=1)) is None
    assert partly(points(0.0, 1.0, 1.0, archs=FEWEST - 1)) is None
    answer = Answer("it helps", "It helps", "It hurts", {"a": "It helps a little", "b": "It helps a bit"})
    verdicts = [
        Verdict("it helps", "", space, "", "", said)
        for space, said in (("a", "inconclusive"), ("b", "holds"), ("c", "inconclusive"))
    ]
    assert answer.sentence("?", verdicts) == "It helps on b; it helps a little on a; undecided on c."


def test_capacity_says_to_what_factor_the_fall_is_certain() -> None:
    """The largest factor at which supernets rank worse for certain, of those that leave enough architectures."""
    partly, noise = runpy.run_path(str(STUDIES / "capacity.py"))["partly"], numpy_rng(6)

    def said(*strengths: float, size: int = 80, supernets: int = 3, last: int = 80, reporting: int = 1) -> str | None:
        points = []
        for factor, strength in enumerate(strengths):
            truth = np.arange(float(last if factor == len(strengths) - 1 else size))
            scores = strength * truth + 10 * noise.standard_normal((supernets, len(truth)))
            seeds = reporting if factor else 1
            points.append(Point(2**factor, "", ranking(scores, truth, truth, K), None, reporting_seeds=seeds))
        return partly(judged(points))

    assert said(1.0, 0.0, 1.0) == "Pruning to the best half lowers the correlation"
    assert said(1.0, 0.0, 0.0) == "Pruning to the best 1/4 lowers the correlation"
    assert said(1.0, 0.0, 0.0, last=FEWEST - 1) == "Pruning to the best half lowers the correlation"
    assert said(1.0, 1.0, 1.0) is None
    assert said(0.0, 1.0, 1.0) is None
    assert said(1.0, 0.0, 0.0, supernets=1) is None
    assert said(1.0, 0.0, 0.0, reporting=0) is None  # those that choose also report
    assert said(1.0, 0.0, 0.0, size=FEWEST - 1, last=FEWEST - 1) is None


def test_micro_figures_show_the_desk_results_of_the_same_ground_truth(tmp_path: Path) -> None:
    script = tmp_path / "studies" / "epochs.py"
    about = {"dataset": "digits", "truth": "digits", "truth_epochs": 10, "train_size": 6000}
    options = SimpleNamespace(scale="micro", recipe={}, table=None)
    samples = [SimpleNamespace(name=name, settings=lambda: about | {"train_size": 4000}) for name in ("nb101", "nb201")]

    def store(name: str, space: str, rows: list[dict[str, float]], **other: object) -> None:
        path = tmp_path / "docs/results/desk" / name / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": {"scale": "desk", space: about | other}, "results": {space: rows}}))

    assert desk_rows(script, options, samples) == {}
    one, two = [{"x": 100, "correlation": 0.6}], [{"x": 400, "correlation": 0.8}]
    store("epochs", "nb201", one)
    store("nb101-epochs", "nb101", two)
    store("proxyless-epochs", "proxyless", two)
    assert desk_rows(script, options, samples) == {"nb201": one, "nb101": two}
    assert desk_rows(script, options, samples[:1]) == {"nb101": two}
    for other in ({"scale": "desk"}, {"recipe": {"epochs": 3}}, {"table": "mine.parquet"}):
        assert desk_rows(script, SimpleNamespace(**{**vars(options), **other}), samples) == {}
    for other in ({"truth_epochs": 2}, {"truth": "cifar10"}, {"dataset": "more-digits"}):
        store("epochs", "nb201", one, **other)
        assert desk_rows(script, options, samples) == {"nb101": two}


def test_the_committed_scores_serve_a_study_without_training(forks: Any, tmp_path: Path) -> None:
    """Those of docs/results/desk, unpacked as its page says, give the committed results."""
    committed = STUDIES.parent / "docs/results/desk"
    wanted = json.loads((committed / "operators/results.json").read_text())
    known = np.isfinite(load_ground_truth("nb201").mean("digits", "test", 10)).sum()
    assert known == wanted["settings"]["nb201"]["evaluated"], "the table has grown: score these supernets again"
    (tmp_path / "runs/supernets").mkdir(parents=True)
    with tarfile.open(committed / "nb201-supernets.tar.xz") as archive:
        archive.extractall(tmp_path / "runs/supernets", filter="data")
    done = study(forks, "operators", "--scale", "desk", "--space", "nb201", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "5 supernets, 0 of them to train or score" in done.err
    found = json.loads((tmp_path / "runs/study-operators-desk/results.json").read_text())
    for name in ("verdict", "measured"):
        assert [one[name] for one in found["verdicts"]] == [one[name] for one in wanted["verdicts"]]


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "spaces"])
def test_a_bad_file_is_refused_before_any_worker_starts(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Data, split or table that are missing or damaged, in every study: nothing is started, made or removed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsnas.executor._in_processes", lambda *_: pytest.fail("it started workers"))
    (tmp_path / "damaged.npz").write_bytes(b"PK damaged")
    good = numpy_rng(0, "test").integers(0, 255, (200, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(200) % 10
    parts = {"train_images": good, "train_labels": labels, "test_images": good, "test_labels": labels}
    np.savez(tmp_path / "good.npz", **parts)
    before = {path.name for path in tmp_path.iterdir()}
    table = () if name == "standalone" else ("--table", str(truth))
    bad: list[tuple[str, tuple[str, ...]]] = [
        ("missing.npz", (*table, "--dataset", "missing.npz")),
        ("damaged.npz", (*table, "--dataset", "damaged.npz", "--fresh")),
        ("missing.txt", (*table, "--dataset", "good.npz", "--split-file", "missing.txt", "--batch", "4")),
        ("batch of 4000", (*table, "--dataset", "good.npz", "--batch", "4000")),
    ]
    if table:
        bad += [("missing.parquet", ("--table", "missing.parquet")), ("damaged.npz", ("--table", "damaged.npz"))]
    if name == "worth":
        bad += [("100,000 images", (*table, "--images", "100000"))]
    if name == "tricks":
        bad += [("missing.npz", (*table, "--other-dataset", "missing.npz"))]
    if name == "scoring":  # tunes on as many images as there are
        bad = [(said, (*options, "--calibration-batch", "10")) for said, options in bad]
    command = Studies().get_command(click.Context(click.Command("study")), name)
    assert command is not None
    for word, options in bad:
        done = CliRunner().invoke(command, ["--space", "nb201", *options])
        assert done.exit_code == 2, (options, done.output, done.exception)
        said = done.stderr.splitlines()
        assert len(said) == 1, said
        assert said[0].startswith("Error: ")
        assert word in said[0]
        assert {path.name for path in tmp_path.iterdir()} == before


def test_only_accuracies_on_other_images_are_less_certain() -> None:
    """By hand: at 90 % of 2,000 of 10,000 images the standard error is 0.6 points, which adds to +-0.5 so."""
    code = runpy.run_path(str(STUDIES / "convergence.py"))
    found = code["on_other_images"](Interval(1.0, 0.5, 1.5, 60), 90.0, 2000, 10_000)
    assert found.value == 1
    assert found.high - 1 == pytest.approx(np.hypot(0.5, 1.959964 * 0.6))
    assert found.high - 1 == pytest.approx(1 - found.low)
    assert code["on_other_images"](Interval(1.0, 0.5, 1.5, 60), 90.0, 4000, 4000) == Interval(1.0, 0.5, 1.5, 60)


def test_a_part_of_the_images_is_easier_than_all_by_so_much() -> None:
    """Simulated: the mean of the first 500 of 2,000 images beside that of all."""
    right = numpy_rng(3).random((4000, 2000)) < 0.9
    gap = 100 * (right[:, :500].mean(1) - right.mean(1))
    found = runpy.run_path(str(STUDIES / "convergence.py"))["on_other_images"](Interval(0, 0, 0, 60), 90.0, 500, 2000)
    assert found.high == pytest.approx(1.96 * gap.std(), rel=0.05)


def test_validation_ranks_as_test_only_beyond_what_a_training_has_in_common() -> None:
    """Both results of a training share its luck: here most of what they rank by, and still nothing is in common."""
    splits_agree, rng = runpy.run_path(str(STUDIES / "standalone.py"))["splits_agree"], numpy_rng(20)

    def table(valid: Floats, test: Floats) -> Table:
        """Of three seeds of each split's own quality, with luck that both splits share."""
        columns = {}
        for seed in range(3):
            luck = rng.standard_normal(300)
            for split, quality in (("valid", valid), ("test", test)):
                columns[Column("digits", split, 2, seed)] = quality + luck + 0.3 * rng.standard_normal(300)
        return Table("nb201", tuple(map(str, range(300))), columns)

    one, other = rng.standard_normal((2, 300))
    alike, unlike = splits_agree(table(one, one), "digits"), splits_agree(table(one, other), "digits")
    assert 0.8 < alike.low < 1 < alike.high
    assert abs(unlike.value) < 0.2
    (single,) = (table(one, one) for _ in range(1))
    first = {column: values for column, values in single.columns.items() if column.seed == 0}
    assert splits_agree(dataclasses.replace(single, columns=first), "digits") is None


def test_multi_path_is_compared_at_its_cost_whatever_the_epochs() -> None:
    """The longest baseline trains as many paths as multi-path: the short one's epochs times the paths of a step."""
    code, space = runpy.run_path(str(STUDIES / "tricks.py")), load_space("nb201")
    for scale in ("micro", "desk"):
        for epochs in (1, 3, 4, 5, 50):
            sample = SimpleNamespace(space=space, recipe=change_recipe(space.recipes[scale], epochs=epochs))
            variants = {one.label.partition(" (")[0]: one for one in code["variants"](sample, 3, scale, None)}
            base, multi = variants["baseline"], variants["multi-path"]
            longer = [one for label, one in variants.items() if code["LONGER"] in label]
            paths = int(multi.paths.removeprefix("multi:"))
            assert longer[-1].recipe.supernet.epochs == base.recipe.supernet.epochs * paths


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [((0.2, 0.2, 0.02), "holds"), ((0.2, 0.2, -0.3), "inconclusive"), ((-0.2, -0.2, -0.2), "does not hold")],
)
def test_ways_to_train_are_judged_together(gaps: tuple[float, ...], verdict: str) -> None:
    """One variant may be uncertain, but none certainly opposed."""
    code, rng = runpy.run_path(str(STUDIES / "tricks.py")), numpy_rng(21)

    def row(label: str, gap: float | None) -> Any:
        each = None if gap is None else gap + 0.01 * rng.standard_normal(5)
        drawn = None if each is None else each[:, None] + 0.03 * rng.standard_normal((5, 2000)).mean(0)
        found = None if each is None else PerSupernet(each, drawn, 100, 99)
        return SimpleNamespace(label=label, change=None, gap=found, corr_baseline=0.9)

    rows = [row("baseline", None), *(row(f"variant {i}", gap) for i, gap in enumerate(gaps))]
    table = SimpleNamespace(seed_noise=0.1, rows=rows, at_equal_cost=None, sample=SimpleNamespace(name="nb201"))
    _, ways = code["verdicts_of"](table)
    assert (ways.verdict, ways.numbers["mean"]) == (verdict, pytest.approx(np.mean(gaps), abs=0.02))


def test_no_choice_is_harmful_however_many_there_are() -> None:
    """Each of many choices shows for itself that it is not: corrected for their number, three would be suspects."""
    code, rng = runpy.run_path(str(STUDIES / "operators.py")), numpy_rng(22)
    truth = rng.standard_normal(200)
    made = [{f"edge {i}": str(one) for i, one in enumerate(row)} for row in rng.integers(2, size=(200, 20))]
    found = code["effects"](truth, made, truth + 0.5 * rng.standard_normal((3, 200)))
    assert len(found) == 40
    assert all(one.harmless for one in found)


def test_a_random_order_is_a_zero_cost_score() -> None:
    """Supernets that rank the wrong way round are worse than chance, however bad all scores are."""
    code, rng = runpy.run_path(str(STUDIES / "worth.py")), numpy_rng(23)
    truth = np.arange(100.0)

    def judge(kind: str, scores: Floats) -> Any:
        return code["Judge"](kind, kind, None, 1.0, None, scores, ranking(scores, truth, truth, K))

    wrong = rng.standard_normal((3, 100)) * 30 - truth
    judges = [judge(code["UNIFORM"], wrong), judge(code["UNTRAINED"], -truth[None] + rng.standard_normal((3, 100)))]
    (found,) = code["verdicts_of"](SimpleNamespace(name="nb201", test=truth), judges)
    assert (found.claim, found.verdict) == ("a supernet ranks better than every zero-cost score", "does not hold")
    costs = SimpleNamespace(scoring=lambda recipe: 0.5)
    sample = SimpleNamespace(recipe=None, truth=SimpleNamespace(epochs=10))
    learning = dataclasses.replace(judge(code["PREDICTOR"], truth[None]), setting=10.0)
    exchanged = code["exchange"](sample, costs, [*judges, learning])
    assert exchanged["rates"] == {}
    assert exchanged["sentence"].endswith("worse than a random order")
