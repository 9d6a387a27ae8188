"""Small stand-alone trainings and evaluations of submodels: ours against plain code, side by side in one run.

At micro size, on one thread of the CPU, for random architectures of nb101, nb201 and proxyless:

- training: our loop against the same training as plain code, ``nn.Conv2d``, ``nn.BatchNorm2d``, ``torch.optim.SGD``
  and a running mean of the weights; same initial weights, same batches.
- evaluation of a submodel: calibration of its batch norms and its score, against the supernet as plain code.

The two ways take turns, architecture by architecture, and CPU time is counted, so other processes matter little.
Both have the ``channels_last`` layout and keep the memory they free (``wsnas.devices``); neither is a difference here.

    python benchmarks/small_training.py [--architectures 8]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from textbook import TextbookNetwork, TextbookNetwork101, TextbookProxyless, copy_weights, textbook_sgd
from torch import Tensor, nn

from nb101.recipes import NB101Recipe
from nb201.recipes import NB201Recipe
from proxyless.images import skeleton_of
from proxyless.recipes import ProxylessRecipe
from wsnas import load_space
from wsnas.data.images import Images, Splits
from wsnas.data.sources import shape_of
from wsnas.devices import choose_device, to_device
from wsnas.environment import environment
from wsnas.evaluation import evaluate_submodel
from wsnas.options import Command
from wsnas.randomness import numpy_rng, torch_rng, torch_seeded
from wsnas.recipe import Recipe, Training, change_recipe
from wsnas.sampling import sample_distinct
from wsnas.space import SearchSpace
from wsnas.training import learning_rate, train


def plain_network(recipe: Recipe, arch: Any = None) -> nn.Module:
    classes, inputs = shape_of(recipe.dataset)[:2]
    if isinstance(recipe, NB101Recipe):
        return TextbookNetwork101(recipe.channels, recipe.cells, classes, inputs, recipe.bn_momentum, arch)
    if isinstance(recipe, ProxylessRecipe):
        return TextbookProxyless(skeleton_of(recipe), arch)
    assert isinstance(recipe, NB201Recipe)
    return TextbookNetwork(recipe.channels, recipe.cells, classes, inputs, arch)


def pair(space: SearchSpace[Any], recipe: Recipe, arch: Any = None) -> tuple[nn.Module, nn.Module]:
    """Our network and the plain one, with the same weights; without ``arch`` the supernets."""
    cpu = torch.device("cpu")
    with torch_seeded(0, "init"):
        ours = to_device(space.build(recipe, arch), cpu)
    plain = to_device(plain_network(recipe, arch), cpu)
    copy_weights(ours, plain)
    return ours, plain


def plain_batches(images: Images, training: Training, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of ``Images.epoch`` without augmentation, each pixel looked up by its row and column."""
    count, height, width = images.pixels.shape[:3]
    order = torch.randperm(count, generator=torch_rng(seed, "images", epoch))
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    for step in range(images.steps(training)):
        index = order[step * training.batch : (step + 1) * training.batch]
        pixels = images.pixels[index[:, None, None], rows, columns]
        yield ((pixels.float() - images.mean) / images.std).permute(0, 3, 1, 2), images.labels[index]


def plain_training(model: nn.Module, images: Images, training: Training) -> list[float]:
    """The training as plain code; the mean loss of each epoch."""
    parameters, optimizer = list(model.parameters()), textbook_sgd(model, training, foreach=True)
    steps = images.steps(training)
    start, step = round((1 - training.average_last) * training.epochs * steps), 0
    mean: list[Tensor] = []
    losses = []
    model.train()
    for epoch in range(training.epochs):
        loss_sum = torch.zeros((), dtype=torch.float64)
        for x, y in plain_batches(images, training, 0, epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(training, epoch, step, steps)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            if training.clip:
                nn.utils.clip_grad_norm_(parameters, training.clip)
            optimizer.step()
            loss_sum += loss.detach()
            step += 1
            if step > start:
                weights = [parameter.detach() for parameter in parameters]
                mean = mean or [weight.clone() for weight in weights]
                torch._foreach_lerp_(mean, weights, 1 / (step - start))
        losses.append(loss_sum.item() / steps)
    return losses


def our_training(model: nn.Module, images: Images, training: Training, arch: Any) -> list[float]:
    losses: list[float] = []

    def on_epoch(line: Mapping[str, float]) -> None:
        losses.append(line["loss"])

    train(model, images, training, lambda step: [(arch, 1.0)], seed=0, on_epoch=on_epoch)
    return losses


def plain_evaluation(model: nn.Module, path: Any, splits: Splits, recipe: Recipe) -> tuple[float, float]:
    """Batch norms calibrated by their own cumulative averages, then (accuracy in percent, cross-entropy)."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        for x, _ in splits.train.ordered(recipe.calibration_batch, recipe.calibration_batch * recipe.calibration_steps):
            model(x, path)
    return splits.valid.score(model, path, recipe.evaluation_batch, recipe.valid_size)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """(CPU seconds, result)."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def in_turns(pairs: list[tuple[Callable[[], Any], Callable[[], Any]]]) -> tuple[Any, Any, list[Any], list[Any]]:
    """(our CPU seconds, the textbook's, our results, the textbook's); the first pair is the warm-up."""
    runs = []
    for number, both in enumerate(pairs):
        order = (0, 1) if number % 2 else (1, 0)
        found = {way: timed(both[way]) for way in order}
        runs.append((found[0], found[1]))
    ours, textbook = ([run[way] for run in runs[1:]] for way in (0, 1))
    our_seconds, textbook_seconds = (np.array([one[0] for one in way]) for way in (ours, textbook))
    return our_seconds, textbook_seconds, [one[1] for one in ours], [one[1] for one in textbook]


def compared(ours: Any, textbook: Any) -> dict[str, Any]:
    ratios = textbook / ours
    return {
        "milliseconds": {"ours": round(1000 * np.median(ours), 2), "textbook": round(1000 * np.median(textbook), 2)},
        "textbook / ours": {
            "of totals": round(textbook.sum() / ours.sum(), 2),
            "median": round(float(np.median(ratios)), 2),
            "quartiles": [round(float(q), 2) for q in np.quantile(ratios, [0.25, 0.75])],
        },
    }


def compare(space: SearchSpace[Any], recipe: Recipe, architectures: int) -> dict[str, Any]:
    splits = space.load_data(recipe, choose_device("cpu"))
    images, training = splits.train, recipe.standalone
    assert isinstance(images, Images)
    archs = sample_distinct(space, architectures + 1, numpy_rng(0, "small training"))

    def trainings(arch: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
        ours, plain = pair(space, recipe, arch)
        return (lambda: our_training(ours, images, training, arch)), (lambda: plain_training(plain, images, training))

    ours, textbook, losses, plain_losses = in_turns([trainings(arch) for arch in archs])
    steps = training.epochs * images.steps(training)
    result: dict[str, Any] = {"architectures": architectures}
    result["training"] = {
        "steps": steps,
        "a step": compared(ours / steps, textbook / steps),
        "losses of the first epoch": [round(loss[0], 6) for loss in losses],
        "textbook's": [round(loss[0], 6) for loss in plain_losses],
    }
    supernet, plain = pair(space, recipe)

    def evaluations(arch: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
        return (
            lambda: evaluate_submodel(supernet, arch, splits, recipe),
            lambda: plain_evaluation(plain, arch, splits, recipe),
        )

    ours, textbook, scores, plain_scores = in_turns([evaluations(arch) for arch in archs])
    difference = max(abs(a[1] - b[1]) for a, b in zip(scores, plain_scores, strict=True))
    result["evaluation"] = {"a submodel": compared(ours, textbook), "largest difference of cross-entropies": difference}
    return result


@click.command(cls=Command)
@click.option("--architectures", default=8, show_default=True, type=click.IntRange(1), help="Of each space.")
@click.option("--dry-run", is_flag=True, help="Tiny sizes: does every part run?")
def main(architectures: int, dry_run: bool) -> None:
    """A small training step and an evaluation of a submodel: ours against plain code, one thread, CPU time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        report: dict[str, Any] = {
            "benchmark": "small_training" + (", dry run: not a measurement" if dry_run else ""),
            **environment(),
        }
        for name in ("nb101", "nb201", "proxyless"):
            space = load_space(name)
            recipe = change_recipe(space.recipes["micro"], **{"standalone.epochs": 2})  # a step is a step
            if dry_run:
                small = {} if name == "proxyless" else {"channels": 4}
                recipe = replace(recipe, train_size=512, valid_size=200, calibration_steps=1, **small)
            report[name] = compare(space, recipe, 2 if dry_run else architectures)
    finally:
        torch.set_num_threads(threads)
    click.echo(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
