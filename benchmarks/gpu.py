"""One GPU, one command: nb201 stand-alone training and the supernet step at paper size, and the card's limits.

All variants train with the loop of ``wsnas.training`` on random bytes of CIFAR's size (the time does not depend on
them): in float32 and bfloat16, eager and as a captured CUDA graph, one training on the card and several; the
textbook loop (default layout, DataLoader, default optimizer) runs for comparison. "fp32" means torch's default on
this card: convolutions may use TF32, and the output says whether they did. The card's matmul and copy rates are
measured in the same run, to estimate how fast a step could be.

    python benchmarks/gpu.py > docs/results/benchmarks/gpu-CARD.json

Without a GPU, only the dry run works (``--device cpu --dry-run``): tiny sizes, two worker processes, no captured
graphs; its figures are not measurements.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from textbook import Pictures, TextbookNetwork, textbook_sgd
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from nb201 import SPACE
from nb201.recipes import PAPER, NB201Recipe
from nb201.space import Architecture, sample
from wsnas.data.images import Images
from wsnas.devices import choose_device, cores, to_device
from wsnas.environment import environment
from wsnas.executor import Executor, run_jobs
from wsnas.options import Command
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.recipe import Training
from wsnas.training import train

ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"  # a large one


def bytes_of(count: int, device: torch.device) -> Images:
    rng = numpy_rng(0, "bytes")
    pixels, labels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)
    return Images(pixels, labels, torch.full((3,), 127.5), torch.full((3,), 73.9), device)


EPOCHS = 4  # of every training; the first warms up


def epoch_ends(
    model: nn.Module,
    images: Images,
    training: Training,
    paths: Any,
    *,
    amp: bool,
    cuda_graph: bool,
    warm: Callable[[], None] | None = None,
) -> list[float]:
    """When each epoch ended, ``time.time()``, with all device work finished. ``warm`` is called after the first."""
    ends: list[float] = []

    def on_epoch(line: Any) -> None:
        if not ends and warm is not None:
            warm()
        ends.append(time.time())

    epochs = replace(training, epochs=EPOCHS)
    train(model, images, epochs, paths, seed=0, amp=amp, cuda_graph=cuda_graph, pieces=False, on_epoch=on_epoch)
    return ends


def seconds_a_step(ends: list[float], steps: int) -> float:
    """Mean over the epochs after the first, of ``steps`` steps each."""
    return (ends[-1] - ends[0]) / (len(ends) - 1) / steps


def meet(folder: str, count: int, seconds: float = 120.0) -> None:
    """Returns in ``count`` processes at the same time, a second after the last call; ``folder`` must be new."""
    Path(folder, str(os.getpid())).touch()
    deadline = time.time() + seconds
    while len(here := list(Path(folder).iterdir())) < count:
        if time.time() > deadline:
            raise TimeoutError(f"only {len(here)} of {count} trainings are ready after {seconds:g} s")
        time.sleep(0.01)
    time.sleep(max(0.0, max(path.stat().st_mtime for path in here) + 1 - time.time()))


def images_a_second(ends: list[list[float]], images: int) -> float | None:
    """Total rate of parallel trainings while all of them trained; None if they never did at the same time.

    ``ends``: for each training, when its epochs of ``images`` ended; it trains from the first to the last.
    An epoch partly within that time counts in proportion.
    """
    start, stop = max(one[0] for one in ends), min(one[-1] for one in ends)
    if start >= stop:
        return None
    done = [np.diff(np.interp([start, stop], one, np.arange(len(one)))).item() for one in ends]
    return images * sum(done) / (stop - start)


def standalone(job: tuple[str, int, NB201Recipe, bool, bool, str, int]) -> list[float]:
    """``epoch_ends`` of one stand-alone training, as a job, because several can share the card.

    (device, images, recipe, bfloat16, captured, folder for synchronisation, number of parallel trainings; 0: none)
    """
    name, count, recipe, amp, captured, folder, together = job
    device = choose_device(name)
    arch = SPACE.decode(ARCH)
    with torch_seeded(0, "init"):
        network = to_device(SPACE.network(arch, recipe), device)
    return epoch_ends(
        network,
        bytes_of(count, device),
        recipe.standalone,
        lambda step: [(arch, 1.0)],
        amp=amp,
        cuda_graph=captured,
        warm=(lambda: meet(folder, together)) if together else None,
    )


def supernet(device: torch.device, count: int, recipe: NB201Recipe, amp: bool) -> list[float]:
    """``epoch_ends`` of the supernet, step by step (``gpu_check.py`` times the step from pieces)."""
    with torch_seeded(0, "init"):
        network = to_device(SPACE.supernet(recipe), device)
    images = bytes_of(count, device)

    def uniform(step: int) -> list[tuple[Architecture, float]]:
        return [(sample(numpy_rng(0, "paths", step)), 1.0)]

    return epoch_ends(network, images, recipe.supernet, uniform, amp=amp, cuda_graph=False)


def textbook(device: torch.device, count: int, recipe: NB201Recipe, shared: bool, steps: int) -> float:
    """Seconds per step of the textbook loop, over ``steps`` steps after as many warm-up steps."""
    training = recipe.supernet if shared else recipe.standalone
    arch = None if shared else SPACE.decode(ARCH)
    model = TextbookNetwork(recipe.channels, recipe.cells, 10, 3, arch).to(device).train()
    optimizer = textbook_sgd(model, training)
    pictures = Pictures(bytes_of(count, torch.device("cpu")), training)
    loader = DataLoader(
        pictures,
        training.batch,
        shuffle=True,
        drop_last=True,
        num_workers=min(8, cores()),
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
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
            loss.item()  # as for a progress bar
            done += 1
            if done == 2 * steps:
                break
    return (time.perf_counter() - started) / steps


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
        "matmul TFLOP/s": 2 * side**3 / fastest(lambda: a @ a) / 1e12,
        "copy GB/s": 2 * len(source) / fastest(lambda: target.copy_(source)) / 1e9,
    }


class Outputs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers that convolutions and batch norms put out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if "convolution" in str(func) or "batch_norm" in str(func):
            self.numbers += (output if isinstance(output, Tensor) else output[0]).numel()
        return output


def estimates(network: nn.Module, arch: Architecture, batch: int, rates: dict[str, float]) -> dict[str, float]:
    """Seconds that a bfloat16 step's operations take at the matmul rate, and its activations at the copy rate.

    A reference for the measured seconds per step, not a bound: small activations stay in caches, which are faster than
    the measured copies, and only the outputs of convolutions and batch norms are counted, each as written and read
    once forward and twice backward.
    """
    x = torch.zeros(1, 3, 32, 32, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as flops, Outputs() as outputs, torch.no_grad():
        network.train()(x.expand(2, -1, -1, -1), arch)  # a batch norm that trains needs two images
    moved = outputs.numbers / 2 * 2 * 6  # bytes of one image: 2 a number, moved six times
    return {
        "by operations": 3 * flops.get_total_flops() / 2 * batch / (rates["matmul TFLOP/s"] * 1e12),
        "by activations": moved * batch / (rates["copy GB/s"] * 1e9),
    }


@click.command(cls=Command)
@click.option("--device", help="Default: the GPU.")
@click.option("--dry-run", is_flag=True, help="Tiny sizes, to check that every part runs.")
@click.option("--together", default=4, show_default=True, help="Trainings that share the card.")
def main(device: str | None, dry_run: bool, together: int) -> None:
    """nb201 at paper size on one GPU: images per second, projected times, and the card's limits."""
    found = choose_device(device or ("cpu" if dry_run else "cuda"))
    recipe, images, side, steps = PAPER, 25_000, 8192, 50
    if dry_run:
        small = {name: replace(getattr(PAPER, name), batch=8) for name in ("supernet", "standalone")}
        recipe, images, side, steps = replace(PAPER, channels=2, cells=1, **small), 16, 64, 1
        together = 2
    batch, shared_batch = recipe.standalone.batch, recipe.supernet.batch
    per_epoch, shared_per_epoch = images // batch, images // shared_batch
    rates = card(found, side)
    alone = {"fp32": (False, False), "bf16": (True, False)}
    if found.type == "cuda":
        alone |= {"fp32 captured": (False, True), "bf16 captured": (True, True)}
    taken = {
        name: seconds_a_step(standalone((str(found), images, recipe, *how, "", 0)), per_epoch)
        for name, how in alone.items()
    }
    best = min(taken, key=lambda name: taken[name])
    ends: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        # the jobs are identical: each worker takes one and waits in it for the others
        jobs = [(str(found), images, recipe, *alone[best], folder, together)] * together
        started = time.perf_counter()
        for _, one in run_jobs(standalone, jobs, Executor(together)):
            if isinstance(one, BaseException):
                raise one
            ends.append(one)
        wall = time.perf_counter() - started
    rate = images_a_second(ends, per_epoch * batch)
    taken["textbook"] = textbook(found, images, recipe, False, steps)
    nets = {
        name: seconds_a_step(supernet(found, images, recipe, amp), shared_per_epoch)
        for name, amp in (("fp32", False), ("bf16", True))
    }
    nets["textbook"] = textbook(found, images, recipe, True, steps)
    network = to_device(SPACE.network(SPACE.decode(ARCH), recipe), found)
    on_gpu = found.type == "cuda"
    result: dict[str, Any] = {
        "benchmark": "gpu" + (", dry run: not a measurement" if dry_run else ""),
        **environment(),
        "device": str(found),
        "card": {name: round(value, 3) for name, value in rates.items()},
        "fp32 means": {
            "convolutions": "TF32" if on_gpu and torch.backends.cudnn.allow_tf32 else "float32",
            "matrix products": "TF32" if on_gpu and torch.backends.cuda.matmul.allow_tf32 else "float32",
        },
        "standalone": {
            "architecture": ARCH,
            "images a second": {name: round(batch / seconds) for name, seconds in taken.items()},
            "projected seconds for 200 epochs of 25,000 images": {
                name: round(200 * (25_000 // batch) * seconds, 1) for name, seconds in taken.items()
            },
            f"{together} on the card ({best})": {
                "images a second, all together": None if rate is None else round(rate),  # null: never all at once
                "wall seconds, starting included": round(wall, 1),
            },
            "seconds a step": taken,
            "seconds a step by the card's rates, an estimate and no bound": estimates(
                network, SPACE.decode(ARCH), batch, rates
            ),
        },
        "supernet": {
            "images a second": {name: round(shared_batch / seconds) for name, seconds in nets.items()},
            "projected minutes for 1,000 epochs of 50,000 images": {
                name: round(1000 * (50_000 // shared_batch) * seconds / 60, 2) for name, seconds in nets.items()
            },
        },
    }
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
