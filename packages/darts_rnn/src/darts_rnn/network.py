"""The recurrent language model of DARTS, as supernet and as stand-alone network, from the same modules.

Words are embedded, run through one recurrent cell and decoded with the embedding's own weights (Liu et al.,
2019, A.2.2; Merity et al., 2018). The cell, with x the word and h the state before it, all of one width:

    [c, u] = [x, h] W0          s0 = h + sigmoid(c) (tanh(u) - h)
    [c, u] = s_pred W_i         s_i = s_pred + sigmoid(c) (activation(u) - s_pred)       node i of 1 to 8
    new h = mean of s_1 to s_8

A node's matrix does not depend on its predecessor or activation, so every architecture has the same
parameters, and the supernet is one such network that can run any cell. DARTS's own search normalises every
node's product by batch norm (section 3.1.2); this supernet has no batch norms, as the paper's 0 calibration
steps for Penn Treebank imply.

The cell is a chain of small products. Some can leave the chain: the word's half of W0 is one product
for all time steps, and so is the gradient of every matrix; nodes that share a predecessor share one product.
The chain itself is one autograd function, so no graph is built step by step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_rnn.space import ACTIVATIONS, NODES, Architecture
from wsnas.paths import taken
from wsnas.recipe import Training

if TYPE_CHECKING:
    from darts_rnn.recipes import RNNRecipe


def initial_bound(units: int) -> float:
    """Weights start uniform between plus and minus this: 0.04 at the reference's 850 units, scaled for other widths."""
    return 0.04 * math.sqrt(850 / units)


@dataclass(frozen=True)
class Siblings:
    """The nodes that share a predecessor, adjacent in the order of the cell's states: ``first`` to ``last``.

    ``parent``: the predecessor's place in that order, -1 for the initial state. ``activations``: (name, from,
    to), counted from ``first``.
    """

    parent: int
    first: int
    last: int
    activations: tuple[tuple[str, int, int], ...]


@lru_cache(maxsize=4096)
def plan(arch: Architecture) -> tuple[tuple[int, ...], tuple[Siblings, ...]]:
    """The order of a cell's states (node numbers from 0), and its products in a valid order."""
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
    """Intermediate values of a cell's run over T steps; without ``keep``, only of the last step, except ``g0``.

    ``s0`` [T, B, H]; ``states`` [T, B, 8, H]; ``g0`` [T, B, 2, H] gate and candidate of s0; for each group of k
    siblings ``g`` [T, B, 2, k, H] their gates and candidates. ``inputs`` [T, B, H]: the operands of W0's second
    half, then of each group's matrix.
    """

    s0: Tensor
    states: Tensor
    g0: Tensor
    g: list[Tensor]
    inputs: list[Tensor]


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
) -> tuple[Tensor, Trace]:
    """The cell's outputs [T, B, H] over x [T, B, H] from ``hidden`` [B, H], and their trace. No autograd.

    ``keep``: the trace has everything backward needs.

    ``w0`` [2H, 2H]; ``matrices`` from ``gather``; ``mask`` [B, H] multiplies the input of every product with a
    state. If the matrices are bfloat16, so are the operands of the products; everything else has x's dtype.
    """
    t, b, h = x.shape
    _, groups = plan(arch)
    kept = t if keep else 1
    lean = w0.dtype != x.dtype
    g0 = torch.mm(x.reshape(t * b, h).to(w0.dtype), w0[:h]).view(t, b, 2 * h).to(x.dtype)
    out, s0, states = x.new_empty(t, b, h), x.new_empty(kept, b, h), x.new_empty(kept, b, NODES, h)
    g = [x.new_empty(kept, b, 2, group.last - group.first, h) for group in groups]
    parents = [s0 if group.parent < 0 else states[:, :, group.parent] for group in groups]
    own = lean or mask is not None  # whether a product's input is a separate tensor
    inputs = [w0.new_empty(kept, b, h) for _ in range(1 + len(groups))] if own else [s0, *parents]

    def rows(tensor: Tensor) -> tuple[Tensor, ...]:
        """The tensor's steps, created once, because a view costs as much as a small product."""
        return tensor.unbind(0) if len(tensor) == t else (tensor[0],) * t

    def operand(state: Tensor, into: Tensor) -> Tensor:
        if mask is not None:
            return torch.mul(state, mask, out=into)
        return into.copy_(state) if lean else state

    outs, pres, gates, candidates = rows(out), rows(g0), rows(g0[..., :h]), rows(g0[..., h:])
    s0s, all_states, first_inputs = rows(s0), rows(states), rows(inputs[0])
    steps = []
    for i, group in enumerate(groups):
        runs = [(name, rows(g[i][:, :, 1, first:last])) for name, first, last in group.activations]
        results, products = rows(states[:, :, group.first : group.last]), rows(g[i].view(kept, b, -1))
        wide, c, f = rows(parents[i][:, :, None]), rows(g[i][:, :, 0]), rows(g[i][:, :, 1])
        steps.append((rows(parents[i]), wide, rows(inputs[1 + i]), matrices[i], products, c, f, runs, results))
    state = hidden
    for step in range(t):
        if lean:
            pres[step].add_(torch.mm(operand(state, first_inputs[step]), w0[h:]))
        else:
            pres[step].addmm_(operand(state, first_inputs[step]), w0[h:])
        gates[step].sigmoid_()
        candidates[step].tanh_()
        torch.lerp(state, candidates[step], gates[step], out=s0s[step])
        for parent, wide, into, matrix, products, c, f, runs, results in steps:
            if lean:
                products[step].copy_(torch.mm(operand(parent[step], into[step]), matrix))
            else:
                torch.mm(operand(parent[step], into[step]), matrix, out=products[step])
            c[step].sigmoid_()
            for name, u in runs:
                activate_(name, u[step])
            torch.lerp(wide[step], f[step], c[step], out=results[step])
        state = torch.mean(all_states[step], dim=1, out=outs[step])
    return out, Trace(s0, states, g0.view(t, b, 2, h), g, inputs)


class Unrolled(torch.autograd.Function):
    """``unroll`` with its gradient: (x, hidden, w0, nodes, mask, arch, dtype of the products) -> out [T, B, H].

    Backward runs the chain once in reverse. The elementwise contributions of gates and candidates are computed
    beforehand for all steps, the gradients of the matrices afterwards, with one product each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        hidden: Tensor,
        w0: Tensor,
        nodes: Tensor,
        mask: Tensor | None,
        arch: Architecture,
        dtype: torch.dtype,
    ) -> Tensor:
        w0, matrices = w0.to(dtype), gather(nodes.to(dtype), arch)
        out, trace = unroll(x, hidden, w0, matrices, mask, arch, keep=True)
        # out through autograd alone: as an attribute it would make a cycle with its grad_fn, which keeps every trace
        ctx.save_for_backward(x, hidden, w0, mask, out)
        ctx.arch, ctx.matrices, ctx.trace = arch, matrices, trace
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, w0, mask, out = ctx.saved_tensors
        matrices, trace = ctx.matrices, ctx.trace
        t, b, h = x.shape
        lean = w0.dtype != x.dtype
        order, groups = plan(ctx.arch)
        before = torch.cat([hidden[None], out[:-1]])
        parents = [trace.s0 if group.parent < 0 else trace.states[:, :, group.parent] for group in groups]

        def slopes(g: Tensor, parent: Tensor, runs: tuple[tuple[str, int, int], ...]) -> tuple[Tensor, Tensor]:
            """The state's slope by (gate, candidate) before their functions [T, B, 2, k, H], and by its parent."""
            c, f = g[:, :, 0], g[:, :, 1]
            rest = 1 - c
            found = torch.empty_like(g)
            torch.sub(f, parent[:, :, None], out=found[:, :, 0]).mul_(c).mul_(rest)
            for name, first, last in runs:
                part, by = found[:, :, 1, first:last], slope(name, f[:, :, first:last])
                part.copy_(c[:, :, first:last]) if by is None else torch.mul(c[:, :, first:last], by, out=part)
            return found, rest

        def backwards(d: Tensor, by: Tensor, operand: Tensor, back: Tensor) -> Tensor:
            """From d state [B, 1, k, H] to d input of the product [B, H]; leaves d product in ``operand``."""
            by.mul_(d)
            if lean:
                operand.copy_(by.view(b, -1))
            return torch.mm(operand, back)

        d_states = x.new_empty(b, 1 + NODES, h)  # of s0, then of the nodes in the plan's order
        d_products = []  # of W0 with the state, then of each group
        steps = []
        for i, group in enumerate((None, *groups)):
            if group is None:
                by, rest = slopes(trace.g0[:, :, :, None], before, (("tanh", 0, 1),))
                at, parent, back = slice(0, 1), 0, w0[h:].t()
            else:
                by, rest = slopes(trace.g[i - 1], parents[i - 1], group.activations)
                at, parent, back = slice(1 + group.first, 1 + group.last), 1 + group.parent, matrices[i - 1].t()
            d_product = by.view(t, b, -1)
            d_products.append(torch.empty_like(d_product, dtype=w0.dtype) if lean else d_product)
            d = d_states[:, at]
            steps.append(
                (d, d[:, None], d_states[:, parent], by.unbind(0), d_products[i].unbind(0), rest.unbind(0), back)
            )
        (d_s0, d_s0_wide, _, by0, operand0, rest0, back0), *chain = steps
        chain.reverse()
        d_nodes = d_states[:, 1:]
        grads = (grad / NODES).unbind(0)
        carried = torch.zeros_like(hidden)  # gradient of the state passed to the next step
        for step in range(t - 1, -1, -1):
            torch.add(grads[step][:, None], carried[:, None], alpha=1 / NODES, out=d_nodes[:, :1])
            d_nodes[:, 1:].copy_(d_nodes[:, :1].expand(b, NODES - 1, h))
            d_s0.zero_()
            for d, d_wide, d_parent, by_steps, operands, rests, back in chain:
                d_input = backwards(d_wide, by_steps[step], operands[step], back)
                d_parent.add_(d_input) if mask is None else d_parent.addcmul_(d_input, mask)
                for node in d.mul_(rests[step]).unbind(1):
                    d_parent.add_(node)
            d_input = backwards(d_s0_wide, by0[step], operand0[step], back0)
            carried = (d_s0 * rest0[step])[:, 0]
            carried.add_(d_input) if mask is None else carried.addcmul_(d_input, mask)

        flat = [d.view(t * b, -1) for d in d_products]
        inputs = [
            each.reshape(t * b, h) for each in ((before, *parents) if trace.inputs[0] is trace.s0 else trace.inputs)
        ]
        d_w0 = torch.empty_like(w0, dtype=x.dtype)
        d_w0[:h] = torch.mm(x.reshape(t * b, h).to(w0.dtype).t(), flat[0])
        d_w0[h:] = torch.mm(inputs[0].t(), flat[0])
        d_matrices = x.new_empty(NODES, h, 2 * h)
        for i, group in enumerate(groups, start=1):
            product = torch.mm(inputs[i].t(), flat[i]).view(h, 2, -1, h)
            for j, node in enumerate(order[group.first : group.last]):
                d_matrices[node].view(h, 2, h).copy_(product[:, :, j])
        d_x = torch.mm(flat[0], w0[:h].t()).view(t, b, h).to(x.dtype) if ctx.needs_input_grad[0] else None
        return d_x, carried, d_w0, d_matrices, None, None, None


class Network(nn.Module):
    """Supernet (``arch=None``) or stand-alone network of ``arch``; ``forward(x, path)`` -> logits [T * B, words].

    x: int64 [T, B], one column per stream. A supernet needs a path; a stand-alone network has only one. ``forward``
    and ``carry`` apply no dropout; ``training_loss`` does, and carries the hidden state from step to step as the
    module's extra state. (With several processes, a checkpoint holds each one's.)
    """

    def __init__(self, recipe: RNNRecipe, words: int, arch: Architecture | None = None) -> None:
        super().__init__()
        h = recipe.units
        self.recipe, self.arch = recipe, arch
        self.embedding = nn.Embedding(words, h)  # also the decoder
        self.bias = nn.Parameter(torch.zeros(words))
        self.w0 = nn.Parameter(torch.empty(2 * h, 2 * h))  # rows: the word's half, the state's half
        self.nodes = nn.Parameter(torch.empty(NODES, h, 2 * h))  # columns: gate, candidate
        for weight in (self.embedding.weight, self.w0, self.nodes):
            nn.init.uniform_(weight, -initial_bound(h), initial_bound(h))
        self.start_epoch()

    def start_epoch(self) -> None:
        """Resets the hidden state to zeros, because an epoch starts at the top of the text."""
        self.hidden = self.bias.detach().new_zeros(0, self.recipe.units)
        self._entered: tuple[float, Tensor] = (-1.0, self.hidden)

    def get_extra_state(self) -> Tensor:
        return self.hidden

    def set_extra_state(self, state: Tensor) -> None:
        self.hidden = state.to(self.bias.device)
        self._entered = (-1.0, self.hidden)

    def _cell(self, x: Tensor, hidden: Tensor, mask: Tensor | None, path: Architecture | None) -> Tensor:
        """From x [T, B, H] and hidden [B, H] the cell's outputs [T, B, H]; under autocast its products are bfloat16."""
        arch = taken(self.arch, path)
        if not torch.is_grad_enabled():
            return unroll(x, hidden, self.w0, gather(self.nodes, arch), mask, arch, keep=False)[0]
        dtype = torch.mm(self.w0[:1, :1], self.w0[:1, :1]).dtype  # the dtype of a product under autocast, if any
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = Unrolled.apply(x.float(), hidden, self.w0, self.nodes, mask, arch, dtype)
        return out

    def carry(self, x: Tensor, path: Architecture | None, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Words x [T, B], hidden [B, H] or None for zeros -> logits [T * B, words], the hidden state after x [B, H]."""
        embedded = self.embedding(x)
        hidden = embedded.new_zeros(embedded.shape[1:]) if hidden is None else hidden
        out = self._cell(embedded, hidden, None, path)
        return F.linear(out.flatten(0, 1), self.embedding.weight, self.bias), out[-1]

    def forward(self, x: Tensor, path: Architecture | None = None) -> Tensor:
        return self.carry(x, path, None)[0]

    def training_loss(self, x: Tensor, y: Tensor, path: Architecture, training: Training, progress: float) -> Tensor:
        """Mean cross-entropy of y [T * B] after x [T, B], plus the penalty on fast states; a scalar.

        The dropouts are those of Merity et al. (2018): of words of the embedding, embedded words, the cell's input, its
        states (one mask for all nodes) and its outputs. Every mask but that of the words is drawn once per sequence.
        All paths of a step start from the final state of the previous step's last path.
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
    """Exact parameter count of any architecture: embedding (tied), the decoder's bias, W0, one matrix per node."""
    return words * units + words + 4 * units * units + NODES * 2 * units * units


def macs(words: int, units: int) -> int:
    """Multiply-adds for one token: the cell's products and the decoder's."""
    return 4 * units * units + NODES * 2 * units * units + words * units
