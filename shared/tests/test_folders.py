"""The streaming loader against torchvision and pillow; the same batches however it is run; files that are no images."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import stats
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from wsnas.data import folders, sources
from wsnas.data.folders import MEAN, STD, StreamedImages, jittered, random_box, stream_splits, turned
from wsnas.data.sources import load_splits
from wsnas.errors import WsnasError
from wsnas.recipe import SGD, ColourAugmentation, Recipe, Training, change_recipe

CPU = torch.device("cpu")
PLAIN = Training(epochs=1, batch=8, optimizer=SGD(0.1), inputs=ColourAugmentation())
FULL = change_recipe(PLAIN, flip=True, colour_jitter=0.4)
RECIPE = Recipe("folder", PLAIN, PLAIN, 4, 1)


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A smooth picture: two decoders and two ways to resize agree on it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """37 JPEGs of several sizes."""
    found = []
    for i in range(37):
        path = tmp_path / f"{i:02d}.jpg"
        picture(i, 40 + 7 * (i % 5), 40 + 9 * (i % 4)).save(path, quality=95)
        found.append(str(path))
    return found


def streamed(files: list[str], size: int = 16, **options: Any) -> StreamedImages:
    """Labels are the files' own numbers."""
    return StreamedImages(files, np.arange(len(files)), size, CPU, **options)


def pixels(x: Tensor) -> Tensor:
    """Batches as they were before they were normalised: [B, 3, H, W] in 0..255."""
    return x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)


def assert_same(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> None:
    assert len(a) == len(b) > 0
    for (x, y), (u, v) in zip(a, b, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


# the same batches, however it is run -----------------------------------------------------------------------------


def test_batches_do_not_depend_on_threads_chunks_or_where_an_epoch_resumes(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(streamed(files, workers=1).epoch(FULL, 3, 1))
    assert [(tuple(x.shape), x.dtype, len(y)) for x, y in whole] == [((8, 3, 16, 16), torch.float32, 8)] * 4
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in whole)
    assert_same(list(streamed(files, workers=3).epoch(FULL, 3, 1)), whole)
    assert_same(list(streamed(files, workers=2).epoch(FULL, 3, 1, start=3)), whole[3:])
    monkeypatch.setattr(folders, "CHUNK", 3)
    assert_same(list(streamed(files, workers=2).epoch(FULL, 3, 1)), whole)
    abandoned = streamed(files, workers=2)
    first = next(abandoned.epoch(FULL, 3, 1))  # and left there
    assert_same([first, *abandoned.epoch(FULL, 3, 1, start=1)], whole)


def test_seed_and_epoch_decide_and_no_image_comes_twice(files: list[str]) -> None:
    data = streamed(files, workers=1)
    drawn = {(seed, epoch): list(data.epoch(FULL, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    labels = {key: torch.cat([y for _, y in batches]).tolist() for key, batches in drawn.items()}
    assert all(len(set(found)) == len(found) == 32 for found in labels.values())
    assert len({tuple(found) for found in labels.values()}) == 4
    assert not torch.equal(drawn[0, 0][0][0], drawn[0, 1][0][0])


@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_shares_make_up_the_batch_of_one_process(files: list[str], world: int) -> None:
    whole = list(streamed(files, workers=1).epoch(FULL, 1, 0))
    shares = [list(streamed(files, workers=1).epoch(FULL, 1, 0, rank=rank, world=world)) for rank in range(world)]
    for step, (x, y) in enumerate(whole):
        for rank in range(world):
            assert torch.equal(shares[rank][step][0], x[rank::world])
            assert torch.equal(shares[rank][step][1], y[rank::world])


def test_a_set_smaller_than_a_batch_is_one_step(files: list[str]) -> None:
    ((x, y),) = streamed(files[:5], workers=1).epoch(FULL, 0, 0)
    assert len(x) == 5
    assert sorted(y.tolist()) == [0, 1, 2, 3, 4]


def test_the_last_batch_is_dropped_kept_or_carried(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """37 images in batches of 8, read in chunks of 3; a carried batch begins with the five that were left over."""
    monkeypatch.setattr(folders, "CHUNK", 3)
    data, sizes = streamed(files), {}
    labels: dict[str, list[list[int]]] = {}
    for rule in ("drop", "keep", "carry"):
        training = change_recipe(FULL, last_batch=rule)
        epochs = [list(data.epoch(training, 0, epoch)) for epoch in range(3)]
        sizes[rule] = [[len(x) for x, _ in batches] for batches in epochs]
        labels[rule] = [[int(label) for _, y in batches for label in y] for batches in epochs]
        assert [data.steps(training, 0, epoch) for epoch in range(3)] == [len(batches) for batches in epochs]
        ((x, y),) = list(data.epoch(training, 0, 2, len(epochs[2]) - 1))  # taken up at the last step
        assert torch.equal(x, epochs[2][-1][0])
        assert torch.equal(y, epochs[2][-1][1])
    assert sizes == {"drop": [[8] * 4] * 3, "keep": [[8, 8, 8, 8, 5]] * 3, "carry": [[8] * 4, [8] * 5, [8] * 4]}
    assert all(sorted(epoch) == list(range(37)) for epoch in labels["keep"])
    whole, carried = (list(chain.from_iterable(labels[rule])) for rule in ("keep", "carry"))
    assert carried == whole[:104]


def test_padded_crops_and_holes_are_refused(files: list[str]) -> None:
    for wrong in ({"crop": 4}, {"cutout": 8}):
        with pytest.raises(WsnasError, match="crop and cutout"):
            next(streamed(files).epoch(change_recipe(PLAIN, **wrong), 0, 0))


# augmentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(375, 500), (64, 64), (300, 90)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    """Top, left, height and width of 3,000 crops each, by Kolmogorov-Smirnov; all inside the image."""
    torch.manual_seed(0)
    image, draws = torch.zeros(3, height, width), np.random.default_rng(0).random((3000, 29)).tolist()
    ours = np.array([random_box(height, width, row) for row in draws])
    params = v2.RandomResizedCrop(8)
    made = [getattr(params, "make_params", getattr(params, "_get_params", None))([image]) for _ in range(3000)]
    theirs = np.array([[one[name] for name in ("top", "left", "height", "width")] for one in made])
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-4


def test_an_image_too_narrow_for_any_crop_gives_its_centre() -> None:
    assert random_box(10, 400, [0.5] * 29) == (0, 193, 10, 13)  # ratio 4/3 of the height
    assert random_box(400, 12, [0.5] * 29) == (192, 0, 16, 12)  # ratio 3/4
    assert random_box(1, 1, [0.99] * 29) == (0, 0, 1, 1)


def test_a_crop_is_resized_as_pillow_does(tmp_path: Path) -> None:
    """PNG, so that nothing but cropping and resizing is compared: within one level of pillow's own; up and down."""
    names = []
    for i, (width, height) in enumerate([(60, 45), (200, 150), (16, 16), (9, 300)]):
        rng = np.random.default_rng(i)
        names.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(names[-1])
    training = dataclasses.replace(PLAIN, batch=4)
    ((x, y),) = streamed(names, size=24).epoch(training, 0, 0)
    draws = torch.rand(4, folders.DRAWS, generator=folders.torch_rng(0, "images", 0, 0)).tolist()
    for image, label, drawn in zip(pixels(x), y.tolist(), draws, strict=True):
        with Image.open(names[label]) as source:
            top, left, height, width = random_box(source.size[1], source.size[0], drawn)
            expected = tv.resized_crop(source, top, left, height, width, [24, 24])
        difference = image - torch.from_numpy(np.asarray(expected).copy()).permute(2, 0, 1)
        assert difference.abs().max() < 1.01


def test_half_of_the_images_are_mirrored_and_only_where_the_training_flips(tmp_path: Path) -> None:
    """An image that is dark left and bright right."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 200
    Image.fromarray(image).save(tmp_path / "half.png")
    training = change_recipe(PLAIN, batch=400, flip=True)
    data = streamed([str(tmp_path / "half.png")] * 400, size=8)
    for flip in (True, False):
        ((x, _),) = data.epoch(change_recipe(training, flip=flip), 0, 0)
        left, right = pixels(x)[..., 0].mean((1, 2)), pixels(x)[..., -1].mean((1, 2))
        seen = left != right  # the crop holds both sides
        mirrored = int((left > right).sum())
        if flip:
            assert stats.binomtest(mirrored, int(seen.sum())).pvalue > 1e-4
        else:
            assert mirrored == 0


def changed(image: torch.Tensor, factors: list[float], steps: list[int]) -> torch.Tensor:
    """By torchvision: brightness, contrast, saturation and hue, in the order of ``steps``."""
    for step in steps:
        change = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[step]
        image = change(image, factors[step])
    return image


def test_jitter_is_torchvisions_in_each_images_own_order() -> None:
    """All six orders; torchvision's functions one after the other, to half a level (their grey has four digits)."""
    torch.manual_seed(0)
    x = torch.rand(24, 3, 9, 11) * 255
    strength = 0.5 + torch.rand(24, 3)
    order = torch.rand(24, 3).argsort(1)
    found = jittered(x, strength, order)
    assert len({tuple(row) for row in order.tolist()}) == 6
    for image, factors, steps, got in zip(x, strength.tolist(), order.tolist(), found, strict=True):
        expected = changed(image / 255, factors, steps)
        torch.testing.assert_close(got, expected * 255, rtol=0, atol=0.5)


def test_hue_is_torchvisions_in_each_images_own_order() -> None:
    """With the other three, in all 24 orders. A third of a turn swaps the primary colours, greys stay."""
    torch.manual_seed(0)
    x = torch.rand(120, 3, 9, 11) * 255
    strength = torch.cat([0.5 + torch.rand(120, 3), torch.rand(120, 1) - 0.5], 1)
    order = torch.rand(120, 4).argsort(1)
    found = jittered(x, strength, order)
    assert len({tuple(row) for row in order.tolist()}) == 24
    for image, factors, steps, got in zip(x, strength.tolist(), order.tolist(), found, strict=True):
        expected = changed(image / 255, factors, steps)
        # their grey has four digits, and a hue is a steep function of nearly grey colours
        assert ((got - expected * 255).abs() > 0.5).float().mean() < 0.01
    colours = torch.tensor([[255.0, 0, 0], [0, 255, 0], [0, 0, 255], [100, 100, 100], [0, 0, 0]]).T.view(1, 3, 1, 5)
    third = turned(colours, torch.full((1, 1, 1, 1), 1 / 3))
    torch.testing.assert_close(third[..., :3], colours[..., [1, 2, 0]], rtol=0, atol=1e-3)
    torch.testing.assert_close(third[..., 3:], colours[..., 3:])
    torch.testing.assert_close(turned(x, torch.zeros(120, 1, 1, 1)), x, rtol=0, atol=1e-3)


def test_hue_turns_evenly_both_ways(tmp_path: Path) -> None:
    """A pure red, by at most a tenth of a turn; without a jitter to be part of, a training with it is refused."""
    Image.fromarray(np.full((8, 8, 3), (200, 0, 0), np.uint8)).save(tmp_path / "red.png")
    data = streamed([str(tmp_path / "red.png")] * 500, size=8)
    training = change_recipe(PLAIN, batch=500, colour_jitter=1e-6, hue=0.1)
    ((x, _),) = data.epoch(training, 0, 0)
    red, green, blue = pixels(x).mean((2, 3)).T.numpy()
    turns = np.where(green > blue, green / red, -blue / red) / 6
    assert stats.kstest(turns, "uniform", (-0.1, 0.2)).pvalue > 1e-4
    with pytest.raises(WsnasError, match="colour_jitter"):
        change_recipe(training, colour_jitter=0.0)


def test_jitter_is_uniform_around_the_image(tmp_path: Path) -> None:
    """A grey of 100: contrast and saturation leave it, brightness is 100 times a uniform number in 0.6 .. 1.4."""
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(tmp_path / "grey.png")
    data = streamed([str(tmp_path / "grey.png")] * 500, size=8)
    ((x, _),) = data.epoch(change_recipe(PLAIN, batch=500, colour_jitter=0.4), 0, 0)
    levels = pixels(x).mean((1, 2, 3)).numpy() / 100
    assert stats.kstest(levels, "uniform", (0.6, 0.8)).pvalue > 1e-4


# evaluation ------------------------------------------------------------------------------------------------------


def test_evaluation_resizes_the_shorter_side_and_crops_the_centre(files: list[str], tmp_path: Path) -> None:
    """As torchvision's Resize to 8/7 and CenterCrop: equal where neither rounds; the images in order."""
    for size, width, height, tolerance in ((56, 64, 64, 1.01), (42, 128, 96, 6)):
        source = picture(0, width, height)
        ((x, _),) = streamed([_saved(source, tmp_path / "plain.png")], size=size).ordered(1)
        expected = tv.center_crop(tv.resize(source, size * 8 // 7), [size, size])
        difference = pixels(x)[0] - torch.from_numpy(np.asarray(expected).copy()).permute(2, 0, 1)
        assert difference.abs().max() < tolerance
        assert difference.abs().mean() < 0.5
    data = streamed(files, size=28, workers=2)
    found = list(data.ordered(10))
    assert [len(y) for _, y in found] == [10, 10, 10, 7]
    assert torch.cat([y for _, y in found]).tolist() == list(range(37))


def test_a_limit_and_what_is_kept(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images are not read again, as far as they fit the cache; the batches do not change."""
    monkeypatch.setattr(folders, "CHUNK", 8)
    whole = next(streamed(files).ordered(37))
    image = 3 * 16 * 16
    data = streamed(files, keep=20 * image)  # two chunks of 8 fit, a third does not
    for limit in (5, 20, None, 37, 1000):
        for batch in (1, 7, 100):
            found = list(data.ordered(batch, limit))
            count = min(37, limit or 37)
            assert [len(y) for _, y in found] == [batch] * (count // batch) + [count % batch] * (count % batch > 0)
            assert torch.equal(torch.cat([x for x, _ in found]), whole[0][:count])
            assert torch.equal(torch.cat([y for _, y in found]), whole[1][:count])
    remembers = streamed(files)
    list(remembers.ordered(8))
    Path(files[-1]).unlink()
    assert torch.equal(next(remembers.ordered(37))[0], whole[0])
    with pytest.raises(WsnasError, match=r"36\.jpg"):
        list(data.ordered(37))


def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path) -> None:
    """1,600 x 1,200 at 64 pixels: the result is that of the whole image; the crop is cut from an eighth of it."""
    path = str(tmp_path / "large.jpg")
    picture(0, 1600, 1200).save(path, quality=95)
    picture(0, 1600, 1200).save(tmp_path / "large.png")
    small, large = (streamed([name], size=64) for name in (path, str(tmp_path / "large.png")))
    assert max(small._crop(path, None).shape[:2]) < 300 < 1000 < large._crop(large.files[0], None).shape[0]
    for training in (None, dataclasses.replace(PLAIN, batch=1)):
        for epoch in range(5):
            batches = [list(d.ordered(1) if training is None else d.epoch(training, 0, epoch)) for d in (small, large)]
            a, b = (pixels(found[0][0]) for found in batches)
            assert (a - b).abs().mean() < 1.5


def test_score_counts_and_averages(files: list[str]) -> None:
    class Guess(nn.Module):
        def forward(self, x: Tensor, path: Any) -> Tensor:
            return torch.nn.functional.one_hot(torch.full((len(x),), path), 37).float() * 9

    accuracy, loss = streamed(files).score(Guess(), 3, batch=8, limit=20)
    assert accuracy == pytest.approx(5)
    log_sum = np.log(np.exp(9) + 36)
    assert loss == pytest.approx(log_sum - 9 / 20)


# files that are no images ----------------------------------------------------------------------------------------


def spoiled(kind: str, path: Path) -> None:
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "missing":
        path.unlink()
    elif kind == "broken header":
        path.write_bytes(content[:2] + bytes(600) + content[602:])


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "missing", "broken header"])
def test_a_corrupt_image_is_named_and_fatal_or_skipped(files: list[str], kind: str) -> None:
    whole = dict(zip(range(4), streamed(files).epoch(FULL, 0, 0), strict=False))
    order = torch.cat([y for _, y in whole.values()]).tolist()
    bad = order[11]  # the fourth image of the second batch
    spoiled(kind, Path(files[bad]))
    with pytest.raises(WsnasError, match=f"{bad:02d}.jpg"):
        list(streamed(files).epoch(FULL, 0, 0))
    with pytest.raises(WsnasError, match=f"{bad:02d}.jpg"):
        list(streamed(files).ordered(8))
    with pytest.warns(UserWarning, match=f"{bad:02d}.jpg"):
        found = list(streamed(files, skip_corrupt=True).epoch(FULL, 0, 0))
    assert [len(y) for _, y in found] == [8] * 4  # a step keeps its size: the image before stands in
    assert torch.cat([y for _, y in found]).tolist() == [*order[:11], order[10], *order[12:]]
    for step in (0, 2, 3):
        assert torch.equal(found[step][0], whole[step][0])
    others = torch.arange(8) != 3
    assert torch.equal(found[1][0][others], whole[1][0][others])
    with pytest.warns(UserWarning, match=f"{bad:02d}.jpg"):
        ordered = list(streamed(files, skip_corrupt=True).ordered(8))
    assert torch.cat([y for _, y in ordered]).tolist() == [i for i in range(37) if i != bad]


def test_only_corrupt_images_is_an_error_even_if_they_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    data = streamed([str(tmp_path / "a.jpg")] * 3, skip_corrupt=True)
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(WsnasError, match="none of 3"):
        list(data.epoch(PLAIN, 0, 0))
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(WsnasError, match="no image"):
        data.score(nn.Identity(), None, 8)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "I;16", "LA"])
def test_every_kind_of_image_comes_out_in_three_colours(tmp_path: Path, mode: str) -> None:
    """Grey and CMYK JPEGs are in ImageNet; the others are what a folder may hold."""
    source = picture(0, 70, 50)
    grey = mode in ("L", "1", "I;16", "LA")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 257)
    elif mode == "LA":
        image = source.convert("L").convert("LA")
    else:
        image = source.convert(mode)
    path = tmp_path / ("image.jpg" if mode in ("L", "CMYK") else "image.png")
    image.save(path)
    ((x, _),) = streamed([str(path)], size=12).ordered(1)
    assert x.shape == (1, 3, 12, 12)
    colours = pixels(x)[0]
    if grey:
        torch.testing.assert_close(colours[0], colours[1], rtol=0, atol=1e-3)
        if mode != "1":
            ((plain, _),) = streamed([_saved(source.convert("L"), tmp_path / "plain.png")], size=12).ordered(1)
            assert (colours - pixels(plain)[0]).abs().mean() < (6 if mode == "L" else 1)
    elif mode in ("CMYK", "RGBA"):
        ((expected, _),) = streamed([_saved(source, tmp_path / "plain.png")], size=12).ordered(1)
        assert (colours - pixels(expected)[0]).abs().mean() < 12


def _saved(image: Image.Image, path: Path) -> str:
    image.save(path)
    return str(path)


# a folder --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, count in (("train", 12), ("val", 3)):
        for c, name in enumerate(("ant", "bee", "cat")):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for i in range(count):
                level = np.full((20, 20, 3), 80 * c + 5 * i + (part == "val"), np.uint8)  # which image it is
                Image.fromarray(level).save(tmp_path / "set" / part / name / f"{i}.png")
    return tmp_path / "set"


def levels(data: Any) -> list[tuple[int, int]]:
    """(level, label) of each image in order."""
    return [
        (round(float(level)), int(label))
        for x, y in data.ordered(7)
        for level, label in zip(pixels(x).mean((1, 2, 3)), y, strict=True)
    ]


def test_a_folder_is_split_shuffled_and_labelled(folder: Path, tmp_path: Path) -> None:
    splits = stream_splits(folder, 16, RECIPE, CPU)
    assert splits.classes == 3
    train, valid, test = (levels(part) for part in (splits.train, splits.valid, splits.test))
    assert (len(train), len(valid), len(test)) == (18, 18, 9)
    assert sorted(train + valid) == sorted((80 * c + 5 * i, c) for c in range(3) for i in range(12))
    assert sorted(test) == sorted((80 * c + 5 * i + 1, c) for c in range(3) for i in range(3))
    for part in (train, valid, test):  # the first images, which calibrate and score, are of several classes
        assert len({label for _, label in part[:6]}) > 1
    assert levels(stream_splits(folder, 16, RECIPE, CPU).train) == train
    in_memory = load_splits(dataclasses.replace(RECIPE, dataset=str(folder)), CPU)
    assert Counter(in_memory.train.labels.tolist()) == Counter(label for _, label in train)  # type: ignore[attr-defined]

    more = stream_splits(folder, 16, dataclasses.replace(RECIPE, train_size=30), CPU)
    assert (len(more.train), len(more.valid)) == (30, 6)
    authors = {"train": ["int", [str(i) for i in range(4)]], "valid": ["int", ["7", "9"]]}
    (tmp_path / "split.json").write_text(json.dumps(authors))
    named = stream_splits(folder, 16, dataclasses.replace(RECIPE, split_file=str(tmp_path / "split.json")), CPU)
    assert (len(named.train), len(named.valid)) == (4, 2)


def test_the_first_streamed_images_are_of_all_classes(tmp_path: Path) -> None:
    """A folder lists its files class by class; every part begins with as many of each class as it holds: chi-square."""
    for part, count in (("train", 200), ("val", 80)):
        for name in ("ant", "bee", "cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / part / name / f"{i:03d}.png").touch()  # never opened
    splits = stream_splits(tmp_path, 16, RECIPE, CPU)
    for data in (splits.train, splits.valid, splits.test):
        labels = data.labels.numpy()  # type: ignore[attr-defined]
        assert stats.chisquare(np.bincount(labels)).pvalue > 1e-3
        for first in (len(labels) // 4, len(labels) // 2):
            assert stats.chisquare(np.bincount(labels[:first], minlength=4)).pvalue > 1e-3


BREAK: dict[str, Callable[[Path], Any]] = {
    "no train": lambda place: (place / "train").rename(place / "training"),
    "no val": lambda place: (place / "val").rename(place / "validation"),
    "no images": lambda place: [file.unlink() for file in (place / "val").rglob("*.png")],
    "an unknown class": lambda place: (place / "val" / "dog").mkdir(),
}


@pytest.mark.parametrize("kind", BREAK)
def test_a_malformed_folder_is_refused(folder: Path, kind: str) -> None:
    BREAK[kind](folder)
    with pytest.raises(WsnasError, match="set"):
        stream_splits(folder, 16, RECIPE, CPU)


@pytest.mark.parametrize("count", [37, 1000])
def test_more_training_images_than_there_are_are_refused(folder: Path, count: int) -> None:
    with pytest.raises(WsnasError, match="36 training images"):
        stream_splits(folder, 16, dataclasses.replace(RECIPE, train_size=count), CPU)


def test_all_images_can_train_and_then_none_validate(folder: Path) -> None:
    splits = stream_splits(folder, 16, dataclasses.replace(RECIPE, train_size=36), CPU)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (36, 0, 9)


def test_the_networks_input_is_in_memory_once(files: list[str]) -> None:
    """An unfinished epoch holds a few chunks, not the data set: two per thread, and the current one."""
    opened: list[str] = []
    data = streamed(files * 200, workers=2)
    read = data._crop
    data._crop = lambda file, draws: (opened.append(file), read(file, draws))[1]  # type: ignore[method-assign, assignment]
    batches = data.epoch(PLAIN, 0, 0)
    next(batches)
    batches.close()
    data._pool.shutdown()
    assert len(opened) <= 8 * (2 * 2 + 3)


def in_memory(folder: Path) -> Any:
    return load_splits(dataclasses.replace(RECIPE, dataset=str(folder)), CPU)


def test_hidden_folders_and_files_are_no_classes_and_no_images(folder: Path) -> None:
    """What notebooks and file managers leave: ``.ipynb_checkpoints`` was the first class and shifted all labels."""
    before, memory = stream_splits(folder, 16, RECIPE, CPU), in_memory(folder)
    for part in ("train", "val"):
        for place in (folder / part, folder / part / "bee"):
            (place / ".ipynb_checkpoints").mkdir()
            (place / ".ipynb_checkpoints" / "0.png").write_bytes((folder / part / "bee" / "0.png").read_bytes())
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / part / "ant" / name).write_bytes(b"no image")
    after = stream_splits(folder, 16, RECIPE, CPU)
    assert after.classes == in_memory(folder).classes == 3
    for name in ("train", "valid", "test"):
        assert levels(getattr(after, name)) == levels(getattr(before, name))
        assert torch.equal(getattr(in_memory(folder), name).pixels, getattr(memory, name).pixels)


def test_an_empty_class_is_refused_streamed_and_in_memory(folder: Path) -> None:
    (folder / "train" / "dog").mkdir()
    for load in (lambda: stream_splits(folder, 16, RECIPE, CPU), lambda: in_memory(folder)):
        with pytest.raises(WsnasError, match=r"the class .*dog holds no images"):
            load()


def test_classes_and_images_behind_links_are_read_and_a_broken_link_is_refused(folder: Path, tmp_path: Path) -> None:
    def found() -> list[tuple[int, int]]:
        splits = stream_splits(folder, 16, RECIPE, CPU)
        return sorted(levels(splits.train) + levels(splits.valid))

    before = found()
    (folder / "train" / "bee").rename(tmp_path / "elsewhere")
    (folder / "train" / "bee").symlink_to(tmp_path / "elsewhere")
    assert found() == before
    (tmp_path / "elsewhere" / "more").mkdir()
    for i in range(6):
        (tmp_path / "elsewhere" / f"{i}.png").rename(tmp_path / "elsewhere" / "more" / f"{i}.png")
    (tmp_path / "elsewhere" / "more").rename(tmp_path / "further")
    (tmp_path / "elsewhere" / "more").symlink_to(tmp_path / "further")
    (tmp_path / "further" / "round").symlink_to(tmp_path / "elsewhere")  # a circle
    assert found() == before
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    with pytest.raises(WsnasError, match=r"bee is a link to .*elsewhere, which does not exist"):
        stream_splits(folder, 16, RECIPE, CPU)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_grey_images_keep_their_levels_or_are_refused(folder: Path, mode: str) -> None:
    """16 bits: the upper eight. The range of 32-bit and float pixels is in no file: pillow cuts them at 255."""
    grey = np.arange(0, 65536, 164, dtype=np.uint16)[:400].reshape(20, 20)
    image = Image.fromarray(grey) if mode == "I;16" else Image.fromarray(grey.astype("f4" if mode == "F" else "i4"))
    assert image.mode == mode
    path = folder / "train" / "ant" / ("0.png" if mode == "I;16" else "0.tif")
    (folder / "train" / "ant" / "0.png").unlink()
    image.save(path)
    if mode == "I;16":
        assert (sources.folder(folder).train[0] == (grey // 256).astype(np.uint8)[None, ..., None]).all(
            (1, 2, 3)
        ).sum() == 1
        ((x, _),) = streamed([str(path)], size=20).ordered(1)
        assert 0 < pixels(x).min() < 120 < 135 < pixels(x).max() < 255
    else:
        for read in (lambda: sources.folder(folder), lambda: list(streamed([str(path)]).ordered(1))):
            with pytest.raises(WsnasError, match=r"0\.tif .*pixels are .*: save it with 8 or 16 bits"):
                read()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(folder: Path, orientation: int) -> None:
    """As pillow's own ``exif_transpose``, in memory and streamed."""
    stored = np.zeros((20, 20, 3), np.uint8)
    stored[:4, :8] = (250, 100, 30)  # one corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / "train" / "ant" / "0.png"
    Image.fromarray(stored).save(path, exif=exif)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    assert (sources.folder(folder).train[0] == np.asarray(upright)).all((1, 2, 3)).sum() == 1
    ((x, _),) = streamed([str(path)], size=12).ordered(1)
    ((y, _),) = streamed([_saved(Image.fromarray(np.asarray(upright)), folder.parent / "plain.png")], size=12).ordered(
        1
    )
    assert torch.equal(x, y)


@pytest.mark.cuda
def test_a_gpu_sees_what_the_cpu_sees(files: list[str]) -> None:
    """Pinned copies on a stream of their own: every batch within a level of the CPU's (bytes there, floats here)."""
    gpu = StreamedImages(files, np.arange(len(files)), 16, torch.device("cuda"), workers=3)
    for epoch in range(3):
        pairs = zip(streamed(files).epoch(FULL, 0, epoch), gpu.epoch(FULL, 0, epoch), strict=True)
        for (x, y), (u, v) in pairs:
            assert torch.equal(y, v.cpu())
            assert (pixels(x) - pixels(u.cpu())).abs().max() < 3
    for (x, y), (u, v) in zip(streamed(files).ordered(8), gpu.ordered(8), strict=True):
        assert torch.equal(y, v.cpu())
        assert (pixels(x) - pixels(u.cpu())).abs().max() < 1.01
