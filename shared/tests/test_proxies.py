"""Zero-cost scores against what a hand computes on tiny networks."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_space import ALL, MICRO, TOY, Arch, splits

from wsnas import WsnasError, proxy_scores
from wsnas.agreement import correlate
from wsnas.errors import Busy
from wsnas.proxies import (
    ZERO_COST,
    convolutions,
    depth,
    fisher,
    grad_norm,
    grasp,
    jacob_cov,
    naswot,
    parse,
    snip,
    synflow,
)
from wsnas.recipe import Sequences
from wsnas.runs import Run
from wsnas.table import Column, Table

N, PIXELS, HIDDEN, CLASSES = 5, 6, 4, 3


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(N, PIXELS, generator=rng), torch.randint(0, CLASSES, (N,), generator=rng)


def linear(inputs: int, outputs: int, seed: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)))
    return layer


def by_hand(network: Any) -> tuple[np.ndarray, ...]:
    """The weights in float64."""
    return tuple(layer.weight.detach().double().numpy() for layer in network if isinstance(layer, nn.Linear))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def errors(logits: np.ndarray, y: Tensor) -> np.ndarray:
    """[N, classes]: the gradient of the summed cross-entropy by the logits."""
    return softmax(logits) - np.eye(CLASSES)[y.numpy()]


@pytest.mark.parametrize("rectifier", [nn.Identity(), nn.ReLU(), nn.ReLU6()])
def test_synflow_of_a_linear_chain(rectifier: nn.Module) -> None:
    """R = 1' |W3| |W2| |W1| 1, and each of the three layers' weights times gradients sum to R (Tanaka et al.)."""
    chain = nn.Sequential(linear(PIXELS, 4, 1), rectifier, linear(4, 5, 2), rectifier, linear(5, CLASSES, 3))
    first, second, third = by_hand(chain)
    total = (abs(third) @ abs(second) @ abs(first)).sum()
    assert total > 6  # more than ReLU6 would let through
    assert synflow(chain, *batch()) == pytest.approx(3 * total)


def test_synflow_knows_nothing_of_the_images() -> None:
    arch = Arch((0, 1, 2))
    scores = []
    for seed in (1, 2):
        torch.manual_seed(0)
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        scores.append(synflow(TOY.network(arch, MICRO).train(), x, torch.zeros(2).long()))
    assert scores[0] == scores[1]


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x, inplace=True)


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU(inplace=True), InPlace()])
def test_naswot_by_hamming_distances(rectifier: nn.Module) -> None:
    network = nn.Sequential(linear(PIXELS, 20, 1), rectifier, linear(20, 9, 2), rectifier, linear(9, CLASSES, 3))
    x, y = batch()
    first, second, _ = by_hand(network)
    hidden = np.maximum(0, x.double().numpy() @ first.T)
    codes = np.concatenate([hidden > 0, np.maximum(0, hidden @ second.T) > 0], axis=1)
    distances = [[sum(a != b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    kernel = codes.shape[1] - np.array(distances, dtype=float)
    assert np.linalg.matrix_rank(kernel) == N
    assert naswot(network, x, y) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)


def test_naswot_without_a_rectifier_tells_nothing_apart() -> None:
    assert naswot(nn.Sequential(linear(PIXELS, CLASSES, 1)), *batch()) == -math.inf


def test_gradient_scores_of_a_linear_classifier() -> None:
    """Gradient E'X / N and Hessian mean_n (diag p_n - p_n p_n') x x x_n x_n' are known."""
    network = nn.Sequential(linear(PIXELS, CLASSES, 1))
    x, y = batch()
    images, (weight,) = x.double().numpy(), by_hand(network)
    logits = images @ weight.T
    gradient = errors(logits, y).T @ images / N
    assert grad_norm(network, x, y) == pytest.approx(np.sqrt((gradient**2).sum()), rel=1e-5)
    assert snip(network, x, y) == pytest.approx(np.abs(weight * gradient).sum(), rel=1e-5)
    hessian = np.zeros((CLASSES * PIXELS,) * 2)
    for p, image in zip(softmax(logits), images, strict=True):
        hessian += np.kron(np.diag(p) - np.outer(p, p), np.outer(image, image)) / N
    assert grasp(network, x, y) == pytest.approx(-weight.ravel() @ hessian @ gradient.ravel(), rel=1e-4)


def test_gradient_norm_adds_the_layers_norms() -> None:
    network = nn.Sequential(linear(PIXELS, HIDDEN, 1), nn.ReLU(), linear(HIDDEN, CLASSES, 2))
    x, y = batch()
    images, (first, second) = x.double().numpy(), by_hand(network)
    hidden = np.maximum(0, images @ first.T)
    wrong = errors(hidden @ second.T, y) / N
    gradients = (((wrong @ second) * (hidden > 0)).T @ images, wrong.T @ hidden)
    assert grad_norm(network, x, y) == pytest.approx(sum(np.linalg.norm(g) for g in gradients), rel=1e-5)


class Convolutional(nn.Module):
    """Two channels of 1x1 convolution, rectified, averaged over the pixels, classified."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.head = linear(2, CLASSES, 2)

    def forward(self, x: Tensor) -> Tensor:
        constant = F.relu(torch.zeros_like(x))  # an operation on nothing, as some spaces have
        return self.head(F.relu(self.conv(x) + constant).mean((2, 3)))


def test_fisher_of_one_convolution() -> None:
    network = Convolutional()
    with torch.no_grad():
        network.conv.weight.copy_(torch.tensor([1.5, -0.5]).view(2, 1, 1, 1))
    x, y = torch.randn(N, 1, 2, 3, generator=torch.Generator().manual_seed(1)), batch()[1]
    maps = np.maximum(0, x.double().numpy() * np.array([1.5, -0.5])[None, :, None, None])  # [N, 2, H, W]
    head = network.head.weight.detach().double().numpy()
    by_map = errors(maps.mean((2, 3)) @ head.T, y) @ head / 6  # the same for every pixel
    expected = ((maps.sum((2, 3)) * by_map) ** 2).sum() / (2 * N)
    assert fisher(network, x, y) == pytest.approx(expected, rel=1e-4)


def jacobian_score(jacobian: np.ndarray) -> float:
    v = np.linalg.eigvalsh(np.corrcoef(jacobian)).clip(0) + 1e-5
    return float(-(np.log(v) + 1 / v).sum())


def test_jacobian_covariance_by_hand() -> None:
    network = nn.Sequential(linear(PIXELS, 30, 1), nn.ReLU(), linear(30, CLASSES, 2))
    x, y = batch()
    first, second = by_hand(network)
    on = x.double().numpy() @ first.T > 0
    jacobian = np.stack([(second.sum(0) * one) @ first for one in on])[:3]  # of three images, whose gradients differ
    assert np.linalg.matrix_rank(jacobian - jacobian.mean(1, keepdims=True)) == 3
    assert jacob_cov(network, x[:3], y[:3]) == pytest.approx(jacobian_score(jacobian), rel=1e-3)


def test_jacobian_covariance_of_a_linear_network() -> None:
    """All images have the same gradient: one eigenvalue is N, the others are 0."""
    k, network = 1e-5, nn.Sequential(linear(PIXELS, CLASSES, 1))
    expected = -(math.log(N + k) + 1 / (N + k)) - (N - 1) * (math.log(k) + 1 / k)
    assert jacob_cov(network, *batch()) == pytest.approx(expected, rel=1e-6)


def test_convolutions_and_depth() -> None:
    x, y = torch.zeros(1, 3, 8, 8), torch.zeros(1).long()
    for arch, number in ((Arch((0, 1, 2)), 3), (Arch((2, 2, 2)), 1), (Arch((0, 0, 1)), 4)):
        for count in (convolutions, depth):  # the stem's too; the layers follow each other
            assert count(TOY.network(arch, MICRO), x, y) == number

    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.unused = (nn.Conv2d(3, 3, 1) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) + self.c(x)

    assert convolutions(Parallel(), x, y) == 3
    assert depth(Parallel(), x, y) == 2
    pixel = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))  # one image, one pixel
    assert convolutions(pixel, x, y) == depth(pixel, x, y) == 2


# of a space ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ZERO_COST)
def test_scores_depend_on_the_seed_and_on_nothing_else(proxy: Any) -> None:
    data = splits()
    found = proxy_scores(TOY, ALL[:4], MICRO, proxy, images=8, splits=data)
    torch.manual_seed(1)
    alone = proxy_scores(TOY, [TOY.encode(ALL[2])], MICRO, proxy, images=8)
    assert alone == {TOY.encode(ALL[2]): found[TOY.encode(ALL[2])]}
    assert proxy_scores(TOY, ALL[:4], MICRO, proxy, images=8, seed=1, splits=data) != found
    assert list(found) == [TOY.encode(arch) for arch in ALL[:4]]


def test_the_images_count() -> None:
    few, many = (proxy_scores(TOY, ALL[:3], MICRO, images=n) for n in (4, 8))
    assert few != many
    with pytest.raises(WsnasError, match="97"):
        proxy_scores(TOY, ALL[:3], MICRO, images=97)  # there are 96


def test_a_run_keeps_scores_and_seconds(tmp_path: Path) -> None:
    calls = []

    def mine(network: nn.Module, x: Tensor, y: Tensor) -> float:
        calls.append(len(x))
        return -math.inf if len(calls) == 2 else float(len(calls))

    first = proxy_scores(TOY, ALL[:2], MICRO, mine, images=8, out=tmp_path / "run")
    again = proxy_scores(TOY, ALL[:3], MICRO, mine, images=8, out=tmp_path / "run")
    names = [TOY.encode(arch) for arch in ALL[:3]]
    assert first == {names[0]: 1.0, names[1]: -math.inf}
    assert again == {**first, names[2]: 3.0}
    assert calls == [8, 8, 8]
    rows = Run.read(tmp_path / "run").records("proxy")
    assert all(row["seconds"] > 0 for row in rows.values())
    assert rows[names[1]]["status"] == "not finite"
    with pytest.raises(WsnasError, match="another run"):
        proxy_scores(TOY, ALL[:2], MICRO, mine, images=8, seed=1, out=tmp_path / "run")
    with Run.read(tmp_path / "run").writing(), pytest.raises(Busy, match="being written by another process"):
        proxy_scores(TOY, ALL[:4], MICRO, mine, images=8, out=tmp_path / "run")


def test_a_score_of_ones_own_may_change_its_images_and_must_be_a_number(tmp_path: Path) -> None:
    def brightness(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return x.add_(1).mean()

    first = proxy_scores(TOY, ALL[:3], MICRO, brightness, images=8, out=tmp_path / "run")  # type: ignore[arg-type]
    assert len(set(first.values())) == 1
    assert all(isinstance(score, float) for score in first.values())
    for wrong in (None, "high", torch.zeros(2)):
        with pytest.raises(WsnasError, match="a zero-cost score must be a number, not "):
            proxy_scores(TOY, ALL[:3], MICRO, lambda network, x, y, w=wrong: w, images=8)  # type: ignore[misc]


def test_scores_that_are_kept_need_a_name_of_their_own(tmp_path: Path) -> None:
    def naswot(network: nn.Module, x: Tensor, y: Tensor) -> float:
        return 1.0

    for own, said in ((lambda network, x, y: 1.0, "needs a name"), (naswot, "named 'naswot' is built in")):
        assert set(proxy_scores(TOY, ALL[:2], MICRO, own, images=8).values()) == {1.0}
        with pytest.raises(WsnasError, match=said):
            proxy_scores(TOY, ALL[:2], MICRO, own, images=8, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_higher_is_better_also_where_ground_truth_is_a_perplexity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TOY), "metric", "perplexity")
    scores = proxy_scores(TOY, ALL[:5], MICRO, "snip", images=8)
    order = sorted(scores, key=scores.__getitem__)
    best_last = Table("toy", tuple(order), {Column("toy", "test", 2, 0): np.arange(5.0, 0, -1)})
    assert correlate(scores, best_last).value == 1


def test_refusals() -> None:
    with pytest.raises(WsnasError, match="unknown zero-cost score 'magic'; use one of naswot, synflow"):
        parse("magic")
    with pytest.raises(WsnasError, match="no architectures"):
        proxy_scores(TOY, [], MICRO)
    text = dataclasses.replace(MICRO, standalone=dataclasses.replace(MICRO.standalone, inputs=Sequences(5)))
    with pytest.raises(WsnasError, match="naswot needs images and toy reads words: use grad_norm or snip"):
        proxy_scores(TOY, ALL[:2], text)


def test_names_are_taken(toy_installed: Path) -> None:
    """Of a space, a scale, a score in any case, and one architecture."""
    first = TOY.encode(ALL[0])
    assert proxy_scores("toy", first, "micro", "Depth") == proxy_scores(TOY, [ALL[0]], MICRO, depth)
    assert list(proxy_scores("toy", first, "Micro", "depth")) == [first]
