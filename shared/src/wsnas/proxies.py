"""Zero-cost scores: what one batch says of an architecture before it is trained.

A score is a function ``(network, x, y) -> float``, higher is better, of a network at initialisation in train mode, a
batch and its labels: images float32 [N, C, H, W] and int64 [N], or words int64 [T, N] and [T * N]. Write your own the
same way and pass it as ``proxy_scores(..., proxy=mine)``. Weights are those of convolutions and linear layers, without
biases and batch norms. Abdelfattah et al., "Zero-cost proxies for lightweight NAS" (ICLR 2021) made scores of whole
networks out of criteria for pruning: SNIP, GraSP, SynFlow, Fisher.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wsnas.data.images import Splits
from wsnas.devices import choose_device, cpu_threads, to_device
from wsnas.errors import WsnasError
from wsnas.evaluation import Scores, fill
from wsnas.progress import Report
from wsnas.randomness import python_seed, torch_seeded
from wsnas.recipe import Augmentation, Recipe, Sequences, change_recipe
from wsnas.runs import Run
from wsnas.space import SearchSpace, load_space
from wsnas.training import require_suitable
from wsnas.words import did_you_mean, own_name

Score = Callable[[nn.Module, Tensor, Tensor], float]

RECTIFIERS = {F.relu, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class Rectifiers(TorchFunctionMode):
    """Calls ``seen`` with the output of every rectifier, modules and functions alike. ``unbounded``: without limit."""

    def __init__(self, seen: Callable[[Tensor], None], unbounded: bool = False) -> None:
        super().__init__()
        self.seen, self.unbounded = seen, unbounded

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in RECTIFIERS:
            return func(*args, **(kwargs or {}))
        out = F.relu(args[0]) if self.unbounded else func(*args, **(kwargs or {}))
        self.seen(out)
        return out


def weights(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.dim() > 1]


def gradients(network: nn.Module, loss: Tensor, create_graph: bool = False) -> list[tuple[Tensor, Tensor]]:
    """(weight, its gradient) of the weights that the loss depends on."""
    every = weights(network)
    found = torch.autograd.grad(loss, every, create_graph=create_graph, allow_unused=True)
    return [(w.detach(), g) for w, g in zip(every, found, strict=True) if g is not None]


def naswot(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """How different the images' patterns of active rectifiers are: log |det K| (Mellor et al., ICML 2021).

    K[i, j] is the number of rectified values, of all layers, that are positive for both images i and j or for neither.
    Very low if two images have the same pattern; -inf without a rectifier.
    """
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)

    def compare(out: Tensor) -> None:
        on = (out.detach() > 0).flatten(1).to(torch.float32)
        kernel.add_(on @ on.t()).add_((1 - on) @ (1 - on).t())

    with torch.no_grad(), Rectifiers(compare):
        network(x)
    return float(torch.linalg.slogdet(kernel).logabsdet)


def synflow(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The sum of weight times gradient of R, where R is the sum of outputs for an image of ones and the network with
    absolute weights (Tanaka et al., NeurIPS 2020).

    In float64, in eval mode, where a batch norm at initialisation does nothing, and with ReLU6 as ReLU.
    """
    network = network.double().eval()
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.abs_()
    with Rectifiers(lambda out: None, unbounded=True):
        total = network(torch.ones_like(x[:1], dtype=torch.float64)).sum()
    return float(sum((w * g).sum() for w, g in gradients(network, total)))


def grad_norm(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The Euclidean norms of the loss's gradients, summed over the weight tensors (Abdelfattah et al., 2021)."""
    return float(sum(g.norm() for _, g in gradients(network, F.cross_entropy(network(x), y))))


def snip(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The sum of |weight times the loss's gradient| (Lee et al., ICLR 2019)."""
    return float(sum((w * g).abs().sum() for w, g in gradients(network, F.cross_entropy(network(x), y))))


def grasp(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Minus the sum of weight times H g, with the loss's gradient g and Hessian H (Wang et al., ICLR 2020).

    Always on the CPU: the GPU's average pooling (``pooling``) has no second derivative.
    """
    network, x, y = network.cpu(), x.cpu(), y.cpu()
    found = gradients(network, F.cross_entropy(network(x), y), create_graph=True)
    product = sum((g * g.detach()).sum() for _, g in found)  # its gradient is H g
    if not (isinstance(product, Tensor) and product.requires_grad):
        return 0.0
    return -float(sum((w * hg).sum() for w, hg in gradients(network, product)))


def fisher(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Half the sum, over images and rectified channels, of (activation times its gradient, summed over pixels) squared.

    Theis et al. (2018); Turner et al., "BlockSwap" (ICLR 2020). The gradient is that of the summed loss; the result is
    divided by the number of images.
    """
    maps: list[Tensor] = []
    with Rectifiers(maps.append):
        loss = F.cross_entropy(network(x), y, reduction="sum")
    maps = [one for one in maps if one.requires_grad]  # a rectified constant has no gradient
    if not maps:
        return 0.0
    found = torch.autograd.grad(loss, maps, allow_unused=True)
    products = [a.detach() * g for a, g in zip(maps, found, strict=True) if g is not None]
    return float(sum(one.reshape(*one.shape[:2], -1).sum(2).square().sum() for one in products)) / (2 * len(x))


def jacob_cov(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """How little the images' gradients, of the summed outputs by pixel, are correlated (Mellor et al., arXiv
    2006.04647v1; Abdelfattah et al., 2021).

    -sum(log(v + k) + 1 / (v + k)), k = 1e-5, over the eigenvalues v of the matrix of these correlations.
    -inf if an image's gradient is constant.
    """
    x = x.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(network(x).sum(), x)
    correlations = torch.corrcoef(jacobian.flatten(1).double())
    if not correlations.isfinite().all():
        return -math.inf
    v = torch.linalg.eigvalsh(correlations).clamp_min(0) + 1e-5
    return -float((v.log() + 1 / v).sum())


def _convolution_graph(network: nn.Module, x: Tensor) -> list[tuple[Any, list[Any]]]:
    """Autograd's nodes with those they depend on, the input's side first; without computing anything."""
    two = torch.cat([x[:1], x[:1]])  # one image alone has no batch statistics where a feature map is a single pixel
    output = network.to("meta")(two.to("meta").requires_grad_())
    order: list[tuple[Any, list[Any]]] = []
    seen, stack = set(), [(output.grad_fn, False)]
    while stack:
        node, done = stack.pop()
        before = [one for one, _ in node.next_functions if one is not None]
        if done:
            order.append((node, before))
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((one, False) for one in before)]
    return order


def convolutions(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The number of convolutions that the output depends on."""
    return float(sum("Convolution" in node.name() for node, _ in _convolution_graph(network, x)))


def depth(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The most convolutions on a path from the input to the output."""
    length: dict[Any, int] = {}
    for node, before in _convolution_graph(network, x):
        length[node] = max((length[one] for one in before), default=0) + ("Convolution" in node.name())
    return float(max(length.values()))


ZERO_COST: tuple[Score, ...] = (naswot, synflow, grad_norm, snip, grasp, fisher, jacob_cov)
SHAPE: tuple[Score, ...] = (convolutions, depth)  # known without weights or images
FOR_TEXT = (grad_norm, snip)  # need no images, no rectifiers, no convolutions


def parse(name: str) -> Score:
    """The score of this name, e.g. ``naswot``, in any case."""
    known = {name_of(one): one for one in (*ZERO_COST, *SHAPE)}
    if name.lower() not in known:
        hint = did_you_mean(name, known) or f"; use one of {', '.join(known)}"
        raise WsnasError(f"unknown zero-cost score '{name}'{hint}")
    return known[name.lower()]


def name_of(proxy: Score) -> str:
    return str(getattr(proxy, "__name__", type(proxy).__name__))


def require_fit(space: SearchSpace[Any], recipe: Recipe, proxy: Score) -> None:
    """Raises WsnasError if the score makes no sense for what the space's networks read."""
    if isinstance(recipe.standalone.inputs, Sequences) and proxy in (*ZERO_COST, *SHAPE) and proxy not in FOR_TEXT:
        raise WsnasError(
            f"{name_of(proxy)} needs images and {space.name} reads words: use {' or '.join(map(name_of, FOR_TEXT))}"
        )


def require_images(splits: Splits, recipe: Recipe, images: int) -> None:
    """Raises WsnasError if the data have no training batch of so many images (text: sequences)."""
    training = change_recipe(recipe.standalone, batch=images)
    if isinstance(training.inputs, Augmentation) and images > len(splits.train):
        raise WsnasError(f"{images:,} images are more than the {len(splits.train):,} to train on: give fewer --images")
    require_suitable(splits.train, training)


def proxy_scores(
    space: SearchSpace[Any] | str,
    archs: Iterable[Any] | str,
    recipe: Recipe | str | None = None,
    proxy: str | Score = "naswot",
    *,
    images: int = 64,
    seed: int = 0,
    out: Path | str | None = None,
    device: str | None = None,
    threads: int | None = None,
    splits: Splits | None = None,
    report: Report | None = None,
) -> Scores:
    """The score of each architecture, by its encoding, in the order given. Higher is better.

    A score that is not finite counts as -inf.
    ``space``, ``recipe``: as in ``train_supernet``. ``archs``: architectures or their encodings, or a single one.
    ``proxy``: naswot, synflow, grad_norm, snip, grasp, fisher, jacob_cov, convolutions, depth, or a function. A
    network has the initial weights of a stand-alone training with this ``seed``, and sees the first batch of one
    that has ``images`` images (text: sequences) per batch. ``out``: a run directory, where scores and their seconds
    are kept; what it has is not computed again; Busy is raised if another process writes to it. ``splits``: the
    recipe's data, if already on the device. Raises WsnasError for an invalid encoding or a score that does not suit
    the space.
    """
    space = load_space(space)
    recipe = space.recipe(recipe)
    proxy = parse(proxy) if isinstance(proxy, str) else proxy
    require_fit(space, recipe, proxy)
    wanted = {space.encode(arch): arch for arch in space.archs(archs)}
    if not wanted:
        raise WsnasError("there are no architectures to score")
    chosen, training = choose_device(device), change_recipe(recipe.standalone, batch=images)
    splits = space.load_data(recipe, chosen) if splits is None else splits
    require_images(splits, recipe, images)
    x, y = next(iter(splits.train.epoch(training, seed, 0)))
    run, kind = None, score_kind(chosen.type)
    if out is not None:
        identity = proxy_identity(space, recipe, proxy, images, seed) | space.data_identity(recipe)
        run = Run.open(Path(out), identity, recipe.to_json(), recipe.standalone_identity_of)

    def compute(name: str, arch: Any) -> dict[str, Any]:
        started = time.perf_counter()
        with torch_seeded(seed, "init"):
            network = to_device(space.network(arch, recipe), chosen).train()
        score = proxy(network, x.clone(), y)  # which may change its images in place
        try:
            score = float(score)
        except (TypeError, ValueError, RuntimeError) as error:
            raise WsnasError(f"a zero-cost score must be a number, not {score!r:.100}") from error
        finite = math.isfinite(score)
        row = {"score": score if finite else None, "seconds": time.perf_counter() - started}
        if record is not None:
            record(name, row, "ok" if finite else "not finite")
        return row

    with (
        cpu_threads(threads, chosen),
        nullcontext() if run is None else run.writing(),
        nullcontext() if run is None else run.recording(kind) as record,
    ):
        rows = {} if run is None else run.records(kind)
        fill(rows, wanted, compute, "architectures", report)
    scores = Scores((name, -math.inf if (found := rows[name]["score"]) is None else found) for name in wanted)
    scores.dataset, scores.truth_metric = recipe.dataset, space.metric
    return scores


def score_kind(device: str) -> str:
    """The kind of a run's rows with scores that were computed on a CPU or on CUDA, whose last bits differ."""
    return "proxy cuda" if device == "cuda" else "proxy"


def proxy_identity(space: SearchSpace[Any], recipe: Recipe, proxy: Score, images: int, seed: int) -> dict[str, Any]:
    """What a score depends on besides the architecture. The run adds its data's fingerprint, which names its directory
    if the data are in a file or folder.
    """
    about = {"kind": "zero-cost score", "space": space.name, "recipe": recipe.standalone_identity()}
    name = own_name(proxy, (*ZERO_COST, *SHAPE), "a zero-cost score")
    return {**about, "proxy": name, "images": int(images), "seed": python_seed(seed)}
