"""Bad input ends in one clear sentence, exit code 2 and no traceback, and what was there before is intact."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsnas import evaluate, installed_spaces, load_ground_truth, load_space, load_supernet, train_supernet
from wsnas.data.images import Images, Splits
from wsnas.errors import Guesses, WsnasError
from wsnas.recipe import change_recipe
from wsnas.table import Column, Table
from wsnas.training import guesses

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

SMALL = ("--epochs", "2", "--channels", "2", "--train-size", "640", "--batch", "128", "--valid-size", "200")
TRAIN = ("train-supernet", "nb201", *SMALL, "--device", "cpu", "--out", "net")
STEPS = 2 * 640 // 128
ARCH = "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
INVALID = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def recipe() -> Any:
    small = {"epochs": 2, "channels": 2, "train_size": 640, "batch": 128, "valid_size": 200}
    return change_recipe(load_space("nb201").recipes["micro"], **small)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``net`` that TRAIN started and that was stopped after step 4 of 10."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("begun")

    def stop(done: int, total: int, note: str) -> None:
        assert total == STEPS
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_supernet(
            load_space("nb201"), recipe(), out=folder / "net", device="cpu", checkpoint_seconds=0, report=stop
        )
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run ``net`` and two evaluated architectures."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    supernet = train_supernet(load_space("nb201"), recipe(), out=folder / "net", device="cpu")
    evaluate(supernet, [ARCH, ARCH.replace("none~2", "avg_pool_3x3~2")])
    return folder


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder / "net", target / "net")
    return target


def contents(folder: Path) -> dict[str, str]:
    """Every file and its digest; without the log of sessions, which grows, and SQLite's bookkeeping."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in ("sessions.jsonl", "lock")
        and "-wal" not in path.name
        and "-shm" not in path.name
        and "tensorboard" not in path.parts
    }


def refused(done: Any, *words: str) -> None:
    """Exit code 2 and one line on stderr that says each of ``words``; progress may come before it."""
    assert done.code == 2, (done.code, done.out, done.err)
    assert "Traceback" not in done.err
    said = [line for line in done.err.strip().splitlines() if not re.match(r"\d\d:\d\d:\d\d .*: ", line)]
    assert len(said) == 1, done.err
    assert said[0].startswith("Error: ")
    for word in words:
        assert word in done.err, done.err


# names and options -------------------------------------------------------------------------------------------

GROUND_TRUTH = ("ground-truth", "nb201", "--sample", "2", "--workers", "0", "--out", "truth")
UNUSABLE = [
    (("train", "nb201", INVALID), ["is not valid", "none"]),
    (("train", "nb201", "resnet18"), ["'resnet18'", "write it as |op~0|"]),
    (("train", "nb201", ARCH.replace("skip_connect", "conv_7x7")), ["unknown operation 'conv_7x7'"]),
    (("table", "query", "nb201", INVALID), ["is not valid"]),
    (("train-supernet", "nb202"), ["no search space 'nb202'", "did you mean 'nb201'?"]),
    (("table", "show", "nb202"), ["no search space 'nb202'"]),
    (("train-supernet", "nb201", *SMALL, "--device", "gpu"), ["unknown device 'gpu'", "cpu, cuda or cuda:N"]),
    (("train-supernet", "nb201", *SMALL, "--device", "cuda:99"), ["cuda:99", "--device cpu"]),
    (("train-supernet", "nb201", *SMALL, "--device", "meta"), ["device 'meta'", "cpu, cuda or cuda:N"]),
    (("train-supernet", "nb201", *SMALL, "--device", "mps"), ["device 'mps'", "cpu, cuda or cuda:N"]),
    (("train-supernet", "nb201", *SMALL, "--paths", "random"), ["'random'", "uniform, fair or multi:N"]),
    (("train-supernet", "nb201", *SMALL, "--paths", "multi:x"), ["'multi:x'", "multi:4"]),
    (("train-supernet", "nb201", *SMALL, "--paths", "multi:0"), ["1 to 10,000 paths"]),
    (("train-supernet", "nb201", *SMALL, "--dataset", "missing.npz"), ["'missing.npz'", "cifar10", ".npz"]),
    (("train-supernet", "nb201", *SMALL, "--dataset", "cifar11"), ["'cifar11'"]),
    ((*GROUND_TRUTH, "--dataset", "cifar11"), ["'cifar11'"]),
    ((*GROUND_TRUTH, "--train-size", "100", "--batch", "128"), ["batch of 128", "has 100"]),
    (("train-supernet", "nb201", "--train-size", "1000000"), ["1000000", "training images"]),
    (("train-supernet", "nb201", "--train-size", "100", "--batch", "128"), ["batch of 128", "has 100"]),
    (("train", "nb201", ARCH, "--train-size", "100", "--batch", "128"), ["batch of 128", "has 100"]),
    (("train-supernet", "nb201", "--epochs", "2", "--split-file", "missing.json"), ["missing.json"]),
    (("evaluate", "nowhere"), ["nowhere", "run.json"]),
    (("evaluate", "nowhere", "--workers", "2", "--device", "cuda:1"), ["--device cuda:1", "CUDA_VISIBLE_DEVICES"]),
    (("correlate", "nowhere"), ["nowhere", "run.json"]),
    (("table", "import", "nb201", "missing.csv"), ["missing.csv"]),
    (("table", "query", "nb201", ARCH, "--table", "missing.parquet"), ["missing.parquet", "wsnas table import"]),
    (("table", "show", "nb201", "--dataset", "cifar10"), ["cifar10", "wsnas table import nb201"]),
    (("ground-truth", "nb201", "--sample", "20000", "--out", "truth"), ["20000", "15284"]),
    (("train-supernet", "nb201", *SMALL, "--dataset", "/dev/zero"), ["/dev/zero"]),
    (("train-supernet", "darts_rnn", "--dataset", "/dev/zero"), ["/dev/zero"]),
    (("train-supernet", "nb201", *SMALL, "--dataset", "x" * 300 + ".npz"), ["x" * 300]),
    (("train-supernet", "nb201", *SMALL, "--out", "x" * 300), ["x" * 300]),
    (("table", "import", "nb201", "x" * 300 + ".csv"), ["x" * 300]),
    (("table", "show", "nb201", "--table", "x" * 300 + ".parquet"), ["x" * 300]),
    (("evaluate", "x" * 300), ["x" * 300]),
    (("report", "x" * 300), ["x" * 300]),
    (("train-supernet", "nb201", "--epochs", "2", "--split-file", "/dev/null"), ["digits has its own split"]),
    (
        ("train-supernet", "nb201", "--dataset", "set.npz", "--train-size", "20", "--split-file", "split.json"),
        ["leave out --train-size or --split-file"],
    ),
]


@pytest.mark.parametrize(("command", "words"), UNUSABLE, ids=[" ".join(c)[:60] for c, _ in UNUSABLE])
def test_unusable(forks: Any, tmp_path: Path, command: tuple[str, ...], words: list[str]) -> None:
    refused(forks.wsnas(*command, cwd=tmp_path, env={"WSNAS_TABLES": str(tmp_path)}), *words)
    assert not list(tmp_path.rglob("*"))


def test_a_negative_seed(forks: Any, tmp_path: Path) -> None:
    done = forks.wsnas(*TRAIN, "--seed", "-1", cwd=tmp_path)
    assert done.code == 2
    assert "-1 is not in the range x>=0" in done.err
    assert not list(tmp_path.iterdir())
    with pytest.raises(WsnasError, match="not -1"):
        train_supernet(load_space("nb201"), recipe(), seed=-1, out=tmp_path / "net", device="cpu")


def test_a_sample_that_cannot_be_drawn(forks: Any, trained: Path, tmp_path: Path) -> None:
    """The shipped table has sufficient trainings of some hundred architectures; the file has those of two."""
    here = copy(trained, tmp_path)
    good_table(here / "two.csv")
    before = contents(here)
    trained_so = load_ground_truth("nb201").have_results().sum()
    refused(forks.wsnas("evaluate", "net", "--sample", "99999", cwd=here), "99999", f"has results of {trained_so}")
    refused(
        forks.wsnas("evaluate", "net", "--sample", "3", "--table", "two.csv", cwd=here),
        "3 different",
        "has results of 2",
    )
    for option in (("--sample", "3"), ("--table", "two.csv"), ("--sample-seed", "1"), ("--max-macs", "1000000")):
        refused(forks.wsnas("evaluate", "net", "--arch", ARCH, *option, cwd=here), "--arch", option[0], "only one")
    assert contents(here) == before


def test_unusable_architecture_among_good_ones(forks: Any, trained: Path, tmp_path: Path) -> None:
    """Refused before anything is evaluated."""
    here = copy(trained, tmp_path)
    before = contents(here)
    other = ARCH.replace("none~0", "skip_connect~0")
    refused(forks.wsnas("evaluate", "net", "--arch", other, "--arch", INVALID, cwd=here), "is not valid")
    assert contents(here) == before


# files that are damaged, foreign or hostile ------------------------------------------------------------------


def good_table(path: Path, dataset: str = "digits") -> Path:
    rows = [f"|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|{op}~2|,50.5" for op in ("none", "skip_connect")]
    path.write_text("\n".join([f"architecture,{dataset}_test_8", *rows]) + "\n")
    return path


class Hostile:
    """Unpickled carelessly, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.marker), "w")


def hostile(path: Path, marker: Path, zipped: bool) -> None:
    if zipped:
        torch.save({"arch2infos": Hostile(marker), "model": Hostile(marker)}, path)
    else:
        path.write_bytes(pickle.dumps(Hostile(marker)))


def test_the_hostile_file_would_run_code(tmp_path: Path) -> None:
    """With an ordinary unpickler, both forms run the code that must not run in the next tests."""
    for zipped in (False, True):
        marker = tmp_path / f"ran-{zipped}"
        hostile(tmp_path / "file", marker, zipped)
        if zipped:
            torch.load(tmp_path / "file", weights_only=False)
        else:
            pickle.loads((tmp_path / "file").read_bytes())
        assert marker.exists()


def test_truncated_tables(forks: Any, tmp_path: Path) -> None:
    """The table imported earlier is kept."""
    home = {"WSNAS_TABLES": str(tmp_path / "tables")}
    good_table(tmp_path / "good.csv", "cifar10")
    assert forks.wsnas("table", "import", "nb201", "good.csv", cwd=tmp_path, env=home).code == 0
    imported = (tmp_path / "tables/nb201.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(imported[: len(imported) // 2])
    (tmp_path / "cut.csv").write_text((tmp_path / "good.csv").read_text()[:-8])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00cut")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut")
    for name in ("cut.parquet", "cut.csv", "empty.csv", "cut.csv.gz", "cut.pth"):
        refused(forks.wsnas("table", "import", "nb201", name, cwd=tmp_path, env=home), name)
        assert (tmp_path / "tables/nb201.parquet").read_bytes() == imported
    refused(forks.wsnas("table", "show", "nb201", "--table", "cut.parquet", cwd=tmp_path), "cut.parquet", "truncated")
    (tmp_path / "tables/nb201.parquet").write_bytes(imported[: len(imported) // 2])  # not as if there were none
    score = ("score", "nb201", "--sample", "2", "--dataset", "cifar10")
    refused(forks.wsnas(*score, cwd=tmp_path, env=home), "tables/nb201.parquet", "truncated")


def test_foreign_tables(forks: Any, tmp_path: Path) -> None:
    """Another benchmark's CSV, another program's Parquet, another space's table, unknown architectures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "foreign.csv").write_text("hash,accuracy\nabc,0.9\n")
    (tmp_path / "alien.csv").write_text("architecture,digits_test_8\nresnet18,50\n")
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "foreign.parquet")
    pq.write_table(
        pa.table({"arch": ["a"], "digits/test/8/0": [1.0]}).replace_schema_metadata(
            {"wsnas": '{"space": "nb101", "about": {}}'}
        ),
        tmp_path / "other.parquet",
    )
    for name, words in (
        ("foreign.csv", ["architecture"]),
        ("alien.csv", ["resnet18"]),
        ("foreign.parquet", ["not a wsnas table"]),
        ("other.parquet", ["nb101", "nb201"]),
    ):
        refused(forks.wsnas("table", "import", "nb201", name, cwd=tmp_path), name, *words)
        refused(forks.wsnas("table", "show", "nb201", "--table", name, cwd=tmp_path), name, *words)


@pytest.mark.parametrize("zipped", [False, True], ids=["pickle", "torch"])
@pytest.mark.parametrize("name", ["evil.pth", "evil.csv", "evil.parquet"])
def test_a_hostile_table_is_not_run(forks: Any, tmp_path: Path, name: str, zipped: bool) -> None:
    hostile(tmp_path / name, tmp_path / "ran", zipped)
    refused(forks.wsnas("table", "import", "nb201", name, cwd=tmp_path), name)
    refused(forks.wsnas("table", "show", "nb201", "--table", name, cwd=tmp_path), name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [False, True], ids=["pickle", "torch"])
def test_a_hostile_checkpoint_is_not_run(forks: Any, trained: Path, tmp_path: Path, zipped: bool) -> None:
    here = copy(trained, tmp_path)
    hostile(here / "net/checkpoint.pt", tmp_path / "ran", zipped)
    before = contents(here)
    for command in (TRAIN, ("evaluate", "net", "--arch", ARCH)):
        refused(forks.wsnas(*command, cwd=here), "checkpoint.pt", "nothing in it was executed")
    assert not (tmp_path / "ran").exists()
    assert contents(here) == before


def test_a_truncated_checkpoint(forks: Any, trained: Path, tmp_path: Path) -> None:
    here = copy(trained, tmp_path)
    whole = (here / "net/checkpoint.pt").read_bytes()
    for size in (0, 100, len(whole) // 2):
        (here / "net/checkpoint.pt").write_bytes(whole[:size])
        refused(forks.wsnas(*TRAIN, cwd=here), "checkpoint.pt", "move it away")


def test_a_damaged_run(forks: Any, trained: Path, tmp_path: Path) -> None:
    here = copy(trained, tmp_path)
    described = (here / "net/run.json").read_text()
    for damaged in ("", "[]", described[:100], described.replace('"space": "nb201"', '"space": "nb999"')):
        (here / "net/run.json").write_text(damaged)
        done = forks.wsnas("evaluate", "net", "--arch", ARCH, cwd=here)
        refused(done, "run.json", "checksum" if "nb999" in damaged else "cannot be read")
    (here / "net/run.json").write_text(described)
    (here / "net/records.sqlite").write_bytes(b"not a database, and long enough to be taken for one" * 100)
    refused(forks.wsnas("evaluate", "net", "--arch", ARCH, cwd=here), "records.sqlite")


# another run -------------------------------------------------------------------------------------------------


def test_a_run_of_other_options_is_not_continued(forks: Any, begun: Path, tmp_path: Path) -> None:
    here = copy(begun, tmp_path)
    before = contents(here)
    for options, words in (
        (("--lr", "0.01"), ["lr", "0.01"]),
        (("--seed", "1"), ["seed", "1"]),
        (("--paths", "multi:2"), ["paths", "multi:2"]),
        (("--cells", "2"), ["cells", "2"]),
        (("--threads", "2"), ["threads", "2"]),
    ):
        refused(forks.wsnas(*TRAIN, *options, cwd=here), "net holds another run", "--out", *words)
    alone = forks.wsnas("train", "nb201", ARCH, "--channels", "2", "--out", "net", cwd=here)
    refused(alone, "another run", "its kind is 'supernet', yours is 'stand-alone'")
    truth = ("ground-truth", "nb201", "--sample", "2", "--workers", "0")
    refused(forks.wsnas(*truth, "--out", "net", cwd=here), "its kind is 'supernet', yours is 'ground truth'")
    for reader in ((*truth, "--out", "truth", "--known", "net"), ("table", "show", "nb201", "--table", "net")):
        refused(forks.wsnas(*reader, cwd=here), "net is a run without a table", "wsnas ground-truth")
    assert contents(here) == before


def test_a_checkpoint_of_another_recipe(forks: Any, begun: Path, trained: Path, tmp_path: Path) -> None:
    """Copied from another directory, it is neither trained further nor evaluated."""
    other = tmp_path / "other"
    other.mkdir()
    options = ("--lr", "0.01")
    assert forks.wsnas(*TRAIN, *options, cwd=other).code == 0
    here = copy(begun, tmp_path)
    shutil.copy(other / "net/checkpoint.pt", here / "net/checkpoint.pt")
    before = contents(here / "net")
    refused(forks.wsnas(*TRAIN, cwd=here), "checkpoint.pt is a checkpoint of another recipe", "lr", "0.01")
    refused(forks.wsnas("evaluate", "net", "--arch", ARCH, cwd=here), "another recipe", "0.01")
    assert contents(here / "net") == before


def test_a_run_of_another_kind(forks: Any, tmp_path: Path) -> None:
    command = ("train", "nb201", ARCH, "--epochs", "1", "--channels", "2", "--train-size", "640", "--out", "alone")
    assert forks.wsnas(*command, cwd=tmp_path).code == 0
    refused(forks.wsnas("evaluate", "alone", cwd=tmp_path), "alone", "stand-alone", "not a supernet")
    refused(
        forks.wsnas("correlate", "alone", "--table", good_table(tmp_path / "t.csv"), cwd=tmp_path), "not a supernet"
    )


# data sets ---------------------------------------------------------------------------------------------------


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8),
        "train_labels": np.arange(40) % 4,
        "test_images": rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8),
        "test_labels": np.arange(20) % 4,
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "channels first": ({"train_images": arrays()["train_images"].transpose(0, 3, 1, 2)}, "[40, 3, 8, 8]"),
    "grey": ({"train_images": arrays()["train_images"][..., 0]}, "[40, 8, 8]"),
    "float": ({"train_images": arrays()["train_images"] / 255}, "float64"),
    "too few labels": ({"train_labels": np.arange(39) % 4}, "[39]"),
    "float labels": ({"test_labels": np.zeros(20)}, "float64"),
    "negative labels": ({"test_labels": np.arange(20) - 1}, "test_labels"),
    "two sizes": ({"test_images": np.zeros((20, 9, 9, 3), np.uint8)}, "size"),
    "objects": ({"train_labels": np.array([None] * 40, dtype=object)}, "npz"),
    "no test set": ({"test_images": None}, "test_images"),
}


@pytest.mark.parametrize("label", [60, 2**31, 2**63])
def test_labels_beyond_the_number_of_images(forks: Any, tmp_path: Path, label: int) -> None:
    """A head of so many classes would not fit into memory, and 2^63 turns negative; 40 + 20 images have up to 60."""
    labels = np.arange(40, dtype=np.uint64) % 4
    labels[7] = label
    np.savez(tmp_path / "set.npz", **{**arrays(), "train_labels": labels})
    command = ("train-supernet", "nb201", "--dataset", "set.npz", "--epochs", "1", "--channels", "2")
    refused(forks.wsnas(*command, cwd=tmp_path), "set.npz", f"a label is {label}", "60 images")


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_data_set_of_the_wrong_shape(forks: Any, tmp_path: Path, wrong: str) -> None:
    changed, word = WRONG[wrong]
    found = {name: value for name, value in (arrays() | changed).items() if value is not None}
    np.savez(tmp_path / "set.npz", **found)
    command = ("train-supernet", "nb201", "--dataset", "set.npz", "--epochs", "1", "--channels", "2")
    refused(forks.wsnas(*command, cwd=tmp_path), "set.npz", word)


def test_the_right_shape_is_taken(forks: Any, tmp_path: Path) -> None:
    """The intact file is accepted, half of it is not."""
    np.savez(tmp_path / "set.npz", **arrays())
    command = ("train-supernet", "nb201", "--dataset", "set.npz", "--epochs", "1", "--channels", "2", "--batch", "10")
    done = forks.wsnas(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    whole = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    refused(forks.wsnas(*command[:3], "cut.npz", *command[4:], cwd=tmp_path), "cut.npz")


def test_a_file_in_place_of_images(forks: Any, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / "set" / part / "cat").mkdir(parents=True)
        (tmp_path / "set" / part / "cat" / "1.png").write_bytes(b"not an image")
    command = ("train-supernet", "nb201", "--epochs", "1", "--channels", "2", "--dataset")
    refused(forks.wsnas(*command, "set", cwd=tmp_path), "1.png")
    (tmp_path / "empty").mkdir()
    refused(forks.wsnas(*command, "empty", cwd=tmp_path), "empty", "folder")


def test_a_file_that_is_no_split_file(forks: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **arrays())
    (tmp_path / "split.json").write_text('{"train": ["int", ["0", "1"]], "valid": ["int", ["1", "2"]]}')
    command = ("train-supernet", "nb201", "--dataset", "set.npz", "--epochs", "1", "--channels", "2", "--split-file")
    refused(forks.wsnas(*command, "split.json", cwd=tmp_path), "split.json", "once")
    refused(forks.wsnas(*command, "missing.json", cwd=tmp_path), "missing.json")


# what is missing or empty around a run -----------------------------------------------------------------------


def test_a_finished_run_whose_metrics_are_gone(forks: Any, trained: Path, tmp_path: Path) -> None:
    here = copy(trained, tmp_path)
    (here / "net/metrics.jsonl").unlink()
    done = forks.wsnas(*TRAIN, cwd=here)
    assert (done.code, done.out) == (0, f"trained {STEPS} steps, its losses are not there (metrics.jsonl): net\n")


@pytest.mark.parametrize("content", ["[]", "{}", "null", "3", '{"study": "epochs", "settings": []}'])
def test_results_that_are_empty(forks: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study/results.json").write_text(content)
    refused(forks.wsnas("report", "study", cwd=tmp_path), "study does not hold a finished study")
    assert not (tmp_path / "study/report.html").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("report", "study", "--out", ""), "empty"),
        (("report", "study", "--out", "."), "directory"),
        (("report", "study", "--out", "/"), "directory"),
        (("report", "study", "--out", "new/explorer.html"), "architectures' own page"),
        (("score", "nb201", "--sample", "3", "--proxy", "depth", "--out", "."), "directory"),
        (("score", "nb201", "--sample", "3", "--proxy", "depth", "--out", ""), "empty"),
        (("table", "show", "nb201", "--figure", "."), "directory"),
        ((*TRAIN[:-1], ""), "empty"),
        ((*TRAIN[:-1], os.fsdecode(b"n\xff")), "UTF-8"),
        ((*TRAIN, "--threads", "3000000000"), "--threads"),
        ((*TRAIN, "--channels", "10000000000000000000"), "channels must be at most 2,147,483,647"),
        ((*TRAIN, "--paths", "multi:99999999999999999999"), "1 to 10,000 paths"),
        ((*TRAIN, "--epochs", "1000000000"), "--epochs"),
        (("ground-truth", "nb201", "--sample", "9", "--best", "2", "--out", "new"), "--seeds 1 first"),
    ],
)
def test_what_is_no_name_and_no_number_of_ours(forks: Any, tmp_path: Path, command: tuple[str, ...], said: str) -> None:
    done = forks.wsnas(*command, cwd=tmp_path)
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_ground_truth_has_no_submodels_to_rank(forks: Any, tmp_path: Path) -> None:
    small = ("--epochs", "1", "--train-size", "256", "--channels", "2", "--no-latency", "--workers", "0")
    command = ("ground-truth", "nb201", "--sample", "2", "--seeds", "1", *small, "--out", "truth")
    assert forks.wsnas(*command, cwd=tmp_path).code == 0
    refused(forks.wsnas("rank", "truth", cwd=tmp_path), "truth is a ground truth run, not a supernet's")
    assert forks.wsnas(*(one for one in command if one != "--no-latency"), cwd=tmp_path).code == 0
    assert "left out: the latencies measured before" in forks.wsnas(*command, cwd=tmp_path).out
    done = forks.wsnas("table", "show", "nb201", "--table", "truth", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert done.code == 0, done.err
    assert "two seeds agree" in done.out


def test_parts_of_torchruns_environment(forks: Any, tmp_path: Path) -> None:
    """RANK alone is no second process: the command speaks. WORLD_SIZE alone, or not a number, is refused."""
    done = forks.wsnas(*TRAIN, cwd=tmp_path, env={"RANK": "3"})
    assert (done.code, done.out[:16]) == (0, f"trained {STEPS} steps")
    again = (*TRAIN[:-1], "again")
    done = forks.wsnas(*again, cwd=tmp_path, env={"WORLD_SIZE": "2"})
    refused(done, "WORLD_SIZE is 2 without RANK, MASTER_ADDR, MASTER_PORT", "torchrun")
    refused(forks.wsnas(*again, cwd=tmp_path, env={"WORLD_SIZE": "two"}), "WORLD_SIZE is 'two', not a number")


def test_a_tilde_is_the_home_folder(forks: Any, tmp_path: Path) -> None:
    """In environment variables and ``--out=``, where no shell replaces it."""
    np.savez(tmp_path / "set.npz", **arrays())
    (tmp_path / "home").mkdir()
    env = {"HOME": str(tmp_path / "home"), "WSNAS_DATA": "~/x", "WSNAS_TABLES": "~/tables"}
    small = ("--dataset", str(tmp_path / "set.npz"), "--epochs", "1", "--channels", "2", "--batch", "10")
    done = forks.wsnas("train-supernet", "nb201", *small, "--out=~/net", cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    assert (tmp_path / "home/net/checkpoint.pt").exists()
    good_table(tmp_path / "good.csv", "cifar10")
    assert forks.wsnas("table", "import", "nb201", "good.csv", cwd=tmp_path, env=env).code == 0
    assert (tmp_path / "home/tables/nb201.parquet").exists()
    code = "from wsnas.data.sources import data_root; print(data_root())"
    found = forks.start("code", code, cwd=tmp_path, env=env).wait()
    assert found.out.strip() == str(tmp_path / "home/x")
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("size", "batch", "why"), [("1", "2", "a batch of 2 images is larger"), ("1", "1", "evenly across 2 processes")]
)
def test_fewer_images_than_processes(tmp_path: Path, size: str, batch: str, why: str) -> None:
    """A share without images has no loss; the advice was to lower the learning rate."""
    np.savez(tmp_path / "set.npz", **arrays())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "wsnas"]
    options = ["--dataset", "set.npz", "--epochs", "1", "--channels", "2", "--train-size", size, "--batch", batch]
    done = subprocess.run(
        [*command, "train-supernet", "nb201", *options, "--device", "cpu", "--out", "net"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode != 0
    assert why in done.stderr
    assert "learning rate" not in done.stderr
    assert not (tmp_path / "net").exists()


# the disk ----------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_checkpoint(forks: Any, begun: Path, tmp_path: Path) -> None:
    """Files may not grow beyond half a checkpoint: the write fails, the old file loads, and the run resumes later."""
    here = copy(begun, tmp_path)
    checkpoint = here / "net/checkpoint.pt"
    before = checkpoint.read_bytes()
    done = forks.wsnas(*TRAIN, cwd=here, file_limit=len(before) // 2)
    refused(done, "cannot write", "checkpoint.pt", "intact", "run the same command again")
    assert checkpoint.read_bytes() == before
    assert load_supernet(here / "net", "cpu").step == 4
    assert not list((here / "net").glob(".*.part"))
    done = forks.wsnas(*TRAIN, cwd=here)
    assert done.code == 0, done.err
    undisturbed = train_supernet(load_space("nb201"), recipe(), out=tmp_path / "undisturbed", device="cpu")
    found = load_supernet(here / "net", "cpu")
    assert found.step == STEPS
    for name, tensor in undisturbed.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor), name


def test_a_full_disk_leaves_the_rows(forks: Any, trained: Path, tmp_path: Path) -> None:
    here = copy(trained, tmp_path)
    size = (here / "net/records.sqlite").stat().st_size
    command = ("evaluate", "net", "--arch", ARCH, "--arch", ARCH.replace("none~2", "nor_conv_1x1~2"))
    done = forks.wsnas(*command, cwd=here, file_limit=size // 2)
    refused(done, "records.sqlite", "intact")
    with sqlite3.connect(here / "net/records.sqlite") as database:
        assert database.execute("SELECT count(*) FROM records").fetchone() == (2,)
    assert forks.wsnas(*command, cwd=here).code == 0


@pytest.mark.parametrize("where", ["file/net", "file", "file/deep/er"])
@pytest.mark.parametrize(
    "command",
    [TRAIN[:-1], ("ground-truth", "nb201", "--sample", "2", "--channels", "2", "--workers", "0", "--out")],
    ids=["train-supernet", "ground-truth"],
)
def test_an_impossible_directory_is_refused(forks: Any, tmp_path: Path, where: str, command: tuple[str, ...]) -> None:
    """A directory below a regular file: nobody can write there, not even root."""
    (tmp_path / "file").write_text("a regular file")
    refused(forks.wsnas(*command, where, cwd=tmp_path), "cannot write", where)
    assert (tmp_path / "file").read_text() == "a regular file"


def test_a_table_that_cannot_be_written(forks: Any, tmp_path: Path) -> None:
    good_table(tmp_path / "good.csv")
    done = forks.wsnas("table", "import", "nb201", "good.csv", "--out", "good.csv/table.parquet", cwd=tmp_path)
    refused(done, "cannot write", "good.csv/table.parquet")


# permissions -------------------------------------------------------------------------------------------------

WITHOUT_RIGHTS = """
import ctypes, runpy, sys
nothing = (ctypes.c_uint32 * 6)()
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), nothing)  # else no permission stops root
sys.argv = ["wsnas", *{arguments!r}]
runpy.run_module("wsnas", run_name="__main__", alter_sys=True)
"""
LITTLE = ("train-supernet", "nb201", "--epochs", "1", "--channels", "2", "--batch", "4", "--device", "cpu", "--dataset")
NO = "Permission denied"
FORBIDDEN: list[tuple[str, int, tuple[str, ...], list[str]]] = [
    ("net/run.json", 0, ("evaluate", "net", "--arch", ARCH), ["cannot read net/run.json", NO, "readable"]),
    ("net/checkpoint.pt", 0, TRAIN, ["cannot read net/checkpoint.pt", NO, "readable"]),
    ("net/metrics.jsonl", 0, TRAIN, ["cannot read net/metrics.jsonl", NO]),
    ("net/records.sqlite", 0, ("correlate", "net"), ["cannot read net/records.sqlite"]),
    ("net/lock", 0, ("evaluate", "net", "--arch", ARCH.replace("none~2", "nor_conv_1x1~2")), ["net/lock", NO]),
    ("net", 0o400, ("correlate", "net"), ["net/run.json", NO]),
    (".", 0o500, (*TRAIN[:-1], "other"), ["cannot write other", NO]),
    (".", 0o500, ("table", "import", "nb201", "good.csv", "--out", "x.parquet"), ["cannot write x.parquet", NO]),
    ("set.npz", 0, (*LITTLE, "set.npz"), ["set.npz", NO]),
    ("split.json", 0, (*LITTLE, "set.npz", "--split-file", "split.json"), ["split.json", NO]),
    ("images", 0, (*LITTLE, "images"), ["images", NO]),
    ("images/train/cat/more", 0, (*LITTLE, "images"), ["cannot read", "images/train/cat/more", NO]),
    ("images/train/cat/more", 0o400, (*LITTLE, "images"), ["cannot read", "images/train/cat/more/1.png", NO]),
    ("images/val/dog", 0, (*LITTLE, "images"), ["cannot read", "images/val/dog", NO]),
    ("images/train/cat/0.png", 0, (*LITTLE, "images"), ["images/train/cat/0.png", NO]),
    ("table.parquet", 0, ("table", "show", "nb201", "--table", "."), ["cannot read table.parquet", NO]),
    ("nats", 0o400, ("table", "import", "nb201", "nats"), ["cannot read nats/000001.pickle.pbz2", NO]),
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="root gives up its rights as Linux lets it")
@pytest.mark.parametrize(
    ("name", "mode", "command", "words"), FORBIDDEN, ids=[f"{n} {m:o} {c[0]}" for n, m, c, _ in FORBIDDEN]
)
def test_what_this_user_may_not_read_or_write(
    forks: Any, trained: Path, tmp_path: Path, name: str, mode: int, command: tuple[str, ...], words: list[str]
) -> None:
    """Also for root. A folder that cannot be listed was passed over, and the images in it were missing."""
    here = copy(trained, tmp_path)
    Table("nb201", (ARCH,), {Column("digits", "test", 8, 0): np.array([50.5])}).save(here / "table.parquet")
    good_table(here / "good.csv")
    np.savez(here / "set.npz", **arrays())
    (here / "split.json").write_text('{"train": ["int", ["0"]], "valid": ["int", ["1"]]}')
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            (here / "images" / part / label / "more").mkdir(parents=True)
            for file in ("0.png", "more/1.png"):
                Image.fromarray(arrays()["train_images"][0]).save(here / "images" / part / label / file)
    (here / "nats").mkdir()
    (here / "nats/000001.pickle.pbz2").write_bytes(b"")
    before, allowed = contents(here), (here / name).stat().st_mode
    (here / name).chmod(mode)
    try:
        done = forks.start("code", WITHOUT_RIGHTS.format(arguments=command), cwd=here).wait()
    finally:
        (here / name).chmod(allowed)
    refused(done, *words)
    assert contents(here) == before


def test_runs_lists_what_it_may_and_names_what_it_may_not(forks: Any, trained: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        shutil.copytree(trained / "net", tmp_path / name)
    (tmp_path / "one").chmod(0)
    (tmp_path / "two/run.json").chmod(0)
    try:
        done = forks.start("code", WITHOUT_RIGHTS.format(arguments=("runs", ".")), cwd=tmp_path).wait()
    finally:
        (tmp_path / "one").chmod(0o755)
    assert done.code == 0, done.err
    found = {line.partition(":")[0]: line for line in done.out.splitlines() if not line.startswith(" ")}
    assert "one: unreadable folder, Permission denied" in found["one"]
    assert "two: damaged run, cannot read two/run.json (Permission denied)" in found["two"]
    assert "three: nb201 supernet, seed 0, epoch 2 of 2, 2 submodels scored" in found["three"]


# numbers -----------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite(forks: Any, tmp_path: Path) -> None:
    """It leaves no checkpoint and says what to do."""
    done = forks.wsnas(*TRAIN, "--lr", "1e38", cwd=tmp_path)
    refused(done, "not finite", "lower the learning rate", "1e+38")
    assert not (tmp_path / "net/checkpoint.pt").exists()
    alone = ("train", "nb201", ARCH.replace("none~2", "nor_conv_3x3~2"), "--channels", "2", "--train-size", "640")
    refused(forks.wsnas(*alone, "--lr", "1e38", cwd=tmp_path), "not finite", "lower the learning rate")


def test_a_loss_far_worse_than_guessing(forks: Any, tmp_path: Path) -> None:
    """Finite, but no training: guessing among ten classes loses 2.3."""
    done = forks.wsnas(*TRAIN, "--lr", "1000", cwd=tmp_path)
    refused(done, "has risen", "worse than guessing", "lower the learning rate", "1000")
    assert not (tmp_path / "net/checkpoint.pt").exists()


def test_a_loss_that_stops_being_finite_keeps_the_checkpoint(tmp_path: Path) -> None:
    """Images turn bad after the checkpoint of step 3, which is kept and still says step 3."""
    from wsnas.errors import Diverged

    torch.set_num_threads(1)
    space = load_space("nb201")
    good = space.load_data(recipe(), torch.device("cpu"))

    class Turning(Images):
        def epoch(self, *args: Any, **options: Any) -> Any:
            for i, (x, y) in enumerate(super().epoch(*args, **options)):
                yield (x if i < 3 else x * float("nan")), y

    bad = Turning(
        good.train.pixels.numpy(), good.train.labels.numpy(), good.train.mean, good.train.std, good.train.device
    )
    splits = Splits(bad, good.valid, good.test, good.classes)
    with pytest.raises(Diverged, match="not finite by step 4 of 10"):
        train_supernet(space, recipe(), out=tmp_path / "net", device="cpu", splits=splits, checkpoint_seconds=0)
    assert load_supernet(tmp_path / "net", "cpu").step == 3


# a training that learns nothing --------------------------------------------------------------------------------


def test_a_training_that_learns_nothing_says_so(forks: Any, tmp_path: Path) -> None:
    """Labels that are drawn at random cannot be learned; those of the digits, in as many epochs, can."""
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    for part in ("train", "test"):
        parts[f"{part}_images"] = rng.integers(0, 256, (320, 8, 8, 3), dtype=np.uint8)
        parts[f"{part}_labels"] = np.arange(320) % 10
    np.savez(tmp_path / "noise.npz", **parts)
    small = ("--epochs", "2", "--channels", "2")
    noise = (*small, "--batch", "64", "--dataset", "noise.npz", "--train-size", "256", "--lr", "10")
    commands = (
        ("train-supernet", "nb201", *noise, "--valid-size", "64", "--out", "net"),
        ("train", "nb201", ARCH, *noise, "--out", "alone"),
        ("train", "nb201", ARCH, *noise, "--out", "alone"),  # a run that is finished
    )
    for command in commands:
        done = forks.wsnas(*command, cwd=tmp_path)
        assert done.code == 0, done.err
        (line,) = [one for one in done.err.splitlines() if "Warning" in one]  # a slow machine reports progress
        assert re.match(r"Warning: the training learned nothing: the last epoch's loss, \d\.\d{3}, is no better", line)
        assert line.endswith("among 10 classes, 2.303; lower the learning rate (10), or train for more epochs")
    truth = ("ground-truth", "nb201", "--sample", "2", "--seeds", "1", "--workers", "0", "--no-latency")
    done = forks.wsnas(*truth, *noise, "--out", "truth", cwd=tmp_path)
    assert (done.code, "Warning" in done.err) == (0, False), done.err
    assert "2 of 2 trainings ended no better than guessing; if that is many, lower the learning rate" in done.out
    done = forks.wsnas("train", "nb201", ARCH, *small, "--train-size", "3000", "--out", "digits", cwd=tmp_path)
    assert (done.code, "Warning" in done.err) == (0, False), done.err


def test_the_loss_of_a_guess() -> None:
    """Each path's and each head's is the logarithm of the classes; one epoch, begun untrained, tells nothing."""
    training = load_space("nb201").recipes["micro"].standalone
    guess = float(np.log(10))
    assert guesses([3.0, guess + 1e-6], training, 10)
    assert not guesses([3.0, guess - 1e-6], training, 10)
    assert not guesses([3.0], training, 10)
    assert not guesses([], training, 10)
    assert guesses([3.0, 5 * guess + 1e-6], training, 10, weight=5)
    assert not guesses([3.0, 5 * guess - 1e-6], training, 10, weight=5)
    if "darts_cnn" in installed_spaces():
        with_head = dataclasses.replace(load_space("darts_cnn").recipes["micro"].standalone, auxiliary=0.4)
        assert guesses([9.0, 1.4 * guess + 1e-6], with_head, 10)
        assert not guesses([9.0, 1.4 * guess - 1e-6], with_head, 10)


def test_a_warning_to_a_script_names_its_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (256, 8, 8, 1), dtype=np.uint8), np.arange(256) % 10
    part = Images(pixels, labels, torch.tensor([128.0]), torch.tensor([70.0]), torch.device("cpu"))
    changed = change_recipe(recipe(), **{"batch": 64, "supernet.lr": 10.0, "valid_size": 64})
    with pytest.warns(Guesses, match="learned nothing") as caught:
        train_supernet("nb201", changed, out=tmp_path / "net", device="cpu", splits=Splits(part, part, part, 10))
    assert caught[0].filename == __file__
