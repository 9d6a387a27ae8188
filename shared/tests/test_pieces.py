"""The step from pieces against the ordinary one by autograd: on the CPU by plain calls, on a GPU by captured graphs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_space import ALL, LAYERS, MICRO, TOY, Net, images

from wsnas.data.images import Images
from wsnas.paths import fair, multi_path, uniform
from wsnas.pieces import INPUT, LOGITS, Piece, Pieces
from wsnas.randomness import numpy_rng
from wsnas.training import train

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def net(device: str) -> Net:
    torch.manual_seed(0)
    return Net(4).to(device, memory_format=torch.channels_last).train()


def batch(device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(6, 3, 8, 8, generator=generator), torch.randint(0, 4, (6,), generator=generator)
    return x.to(device, memory_format=torch.channels_last), y.to(device)


def loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, label_smoothing=0.1)


def by_autograd(model: nn.Module, x: Tensor, y: Tensor, step: Any, amp: bool) -> Tensor:
    model.zero_grad(set_to_none=True)
    total = x.new_zeros(())
    for path, weight in step:
        with torch.autocast(x.device.type, torch.bfloat16, amp):
            one = loss(model(x, path), y) * weight
        one.backward()  # type: ignore[no-untyped-call]
        total += one.detach()
    return total


def assert_same_step(one: nn.Module, other: nn.Module, **tolerance: float) -> None:
    """Gradients, or that there is none, and running statistics."""
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None and q.grad is not None:
            assert q.grad.stride() == q.stride(), name
            torch.testing.assert_close(q.grad, p.grad, msg=lambda m, name=name: f"{name}: {m}", **tolerance)
    for (name, b), c in zip(one.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(c, b, msg=lambda m, name=name: f"{name}: {m}", **tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sampler", [uniform, fair, multi_path(3)], ids=["uniform", "fair", "multi"])
def test_a_step_from_pieces_is_the_step_by_autograd(device: str, sampler: Any) -> None:
    """Loss, gradients and statistics of a dozen steps; the same images never twice, so nothing stale goes unseen."""
    one = net(device)
    other = copy.deepcopy(one)
    pieces = Pieces(other, loss, amp=False)
    steps = [[*sampler(TOY, numpy_rng(0, "paths", i)), (ALL[i], 0.25)] for i in range(13)]
    if sampler is uniform:
        steps = [step[:1] for step in steps]
    for i, (step, upcoming) in enumerate(pairwise(steps)):
        x, y = batch(device, i)
        expected = by_autograd(one, x, y, step, amp=False)
        prepared = upcoming if i % 3 else []  # what was not prepared is built when needed
        torch.testing.assert_close(pieces(x, y, step, prepared), expected, rtol=1e-5, atol=1e-6)
        assert_same_step(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_in_bfloat16_nodes_are_what_autocast_makes_them(device: str) -> None:
    one = net(device)
    other = copy.deepcopy(one)
    pieces = Pieces(other, loss, amp=True)
    for i in range(4):
        step, (x, y) = [(ALL[5 * i], 1.0)], batch(device, i)
        expected = by_autograd(one, x, y, step, amp=True)
        torch.testing.assert_close(pieces(x, y, step), expected, rtol=2e-2, atol=1e-2)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            if p.grad is not None and q.grad is not None:
                assert (p.grad - q.grad).norm() <= 0.05 * p.grad.norm() + 1e-3


@pytest.mark.parametrize("device", DEVICES)
def test_recording_leaves_no_trace_and_each_use_counts_once(device: str) -> None:
    model = net(device)
    pieces = Pieces(model, loss, amp=False)
    weights = [p.detach().clone() for p in model.parameters()]
    for i in range(3):
        pieces(*batch(device, i), [(ALL[0], 1.0)])
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    used = [layer["conv3"][2].num_batches_tracked.item() for layer in model.layers]  # type: ignore[union-attr, index]
    others = [layer["pool"][2].num_batches_tracked.item() for layer in model.layers]  # type: ignore[union-attr, index]
    assert (used, others) == ([3] * LAYERS, [0] * LAYERS)


@pytest.mark.parametrize("device", DEVICES)
def test_the_loop_trains_the_same_weights(device: str) -> None:
    """Three epochs of the supernet with clipping and weight decay, by pieces and by autograd, to rounding."""
    found = []
    for by_pieces in (False, True):
        model = net(device)
        data = Images(*images(48, 0), torch.full((3,), 70.0), torch.full((3,), 45.0), torch.device(device))
        train(
            model,
            data,
            MICRO.supernet,
            lambda step: uniform(TOY, numpy_rng(0, "paths", step)),
            seed=0,
            amp=False,
            pieces=by_pieces,
        )
        found.append(model.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


class Forked(nn.Module):
    """A parameter used by two pieces of one path, and a piece that does not look at its source."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(12, 12)
        self.bias = nn.Parameter(torch.randn(12))

    def constant(self, x: Tensor) -> Tensor:
        return self.bias.expand_as(x)

    def forward(self, x: Tensor, path: object) -> Tensor:
        h = torch.tanh(self.shared(x))
        return torch.tanh(self.shared(h)) + self.constant(h)

    def pieces(self, path: object) -> Iterator[Piece]:
        yield Piece(0, None, INPUT, "h", lambda x: torch.tanh(self.shared(x)))
        yield Piece(1, None, "h", LOGITS, lambda x: torch.tanh(self.shared(x)))
        yield Piece(2, None, "h", LOGITS, self.constant)


@pytest.mark.parametrize("device", DEVICES)
def test_a_shared_parameter_and_a_constant(device: str) -> None:
    one = Forked().to(device)
    other = copy.deepcopy(one)
    pieces = Pieces(other, loss, amp=False)
    for i in range(3):
        generator = torch.Generator().manual_seed(i)
        x, y = torch.randn(5, 12, generator=generator), torch.randint(0, 12, (5,), generator=generator)
        x, y = x.to(device), y.to(device)
        expected = by_autograd(one, x, y, [(None, 1.0)], amp=False)
        torch.testing.assert_close(pieces(x, y, [(None, 1.0)]), expected)
        assert_same_step(one, other, rtol=1e-4, atol=1e-6)
