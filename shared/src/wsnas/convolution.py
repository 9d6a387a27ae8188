"""Convolution and batch norm on a CPU: matrix products on small maps, and one fused operation in eval mode.

With few channels on small maps, torch's convolution uses only a fraction of a CPU's speed. Results differ from the
plain modules' only by the order of sums.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 8  # side in pixels; on larger maps torch's convolution is at least as fast as a matrix product


def conv_norm(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d, stride: int = 1) -> Tensor:
    """``norm(convolution(x, weight, None, stride))``; in eval mode the batch norm is folded into the convolution."""
    if norm.training or x.device.type != "cpu":
        return norm(convolution(x, weight, None, stride))  # type: ignore[no-any-return]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
    return convolution(x, weight * scale[:, None, None, None], bias, stride)


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
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
            taps = weight.permute(2, 3, 1, 0).reshape(9, inputs * outputs).index_select(0, _taps())
            matrix = taps.view(4, 4, inputs, outputs).transpose(1, 2).reshape(4 * inputs, 4 * outputs)
            y = x.permute(0, 2, 3, 1).reshape(len(x), 4 * inputs) @ matrix
            y = y.view(len(x), 2, 2, outputs).permute(0, 3, 1, 2)
            return y if bias is None else y + bias[:, None, None]
    return F.conv2d(x, weight, bias, stride, kernel // 2)


@cache
def _taps() -> Tensor:
    """[16] int64: for each input and output pixel of a 2x2 map, the tap of the 3x3 kernel (0 to 8) between them."""
    with torch.inference_mode(False):  # if first made while evaluating, training can still use it
        y, x = torch.arange(4) // 2, torch.arange(4) % 2
        return ((y[:, None] - y + 1) * 3 + x[:, None] - x + 1).flatten()
