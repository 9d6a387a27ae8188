"""Average pooling and its gradient against a sum over shifted images in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wsnas import pooling
from wsnas.pooling import average_pool


def by_hand(x: Tensor, stride: int) -> Tensor:
    """The nine shifted images' sum, divided by the nine shifted images of ones'."""
    height, width = x.shape[2:]

    def sums(image: Tensor) -> Tensor:
        padded = F.pad(image, (1, 1, 1, 1))
        return sum(padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3))  # type: ignore[return-value, misc]

    return (sums(x) / sums(torch.ones_like(x)))[:, :, ::stride, ::stride]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "without"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
def test_values_and_gradients(
    device: str, kernel: bool, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:
        monkeypatch.setattr(pooling, "_kernel_works", lambda device: False)
    elif device == "cuda":
        assert pooling._kernel_works(torch.device("cuda", 0))
    torch.manual_seed(0)
    for shape in ((3, 16, 32, 32), (2, 5, 7, 4), (2, 3, 2, 2), (4, 8, 1, 1), (1, 64, 8, 1)):
        for stride in (1, 2):
            for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float64, 1e-12)):
                x = torch.randn(shape).to(dtype)
                exact = x.double().clone().requires_grad_()
                expected = by_hand(exact, stride)
                gradient = torch.randn(expected.shape).to(dtype)
                expected.backward(gradient.double())
                there = x.to(device).contiguous(memory_format=layout).requires_grad_()
                found = average_pool(there, stride)
                assert found.dtype == dtype
                found.backward(gradient.to(device).contiguous(memory_format=layout))
                torch.testing.assert_close(found.cpu().double(), expected, rtol=tolerance, atol=tolerance)
                assert exact.grad is not None
                assert there.grad is not None
                torch.testing.assert_close(there.grad.cpu().double(), exact.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_what_float32_cannot_hold(device: str) -> None:
    """SynFlow's products pass 1e38, in float64."""
    x = torch.full((1, 2, 4, 4), 1e60, dtype=torch.float64, device=device, requires_grad=True)
    found = average_pool(x)
    torch.testing.assert_close(found, x.detach())
    found.backward(torch.full_like(found, 1e50))
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(32e50)
