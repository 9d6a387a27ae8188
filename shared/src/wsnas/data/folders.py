"""Image folders too large for memory: decoded ahead by threads, cropped and augmented on the device.

The unit of work is a chunk of one batch's images. A thread reads and decodes it and cuts out the crops, which are
copied to the device ahead of use, pinned and on a separate stream. There each crop is resized, and the batch is
flipped, jittered and normalised as a whole. On the CPU nothing is copied, and the thread does everything. Threads
suffice because decoding and resizing release Python's lock; pillow decodes because torchvision's decoders are
deprecated since 0.29. Images are turned upright if their EXIF orientation says so, which torchvision's ImageFolder
does not do.

All random numbers are drawn from (seed, epoch, step) before an image is opened. Batches therefore do not depend on
the number of threads, an epoch can resume at any step, and the ranks' shares together equal one process's batch.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsnas.data.images import Labels, Splits, augmentation_of, carried, score, steps_of
from wsnas.data.sources import image_files, opened, rgb, training_images, two_parts
from wsnas.devices import cores, from_torchrun
from wsnas.errors import WsnasError, WsnasWarning
from wsnas.randomness import numpy_rng, torch_rng
from wsnas.recipe import ColourAugmentation, Recipe, Training

R = TypeVar("R")
Box = tuple[int, int, int, int]  # top, left, height, width

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of pixel values 0..255
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random crop: share of the image's area, width to height
TRIES = 10  # to draw a crop that fits
DRAWS = 2 * TRIES + 2 + 1 + 3 + 3  # uniform draws per image: area, ratio, place, flip, jitter strength and order
HUE_DRAWS = 2  # extra draws for hue jitter: strength and order
ENLARGED = 256 / 224  # evaluation: ratio of the shorter side to the centre crop's
CHUNK = 64  # images


def random_box(height: int, width: int, draws: Sequence[float]) -> Box:
    """The random crop of Inception and torchvision's ``RandomResizedCrop``, from the first of ``draws``."""
    for area, ratio in zip(draws[:TRIES], draws[TRIES : 2 * TRIES], strict=True):
        pixels = height * width * (SCALE[0] + area * (SCALE[1] - SCALE[0]))
        shape = math.exp(math.log(RATIO[0]) + ratio * math.log(RATIO[1] / RATIO[0]))
        w, h = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < w <= width and 0 < h <= height:
            down, right = draws[2 * TRIES : 2 * TRIES + 2]
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    w = min(width, round(height * RATIO[1]))  # nothing fitted: the centre, at the nearest allowed ratio
    h = min(height, round(width / RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def centre_box(height: int, width: int) -> Box:
    """The part of an image that "resize the shorter side to 256, crop the central 224" keeps."""
    side = max(1, round(min(height, width) / ENLARGED))
    return (height - side) // 2, (width - side) // 2, side, side


@dataclass(frozen=True)
class Chunk:
    """Some images of a batch. ``draws`` [count, DRAWS (+ HUE_DRAWS)]: augmentation; None: the plain centre crop."""

    files: Sequence[str]
    labels: Tensor  # [count] int64
    draws: Tensor | None = None


@dataclass(frozen=True)
class Crops:
    """A decoded chunk: ``pixels`` uint8, the concatenated crops [height, width, 3]."""

    pixels: Tensor
    shapes: Sequence[tuple[int, int]]
    labels: Tensor
    draws: Tensor | None


class StreamedImages:
    """One split of an image folder, ``size`` x ``size`` pixels on ``device``; a ``wsnas.data.images.Data``.

    ``labels`` [N] int64. A file that cannot be decoded raises WsnasError with its path; with ``skip_corrupt`` it is
    skipped with a warning, and in a training batch replaced by the image before it. ``workers``: threads; by default
    one per core, at most 16. ``keep``: bytes of device memory to cache images decoded by ``ordered``, which are the
    same for every submodel.
    """

    def __init__(
        self,
        files: Sequence[str],
        labels: Labels,
        size: int,
        device: torch.device,
        *,
        workers: int | None = None,
        skip_corrupt: bool = False,
        keep: int = 2 << 30,
    ) -> None:
        self.files, self.labels = list(files), torch.from_numpy(labels)
        self.size, self.device, self.skip_corrupt = size, device, skip_corrupt
        share = cores() // max(1, from_torchrun("LOCAL_WORLD_SIZE", 1))
        self.workers = max(1, min(16, share)) if workers is None else workers
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
        self._kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._room = keep

    def __len__(self) -> int:
        return len(self.files)

    def steps(self, training: Training, seed: int = 0, epoch: int = 0) -> int:
        """Training steps of this epoch."""
        change = augmentation_of(training)
        if change.crop or change.cutout:
            raise WsnasError("streamed folders use random resized crops: set this training's crop and cutout to 0")
        return steps_of(len(self), training, epoch)

    def epoch(
        self, training: Training, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented training batches of one epoch from step ``start``; rank ``r`` gets the images r, r + world, ...

        Crops are always random and resized; ``training`` sets flips and colour jitter. Yields float32
        [B, 3, size, size], channels_last, and int64 [B]; B is ``training.batch / world``, less in a last batch that is
        kept.
        """
        change = augmentation_of(training)
        jitter, hue = (change.colour_jitter, change.hue) if isinstance(change, ColourAugmentation) else (0.0, 0.0)
        order = torch.randperm(len(self), generator=torch_rng(seed, "images", epoch))
        before = carried(len(self), training, epoch)
        if before:
            last = torch.randperm(len(self), generator=torch_rng(seed, "images", epoch - 1))[-before:]
            order = torch.cat([last, order])
        steps = range(start, self.steps(training, seed, epoch))
        batches = [order[step * training.batch : (step + 1) * training.batch] for step in steps]
        parts = [math.ceil(len(index[rank::world]) / CHUNK) for index in batches]

        def chunks() -> Iterator[Chunk]:
            for step, index, count in zip(steps, batches, parts, strict=True):
                width = DRAWS + (HUE_DRAWS if hue else 0)
                draws = torch.rand(len(index), width, generator=torch_rng(seed, "images", epoch, step))
                own = index[rank::world].tensor_split(count), draws[rank::world].tensor_split(count)
                for part, drawn in zip(*own, strict=True):
                    yield Chunk([self.files[i] for i in part.tolist()], self.labels[part], drawn)

        found = self._stream(chunks(), lambda crops: self._augmented(crops, change.flip, jitter, hue))
        for count in parts:
            yield _joined(list(islice(found, count)))

    def ordered(self, batch: int, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``limit`` images in order, with the shorter side resized to 8/7 ``size`` and the centre cropped."""
        end = len(self) if limit is None else min(limit, len(self))
        places = [(first, min(first + CHUNK, end)) for first in range(0, end, CHUNK)]
        known = {place: self._kept[place] for place in places if place in self._kept}
        absent = (Chunk(self.files[a:b], self.labels[a:b]) for a, b in places if (a, b) not in known)
        fresh = self._stream(absent, self._resized)
        waiting: list[tuple[Tensor, Tensor]] = []
        for place in places:
            found = known[place] if place in known else next(fresh)
            if place not in self._kept and found[0].numel() <= self._room:
                self._room -= found[0].numel()
                self._kept[place] = found
            waiting.append(found)
            while (have := sum(len(y) for _, y in waiting)) and (have >= batch or place == places[-1]):
                pixels, labels = _joined(waiting)
                waiting = [(pixels[batch:], labels[batch:])]
                yield self._normalised(pixels[:batch].float()), labels[:batch]

    def score(self, model: nn.Module, path: Any, batch: int, limit: int | None = None) -> tuple[float, float]:
        """(accuracy in percent, mean cross-entropy in nats) of the first ``limit`` images: ``images.score``."""
        return score(self, model, path, batch, limit)

    # decoding: in a thread ---------------------------------------------------------------------------------------

    def _decoded(self, chunk: Chunk) -> Crops:
        crops: list[np.ndarray | None] = []
        draws = [None] * len(chunk.files) if chunk.draws is None else chunk.draws.tolist()
        for file, drawn in zip(chunk.files, draws, strict=True):
            try:
                crops.append(self._crop(file, drawn))
            except Exception as error:  # a malformed image can raise nearly anything
                message = f"cannot decode the image {file} ({type(error).__name__}: {error})"
                if not self.skip_corrupt:
                    raise WsnasError(f"{message}; replace it, or skip such images with --skip-corrupt") from error
                warnings.warn(f"{message}: skipped", WsnasWarning, stacklevel=2)
                crops.append(None)
        whole = [i for i, crop in enumerate(crops) if crop is not None]
        if not whole and chunk.draws is not None:
            raise WsnasError(f"none of {len(chunk.files)} images can be decoded, for example {chunk.files[0]}")
        if chunk.draws is not None:  # use the image before, or the first one decoded
            whole = [max((j for j in whole if j <= i), default=whole[0]) for i in range(len(crops))]
        kept = [crop for crop in (crops[i] for i in whole) if crop is not None]
        pixels = torch.empty(sum(crop.size for crop in kept), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        if kept:
            np.concatenate([crop.reshape(-1) for crop in kept], out=pixels.numpy())
        return Crops(pixels, [crop.shape[:2] for crop in kept], chunk.labels[whole], chunk.draws)

    def _crop(self, file: str, draws: Sequence[float] | None) -> np.ndarray:
        """The crop as uint8 [height, width, 3], not yet resized; JPEGs are halved while they stay large enough."""
        with opened(file) as image:
            width, height = image.size
            top, left, h, w = centre_box(height, width) if draws is None else random_box(height, width, draws)
            larger = min(h, w) / self.size
            if larger >= 2:
                image.draft("RGB", (math.ceil(width / larger), math.ceil(height / larger)))
                down, across = image.size[1] / height, image.size[0] / width
                bottom, right = round((top + h) * down), round((left + w) * across)
                top, left = round(top * down), round(left * across)
                h, w = bottom - top, right - left
            return rgb(image, (left, top, left + w, top + h))

    # on the device -----------------------------------------------------------------------------------------------

    def _resized(self, crops: Crops) -> tuple[Tensor, Tensor]:
        """uint8 [B, 3, size, size], channels_last, and labels: each crop resized bilinearly, with antialiasing."""
        found = torch.empty(len(crops.shapes), self.size, self.size, 3, dtype=torch.uint8, device=self.device)
        pixels = found.permute(0, 3, 1, 2)
        place = 0
        for i, (height, width) in enumerate(crops.shapes):
            crop = crops.pixels[place : place + height * width * 3].view(1, height, width, 3).permute(0, 3, 1, 2)
            place += height * width * 3
            if self.device.type == "cuda":  # CUDA has no such kernel for bytes
                crop = crop.float()
            resized = F.interpolate(crop, (self.size, self.size), mode="bilinear", antialias=True)
            pixels[i] = resized[0] if resized.dtype == torch.uint8 else resized[0].round_()
        return pixels, crops.labels

    def _augmented(self, crops: Crops, flip: bool, jitter: float, hue: float) -> tuple[Tensor, Tensor]:
        pixels, labels = self._resized(crops)
        assert crops.draws is not None
        draws, of_hue = crops.draws[:, :DRAWS], crops.draws[:, DRAWS:]
        flips, factors, keys = draws[:, -7], draws[:, -6:-3], draws[:, -3:]
        if flip:
            pixels = torch.where(flips.view(-1, 1, 1, 1) < 0.5, pixels.flip(3), pixels)
        x = pixels.float()
        if jitter:
            strength = (1 + jitter * (2 * factors - 1)).clamp_min(0)
            if hue:
                strength = torch.cat([strength, hue * (2 * of_hue[:, :1] - 1)], 1)
                keys = torch.cat([keys, of_hue[:, 1:]], 1)
            x = jittered(x.contiguous(), strength, keys.argsort(1))
        return self._normalised(x), labels

    def _normalised(self, x: Tensor) -> Tensor:
        return ((x - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    # the pipeline ------------------------------------------------------------------------------------------------

    def _stream(self, chunks: Iterable[Chunk], finish: Callable[[Crops], R]) -> Iterator[R]:
        """``finish`` of every chunk's crops on the device, in order."""
        if self.device.type == "cuda":
            yield from map(finish, self._copied(self._ahead(chunks, self._decoded)))
        else:
            yield from self._ahead(chunks, lambda chunk: finish(self._decoded(chunk)))

    def _ahead(self, chunks: Iterable[Chunk], work: Callable[[Chunk], R]) -> Iterator[R]:
        """``work(chunk)`` of each, in order; two per thread are started ahead."""
        running: deque[Future[R]] = deque()
        try:
            for chunk in chunks:
                running.append(self._pool.submit(work, chunk))
                if len(running) > 2 * self.workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()

    def _copied(self, chunks: Iterable[Crops]) -> Iterator[Crops]:
        """The chunks on the GPU, each copied while the one before is in use."""
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call, unused-ignore]
        coming: deque[tuple[Crops, torch.cuda.Event]] = deque()

        def sent(value: Tensor) -> Tensor:
            return value.to(self.device, non_blocking=True)

        def arrived() -> Crops:
            crops, event = coming.popleft()
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            for value in (crops.pixels, crops.labels, crops.draws):
                if value is not None:
                    value.record_stream(current)  # keep its memory while this stream uses it
            return crops

        for crops in chunks:
            with torch.cuda.stream(stream):
                draws = None if crops.draws is None else sent(crops.draws)
                moved = Crops(sent(crops.pixels), crops.shapes, sent(crops.labels), draws)
                coming.append((moved, stream.record_event()))
            if len(coming) > 1:
                yield arrived()
        while coming:
            yield arrived()


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def jittered(x: Tensor, strength: Tensor, order: Tensor) -> Tensor:
    """Changes brightness, contrast, saturation and optionally hue of each image, like torchvision's ``ColorJitter``.

    x: float32 [B, 3, H, W] in 0..255. ``strength`` [B, 3 or 4]: the weight of the image in the mix with black, its
    mean grey and its own greys, and the rotation of the hue, in whole turns. ``order`` [B, 3 or 4]: the order of
    these changes, per image.
    """
    for change in order.unbind(1):
        own = strength.gather(1, change[:, None]).view(-1, 1, 1, 1)
        # a tensor of these weights would be copied to the GPU, which waits for that
        grey = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
        change = change.view(-1, 1, 1, 1)
        other = torch.where(change == 1, grey.mean((2, 3), keepdim=True), grey * (change == 2))
        mixed = torch.lerp(other.expand_as(x), x, own).clamp_(0, 255)
        x = mixed if strength.shape[1] == 3 else torch.where(change == 3, turned(x, own), mixed)
    return x


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """Rotates the hue of x, [B, 3, H, W] in any range from 0, by ``turns`` [B, 1, 1, 1]; keeps value and chroma."""
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:]
    high = x.amax(1, keepdim=True)
    chroma = high - x.amin(1, keepdim=True)
    sixth = 1 / chroma.masked_fill(chroma == 0, 1)
    hue = torch.where(high == green, 2 + (blue - red) * sixth, 4 + (red - green) * sixth)
    hue = torch.where(high == red, (green - blue) * sixth, hue) + 6 * turns  # in sixths of a turn
    place = torch.cat([hue + 5, hue + 3, hue + 1], 1) % 6  # of red, green and blue
    return high - chroma * torch.minimum(place, 4 - place).clamp_(0, 1)


def stream_splits(
    folder: Path, size: int, recipe: Recipe, device: torch.device, *, skip_corrupt: bool = False
) -> Splits:
    """A folder's ``train/CLASS/*`` in two parts, and ``val/`` or ``test/CLASS/*``, streamed at ``size`` pixels.

    The training files are split and shuffled as in ``wsnas.data.sources.load_splits``: in halves, or by the recipe's
    ``train_size`` or ``split_file``. Raises WsnasError if the folder has another layout.
    """
    classes, (files, labels), (test_files, test_labels) = image_files(folder)
    keep = training_images(recipe, len(files), len(files) // 2)
    order = numpy_rng(0, "folder").permutation(len(files))
    parts = [order[part] for part in two_parts(len(files), keep, recipe.split_file, ("train", "valid"))]
    shuffled = numpy_rng(0, "folder", "test").permutation(len(test_files))
    wanted = ((files, labels, parts[0]), (files, labels, parts[1]), (test_files, test_labels, shuffled))
    train, valid, test = (
        StreamedImages([names[i] for i in part], own[part], size, device, skip_corrupt=skip_corrupt)
        for names, own, part in wanted
    )
    return Splits(train, valid, test, len(classes))
