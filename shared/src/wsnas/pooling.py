"""3x3 average pooling with correct gradients on GPUs too.

``F.avg_pool2d`` on CUDA silently returns wrong gradients for padded ``channels_last`` maps (pytorch/pytorch issue
188344; seen with torch 2.11 on an H100). On CUDA this module uses its own kernel, which is also several times as
fast, or without Triton the contiguous layout, whose gradient is correct.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

try:
    import triton
    import triton.language as tl
except ImportError:  # CPU builds of torch lack it
    triton = None

BLOCK = 1024


def average_pool(x: Tensor, stride: int = 1) -> Tensor:
    """The mean over the pixels inside the image: [N, C, H, W] -> [N, C, ceil(H / stride), ceil(W / stride)]."""
    if not x.is_cuda:
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    if stride == 1 and x.dtype != torch.float64 and _kernel_works(x.device):  # the kernel adds in float32
        return _Pool.apply(x)  # type: ignore[no-any-return]
    pooled = F.avg_pool2d(x.contiguous(), 3, stride, 1, count_include_pad=False)
    return pooled.contiguous(memory_format=torch.channels_last)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _run(x, transposed=False)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _run(gradient, transposed=True)


def _run(x: Tensor, transposed: bool) -> Tensor:
    """The pooling, or its transpose, which divides each pixel by its window's size before the sum instead of after."""
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), BLOCK),)
    with torch.cuda.device(x.device):  # where Triton launches
        _sum_of_nine[grid](x, out, x.shape[2], x.shape[3], x.shape[1], x.numel(), TRANSPOSED=transposed, BLOCK=BLOCK)
    return out


@cache
def _kernel_works(device: torch.device) -> bool:
    """Whether Triton is installed, can compile (it needs a C compiler) and agrees with the contiguous layout."""
    if triton is None:
        return False
    try:
        x = torch.arange(2.0 * 3 * 4 * 5, device=device).reshape(2, 3, 4, 5)
        return torch.allclose(_run(x, False), F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), rtol=1e-5)
    except Exception:
        return False


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def _pixels(row, column, height, width):  # type: ignore[no-untyped-def]
        """How many pixels of the 3x3 window around a pixel lie inside the image."""
        rows = 3 - (row == 0).to(tl.int32) - (row == height - 1).to(tl.int32)
        columns = 3 - (column == 0).to(tl.int32) - (column == width - 1).to(tl.int32)
        return (rows * columns).to(tl.float32)

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def _sum_of_nine(  # type: ignore[no-untyped-def]
        x, out, height, width, channels, size, TRANSPOSED: tl.constexpr, BLOCK: tl.constexpr
    ):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # flat index, channels last
        row, column = at // (channels * width) % height, at // channels % width
        total = tl.zeros([BLOCK], tl.float32)
        for down in tl.static_range(-1, 2):
            for right in tl.static_range(-1, 2):
                r, c = row + down, column + right
                inside = (r >= 0) & (r < height) & (c >= 0) & (c < width) & (at < size)
                value = tl.load(x + at + (down * width + right) * channels, mask=inside, other=0.0).to(tl.float32)
                total += value / _pixels(r, c, height, width) if TRANSPOSED else value
        if not TRANSPOSED:
            total = total / _pixels(row, column, height, width)
        tl.store(out + at, total, mask=at < size)
