"""The ``wsnas`` command from end to end, as processes: small networks, one epoch, real files."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from scipy import stats

import wsnas
from wsnas import installed_spaces, load_space, proxy_scores, train_architecture
from wsnas.cli import main
from wsnas.recipe import change_recipe
from wsnas.runs import Run
from wsnas.table import Table

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

IMAGES = 640
SMALL = ("--epochs", "1", "--channels", "2", "--train-size", str(IMAGES), "--valid-size", "500")
ARCH = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
OTHER = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


def rows(run: Path) -> dict[str, dict[str, Any]]:
    """What records.sqlite holds, read without the library."""
    with sqlite3.connect(run / "records.sqlite") as database:
        found = database.execute("SELECT kind, key, status, data FROM records").fetchall()
    return {f"{kind}|{key}": {"status": status, **json.loads(data)} for kind, key, status, data in found}


def write_truth(path: Path, archs: list[str], seed: int = 0) -> dict[str, float]:
    """A CSV table of made-up ground truth; returns its digits test accuracies."""
    rng = np.random.default_rng(seed)
    truth = {arch: round(float(rng.uniform(20, 90)), 3) for arch in archs}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "digits_valid_8", "digits_test_8", "parameters"])
        writer.writerows([arch, truth[arch] + 1, truth[arch], 1234] for arch in archs)
    return truth


def sample(count: int) -> list[str]:
    space = load_space("nb201")
    archs = list(space)
    return [space.encode(archs[i]) for i in np.random.default_rng(0).choice(space.size, count, replace=False)]


# without torch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["--help", "table --help", "spaces", *(f"train-supernet {space} --help" for space in installed_spaces())],
)
def test_help_does_not_import_torch_or_numpy(command: str) -> None:
    code = (
        "import sys; from wsnas.cli import main; main(sys.argv[1:], prog_name='wsnas', standalone_mode=False); "
        "print([name for name in ('torch', 'numpy', 'matplotlib', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "nb201" in done.stdout or "Usage: wsnas" in done.stdout


def test_spaces_as_a_module() -> None:
    """A real ``python -m wsnas``; the size is Table 1's."""
    done = subprocess.run([sys.executable, "-m", "wsnas", "spaces"], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("nb201 "))
    assert "15,284 architectures" in line


# a supernet --------------------------------------------------------------------------------------------------


def test_one_thread_unless_another_number_is_given(forks: Any, tmp_path: Path) -> None:
    """The number that torch reports while training is recorded, whatever it was before."""
    code = "import sys, torch; torch.set_num_threads(3); from wsnas.cli import main; main(sys.argv[2:])"
    train = ("train-supernet", "nb201", *SMALL, "--batch", "128", "--device", "cpu", "--out")
    alone = ("train", "nb201", ARCH, *SMALL[:-2], "--batch", "128", "--device", "cpu", "--out")
    for command in (train, alone):
        for options, threads in (((), "1"), (("--threads", "2"), "2")):
            out = tmp_path / f"{command[0]}-{threads}"
            done = forks.start("code", code, "wsnas", *command, out, *options, cwd=tmp_path).wait()
            assert done.code == 0, done.err
            assert json.loads((out / "run.json").read_text())["environment"]["threads"] == threads
            assert json.loads((out / "sessions.jsonl").read_text())["threads"] == threads
        done = forks.wsnas(*command, out, cwd=tmp_path)
        assert done.code == 2
        assert "its threads is 2, yours is the default" in done.err
    code = "import sys, torch, wsnas.evaluation as e; score = e.evaluate_submodel; from wsnas.cli import main; "
    code += "e.evaluate_submodel = lambda *a: (print('threads', torch.get_num_threads()), score(*a))[1]; "
    evaluate = ("wsnas", "evaluate", tmp_path / "train-supernet-2", "--arch", ARCH, "--device", "cpu")
    done = forks.start("code", code + "main(sys.argv[2:])", *evaluate, cwd=tmp_path).wait()
    assert done.out.startswith("threads 2\n"), done.err


def test_train_evaluate_correlate(forks: Any, tmp_path: Path) -> None:
    """Every printed number is recomputed from the files, and nothing is done twice."""
    truth = write_truth(tmp_path / "truth.csv", sample(12))
    train = ("train-supernet", "nb201", *SMALL, "--batch", "128", "--device", "cpu", "--out", "net")
    evaluate = ("evaluate", "net", "--sample", "9", "--table", "truth.csv", "--device", "cpu")

    done = forks.wsnas(*train, cwd=tmp_path)
    assert done.code == 0, done.err
    steps = IMAGES // 128
    metrics = [json.loads(line) for line in (tmp_path / "net/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [steps]
    assert done.out == f"trained {steps} steps, last epoch's loss {metrics[0]['loss']:.4f}: net\n"
    assert 1 < metrics[0]["loss"] < 4  # about log(10) = 2.3
    state = torch.load(tmp_path / "net/checkpoint.pt", weights_only=True)
    assert state["step"] == steps

    scored = forks.wsnas(*evaluate, cwd=tmp_path)
    assert scored.code == 0, scored.err
    found = rows(tmp_path / "net")
    accuracies = {key.split("|", 1)[1]: row["accuracy"] for key, row in found.items()}
    assert len(accuracies) == 9
    assert accuracies.keys() <= truth.keys()
    values = list(accuracies.values())
    assert scored.out.startswith(
        f"9 submodels: validation accuracy {np.mean(values):.2f} % (from {min(values):.2f} to {max(values):.2f})"
    )

    correlated = forks.wsnas("correlate", "net", "--table", "truth.csv", cwd=tmp_path)
    assert correlated.code == 0, correlated.err
    expected = stats.spearmanr(values, [truth[arch] for arch in accuracies]).statistic
    match = re.fullmatch(
        r"Spearman (\S+), 95 % interval (\S+) to (\S+), over 9 of 9 evaluated architectures "
        r"\(digits test, 8 epochs\)\n",
        correlated.out,
    )
    assert match is not None, correlated.out
    assert float(match[1]) == pytest.approx(expected, abs=6e-4)
    assert float(match[2]) <= float(match[1]) <= float(match[3])

    # the same commands again: the checkpoint is not written, and a score that is there is not computed
    stamp = (tmp_path / "net/checkpoint.pt").stat().st_mtime_ns
    assert forks.wsnas(*train, cwd=tmp_path).out == done.out
    assert (tmp_path / "net/checkpoint.pt").stat().st_mtime_ns == stamp
    run = Run.read(tmp_path / "net")
    (kind,) = (kind for kind in run.kinds() if kind.startswith("evaluation"))
    name, row = next(iter(run.records(kind).items()))
    run.record(kind, name, {**row, "accuracy": 99.25})
    again = forks.wsnas(*evaluate, cwd=tmp_path)
    assert "to 99.25)" in again.out
    # a longer sample only adds
    more = forks.wsnas(*evaluate[:3], "12", *evaluate[4:], cwd=tmp_path)
    assert more.out.startswith("12 submodels")
    assert "to 99.25)" in more.out
    assert rows(tmp_path / "net").keys() >= found.keys()


def test_default_directory_is_named_by_content(forks: Any, tmp_path: Path) -> None:
    """Other options use another directory; the same options use the same one."""
    for options in ((), (), ("--seed", "1"), ("--paths", "multi:2")):
        done = forks.wsnas("train-supernet", "nb201", *SMALL, *options, cwd=tmp_path)
        assert done.code == 0, done.err
    found = sorted((tmp_path / "runs").iterdir())
    assert len(found) == 3
    identities = [json.loads((path / "run.json").read_text())["identity"] for path in found]
    assert sorted((one["seed"], one["paths"]) for one in identities) == [(0, "multi:2"), (0, "uniform"), (1, "uniform")]
    weights = [torch.load(path / "checkpoint.pt", weights_only=True)["model"]["stem.conv.weight"] for path in found]
    assert not any(torch.equal(weights[i], weights[j]) for i in range(3) for j in range(i))


def test_the_command_line_and_the_library_draw_the_same_sample(forks: Any, tmp_path: Path) -> None:
    """The two quick starts of the README score the same architectures, so they agree on the correlation."""
    assert forks.wsnas("train-supernet", "nb201", *SMALL, "--out", "net", cwd=tmp_path).code == 0
    assert forks.wsnas("evaluate", "net", "--sample", "7", "--sample-seed", "3", cwd=tmp_path).code == 0
    scored = [key.split("|", 1)[1] for key in rows(tmp_path / "net")]
    truth = wsnas.load_ground_truth("nb201")
    assert sorted(scored) == sorted(truth.sample(7, 3))
    assert sorted(scored) != sorted(truth.sample(7))
    said = forks.wsnas("correlate", "net", cwd=tmp_path).out
    scores = wsnas.evaluate(wsnas.load_supernet(tmp_path / "net", "cpu"), truth.sample(7, 3))
    found = wsnas.correlate(scores, truth)
    assert said.startswith(f"Spearman {found.value:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f}, over 7 ")


def test_evaluate_named_architectures(forks: Any, tmp_path: Path) -> None:
    forks.wsnas("train-supernet", "nb201", *SMALL, "--out", "net", cwd=tmp_path)
    done = forks.wsnas("evaluate", "net", "--arch", ARCH, "--arch", OTHER, cwd=tmp_path)
    assert done.code == 0, done.err
    assert {key.split("|", 1)[1] for key in rows(tmp_path / "net")} == {ARCH, OTHER}


# zero-cost scores --------------------------------------------------------------------------------------------


def test_score(forks: Any, tmp_path: Path) -> None:
    """The CSV has the library's scores, and the printed correlations are those of its columns."""
    truth = write_truth(tmp_path / "truth.csv", sample(12))
    command = ("score", "nb201", "--proxy", "grad_norm", "--channels", "2", "--images", "16", "--seed", "3")
    done = forks.wsnas(*command, "--sample", "9", "--table", "truth.csv", cwd=tmp_path)
    assert done.code == 0, done.err
    (written,) = tmp_path.glob("runs/nb201-grad_norm-*.csv")
    with written.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len({row["arch"] for row in found}) == 9
    space = load_space("nb201")
    recipe = change_recipe(space.recipes["micro"], channels=2)
    expected = proxy_scores(space, [row["arch"] for row in found], recipe, "grad_norm", images=16, seed=3, device="cpu")
    for row in found:
        assert float(row["score"]) == expected[row["arch"]]
        assert float(row["test"]) == truth[row["arch"]]
        network = space.network(space.decode(row["arch"]), recipe)
        assert int(row["parameters"]) == sum(p.numel() for p in network.parameters())
    columns = {name: [float(row[name]) for row in found] for name in ("score", "test", "parameters")}
    match = re.fullmatch(
        r"Spearman: grad_norm (\S+) \[.*\], parameter count (\S+) \[.*\], over 9 architectures "
        rf"\(digits test, 8 epochs\): runs/{written.name}\n",
        done.out,
    )
    assert match is not None, done.out
    for said, name in zip(match.groups(), ("score", "parameters"), strict=True):
        assert float(said) == pytest.approx(stats.spearmanr(columns[name], columns["test"]).statistic, abs=6e-4)


def test_score_of_perplexities_and_without_ground_truth(forks: Any, tmp_path: Path) -> None:
    if "darts_rnn" not in installed_spaces():
        pytest.skip("needs the space darts_rnn")
    done = forks.wsnas("score", "darts_rnn", "--proxy", "snip", "--sample", "12", "--images", "8", cwd=tmp_path)
    assert done.code == 0, done.err
    (written,) = tmp_path.glob("runs/darts_rnn-snip-*.csv")
    with written.open(newline="") as file:
        found = [(float(row["score"]), float(row["test"])) for row in csv.DictReader(file)]
    lower = -stats.spearmanr(*zip(*found, strict=True)).statistic  # a low perplexity is better
    assert done.out.startswith(f"Spearman: snip {lower:.3f} ["), done.out
    assert "parameter count" not in done.out  # all equal
    refused = forks.wsnas("score", "darts_rnn", cwd=tmp_path)
    assert refused.code == 2
    assert refused.err == "Error: naswot needs images and darts_rnn reads words: use grad_norm or snip\n"
    alone = ("score", "nb201", "--sample", "3", "--channels", "2", "--dataset", "faint-digits", "--max-macs", "60000")
    done = forks.wsnas(*alone, "--out", "scores.csv", cwd=tmp_path)
    assert done.out == "3 architectures: scores.csv\n", done.err
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert [list(row) for row in csv.DictReader(file)] == [["arch", "score", "parameters"]] * 3


# stand-alone -------------------------------------------------------------------------------------------------


def test_train_one_architecture(forks: Any, tmp_path: Path) -> None:
    """The options reach the training: the library gives the printed numbers for the same recipe."""
    torch.set_num_threads(1)
    command = ("train", "nb201", ARCH, "--epochs", "2", "--batch", "100", "--lr", "0.05", "--channels", "2")
    command += ("--train-size", str(IMAGES))
    done = forks.wsnas(*command, "--seed", "3", cwd=tmp_path)
    assert done.code == 0, done.err
    space = load_space("nb201")
    recipe = change_recipe(space.recipes["micro"], channels=2, train_size=IMAGES)
    recipe = change_recipe(recipe, **{"standalone.epochs": 2, "standalone.batch": 100, "standalone.lr": 0.05})
    expected = train_architecture(space, ARCH, recipe, seed=3, device="cpu")
    assert done.out.startswith(f"validation {expected.valid:.2f} %, test {expected.test:.2f} % after 2 epochs: runs/")
    where = tmp_path / done.out.split(": ")[1].strip()
    stored = rows(where)[f"training|{ARCH}"]
    assert (stored["valid"], stored["test"]) == (expected.valid, expected.test)
    assert stored["half_valid"] == expected.half_valid
    stamp = (where / "checkpoint.pt").stat().st_mtime_ns
    assert forks.wsnas(*command, "--seed", "3", cwd=tmp_path).out == done.out
    spelled = ("train", "NB201", f" {ARCH}\n", *command[3:], "--seed", "3")  # the same, so it is not trained again
    assert forks.wsnas(*spelled, cwd=tmp_path).out == done.out
    assert (where / "checkpoint.pt").stat().st_mtime_ns == stamp


def test_ground_truth(forks: Any, tmp_path: Path) -> None:
    """Four architectures, two seeds, the requested epochs; a larger sample trains only the new ones."""
    command = ("ground-truth", "nb201", "--seeds", "2", "--epochs", "3", "--channels", "2", "--workers", "0")
    command += ("--train-size", str(IMAGES))
    done = forks.wsnas(*command, "--sample", "4", "--out", "truth", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.startswith("4 architectures, 2 seeds, 0 with a failed training")
    table = Table.load(tmp_path / "truth/table.parquet")
    assert len(set(table.archs)) == 4
    assert {(c.split, c.epochs, c.seed) for c in table.columns} == {
        (split, epochs, seed) for split, epochs in (("valid", 1), ("valid", 3), ("test", 3)) for seed in (0, 1)
    }
    first = rows(tmp_path / "truth")
    values = table.seeds("digits", "test")
    agreement = stats.spearmanr(values[:, 0], values[:, 1]).statistic
    assert f"two seeds agree at {agreement:.3f}" in done.out

    more = forks.wsnas(*command, "--sample", "5", "--out", "truth", cwd=tmp_path)
    assert more.code == 0, more.err
    longer = Table.load(tmp_path / "truth/table.parquet")
    assert longer.archs[:4] == table.archs
    np.testing.assert_array_equal(longer.seeds("digits", "test")[:4], values)
    del first["request|latest"]
    assert first.items() <= rows(tmp_path / "truth").items()  # seconds and all: not trained again

    shown = forks.wsnas("table", "show", "nb201", "--table", "truth/table.parquet", "--json", cwd=tmp_path)
    assert shown.code == 0, shown.err
    about = json.loads(shown.out)["about"]
    assert about["status"] == "10 ok"
    assert json.loads(about["recipe"])["standalone"]["epochs"] == table.length("digits", "test")
    assert f"\nstatus: {about['status']}\n" in shown.err
    assert "optimizer (kind sgd, " in shown.err
    assert '"' not in shown.err  # words, not JSON
    asked = forks.wsnas("table", "query", "nb201", table.archs[1], "--table", "truth/table.parquet", cwd=tmp_path)
    assert f"{values[1, 0]:.3f}" in asked.out


def test_ground_truth_of_one_epoch_and_one_architecture(forks: Any, tmp_path: Path) -> None:
    """Half of one epoch is no epoch, and one architecture has no ranking: "not available" instead of an error."""
    command = ("ground-truth", "nb201", "--seeds", "2", "--epochs", "1", "--channels", "2", "--workers", "0")
    command += ("--train-size", str(IMAGES))
    done = forks.wsnas(*command, "--sample", "1", "--out", "truth", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.startswith("1 architecture, 2 seeds")
    table = Table.load(tmp_path / "truth/table.parquet")
    assert np.isfinite(table.seeds("digits", "test", 1)).all()
    assert table.epochs("digits", "valid") == {1}
    shown = forks.wsnas("table", "show", "nb201", "--table", "truth/table.parquet", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "not available" in shown.out


# tables ------------------------------------------------------------------------------------------------------


def test_show_says_of_each_length_how_it_was_trained(forks: Any, tmp_path: Path) -> None:
    """All of the length that counts, a line of each other one; --json has both whole."""
    shown, stored = (forks.wsnas("table", "show", "nb201", *more, cwd=tmp_path) for more in ((), ("--json",)))
    lines = shown.out.splitlines()
    assert [line for line in lines if line.startswith("recipe: ")] != []
    (two, twenty) = (line for line in lines if re.match(r"\d+ epochs?: ", line))
    assert two.startswith("2 epochs: command wsnas ground-truth nb201 --sample 15284 --seeds 3 ")
    assert twenty.startswith("20 epochs: command wsnas ground-truth nb201 --scale desk --epochs 20 ")
    assert two.endswith("; seconds 30882 in all of 13161 trainings, median 1.77; --json has the rest")
    found = json.loads(stored.out)
    assert "recipe" in json.loads(found["about"]["2 epochs"])
    (test,) = (one for one in found["measurements"] if (one["split"], one["epochs"]) == ("test", 10))
    ceiling = found["ceilings"]["digits"]
    assert ceiling["value"] == pytest.approx(test["reliability"] ** 0.5, abs=1e-3)
    assert ceiling["low"] < ceiling["value"] < ceiling["high"] < 1
    low_to_high = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**ceiling)
    assert f"digits: no predictor can correlate with the mean test result above {low_to_high}" in lines


def test_import_show_query(forks: Any, tmp_path: Path) -> None:
    """A publisher's CSV is imported once, then found without being named."""
    archs = sample(6)
    with (tmp_path / "published.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "cifar10_valid_200", "cifar10_test_200_777", "cifar10_test_200_888"])
        writer.writerows([arch, 80 + i, 70.125 + i, 71.25 + i] for i, arch in enumerate(archs))
        writer.writerow(["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 10, 10, 10])  # not valid: left out
    home = {"WSNAS_TABLES": str(tmp_path / "tables")}
    done = forks.wsnas("table", "import", "nb201", "published.csv", cwd=tmp_path, env=home)
    assert done.code == 0, done.err
    assert done.out.startswith("6 architectures, 3 columns")
    assert (tmp_path / "tables/nb201.parquet").exists()

    shown = forks.wsnas("table", "show", "nb201", "--dataset", "cifar10", cwd=tmp_path, env=home)
    assert shown.code == 0, shown.err
    assert "nb201: 6 architectures" in shown.out
    line = next(line for line in shown.out.splitlines() if "test" in line and "cifar10" in line)
    means = [70.6875 + i for i in range(6)]
    for number in (min(means), float(np.mean(means)), max(means)):
        assert f"{number:.2f}" in line
    assert "1.000" in line  # the two seeds order the six the same way

    for command in (("show", "nb201"), ("query", "nb201", archs[2])):
        other = forks.wsnas("table", *command, "--dataset", "more-digits", cwd=tmp_path, env=home)
        assert (other.code, other.err) == (2, "Error: the table of nb201 has no data set 'more-digits', only cifar10\n")

    asked = forks.wsnas("table", "query", "nb201", f"  {archs[2]} ", "--dataset", "cifar10", cwd=tmp_path, env=home)
    assert asked.code == 0, asked.err
    assert asked.out.splitlines()[0] == archs[2]
    measured = dict(line.split() for line in asked.out.splitlines()[1:])
    assert measured == {
        "cifar10/valid/200/mean": "82.000",
        "cifar10/test/200/777": "72.125",
        "cifar10/test/200/888": "73.250",
    }


@pytest.mark.parametrize("name", ["runs", "elsewhere/deep"])
def test_import_to_a_file_of_choice(forks: Any, tmp_path: Path, name: str) -> None:
    write_truth(tmp_path / "truth.csv", sample(3))
    target = tmp_path / name / "compact.parquet"
    done = forks.wsnas("table", "import", "nb201", "truth.csv", "--out", target, cwd=tmp_path)
    assert done.code == 0, done.err
    assert Table.load(target).archs == tuple(sample(3))


# what is printed ---------------------------------------------------------------------------------------------


def leaves(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command, by its words; the studies are scripts of their own."""
    found = []
    for name, one in group.commands.items():
        found += leaves(one, (*path, name)) if getattr(one, "commands", None) else [(*path, name)]
    return found


@pytest.mark.parametrize("words", leaves(main), ids=" ".join)
@pytest.mark.parametrize("space", [(), ("nb201",)], ids=["", "nb201"])
def test_help_fits_60_columns(words: tuple[str, ...], space: tuple[str, ...]) -> None:
    """No line is longer, nothing is cut with dots, and every option says what it does."""
    if space and not {"train", "train-supernet", "ground-truth"} & {*words}:
        pytest.skip("has no options of a space")
    done = CliRunner().invoke(main, [*words, *space, "--help"], terminal_width=60)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 60
    several = ("[ARGS]...", "[FOLDERS]...", "FILES...", "RUNS...")
    assert "..." not in re.sub("|".join(map(re.escape, several)), "", done.output)


def test_every_spaces_and_studys_help_fits_60_columns() -> None:
    studies = main.commands["study"]
    assert isinstance(studies, click.Group)
    commands = [["study", name] for name in studies.list_commands(click.Context(studies))]
    commands += [
        [command, space]
        for command in ("train-supernet", "train", "ground-truth", "score")
        for space in installed_spaces()
    ]
    for command in commands:
        done = CliRunner().invoke(main, [*command, "--help"], terminal_width=60)
        assert done.exit_code == 0, done.output
        assert max(map(len, done.output.splitlines())) <= 60, command


def test_json(tmp_path: Path, forks: Any) -> None:
    """Stdout is one JSON object with the numbers of the sentences, which go to stderr."""
    truth = write_truth(tmp_path / "truth.csv", sample(12))
    table = ("--table", "truth.csv")
    train = forks.wsnas("train-supernet", "nb201", *SMALL, "--out", "net", "--json", cwd=tmp_path)
    assert json.loads(train.out)["steps"] == IMAGES // 128
    scored = forks.wsnas("evaluate", "net", "--sample", "9", *table, "--json", cwd=tmp_path)
    scores = json.loads(scored.out)["scores"]
    assert len(scores) == 9
    assert "9 submodels" in scored.err
    said = forks.wsnas("correlate", "net", *table, cwd=tmp_path).out
    found = json.loads(forks.wsnas("correlate", "net", *table, "--json", cwd=tmp_path).out)
    assert found["spearman"]["value"] == pytest.approx(
        stats.spearmanr(list(scores.values()), [truth[arch] for arch in scores]).statistic
    )
    assert said.startswith(f"Spearman {found['spearman']['value']:.3f}, ")
    row = json.loads(forks.wsnas("table", "query", "nb201", next(iter(truth)), *table, "--json", cwd=tmp_path).out)
    assert row["measured"]["digits/test/8/mean"] == pytest.approx(next(iter(truth.values())), abs=1e-4)
    shown = json.loads(forks.wsnas("table", "show", "nb201", *table, "--json", cwd=tmp_path).out)
    assert {(one["split"], one["measured"]) for one in shown["measurements"]} == {("valid", 12), ("test", 12)}
    spaces = json.loads(forks.wsnas("spaces", "--json", cwd=tmp_path).out)
    assert spaces["nb201"]["size"] == 15_284


def test_every_command_that_prints_a_result_has_json() -> None:
    for words in leaves(main):
        if words == ("study",):  # its results are files, results.json among them
            continue
        done = CliRunner().invoke(main, [*words, "--help"])
        assert "--json" in done.output, words


def test_runs_lists_what_is_there(tmp_path: Path, forks: Any) -> None:
    """A finished run, a stopped one with the command that continues it, a ground truth, and a damaged run."""
    train = ("train-supernet", "nb201", *SMALL, "--out")
    forks.wsnas(*train, "runs/done", cwd=tmp_path)
    forks.wsnas("evaluate", "runs/done", "--sample", "5", cwd=tmp_path)
    more = ("train-supernet", "nb201", *SMALL[2:], "--epochs", "3", "--out", "runs/stopped")
    forks.wsnas(*more, cwd=tmp_path)
    metrics = tmp_path / "runs/stopped/metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))
    truth = ("ground-truth", "nb201", "--sample", "2", "--seeds", "1", "--epochs", "2", "--channels", "2")
    forks.wsnas(*truth, "--train-size", "640", "--workers", "0", "--no-latency", "--out", "runs/truth", cwd=tmp_path)
    (tmp_path / "runs/bad").mkdir()
    (tmp_path / "runs/bad/run.json").write_text("{")
    found = {Path(one["path"]).name: one for one in json.loads(forks.wsnas("runs", "--json", cwd=tmp_path).out)}
    assert {name: one["progress"] for name, one in found.items() if name != "bad"} == {
        "done": "epoch 1 of 1, 5 submodels scored",
        "stopped": "epoch 2 of 3",
        "truth": "2 trainings of 2 architectures",
    }
    assert [name for name, one in found.items() if not one["finished"]] == ["bad", "stopped"]
    assert found["stopped"]["command"] == "wsnas " + " ".join(more)
    size = sum(path.stat().st_size for path in (tmp_path / "runs/done").rglob("*") if path.is_file())
    assert found["done"]["megabytes"] == pytest.approx(size / 1e6)
    said = forks.wsnas("runs", cwd=tmp_path).out
    assert f"    {found['stopped']['command']}\n" in said
    assert forks.wsnas("runs", "nowhere", cwd=tmp_path).code == 2


def test_a_table_is_drawn(tmp_path: Path, forks: Any) -> None:
    write_truth(tmp_path / "truth.csv", sample(40))
    show = ("table", "show", "nb201", "--table", "truth.csv", "--figure")
    for name, begins in (("t.png", b"\x89PNG"), ("t.svg", b"<?xml"), ("t.pdf", b"%PDF")):
        done = forks.wsnas(*show, name, cwd=tmp_path)
        assert done.code == 0, done.err
        assert (tmp_path / name).read_bytes().startswith(begins)
    done = forks.wsnas(*show, "t.gif", cwd=tmp_path)
    assert (done.code, "must end in .png" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (["train-supernet"], "nb2", ["nb201"]),
        (["train-supernet", "nb201", "--dataset"], "cifar1", ["cifar10", "cifar100"]),
        (["train-supernet", "nb201", "--scale"], "de", ["desk"]),
        (["study"], "capa", ["capacity"]),
        (["correlate", "net", "--truth"], "cifar1", ["cifar10", "cifar100"]),
        (["rank", "net", "--scale"], "de", ["desk"]),
        (["table", "show", "nb201", "--dataset"], "di", ["digits"]),
        (["study", "capacity", "--truth"], "cifar1", ["cifar10", "cifar100"]),
        (["study", "capacity"], "--fac", ["--factor"]),
        (["study", "capacity", "--space"], "nb2", ["nb201"]),
        (["study", "capacity", "--dataset"], "cifar1", ["cifar10", "cifar100"]),
        (["table"], "sh", ["show"]),
        (["train-supernet", "nb201"], "--channels", ["--channels"]),
    ],
)
def test_completion(words: list[str], incomplete: str, expected: list[str]) -> None:
    found = ShellComplete(main, {}, "wsnas", "_WSNAS_COMPLETE").get_completions(words, incomplete)
    assert [one.value for one in found] == expected
