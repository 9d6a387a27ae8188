"""How a submodel is scored: which statistics its batch norms get, and whether they are tuned first.

A supernet's running statistics mix all paths. A submodel can keep them, normalise each validation batch by its own,
or have them recalibrated (``calibration``), and before that the batch norms' weights and biases, a few numbers per
channel, can be trained for its path alone (Frankle et al., "Training BatchNorm and only BatchNorm", ICLR 2021).
``wsnas.evaluate`` recalibrates as the recipe says; study ``scoring`` compares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsnas.calibration import calibrate
from wsnas.data.images import Splits
from wsnas.devices import cpu_threads
from wsnas.errors import WsnasError, one_value_a_channel
from wsnas.evaluation import CUDA, fill, recorded, require_own_rows
from wsnas.recipe import Recipe
from wsnas.supernet import Supernet

TUNING = 0.1  # of the recipe's peak learning rate


@dataclass(frozen=True)
class Protocol:
    """One way to score a submodel. Training images are the first ones in order, not augmented, the same for all."""

    statistics: Literal["inherited", "batch", "recalibrated"]
    images: int = 0  # training images that recalibrate
    steps: int = 0  # of SGD on the batch norms before, each on a calibration batch of training images

    @property
    def name(self) -> str:
        """E.g. ``inherited``, or ``tuned for 10 steps, 2,000 images``."""
        if self.statistics != "recalibrated":
            return self.statistics
        return f"{f'tuned for {self.steps} steps' if self.steps else 'recalibrated'}, {self.images:,} images"

    def passes(self, recipe: Recipe, images: int) -> int:
        """Forward passes of one image that a score on ``images`` images takes; a training step counts as three."""
        return 3 * self.steps * recipe.calibration_batch + self.images + images


def require_images(protocol: Protocol, recipe: Recipe, splits: Splits) -> None:
    """Raises WsnasError if the protocol tunes or recalibrates on more images than there are to train on."""
    images = max(protocol.images, protocol.steps * recipe.calibration_batch)
    if images > len(splits.train):
        raise WsnasError(
            f"{protocol.name}: this takes {images:,} training images, and there are {len(splits.train):,}: give fewer "
            "images, fewer steps, or a smaller calibration_batch"
        )


def score_submodel(
    model: nn.Module, path: Any, splits: Splits, recipe: Recipe, protocol: Protocol
) -> tuple[float, float]:
    """(validation accuracy in percent, cross-entropy in nats) of one path; leaves the model as it was, in eval mode."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    batch, own = recipe.calibration_batch, nullcontext()
    with untouched(norms):
        if protocol.steps:
            tune(model, norms, path, splits.train.ordered(batch, batch * protocol.steps), learning_rate(recipe))
        if protocol.images:
            calibrate(model, path, (x for x, _ in splits.train.ordered(batch, protocol.images)))
        with batch_statistics(model, norms) if protocol.statistics == "batch" else own:
            return splits.valid.score(model, path, recipe.evaluation_batch, recipe.valid_size)


def learning_rate(recipe: Recipe) -> float:
    """Of tuning the batch norms."""
    return TUNING * recipe.supernet.optimizer.lr


@contextmanager
def untouched(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Restores weights, biases and running statistics of the batch norms afterwards."""
    tensors = [tensor for norm in norms for tensor in (*norm.parameters(), *norm.buffers())]
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in zip(tensors, kept, strict=True):
                tensor.copy_(before)


@contextmanager
def batch_statistics(model: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Each forward pass normalises by the statistics of its own batch; everything else is in eval mode."""

    def train(*_: object) -> None:
        for norm in norms:
            norm.train()

    hook = model.register_forward_pre_hook(train)
    try:
        with one_value_a_channel("--evaluation-batch"):
            yield
    finally:
        hook.remove()
        model.eval()


def tune(
    model: nn.Module, norms: Sequence[_BatchNorm], path: Any, batches: Iterable[tuple[Tensor, Tensor]], lr: float
) -> None:
    """A step of SGD with momentum 0.9 for each batch, on the weights and biases of the path's batch norms alone."""
    tuned = [parameter for norm in norms for parameter in norm.parameters()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(tuned, lr, momentum=0.9)
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        for parameter in tuned:
            parameter.requires_grad_(True)
        with batch_statistics(model, norms):
            model.eval()  # no dropout
            for x, y in batches:
                optimizer.zero_grad()
                F.cross_entropy(model(x, path), y).backward()  # type: ignore[no-untyped-call, unused-ignore]
                optimizer.step()
    finally:
        optimizer.zero_grad()
        for parameter in tuned:
            parameter.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)


def protocol_scores(supernet: Supernet, archs: Iterable[Any], protocol: Protocol) -> dict[str, tuple[float, float]]:
    """(validation accuracy in percent, cross-entropy in nats) of each architecture, by its encoding, in order.

    (NaN, infinity) where the cross-entropy is not finite. Scores are kept in the supernet's run; what it has is not
    computed again. Raises WsnasError for a supernet without batch norms, and for a protocol that needs more training
    images than there are.
    """
    space, recipe, splits = supernet.space, supernet.recipe, supernet.splits
    if not any(isinstance(module, _BatchNorm) for module in supernet.model.modules()):
        raise WsnasError(f"{space.name} has no batch norms: its submodels can be scored in one way only")
    require_images(protocol, recipe, splits)
    device = splits.valid.device
    wanted = {space.encode(arch): arch for arch in map(space.arch, archs)}
    scored = recipe.validation_images(len(splits.valid))
    tuning = f" lr={learning_rate(recipe):g}" if protocol.steps else ""
    batch = f" batch={recipe.evaluation_batch if protocol.statistics == 'batch' else recipe.calibration_batch}"
    kind = f"scoring step={supernet.step:08d} images={scored:08d}{batch}{tuning} {protocol.name}"
    kind += CUDA * (device.type == "cuda")

    def compute(name: str, arch: Any) -> dict[str, Any]:
        return recorded(record, name, space.metric, *score_submodel(supernet.model, arch, splits, recipe, protocol))

    with cpu_threads(supernet.threads, device), supernet.run.writing(), supernet.run.recording(kind) as record:
        require_own_rows(supernet)
        rows = supernet.run.records(kind)
        fill(rows, wanted, compute, protocol.name, None)
    found = {name: rows[name] for name in wanted}
    overflowed = math.nan, math.inf
    return {
        name: (row[space.metric], row["loss"]) if row["status"] == "ok" else overflowed for name, row in found.items()
    }
