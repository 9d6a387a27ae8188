"""One GPU, one command, nine minutes at most: do the CUDA tests pass, how fast is it, and does a supernet rank?

Three parts, each in its own process with its own time limit; results are written as they come:

    tests     the tests marked ``cuda``
    rates     the card's own; loader; nb201's stand-alone step eager, captured and textbook; the paper-size supernet
              step of all five spaces, nb201's also from pieces and textbook; scoring
    supernet  nb201's supernet at paper size on real CIFAR-10 in the remaining time, then scores of 200 submodels:
              Spearman with the published accuracies, compared with the parameter count's

    python benchmarks/gpu_check.py --out docs/results/gpu/CARD --cifar cifar10.npz --truth nb201.csv.gz

``--cifar``: a .npz of images ({train,test}_images uint8 [N,32,32,3], _labels) or of JPEG bytes ({train,test}_jpeg,
_offsets [n+1], _labels). Without it and ``--truth`` the last part is skipped. Without a GPU, only the dry run works
(``--device cpu --dry-run``): tiny sizes, random images; its figures are not measurements.
"""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from gpu import bytes_of, card, seconds_a_step, standalone, textbook
from PIL import Image

from nb201 import SPACE
from nb201.recipes import PAPER, NB201Recipe
from wsnas import installed_spaces, load_space
from wsnas.data.images import Data, Images, Splits, steps_of
from wsnas.data.sources import shape_of
from wsnas.data.tokens import Tokens
from wsnas.devices import choose_device, to_device
from wsnas.environment import environment
from wsnas.errors import of_the_gpu
from wsnas.evaluation import evaluate_submodel
from wsnas.files import atomic_write
from wsnas.metrics import correlation
from wsnas.options import Command
from wsnas.paths import Step, uniform
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.recipe import SGD, Augmentation, CosinePerStep, Training
from wsnas.sampling import sample_distinct
from wsnas.space import SearchSpace
from wsnas.table import Table
from wsnas.training import first_steps, train

ROOT = Path(__file__).parents[1]
SHARES = {"tests": 0.35, "rates": 0.4, "supernet": 1.0}  # largest share of the remaining time


class Notes:
    """A part's results so far, in a file written atomically, and its deadline."""

    def __init__(self, path: Path, until: float) -> None:
        self.path, self.until, self.found = path, until, dict[str, Any]()

    def left(self) -> float:
        return self.until - time.time()

    def add(self, name: str, value: Any) -> None:
        self.found[name] = value
        click.echo(f"{name}: {json.dumps(value)}"[:300])
        atomic_write(self.path, (json.dumps(self.found, indent=1) + "\n").encode())

    def attempt(self, name: str, work: Callable[[], Any], needs: float = 0.0) -> None:
        """Adds the result of ``work``, or why there is none; skipped if less than ``needs`` seconds are left."""
        if self.left() < needs:
            self.add(name, f"not measured: {self.left():.0f} s were left")
            return
        try:
            self.add(name, work())
        except Exception as error:  # the other measurements are still useful
            self.add(name, f"failed: {type(error).__name__}: {str(error)[:300]}")
            if of_the_gpu(error):
                raise  # this process can measure nothing more
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


# tests ----------------------------------------------------------------------------------------------------------


def run_tests(notes: Notes, dry_run: bool) -> None:
    report = notes.path.with_suffix(".xml")
    every = ["tests/test_*.py", "shared/tests/test_*.py", "packages/*/tests/test_*.py"]
    files = sorted(file for pattern in every for file in ROOT.glob(pattern) if "mark.cuda" in file.read_text())
    side_by_side = ["-n", "6"] if importlib.util.find_spec("xdist") is not None and not dry_run else []
    options = ["-q", "-m", "cuda", "-p", "no:cacheprovider", *side_by_side, f"--junitxml={report}"]
    chosen = files[-1:] if dry_run else files
    process = subprocess.Popen([sys.executable, "-m", "pytest", *options, *map(str, chosen)], cwd=ROOT)
    try:
        process.wait(max(1.0, notes.left() - 10))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it then reports what has run
        notes.add("stopped", "before all had run")
        process.wait(max(1.0, notes.left() - 2))
    cases = list(ElementTree.parse(report).iter("testcase"))
    report.unlink()

    def named(kind: str) -> list[str]:
        return sorted(f"{case.get('name')}" for case in cases if case.find(kind) is not None)

    failed, skipped = [*named("failure"), *named("error")], named("skipped")
    notes.add("passed", len(cases) - len(failed) - len(skipped))
    notes.add("failed", failed)
    notes.add("skipped", len(skipped))
    notes.add("exit code", process.returncode)


# rates ----------------------------------------------------------------------------------------------------------


def loader_rate(images: Images, training: Training, epochs: int = 2) -> float:
    """Images per second, augmented and normalised, after a warm-up epoch."""
    started = 0.0
    for epoch in range(epochs + 1):
        if epoch == 1:
            finish(images.device)
            started = time.perf_counter()
        for _ in images.epoch(training, 0, epoch):
            pass
    finish(images.device)
    return epochs * images.steps(training) * training.batch / (time.perf_counter() - started)


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def supernet_step(
    space: SearchSpace[Any], recipe: Any, data: Data, amp: bool, pieces: bool, epochs: int = 2
) -> dict[str, float]:
    """Milliseconds per step over the last epoch but one, and the time before it, for start-up and recording pieces.

    On a GPU also whether it waits for the CPU: how long kernels ran over the last ten steps, and how far the GPU
    lagged behind the CPU just before these.
    """
    with torch_seeded(0, "init"):
        model = to_device(space.supernet(recipe), data.device)
    on_gpu, ends, behind = data.device.type == "cuda", [time.perf_counter()], list[float]()
    training = replace(recipe.supernet, epochs=epochs + 1)
    last = first_steps(data, training, 0)
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) if on_gpu else None

    def draw(step: int) -> Step:
        if profiler is not None and not behind and step == max(last[-2], last[-1] - 10):
            launched = time.perf_counter()
            finish(data.device)
            behind.append(time.perf_counter() - launched)
            profiler.start()
        return uniform(space, numpy_rng(0, "paths", step))

    def on_epoch(line: Any) -> None:
        finish(data.device)
        ends.append(time.perf_counter())

    train(model, data, training, draw, seed=0, amp=amp, pieces=pieces, on_epoch=on_epoch)
    steps = last[-2] - last[-3]
    found = {"ms a step": 1000 * (ends[-2] - ends[-3]) / steps, "s before": ends[-3] - ends[0]}
    if profiler is not None:
        profiler.stop()
        kernels = [one for one in profiler.key_averages() if one.self_device_time_total > 0]
        profiled = min(10, last[-1] - last[-2])
        found["GPU ms a step"] = sum(one.self_device_time_total for one in kernels) / 1000 / profiled
        found["kernels a step"] = sum(one.count for one in kernels) / profiled
        found["GPU behind, ms"] = 1000 * behind[0]
        found["GB"] = torch.cuda.max_memory_reserved(data.device) / 1e9
        del model
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(data.device)
    return {name: round(value, 3) for name, value in found.items()}


def random_data(space: SearchSpace[Any], recipe: Any, steps: int, device: torch.device) -> Data:
    """Random images, or words, of the recipe's shape, for about ``steps`` steps per epoch."""
    rng, batch = numpy_rng(0, "bytes"), recipe.supernet.batch
    if space.metric == "perplexity":
        return Tokens(rng.integers(0, 500, batch * (recipe.supernet.inputs.bptt * steps + 2)), device)
    classes, channels, height, width = shape_of(recipe.dataset)
    pixels = rng.integers(0, 256, (batch * steps, height, width, channels), np.uint8)
    mean, std = torch.full((channels,), 127.5), torch.full((channels,), 73.9)
    return Images(pixels, rng.integers(0, classes, batch * steps), mean, std, device)


def paper_size(space: SearchSpace[Any], dry_run: bool) -> Any:
    """The paper's recipe; proxyless with a quarter of its batch, to fit one card."""
    recipe = space.recipes["micro" if dry_run else "paper"]
    training = recipe.supernet
    batch = 4 if dry_run else training.batch // 4 if space.name == "proxyless" else training.batch
    return replace(recipe, supernet=replace(training, batch=batch))


def measure_rates(notes: Notes, device: torch.device, dry_run: bool) -> None:
    on_gpu, recipe = device.type == "cuda", PAPER
    count, steps, long = (10_000, 20, 300) if not dry_run else (32, 1, 2)
    if dry_run:
        small = {name: replace(getattr(PAPER, name), batch=8) for name in ("supernet", "standalone")}
        recipe = replace(PAPER, channels=2, cells=1, **small)
    alone, shared = recipe.standalone, recipe.supernet
    notes.attempt("card", lambda: card(device, 64 if dry_run else 8192))
    notes.attempt("loader, images a second", lambda: round(loader_rate(bytes_of(5 * count, device), shared)))

    def shared_step(space: SearchSpace[Any], own: Any, amp: bool, pieces: bool, steps: int) -> dict[str, float]:
        return supernet_step(space, own, random_data(space, own, steps, device), amp, pieces)

    def alone_step(amp: bool, captured: bool) -> float:
        ends = standalone((str(device), count, recipe, amp, captured, "", 0))
        return round(1000 * seconds_a_step(ends, steps_of(count, alone, 0)), 3)

    def textbook_step(of_supernet: bool) -> float:
        return round(1000 * textbook(device, count, recipe, of_supernet, steps), 3)

    kinds = {"fp32": False, "bf16": True}
    others = sorted({*installed_spaces()} - {SPACE.name}, reverse=True)  # proxyless, never measured, is the first
    spaces = [SPACE, *map(load_space, others)]

    def eager_steps(some: list[SearchSpace[Any]], steps: int) -> None:
        for space in some:
            own = recipe if space.name == SPACE.name else paper_size(space, dry_run)
            for kind, amp in kinds.items():
                name = f"{space.name} supernet, eager {kind}"
                notes.attempt(name, partial(shared_step, space, own, amp, False, steps), 10.0 * on_gpu)

    eager_steps(spaces[1:], steps // 4 + 1)  # what has been measured least comes first
    eager_steps(spaces[:1], steps)
    for kind, amp in kinds.items():
        name = f"nb201 supernet, pieces {kind}"
        notes.attempt(name, partial(shared_step, SPACE, recipe, amp, True, long), 20.0 * on_gpu)
    ways = {"eager fp32": (False, False), "captured fp32": (False, True), "captured bf16": (True, True)}
    for name, way in ways.items():
        if on_gpu or not way[1]:
            notes.attempt(f"nb201 alone, {name}, ms a step", partial(alone_step, *way), 10.0 * on_gpu)
    for batch in (1000, 5000):
        for kind, amp in kinds.items():
            name = f"scoring, s a submodel, batches of {batch}, {kind}"
            size = 16 if dry_run else batch
            notes.attempt(name, partial(scoring, recipe, device, size, amp, dry_run), 3.0 * on_gpu)
    for name, of_supernet in (("alone", False), ("supernet", True)):
        notes.attempt(f"nb201 {name}, textbook fp32, ms a step", partial(textbook_step, of_supernet), 15.0 * on_gpu)


def scoring(recipe: NB201Recipe, device: torch.device, batch: int, amp: bool, dry_run: bool) -> float:
    """Seconds to calibrate on 10,000 images and score 10,000, mean of three submodels after one warm-up."""
    with torch_seeded(0, "init"):
        model = to_device(SPACE.supernet(recipe), device)
    images = bytes_of(32 if dry_run else 10_000, device)
    splits = Splits(images, images, images, 10)
    sized = replace(recipe, calibration_batch=batch, calibration_steps=len(images) // batch, evaluation_batch=batch)
    started = 0.0
    for i, arch in enumerate(sample_distinct(SPACE, 4, numpy_rng(0, "scoring"))):
        if i == 1:
            finish(device)
            started = time.perf_counter()
        evaluate_submodel(model, arch, splits, sized, amp)
    return round((time.perf_counter() - started) / 3, 4)


# a real supernet ------------------------------------------------------------------------------------------------


def cifar(path: Path | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training and test images [N, 32, 32, 3] uint8 and labels; random ones without a file."""
    if path is None:
        rng = numpy_rng(0, "bytes")
        for n in (64, 32):
            yield rng.integers(0, 256, (n, 32, 32, 3), np.uint8), np.arange(n) % 10
        return
    with np.load(path, allow_pickle=False) as stored, ThreadPoolExecutor() as pool:
        for part in ("train", "test"):
            labels = stored[f"{part}_labels"].astype(np.int64)
            if f"{part}_images" in stored:
                yield stored[f"{part}_images"], labels
                continue
            jpeg, offsets = stored[f"{part}_jpeg"].tobytes(), stored[f"{part}_offsets"].tolist()
            decoded = pool.map(pixels_of, [jpeg[start:end] for start, end in pairwise(offsets)])
            yield np.stack(list(decoded)), labels


def pixels_of(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def rank(
    notes: Notes, device: torch.device, data: Path | None, truth: Path | None, dry_run: bool, amp: bool, submodels: int
) -> None:
    training = Training(
        epochs=1,
        batch=256,
        optimizer=SGD(0.1, nesterov=True, weight_decay=5e-4),
        schedule=CosinePerStep(),
        average_last=0.1,
        clip=5.0,
        inputs=Augmentation(flip=True, crop=4),
    )
    recipe = replace(PAPER, dataset="cifar10", calibration_batch=1000, calibration_steps=4, evaluation_batch=1000)
    if dry_run:
        training = replace(training, batch=16)
        recipe = replace(recipe, channels=2, cells=1, calibration_batch=16, calibration_steps=1)
    (pixels, labels), (test_pixels, test_labels) = cifar(data)
    flat = torch.from_numpy(pixels).reshape(-1, 3).double()
    mean, std = flat.mean(0).float(), flat.std(0, correction=0).float()
    images = Images(pixels, labels, mean, std, device)
    test = Images(test_pixels, test_labels, mean, std, device)
    notes.add("images", {"train": len(images), "test": len(test)})
    steps = images.steps(training)
    pieces = device.type == "cuda"

    few = supernet_step(SPACE, replace(recipe, supernet=training), images, amp, pieces, epochs=3)
    notes.add("probe", few)
    seconds = few["ms a step"] / 1000 * steps  # an epoch
    reserve = 15 + 0.12 * submodels if pieces else 5.0  # recording, scoring, and a margin
    epochs = 2 if dry_run else max(1, int((notes.left() - reserve) / (1.04 * seconds)))
    recipe = replace(recipe, supernet=replace(training, epochs=epochs))
    notes.add("recipe", {"bfloat16": amp, **recipe.identity()})
    with torch_seeded(0, "init"):
        model = to_device(SPACE.supernet(recipe), device)
    started = time.monotonic()

    def on_epoch(line: Any) -> None:
        if line["epoch"] % 10 == 0 or line["epoch"] == epochs:
            spent = {"epoch": line["epoch"], "loss": round(line["loss"], 4), "s": round(time.monotonic() - started, 1)}
            notes.add("trained", [*notes.found.get("trained", []), spent])

    train(
        model,
        images,
        recipe.supernet,
        lambda step: uniform(SPACE, numpy_rng(0, "paths", step)),
        seed=0,
        amp=amp,
        pieces=pieces,
        on_epoch=on_epoch,
    )
    notes.add("steps", epochs * steps)
    table = SPACE.import_table(truth) if truth is not None else None
    splits, scores = Splits(images, test, test, 10), dict[str, float]()
    started = time.monotonic()
    for arch in sample_distinct(SPACE, submodels, numpy_rng(0, "submodels")):
        scores[SPACE.encode(arch)] = evaluate_submodel(model, arch, splits, recipe)[0]
        last = len(scores) == submodels or notes.left() < 4
        if len(scores) % 50 == 0 or last:
            notes.add("s a submodel", round((time.monotonic() - started) / len(scores), 3))
            notes.add("scores", scores)
            if table is not None and len(scores) > 2:
                notes.add("spearman", agreement(table, scores))
        if last:
            break


def agreement(table: Table, scores: dict[str, float]) -> dict[str, Any]:
    """Spearman, with 95 % intervals, of scores and of the parameter count with published CIFAR-10 test accuracy."""
    chosen = table.select(scores)
    published = chosen.mean("cifar10", "test", 200)
    measured = np.array([scores[arch] for arch in chosen.archs])
    count = np.array([SPACE.parameters(SPACE.decode(arch), PAPER) for arch in chosen.archs])
    return {
        "supernet": asdict(correlation(measured, published)),
        "parameter count": asdict(correlation(count, published)),
        "mean score": round(float(measured.mean()), 2),
        "mean published": round(float(published.mean()), 2),
    }


# the command ----------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for gpu_check.json.")
@click.option("--cifar", "data", type=click.Path(path_type=Path, exists=True), help="CIFAR-10 as .npz.")
@click.option("--truth", type=click.Path(path_type=Path, exists=True), help="Published accuracies of nb201.")
@click.option("--seconds", type=float, default=540.0, show_default=True, help="For everything.")
@click.option("--amp/--no-amp", default=True, show_default=True, help="The real supernet in bfloat16.")
@click.option("--submodels", default=200, show_default=True, help="To score.")
@click.option("--device", help="Default: the GPU.")
@click.option("--dry-run", is_flag=True, help="Tiny sizes, to check that every part runs.")
@click.option("--part", type=click.Choice([*SHARES]), hidden=True, help="Run only this part, in this process.")
@click.option("--until", type=float, hidden=True, help="When a part is stopped, as time.time().")
def main(
    out: Path,
    data: Path | None,
    truth: Path | None,
    seconds: float,
    amp: bool,
    submodels: int,
    device: str | None,
    dry_run: bool,
    part: str | None,
    until: float | None,
) -> None:
    """Do the CUDA tests pass on this GPU, how fast is it, and does a paper-size supernet rank?"""
    name = device or ("cpu" if dry_run else "cuda")
    if part is not None:
        notes = Notes(out / f"{part}.json", time.time() + seconds if until is None else until)
        if part == "tests":
            run_tests(notes, dry_run)
            return
        found = choose_device(name)
        notes.add("environment", {**environment(), "device": str(found)})
        if part == "rates":
            measure_rates(notes, found, dry_run)
        else:
            rank(notes, found, data, truth, dry_run, amp, submodels)
        return
    if not torch.cuda.is_available():
        choose_device(name)  # refuses a missing GPU; only the parts use it, one at a time
    whole = Notes(out / "gpu_check.json", time.time() + seconds)
    whole.add("benchmark", "gpu_check" + (", dry run: not a measurement" if dry_run else ""))
    for one, share in SHARES.items():
        if one == "supernet" and not dry_run and (data is None or truth is None):
            whole.add(one, "left out: it needs --cifar and --truth")
            continue
        last = one == "rates" and not dry_run and (data is None or truth is None)  # nothing follows
        limit = (1.0 if last else share) * whole.left()
        options = ["--out", str(out), "--device", name, "--submodels", str(submodels)]
        options += ["--amp" if amp else "--no-amp", *(["--dry-run"] if dry_run else [])]
        options += [*(["--cifar", str(data)] if data else []), *(["--truth", str(truth)] if truth else [])]
        options += ["--part", one, "--until", f"{time.time() + limit - 2:.1f}"]
        command = [sys.executable, str(Path(__file__)), *options]
        started, file = time.monotonic(), out / f"{one}.json"
        file.unlink(missing_ok=True)  # an earlier run's
        process = subprocess.Popen(command, start_new_session=True)
        try:
            ended = f"exit code {process.wait(limit)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ended = f"stopped after {limit:.0f} s"
        results = json.loads(file.read_text()) if file.exists() else {}
        file.unlink(missing_ok=True)
        whole.add(one, {"ended": ended, "seconds": round(time.monotonic() - started, 1), **results})


if __name__ == "__main__":
    main()
