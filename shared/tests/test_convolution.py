"""Convolutions as matrix products, and batch norm folded into them, against torch's own modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsnas.convolution import conv_norm, dense, depthwise

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
    found, expected = dense(x, weight, bias, stride), F.conv2d(x, weight, bias, stride, kernel // 2)
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


# (side, kernel, stride): with a gradient of its own by the weights, and torch's own
DEPTHWISE = [
    (1, 5, 1),
    (2, 3, 1),
    (2, 7, 1),
    (4, 5, 1),
    (4, 7, 2),
    (5, 5, 2),
    (8, 7, 1),
    (8, 5, 2),
    (8, 3, 1),
    (9, 5, 1),
]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("side", "kernel", "stride"), DEPTHWISE)
def test_depthwise_value_and_gradients_are_the_convolutions(
    side: int, kernel: int, stride: int, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(side)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, weight, bias = drawn(64, 3, side, side).contiguous(memory_format=layout), drawn(3, 1, kernel, kernel), drawn(3)
    found = depthwise(x, weight, bias, stride)
    expected = F.conv2d(x, weight, bias, stride, kernel // 2, groups=3)
    torch.testing.assert_close(found, expected)
    assert found.stride() == expected.stride()
    weighted = drawn(*expected.shape)
    every = [torch.autograd.grad((y * weighted).sum(), (x, weight, bias), create_graph=True) for y in (found, expected)]
    for mine, theirs in zip(*every, strict=True):
        torch.testing.assert_close(mine, theirs)
        if theirs.dim() == 4:
            assert mine.stride() == theirs.stride()
    twice = [torch.autograd.grad(sum((g**2).sum() for g in of), (x, weight, weighted)) for of in every]
    for mine, theirs in zip(*twice, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_depthwise_batch_norm_is_folded_too() -> None:
    x = torch.randn(64, 5, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.randn(5, 1, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    norm = nn.BatchNorm2d(5, eps=0.1).double()
    for training in (True, False):
        norm.train(training)
        torch.testing.assert_close(
            conv_norm(x, weight, norm, 2), norm(F.conv2d(x, weight, None, 2, 2, groups=5)), rtol=1e-6, atol=1e-6
        )


def test_depthwise_under_autocast() -> None:
    """As torch's: results in bfloat16, gradients in the weights' type."""
    x = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        both = depthwise(x, weight), F.conv2d(x, weight, None, 1, 2, groups=3)
    assert both[0].dtype == both[1].dtype == torch.bfloat16
    mine, theirs = (torch.autograd.grad(y.float().pow(2).sum(), (x, weight)) for y in both)
    for one, other in zip(mine, theirs, strict=True):
        assert one.dtype == other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.5)


def test_depthwise_through_torch_func() -> None:
    """Gradients for each of several sets of weights at once, as a user's zero-cost score may take them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 4, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 3, 1, 5, 5, generator=generator, dtype=torch.float64)

    def gradients(convolution: Callable[[Tensor], Tensor]) -> Tensor:
        found: Tensor = torch.func.vmap(torch.func.grad(lambda weight: convolution(weight).pow(2).sum()))(weights)
        return found

    theirs = gradients(lambda weight: F.conv2d(x, weight, None, 1, 2, groups=3))
    torch.testing.assert_close(gradients(lambda weight: depthwise(x, weight)), theirs)


def test_a_cache_made_in_inference_can_be_trained_with() -> None:
    x, weight = tensors(2, 3, torch.channels_last)
    with torch.inference_mode():
        dense(x, weight)
    dense(x, weight).sum().backward()
    assert weight.grad is not None
    weight = torch.ones(3, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    x = torch.ones(64, 3, 2, 2, dtype=torch.float64)
    with torch.inference_mode():
        depthwise(x, weight)
    depthwise(x, weight).sum().backward()
    assert weight.grad is not None
