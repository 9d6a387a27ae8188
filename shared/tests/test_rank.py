"""``wsnas rank`` with the core alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from toy_space import ALL, MICRO, TOY, Toy

from wsnas.cli import main
from wsnas.errors import Unfinished
from wsnas.evaluation import latest_scores
from wsnas.recipe import change_recipe
from wsnas.runs import Run, sealed
from wsnas.studies.rank import agreement
from wsnas.supernet import load_supernet, train_supernet

NAMES = [TOY.encode(arch) for arch in ALL[::4]]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def scored(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supernet, ``net``, with the scores of seven architectures, and their ground truth, ``truth.csv``."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{name},{50 + 3 * i % 7},{50 + i}" for i, name in enumerate(NAMES)]
    Path("truth.csv").write_text("\n".join(["architecture,toy_valid_2,toy_test_2", *rows]) + "\n")
    run("train-supernet", "toy", "--out", "net", "--device", "cpu")
    run("evaluate", "net", "--table", "truth.csv", "--device", "cpu")


def test_an_architecture_without_a_result_is_left_out(scored: None) -> None:
    """One whose training failed and one that is not in the table, as ``wsnas correlate`` does."""
    head, *rows = Path("truth.csv").read_text().splitlines()
    Path("part.csv").write_text("\n".join([head, f"{NAMES[0]},,", *rows[2:]]) + "\n")
    correlated, ranked = (run(command, "net", "--table", "part.csv") for command in ("correlate", "rank"))
    assert "over 5 of 7 evaluated architectures" in correlated
    assert "over 5 of 7 evaluated architectures" in ranked
    assert ranked.split()[2] == correlated.split()[1].rstrip(",")  # the same correlation
    Path("one.csv").write_text(f"{head}\n{rows[0]}\n")
    refused = CliRunner().invoke(main, ["rank", "net", "--table", "one.csv"])
    assert refused.exit_code == 2
    assert "1 of 7 scores in net are finite and have a toy ground truth" in refused.output


def test_equal_sizes_have_no_correlation(scored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ", parameter count " in run("rank", "net", "--table", "truth.csv")
    monkeypatch.setattr(Toy, "parameters", lambda self, arch, recipe: 7)
    said = run("rank", "net", "--table", "truth.csv")
    assert "parameter count" not in said
    assert ", multiply-adds " in said
    results = json.loads(Path("net/rank/results.json").read_text())["results"]
    of_size = ("parameter_count_spearman", "supernet_minus_parameter_count", "score_with_parameter_count")
    assert [results[name] for name in of_size] == [None] * 3
    monkeypatch.setattr(Toy, "macs", lambda self, arch, recipe: 7)
    assert "multiply-adds" not in run("rank", "net", "--table", "truth.csv")


def test_the_ground_truth_may_be_of_another_data_set(scored: None) -> None:
    """That of the run if the table has it, else the table's first, and by ``correlate`` the same."""
    Path("others.csv").write_text(Path("truth.csv").read_text().replace("toy_", "other_"))
    for options in ((), ("--truth", "OTHER")):
        command = ("net", "--table", "others.csv", *options, "--json")
        done = [CliRunner().invoke(main, [name, *command]) for name in ("correlate", "rank")]
        assert [one.exit_code for one in done] == [0, 0], done[1].output
        correlated, ranked = (json.loads(one.stdout) for one in done)
        assert correlated["spearman"] == ranked["spearman"]
        assert correlated["dataset"] == "other"
    for command in (("correlate", "net"), ("rank", "net"), ("score", "toy", "--images", "8")):
        refused = CliRunner().invoke(main, [*command, "--table", "others.csv", "--truth", "toy"])
        assert refused.exit_code == 2
        assert refused.output == "Error: the table of toy has no data set 'toy', only other\n"


def test_a_scale_is_one_of_the_spaces_own(scored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = CliRunner().invoke(main, ["rank", "net", "--table", "truth.csv", "--scale", "desk"])
    assert refused.exit_code == 2
    assert "toy has no scale 'desk'; it has paper, micro" in refused.output
    monkeypatch.setitem(Toy.recipes, "wide", change_recipe(TOY.recipe("micro"), channels=5))
    run("rank", "net", "--table", "truth.csv", "--scale", "wide")
    row = next(csv.DictReader(Path("net/rank/rank.csv").read_text().splitlines()))
    assert int(row["parameters"]) == TOY.parameters(row["arch"], "wide")


def test_supernets_follow_size_in_the_mean_over_them() -> None:
    """One supernet follows size, another goes against it: 0 in the mean, and not as certain as over architectures."""
    counts, test = np.arange(30.0), np.random.default_rng(0).permutation(30)
    scores = np.stack([counts, -2 * counts])
    found = agreement(scores, counts, counts, test, test, test[:, None]).score_with_parameter_count
    assert found is not None
    assert found.value == pytest.approx(np.mean([stats.spearmanr(one, counts).statistic for one in scores]))
    assert (found.low, found.high) == (-1, 1)


def test_one_more_setting_of_one_architecture_hides_no_others(scored: None) -> None:
    """The scores of most architectures count, and where others are left aside, both commands say so."""
    before = latest_scores(Run.read("net"))
    assert before.remarks == ()
    run("evaluate", "net", "--arch", NAMES[0], "--valid-size", "17", "--device", "cpu")
    after = latest_scores(Run.read("net"))
    assert after == before
    said = "net was scored with 2 settings; used: images="
    assert after.remarks[0].startswith(said)
    for command in ("correlate", "rank"):
        assert said in run(command, "net", "--table", "truth.csv")
    run("evaluate", "net", "--table", "truth.csv", "--valid-size", "17", "--device", "cpu")  # as many: the more images
    assert latest_scores(Run.read("net")) == before


def test_an_unfinished_supernet_is_named_wherever_it_is_used(scored: None) -> None:
    """The run is told that it was to have twice the epochs, as if it had been stopped half-way."""
    line = f"net has trained for {MICRO.supernet.epochs} of {2 * MICRO.supernet.epochs} epochs"
    described = json.loads(Path("net/run.json").read_text())
    described["recipe"]["supernet"]["epochs"] *= 2
    described.pop("crc")
    Path("net/run.json").write_text(json.dumps(sealed(described)))
    for command in (("correlate", "net"), ("rank", "net"), ("evaluate", "net", "--device", "cpu")):
        assert line in run(*command, "--table", "truth.csv")
    with pytest.warns(Unfinished, match=line):
        load_supernet("net", "cpu")


def test_scores_of_a_supernet_that_has_trained_on_are_old(scored: None) -> None:
    steps = Run.read("net").metrics()[-1]["step"]
    net = Run.read("net")
    with net.writing():
        net.append("metrics.jsonl", {**net.metrics()[-1], "step": 2 * steps})
    assert f"net was last scored at step {steps} of {2 * steps}" in run("rank", "net", "--table", "truth.csv")


def test_supernets_are_others_of_other_seeds(scored: None) -> None:
    """One twice would count as two that agree; that two were trained in different ways is said."""
    for name, options in (("copy", ()), ("seed", ("--seed", "1")), ("short", ("--seed", "2", "--epochs", "1"))):
        run("train-supernet", "toy", *options, "--out", name, "--device", "cpu")
        run("evaluate", name, "--table", "truth.csv", "--device", "cpu")
    for twice in (("net", "net"), ("net", "copy")):
        refused = CliRunner().invoke(main, ["rank", *twice, "--table", "truth.csv", "--out", "ranked"])
        assert refused.exit_code == 2
        assert "some of the runs are the same supernet" in refused.output
    said = "the runs differ in more than their seeds"
    assert said not in run("rank", "net", "seed", "--table", "truth.csv", "--out", "ranked")
    assert said in run("rank", "net", "seed", "short", "--table", "truth.csv", "--out", "ranked")


def test_runs_that_were_scored_in_different_ways_are_named(scored: None) -> None:
    """With fewer images, or in bfloat16: their scores would be averaged as if they were of one kind."""
    said = "the runs were scored with different settings"
    for seed, options in (("1", ()), ("2", ("--valid-size", "17")), ("3", ("--amp",))):
        run("train-supernet", "toy", "--seed", seed, "--out", seed, "--device", "cpu")
        run("evaluate", seed, "--table", "truth.csv", "--device", "cpu", *options)
        ranked = run("rank", "net", seed, "--table", "truth.csv", "--out", "ranked")
        assert (said in ranked) == bool(options)
    one, other = (latest_scores(Run.read(path)).settings for path in ("net", "3"))
    assert f"{said} ({one}; {other}): score all of them alike\n" in ranked
    assert other == f"{one} bf16"


def test_perplexities_are_written_as_they_were_measured(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their signs are flipped only to rank by them. The top 10 of seven are all, and the first is the best of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Toy, "metric", "perplexity")
    rows = [f"{name},{50 + i},{60 + i}" for i, name in enumerate(NAMES)]
    Path("truth.csv").write_text("\n".join(["architecture,toy_valid_2,toy_test_2", *rows]) + "\n")
    run("train-supernet", "toy", "--out", "net", "--device", "cpu")
    run("evaluate", "net", "--table", "truth.csv", "--device", "cpu")
    run("rank", "net", "--table", "truth.csv")
    scores = latest_scores(Run.read("net"))
    assert min(scores.values()) > 0
    written = {row["arch"]: row for row in csv.DictReader(Path("net/rank/rank.csv").read_text().splitlines())}
    assert {name: float(row["test"]) for name, row in written.items()} == dict(zip(NAMES, range(60, 67), strict=True))
    assert {name: float(row["score"]) for name, row in written.items()} == pytest.approx(dict(scores))
    results = json.loads(Path("net/rank/results.json").read_text())["results"]
    assert (results["top_10"], results["random_top_10"]) == (60, pytest.approx(60))
    assert [results["truth"][name] for name in ("lowest", "mean", "highest", "deviation")] == [60, 63, 66, 2]
    assert [results["scores"][name] for name in ("lowest", "highest")] == [min(scores.values()), max(scores.values())]
    own = stats.spearmanr([scores[name] for name in NAMES], range(7)).statistic
    assert results["spearman"]["value"] == pytest.approx(own)


def test_among_equal_scores_a_selection_is_random(scored: None) -> None:
    """27 equal scores: not the first ten in alphabetical order are taken, which would be the worst."""
    names = sorted(TOY.encode(arch) for arch in ALL)
    rows = [f"{name},{i},{i}" for i, name in enumerate(names)]
    Path("all.csv").write_text("\n".join(["architecture,toy_valid_2,toy_test_2", *rows]) + "\n")
    run("evaluate", "net", "--table", "all.csv", "--sample", "27", "--device", "cpu")
    net = Run.read("net")
    net.record_all(net.kinds()[0], {name: {"accuracy": 25.0, "loss": 1.4} for name in names})
    run("rank", "net", "--table", "all.csv")
    top = json.loads(Path("net/rank/results.json").read_text())["results"]["top_10"]
    assert top > 9


def test_training_again_with_other_settings_of_scoring_keeps_the_weights_and_takes_the_settings(scored: None) -> None:
    """What a supernet's weights do not depend on is as last given, also for who loads it from its directory."""
    weights, started = Path("net/checkpoint.pt").read_bytes(), Run.read("net").started()
    again = train_supernet(TOY, change_recipe(MICRO, valid_size=17, calibration_steps=2), out="net", device="cpu")
    assert Path("net/checkpoint.pt").read_bytes() == weights
    for net in (again, load_supernet("net", "cpu")):
        assert (net.recipe.valid_size, net.recipe.calibration_steps) == (17, 2)
    assert Run.read("net").started() == started
    assert len(Run.read("net").metrics()) == MICRO.supernet.epochs
