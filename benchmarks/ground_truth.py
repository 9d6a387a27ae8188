"""Ground-truth trainings per hour: our executor and training against a textbook implementation, in one run.

Both train the same nb201 architectures for the same epochs with the same recipe and score them on the same
validation and test images. The textbook runs one process with all threads, one architecture after another,
default layout, a DataLoader with 2 workers. Ours works like ``wsnas ground-truth``: one single-threaded worker per
core. The textbook trains half of its architectures before ours and half after, so a machine whose speed drifts
affects both. Micro size is the whole recipe; paper size (16 channels, 5 cells, 32x32 images) is a few steps per
architecture, on random bytes, which take as long as real images. Everything runs on the CPU, even with a GPU.

Ours is timed after the first quarter of the trainings, when the workers have started, over at least three more
per worker: by default there are at least four architectures per worker.

    python benchmarks/ground_truth.py [--size micro --size paper] [--architectures 8]
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from textbook import Pictures, TextbookNetwork, copy_weights, textbook_sgd
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from nb201 import SPACE
from nb201.recipes import MICRO, PAPER, NB201Recipe
from nb201.space import Architecture
from wsnas.data.images import Images, Splits
from wsnas.data.sources import load_splits, shape_of
from wsnas.devices import cores, to_device
from wsnas.environment import environment
from wsnas.errors import WsnasError
from wsnas.executor import Executor, run_jobs
from wsnas.ground_truth import TrainingJob, train_job
from wsnas.options import Command
from wsnas.randomness import numpy_rng
from wsnas.sampling import sample_distinct
from wsnas.standalone import train_architecture
from wsnas.training import learning_rate


def accuracy(model: nn.Module, loader: DataLoader[Any]) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in loader)
    return 100 * right / len(loader.dataset)  # type: ignore[arg-type]


def textbook_training(arch: Architecture, recipe: NB201Recipe, splits: Splits) -> dict[str, float]:
    """One architecture in textbook style; the recipe's schedule and averaging, validation half-way and at the end."""
    training = recipe.standalone
    classes, inputs = shape_of(recipe.dataset)[:2]
    model = TextbookNetwork(recipe.channels, recipe.cells, classes, inputs, arch)
    assert isinstance(splits.train, Images)
    options: dict[str, Any] = {"num_workers": 2, "persistent_workers": True}
    train = DataLoader(Pictures(splits.train, training), training.batch, shuffle=True, drop_last=True, **options)
    valid, test = (
        DataLoader(Pictures(part, None), recipe.evaluation_batch, num_workers=2)
        for part in (splits.valid, splits.test)
        if isinstance(part, Images)
    )
    optimizer = textbook_sgd(model, training)
    averaged, total, step = AveragedModel(model), training.epochs * len(train), 0
    for epoch in range(training.epochs):
        model.train()
        for x, y in train:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(training, epoch, step, len(train))
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step > total - round(training.average_last * total):
                averaged.update_parameters(model)
            loss.item()  # as for a progress bar
        if epoch + 1 == training.epochs // 2:
            accuracy(model, valid)
    if training.average_last:
        update_bn(train, averaged)
        return {"valid": accuracy(averaged, valid), "test": accuracy(averaged, test)}
    return {"valid": accuracy(model, valid), "test": accuracy(model, test)}


def recipe_of(size: str, folder: str, steps: int) -> NB201Recipe:
    if size == "micro":  # two of its ten epochs: the textbook's would take five times as long to the same ratio
        return replace(MICRO, standalone=replace(MICRO.standalone, epochs=2))
    rng, batch, path = numpy_rng(0, "bytes"), PAPER.standalone.batch, Path(folder) / "bytes.npz"
    arrays: dict[str, Any] = {}
    for name, count in (("train", (steps + 1) * batch), ("test", batch)):  # one batch for validation
        arrays[f"{name}_images"] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{name}_labels"] = rng.integers(0, 10, count)
    np.savez(path, **arrays)
    one_epoch = replace(PAPER.standalone, epochs=1)
    return replace(PAPER, dataset=str(path), train_size=steps * batch, calibration_steps=1, standalone=one_epoch)


def where_time_goes(arch: Architecture, recipe: NB201Recipe, splits: Splits) -> dict[str, float]:
    """One training's time by kind of operation, one thread, in percent."""
    groups = {
        "convolution forward": ("aten::mkldnn_convolution", "aten::convolution_overrideable", "aten::thnn_conv2d"),
        "convolution backward": ("aten::convolution_backward",),
        "batch norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
        "pooling": ("aten::avg_pool2d", "aten::avg_pool2d_backward"),
        "optimizer and averaging": (
            "aten::_foreach_add_",
            "aten::_foreach_mul_",
            "aten::_foreach_lerp_",
            "Optimizer.step#SGD.step",
        ),
        "relu": ("aten::clamp_min", "aten::threshold_backward", "aten::relu"),
    }
    with profile(activities=[ProfilerActivity.CPU]) as found:
        train_architecture(SPACE, arch, recipe, device="cpu", splits=splits)
    times = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total = sum(times.values())
    shares = {name: 100 * sum(times.get(key, 0) for key in keys) / total for name, keys in groups.items()}
    shares["everything else (gathers, autograd, Python)"] = 100 - sum(shares.values())
    return {name: round(share, 1) for name, share in shares.items()}


def enough(given: int | None, default: int, workers: int) -> int:
    """The number of architectures to train: at least four per worker, to measure a steady rate."""
    least = 4 * workers
    if given is not None and given < least:
        raise WsnasError(
            f"{given} architectures are too few for a steady rate of {workers} workers: give --architectures {least} "
            "or more, or fewer --workers"
        )
    return max(default, least) if given is None else given


def compare(recipe: NB201Recipe, archs: list[Architecture], workers: int | None) -> dict[str, Any]:
    splits = load_splits(recipe, torch.device("cpu"))
    classes, inputs = shape_of(recipe.dataset)[:2]
    ours = to_device(SPACE.network(archs[0], recipe), torch.device("cpu")).train()
    plain = TextbookNetwork(recipe.channels, recipe.cells, classes, inputs, archs[0]).train()
    copy_weights(ours, plain)
    x, _ = next(splits.valid.ordered(16))
    difference = (
        (ours(x) - plain(x.contiguous())).abs().max().item()
    )  # check that both are the same function, before timing

    seconds, textbook = 0.0, list[dict[str, float]]()
    half = len(archs) // 2

    def by_the_book(some: list[Architecture]) -> None:
        nonlocal seconds
        started = time.perf_counter()
        textbook.extend(textbook_training(arch, recipe, splits) for arch in some)
        seconds += time.perf_counter() - started

    by_the_book(archs[:half])
    # different seeds, as in the textbook: one seed shifts all architectures together, by 0.8 points of test accuracy
    jobs = [TrainingJob("nb201", recipe, arch, seed, "") for seed, arch in enumerate(archs)]
    started, ended, found = time.perf_counter(), [], []
    for _, result in run_jobs(train_job, jobs, Executor(workers)):
        if isinstance(result, BaseException):
            raise result
        ended.append(time.perf_counter() - started)
        found.append(result)
    by_the_book(archs[half:])
    first = min(len(ended) - 1, max(1, len(ended) // 4))  # the workers have started by then
    steady = (ended[-1] - ended[first - 1]) / (len(ended) - first)
    return {
        "architectures": len(archs),
        "an hour": {
            "textbook": round(3600 * len(archs) / seconds, 1),
            "ours": round(3600 / steady, 1),
            "ours, starting the workers included": round(3600 * len(archs) / ended[-1], 1),
        },
        "ours / textbook": round(seconds / len(archs) / steady, 2),
        "mean accuracy": {
            "textbook": {s: round(float(np.mean([one[s] for one in textbook])), 2) for s in ("valid", "test")},
            "ours": {s: round(float(np.mean([getattr(one, s) for one in found])), 2) for s in ("valid", "test")},
        },
        "largest_output_difference_before_training": difference,
        "our time by operation, %": where_time_goes(archs[0], recipe, splits),
    }


@click.command(cls=Command)
@click.option("--size", "sizes", multiple=True, type=click.Choice(["micro", "paper"]), default=["micro", "paper"])
@click.option(
    "--architectures", type=click.IntRange(2), help="Default: 16 at micro, 8 at paper size, at least 4 per worker."
)
@click.option("--steps", type=click.IntRange(1), default=4, show_default=True, help="Steps per training at paper size.")
@click.option("--workers", type=click.IntRange(0), help="Our processes; default: one per core.")
def main(sizes: tuple[str, ...], architectures: int | None, steps: int, workers: int | None) -> None:
    """Architectures per hour, ours against the textbook: rates, ratio and mean accuracies."""
    workers = cores() if workers is None else workers
    counts = {size: enough(architectures, {"micro": 16, "paper": 8}[size], workers) for size in sizes}
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before CUDA is initialised, and for the workers: both use the CPU
    result: dict[str, Any] = {"benchmark": "ground_truth", **environment()}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            archs = sample_distinct(SPACE, counts[size], numpy_rng(0, "ground truth"))
            result[size] = compare(recipe_of(size, folder, steps), archs, workers)
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
