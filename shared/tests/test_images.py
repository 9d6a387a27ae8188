"""Augmentation against an enumeration of what may come out; sources and splits, good and malformed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import pickle
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from scipy import stats
from toy_space import MICRO

from wsnas.data.digits import digits
from wsnas.data.images import Images, Splits
from wsnas.data.sources import cifar, folder, imagenet16, load_splits, npz, shape_of
from wsnas.errors import WsnasError
from wsnas.pickles import read_pickle
from wsnas.recipe import SGD, Training, change_recipe

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding")  # torchvision says so each call
CPU = torch.device("cpu")
PLAIN = Training(epochs=1, batch=4, optimizer=SGD(0.1))


def marked(count: int, side: int = 4) -> np.ndarray:
    """[count, side, side, 3] uint8: each pixel tells its image, row and column; never 0, which is the border."""
    index, y, x = np.meshgrid(np.arange(count), np.arange(side), np.arange(side), indexing="ij")
    return np.stack([index + 1, y + 1, x + 1], axis=-1).astype(np.uint8)


def on_device(pixels: np.ndarray, device: torch.device = CPU) -> Images:
    """Labels are the images' own numbers; mean 0 and deviation 1, so that pixels come out as they are."""
    return Images(pixels, np.arange(len(pixels)), torch.zeros(3), torch.ones(3), device)


def drawn(images: Images, training: Training, epochs: int, seed: int = 0) -> list[tuple[np.ndarray, int]]:
    """Every augmented image [H, W, C] of some epochs with its label."""
    found = []
    for epoch in range(epochs):
        for x, y in images.epoch(training, seed, epoch):
            found += [(image.permute(1, 2, 0).numpy(), int(label)) for image, label in zip(x, y, strict=True)]
    return found


def variants(image: np.ndarray, border: int, flip: bool) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop of the image with a black border, straight and mirrored -> how it was made."""
    side = len(image)
    padded = np.pad(image, ((border, border), (border, border), (0, 0)))
    found = {}
    for top, left in itertools.product(range(2 * border + 1), repeat=2):
        crop = padded[top : top + side, left : left + side]
        found[crop.astype(np.float32).tobytes()] = (top, left, False)
        if flip:
            found[crop[:, ::-1].astype(np.float32).tobytes()] = (top, left, True)
    return found


def uniform(draws: list[Any], possible: int) -> bool:
    counts = Counter(draws)
    return len(counts) == possible and stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_without_augmentation_an_epoch_visits_each_image_at_most_once_unchanged() -> None:
    pixels = marked(18)
    found = drawn(on_device(pixels), PLAIN, 1)
    assert len(found) == 16  # the last, incomplete batch of 2 is dropped
    assert len({label for _, label in found}) == 16
    for image, label in found:
        np.testing.assert_array_equal(image, pixels[label])


def test_the_order_is_another_each_epoch_and_uniform() -> None:
    images = on_device(marked(12))
    orders = [tuple(label for _, label in drawn_epoch) for drawn_epoch in (drawn_at(images, e) for e in range(600))]
    assert len(set(orders)) == 600
    for position in (0, 5, 11):
        assert uniform([order[position] for order in orders], 12)


def drawn_at(images: Images, epoch: int, seed: int = 0) -> list[tuple[np.ndarray, int]]:
    return [(x.numpy(), int(y)) for xs, ys in images.epoch(PLAIN, seed, epoch) for x, y in zip(xs, ys, strict=True)]


@pytest.mark.parametrize(("border", "flip"), [(0, True), (1, False), (2, True)])
def test_an_augmented_image_is_a_shift_or_flip_of_its_own_source_each_equally_likely(border: int, flip: bool) -> None:
    pixels = marked(8)
    possible = [variants(image, border, flip) for image in pixels]
    how = []
    for image, label in drawn(on_device(pixels), change_recipe(PLAIN, crop=border, flip=flip), 300):
        how.append(possible[label].get(np.ascontiguousarray(image).tobytes()))
    assert None not in how
    assert uniform(how, (2 * border + 1) ** 2 * (2 if flip else 1))


@pytest.mark.parametrize("side", [1, 2, 3])
def test_cutout_blanks_one_square_around_any_pixel_and_nothing_else(side: int) -> None:
    pixels = marked(8, 5)
    before, after = side // 2, side - side // 2  # rows from centre - before to centre + after - 1
    squares = {}
    for y, x in itertools.product(range(5), repeat=2):
        hole = np.zeros((5, 5), bool)
        hole[max(0, y - before) : y + after, max(0, x - before) : x + after] = True
        squares[hole.tobytes()] = (y, x)
    centres = []
    for image, label in drawn(on_device(pixels), change_recipe(PLAIN, cutout=side), 300):
        hole = (image != pixels[label]).all(2)
        assert not image[hole].any()
        np.testing.assert_array_equal(image[~hole], pixels[label][~hole])
        centres.append(squares[hole.tobytes()])
    assert uniform(centres, 25)


def test_cutout_blanks_with_the_mean_colour() -> None:
    images = Images(marked(8), np.arange(8), torch.tensor([3.0, 2, 2]), torch.tensor([2.0, 1, 1]), CPU)
    x, _ = next(images.epoch(change_recipe(PLAIN, cutout=8), 0, 0))
    assert (x == 0).flatten(2).any(2).all()  # 0 after normalising: the mean


def test_a_kept_last_batch_holds_what_is_left() -> None:
    """A DataLoader without drop_last is what the originals use; one image alone has no batch statistics."""
    keep = change_recipe(PLAIN, last_batch="keep")
    for count in (3, 4, 18, 19, 20):
        images = on_device(marked(count))
        sizes = [len(y) for _, y in images.epoch(keep, 0, 1)]
        assert sizes == [len(some) for some in torch.utils.data.DataLoader(range(count), 4)]
        assert images.steps(keep, 0, 1) == len(sizes)
        assert sorted(label for _, label in drawn(images, keep, 1)) == list(range(count))
    assert [len(y) for _, y in on_device(marked(17)).epoch(keep, 0, 0)] == [4, 4, 4, 4]
    for (x, y), (u, v) in zip(images.epoch(PLAIN, 3, 1), images.epoch(keep, 3, 1), strict=False):
        assert torch.equal(x, u)  # whole batches are those without it
        assert torch.equal(y, v)


@pytest.mark.parametrize("count", [4, 9, 18])
def test_carried_batches_are_cut_from_one_epoch_after_the_other(count: int) -> None:
    """As TensorFlow's ``shuffle_and_repeat`` before ``batch``: all batches full, every image once an epoch."""
    images, carry = on_device(marked(count)), change_recipe(AUGMENTED, last_batch="carry")
    epochs = [list(images.epoch(carry, 5, epoch)) for epoch in range(6)]
    assert [images.steps(carry, 5, epoch) for epoch in range(6)] == [len(batches) for batches in epochs]
    assert sum(map(len, epochs)) == 6 * count // 4
    assert {len(y) for batches in epochs for _, y in batches} == {4}
    labels = [label for batches in epochs for _, y in batches for label in y.tolist()]
    for first in range(0, 6 * count - count + 1, count):
        assert len(set(labels[first : first + count])) == len(labels[first : first + count])
    pictures = torch.cat([x for batches in epochs for x, _ in batches])
    kept = change_recipe(carry, last_batch="keep", batch=count)  # an epoch is one batch
    alone = torch.cat([x for epoch in range(6) for x, _ in images.epoch(kept, 5, epoch)])
    assert torch.equal(pictures, alone[: len(pictures)])  # an image keeps the changes that its own epoch drew
    for start in range(len(epochs[3]) + 1):
        rest = list(images.epoch(carry, 5, 3, start))
        assert all(torch.equal(x, u) for (x, _), (u, _) in zip(epochs[3][start:], rest, strict=True))


def test_an_epoch_shorter_than_a_batch_cannot_be_carried() -> None:
    with pytest.raises(WsnasError, match="a batch of 4 needs as many training images"):
        next(on_device(marked(3)).epoch(change_recipe(PLAIN, last_batch="carry"), 0, 0))


AUGMENTED = change_recipe(PLAIN, flip=True, crop=2, cutout=2)


def test_an_epoch_resumed_at_any_step_gives_the_same_batches() -> None:
    images = on_device(marked(22))
    whole = list(images.epoch(AUGMENTED, 7, 3))
    assert len(whole) == 5
    for start in range(6):
        rest = list(images.epoch(AUGMENTED, 7, 3, start))
        assert len(rest) == 5 - start
        for (x, y), (again, label) in zip(whole[start:], rest, strict=True):
            assert torch.equal(x, again)
            assert torch.equal(y, label)


def test_seed_and_epoch_decide_and_nothing_else() -> None:
    images = on_device(marked(8))

    def first(seed: int, epoch: int) -> bytes:
        torch.manual_seed(np.random.randint(1000))
        return next(images.epoch(AUGMENTED, seed, epoch))[0].numpy().tobytes()

    assert first(0, 0) == first(0, 0)
    assert len({first(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_shares_make_up_the_batch_of_one_process(world: int) -> None:
    images, training = on_device(marked(24)), dataclasses.replace(AUGMENTED, batch=8)
    whole = list(images.epoch(training, 1, 0))
    shares = [list(images.epoch(training, 1, 0, rank=rank, world=world)) for rank in range(world)]
    for step, (x, y) in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [len(label) for _, label in parts] == [8 // world] * world
        together = {int(label): image for px, py in parts for image, label in zip(px, py, strict=True)}
        assert sorted(together) == sorted(y.tolist())
        for image, label in zip(x, y, strict=True):
            assert torch.equal(image, together[int(label)])


def test_images_are_channels_last_in_memory() -> None:
    images = on_device(marked(8))
    for x, _ in (next(images.epoch(AUGMENTED, 0, 0)), next(images.epoch(PLAIN, 0, 0)), next(images.ordered(4))):
        assert x.shape == (4, 3, 4, 4)
        assert x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("batch", "limit", "sizes"), [(4, None, [4, 4, 2]), (4, 6, [4, 2]), (3, 99, [3, 3, 3, 1])])
def test_ordered_gives_the_first_images_in_order(batch: int, limit: int | None, sizes: list[int]) -> None:
    pixels = marked(10)
    found = list(on_device(pixels).ordered(batch, limit))
    assert [len(y) for _, y in found] == sizes
    assert torch.cat([y for _, y in found]).tolist() == list(range(sum(sizes)))
    np.testing.assert_array_equal(torch.cat([x for x, _ in found]).permute(0, 2, 3, 1), pixels[: sum(sizes)])


@pytest.mark.cuda
def test_a_gpu_sees_the_same_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    mean, std = torch.tensor([120.0, 110, 100]), torch.tensor([60.0, 61, 62])
    here, there = (Images(pixels, np.arange(40), mean, std, torch.device(d)) for d in ("cpu", "cuda"))
    for (x, y), (gx, gy) in zip(here.epoch(AUGMENTED, 0, 0), there.epoch(AUGMENTED, 0, 0), strict=True):
        torch.testing.assert_close(x, gx.cpu(), rtol=0, atol=1e-6)
        assert torch.equal(y, gy.cpu())


# splits -------------------------------------------------------------------------------------------


def numbered(count: int) -> np.ndarray:
    """[count, 1, 1, 3] uint8 whose three values spell the image's number."""
    index = np.arange(count)
    return np.stack([index % 256, index // 256 % 256, index // 65536], axis=-1).astype(np.uint8)[:, None, None]


def numbers(images: Images) -> list[int]:
    values = images.pixels[:, 0, 0].long()
    return (values[:, 0] + 256 * values[:, 1] + 65536 * values[:, 2]).tolist()


class FakeCifar:
    def __init__(self, root: str, train: bool, download: bool) -> None:
        self.data = numbered(50_000 if train else 10_000)
        self.targets = (np.arange(len(self.data)) * 7 % self.classes).tolist()

    classes = 10


class FakeCifar100(FakeCifar):
    classes = 100


@pytest.fixture
def fake_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeCifar)
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", FakeCifar100)


def recipe(dataset: str, **changes: Any) -> Any:
    return dataclasses.replace(MICRO, dataset=dataset, **changes)


@pytest.mark.parametrize(("train_size", "sizes"), [(None, (25_000, 25_000)), (40_000, (40_000, 10_000))])
def test_cifar10s_training_images_are_split_disjointly_and_wholly(
    fake_cifar: None, train_size: int | None, sizes: tuple[int, int]
) -> None:
    parts = load_splits(recipe("cifar10", train_size=train_size), CPU)
    train, valid = numbers(parts.train), numbers(parts.valid)
    assert (len(train), len(valid), len(parts.test)) == (*sizes, 10_000)
    assert sorted(train + valid) == list(range(50_000))
    assert sorted(numbers(parts.test)) == list(range(10_000))
    assert parts.classes == 10
    assert parts.train.labels.tolist() == [i * 7 % 10 for i in train]
    assert 0.4 < np.mean(np.array(train) < 25_000) < 0.6  # not simply the first half
    again = load_splits(recipe("cifar10", train_size=train_size), CPU)
    assert numbers(again.train) == train


def test_cifar100_trains_on_all_and_halves_the_test_set(fake_cifar: None) -> None:
    parts = load_splits(recipe("cifar100"), CPU)
    assert sorted(numbers(parts.train)) == list(range(50_000))
    valid, test = numbers(parts.valid), numbers(parts.test)
    assert len(valid) == len(test) == 5_000
    assert sorted(valid + test) == list(range(10_000))
    assert parts.valid.labels.tolist() == [i * 7 % 100 for i in valid]
    assert parts.classes == 100


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_more_training_images_than_there_are_are_refused(fake_cifar: None, dataset: str) -> None:
    with pytest.raises(WsnasError, match=f"{dataset} has 50000 training images"):
        load_splits(recipe(dataset, train_size=50_001), CPU)
    with pytest.raises(WsnasError, match="train_size must be at least 1, not 0"):
        recipe(dataset, train_size=0)


def test_all_images_can_train_and_then_none_validate(fake_cifar: None) -> None:
    parts = load_splits(recipe("cifar10", train_size=50_000), CPU)
    assert sorted(numbers(parts.train)) == list(range(50_000))
    assert (len(parts.valid), len(parts.test)) == (0, 10_000)


def test_the_authors_split_file_is_used(fake_cifar: None, tmp_path: Path) -> None:
    """NAS-Bench-201's own form: {"name": ["int", ["0", "2", ...]]}."""
    file = tmp_path / "split.json"
    train, valid = list(range(1, 50_000, 2)), list(range(0, 50_000, 2))
    form = {name: ["int", [str(i) for i in part]] for name, part in (("train", train), ("valid", valid[::-1]))}
    file.write_text(json.dumps(form))
    parts = load_splits(recipe("cifar10", split_file=str(file)), CPU)
    assert sorted(numbers(parts.train)) == train
    assert sorted(numbers(parts.valid)) == valid
    file.write_text(json.dumps({"xvalid": ["int", ["3", "1"]], "xtest": ["int", ["2"]]}))
    parts = load_splits(recipe("cifar100", split_file=str(file)), CPU)
    assert sorted(numbers(parts.valid)) == [1, 3]
    assert numbers(parts.test) == [2]


def test_a_split_file_belongs_to_its_data_set() -> None:
    split = recipe("cifar100", split_file="/data/split.json")
    assert (split.on("cifar10").split_file, split.on("cifar100")) == (None, split)
    assert change_recipe(split, dataset="cifar10", split_file="/data/other.json").split_file == "/data/other.json"


BAD_SPLITS: dict[str, Any] = {
    "not json": "[1, 2",
    "no such part": {"train": ["int", ["1"]]},
    "not numbers": {"train": ["int", ["a"]], "valid": ["int", ["1"]]},
    "not integers": {"train": ["int", [0.5, 1.5]], "valid": ["int", [2.5]]},
    "truths": {"train": ["int", [True]], "valid": ["int", [False]]},
    "a list": [1, 2],
    "overlap": {"train": ["int", ["1", "2"]], "valid": ["int", ["2"]]},
    "twice": {"train": ["int", ["1", "1"]], "valid": ["int", ["2"]]},
    "too large": {"train": ["int", ["1"]], "valid": ["int", ["50000"]]},
    "far too large": {"train": ["int", ["1"]], "valid": ["int", ["9" * 30]]},
    "negative": {"train": ["int", ["-1"]], "valid": ["int", ["2"]]},
    "both empty": {"train": ["int", []], "valid": ["int", []]},
    "one empty": {"train": ["int", ["1"]], "valid": ["int", []]},
    "no type": {"train": ["1"], "valid": ["2"]},
}


@pytest.mark.parametrize("kind", BAD_SPLITS)
def test_a_bad_split_file_is_refused(fake_cifar: None, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "split.json"
    content = BAD_SPLITS[kind]
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(WsnasError, match="split file"):
        load_splits(recipe("cifar10", split_file=str(file)), CPU)


def test_a_missing_split_file_is_refused(fake_cifar: None, tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match=r"nowhere\.json"):
        load_splits(recipe("cifar10", split_file=str(tmp_path / "nowhere.json")), CPU)


# the order of images ------------------------------------------------------------------------------


class SortedCifar(FakeCifar):
    def __init__(self, root: str, train: bool, download: bool) -> None:
        super().__init__(root, train, download)
        self.targets = np.sort(self.targets).tolist()


class SortedCifar100(SortedCifar):
    classes = 100


def class_sorted(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a data set whose files are sorted by class; of the digits, which are not a file."""
    monkeypatch.setenv("WSNAS_DATA", str(place))
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", SortedCifar)
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", SortedCifar100)
    if kind == "npz":
        parts = {"train": np.repeat(np.arange(5), 800), "test": np.repeat(np.arange(5), 200)}
        images = {f"{part}_images": numbered(len(labels)) for part, labels in parts.items()}
        np.savez(place / "data.npz", **images, **{f"{part}_labels": labels for part, labels in parts.items()})
        return str(place / "data.npz")
    if kind == "folder":  # ``folder`` lists the classes in order
        for part, count in (("train", 120), ("val", 60)):
            for c, name in enumerate(("ant", "bee", "cat", "dog")):
                for i in range(count):
                    write_image(place / part / name / f"{i}.png", np.full((2, 2, 3), 50 * c, np.uint8))
        return str(place)
    if kind == "imagenet16-120":
        (place / "ImageNet16").mkdir()
        md5, _ = imagenet_files(place / "ImageNet16", count=600, in_order=True)
        monkeypatch.setattr("wsnas.data.sources.imagenet16", lambda where: imagenet16(where, md5, classes=5))
    return kind


@pytest.mark.parametrize("train_size", [None, 300])
@pytest.mark.parametrize(
    "kind", ["npz", "folder", "cifar10", "cifar100", "imagenet16-120", "digits", "faint-digits", "more-digits"]
)
def test_the_first_images_are_of_all_classes(
    kind: str, train_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every part of every source, also where only some images train: in the same shares as the rest."""
    dataset = class_sorted(kind, tmp_path, monkeypatch)
    one, other = (load_splits(recipe(dataset, train_size=train_size), CPU) for _ in range(2))
    for part, again in zip((one.train, one.valid, one.test), (other.train, other.valid, other.test), strict=True):
        labels = part.labels.numpy()
        for first in (len(labels) // 4, len(labels) // 2):
            shares = [np.bincount(some, minlength=one.classes) for some in (labels[:first], labels[first:])]
            present = np.array(shares)[:, np.sum(shares, 0) > 0]
            assert stats.chi2_contingency(present).pvalue > 1e-3
        if not kind.endswith("digits"):  # the files hold as many images of each class
            assert stats.chisquare(np.bincount(labels, minlength=one.classes)).pvalue > 1e-3
        assert torch.equal(part.labels, again.labels)  # shuffled once, not anew each time
        assert torch.equal(part.pixels, again.pixels)


def test_the_digits_keep_their_order() -> None:
    """The ground truth that is shipped was trained on the first images of ``digits()``, in that order."""
    source = digits()
    assert source.valid is not None
    for train_size in (None, 3000):
        parts = load_splits(recipe("digits", train_size=train_size), CPU)
        for part, (pixels, labels) in zip((parts.train, parts.valid), (source.train, source.valid), strict=True):
            np.testing.assert_array_equal(part.pixels, pixels[: len(part)])
            np.testing.assert_array_equal(part.labels, labels[: len(part)])
    assert hashlib.sha256(source.train[0].tobytes() + source.train[1].tobytes()).hexdigest()[:16] == "e8af1c4fb4d69650"


def test_more_digits_are_other_images_made_in_the_same_way() -> None:
    """Always the same ones, and none that ``digits`` trains on."""
    more, usual = load_splits(recipe("more-digits"), CPU), load_splits(recipe("digits"), CPU)
    assert [len(part) for part in (more.train, more.valid, more.test)] == [60_000, 10_000, 20_000]
    seen = [{image.numpy().tobytes() for image in part.pixels} for part in (more.train, more.test, usual.train)]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    for part in ("train", "valid", "test"):
        one, other = (getattr(splits, part).pixels.float().mean(0) for splits in (more, usual))
        assert (one - other).abs().max() < 5
    content = more.train.pixels.numpy().tobytes() + more.train.labels.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "8ada2d95f49c5251"


# sources ------------------------------------------------------------------------------------------


def test_cifar_without_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("Error downloading cifar-10-python.tar.gz")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    with pytest.raises(WsnasError, match=r"cifar10 is not in .* could not be downloaded"):
        cifar(tmp_path, "cifar10")


def test_faint_digits_are_the_same_images_with_other_names() -> None:
    """The two digits are drawn independently, so a tenth of the images show the same digit twice."""
    usual, faint = digits(), digits(faint=True)
    for one, other in ((usual.train, faint.train), (usual.test, faint.test)):
        np.testing.assert_array_equal(one[0], other[0])
        assert (one[1] == other[1]).mean() == pytest.approx(0.1, abs=0.015)
        assert set(other[1].tolist()) == set(range(10))


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz", "mnist", ""])
def test_an_unknown_data_set_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(WsnasError, match="digits, faint-digits, more-digits, cifar10"):
        load_splits(recipe(name or "data.txt"), CPU)


def arrays(train: int = 20, test: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    content: dict[str, np.ndarray] = {}
    for part, count in (("train", train), ("test", test)):
        content[f"{part}_images"] = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
        content[f"{part}_labels"] = np.arange(count) % 3
    return content


def test_npz_is_read_as_it_is_written(tmp_path: Path) -> None:
    file, content = tmp_path / "data.npz", arrays()
    np.savez_compressed(file, **content)
    source = npz(file)
    for part, (pixels, labels) in (("train", source.train), ("test", source.test)):
        np.testing.assert_array_equal(pixels, content[f"{part}_images"])
        np.testing.assert_array_equal(labels, content[f"{part}_labels"])
        assert labels.dtype == np.int64
    assert shape_of(str(file)) == (3, 3, 5, 5)
    parts = load_splits(recipe(str(file)), CPU)
    assert (len(parts.train), len(parts.valid), len(parts.test), parts.classes) == (10, 10, 6, 3)


def test_training_images_have_mean_zero_and_variance_one_per_channel(tmp_path: Path) -> None:
    file, content = tmp_path / "data.npz", arrays(400)
    content["train_images"][..., 1] //= 4
    np.savez(file, **content)
    parts = load_splits(recipe(str(file)), CPU)
    x = torch.cat([x for x, _ in parts.train.ordered(64)]).double()
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(x.var((0, 2, 3), correction=0), 1, atol=1e-5)
    for part in (parts.valid, parts.test):  # normalised like the training images, not like themselves
        assert torch.equal(part.mean, parts.train.mean)
        assert torch.equal(part.std, parts.train.std)


def test_images_of_one_colour_do_not_divide_by_zero(tmp_path: Path) -> None:
    file, content = tmp_path / "data.npz", arrays()
    content["train_images"][:] = 7
    np.savez(file, **content)
    parts = load_splits(recipe(str(file)), CPU)
    assert torch.isfinite(next(parts.test.ordered(6))[0]).all()


BAD_ARRAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "float pixels": lambda a: a.update(train_images=a["train_images"] / 255.0),
    "signed pixels": lambda a: a.update(test_images=a["test_images"].astype(np.int64)),
    "no channels": lambda a: a.update(train_images=a["train_images"][..., 0]),
    "channels first": lambda a: a.update(train_images=a["train_images"].transpose(0, 3, 1, 2)),
    "no labels": lambda a: a.pop("train_labels"),
    "no test images": lambda a: a.pop("test_images"),
    "too few labels": lambda a: a.update(train_labels=a["train_labels"][:-1]),
    "float labels": lambda a: a.update(train_labels=a["train_labels"] + 0.0),
    "one-hot labels": lambda a: a.update(train_labels=np.eye(3, dtype=np.int64)[a["train_labels"]]),
    "negative labels": lambda a: a.update(train_labels=a["train_labels"] - 1),
    "objects": lambda a: a.update(train_images=np.array([None, {}] * 10, dtype=object)),
    "no images": lambda a: a.update(train_images=a["train_images"][:0], train_labels=a["train_labels"][:0]),
    "sizes differ": lambda a: a.update(test_images=a["test_images"][:, :4, :4]),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_a_malformed_npz_is_refused(tmp_path: Path, kind: str) -> None:
    file, content = tmp_path / "data.npz", arrays()
    BAD_ARRAYS[kind](content)
    np.savez(file, **content)
    with pytest.raises(WsnasError, match=r"data\.npz"):
        npz(file)


def damaged(kind: str, file: Path) -> bytes:
    np.savez_compressed(file, **arrays(200))
    content = file.read_bytes()
    if kind == "truncated":
        return content[: len(content) // 2]
    if kind == "a bit flipped":  # inside the compressed pixels
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]
    if kind == "deflate broken":
        start = content.index(b"train_images.npy") + 60
        return content[:start] + b"\xff" * 40 + content[start + 40 :]
    if kind == "a single array":
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(3))
        return buffer.getvalue()
    if kind == "a zip of text":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("train_images.npy", "hello")
        return buffer.getvalue()
    return {"text": b"hello\n", "empty": b"", "a pickle": pickle.dumps(arrays())}[kind]


@pytest.mark.parametrize(
    "kind",
    ["truncated", "a bit flipped", "deflate broken", "a single array", "a zip of text", "text", "empty", "a pickle"],
)
def test_a_damaged_npz_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "data.npz"
    file.write_bytes(damaged(kind, file))
    with pytest.raises(WsnasError, match=r"data\.npz"):
        npz(file)


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torchvision.io.write_png(torch.from_numpy(image).permute(2, 0, 1).contiguous(), str(path))


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for part, count in (("train", 6), ("val", 2)):
        for label, name in enumerate(("cat", "dog", "eel")):
            for i in range(count):
                image = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
                image[0, 0] = (label, i, 9 if part == "val" else 8)  # what and where it is, in a corner
                write_image(tmp_path / "set" / part / name / f"{i}.png", image)
    return tmp_path / "set"


def test_an_image_folder_is_read_pixel_for_pixel(image_folder: Path) -> None:
    source = folder(image_folder)
    for (pixels, labels), count, part in ((source.train, 6, 8), (source.test, 2, 9)):
        assert pixels.shape == (3 * count, 6, 7, 3)
        found = {tuple(int(v) for v in image[0, 0]) for image in pixels}
        assert found == {(label, i, part) for label in range(3) for i in range(count)}
        assert labels.tolist() == [int(image[0, 0, 0]) for image in pixels]  # labels follow their images
    parts = load_splits(recipe(str(image_folder)), CPU)
    assert (len(parts.train), len(parts.valid), len(parts.test), parts.classes) == (9, 9, 6, 3)


def spoil(kind: str, place: Path) -> None:
    if kind == "another size":
        write_image(place / "train" / "dog" / "new.png", np.zeros((5, 7, 3), np.uint8))
    elif kind == "test of another size":
        for file in (place / "val").rglob("*.png"):
            write_image(file, np.zeros((8, 8, 3), np.uint8))
    elif kind == "not an image":
        (place / "val" / "eel" / "notes.txt").write_text("not an image")
    elif kind == "an empty file":
        (place / "train" / "cat" / "0.png").write_bytes(b"")
    elif kind == "a truncated image":
        file = place / "train" / "cat" / "0.png"
        file.write_bytes(file.read_bytes()[:60])
    elif kind == "no train":
        (place / "train").rename(place / "training")
    elif kind == "no val":
        (place / "val").rename(place / "validation")
    elif kind == "no classes":
        for name in ("cat", "dog", "eel"):
            (place / "train" / name).rename(place / name)
    elif kind == "empty classes":
        for file in (place / "train").rglob("*.png"):
            file.unlink()
    elif kind == "an unknown class":
        write_image(place / "val" / "fox" / "0.png", np.zeros((6, 7, 3), np.uint8))


@pytest.mark.parametrize(
    "kind",
    [
        "another size",
        "test of another size",
        "not an image",
        "an empty file",
        "a truncated image",
        "no train",
        "no val",
        "no classes",
        "empty classes",
        "an unknown class",
    ],
)
def test_a_malformed_image_folder_is_refused(image_folder: Path, kind: str) -> None:
    spoil(kind, image_folder)
    with pytest.raises(WsnasError, match="set"):
        folder(image_folder)


def imagenet_files(
    root: Path, classes: int = 5, count: int = 20, in_order: bool = False
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Small batches in the official form: a dict of labels from 1 and data [n, 3 * 16 * 16], channels first."""
    rng, md5, content = np.random.default_rng(2), {}, {}
    for name in ("train_data_batch_1", "train_data_batch_2", "val_data"):
        batch = {
            "data": rng.integers(0, 256, (count, 3 * 16 * 16), dtype=np.uint8),
            "labels": [1 + (i * classes // count if in_order else i % classes) for i in range(count)],
            "mean": rng.random(768),
        }
        raw = pickle.dumps(batch, protocol=2)
        (root / name).write_bytes(raw)
        md5[name], content[name] = hashlib.md5(raw).hexdigest(), batch
    return md5, content


def test_imagenet16_keeps_the_first_classes_and_counts_labels_from_zero(tmp_path: Path) -> None:
    md5, content = imagenet_files(tmp_path)
    source = imagenet16(tmp_path, md5, classes=3)
    assert source.halve_test
    for (pixels, labels), names in ((source.train, list(md5)[:2]), (source.test, ["val_data"])):
        kept = [(batch, i) for batch in (content[n] for n in names) for i in range(20) if batch["labels"][i] <= 3]
        assert labels.tolist() == [batch["labels"][i] - 1 for batch, i in kept]
        assert pixels.shape == (len(kept), 16, 16, 3)
        for image, (batch, i) in zip(pixels, kept, strict=True):
            for channel in range(3):
                plane = batch["data"][i, 256 * channel : 256 * (channel + 1)].reshape(16, 16)
                np.testing.assert_array_equal(image[:, :, channel], plane)


def test_imagenet16s_validation_set_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "ImageNet16"
    root.mkdir()
    md5, _ = imagenet_files(root)
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    monkeypatch.setattr("wsnas.data.sources.imagenet16", lambda where: imagenet16(where, md5, classes=4))
    parts: Splits = load_splits(recipe("imagenet16-120"), CPU)
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (32, 8, 8)


def test_imagenet16_reads_only_the_official_files(tmp_path: Path) -> None:
    md5, _ = imagenet_files(tmp_path)
    with pytest.raises(WsnasError, match="md5"):
        imagenet16(tmp_path)  # the official checksums
    (tmp_path / "train_data_batch_2").write_bytes(b"x" * 100)
    with pytest.raises(WsnasError, match="train_data_batch_2 is not the official file"):
        imagenet16(tmp_path, md5)
    (tmp_path / "val_data").unlink()
    md5.pop("train_data_batch_2")
    with pytest.raises(WsnasError, match="val_data"):
        imagenet16(tmp_path, md5)


class Writes:
    """A pickle of it creates a file when it is read the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_read_pickle_runs_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "made"
    hostile = pickle.dumps({"labels": [1], "data": Writes(victim)})
    pickle.loads(hostile)
    assert victim.exists()  # the pickle is a working attack
    victim.unlink()
    with pytest.raises(WsnasError, match="refused"):
        read_pickle(hostile, tmp_path / "batch")
    assert not victim.exists()


@pytest.mark.parametrize(
    "command", [b"cos\nsystem\n(S'touch %s'\ntR.", b'c__builtin__\neval\n(S\'open("%s", "w")\'\ntR.']
)
def test_read_pickle_knows_no_system_and_no_eval(tmp_path: Path, command: bytes) -> None:
    victim = tmp_path / "made"
    with pytest.raises(WsnasError, match="refused"):
        read_pickle(command % str(victim).encode(), tmp_path / "batch")
    assert not victim.exists()


@pytest.mark.parametrize("protocol", range(5))
def test_read_pickle_reads_plain_numbers_and_arrays(protocol: int) -> None:
    content = {"a": [1, 2.5, "x", None], "b": np.arange(6, dtype=np.uint8).reshape(2, 3), "c": np.float64(3)}
    back = read_pickle(pickle.dumps(content, protocol=protocol), Path("batch"))
    assert back["a"] == content["a"]
    np.testing.assert_array_equal(back["b"], content["b"])
    assert back["c"] == 3


@pytest.mark.parametrize("cut", [0, 1, 10, 60, -1])
def test_read_pickle_refuses_a_truncated_file(cut: int) -> None:
    with pytest.raises(WsnasError, match="batch"):
        read_pickle(pickle.dumps({"a": np.arange(100)})[:cut], Path("batch"))
