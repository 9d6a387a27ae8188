"""Image data sets on the device: uint8 in memory, augmented in batches, no workers.

A whole data set is one uint8 tensor ``[N, H, W, C]``. An epoch's order, flips and crop
offsets are drawn at once on the CPU from (seed, epoch) and moved over in one copy. A
batch is a gather on the device, the CPU and a GPU see the same pixels, and a run can resume in
the middle of an epoch. Batches are ``float32 [B, C, H, W]`` in ``channels_last`` layout,
which is free because images are stored that way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsnas.cuda_graphs import replayed
from wsnas.errors import WsnasError
from wsnas.randomness import torch_rng
from wsnas.recipe import Augmentation, ColourAugmentation, Training

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Data(Protocol):
    """The interface of one split, as used by training, calibration and scoring."""

    device: torch.device

    def __len__(self) -> int: ...

    def steps(self, training: Training, seed: int, epoch: int) -> int:
        """Training steps of this epoch."""
        ...

    def epoch(
        self, training: Training, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of the epoch's steps from ``start``: the same for the same seed and epoch."""
        ...

    def ordered(self, batch: int, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``limit`` items in order, not augmented."""
        ...

    def score(self, model: nn.Module, path: Any, batch: int, limit: int | None = None) -> tuple[float, float]:
        """(accuracy in percent or perplexity, mean cross-entropy in nats) of ``model(x, path)`` in eval mode.

        float32 without autocast; on CUDA, torch's convolutions use TF32 by default.
        """
        ...


class Images:
    """One split on one device.

    ``pixels`` [N, H, W, C] uint8; ``labels`` [N] int64; ``mean``, ``std`` [C] float32 in pixel
    values 0..255, of the training split.
    """

    def __init__(self, pixels: Pixels, labels: Labels, mean: Tensor, std: Tensor, device: torch.device) -> None:
        self.pixels = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        self.labels = torch.from_numpy(np.ascontiguousarray(labels)).to(device)
        self.mean, self.std = mean.to(device), std.to(device)
        self.device = device
        self._padded: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def steps(self, training: Training, seed: int = 0, epoch: int = 0) -> int:
        """Training steps of this epoch."""
        change = augmentation_of(training)
        if isinstance(change, ColourAugmentation) and change.colour_jitter:
            raise WsnasError(
                "colour jitter works only on streamed image folders: set this training's colour_jitter and hue to 0"
            )
        return steps_of(len(self), training, epoch)

    def _normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, C] -> float32 [B, C, H, W], channels_last, zero mean, unit variance."""
        return ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)

    def ordered(self, batch: int, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``limit`` images in order, not augmented: evaluation and calibration."""
        end = len(self) if limit is None else min(limit, len(self))
        for start in range(0, end, batch):
            stop = min(start + batch, end)
            yield self._normalise(self.pixels[start:stop]), self.labels[start:stop]

    def epoch(
        self, training: Training, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented training batches of one epoch from step ``start``.

        Of each global batch, rank ``r`` of ``world`` gets the images at positions r, r + world, ...
        Yields float32 [B, C, H, W] and int64 [B]; B is ``training.batch / world``, less in a last batch that is kept.
        """
        change = augmentation_of(training)
        n, height, width = self.pixels.shape[:3]
        before = carried(n, training, epoch)
        drawn = self._drawn(change, seed, epoch)
        if before:
            drawn = torch.cat([self._drawn(change, seed, epoch - 1)[:, n - before :], drawn], 1)
        plan = drawn.to(self.device, non_blocking=True)
        rows, columns = torch.arange(height, device=self.device), torch.arange(width, device=self.device)
        source = self._with_border(change.crop)
        for step in range(start, self.steps(training, seed, epoch)):
            picked = plan[:, step * training.batch : (step + 1) * training.batch][:, rank::world]
            index, flip, top, left, centre_y, centre_x = picked
            if change.crop or change.flip:
                y = top[:, None] + rows
                x = left[:, None] + torch.where(flip[:, None].bool(), width - 1 - columns, columns)
                batch = self._normalise(source[index[:, None, None], y[:, :, None], x[:, None, :]])
            else:
                batch = self._normalise(source[index])
            if change.cutout:  # DeVries & Taylor (2017): the square may cross the border
                low, high = change.cutout // 2, change.cutout - change.cutout // 2
                dy, dx = rows - centre_y[:, None], columns - centre_x[:, None]
                hole = ((dy >= -low) & (dy < high))[:, :, None] & ((dx >= -low) & (dx < high))[:, None, :]
                batch.masked_fill_(hole[:, None], 0.0)  # in place, to keep channels_last
            yield batch, self.labels[index]

    def _drawn(self, change: Augmentation, seed: int, epoch: int) -> Tensor:
        """An epoch's random numbers, int64 [6, N]: image, flip, crop's top and left, hole's centre y and x."""
        n, height, width = self.pixels.shape[:3]
        rng = torch_rng(seed, "images", epoch)
        order = torch.randperm(n, generator=rng)
        flips = torch.rand(n, generator=rng) < 0.5 if change.flip else torch.zeros(n, dtype=torch.bool)
        shifts = torch.randint(0, 2 * change.crop + 1, (2, n), generator=rng)
        centres = torch.stack(
            [torch.randint(0, height, (n,), generator=rng), torch.randint(0, width, (n,), generator=rng)]
        )
        return torch.stack([order, flips.long(), *shifts, *centres])

    def score(self, model: nn.Module, path: Any, batch: int, limit: int | None = None) -> tuple[float, float]:
        """(accuracy in percent, mean cross-entropy in nats) of the first ``limit`` images: ``score`` below."""
        return score(self, model, path, batch, limit)

    def _with_border(self, border: int) -> Tensor:
        """The pixels with ``border`` black pixels on each side, cached."""
        if border == 0:
            return self.pixels
        if self._padded is None or self._padded[0] != border:
            padded = torch.nn.functional.pad(self.pixels, (0, 0, border, border, border, border))
            self._padded = (border, padded)
        return self._padded[1]


def steps_of(n: int, training: Training, epoch: int) -> int:
    """Training steps of one epoch over ``n`` images, see ``Augmentation.last_batch``."""
    batch = training.batch
    match augmentation_of(training).last_batch:
        case "keep":
            return max(1, math.ceil((n - 1) / batch))  # a single image would have no batch statistics: it is left out
        case "carry":
            return (n + carried(n, training, epoch)) // batch
    return max(1, n // batch)


def carried(n: int, training: Training, epoch: int) -> int:
    """How many images at the end of the epoch before begin the first batch of ``epoch``.

    Raises WsnasError if an epoch could be shorter than a batch.
    """
    if augmentation_of(training).last_batch != "carry":
        return 0
    if n < training.batch:
        raise WsnasError(
            f"a batch of {training.batch} needs as many training images where the last batch is carried over; there "
            f"are {n}"
        )
    return epoch * n % training.batch


def augmentation_of(training: Training) -> Augmentation:
    """The training's augmentation. Raises WsnasError if it reads text."""
    if not isinstance(training.inputs, Augmentation):
        raise WsnasError("this training reads sequences of text, but the data are images: set inputs to Augmentation")
    return training.inputs


@torch.inference_mode()
def score(data: Data, model: nn.Module, path: Any, batch: int, limit: int | None = None) -> tuple[float, float]:
    """(accuracy in percent, mean cross-entropy in nats) of the first ``limit`` images of ``data``; eval mode.

    float32 without autocast. On CUDA, torch's convolutions use TF32 (10 bits of mantissa) by default, here as in
    calibration; set ``torch.backends.cudnn.allow_tf32 = False`` for float32 throughout.
    """
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    loss = torch.zeros((), dtype=torch.float64, device=data.device)
    count = 0

    def add(x: Tensor, y: Tensor) -> None:
        logits = model(x, path)
        correct.add_((logits.argmax(1) == y).sum())
        loss.add_(F.cross_entropy(logits, y, reduction="sum"))

    add_next = replayed(add)
    for x, y in data.ordered(batch, limit):
        add_next(x, y)
        count += len(y)
    if count == 0:
        raise WsnasError("there are no images to score on")
    return 100.0 * correct.item() / count, loss.item() / count


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set, and its number of classes (or words)."""

    train: Data
    valid: Data
    test: Data
    classes: int


@dataclass(frozen=True)
class Source:
    """A data set in memory: pixels [N, H, W, C] uint8, labels [N] int64; ``valid`` if it has a fixed one."""

    train: tuple[Pixels, Labels]
    test: tuple[Pixels, Labels]
    valid: tuple[Pixels, Labels] | None = None
    halve_test: bool = False  # validation and test are the two halves of the published test set
