"""Paper-size nb201 supernet step against the textbook loop, in one run.

Both train the same supernet (16 channels, 5 cells per stage, batch 256, 32x32 images) on the same
architectures in the same order, taking turns in blocks of steps, so a machine whose speed drifts
affects all. The textbook loop follows most code for this space: an operation is an
``nn.Sequential(ReLU, Conv2d, BatchNorm2d)``, every edge is computed, with the default memory layout, fp32 and
torchvision transforms in a DataLoader with 2 workers.

    python benchmarks/supernet_step.py [--dataset cifar10 | FILE.npz] [--steps 24]

Without ``--dataset`` the images are random bytes of CIFAR-10's size: the time does not depend on them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from textbook import Pictures, TextbookNetwork, copy_weights, textbook_sgd
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nb201.network import Network
from nb201.space import sample
from wsnas import load_space
from wsnas.data.images import Images
from wsnas.data.sources import load_splits
from wsnas.devices import to_device
from wsnas.environment import environment
from wsnas.options import Command
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.recipe import change_recipe


def endless(make: Any) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        yield from make(epoch)
        epoch += 1


@click.command(cls=Command)
@click.option("--dataset", help="cifar10 or a .npz file; random bytes of CIFAR-10's size by default.")
@click.option("--steps", default=24, show_default=True, help="Timed steps per loop.")
@click.option("--block", default=4, show_default=True, help="Steps before the loops take turns.")
@click.option("--channels", default=16, show_default=True)
@click.option("--cells", default=5, show_default=True)
@click.option("--batch", default=256, show_default=True)
def main(dataset: str | None, steps: int, block: int, channels: int, cells: int, batch: int) -> None:
    """Our supernet step, in fp32 and in bfloat16 autocast, against the textbook's: seconds per step."""
    space = load_space("nb201")
    recipe = change_recipe(
        space.recipes["paper"], dataset=dataset or "cifar10", channels=channels, cells=cells, batch=batch
    )
    training, cpu = recipe.supernet, torch.device("cpu")
    if dataset is None:
        rng = numpy_rng(0, "bytes")
        pixels, labels = rng.integers(0, 256, (10_000, 32, 32, 3), np.uint8), rng.integers(0, 10, 10_000)
        images, classes = Images(pixels, labels, torch.full((3,), 127.5), torch.full((3,), 73.9), cpu), 10
    else:
        splits = load_splits(recipe, cpu)
        assert isinstance(splits.train, Images)
        images, classes = splits.train, splits.classes

    def ours() -> Network:
        with torch_seeded(0, "init"):
            return to_device(Network(channels, cells, classes), cpu)

    plain = TextbookNetwork(channels, cells, classes)
    copy_weights(ours(), plain)
    loader = DataLoader(
        Pictures(images, training), batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    models: dict[str, nn.Module] = {"textbook": plain, "ours fp32": ours(), "ours bf16": ours()}
    # check that both are the same function: one batch through both before training
    x, _ = next(images.epoch(training, 0, 0))
    arch = sample(numpy_rng(0, "check"))
    logits = models["textbook"].train()(x.contiguous(), arch) - models["ours fp32"].train()(x, arch)

    batches = {name: endless(lambda epoch: images.epoch(training, 0, epoch)) for name in models}
    batches["textbook"] = endless(lambda epoch: loader)
    optimizers = {
        name: textbook_sgd(model, training, foreach=None if name == "textbook" else True)
        for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for first in range(-block, steps, block):  # the first block of each is the warm-up
        for name, model in models.items():
            for step in range(first, first + block):
                path = sample(numpy_rng(0, "paths", step))
                started = time.perf_counter()
                x, y = next(batches[name])
                optimizers[name].zero_grad(set_to_none=True)
                with torch.autocast("cpu", torch.bfloat16, enabled=name == "ours bf16"):
                    loss = F.cross_entropy(model(x, path), y)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), training.clip)
                optimizers[name].step()
                if step >= 0:
                    seconds[name].append(time.perf_counter() - started)
    result: dict[str, Any] = {
        "benchmark": "supernet_step",
        **environment(),
        **{"channels": channels, "cells": cells, "batch": batch, "steps": steps},
        "seconds_a_step": {name: round(float(np.mean(taken)), 4) for name, taken in seconds.items()},
        "largest_output_difference_before_training": logits.abs().max().item(),
    }
    for name in ("ours fp32", "ours bf16"):
        ratios = np.array(seconds["textbook"]) / np.array(seconds[name])  # step by step: the same architecture
        result[f"textbook / {name}"] = {
            "of totals": round(sum(seconds["textbook"]) / sum(seconds[name]), 2),
            "median": round(float(np.median(ratios)), 2),
            "quartiles": [round(float(q), 2) for q in np.quantile(ratios, [0.25, 0.75])],
        }
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
