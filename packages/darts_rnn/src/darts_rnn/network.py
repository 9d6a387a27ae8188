"""The recurrent language model of DARTS, as supernet and as stand-alone network: they are the same modules.

Words are embedded, run through one recurrent cell and decoded with the embedding's own weights (Liu et al.,
2019, appendix A.2; Merity et al., 2018). The cell, with x the word and h the state before it, all of one width:

    [c, u] = [x, h] W0          s0 = h + sigmoid(c) (tanh(u) - h)
    [c, u] = s_pred W_i         s_i = s_pred + sigmoid(c) (activation(u) - s_pred)       node i of 1 to 8
    new h = mean of s_1 to s_8

A node's matrix does not depend on its predecessor or activation, so every architecture has the same
parameters, and the supernet is one such network that is told which cell to be.

The cell is a chain of small products. What can leave the chain does: the word's half of W0 is one product
for all time steps, and so is the gradient of every matrix; nodes that share a predecessor share one product.
The chain itself is one autograd function, so no graph is built step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_rnn.space import ACTIVATIONS, NODES, Architecture
from wsnas.space import Training

if TYPE_CHECKING:
    from darts_rnn import RNNRecipe

INITIAL = 0.04  # weights start uniform in (-0.04, 0.04)


@dataclass(frozen=True)
class Siblings:
    """The nodes of one predecessor, side by side in the order the cell keeps its states: ``first`` to ``last``.

    ``parent``: the predecessor's place in that order, -1 for the initial state. ``activations``: (name, from,
    to), counted from ``first``.
    """

    parent: int
    first: int
    last: int
    activations: tuple[tuple[str, int, int], ...]


@lru_cache(maxsize=4096)
def plan(arch: Architecture) -> tuple[tuple[int, ...], tuple[Siblings, ...]]:
    """The order in which a cell keeps its states (node numbers from 0), and its products in a possible order."""
    order: list[int] = []
    groups = []
    for parent in range(NODES + 1):  # nodes come after their predecessors, so a parent's place is known here
        nodes = sorted((node for node in range(NODES) if arch.nodes[node][1] == parent), key=lambda n: arch.nodes[n][0])
        if nodes:
            runs = []
            names = [ACTIVATIONS[arch.nodes[node][0]] for node in nodes]
            for name in dict.fromkeys(names):
                begin = names.index(name)
                runs.append((name, begin, begin + names.count(name)))
            place = order.index(parent - 1) if parent else -1
            groups.append(Siblings(place, len(order), len(order) + len(nodes), tuple(runs)))
            order += nodes
    return tuple(order), tuple(groups)


def activate_(name: str, u: Tensor) -> None:
    if name == "tanh":
        u.tanh_()
    elif name == "relu":
        u.relu_()
    elif name == "sigmoid":
        u.sigmoid_()


def slope(name: str, f: Tensor) -> Tensor | None:
    """The activation's derivative, from its value; None for 1."""
    if name == "tanh":
        return 1 - f * f
    if name == "relu":
        return (f > 0).to(f.dtype)
    return f * (1 - f) if name == "sigmoid" else None


@dataclass
class Trace:
    """What a run of the cell over T steps computed; all but ``out`` is of the last step alone unless kept.

    ``out`` [T, B, H]; ``m0`` [T, B, H] state times mask; ``g0`` [T, B, 2, H] gate and candidate; ``s0``
    [T, B, H]; ``states`` [T, B, 8, H]; for each group of k siblings ``masked`` [T, B, H] their predecessor
    times mask, and ``g`` [T, B, 2, k, H] gates and candidates.
    """

    out: Tensor
    m0: Tensor
    g0: Tensor
    s0: Tensor
    states: Tensor
    masked: list[Tensor]
    g: list[Tensor]


def gather(nodes: Tensor, arch: Architecture) -> list[Tensor]:
    """[8, H, 2H] -> a [H, 2kH] matrix for each group of k siblings: all gates first, then all candidates."""
    order, groups = plan(arch)
    h = nodes.shape[1]
    found = []
    for group in groups:
        k = group.last - group.first
        if k == 1:
            found.append(nodes[order[group.first]])
        else:
            together = nodes[list(order[group.first : group.last])].view(k, h, 2, h)
            found.append(together.permute(1, 2, 0, 3).reshape(h, 2 * k * h))
    return found


def unroll(
    x: Tensor, hidden: Tensor, w0: Tensor, matrices: list[Tensor], mask: Tensor | None, arch: Architecture, keep: bool
) -> Trace:
    """Runs the cell over x [T, B, H] from ``hidden`` [B, H]. No autograd. ``keep``: all that backward needs.

    ``w0`` [2H, 2H]; ``matrices`` from ``gather``; ``mask`` [B, H] multiplies the input of every product with a state.
    """
    t, b, h = x.shape
    _, groups = plan(arch)
    kept = t if keep else 1
    w_x, w_h = w0[:h], w0[h:]
    g0 = torch.mm(x.reshape(t * b, h), w_x).view(t, b, 2 * h)
    out, s0, states = x.new_empty(t, b, h), x.new_empty(kept, b, h), x.new_empty(kept, b, NODES, h)
    m0 = x.new_empty(kept, b, h) if mask is not None else x.new_empty(0)
    masked = [x.new_empty(kept, b, h) for _ in groups] if mask is not None else []
    g = [x.new_empty(kept, b, 2, group.last - group.first, h) for group in groups]

    def rows(tensor: Tensor) -> tuple[Tensor, ...]:
        """The tensor's steps; made once, because a view costs as much as a small product."""
        return tensor.unbind(0) if len(tensor) == t else (tensor[0],) * t

    outs, pres, gates, candidates = out.unbind(0), g0.unbind(0), g0[..., :h].unbind(0), g0[..., h:].unbind(0)
    s0s, all_states = rows(s0), rows(states)
    m0s = rows(m0) if mask is not None else ()
    steps = []
    for i, group in enumerate(groups):
        parent = s0 if group.parent < 0 else states[:, :, group.parent]
        steps.append(
            (
                rows(parent),
                rows(parent[:, :, None]),
                rows(masked[i]) if mask is not None else rows(parent),
                matrices[i],
                rows(g[i].view(kept, b, -1)),
                rows(g[i][:, :, 0]),
                rows(g[i][:, :, 1]),
                [(name, rows(g[i][:, :, 1, first:last])) for name, first, last in group.activations],
                rows(states[:, :, group.first : group.last]),
            )
        )
    state = hidden
    for step in range(t):
        if mask is None:
            pres[step].addmm_(state, w_h)
        else:
            pres[step].addmm_(torch.mul(state, mask, out=m0s[step]), w_h)
        gates[step].sigmoid_()
        candidates[step].tanh_()
        torch.lerp(state, candidates[step], gates[step], out=s0s[step])
        for parents, wide, inputs, matrix, products, c, f, runs, results in steps:
            if mask is not None:
                torch.mul(parents[step], mask, out=inputs[step])
            torch.mm(inputs[step], matrix, out=products[step])
            c[step].sigmoid_()
            for name, u in runs:
                activate_(name, u[step])
            torch.lerp(wide[step], f[step], c[step], out=results[step])
        state = torch.mean(all_states[step], dim=1, out=outs[step])
    return Trace(out, m0, g0.view(t, b, 2, h), s0, states, masked, g)


class Unrolled(torch.autograd.Function):
    """``unroll`` with its gradient: (x, hidden, w0, nodes, mask, arch) -> out [T, B, H].

    Backward runs the chain once in reverse. What an element of a gate and a candidate contributes is computed
    beforehand for all steps, the gradients of the matrices afterwards, one product each.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, hidden: Tensor, w0: Tensor, nodes: Tensor, mask: Tensor | None, arch: Architecture
    ) -> Tensor:
        matrices = gather(nodes, arch)
        trace = unroll(x, hidden, w0, matrices, mask, arch, keep=True)
        ctx.save_for_backward(x, hidden, w0, mask)
        ctx.arch, ctx.matrices, ctx.trace = arch, matrices, trace
        return trace.out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, w0, mask = ctx.saved_tensors
        matrices, trace = ctx.matrices, ctx.trace
        ctx.trace = ctx.matrices = None  # a large part of the step's memory, reused below
        t, b, h = x.shape
        order, groups = plan(ctx.arch)
        w_h = w0[h:]
        before = torch.cat([hidden[None], trace.out[:-1]])

        def contributions(g: Tensor, parent: Tensor, runs: tuple[tuple[str, int, int], ...]) -> tuple[Tensor, Tensor]:
            """d state / d (gate, candidate before their functions) [T, B, 2, k, H], and d state / d parent."""
            c, f = g[:, :, 0], g[:, :, 1]
            rest = 1 - c
            found = torch.empty_like(g)
            torch.sub(f, parent, out=found[:, :, 0]).mul_(c).mul_(rest)
            for name, first, last in runs:
                part = found[:, :, 1, first:last]
                by = slope(name, f[:, :, first:last])
                part.copy_(c[:, :, first:last]) if by is None else torch.mul(c[:, :, first:last], by, out=part)
            return found, rest

        d0, rest0 = contributions(trace.g0[:, :, :, None], before[:, :, None], (("tanh", 0, 1),))
        d_states = x.new_empty(b, NODES + 1, h)  # of s0, then of the nodes in the plan's order
        d_s0, d_nodes = d_states[:, 0], d_states[:, 1:]
        scratch = x.new_empty(b, h)
        steps = []
        d_products = []
        for i, group in enumerate(groups):
            parent = trace.s0 if group.parent < 0 else trace.states[:, :, group.parent]
            d_group, rest = contributions(trace.g[i], parent[:, :, None], group.activations)
            d_products.append(d_group.view(t, b, -1))
            steps.append(
                (
                    d_states[:, 1 + group.first : 1 + group.last],
                    d_states[:, None, 1 + group.first : 1 + group.last],
                    d_states[:, 1 + group.parent],
                    d_group.unbind(0),
                    d_products[i].unbind(0),
                    rest.unbind(0),
                    matrices[i].t(),
                )
            )
        steps.reverse()
        d_first, rest_first, d_g0 = d0.unbind(0), rest0.unbind(0), d0.view(t, b, 2 * h)
        d_first_products = d_g0.unbind(0)
        grads = (grad / NODES).unbind(0)
        carried: Tensor | None = None  # of the state handed to the next step
        for step in range(t - 1, -1, -1):
            d_out = grads[step] if carried is None else torch.add(grads[step], carried, alpha=1 / NODES)
            d_nodes.copy_(d_out[:, None].expand(b, NODES, h))
            d_s0.zero_()
            for d, d_wide, d_parent, d_group_steps, d_product, rest_steps, back in steps:
                d_group_steps[step].mul_(d_wide)
                torch.mm(d_product[step], back, out=scratch)
                d_parent.add_(scratch) if mask is None else d_parent.addcmul_(scratch, mask)
                d.mul_(rest_steps[step])
                for node in d.unbind(1):
                    d_parent.add_(node)
            d_first[step].mul_(d_s0[:, None, None])
            torch.mm(d_first_products[step], w_h.t(), out=scratch)
            carried = d_s0 * rest_first[step][:, 0]
            carried.add_(scratch) if mask is None else carried.addcmul_(scratch, mask)

        d_w0 = torch.empty_like(w0)
        flat = d_g0.view(t * b, 2 * h)
        torch.mm(x.reshape(t * b, h).t(), flat, out=d_w0[:h])
        torch.mm((before if mask is None else trace.m0).reshape(t * b, h).t(), flat, out=d_w0[h:])
        d_matrices = x.new_empty(NODES, h, 2 * h)
        for i, group in enumerate(groups):
            k = group.last - group.first
            if mask is not None:
                inputs = trace.masked[i]
            else:
                inputs = trace.s0 if group.parent < 0 else trace.states[:, :, group.parent]
            product = torch.mm(inputs.reshape(t * b, h).t(), d_products[i].view(t * b, 2 * k * h))
            for j, node in enumerate(order[group.first : group.last]):
                d_matrices[node].view(h, 2, h).copy_(product.view(h, 2, k, h)[:, :, j])
        d_x = torch.mm(flat, w0[:h].t()).view(t, b, h) if ctx.needs_input_grad[0] else None
        return d_x, carried, d_w0, d_matrices, None, None


class Network(nn.Module):
    """Supernet (``arch=None``) or stand-alone network of ``arch``; ``forward(x, path)`` -> logits [T * B, words].

    x: int64 [T, B], a column a stream. A supernet needs a path; a stand-alone network is its own. ``forward``
    and ``carry`` apply no dropout; ``training_loss`` does, and carries the hidden state from step to step: it is
    the module's extra state. (With several processes a checkpoint holds the first one's.)
    """

    def __init__(self, recipe: RNNRecipe, words: int, arch: Architecture | None = None) -> None:
        super().__init__()
        h = recipe.units
        self.recipe, self.arch = recipe, arch
        self.embedding = nn.Embedding(words, h)  # decodes, too
        self.bias = nn.Parameter(torch.zeros(words))
        self.w0 = nn.Parameter(torch.empty(2 * h, 2 * h))  # rows: the word's half, the state's half
        self.nodes = nn.Parameter(torch.empty(NODES, h, 2 * h))  # columns: gate, candidate
        for weight in (self.embedding.weight, self.w0, self.nodes):
            nn.init.uniform_(weight, -INITIAL, INITIAL)
        self.start_epoch()

    def start_epoch(self) -> None:
        """An epoch starts at the top of the text, with a hidden state of zeros."""
        self.hidden = self.bias.detach().new_zeros(0, self.recipe.units)
        self._entered: tuple[float, Tensor] = (-1.0, self.hidden)

    def get_extra_state(self) -> Tensor:
        return self.hidden

    def set_extra_state(self, state: Tensor) -> None:
        self.hidden = state.to(self.bias.device)
        self._entered = (-1.0, self.hidden)

    def _cell(self, x: Tensor, hidden: Tensor, mask: Tensor | None, path: Architecture | None) -> Tensor:
        """x [T, B, H], hidden [B, H] -> the cell's outputs [T, B, H]; always fp32, whatever autocast says."""
        arch = path if self.arch is None else self.arch
        assert arch is not None, "a supernet needs the path to take"
        with torch.autocast(x.device.type, enabled=False):
            if torch.is_grad_enabled():
                out: Tensor = Unrolled.apply(x, hidden, self.w0, self.nodes, mask, arch)  # type: ignore[no-untyped-call]
                return out
            return unroll(x, hidden, self.w0, gather(self.nodes, arch), mask, arch, keep=False).out

    def carry(self, x: Tensor, path: Architecture | None, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """x [T, B], hidden [B, H] or None for zeros -> logits [T * B, words], the hidden state after x [B, H]."""
        embedded = self.embedding(x)
        hidden = embedded.new_zeros(embedded.shape[1:]) if hidden is None else hidden
        out = self._cell(embedded, hidden, None, path)
        return F.linear(out.flatten(0, 1), self.embedding.weight, self.bias), out[-1]

    def forward(self, x: Tensor, path: Architecture | None = None) -> Tensor:
        return self.carry(x, path, None)[0]

    def training_loss(self, x: Tensor, y: Tensor, path: Architecture, training: Training, progress: float) -> Tensor:
        """Mean cross-entropy of y [T * B] after x [T, B], plus the penalty on fast states; a scalar.

        The dropouts of Merity et al. (2018), every mask but that of the words drawn once for the whole
        sequence: words of the embedding, embedded words, the cell's input, its states (one mask for all nodes),
        its outputs. The paths of one step all start from the state that the last path of the step before left.
        """
        recipe, (_, b), h = self.recipe, x.shape, self.recipe.units
        if self._entered[0] != progress:
            self._entered = (progress, self.hidden)
        hidden = self._entered[1]
        weight = self.embedding.weight
        if len(hidden) != b:
            hidden = weight.new_zeros(b, h)

        def keep(p: float, *shape: int) -> Tensor | float:
            return weight.new_empty(shape).bernoulli_(1 - p) / (1 - p) if p else 1.0

        embedded = self.embedding(x)
        words = keep(recipe.dropout_words, len(weight), 1)
        if isinstance(words, Tensor):
            embedded = embedded * words[x]
        embedded = embedded * (keep(recipe.dropout_embedding, b, h) * keep(recipe.dropout_input, b, h))
        mask = keep(recipe.dropout_hidden, b, h)
        out = self._cell(embedded, hidden, mask if isinstance(mask, Tensor) else None, path)
        self.hidden = out[-1].detach().clone()
        logits = F.linear((out * keep(recipe.dropout, b, h)).flatten(0, 1), weight, self.bias)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=training.label_smoothing)
        if recipe.slowness and len(out) > 1:
            loss = loss + recipe.slowness * (out[1:] - out[:-1]).pow(2).mean()
        return loss


def parameters(words: int, units: int) -> int:
    """Exact parameter count, whatever the architecture: embedding (tied), the decoder's bias, W0, a matrix a node."""
    return words * units + words + 4 * units * units + NODES * 2 * units * units


def macs(words: int, units: int) -> int:
    """Multiply-adds of one token: the cell's products and the decoder's."""
    return 4 * units * units + NODES * 2 * units * units + words * units


__all__ = ["Network", "Unrolled", "macs", "parameters"]
