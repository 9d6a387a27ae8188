"""The recipes against the numbers as they are printed, image folders, and the ground truth that is shipped."""

from __future__ import annotations

import dataclasses
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from proxyless import SPACE
from proxyless.recipes import MICRO, PAPER, PUBLISHED
from wsnas import WsnasError, train_supernet
from wsnas.agreement import load_ground_truth
from wsnas.data.folders import StreamedImages
from wsnas.data.images import Images, steps_of
from wsnas.data.sources import shape_of
from wsnas.evaluation import evaluate_submodel
from wsnas.metrics import noise_ceiling
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe, recipe_fields
from wsnas.sampling import sample_distinct
from wsnas.supernet import supernet_identity
from wsnas.table import Table

torch.set_num_threads(1)
CPU = torch.device("cpu")


def test_supernet_recipe_beside_table_2() -> None:
    assert (PAPER.dataset, PAPER.width, PAPER.size, PAPER.strides) == ("imagenet", 1.35, 224, "2222121")
    assert PAPER.max_macs == 600_000_000
    assert not PAPER.identity_start


def test_standalone_recipe_does_nothing_that_the_authors_do_not() -> None:
    """Cai et al. (2019): beside the steps, which tests/test_paper_recipes.py takes, smoothing 0.1 and strong jitter."""
    steps = {"optimizer", "epochs", "lr", "schedule", "momentum", "nesterov", "weight_decay", "decay_on_norms"}
    used = {name: one.value for name, one in recipe_fields(PAPER.standalone).items() if one.value and name not in steps}
    strong = {"colour_jitter": 0.4, "hue": 0.1}  # in their released configuration
    assert used == {"batch": 1024, "label_smoothing": 0.1, "flip": True, "last_batch": "keep", **strong}


def test_the_published_accuracies_come_from_all_images(tiny: Path) -> None:
    """ImageNet's training set has 1,281,167 images; their loader drops none. A folder can be used whole, too."""
    assert PUBLISHED.train_size == 1_281_167
    assert {steps_of(1_281_167, PUBLISHED.standalone, epoch) for epoch in range(300)} == {-(-1_281_167 // 1024)}
    assert dataclasses.replace(PUBLISHED, train_size=PAPER.train_size) == PAPER
    splits = SPACE.load_data(dataclasses.replace(PUBLISHED, dataset=str(tiny), train_size=1200, size=16), CPU)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (1200, 0, 300)


def test_what_does_not_decide_the_weights_is_not_in_an_identity() -> None:
    limited = dataclasses.replace(MICRO, max_macs=500_000)
    assert supernet_identity(SPACE, limited, 0) == supernet_identity(SPACE, MICRO, 0)
    assert limited.standalone_identity() == MICRO.standalone_identity()
    assert supernet_identity(SPACE, MICRO, 0, sync_bn=True) != supernet_identity(SPACE, MICRO, 0)
    assert supernet_identity(SPACE, dataclasses.replace(MICRO, amp=True), 0) != supernet_identity(SPACE, MICRO, 0)
    wider = dataclasses.replace(MICRO, width=0.25)
    assert supernet_identity(SPACE, wider, 0) != supernet_identity(SPACE, MICRO, 0)


def test_micro_images_are_what_the_networks_are_told() -> None:
    splits = SPACE.load_data(MICRO, CPU)
    classes, inputs, side, _ = shape_of(MICRO.dataset)
    assert isinstance(splits.train, Images)  # digits are no folder: in memory
    for part in (splits.train, splits.valid, splits.test):
        x, _ = next(part.ordered(7))
        assert x.shape == (7, inputs, side, side)
    assert splits.classes == classes


def test_micro_keeps_the_choices_apart() -> None:
    """Maps of 4x4 up to the fourth stage: the corners of a kernel of 7 still lie on the image, none is idle."""
    torch.manual_seed(0)
    network = SPACE.supernet(MICRO)
    for block in range(16):
        kernel = network.blocks[block]["k7e3"].depthwise.conv
        x = torch.randn(1, kernel.in_channels, 4, 4)
        kernel(x).square().sum().backward()
        assert (kernel.weight.grad != 0).all()


# image folders ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of Tiny-ImageNet, real JPEGs: 1,200 training and 300 validation images."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("WSNAS_TEST_DATA", default)) / "tiny-imagenet-40.tar"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    place = tmp_path_factory.mktemp("tiny")
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.isfile()]
        classes = sorted({Path(member.name).parts[-2] for member in members})[:6]
        wanted = [member for member in members if Path(member.name).parts[-2] in classes]
        archive.extractall(place, wanted, filter="data")
    return place


def tiny_recipe(tiny: Path, **changes: object) -> object:
    return change_recipe(
        MICRO,
        dataset=str(tiny),
        size=16,
        strides="2212121",
        train_size=400,
        batch=50,
        epochs=1,
        calibration_batch=50,
        calibration_steps=2,
        valid_size=100,
        **changes,
    )


def test_a_folder_is_streamed_where_the_recipe_says_at_which_size(tiny: Path) -> None:
    recipe = dataclasses.replace(MICRO, dataset=str(tiny), size=48, train_size=None)
    splits = SPACE.load_data(recipe, CPU)
    assert isinstance(splits.train, StreamedImages)
    assert (len(splits.train), len(splits.valid), len(splits.test), splits.classes) == (600, 600, 300, 6)
    assert next(splits.test.ordered(5))[0].shape == (5, 3, 48, 48)
    one = next(iter(SPACE))
    network = SPACE.network(one, recipe)
    assert network.classifier.out_features == 6
    assert SPACE.macs(one, recipe) > SPACE.macs(one, dataclasses.replace(recipe, size=32))
    whole = SPACE.load_data(dataclasses.replace(recipe, size=0), CPU)
    assert isinstance(whole.train, Images)  # no size: into memory, 64x64 as they are
    assert whole.train.pixels.shape == (600, 64, 64, 3)


def test_a_size_needs_a_folder_that_exists(tiny: Path) -> None:
    for dataset, message in ((tiny.parent / "misspelt", "no data set '"), ("digits", "digits is held in memory")):
        with pytest.raises(WsnasError, match=message):
            SPACE.load_data(dataclasses.replace(MICRO, dataset=str(dataset), size=48), CPU)


def test_a_supernet_on_a_folder_stops_and_resumes(tiny: Path, tmp_path: Path) -> None:
    """Eight steps of real JPEGs, stopped after five, with the same bits as undisturbed; then a submodel is scored."""
    recipe = tiny_recipe(tiny, flip=True, colour_jitter=0.4)
    undisturbed = train_supernet(SPACE, recipe, out=tmp_path / "a", device="cpu")

    def press(done: int, total: int, note: str) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_supernet(SPACE, recipe, out=tmp_path / "b", device="cpu", report=press)
    resumed = train_supernet(SPACE, recipe, out=tmp_path / "b", device="cpu")
    assert undisturbed.step == resumed.step == 8
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    accuracy, loss = evaluate_submodel(undisturbed.model, next(iter(SPACE)), undisturbed.splits, recipe)
    assert 0 <= accuracy <= 100
    assert 0 < loss < 20


def test_a_corrupt_image_stops_the_training_or_is_skipped(tiny: Path, tmp_path: Path) -> None:
    """A folder of links to the real images, one of them cut off."""
    for file in tiny.rglob("*.JPEG"):
        link = tmp_path / "set" / file.relative_to(tiny)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    bad = sorted((tmp_path / "set" / "train").rglob("*.JPEG"))[17]
    content = bad.read_bytes()
    bad.unlink()
    bad.write_bytes(content[:500])
    recipe = dataclasses.replace(MICRO, dataset=str(tmp_path / "set"), size=16, train_size=1199)
    with pytest.raises(WsnasError, match=bad.name):
        list(SPACE.load_data(recipe, CPU).train.ordered(100))
    with pytest.warns(UserWarning, match=bad.name):
        found = list(SPACE.load_data(dataclasses.replace(recipe, skip_corrupt=True), CPU).train.ordered(100))
    assert sum(len(y) for _, y in found) == 1198


def test_missing_imagenet_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    with pytest.raises(WsnasError, match="imagenet"):
        SPACE.load_data(PAPER, CPU)


@pytest.mark.parametrize("count", [999, 1001])
def test_imagenet_with_another_number_of_class_folders_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """One folder too many ended in an IndexError in the middle of an epoch."""
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    for i in range(count):
        (tmp_path / "imagenet" / "train" / f"n{i:08d}").mkdir(parents=True)
    with pytest.raises(WsnasError, match=rf"train has {count:,} class folders, but ImageNet has 1,000"):
        SPACE.load_data(PAPER, CPU)


# tables ----------------------------------------------------------------------------------------------------------


def test_a_csv_table_is_read_and_checked(tmp_path: Path) -> None:
    one, two = (SPACE.encode(SPACE.sample(np.random.default_rng(seed))) for seed in range(2))
    lines = ["architecture,imagenet_test_300", f"{one},74.5", f"{two.replace(' | ', '|')},75.25"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = SPACE.import_table(tmp_path / "t.csv")
    assert table.archs == (one, two)
    assert table.mean("imagenet", "test").tolist() == [74.5, 75.25]
    table.save(tmp_path / "t.parquet")
    assert SPACE.import_table(tmp_path / "t.parquet").archs == (one, two)
    for wrong in (f"{one},1", "k3e3 | k3e3,1"):
        (tmp_path / "t.csv").write_text("\n".join([*lines, wrong]))
        with pytest.raises(WsnasError):
            SPACE.import_table(tmp_path / "t.csv")


# the shipped ground truth ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Table:
    return load_ground_truth(SPACE)


def test_shipped_table_is_the_uniform_sample(shipped: Table) -> None:
    """The networks that the seed of ``wsnas ground-truth`` draws, not some chosen later; all differ in function."""
    drawn = sample_distinct(SPACE, len(shipped), numpy_rng(0, "ground truth"))
    assert shipped.archs == tuple(SPACE.encode(one) for one in drawn)
    assert len({SPACE.training_key(one) for one in drawn}) == len(shipped)
    assert shipped.seeds(MICRO.dataset, "test").shape == (150, 2)


def test_shipped_table_can_be_trusted(shipped: Table) -> None:
    """Two seeds agree, and their mean more so: Spearman-Brown reliability of test accuracy."""
    ceiling = noise_ceiling(shipped.seeds(MICRO.dataset, "test"))
    assert ceiling is not None
    assert ceiling.reliability >= 0.5
