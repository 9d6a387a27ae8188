"""Data that changed under a run are refused, for every space and every command that would mix the two."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsnas import WsnasError, evaluate, installed_spaces, load_space, load_supernet, proxy_scores, train_supernet
from wsnas.data import fingerprint as fingerprints
from wsnas.data.fingerprint import fingerprint
from wsnas.evaluation import recorded_scores
from wsnas.executor import Executor
from wsnas.ground_truth import merge_runs, train_many
from wsnas.recipe import change_recipe
from wsnas.runs import sealed
from wsnas.sampling import sample_distinct
from wsnas.standalone import train_architecture
from wsnas.studies.jobs import ProxyJob, SupernetJob
from wsnas.table import Table, join

HERE = Executor(workers=0)


def words(seed: int) -> str:
    rng = np.random.default_rng(seed)
    return "".join(" ".join(f"w{i}" for i in rng.integers(20, size=8)) + "\n" for _ in range(600))


def image_set(path: Path, seed: int, classes: int = 3) -> None:
    rng = np.random.default_rng(seed)
    parts = {
        part: rng.integers(256, size=(count, 8, 8, 3), dtype=np.uint8) for part, count in (("train", 60), ("test", 24))
    }
    labels = {f"{part}_labels": np.arange(len(pixels)) % classes for part, pixels in parts.items()}
    np.savez(path, **{f"{part}_images": pixels for part, pixels in parts.items()}, **labels)


@pytest.fixture(params=installed_spaces())
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any, Callable[[int], None]]:
    """A space, a small recipe on a file, and a function that writes the file anew from a seed."""
    torch.set_num_threads(1)
    space = load_space(request.param)
    text = space.metric == "perplexity"
    file = tmp_path / ("data.txt" if text else "data.npz")
    write = (lambda seed: file.write_text(words(seed))) if text else (lambda seed: image_set(file, seed))
    write(0)
    small: dict[str, Any] = {"epochs": 1, "batch": 4 if text else 10, "train_size": None if text else 30}
    recipe = change_recipe(space.recipes["micro"], dataset=str(file), **small)
    if text:
        recipe = dataclasses.replace(recipe, train_size=2000, valid_streams=2, test_streams=2)
    small_training = change_recipe(recipe.standalone, epochs=1, batch=small["batch"])
    return space, dataclasses.replace(recipe, standalone=small_training, valid_size=20 if not text else 100), write


def test_data_that_changed_under_a_run_are_refused(kind: Any, tmp_path: Path) -> None:
    """Trained on, scored, looked up and resumed: with the same file always, with another never."""
    space, recipe, write = kind
    one, two = sample_distinct(space, 2, np.random.default_rng(0))
    net, alone, truth, untrained = (tmp_path / name for name in ("net", "alone", "truth", "untrained"))

    def everything() -> None:
        train_supernet(space, recipe, out=net, device="cpu")
        evaluate(load_supernet(net, "cpu"), [one])
        train_architecture(space, one, recipe, out=alone, device="cpu")
        train_many(space, [one], truth, recipe, seeds=[0], executor=HERE)
        proxy_scores(space, [one], recipe, "snip", images=4, out=untrained, device="cpu")

    everything()
    everything()
    assert recorded_scores(net, space, recipe, [one]) is not None
    table = train_many(space, [one], truth, recipe, seeds=[0], executor=HERE)
    write(1)
    attempts: list[Callable[[], Any]] = [
        lambda: train_supernet(space, recipe, out=net, device="cpu"),
        lambda: load_supernet(net, "cpu"),
        lambda: recorded_scores(net, space, recipe, [one]),
        lambda: train_architecture(space, one, recipe, out=alone, device="cpu"),
        lambda: train_many(space, [one, two], truth, recipe, seeds=[0], executor=HERE),
        lambda: proxy_scores(space, [two], recipe, "snip", images=4, out=untrained, device="cpu"),
        lambda: train_many(space, [one], tmp_path / "new", recipe, seeds=[0], executor=HERE, known=table),
    ]
    for attempt in attempts:
        with pytest.raises(WsnasError, match=r"made with other data: the files of .*data\.\w+ have changed since"):
            attempt()
    write(0)
    everything()


def test_a_process_remembers_no_data_that_have_changed(kind: Any, tmp_path: Path) -> None:
    """Which it otherwise does, because it trains many networks on the same."""
    space, recipe, write = kind
    one = sample_distinct(space, 1, np.random.default_rng(0))[0]
    results = []
    for seed in range(2):
        write(seed)
        table = train_many(space, [one], tmp_path / str(seed), recipe, seeds=[0], executor=HERE)
        results.append(table.mean(recipe.dataset, "test")[0])
        assert results[-1] == pytest.approx(train_architecture(space, one, recipe, device="cpu").test)
    assert results[0] != results[1]


def test_a_run_from_before_the_fingerprints_still_resumes(kind: Any, tmp_path: Path) -> None:
    space, recipe, _ = kind

    def stop(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_supernet(space, recipe, out=tmp_path / "net", device="cpu", checkpoint_seconds=0, report=stop)
    described = json.loads((tmp_path / "net/run.json").read_text())
    del described["crc"]
    assert len(described["identity"].pop("data")) == 16
    (tmp_path / "net/run.json").write_text(json.dumps(sealed(described)))
    supernet = train_supernet(space, recipe, out=tmp_path / "net", device="cpu")
    assert load_supernet(tmp_path / "net", "cpu").step == supernet.step


def test_a_class_added_under_a_run_without_a_fingerprint_is_one_sentence(tmp_path: Path) -> None:
    if "nb201" not in installed_spaces():
        pytest.skip("needs the space nb201")
    space, file = load_space("nb201"), tmp_path / "data.npz"
    image_set(file, 0)
    recipe = change_recipe(space.recipes["micro"], dataset=str(file), epochs=1, batch=10, train_size=30, channels=2)
    train_supernet(space, recipe, out=tmp_path / "net", device="cpu")
    described = json.loads((tmp_path / "net/run.json").read_text())
    del described["crc"]
    del described["identity"]["data"]
    (tmp_path / "net/run.json").write_text(json.dumps(sealed(described)))
    image_set(file, 0, classes=4)
    for attempt in (
        lambda: load_supernet(tmp_path / "net", "cpu"),
        lambda: train_supernet(space, recipe, out=tmp_path / "net", device="cpu"),
    ):
        with pytest.raises(WsnasError, match="did its number of classes or words change"):
            attempt()


def test_a_copy_that_is_not_the_official_one_has_a_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a known name, too: nothing else tells one ``cifar10.npz`` from another."""
    if "nb201" not in installed_spaces():
        pytest.skip("needs the space nb201")
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    space = load_space("nb201")
    recipe = change_recipe(space.recipes["micro"], dataset="cifar10")
    found = [space.data_identity(recipe)]  # would be downloaded, and checked
    for seed in (0, 1):
        image_set(tmp_path / "cifar10.npz", seed)
        found.append(space.data_identity(recipe))
    assert found[0] == space.data_identity(space.recipes["micro"]) == {}
    assert len({one["data"] for one in found[1:]}) == 2
    (tmp_path / "cifar10.npz").unlink()
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10/train-0.parquet").write_bytes(b"PAR1")
    assert space.data_identity(recipe)["data"] not in {one.get("data") for one in found}
    (tmp_path / "cifar-10-binary.tar.gz").touch()  # read before it, and its md5 is checked
    assert space.data_identity(recipe) == {}


def test_the_fingerprint_is_of_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of times or places; a class, a file, a byte more or a name changes it, hidden files do not."""
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / "a" / part / name).mkdir(parents=True)
            for i in range(3):
                pixels = np.full((4, 4, 3), 10 * i, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "a" / part / name / f"{i}.png")
    known = fingerprint(tmp_path / "a")
    assert known is not None
    assert fingerprint(tmp_path / "none") is None
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b/train/ant/0.png", (0, 0))
    (tmp_path / "b/train/.ipynb_checkpoints").mkdir()
    (tmp_path / "b/notes.txt").write_text("no image")
    assert fingerprint(tmp_path / "b") == known
    found = {known}
    for change in (
        lambda: (tmp_path / "b/train/ant/0.png").rename(tmp_path / "b/train/ant/9.png"),
        lambda: (tmp_path / "b/train/bee").rename(tmp_path / "b/train/cat"),
        lambda: (tmp_path / "b/val/bee/2.png").unlink(),
        lambda: (tmp_path / "b/val/bee/1.png").write_bytes((tmp_path / "b/val/bee/0.png").read_bytes()),
    ):
        change()
        found.add(str(fingerprint(tmp_path / "b")))
    assert len(found) == 5
    large = tmp_path / "large.npz"
    np.savez(large, x=np.zeros(1 << 20, np.uint8))
    monkeypatch.setattr(fingerprints, "WHOLE", 1000)
    monkeypatch.setattr(fingerprints, "SOME", 3)
    monkeypatch.setattr(fingerprints, "PIECE", 400)
    before = fingerprint(large)
    x = np.zeros(1 << 20, np.uint8)
    x[12345] = 1  # in no piece that is read, but the archive's directory at its end holds a checksum
    np.savez(large, x=x)
    assert fingerprint(large) != before


def test_the_same_data_at_another_place_are_no_other_run(kind: Any, tmp_path: Path) -> None:
    """As where each job of a cluster copies its data to a folder of its own: runs resume, and shards are merged."""
    space, recipe, _ = kind
    one, two = sample_distinct(space, 2, np.random.default_rng(0))
    here = Path(recipe.dataset)
    there = tmp_path / "copy" / f"renamed{here.suffix}"
    there.parent.mkdir()
    moved = recipe.on(str(there))
    net, alone, untrained = (tmp_path / name for name in ("net", "alone", "untrained"))
    shards = [tmp_path / "1", tmp_path / "2"]

    def shared(recipe: Any) -> list[Path]:
        """Where studies look for a supernet and scores; the first is where a supernet goes by default, too."""
        net = SupernetJob(space.name, recipe, 0, None, (one,), str(tmp_path))
        return [net.out, ProxyJob(space.name, recipe, "snip", 4, 0, (one,), str(tmp_path)).out]

    def everything(recipe: Any, shard: Path, arch: Any) -> Path:
        trained = train_supernet(space, recipe, out=net, device="cpu").run.path
        train_architecture(space, one, recipe, out=alone, device="cpu")
        train_many(space, [arch], shard, recipe, seeds=[0], executor=HERE).save(shard / "table.parquet")
        proxy_scores(space, [one], recipe, "snip", images=4, out=untrained, device="cpu")
        return trained

    everything(recipe, shards[0], one)
    found = shared(recipe)
    shutil.move(here, there)
    assert shared(moved) == found  # though the file has another name, too
    assert train_supernet(space, moved, folder=tmp_path, device="cpu").run.path == found[0]
    assert everything(moved, shards[1], two) == net
    evaluate(load_supernet(net, "cpu"), [one])  # the run knows where they are now
    last = there.read_bytes()[-1:]
    there.write_bytes(there.read_bytes()[:-1] + b"x")
    assert not {*shared(moved)} & {*found}  # other data, other supernets
    _, table = merge_runs(shards, tmp_path / "merged")
    assert len(table) == 2
    first, second = (Table.load(shard / "table.parquet") for shard in shards)
    assert join([first, second]).datasets == first.datasets  # one column for both
    assert len(join([first, second])) == 2
    there.write_bytes(there.read_bytes()[:-1] + last)
    both = train_many(
        space, [one, two], tmp_path / "known", moved, seeds=[0], executor=HERE, known=join([first, second])
    )
    assert both.about["seconds"].startswith("0 in all of 0 trainings")
