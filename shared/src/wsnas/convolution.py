"""Convolution and batch norm on a CPU: matrix products on small maps, and one fused operation in eval mode.

With few channels on small maps, torch's convolution uses only a fraction of a CPU's speed. Results differ from the
plain modules' only by the order of sums.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 8  # side in pixels; on larger maps torch's convolution is at least as fast as a matrix product


def conv_norm(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d, stride: int = 1) -> Tensor:
    """Convolution without bias and batch norm; in eval mode the batch norm is folded into the convolution.

    x [N, I, H, W]; weight [O, I, K, K], or, for a depthwise convolution of more than one channel, [I, 1, K, K].
    """
    convolution = depthwise if weight.shape[1] < x.shape[1] else dense
    if norm.training or x.device.type != "cpu":
        return norm(convolution(x, weight, None, stride))  # type: ignore[no-any-return]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
    return convolution(x, weight * scale[:, None, None, None], bias, stride)


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """``F.conv2d(x, weight, bias, stride, kernel // 2)`` for an odd kernel: x [N, I, H, W], weight [O, I, K, K].

    On small maps on a CPU, a kernel of 1 is a matrix product over all pixels, and a kernel of 3 on a 2x2 map, where
    every pixel sees every other, is one over all images. Forward and backward take 0.3 to 0.7 of the time.
    """
    kernel = weight.shape[-1]
    if x.device.type == "cpu" and stride == 1 and x.shape[2] <= SMALL:
        if kernel == 1:
            return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        if kernel == 3 and x.shape[2:] == (2, 2):
            outputs, inputs = weight.shape[:2]
            taps = weight.permute(2, 3, 1, 0).reshape(9, inputs * outputs).index_select(0, _taps(2, 3))
            matrix = taps.view(4, 4, inputs, outputs).transpose(1, 2).reshape(4 * inputs, 4 * outputs)
            y = x.permute(0, 2, 3, 1).reshape(len(x), 4 * inputs) @ matrix
            y = y.view(len(x), 2, 2, outputs).permute(0, 3, 1, 2)
            return y if bias is None else y + bias[:, None, None]
    return F.conv2d(x, weight, bias, stride, kernel // 2)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """``F.conv2d(x, weight, bias, stride, kernel // 2, groups=C)``: x [N, C, H, W], weight [C, 1, K, K], K odd.

    Torch's gradient of a kernel of 5 or 7, or of any on a 2x2 map, takes far longer than its forward pass and its
    gradient of x together. On small maps on a CPU it is a matrix product here, over images, of every pixel of x with
    every pixel of the result (timed in ``benchmarks/small_training.py``); small batches gain nothing.
    """
    slow = (weight.shape[-1] > 3 or x.shape[2] == 2) and len(x) >= 64
    wanted = weight.requires_grad and torch.is_grad_enabled()
    if slow and wanted and x.shape[2] == x.shape[3] <= SMALL and x.device.type == "cpu":
        y: Tensor = _Depthwise.apply(x, weight, stride)
        return y if bias is None else y + bias[:, None, None]
    return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=len(weight))


class _Depthwise(torch.autograd.Function):
    """Gradients of gradients are those of the operations in ``backward``."""

    generate_vmap_rule = True  # torch.func may be used on networks, too

    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: int) -> Tensor:
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        *saved, ctx.stride = inputs
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (gradient,) = gradients
        x, weight = (saved.to(gradient.dtype) for saved in ctx.saved_tensors)  # another under autocast
        channels, kernel = len(weight), weight.shape[-1]
        by_x = None
        if ctx.needs_input_grad[0]:
            how = [2 * [ctx.stride], 2 * [kernel // 2], [1, 1], False, [0, 0], channels]
            by_x, *_ = torch.ops.aten.convolution_backward(gradient, x, weight, None, *how, [True, False, False])
        inputs, outputs = (y.transpose(0, 1).flatten(2).contiguous() for y in (x, gradient))  # [C, N, pixels]
        pairs = inputs.transpose(1, 2) @ outputs  # of an input's and an output's pixel, summed over images
        by_tap = pairs.flatten(1) @ _sum_by_tap(x.shape[-1], kernel, ctx.stride).to(pairs.dtype)
        return by_x, by_tap.view_as(weight), None


@cache
def _taps(side: int, kernel: int, stride: int = 1) -> Tensor:
    """[pixels of x * pixels of the result] int64: the kernel's tap between the two; kernel^2 where there is none."""
    with torch.inference_mode(False):  # if first made while evaluating, training can still use it
        ahead = torch.arange(side)[:, None] - stride * torch.arange(-(-side // stride)) + kernel // 2  # on one axis
        rows, columns = ahead[:, None, :, None], ahead[None, :, None, :]
        inside = (rows >= 0) & (rows < kernel) & (columns >= 0) & (columns < kernel)
        return torch.where(inside, rows * kernel + columns, kernel**2).flatten()


@cache
def _sum_by_tap(side: int, kernel: int, stride: int) -> Tensor:
    """[pixels of x * pixels of the result, kernel^2] float32, 0 or 1: a product with it sums the pairs of each tap."""
    with torch.inference_mode(False):
        return F.one_hot(_taps(side, kernel, stride), kernel**2 + 1)[:, :-1].float()
