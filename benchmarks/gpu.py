"""One GPU, one command: nb201 stand-alone training and the supernet step at paper size, and what the card allows.

Every way trains with the loop of ``wsnas.training`` on random bytes of CIFAR's size (the time does not depend on
them): in float32 and bfloat16, step by step and as a captured CUDA graph, one training on the card and several;
the textbook's loop (default layout, DataLoader, optimizer as it comes) beside them. The card's own matmul and copy
rates are measured in the same run: they bound what a step could take.

    python benchmarks/gpu.py > docs/results/benchmarks/gpu-CARD.json

On a machine without a GPU only the dry run works (``--device cpu --dry-run``): tiny sizes, no figures to keep.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from textbook import Pictures, TextbookNetwork
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from nb201 import PAPER, SPACE, NB201Recipe
from nb201.space import Architecture, sample
from wsnas.cli import Command
from wsnas.devices import choose_device, place
from wsnas.executor import Executor, run_jobs
from wsnas.images import Images
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.runs import environment
from wsnas.space import Training
from wsnas.training import train

ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"  # a large one


def bytes_of(count: int, device: torch.device) -> Images:
    rng = numpy_rng(0, "bytes")
    pixels, labels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)
    return Images(pixels, labels, torch.full((3,), 127.5), torch.full((3,), 73.9), device)


def seconds_an_epoch(
    model: nn.Module, images: Images, training: Training, paths: Any, *, amp: bool, captured: bool
) -> float:
    """The fastest epoch after the first, which warms up; the loop waits for the device at each epoch's end."""
    ends: list[float] = []
    epochs = replace(training, epochs=3)
    train(
        model,
        images,
        epochs,
        paths,
        seed=0,
        amp=amp,
        captured=captured,
        on_epoch=lambda line: ends.append(time.perf_counter()),
    )
    return min(b - a for a, b in pairwise(ends))


def standalone(job: tuple[str, int, NB201Recipe, bool, bool]) -> float:
    """Seconds an epoch of one stand-alone training; a job, so that several can share the card."""
    name, count, recipe, amp, captured = job
    device = choose_device(name)
    arch = SPACE.decode(ARCH)
    with torch_seeded(0, "init"):
        network = place(SPACE.network(arch, recipe), device)
    images = bytes_of(count, device)
    return seconds_an_epoch(network, images, recipe.standalone, lambda step: [(arch, 1.0)], amp=amp, captured=captured)


def supernet(device: torch.device, count: int, recipe: NB201Recipe, amp: bool) -> float:
    with torch_seeded(0, "init"):
        network = place(SPACE.supernet(recipe), device)
    images = bytes_of(count, device)

    def uniform(step: int) -> list[tuple[Architecture, float]]:
        return [(sample(numpy_rng(0, "paths", step)), 1.0)]

    return seconds_an_epoch(network, images, recipe.supernet, uniform, amp=amp, captured=False)


def textbook(device: torch.device, count: int, recipe: NB201Recipe, shared: bool, steps: int) -> float:
    """Seconds an epoch of the textbook's loop, from so many steps after as many to warm up."""
    training = recipe.supernet if shared else recipe.standalone
    arch = None if shared else SPACE.decode(ARCH)
    model = TextbookNetwork(recipe.channels, recipe.cells, 10, 3, arch).to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(),
        training.lr,
        training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov,
    )
    pictures = Pictures(bytes_of(count, torch.device("cpu")), training)
    loader = DataLoader(pictures, training.batch, shuffle=True, num_workers=2, pin_memory=device.type == "cuda")
    started, done = 0.0, 0
    while done < 2 * steps:
        for x, y in loader:
            if done == steps:
                started = time.perf_counter()
            optimizer.zero_grad()
            path = sample(numpy_rng(0, "paths", done)) if shared else None
            loss = F.cross_entropy(model(x.to(device), path), y.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            if training.clip:
                nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            optimizer.step()
            loss.item()  # what a progress bar shows
            done += 1
            if done == 2 * steps:
                break
    return (time.perf_counter() - started) / steps * (count // training.batch)


def card(device: torch.device, side: int) -> dict[str, float]:
    """Measured: bfloat16 matmul in TFLOP/s and device-to-device copies in GB/s (read and written)."""

    def fastest(work: Any) -> float:
        times = []
        for _ in range(8):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
        return min(times)

    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    source = torch.empty(side * side * 4, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {
        "matmul TFLOP/s": round(2 * side**3 / fastest(lambda: a @ a) / 1e12, 3),
        "copy GB/s": round(2 * len(source) / fastest(lambda: target.copy_(source)) / 1e9, 2),
    }


def bounds(network: nn.Module, arch: Architecture, batch: int, rates: dict[str, float]) -> dict[str, float]:
    """Seconds a bfloat16 step cannot beat: its operations at the matmul rate, its activations at the copy rate.

    Activations: the outputs of convolutions, batch norms and pooling, written and read once forward, twice backward.
    """
    moved = 0

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal moved
        moved += output.numel() * 2 * 6

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    x = torch.zeros(1, 3, 32, 32, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network.eval()(x, arch)
    for hook in hooks:
        hook.remove()
    return {
        "by operations": 3 * flops.get_total_flops() * batch / (rates["matmul TFLOP/s"] * 1e12),
        "by activations": moved * batch / (rates["copy GB/s"] * 1e9),
    }


@click.command(cls=Command)
@click.option("--device", help="By default the GPU.")
@click.option("--dry-run", is_flag=True, help="Tiny sizes: does every part run?")
@click.option("--together", default=4, show_default=True, help="Trainings that share the card.")
def main(device: str | None, dry_run: bool, together: int) -> None:
    """nb201 at paper size on one GPU: images a second, projected times, and the card's own limits."""
    found = choose_device(device or ("cpu" if dry_run else "cuda"))
    recipe, images, side, steps = PAPER, 25_000, 8192, 50
    if dry_run:
        small = {name: replace(getattr(PAPER, name), batch=8) for name in ("supernet", "standalone")}
        recipe, images, side, steps = replace(PAPER, channels=2, cells=1, **small), 16, 64, 1
    on_gpu = found.type == "cuda"
    rates = card(found, side)
    alone = {"fp32": (False, False), "bf16": (True, False)}
    if on_gpu:
        alone |= {"fp32 captured": (False, True), "bf16 captured": (True, True)}
    epochs = {name: standalone((str(found), images, recipe, *how)) for name, how in alone.items()}
    best = min(epochs, key=lambda name: epochs[name])
    jobs = [(str(found), images, recipe, *alone[best])] * together
    started = time.perf_counter()
    shared = [seconds for _, seconds in run_jobs(standalone, jobs, Executor(together if on_gpu else 0))]
    if any(isinstance(one, BaseException) for one in shared):
        raise next(one for one in shared if isinstance(one, BaseException))
    wall = time.perf_counter() - started
    epochs["textbook"] = textbook(found, images, recipe, False, steps)
    nets = {"fp32": supernet(found, images, recipe, False), "bf16": supernet(found, images, recipe, True)}
    nets["textbook"] = textbook(found, images, recipe, True, steps)
    network = place(SPACE.network(SPACE.decode(ARCH), recipe), found)
    limits = bounds(network, SPACE.decode(ARCH), recipe.standalone.batch, rates)
    per_epoch = images // recipe.standalone.batch
    each = float(np.mean([one for one in shared if not isinstance(one, BaseException)]))
    result: dict[str, Any] = {
        "benchmark": "gpu" + (", dry run: not a measurement" if dry_run else ""),
        **environment(),
        "device": str(found),
        "card": rates,
        "standalone": {
            "architecture": ARCH,
            "images a second": {name: round(images / taken) for name, taken in epochs.items()},
            "projected seconds for 200 epochs of 25,000 images": {
                name: round(200 * taken * 25_000 / images, 1) for name, taken in epochs.items()
            },
            f"{together} on the card ({best})": {
                "images a second, all together": round(together * images / each),
                "wall seconds, starting included": round(wall, 1),
            },
            "seconds a step": {name: taken / per_epoch for name, taken in epochs.items()},
            "seconds a step at the card's rates": limits,
        },
        "supernet": {
            "images a second": {name: round(images / taken) for name, taken in nets.items()},
            "projected minutes for 1,000 epochs of 50,000 images": {
                name: round(1000 * taken * 50_000 / images / 60, 2) for name, taken in nets.items()
            },
        },
    }
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
