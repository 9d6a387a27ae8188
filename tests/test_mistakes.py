"""The mistakes a newcomer makes first. Each gets one clear sentence: what was meant, or the command that helps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import wsnas
from wsnas.cli import main
from wsnas.recipe import change_recipe, digest

if "nb201" not in wsnas.installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"

# command line (NET: a trained supernet), and what the answer says
MISTAKES = {
    # a name
    "train-supernet nb2o1": "did you mean 'nb201'?",
    "train-supernet nas-bench-201": "installed: ",
    "train-supernet": "Missing argument 'SPACE'",
    "trian nb201": "No such command 'trian'",
    "table improt nb201 FILE": "No such command 'improt'",
    "train-supernet nb201 --dataset cifar11": "did you mean 'cifar10'?",
    "train-supernet nb201 --dataset imagenet16": "did you mean 'imagenet16-120'?",
    "train-supernet nb201 --dataset images/": "train_images uint8 [N,H,W,3]",
    "train-supernet nb201 --scale mirco": "'mirco' is not one of",
    "train-supernet nb201 --chanels 4": "did you mean '--channels'?",
    "train-supernet nb201 --epoch 4": "did you mean '--epochs'?",
    "train-supernet nb201 --learning-rate 0.1": "did you mean '--lr'?",
    "train-supernet --epochs 4": "no installed space is named",
    "score nb201 --proxy synfow": "did you mean 'synflow'?",
    "table show nb201 --dataset cifra10": "did you mean 'cifar10'?",
    "correlate NET --truth digtis": "did you mean 'digits'?",
    "rank NET --truth cifar11": "did you mean 'cifar10'?",
    "score nb201 --truth CIFAR-10": "has no ground truth on cifar10: get NAS-Bench-201",
    "train-supernet nb201 --dataset imagenet16-120": "linked at github.com/D-X-Y/NAS-Bench-201",
    "evaluate NET --sampel 3": "--sample",
    f"train nb201 {CELL.replace('nor_conv', 'conv')}": "did you mean 'nor_conv_3x3'?",
    f"train nb201 {CELL.replace('skip_connect', 'skip')}": "did you mean 'skip_connect'?",
    f"train nb201 {DEAD}": "crosses a 'none'",
    "train nb201 resnet18": "write it as |op~0|+|op~0|op~1|+",
    # a value
    "train-supernet nb201 --epochs many": "is not a valid integer",
    "train-supernet nb201 --epochs 0": "0 is not in the range 1<=x<=1000000",
    "train-supernet nb201 --lr -1": "-1.0 is not in the range x>0",
    "train-supernet nb201 --batch 100000": "make the batch smaller",
    "train-supernet nb201 --train-size 99999": "training images",
    "train-supernet nb201 --seed -1": "-1 is not in the range",
    "train-supernet nb201 --paths strict": "uniform, fair or multi:N",
    "train-supernet nb201 --device gpu": "use cpu, cuda or cuda:N",
    "train-supernet nb201 --device cuda": "use --device cpu",
    "train-supernet nb201 --device cpu:1": "unsupported device 'cpu:1'; use cpu, cuda or cuda:N",
    "train-supernet nb201 --optimizer adam": "'adam' is not one of",
    # a file or folder
    "evaluate nowhere": "nowhere is not a run directory",
    "evaluate FILE": "is not a run directory",
    "correlate EMPTY": "run 'wsnas evaluate",
    "correlate NET --table nothing.parquet": "make one with 'wsnas table import'",
    "rank NET --table FILE": "neither a .pth, .csv, .csv.gz or .parquet file",
    "table import nb201 nothing.pth": "NAS-Bench-201",
    "table show nb201 --dataset cifar10": "get NAS-Bench-201-v1_1-096897.pth, linked at github.com",
    f"table query nb201 {CELL} --table other.csv": "to train it: wsnas train nb201",
    "correlate NET --table other.csv": "wsnas evaluate RUN --table",
    # two things that exclude each other, or one that is missing
    f"evaluate NET --arch {CELL} --sample 3": "give only one of the two",
    "evaluate NET --sample 99999": "the ground truth has",
    "score nb201 --sample 99999": "the ground truth has",
    "score nb201 --sample 2 --images 6001": "give fewer --images",
    "train-supernet nb201 --valid-size 99999": "more than digits has to validate, 4,000",
    "evaluate NET --max-macs 1": "with at most 1 multiply-adds",
    "evaluate NET --valid-size 99999": "more than digits has to validate, 4,000",
    "evaluate NET --timeout 60": "give --workers",
    "table show nb201 --table other.csv --dataset digits": "give only one of the two",
    "ground-truth nb201 --sample 2 --out truth --average-last 0.5 --calibration-steps 0": "--calibration-steps above 0",
    "ground-truth nb201 --sample 2": "Missing option '--out'",
    "ground-truth nb201 --sample 2 --out truth --ray auto --workers 2": "give only one of them",
    "ground-truth nb201 --sample 2 --out truth --gpus-a-job 0.5": "--gpus-a-job needs --ray",
    "ground-truth nb201 --sample 2 --seeds 2 --best 1 --out truth": "2 of 2 architectures have no training with seed 0",
    "ground-truth nb201 --sample 2 --best 3 --out truth": "3 are more than --sample 2 draws",
    "report nowhere": "nowhere",
    "study worth --without supernets --budgets 3": "--budgets has no effect with --without supernets",
    "study worth --without paths --paths fair": "--paths has no effect with --without paths",
    "study worth --without zero-cost --images 9": "--images has no effect with --without zero-cost",
    "study spaces --space nb201 --out of-epochs": "results of epochs, which those of spaces would replace",
    "rank NET --out of-epochs": "of-epochs has results of epochs, which those of rank would replace",
    "table import nb201 other.csv": "ships a ground truth on digits, which is used wherever no --table is given",
    "study tricks --space nb201 --other-dataset digits": "--other-dataset digits is the baseline's own",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a supernet that is scored (net), one that is not (empty), a file and a foreign table."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("home")
    space = wsnas.load_space("nb201")
    recipe = change_recipe(space.recipes["micro"], epochs=1, channels=2, train_size=640, valid_size=100)
    for name in ("net", "empty"):
        supernet = wsnas.train_supernet(space, recipe, out=folder / name, device="cpu")
        if name == "net":
            wsnas.evaluate(supernet, CELL)
    (folder / "file").write_text("neither a run nor a table")
    other = space.encode(space.sample(np.random.default_rng(0)))
    (folder / "other.csv").write_text(f"architecture,digits/test/8\n{other},50\n")
    (folder / "of-epochs").mkdir()
    (folder / "of-epochs/results.json").write_text('{"study": "epochs"}')
    return folder


@pytest.mark.parametrize("line", list(MISTAKES))
def test_a_likely_mistake(line: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("WSNAS_TABLES", str(home / "tables"))
    monkeypatch.setenv("WSNAS_DATA", str(home / "data"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = sorted(path for path in home.rglob("*") if path.name != "lock")
    words: list[str] = []
    for word in line.split():
        words.append({"NET": "net", "EMPTY": "empty", "FILE": "file"}.get(word, word))
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    *usage, error = done.output.strip().splitlines()
    assert error.startswith("Error: ")
    assert MISTAKES[line] in error
    assert len(usage) in (0, 3)  # click shows how the command is used where it is not understood at all
    assert len(error) < 600
    assert sorted(path for path in home.rglob("*") if path.name != "lock") == before


def test_an_import_does_not_replace_one_that_has_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSNAS_TABLES", str(tmp_path / "tables"))
    monkeypatch.chdir(tmp_path)
    Path("both.csv").write_text(f"architecture,cifar10/test/200,cifar100/test/200\n{CELL},90,70\n")
    Path("one.csv").write_text(f"architecture,cifar10/test/200\n{CELL},91\n")
    found = {}
    for file, more in (("one.csv", ()), ("both.csv", ()), ("one.csv", ()), ("one.csv", ("--out", "one.parquet"))):
        done = CliRunner().invoke(main, ["table", "import", "nb201", file, *more])
        found[file, more] = done.exit_code, done.output.strip()
        assert wsnas.load_ground_truth("nb201", "cifar10").columns
    code, said = found["one.csv", ()]
    assert code == 2
    assert (
        "nb201.parquet is an earlier import, with cifar100, which this table lacks: say where to keep this one" in said
    )
    assert found["both.csv", ()][0] == found["one.csv", ("--out", "one.parquet")][0] == 0
    assert wsnas.load_ground_truth("nb201", "cifar100").mean("cifar100", "test").tolist() == [70.0]


def commands(command: click.Command) -> Iterator[click.Command]:
    """Every command below one, also those of studies."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from commands(found)
    else:
        yield command


def test_no_option_of_any_command_takes_nan_or_infinity() -> None:
    """The recipe's own are in shared/tests/test_ground_truth.py."""
    asked = set()
    for command in commands(main):
        context = click.Context(command)
        for option in command.get_params(context):
            if isinstance(option.type, click.types.FloatParamType):
                asked.add(option.name)
                for value in ("nan", "inf", "-inf", "1e400"):
                    with pytest.raises(click.BadParameter):
                        option.type.convert(value, option, context)
    assert asked == {"gpus", "timeout"}


def test_case_and_hyphens_are_forgiven(home: Path, tmp_path: Path) -> None:
    """The run is the one that the plain spelling leads to."""
    options = ["--epochs", "1", "--channels", "2", "--train-size", "640", "--device", "cpu", "--out", str(tmp_path)]
    for space, scale, data, paths, optimizer in (
        ("NB201", "Micro", "Digits", "Uniform", "SGD"),
        ("nb201", "micro", "digits", "uniform", "sgd"),
        ("nb201", "micro", "DIGITS", "UNIFORM", "Sgd"),
    ):
        command = ["train-supernet", space, "--scale", scale, "--dataset", data, *options]
        command += ["--paths", paths, "--optimizer", optimizer]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    assert wsnas.load_supernet(tmp_path, "cpu").recipe.dataset == "digits"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", -3, "epochs must be at least 1 and at most 1,000,000, not -3"),
        ("epochs", "3", "epochs must be a whole number, not '3'"),
        ("epochs", 1.5, "epochs must be a whole number, not 1.5"),
        ("lr", 0, "lr must be above 0, not 0"),
        ("lr", float("nan"), "lr must be a finite number, not nan"),
        ("momentum", 1.0, "momentum must be at least 0 and below 1, not 1.0"),
        ("standalone.batch", 0, "standalone.batch must be at least 1, not 0"),
        ("standalone.last_batch", "Keep", "standalone.last_batch must be one of drop, keep, carry, not 'Keep'"),
        ("flip", "no", "flip must be True or False, not 'no'"),
        ("nesterov", 1, "nesterov must be True or False, not 1"),
        ("dataset", 5, "dataset must be a string, not 5"),
        ("split_file", Path("split.json"), f"split_file must be a string, not {Path('split.json')!r}"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_python_too(name: str, value: Any, said: str) -> None:
    recipe: Any = wsnas.load_space("nb201").recipes["micro"]
    with pytest.raises(wsnas.WsnasError) as error:
        change_recipe(recipe, **{name: value})
    assert str(error.value) == said
    numpys = change_recipe(recipe, epochs=np.int64(3), lr=np.float32(0.5), train_size=np.uint16(640))
    assert digest(numpys.identity()) == digest(change_recipe(recipe, epochs=3, lr=0.5, train_size=640).identity())


def test_an_unknown_field_is_answered_in_the_words_of_the_options() -> None:
    recipe: Any = wsnas.load_space("nb201").recipes["micro"]
    with pytest.raises(wsnas.WsnasError, match=r"no field 'chanels'; did you mean 'channels'\?$"):
        change_recipe(recipe, chanels=3)
    with pytest.raises(wsnas.WsnasError, match=r"no field 'zzz'; it has .*epochs") as said:
        change_recipe(recipe, zzz=3)
    assert "standalone.lr" not in str(said.value)


def test_an_interrupted_score_does_not_say_that_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsnas.proxies.proxy_scores", stopped)
    done = CliRunner().invoke(main, ["score", "nb201", "--sample", "2"])
    assert done.exit_code == 130
    assert "nothing is written" in done.output
    assert "saved" not in done.output


@pytest.mark.parametrize(("how", "again"), [((), "again"), (("--fresh",), "without --fresh")])
def test_a_study_that_began_anew_does_not_begin_anew_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: tuple[str, ...], again: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsnas.studies.jobs.require_supernets", stopped)
    done = CliRunner().invoke(main, ["study", "epochs", "--space", "nb201", *how])
    assert done.exit_code == 130
    assert f"finished work is saved: run the same command {again} to resume" in done.output


@pytest.mark.parametrize(
    "study", [("standalone",), ("worth", "--without", "supernets", "--short", "1", "--truth", "digits")]
)
def test_studies_that_need_validation_say_so_before_they_train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, study: tuple[str, ...]
) -> None:
    """A training on all images of a file has only test results; both studies ended in an error after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsnas.ground_truth.run_jobs", lambda *_: pytest.fail("it started workers"))
    rng = np.random.default_rng(0)
    parts = {f"{part}_images": rng.integers(0, 255, (200, 8, 8, 3), dtype=np.uint8) for part in ("train", "test")}
    np.savez(tmp_path / "all.npz", **parts, train_labels=np.arange(200) % 10, test_labels=np.arange(200) % 10)
    data = ("--space", "nb201", "--architectures", "24", "--dataset", "all.npz", "--train-size", "200", "--batch", "50")
    done = CliRunner().invoke(main, ["study", *study, *data])
    assert done.exit_code == 2, done.output
    assert "validation" in done.output
    assert "--train-size" in done.output
