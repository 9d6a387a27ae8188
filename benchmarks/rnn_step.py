"""Training step of the recurrent network against the reference's formulation, in one run.

Both train the same network on the same random text and the same architectures, taking turns step by step.
The reference's formulation is how the cell is usually written: in every time step the word and the state are
concatenated, with one product per node, gates and candidates split off, all recorded by autograd; full
log-probabilities; a loop over parameters in the optimizer. Both apply the same five dropouts.

    python benchmarks/rnn_step.py [--scale micro | --scale paper] [--steps N]

It uses one thread and measures this process's CPU time, because wall time would include other load on the machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from textbook import textbook_sgd
from torch import Tensor, nn

from darts_rnn import DartsRNN
from darts_rnn.network import Network
from darts_rnn.recipes import RNNRecipe
from darts_rnn.space import ACTIVATIONS, Architecture, sample
from darts_rnn.text import vocabulary_size
from wsnas.data.tokens import Tokens
from wsnas.environment import environment
from wsnas.options import Command
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.recipe import Sequences
from wsnas.training import optimizer_of

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda u: u,
}


class Textbook(nn.Module):
    """The network as it is usually written. Weights are copied from ours."""

    def __init__(self, ours: Network) -> None:
        super().__init__()
        self.recipe = ours.recipe
        self.embedding = nn.Embedding(*ours.embedding.weight.shape)
        self.decoder = nn.Linear(self.recipe.units, len(self.embedding.weight))
        self.decoder.weight = self.embedding.weight
        self.w0 = nn.Parameter(ours.w0.detach().clone())
        self.nodes = nn.ParameterList([*map(nn.Parameter, ours.nodes.detach().clone())])
        with torch.no_grad():
            self.embedding.weight.copy_(ours.embedding.weight)
            self.decoder.bias.copy_(ours.bias)

    def cell(self, x: Tensor, h: Tensor, x_mask: Tensor, h_mask: Tensor, arch: Architecture) -> Tensor:
        c, u = torch.cat([x * x_mask, h * h_mask], dim=-1).mm(self.w0).chunk(2, dim=-1)
        states = [h + c.sigmoid() * (u.tanh() - h)]
        for matrix, (activation, predecessor) in zip(self.nodes.parameters(), arch.nodes, strict=True):
            s = states[predecessor]
            c, u = (s * h_mask).mm(matrix).chunk(2, dim=-1)
            states.append(s + c.sigmoid() * (FUNCTIONS[ACTIVATIONS[activation]](u) - s))
        return torch.mean(torch.stack(states[1:], -1), -1)

    def loss(self, x: Tensor, y: Tensor, h: Tensor, arch: Architecture) -> tuple[Tensor, Tensor]:
        recipe, (_, b), units = self.recipe, x.shape, self.recipe.units

        def mask(p: float, *shape: int) -> Tensor:
            return torch.empty(shape).bernoulli_(1 - p) / (1 - p)

        embedded = F.embedding(x, self.embedding.weight * mask(recipe.dropout_words, len(self.embedding.weight), 1))
        embedded = embedded * mask(recipe.dropout_embedding, b, units)
        x_mask, h_mask = mask(recipe.dropout_input, b, units), mask(recipe.dropout_hidden, b, units)
        outs = []
        for step in embedded:
            h = self.cell(step, h, x_mask, h_mask, arch)
            outs.append(h)
        out = torch.stack(outs)
        logits = self.decoder((out * mask(recipe.dropout, b, units)).view(-1, units))
        loss = F.nll_loss(F.log_softmax(logits, dim=-1), y)
        if recipe.slowness:
            loss = loss + recipe.slowness * (out[1:] - out[:-1]).pow(2).mean()
        return loss, h.detach()


def measure(recipe: RNNRecipe, steps: int) -> dict[str, Any]:
    """Tokens per second of each formulation over ``steps`` timed steps, and the ratios."""
    training, words = recipe.standalone, vocabulary_size(recipe)
    assert isinstance(training.inputs, Sequences)
    bptt = training.inputs.bptt

    def ours() -> Network:
        with torch_seeded(0, "init"):
            return Network(recipe, words)

    plain = Textbook(ours())
    models = {"ours fp32": ours(), "ours bf16": ours()}
    optimizers = {name: optimizer_of(model, training) for name, model in models.items()}
    optimizers["reference"] = textbook_sgd(plain, training)
    text = Tokens(numpy_rng(0, "text").integers(0, words, training.batch * bptt * (steps + 4)), torch.device("cpu"))
    hidden = torch.zeros(training.batch, recipe.units)

    # check that both are the same function: one batch through both before training, without dropout
    arch = sample(numpy_rng(0, "check"))
    x, y = next(text.epoch(training, 0, 0))
    ones = torch.ones(1)
    out, h = [], hidden
    with torch.no_grad():
        for word in plain.embedding(x):
            h = plain.cell(word, h, ones, ones, arch)
            out.append(h)
        difference = plain.decoder(torch.stack(out).flatten(0, 1)) - models["ours fp32"](x, arch)

    seconds: dict[str, list[float]] = {name: [] for name in optimizers}
    tokens = 0
    for step, (x, y) in zip(range(-1, steps), text.epoch(training, 0, 0), strict=False):  # the first is the warm-up
        arch = sample(numpy_rng(0, "paths", step))
        tokens += len(y) if step >= 0 else 0
        for name, optimizer in optimizers.items():
            started = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            with torch_seeded(0, "step", step), torch.autocast("cpu", torch.bfloat16, enabled=name == "ours bf16"):
                if name == "reference":
                    loss, hidden = plain.loss(x, y, hidden, arch)
                else:
                    loss = models[name].training_loss(x, y, arch, training, step / steps)
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, training.clip, foreach=None if name == "reference" else True)
            optimizer.step()
            if step >= 0:
                seconds[name].append(time.process_time() - started)
    found: dict[str, Any] = {
        **{"units": recipe.units, "words": words, "batch": training.batch, "bptt": bptt, "steps": steps},
        "tokens_a_second": {name: round(tokens / sum(taken)) for name, taken in seconds.items()},
        "largest_output_difference_before_training": difference.abs().max().item(),
    }
    for name in models:
        ratios = np.array(seconds["reference"]) / np.array(seconds[name])  # step by step: the same architecture
        found[f"{name} / reference"] = {
            "of totals": round(sum(seconds["reference"]) / sum(seconds[name]), 2),
            "median": round(float(np.median(ratios)), 2),
            "quartiles": [round(float(q), 2) for q in np.quantile(ratios, [0.25, 0.75])],
        }
    return found


@click.command(cls=Command)
@click.option("--scale", "scales", multiple=True, type=click.Choice(["micro", "paper"]), help="Default: both.")
@click.option("--steps", type=click.IntRange(1), help="Timed steps. Default: 60 at micro, 4 at paper.")
def main(scales: tuple[str, ...], steps: int | None) -> None:
    """Our recurrent training step, in fp32 and in bfloat16 autocast, against the reference's formulation."""
    torch.set_num_threads(1)
    recipes = DartsRNN.recipes
    result: dict[str, Any] = {"benchmark": "rnn_step", **environment()}
    for scale in scales or ("micro", "paper"):
        result[scale] = measure(recipes[scale], steps or (60 if scale == "micro" else 4))
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
