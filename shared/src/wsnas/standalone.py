"""One stand-alone training of an architecture.

It uses the same loop, images and checkpoints as a supernet (training.py); only the network and its
``Recipe.standalone`` training differ.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsnas.calibration import recalibrate, require_calibration_images
from wsnas.data.images import Data, Splits
from wsnas.devices import choose_device, cpu_threads, to_device
from wsnas.errors import Guesses, WsnasError
from wsnas.pieces import buffers_kept
from wsnas.progress import Report
from wsnas.randomness import python_seed, torch_seeded
from wsnas.recipe import Recipe, Training
from wsnas.runs import Run
from wsnas.space import SearchSpace, load_space
from wsnas.training import can_be_captured, guesses, require_suitable, train


@dataclass(frozen=True)
class Trained:
    """One stand-alone training. Accuracies in percent, or perplexities; ``half_valid`` after half the epochs.

    NaN: not measured, as without validation images.
    """

    valid: float
    test: float
    half_valid: float
    seconds: float
    curve: tuple[float, ...] = ()  # mean training loss of each epoch, nats
    status: str = "ok"  # or "diverged", "timeout", "crash"
    guesses: bool = False  # whether it ended no better than guessing


def require_trainable(space: SearchSpace[Any], network: nn.Module, splits: Splits, recipe: Recipe) -> None:
    """Raises WsnasError if the recipe cannot train and score this network of the space stand-alone on these data."""
    training = recipe.standalone
    if training.patience and not len(splits.valid):
        raise WsnasError("patience needs validation images: set it to 0, or train_size below all training images")
    if needs_calibration(network, training):
        if not recipe.calibration_images:
            raise WsnasError("averaged or best weights need recalibrated batch norm: give --calibration-steps above 0")
        require_calibration_images(space, recipe, splits)
    require_suitable(splits.train, training, network)


def needs_calibration(network: nn.Module, training: Training) -> bool:
    """Whether the result's weights can be others than the last step's, to which batch norm's statistics belong."""
    normed = any(isinstance(module, _BatchNorm) for module in network.modules())
    return normed and bool(training.average_last or training.patience)


def train_architecture(
    space: SearchSpace[Any] | str,
    arch: Any,
    recipe: Recipe | str | None = None,
    *,
    seed: int = 0,
    out: Path | str | None = None,
    device: str | None = None,
    threads: int | None = None,
    splits: Splits | None = None,
    checkpoint_seconds: float = 30.0,
    report: Report | None = None,
) -> Trained:
    """Trains one architecture from scratch and scores it on all validation images (if there are any) and test images.

    ``space``, ``recipe``: as in ``train_supernet``. ``arch``: the architecture or its encoding. ``out``: a run
    directory, for checkpoints and resuming. ``threads``: torch's on the CPU, by default one; a run continues only with
    as many. ``splits``: the recipe's data, if already on the device. ``checkpoint_seconds``: the most work a kill can
    lose. Averaged and best weights are validated and scored with recalibrated batch norms, because the running
    statistics are the last step's. Raises Diverged if the loss is not finite.
    """
    space = load_space(space)
    arch, recipe = space.arch(arch), space.recipe(recipe)
    chosen = choose_device(device)
    splits = space.load_data(recipe, chosen) if splits is None else splits
    with torch_seeded(seed, "init"):
        network = to_device(space.network(arch, recipe), chosen)
    training = recipe.standalone
    calibrated = needs_calibration(network, training)
    require_trainable(space, network, splits, recipe)  # what cannot be trained leaves no directory
    started = time.perf_counter()
    half = math.nan
    curve: list[float] = []

    def score(part: Data) -> float:
        return part.score(network, arch, recipe.evaluation_batch)[0] if len(part) else math.nan

    def validate() -> float:
        """The cross-entropy of the weights that patience is about to compare; training goes on with its statistics."""
        with buffers_kept(network):
            if calibrated:
                recalibrate(network, arch, splits, recipe)
            return splits.valid.score(network, arch, recipe.evaluation_batch)[1]

    def on_epoch(line: Mapping[str, float]) -> None:
        nonlocal half
        curve.append(line["loss"])
        if line["epoch"] == training.epochs // 2 and len(splits.valid):
            half = score(splits.valid)
            if run is not None:
                run.record("half", "valid", {"accuracy": half})

    run = None
    with cpu_threads(threads, chosen):
        if out is not None:
            identity = {
                "kind": "stand-alone",
                "space": space.name,
                "arch": space.encode(arch),
                "recipe": recipe.standalone_identity(),
                "seed": python_seed(seed),
                **({} if threads in (None, 1) else {"threads": threads}),
                **space.data_identity(recipe),
            }
            run = Run.open(Path(out), identity, recipe.to_json(), recipe.standalone_identity_of)
            half = run.records("half").get("valid", {}).get("accuracy", math.nan)

        with nullcontext() if run is None else run.session(chosen):
            train(
                network,
                splits.train,
                training,
                lambda step: [(arch, 1.0)],
                seed=seed,
                run=run,
                amp=recipe.amp,
                checkpoint_seconds=checkpoint_seconds,
                cuda_graph=can_be_captured(network, chosen),
                validate=validate,
                on_epoch=on_epoch,
                report=report,
            )
            if calibrated:
                recalibrate(network, arch, splits, recipe)
            valid, test = score(splits.valid), score(splits.test)
            seconds = time.perf_counter() - started
            if run is not None:
                curve = [line["loss"] for line in run.metrics()]  # earlier sessions included
                earlier, done = run.seconds(), run.records("training").get(space.encode(arch))
                seconds += math.nan if earlier is None else earlier
                if done is not None:  # nothing was left to train
                    seconds = done["seconds"]
            said = guesses(curve, training, splits.classes)
            trained = Trained(valid, test, half, seconds, tuple(curve), guesses=bool(said))
            if run is not None:
                run.record("training", space.encode(arch), asdict(trained))
    if said:
        warnings.warn(said, Guesses, stacklevel=2)
    return trained
