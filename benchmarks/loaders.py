"""Training images per second of both loaders against torchvision's in a DataLoader with 2 workers, in one run.

CIFAR-size images: ``wsnas.data.images.Images`` (in memory, crop and flip in batches) against PIL transforms. Image
folders: ``wsnas.data.folders.StreamedImages`` with 2 threads (decode, random resized crop, flip, colour jitter) against
PIL transforms of the same files. Both give normalised float32 batches on the CPU and nothing is trained. The two take
turns epoch by epoch, so a machine whose speed drifts affects both. The first epoch of each, in which the workers
start, is not timed; it checks that both see the same pixels on average.

    python benchmarks/loaders.py [--images cifar10 | FILE.npz] [--folder FOLDER] [--size 64]

Without data, the images are random bytes of CIFAR-10's size, and temporary JPEGs of 64 x 64 pixels.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from wsnas.data.folders import MEAN, STD, StreamedImages
from wsnas.data.images import Images
from wsnas.data.sources import image_files, load_splits
from wsnas.environment import environment
from wsnas.options import Command
from wsnas.randomness import numpy_rng
from wsnas.recipe import SGD, Augmentation, ColourAugmentation, Recipe, Training

CPU = torch.device("cpu")
Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # of an epoch


class Pictures(Dataset[tuple[Tensor, int]]):
    """A loader as in torchvision's tutorials: one PIL image at a time, from memory or from a file."""

    def __init__(self, sources: Any, labels: Sequence[int], steps: Sequence[Any]) -> None:
        self.sources, self.labels, self.transform = sources, labels, transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        source = self.sources[index]
        if isinstance(source, str):
            with open(source, "rb") as file:
                image = Image.open(file).convert("RGB")
        else:
            image = Image.fromarray(source)
        return self.transform(image), self.labels[index]


def textbook(pictures: Pictures, batch: int) -> Batches:
    loader = DataLoader(pictures, batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    return lambda epoch: loader


def compare(loaders: dict[str, Batches], epochs: int) -> dict[str, Any]:
    """Images per second of each over ``epochs`` epochs, taking turns, after one epoch for warm-up and checks."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    seen = {}
    for epoch in range(-1, epochs):
        for name, batches in loaders.items():
            count, moments = 0, []
            started = time.perf_counter()
            for x, _ in batches(epoch + 1):
                count += len(x)
                if epoch < 0:
                    moments.append([x.mean().item(), x.std().item()])
            if epoch < 0:
                seen[name] = [round(float(value), 3) for value in np.mean(moments, 0)]
            else:
                rates[name].append(count / (time.perf_counter() - started))
    ours, theirs = (np.array(rates[name]) for name in ("ours", "torchvision"))
    return {
        "images_an_epoch": count,
        "images_a_second": {name: round(float(np.median(found))) for name, found in rates.items()},
        "ours / torchvision": {
            "median": round(float(np.median(ours / theirs)), 2),
            "of all epochs": [round(float(ratio), 2) for ratio in ours / theirs],
        },
        "mean_and_deviation_of_pixels": seen,
    }


def in_memory(dataset: str | None, batch: int, epochs: int, synthetic: int) -> dict[str, Any]:
    training = Training(1, batch, SGD(0.1), inputs=Augmentation(flip=True, crop=4))
    if dataset is None:
        rng = numpy_rng(0, "bytes")
        drawn = rng.integers(0, 256, (synthetic, 32, 32, 3), np.uint8), rng.integers(0, 10, synthetic)
        images = Images(*drawn, torch.full((3,), 127.5), torch.full((3,), 73.9), CPU)
    else:
        loaded = load_splits(Recipe(dataset, training, training, 0, 0), CPU).train
        assert isinstance(loaded, Images)
        images = loaded
    pixels = images.pixels.numpy()
    steps = [
        transforms.RandomCrop(pixels.shape[1], padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
    ]
    normalise = transforms.Normalize((images.mean / 255).tolist(), (images.std / 255).tolist())
    pictures = Pictures(pixels, images.labels.tolist(), [*steps, normalise])
    loaders: dict[str, Batches] = {
        "ours": lambda epoch: images.epoch(training, 0, epoch),
        "torchvision": textbook(pictures, batch),
    }
    return {"dataset": dataset or "random bytes", "side": pixels.shape[1], **compare(loaders, epochs)}


def streamed(folder: Path, name: str, size: int, batch: int, epochs: int) -> dict[str, Any]:
    training = Training(1, batch, SGD(0.1), inputs=ColourAugmentation(flip=True, colour_jitter=0.4))
    _, (files, labels), _ = image_files(folder)
    photos = StreamedImages(files, labels, size, CPU, workers=2)
    steps = [
        transforms.RandomResizedCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.4, 0.4, 0.4),
    ]
    normalise = transforms.Normalize([m / 255 for m in MEAN], [s / 255 for s in STD])
    pictures = Pictures(files, labels.tolist(), [*steps, transforms.ToTensor(), normalise])
    loaders: dict[str, Batches] = {
        "ours": lambda epoch: photos.epoch(training, 0, epoch),
        "torchvision": textbook(pictures, batch),
    }
    return {"dataset": name, "size": size, **compare(loaders, epochs)}


@contextmanager
def jpegs(count: int, side: int = 64) -> Iterator[Path]:
    """A folder of ``count`` training images of two classes, smooth with some noise, to compress like photographs."""
    with tempfile.TemporaryDirectory() as place:
        rng = numpy_rng(0, "jpegs")
        for i, (part, name) in enumerate(itertools.product(("train", "val"), ("one", "two"))):
            target = Path(place) / part / name
            target.mkdir(parents=True)
            for j in range(count // 2 if part == "train" else 1):
                coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((side, side), 3)
                noisy = np.asarray(coarse) + rng.normal(0, 8, (side, side, 1))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(target / f"{i}-{j}.jpg", quality=90)
        yield Path(place)


@click.command(cls=Command)
@click.option("--images", help="cifar10 or a .npz file; random bytes of CIFAR-10's size by default.")
@click.option("--folder", type=click.Path(path_type=Path), help="An image folder; JPEGs of 64 x 64 pixels by default.")
@click.option("--size", default=64, show_default=True, help="Side in pixels at which the folder is streamed.")
@click.option("--batch", default=256, show_default=True)
@click.option("--epochs", default=5, show_default=True, help="Timed epochs per loader.")
@click.option("--count", default=8192, show_default=True, help="Number of generated images if no data are given.")
@click.option("--threads", default=1, show_default=True, help="Torch threads in this process.")
def main(images: str | None, folder: Path | None, size: int, batch: int, epochs: int, count: int, threads: int) -> None:
    """Images per second of both loaders and torchvision's, with the same images and augmentation."""
    torch.set_num_threads(threads)
    result: dict[str, Any] = {"benchmark": "loaders", **environment(), "batch": batch, "epochs": epochs}
    result["in memory"] = in_memory(images, batch, epochs, count)
    if folder is None:
        with jpegs(count) as made:
            result["folder"] = streamed(made, "JPEGs of 64 x 64 pixels", size, batch, epochs)
    else:
        result["folder"] = streamed(folder, folder.name, size, batch, epochs)
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
