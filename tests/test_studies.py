"""Every study runs from end to end on a tiny budget and leaves its four files, which open and agree."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
import runpy
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from html import escape, unescape
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
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe, with_changes
from wsnas.runs import Run
from wsnas.sampling import sample_distinct
from wsnas.studies.costs import same_networks, trained_with
from wsnas.studies.jobs import scores_by_budget
from wsnas.studies.options import StudyOptions
from wsnas.studies.pruned import Pruning
from wsnas.studies.report import write_report
from wsnas.studies.results import to_jsonable
from wsnas.studies.sample import GroundTruth, SpaceSample, chosen_spaces, ground_truth_of, space_samples
from wsnas.studies.scripts import Studies
from wsnas.studies.verdicts import FEWEST
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
            row.get("not_finite", 0)
            for row in (of_space if isinstance(of_space, list) else [of_space, *of_space.get("rows", [])])
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


def test_standalone_draws_no_panel_of_a_handful() -> None:
    """A predictor that the shipped table does not know is left out; milliseconds of another measurement are, too."""
    draws = runpy.run_path(str(STUDIES / "standalone.py"))["drawn_predictors"]

    def table(sizes: list[int], how: str | None) -> Table:
        values = np.arange(1.0, len(sizes) + 1)
        latency = {} if how is None else {"latency": values}
        columns = {Column("digits", split, 2, 0): values for split in ("valid", "test")}
        about = {} if how is None else {"latency": how}
        return Table("nb201", tuple(map(str, values)), columns, np.array(sizes), macs=values, about=about, **latency)

    def drawn(*tables: Table | None) -> dict[str, tuple[bool, bool]]:
        return {name: (x is not None, known is not None) for name, x, known in draws(*tables, "digits")}

    ours, both = table([1000, 2000], "here"), (True, True)
    assert drawn(ours, None) == dict.fromkeys(("parameters", "macs", "latency"), (True, False))
    assert drawn(ours, table([1000, 3000, 4000], None)) == {"parameters": both, "macs": both}
    elsewhere = drawn(ours, table([1000, 3000, 4000], "there"))
    assert elsewhere == {"parameters": both, "macs": both, "latency": (False, True)}
    assert drawn(ours, table([1000, 3000, 4000], "here")) == dict.fromkeys(elsewhere, both)
    partly = table([1000, 3000, 4000, 5000, 6000, 7000], "here")
    partly = dataclasses.replace(partly, latency=np.array([np.nan, 2, 3, 4, 5, 6]))
    found = runpy.run_path(str(STUDIES / "standalone.py"))["correlations_of"](partly, "digits", ("macs", "latency"))
    assert (found["macs"].n, found["latency"].n) == (6, 5)
    same = [1000, 1000]
    assert drawn(table(same, "here"), None) == dict.fromkeys(("validation", "latency"), (True, False))


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
    assert found["best"]["architectures"] == 10
    for row in found["best"]["shares"]:

        def share(value: Any, row: Any = row) -> float:
            best = sorted(found["architectures"], key=value, reverse=True)[:10]
            return float(np.mean([one["decisions"][row["decision"]] == row["choice"] for one in best]))

        of_nets = [share(lambda one, seed=seed: one["supernet_seeds"][seed]) for seed in (0, 1)]
        assert row["by_supernets"] == pytest.approx(np.mean(of_nets))
        assert row["by_truth"] == pytest.approx(share(lambda one: one["test"]))


def test_the_best_can_make_another_choice_than_the_good() -> None:
    """As on NAS-Bench-201: B is the better choice on average, and none of the best makes it."""
    study = runpy.run_path(str(STUDIES / "operators.py"))
    n = 400
    test = np.arange(float(n))
    made = [{"op": "A" if i >= n - 20 or i < 250 else "B", "other": "C"} for i in range(n)]
    scores = np.array([np.where([one["op"] == "B" for one in made], 1000.0, 0.0) + test])
    found = {(one.decision, one.choice): one for one in study["shares"](test, made, scores)}
    assert study["best_of"](n) == 20
    one = found["op", "A"]
    assert (one.by_supernets, one.by_truth, one.of_all) == (0.0, 1.0, 270 / 400)
    ours, theirs = study["furthest_apart"](list(found.values()))
    assert (ours.choice, theirs.choice) == ("B", "A")
    (b,) = (one for one in study["effects"](test, made, scores) if one.choice == "B")
    assert b.better_when_trained > 0


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


def test_a_study_with_nothing_to_compare_says_so(forks: Any, tmp_path: Path) -> None:
    """Cells of darts_rnn are all of one size, so nothing is left that ranks them."""
    space = load_space("darts_rnn")
    archs = tuple(map(space.encode, sample_distinct(space, 12, np.random.default_rng(0))))
    found = {Column("tragedies", part, 16, 0): np.linspace(60.0, 61.0, 12) for part in ("valid", "test")}
    Table("darts_rnn", archs, found).save(tmp_path / "table.parquet")
    without = ("--without", "supernets", "--without", "zero-cost")
    done = study(forks, "worth", "--space", "darts_rnn", "--table", "table.parquet", *without, cwd=tmp_path)
    assert done.code == 2
    assert "no space has anything to rank its architectures by: leave out one --without" in done.err


def test_a_space_named_twice_is_studied_once() -> None:
    assert [space.name for space in chosen_spaces(["nb201", "NB201", "nb101", "nb201"])] == ["nb201", "nb101"]


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


def test_budgets_that_cannot_be_halved_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three budgets of three epochs, 3, 2 and 1, all are there; of four, the last two are one."""
    recipe = change_recipe(load_space("nb201").recipes["micro"], epochs=3)
    sample: Any = SimpleNamespace(name="nb201", recipe=recipe)
    monkeypatch.setattr("wsnas.studies.jobs.space_samples", lambda *_: [sample])
    monkeypatch.setattr(
        "wsnas.studies.jobs.scores_of", lambda options, wanted: {(s.name, v.label): 0 for s, v in wanted}
    )
    options: Any = SimpleNamespace(scale="micro", seeds=(0,))
    for count, said in (
        (None, ""),
        (3, ""),
        (4, "nb201: 3 budgets instead of 4, as 3 epochs cannot be halved more often\n"),
    ):
        ((_, by_epochs),) = scores_by_budget(options, count)
        assert [*by_epochs] == [1, 2, 3]
        assert capsys.readouterr().out == said
