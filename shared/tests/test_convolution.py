"""Convolutions as matrix products, and batch norm folded into them, against torch's own modules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsnas.convolution import conv_norm, convolution

# (side, kernel, stride): a product over pixels, over images, and torch's own convolution
CASES = [(1, 3, 1), (2, 3, 1), (2, 1, 1), (2, 3, 2), (3, 3, 1), (7, 3, 2), (8, 1, 1), (8, 1, 2), (9, 1, 1), (2, 5, 1)]


def tensors(side: int, kernel: int, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(side)
    x = torch.randn(6, 3, side, side, generator=generator, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(5, 3, kernel, kernel, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), weight.contiguous(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("side", "kernel", "stride"), CASES)
def test_value_and_gradients_are_the_convolutions(
    side: int, kernel: int, stride: int, layout: torch.memory_format
) -> None:
    x, weight = tensors(side, kernel, layout)
    bias = torch.arange(5, dtype=torch.float64).requires_grad_()
    found, expected = convolution(x, weight, bias, stride), F.conv2d(x, weight, bias, stride, kernel // 2)
    torch.testing.assert_close(found, expected)
    weighted = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for mine, theirs in zip(
        *(torch.autograd.grad((y * weighted).sum(), (x, weight, bias)) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("side", "kernel", "stride"), CASES)
def test_a_folded_batch_norm_is_the_batch_norm(
    side: int, kernel: int, stride: int, layout: torch.memory_format
) -> None:
    x, weight = tensors(side, kernel, layout)
    norm = nn.BatchNorm2d(5, eps=0.1).double()
    with torch.no_grad():
        for i, values in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
            values.copy_(torch.arange(5) * 0.3 + i + 0.1)
    for training in (False, True, False):  # in train mode it learns statistics, which the last round then uses
        norm.train(training)
        found = conv_norm(x, weight, norm, stride)
        if training:
            before = norm.running_mean.clone()
            torch.testing.assert_close(found, norm(F.conv2d(x, weight, None, stride, kernel // 2)))
            assert not torch.equal(norm.running_mean, before)
        else:
            torch.testing.assert_close(found, norm(F.conv2d(x, weight, None, stride, kernel // 2)))


def test_a_cache_made_in_inference_can_be_trained_with() -> None:
    x, weight = tensors(2, 3, torch.channels_last)
    with torch.inference_mode():
        convolution(x, weight)
    convolution(x, weight).sum().backward()
    assert weight.grad is not None
