"""The network against hand computations, plain autograd, published counts, and what a checkpoint must hold."""

from __future__ import annotations

import dataclasses
import gc
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from darts_rnn import SPACE
from darts_rnn.network import Network, Trace, Unrolled, plan, unroll
from darts_rnn.recipes import MICRO, PAPER, RNNRecipe
from darts_rnn.space import ACTIVATIONS, NODES, Architecture, decode, sample
from wsnas.data.images import Splits
from wsnas.data.tokens import Tokens
from wsnas.evaluation import evaluate, latest_scores
from wsnas.paths import fair, uniform
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.recipe import SGD, Fixed, Sequences, Training, change_recipe
from wsnas.runs import Run
from wsnas.standalone import train_architecture
from wsnas.supernet import inherit, load_supernet, train_supernet
from wsnas.training import train

CPU = torch.device("cpu")
DARTS = decode(
    "[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), ('relu', 4), ('identity', 1), ('relu', 5), ('relu', 1)]"
)
SMALL = dataclasses.replace(MICRO, units=6, vocabulary=30)
DROPPING = dataclasses.replace(
    SMALL,
    dropout=0.3,
    dropout_hidden=0.2,
    dropout_input=0.3,
    dropout_embedding=0.2,
    dropout_words=0.1,
    slowness=1e-3,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network(recipe: RNNRecipe = SMALL, words: int = 30, arch: Architecture | None = None, seed: int = 0) -> Network:
    with torch_seeded(seed, "init"):
        return Network(recipe, words, arch)


def text(words: int = 30, train: int = 1000, other: int = 600) -> Splits:
    """Words in a noisy cycle: something a small network learns."""
    rng = np.random.default_rng(0)
    parts = []
    for n in (train, other, other):
        ids = (np.arange(n) + (rng.random(n) < 0.1).cumsum()) % words
        parts.append(Tokens(ids, CPU, 4))
    return Splits(parts[0], parts[1], parts[2], words)


# the cell ----------------------------------------------------------------------------------------------------


def by_hand(x: Tensor, h: Tensor, w0: Tensor, nodes: Tensor, mask: Tensor | None, arch: Architecture) -> Tensor:
    """The cell as it is written down: one product a node, concatenation, autograd."""
    functions = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda v: v}
    mask = torch.ones_like(h) if mask is None else mask
    outs = []
    for one in x:
        c, u = (torch.cat([one, h * mask], -1) @ w0).chunk(2, -1)
        states = [h + c.sigmoid() * (u.tanh() - h)]
        for matrix, (activation, predecessor) in zip(nodes, arch.nodes, strict=True):
            s = states[predecessor]
            c, u = ((s * mask) @ matrix).chunk(2, -1)
            states.append(s + c.sigmoid() * (functions[ACTIVATIONS[activation]](u) - s))
        h = torch.stack(states[1:]).mean(0)
        outs.append(h)
    return torch.stack(outs)


def operands(seed: int, masked: bool, t: int = 4, b: int = 3, h: int = 5) -> list[Any]:
    g = torch.Generator().manual_seed(seed)
    shapes = ((t, b, h), (b, h), (2 * h, 2 * h), (NODES, h, 2 * h))
    found: list[Any] = [torch.randn(s, generator=g, dtype=torch.double, requires_grad=True) for s in shapes]
    found.append((torch.rand(b, h, generator=g) < 0.7).double() / 0.7 if masked else None)
    return found


def test_two_node_cell_by_numbers() -> None:
    """One unit, two nodes that matter, every number on paper: the other six matrices are zero.

    A zero matrix makes c = 0 and u = 0, so a node halves its predecessor (sigmoid(0) = 1/2, tanh(0) = 0).
    """
    arch = Architecture(((1, 0), (0, 1), *(((3, 0),) * 6)))  # relu of s0; tanh of s1; identity of s0
    x, h = torch.tensor([[[0.5]]]), torch.tensor([[0.25]])
    w0 = torch.tensor([[1.0, 2.0], [-1.0, 1.0]])  # rows x, h; columns gate, candidate
    nodes = torch.zeros(8, 1, 2)
    nodes[0], nodes[1] = torch.tensor([[0.5, 3.0]]), torch.tensor([[-2.0, 1.5]])

    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    s0 = 0.25 + sigmoid(0.5 - 0.25) * (math.tanh(1.0 + 0.25) - 0.25)
    s1 = s0 + sigmoid(0.5 * s0) * (max(0.0, 3.0 * s0) - s0)
    s2 = s1 + sigmoid(-2.0 * s1) * (math.tanh(1.5 * s1) - s1)
    expected = (s1 + s2 + 6 * s0 / 2) / 8
    found = Unrolled.apply(x, h, w0, nodes, None, arch, torch.float32)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("masked", [True, False], ids=["dropout", "plain"])
def test_cell_and_its_gradient_are_autograds(seed: int, masked: bool) -> None:
    """Outputs and the gradients of x, hidden, W0 and every node's matrix, against plain autograd in double."""
    arch = sample(np.random.default_rng(seed))
    *inputs, mask = operands(seed, masked)
    expected = by_hand(*inputs, mask, arch)
    found = Unrolled.apply(*inputs, mask, arch, torch.double)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=torch.double)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for mine, other in zip(
        torch.autograd.grad(found, inputs, weight), torch.autograd.grad(expected, inputs, weight), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_gradient_by_differences() -> None:
    *inputs, mask = operands(3, True, t=3, b=2, h=2)
    assert torch.autograd.gradcheck(lambda *args: Unrolled.apply(*args, mask, DARTS, torch.double), inputs)


def test_extreme_topologies() -> None:
    """A chain (no node has a sibling) and a star (all are siblings), each activation in both."""
    *inputs, mask = operands(1, True)
    for predecessors in (range(NODES), [0] * NODES):
        arch = Architecture(tuple((node % 4, p) for node, p in enumerate(predecessors)))
        torch.testing.assert_close(
            Unrolled.apply(*inputs, mask, arch, torch.double), by_hand(*inputs, mask, arch), rtol=1e-12, atol=1e-12
        )


def renumbered(arch: Architecture, rng: np.random.Generator) -> tuple[Architecture, list[int]]:
    """The same cell with its nodes in another order that is possible, and the old places of the new nodes."""
    order: list[int] = []
    while len(order) < NODES:
        ready = [n for n in range(NODES) if n not in order and arch.nodes[n][1] - 1 in (-1, *order)]
        order.append(int(rng.choice(ready)))
    place = {0: 0, **{old + 1: new + 1 for new, old in enumerate(order)}}
    return Architecture(tuple((arch.nodes[old][0], place[arch.nodes[old][1]]) for old in order)), order


def test_cells_of_one_training_key_are_one_function() -> None:
    """With the matrices where their nodes went: outputs, and the gradients of everything, against plain autograd."""
    rng = np.random.default_rng(0)
    changed = 0
    for seed in range(10):
        arch = sample(rng)
        other, order = renumbered(arch, rng)
        assert SPACE.training_key(arch) == SPACE.training_key(other)
        changed += arch != other
        x, h, w0, nodes, mask = operands(seed, True)
        expected = by_hand(x, h, w0, nodes, mask, arch)
        moved = nodes.detach()[order].requires_grad_()
        found = Unrolled.apply(x, h, w0, moved, mask, other, torch.double)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=torch.double)
        *same, by_nodes = torch.autograd.grad(expected, (x, h, w0, nodes), weight)
        *mine, by_moved = torch.autograd.grad(found, (x, h, w0, moved), weight)
        for one, two in zip([*same, by_nodes[order]], [*mine, by_moved], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    assert changed > 5


def test_plan_holds_every_node_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        arch = sample(rng)
        order, groups = plan(arch)
        assert sorted(order) == list(range(NODES))
        assert [group.first for group in groups] == [0, *(group.last for group in groups[:-1])]
        for group in groups:
            assert group.parent < group.first  # a predecessor is known before its siblings
            for name, first, last in group.activations:
                for node in order[group.first + first : group.first + last]:
                    activation, predecessor = arch.nodes[node]
                    assert ACTIVATIONS[activation] == name
                    assert predecessor == (0 if group.parent < 0 else order[group.parent] + 1)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_bfloat16_products_are_close(dropout: float) -> None:
    """Under autocast: the same function to bfloat16's precision, states and gradients in float32."""
    model = network(dataclasses.replace(SMALL, units=16, dropout_hidden=dropout), arch=DARTS)
    x = torch.randint(0, 30, (7, 5), generator=torch.Generator().manual_seed(0))
    y = torch.randint(0, 30, (35,), generator=torch.Generator().manual_seed(1))
    found = []
    for amp in (False, True):
        model.zero_grad()
        model.start_epoch()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            loss = loss_of(model, x, y)
        loss.backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
        found.append((loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    assert found[1][0] == pytest.approx(found[0][0], rel=0.01)
    assert found[1][0] != found[0][0]
    for exact, low in zip(found[0][1], found[1][1], strict=True):
        assert torch.nn.functional.cosine_similarity(exact.flatten(), low.flatten(), dim=0) > 0.99


# the model ---------------------------------------------------------------------------------------------------


def test_published_parameter_count() -> None:
    """22,960,000 at 10,000 words and 850 units: Liu et al. (2019) print 23 M for the published cell."""
    assert SPACE.parameters(DARTS, PAPER) == 22_960_000
    with torch.device("meta"):
        model = Network(PAPER, 10_000, DARTS)
    assert sum(p.numel() for p in model.parameters()) == 22_960_000


def test_multiply_adds_of_a_token() -> None:
    """By torch's counter, two operations each: T x B tokens through the cell as it is written down, and the decoder."""
    model = network()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = by_hand(torch.zeros(7, 3, 6), torch.zeros(3, 6), model.w0, model.nodes, None, DARTS)
        torch.nn.functional.linear(out.flatten(0, 1), model.embedding.weight, model.bias)
    recipe = dataclasses.replace(SMALL, dataset="ptb")
    assert counter.get_total_flops() == 2 * 7 * 3 * SPACE.macs(DARTS, recipe)


def test_initial_weights_are_those_of_the_reference() -> None:
    """Uniform in +-0.04 at 850 units, the decoder's bias 0."""
    model = network(dataclasses.replace(PAPER, units=850), words=12)
    for weight in (model.embedding.weight, model.w0, model.nodes):
        assert 0.039 < weight.abs().max() <= 0.04
        assert weight.std().item() == pytest.approx(0.08 / math.sqrt(12), rel=0.02)
    assert not model.bias.any()


def test_submodel_with_copied_weights_is_the_stand_alone_network() -> None:
    supernet = network()
    x = torch.randint(0, 30, (6, 4), generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    for _ in range(20):
        arch = sample(rng)
        alone = inherit(supernet, network(arch=arch, seed=1))
        assert torch.equal(alone(x), supernet(x, arch))
        assert dict(alone.named_parameters()).keys() == dict(supernet.named_parameters()).keys()


def test_scoring_without_gradients_is_the_same_function() -> None:
    model = network(arch=DARTS)
    x = torch.randint(0, 30, (9, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        without = model(x)
    torch.testing.assert_close(without, model(x), rtol=1e-6, atol=1e-7)


def test_the_hidden_state_is_carried_over() -> None:
    model = network(arch=DARTS)
    x = torch.randint(0, 30, (12, 4), generator=torch.Generator().manual_seed(0))
    whole, last = model.carry(x, None, None)
    first, hidden = model.carry(x[:5], None, None)
    second, hidden = model.carry(x[5:], None, hidden)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hidden, last, rtol=1e-5, atol=1e-6)


def test_uniform_model_has_the_vocabularys_perplexity() -> None:
    model = network(arch=DARTS)
    with torch.no_grad():
        model.embedding.weight.zero_()
    perplexity, loss = text().valid.score(model, DARTS, 50)
    assert perplexity == pytest.approx(30.0, rel=1e-6)
    assert loss == pytest.approx(math.log(30.0), rel=1e-6)


# training ----------------------------------------------------------------------------------------------------

TRAINING = Training(2, 4, SGD(1.0, momentum=0.0), Fixed(), clip=0.25, inputs=Sequences(10))


def loss_of(model: Network, x: Tensor, y: Tensor, arch: Architecture = DARTS, progress: float = 0.0) -> Tensor:
    with torch_seeded(0, "loss"):
        return model.training_loss(x, y, arch, TRAINING, progress)


def test_loss_without_regularisation_is_cross_entropy() -> None:
    model = network(arch=DARTS)
    x, y = next(text().train.epoch(TRAINING, 0, 0))
    expected = torch.nn.functional.cross_entropy(model(x), y)
    torch.testing.assert_close(loss_of(model, x, y), expected)


def test_a_step_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step kept for its backward is freed with it, by reference counts alone: at paper size it is large."""
    traces = []

    def spy(*args: Any, **options: Any) -> tuple[Tensor, Trace]:
        out, trace = unroll(*args, **options)
        traces.append((weakref.ref(trace), weakref.ref(trace.states)))
        return out, trace

    monkeypatch.setattr("darts_rnn.network.unroll", spy)
    model = network(DROPPING)
    gc.collect()
    gc.disable()
    try:
        for x, y in text().train.epoch(TRAINING, 0, 0):
            loss_of(model, x, y).backward()  # type: ignore[no-untyped-call]
            assert all(one() is None for one in traces[-1])
    finally:
        gc.enable()
    assert len(traces) > 4


def test_slowness_is_the_mean_squared_change() -> None:
    plain, slow = network(arch=DARTS), network(dataclasses.replace(SMALL, slowness=0.5), arch=DARTS)
    x, y = next(text().train.epoch(TRAINING, 0, 0))
    out = plain._cell(plain.embedding(x), torch.zeros(4, 6), None, None)
    penalty = 0.5 * ((out[1:] - out[:-1]) ** 2).mean()
    torch.testing.assert_close(loss_of(slow, x, y), loss_of(plain, x, y) + penalty)


@pytest.mark.parametrize("name", ["dropout", "dropout_hidden", "dropout_input", "dropout_embedding"])
def test_each_dropout_keeps_the_mean(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it belongs, and there alone, a mask of 0 and 1 / (1 - p), with probability p and 1 - p, for all steps."""
    assert getattr(PAPER, name) > 0  # the reference uses all of them, and that of whole words
    model = network(dataclasses.replace(SMALL, **{name: 0.4}), arch=DARTS)
    x = torch.randint(0, 30, (6, 40), generator=torch.Generator().manual_seed(0))
    seen: dict[str, Tensor] = {}
    cell, linear = model._cell, torch.nn.functional.linear

    def in_cell(embedded: Tensor, hidden: Tensor, mask: Tensor | None, path: Architecture | None) -> Tensor:
        out = cell(embedded, hidden, mask, path)
        seen["input"] = (embedded / model.embedding(x)).detach()
        seen["hidden"] = torch.ones(40, 6) if mask is None else mask
        seen["out"] = out.detach()
        return out

    def decode_(given: Tensor, *rest: Any) -> Tensor:
        seen["output"] = given.detach().view_as(seen["out"]) / seen["out"]
        return linear(given, *rest)

    model._cell = in_cell  # type: ignore[method-assign]
    monkeypatch.setattr(torch.nn.functional, "linear", decode_)
    loss_of(model, x, x.flatten())
    place = {"dropout": "output", "dropout_hidden": "hidden"}.get(name, "input")
    for where in ("input", "hidden", "output"):
        factors = seen[where]
        if where != place:
            torch.testing.assert_close(factors, torch.ones_like(factors))
            continue
        if where != "hidden":  # one mask for the whole sequence
            torch.testing.assert_close(factors, factors[:1].expand_as(factors))
            factors = factors[0]
        assert factors.shape == (40, 6)
        dropped = factors == 0
        torch.testing.assert_close(factors[~dropped], torch.full_like(factors[~dropped], 1 / 0.6))
        assert 0.25 < dropped.float().mean() < 0.55  # of 240, 0.4 and five deviations
    assert loss_of(model, x, x.flatten()).item() == loss_of(model, x, x.flatten()).item()  # the generator decides it


def test_word_dropout_drops_whole_words() -> None:
    """Every place of a word alike: with all other words the same, a dropped word's embedding has no gradient."""
    model = network(dataclasses.replace(SMALL, dropout_words=0.5), arch=DARTS)
    x = torch.arange(24).remainder(8).view(6, 4)
    seen = []
    original = model._cell

    def spy(embedded: Tensor, *rest: Any) -> Tensor:
        seen.append(embedded.detach())
        return original(embedded, *rest)

    model._cell = spy  # type: ignore[method-assign]
    loss_of(model, x, x.flatten())
    ratio = seen[0] / model.embedding.weight[x]
    for word in range(8):
        places = ratio[x == word]
        assert torch.allclose(places, places[0, 0].expand_as(places))
        assert places[0, 0].item() == pytest.approx(0.0) or places[0, 0].item() == pytest.approx(2.0)
    assert 0 < (ratio == 0).float().mean() < 1


def test_hidden_state_is_carried_between_steps_but_not_within() -> None:
    """Paths of one step start alike; the next step starts where the last path ended; an epoch starts at zero."""
    model = network()
    batches = list(text().train.epoch(TRAINING, 0, 0))
    (x, y), (x2, y2) = batches[:2]
    other = sample(np.random.default_rng(5))
    first = loss_of(model, x, y, DARTS, 0.0)
    torch.testing.assert_close(loss_of(model, x, y, DARTS, 0.0), first)
    loss_of(model, x, y, other, 0.0)
    _, hidden = model.carry(x, other, None)
    expected = torch.nn.functional.cross_entropy(model.carry(x2, DARTS, hidden)[0], y2)
    torch.testing.assert_close(loss_of(model, x2, y2, DARTS, 0.1), expected)
    assert not model.hidden.requires_grad
    model.start_epoch()
    torch.testing.assert_close(loss_of(model, x, y, DARTS, 0.2), first)


def weights(model: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("sampler", [uniform, fair], ids=["uniform", "fair"])
def test_a_supernet_resumes_after_a_kill(tmp_path: Path, sampler: Any) -> None:
    """Stopped in the middle of an epoch, hidden state and dropout masks included: the same weights."""
    recipe = dataclasses.replace(DROPPING, supernet=TRAINING)
    splits = text()
    whole = train_supernet(SPACE, recipe, paths=sampler, out=tmp_path / "whole", device="cpu", splits=splits)

    class Killed(Exception):
        pass

    def kill(done: int, total: int, note: str) -> None:
        if done in (9, 33):
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            train_supernet(
                SPACE,
                recipe,
                paths=sampler,
                out=tmp_path / "killed",
                device="cpu",
                splits=splits,
                checkpoint_seconds=0.0,
                report=kill,
            )
    again = train_supernet(SPACE, recipe, paths=sampler, out=tmp_path / "killed", device="cpu", splits=splits)
    assert again.step == whole.step == sum(len(splits.train.lengths(TRAINING, 0, e)) for e in (0, 1))  # type: ignore[attr-defined]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole.model), weights(again.model), strict=True))
    assert torch.equal(whole.model.hidden, again.model.hidden)  # type: ignore[arg-type]


def test_averaging_starts_by_the_rule_and_survives_kills(tmp_path: Path) -> None:
    """Merity et al. (2018): once validation is worse than the best of all but the ``patience`` epochs before it.

    Killed before, at and after the switch: the same weights and the same validations.
    """
    training = dataclasses.replace(TRAINING, epochs=8, patience=2)
    losses = [3.0, 2.0, 1.5, 1.6, 1.8, 1.7, 1.2, 1.3]  # made up; the sixth is worse than the best of the first three
    splits = text(train=400)

    def run(out: Path | None, kills: tuple[int, ...]) -> tuple[Network, dict[str, Any]]:
        where = Run.open(out, {"kind": "test"}, {}) if out is not None else None
        for stop in (*kills, None):
            model = network(DROPPING, arch=DARTS)
            calls = iter(losses)
            if where is not None and (state := where.load_checkpoint(CPU)) is not None:
                calls = iter(losses[len(state["validations"]) :])

            def kill(done: int, total: int, note: str, stop: int | None = stop) -> None:
                if done == stop:
                    raise InterruptedError

            try:
                train(
                    model,
                    splits.train,
                    training,
                    lambda step: [(DARTS, 1.0)],
                    seed=0,
                    run=where,
                    checkpoint_seconds=0.0,
                    validate=lambda calls=calls: next(calls),  # type: ignore[misc]
                    report=kill,
                )
            except InterruptedError:
                continue
        assert where is not None
        state = where.load_checkpoint(CPU)
        assert state is not None
        return model, state

    steps = [splits.train.steps(training, 0, epoch) for epoch in range(8)]
    switch = sum(steps[:6])
    whole, state = run(tmp_path / "whole", ())
    assert state["average_from"] == switch
    assert state["validations"] == losses
    for kills in ((switch - 3, switch + 2), (switch, switch + 1), (2, sum(steps) - 1)):
        killed, other = run(tmp_path / f"killed{kills[0]}", kills)
        assert other["average_from"] == switch
        assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(killed), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(state["average"], other["average"], strict=True))
    # the best validation was the seventh, of averaged weights: they are the result
    assert not all(torch.equal(a, b) for a, b in zip(state["average"], weights(whole), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(state["best"], weights(whole), strict=True))


def test_a_small_network_learns(tmp_path: Path) -> None:
    """The noisy cycle is learned far beyond its words' frequencies; the supernet's submodels, too."""
    training = change_recipe(TRAINING, epochs=2, batch=8, lr=1.0, momentum=0.9, clip=1.0)
    recipe = dataclasses.replace(SMALL, units=16, standalone=training, supernet=training)
    splits = text(train=6000)
    found = train_architecture(SPACE, DARTS, recipe, device="cpu", splits=splits)
    assert found.test < 5  # 30 by guessing, about 1.4 at best
    supernet = train_supernet(SPACE, recipe, out=tmp_path / "net", device="cpu", splits=splits)
    scores = [splits.valid.score(supernet.model, sample(numpy_rng(0, i)), 100)[0] for i in range(5)]
    assert np.median(scores) < 10


def test_a_perplexity_that_overflows_is_not_ok(tmp_path: Path) -> None:
    """Its loss is finite, exp(loss) is not; a ranking leaves it out."""
    training = change_recipe(TRAINING, epochs=1, batch=8)
    recipe = dataclasses.replace(SMALL, units=4, supernet=training)
    supernet = train_supernet(SPACE, recipe, out=tmp_path / "net", device="cpu", splits=text(train=6000))
    archs = [sample(numpy_rng(0, i)) for i in range(3)]
    names = [SPACE.encode(arch) for arch in archs]
    evaluate(supernet, archs[:2])
    with torch.no_grad():
        supernet.model.bias[0] += 5000.0  # type: ignore[index, operator]
    supernet = dataclasses.replace(supernet, weights="")  # as if trained so
    assert [math.isnan(score) for score in evaluate(supernet, archs[1:]).values()] == [False, True]
    (kind,) = supernet.run.kinds()
    rows = supernet.run.records(kind)
    assert [rows[name]["status"] for name in names] == ["ok", "ok", "not finite"]
    assert 700 < rows[names[2]]["loss"] < math.inf
    assert [math.isfinite(latest_scores(supernet.run)[name]) for name in names] == [True, True, False]


def test_supernet_is_loaded_again(tmp_path: Path) -> None:
    recipe = dataclasses.replace(MICRO, units=4, supernet=dataclasses.replace(TRAINING, epochs=1, batch=400))
    trained = train_supernet(SPACE, recipe, out=tmp_path / "net", device="cpu")
    loaded = load_supernet(tmp_path / "net", "cpu")
    assert loaded.recipe == recipe
    assert all(torch.equal(a, b) for a, b in zip(weights(trained.model), weights(loaded.model), strict=True))
