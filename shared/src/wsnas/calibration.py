"""Batch-norm recalibration of one submodel (Bender et al., 2018; Guo et al., 2019).

A supernet's running statistics mix all paths, so they fit none. Before a submodel is scored, its
statistics are replaced by the average of the *biased* batch mean and variance over the calibration
batches, weighted by samples. The module's momentum has no effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsnas.cuda_graphs import replayed
from wsnas.data.images import Splits
from wsnas.errors import WsnasError, one_value_a_channel
from wsnas.recipe import Recipe
from wsnas.space import SearchSpace


def require_calibration_images(space: SearchSpace[Any], recipe: Recipe, splits: Splits) -> None:
    """Raises WsnasError if the recipe calibrates on more images than there are to train on.

    Not if it asks for what a scale of the space does, which small data need not have.
    """
    images = recipe.calibration_images
    usual = {(one.calibration_batch, one.calibration_steps) for one in space.recipes.values()}
    if images > len(splits.train) and (recipe.calibration_batch, recipe.calibration_steps) not in usual:
        raise WsnasError(
            f"{images:,} calibration images (calibration_batch times calibration_steps) are more than the "
            f"{len(splits.train):,} to train on: make one of the two smaller"
        )


@torch.no_grad()
def calibrate(model: nn.Module, path: Any, batches: Iterable[Tensor]) -> None:
    """Sets the running statistics of the batch norms on ``path`` from ``batches``; leaves ``model`` in eval mode.

    ``model(x, path)`` is run once per batch, in train mode and without gradients; x is float32
    [B, C, H, W]. A single image left over after larger batches is left out, because it has no batch statistics. Those
    of batch norms that ``path`` does not use are reset. Batch norms that keep no running statistics are left alone.
    """
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    sums: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # means and variances, times samples
    calls: dict[nn.Module, int] = {}  # per batch
    samples = 0

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # with momentum 1 the running statistics are this batch's; torch stores the unbiased variance
        x = inputs[0]
        size, elements = len(x), x.numel() // x.shape[1]
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var = norm.running_mean * size, norm.running_var * (size * (elements - 1) / elements)
        if norm in sums:
            torch._foreach_add_(sums[norm], (mean, var))
        else:
            sums[norm] = (mean, var)
        calls[norm] = calls.get(norm, 0) + 1

    def run(batch: Tensor) -> None:
        calls.clear()
        model(batch, path)

    model.train()
    hooks = [norm.register_forward_hook(collect) for norm in norms]
    try:
        reset(norms)
        for norm in norms:
            norm.momentum = 1.0
        run_next = replayed(run)
        largest = 0
        for batch in batches:
            largest = max(largest, len(batch))
            if len(batch) < min(2, largest):  # what is left over after larger batches
                continue
            with one_value_a_channel("--calibration-batch"):
                run_next(batch)
            samples += len(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    reset(norms)
    for norm in norms:
        if norm in sums and norm.running_mean is not None and norm.running_var is not None:
            mean, var = sums[norm]
            norm.running_mean.copy_(mean / (samples * calls[norm]))
            norm.running_var.copy_(var / (samples * calls[norm]))
    model.eval()


def recalibrate(model: nn.Module, path: Any, splits: Splits, recipe: Recipe) -> None:
    """``calibrate`` on as many images as the recipe says, unless it says none.

    They are the first training images in order, not augmented: the same for every path.
    """
    if images := recipe.calibration_images:
        calibrate(model, path, (x for x, _ in splits.train.ordered(recipe.calibration_batch, images)))


def reset(norms: list[_BatchNorm]) -> None:
    """``reset_running_stats`` of all of them, in a few kernel launches instead of three per batch norm."""
    means, variances, counts = (
        [getattr(norm, name) for norm in norms if getattr(norm, name) is not None]
        for name in ("running_mean", "running_var", "num_batches_tracked")
    )
    for zeros in (means, variances, counts):
        if zeros:
            torch._foreach_zero_(zeros)
    if variances:
        torch._foreach_add_(variances, 1.0)
