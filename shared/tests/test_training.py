"""The training loop against plain PyTorch and hand computation; stopping, killing, resuming, two processes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_space import ALL, MICRO, TOY, Arch, Net, Toy, ToyRecipe, images, splits

from wsnas.data.images import Images
from wsnas.errors import Diverged, Guesses, WsnasError
from wsnas.paths import fair, multi_path, uniform
from wsnas.proxies import proxy_scores
from wsnas.randomness import numpy_rng
from wsnas.recipe import SGD, Augmentation, CosinePerEpoch, CosinePerStep, Fixed, Linear, Training, change_recipe
from wsnas.runs import Run
from wsnas.standalone import train_architecture
from wsnas.supernet import load_supernet, train_supernet
from wsnas.training import first_steps, gradients_of, learning_rate, train

CPU = torch.device("cpu")
Start = Callable[..., "subprocess.Popen[str]"]


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(4)


def data(count: int = 48) -> Images:
    return Images(*images(count, 0), torch.full((3,), 70.0), torch.full((3,), 45.0), CPU)


def always(arch: Arch) -> Callable[[int], list[tuple[Arch, float]]]:
    return lambda step: [(arch, 1.0)]


def uniform_paths(step: int) -> Sequence[tuple[Any, float]]:
    return uniform(TOY, numpy_rng(0, "paths", step))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# learning rate ------------------------------------------------------------------------------------


def rate(training: Training, step: int, steps: int) -> float:
    return learning_rate(training, step // steps, step, steps)


def test_the_learning_rate_by_hand() -> None:
    """4 epochs of 10 steps from 0.2: half a cosine is 1, (2 + sqrt 2) / 4, 1/2, (2 - sqrt 2) / 4 at the epochs."""
    quarters = [0.2, 0.2 * (2 + math.sqrt(2)) / 4, 0.1, 0.2 * (2 - math.sqrt(2)) / 4]
    epochwise = Training(4, 1, SGD(0.2))
    for step in range(40):
        assert rate(epochwise, step, 10) == pytest.approx(quarters[step // 10])
    stepwise = Training(4, 1, SGD(0.2), CosinePerStep())
    assert [rate(stepwise, step, 10) for step in (0, 10, 20, 30)] == pytest.approx(quarters)
    assert rate(stepwise, 40, 10) == pytest.approx(0)
    assert rate(stepwise, 5, 10) == pytest.approx(0.1 * (1 + math.cos(math.pi / 8)))
    assert 0 < rate(stepwise, 39, 10) < 0.001
    rising = Training(4, 1, SGD(0.2), Linear(warmup=0.25))  # up for 10 steps, down for 30
    found = [rate(rising, step, 10) for step in (0, 4, 9, 10, 25, 39)]
    assert found == pytest.approx([0.02, 0.1, 0.2, 0.2, 0.1, 0.2 / 30])
    between = Training(1, 1, SGD(0.2), Linear(warmup=0.4))  # the peak lies at 18.4 of 46 steps
    found = [rate(between, step, 46) for step in (17, 18, 19)]
    assert found == pytest.approx([0.2 * 18 / 18.4, 0.2, 0.2 * 27 / 27.6])
    for steps in range(1, 60):
        assert max(rate(between, step, steps) for step in range(steps)) <= 0.2
    falling = Training(4, 1, SGD(0.2), Linear())
    assert [rate(falling, step, 10) for step in (0, 20, 39)] == pytest.approx([0.2, 0.1, 0.005])
    fixed = Training(4, 1, SGD(0.2), Fixed())
    assert {rate(fixed, step, 10) for step in range(40)} == {0.2}


# the loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [CosinePerEpoch(), CosinePerStep(), Fixed()])
@pytest.mark.parametrize(
    ("nesterov", "last", "count", "steps"),
    [
        (False, "drop", 50, 9),
        (True, "keep", 50, 12),
        (True, "carry", 50, 9),
        (True, "carry", 56, 10),
    ],  # 3 + 4 + 3 steps
)
def test_the_loop_is_the_textbook_one(schedule: Any, nesterov: bool, last: Any, count: int, steps: int) -> None:
    rule = SGD(0.3, nesterov=nesterov, weight_decay=1e-2)
    inputs = Augmentation(flip=True, crop=1, last_batch=last)
    training = Training(3, 16, rule, schedule, clip=0.5, inputs=inputs)
    ours, book, pictures = net(), net(), data(count)
    train(ours, pictures, training, uniform_paths, seed=4)

    optimizer = torch.optim.SGD(book.parameters(), 0.3, 0.9, weight_decay=1e-2, nesterov=nesterov, foreach=False)
    step = 0
    for epoch in range(3):
        for x, y in pictures.epoch(training, 4, epoch):
            done = {CosinePerEpoch: epoch / 3, CosinePerStep: step / steps, Fixed: 0}[type(schedule)]
            optimizer.param_groups[0]["lr"] = 0.15 * (1 + math.cos(math.pi * done))
            optimizer.zero_grad()
            F.cross_entropy(book(x, uniform_paths(step)[0][0]), y).backward()
            nn.utils.clip_grad_norm_(book.parameters(), 0.5)
            optimizer.step()
            step += 1
    assert step == steps
    for name, value in book.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_training_learns_something() -> None:
    pictures, model = data(96), net()
    lines: list[float] = []
    train(model, pictures, Training(30, 16, SGD(0.2), clip=1.0), always(ALL[0]), seed=0)
    with torch.no_grad():
        for x, y in pictures.ordered(96):
            lines.append((model(x, ALL[0]).argmax(1) == y).float().mean().item())
    assert lines[0] > 0.6  # chance is 0.25


def by_hand(
    model: Net, steps: list[tuple[Tensor, Tensor]], paths: Callable[[int], Any], training: Training
) -> dict[str, Tensor]:
    """SGD written out: each path's gradient on its own copy, summed by weight, clipped, one step; float32."""
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    velocity: dict[str, Tensor] = {}
    rule = training.optimizer
    for step, (x, y) in enumerate(steps):
        total: dict[str, Tensor] = {}
        for arch, weight in paths(step):
            copied = copy.deepcopy(model).train()
            copied.load_state_dict(values, strict=False)
            loss = F.cross_entropy(copied(x, arch), y)
            names, parameters = zip(*copied.named_parameters(), strict=True)
            for name, g in zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if g is not None:
                    total[name] = total.get(name, torch.zeros_like(g)) + weight * g
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in total.values()))
        scale = min(1.0, training.clip / norm) if training.clip else 1.0
        for name, g in total.items():
            change = scale * g + rule.weight_decay * values[name]
            velocity[name] = rule.momentum * velocity[name] + change if name in velocity else change
            values[name] = values[name] - rule.lr * velocity[name]
    return values


@pytest.mark.parametrize("sampler", [fair, multi_path(4)], ids=["fair", "multi"])
@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_a_step_of_several_paths_adds_their_gradients_then_clips_then_moves_once(sampler: Any, clip: float) -> None:
    training = Training(2, 24, SGD(0.05, weight_decay=1e-3), Fixed(), clip=clip)
    pictures, model = data(48), net()

    def paths(step: int) -> Any:
        return sampler(TOY, numpy_rng(7, step))

    batches = [batch for epoch in range(2) for batch in pictures.epoch(training, 0, epoch)]
    expected = by_hand(model, batches, paths, training)
    train(model, pictures, training, paths, seed=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_what_a_step_did_not_use_does_not_move_at_all() -> None:
    """Two epochs train one path, so that its weights have momentum; then another path is trained for two."""
    training = Training(4, 16, SGD(0.1, momentum=0.9, weight_decay=0.1), Fixed())
    model, seen = net(), []
    first, second = Arch((0, 0, 0)), Arch((0, 1, 2))
    before = weights(model)

    def paths(step: int) -> list[tuple[Arch, float]]:
        return [(first if step < 6 else second, 1.0)]

    train(model, data(48), training, paths, seed=0, on_epoch=lambda done: seen.append(weights(model)))
    after = seen[3]
    for name, _ in model.named_parameters():
        layer = name.split(".")[1:3] if name.startswith("layers") else None
        in_first = layer is None or layer[1] == "conv3"
        in_second = layer is None or layer in (["0", "conv3"], ["1", "conv1"], ["2", "pool"])
        assert torch.equal(before[name], seen[1][name]) == (not in_first), name
        assert torch.equal(seen[1][name], after[name]) == (not in_second), name


@pytest.mark.parametrize("stop", [None, 2, 7])
def test_the_final_weights_are_the_mean_over_the_last_steps_also_after_a_stop(tmp_path: Path, stop: int | None) -> None:
    """9 steps, averaged over the last third, stopped before or in it; training itself uses unaveraged weights."""
    plain = Training(3, 16, SGD(0.1, weight_decay=1e-2), Fixed())
    steps: list[dict[str, Tensor]] = []
    model = net()
    train(model, data(48), plain, uniform_paths, seed=0, report=lambda *_: steps.append(weights(model)))
    averaged, run = net(), Run.open(tmp_path / "run", {}, {})

    def press(done: int, total: int, note: str) -> None:
        if done == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
        train(
            averaged,
            data(48),
            dataclasses.replace(plain, average_last=1 / 3),
            uniform_paths,
            seed=0,
            run=run,
            report=press,
        )
    if stop:
        averaged = net(1)
        train(averaged, data(48), dataclasses.replace(plain, average_last=1 / 3), uniform_paths, seed=0, run=run)
    for name, parameter in averaged.named_parameters():
        expected = torch.stack([step[name].double() for step in steps[6:]]).mean(0).float()
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7, msg=name)


def test_one_line_per_epoch_has_the_mean_loss(tmp_path: Path) -> None:
    training, pictures = Training(2, 16, SGD(1e-12, momentum=0), Fixed()), data(48)
    run = Run.open(tmp_path / "run", {}, {})
    model = net()
    losses = [
        [F.cross_entropy(copy.deepcopy(model)(x, ALL[4]), y).item() for x, y in pictures.epoch(training, 0, epoch)]
        for epoch in range(2)
    ]  # the learning rate is too small to change them
    train(model, pictures, training, always(ALL[4]), seed=0, run=run)
    lines = run.metrics()
    assert [(line["epoch"], line["step"], line["lr"]) for line in lines] == [(1, 3, 1e-12), (2, 6, 1e-12)]
    assert [line["loss"] for line in lines] == pytest.approx([np.mean(epoch) for epoch in losses], rel=1e-5)


def test_batches_of_one_image_on_maps_of_one_pixel_are_refused() -> None:
    pixels, labels = images(4, 0)
    tiny = Images(pixels[:, :1, :1], labels, torch.full((3,), 70.0), torch.full((3,), 45.0), CPU)
    with pytest.raises(WsnasError, match="give --batch of at least 2 images per process"):
        train(net(), tiny, Training(1, 1, SGD(0.1)), always(ALL[0]), seed=0)


# divergence ---------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    def paths(step: int) -> list[tuple[Arch, float]]:
        return [(ALL[0], math.nan if step == 4 else 1.0)]

    run, model = Run.open(tmp_path / "run", {}, {}), net()
    with pytest.raises(Diverged, match="learning rate"):
        train(model, data(48), Training(5, 16, SGD(0.1)), paths, seed=0, run=run, checkpoint_seconds=0)
    state = run.load_checkpoint(CPU)
    assert state is not None
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    assert [line["epoch"] for line in run.metrics()] == [1]


def test_a_divergence_is_found_without_a_run_directory() -> None:
    with pytest.raises(Diverged):
        train(net(), data(48), Training(3, 16, SGD(1e25)), always(ALL[0]), seed=0)


def test_hopeless_is_meant_of_each_path() -> None:
    """A hundred paths that guess among four classes lose 139 together; a single one that loses as much is hopeless."""

    def crowd(step: int) -> list[tuple[Arch, float]]:
        return [(ALL[0], 1.0)] * 100

    losses: list[float] = []
    train(net(), data(16), Training(1, 16, SGD(1e-4)), crowd, seed=0, on_epoch=lambda line: losses.append(line["loss"]))
    assert 100 < losses[-1] < 200
    with pytest.raises(Diverged, match="far worse than guessing"):
        train(net(), data(48), Training(1, 16, SGD(3e4)), always(ALL[0]), seed=0)


def test_what_an_optimizer_needs_is_missed_before_a_directory_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsnas.training.find_spec", lambda name: None)
    recipe = change_recipe(MICRO, optimizer="rmsprop-tf")
    with pytest.raises(WsnasError, match="pip install timm"):
        train_supernet(TOY, recipe, out=tmp_path / "run", device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("last", ["keep", "carry"])
def test_a_training_with_another_last_batch_goes_on_bit_for_bit(tmp_path: Path, last: Any) -> None:
    """Stopped before and after the step that ends the second of three epochs of 50 images."""
    training = Training(3, 16, SGD(0.1), inputs=Augmentation(flip=True, crop=1, last_batch=last))
    whole, parts, run = net(), net(), Run.open(tmp_path / "run", {}, {})
    train(whole, data(50), training, uniform_paths, seed=0)
    total = 12 if last == "keep" else 9
    for stop in (total * 2 // 3 - 1, total * 2 // 3, total * 2 // 3 + 1, None):

        def press(done: int, of: int, note: str, stop: int | None = stop) -> None:
            assert of == total
            if done == stop:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
            train(parts, data(50), training, uniform_paths, seed=0, run=run, report=press)
    assert_same(weights(whole), weights(parts))


@pytest.mark.parametrize("with_run", [True, False])
def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path, with_run: bool) -> None:
    """The last step's loss is finite but its update is not, and there is no later loss to check."""
    run = Run.open(tmp_path / "run", {}, {}) if with_run else None
    with pytest.raises(Diverged, match=r"0 is off\)$"):
        train(net(), data(16), Training(1, 16, SGD(3e38, weight_decay=3e38)), always(ALL[0]), seed=0, run=run)
    assert run is None or run.load_checkpoint(CPU) is None


def test_a_divergence_says_that_the_checkpoint_before_it_is_there(tmp_path: Path) -> None:
    run, model = Run.open(tmp_path / "run", {}, {}), net()

    def spoil(done: int, total: int, note: str) -> None:
        if done == 2:
            model.head.weight.data.fill_(math.nan)

    with pytest.raises(Diverged, match=r"the last checkpoint is intact$"):
        train(
            model,
            data(48),
            Training(1, 16, SGD(0.1)),
            uniform_paths,
            seed=0,
            run=run,
            checkpoint_seconds=0,
            report=spoil,
        )
    saved = run.load_checkpoint(CPU)
    assert saved is not None
    assert saved["step"] == 1


# seeds --------------------------------------------------------------------------------------------


def test_a_seed_decides_the_weights(tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> dict[str, Tensor]:
        torch.manual_seed(len(name))  # global state plays no part
        np.random.seed(len(name))
        return weights(train_supernet(TOY, seed=seed, out=tmp_path / name, splits=splits()).model)

    one, two, other = trained("a", 0), trained("longer", 0), trained("c", 1)
    assert_same(one, two)
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("1.weight"))


class Dropping(Net):
    """Its forward pass draws random numbers, and its undecayed parameters come one by one."""

    def forward(self, x: Tensor, arch: Arch | None = None) -> Tensor:
        return super().forward(F.dropout(x, 0.5, self.training), arch)

    def no_weight_decay(self, training: Training) -> Any:
        return (p for p in self.parameters() if p.ndim == 1)


def test_a_network_that_draws_random_numbers_repeats_them_also_after_a_stop(tmp_path: Path) -> None:
    def trained(run: Run | None = None, stop: int = 0) -> dict[str, Tensor]:
        def press(done: int, total: int, note: str) -> None:
            if done == stop:
                os.kill(os.getpid(), signal.SIGINT)

        model, training = net(), Training(2, 16, SGD(0.1, weight_decay=0.1), Fixed())
        model.__class__ = Dropping
        torch.manual_seed(stop)  # global state plays no part
        train(model, data(48), training, uniform_paths, seed=0, run=run, report=press)
        return weights(model)

    once = trained()
    assert_same(once, trained())
    run = Run.open(tmp_path / "run", {"kind": "stand-alone", "recipe": {}}, {})
    with pytest.raises(KeyboardInterrupt), run.session(CPU):
        trained(run, stop=2)
    with run.session(CPU):
        assert_same(once, trained(run, stop=9))
    assert not torch.equal(once["head.bias"], net().head.bias)  # a parameter of the generator is trained, too


def test_threads_of_one_process_train_what_each_would_alone(tmp_path: Path) -> None:
    """Torch's random numbers belong to the process; initial weights are drawn from them."""

    def trained(seed: int, name: str) -> str:
        return train_supernet(TOY, seed=seed, out=tmp_path / f"{name}-{seed}", splits=splits(), device="cpu").weights

    alone = [trained(seed, "alone") for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: trained(seed, "threads"), range(4))) == alone


def test_a_path_does_not_see_what_the_one_before_did_to_the_images() -> None:
    """The same path twice, at half the weight each, is that path once."""

    def halve(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        args[0].mul_(0.5)

    def same(paths: list[tuple[Arch, float]], step: int) -> list[tuple[Arch, float]]:
        return paths

    losses = []
    for paths in ([(ALL[0], 1.0)], [(ALL[0], 0.5), (ALL[0], 0.5)]):
        model, lines = net(), list[Any]()
        model.register_forward_pre_hook(halve)
        step = Training(1, 48, SGD(1e-9), Fixed())
        train(model, data(48), step, functools.partial(same, paths), seed=0, on_epoch=lines.append)
        losses.append(lines[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_checkpoint_that_could_not_be_read_is_never_written(tmp_path: Path) -> None:
    class Keeping(Net):
        def get_extra_state(self) -> Any:
            return np.zeros(2)

        def set_extra_state(self, state: Any) -> None: ...

    model = net()
    model.__class__ = Keeping
    run = Run.open(tmp_path / "run", {"kind": "stand-alone", "recipe": {}}, {})
    with (
        pytest.raises(WsnasError, match="get_extra_state returns something that no checkpoint can hold"),
        run.session(CPU),
    ):
        train(model, data(48), Training(2, 16, SGD(0.1)), uniform_paths, seed=0, run=run, checkpoint_seconds=0)
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_a_loss_of_ones_own_is_not_captured() -> None:
    model = net()
    model.training_loss = lambda *args: None  # type: ignore[assignment]
    for how in ({"pieces": True}, {"cuda_graph": True}):
        with pytest.raises(WsnasError, match="its own training_loss is not captured"):
            train(model, data(48), Training(1, 16, SGD(0.1)), uniform_paths, seed=0, **how)  # type: ignore[arg-type]


def test_a_run_of_an_earlier_default_is_another(tmp_path: Path) -> None:
    """Identities leave defaults out, so a run of the old one has the same."""

    def of_default(gain: float) -> tuple[Any, Any]:
        """A space whose recipe has one more field, and that recipe."""
        made: Any = dataclasses.make_dataclass("Gained", [("gain", float, gain)], bases=(ToyRecipe,), frozen=True)
        recipe = made(**{one.name: getattr(MICRO, one.name) for one in dataclasses.fields(MICRO)})
        return type("Gained", (Toy,), {"recipes": {"micro": recipe, "paper": recipe}})(), recipe

    (space, recipe), (later, changed) = of_default(1.0), of_default(5.0)
    made = train_supernet(space, recipe, out=tmp_path / "run", splits=splits())
    with pytest.raises(WsnasError, match=r"its gain is 1\.0, which was the default when it began"):
        train_supernet(later, changed, out=tmp_path / "run", splits=splits())
    assert Run.read(tmp_path / "run").recipe == made.run.recipe
    as_before = dataclasses.replace(changed, gain=1.0)
    assert train_supernet(later, as_before, out=tmp_path / "new", splits=splits()).weights == made.weights


def test_a_numpy_seed_is_the_seed_of_that_number(tmp_path: Path) -> None:
    """The same draws, and in one run directory: what Python's own begins, it continues."""
    for key in ((), ("paths", 7)):
        numpys = tuple(np.int64(part) if isinstance(part, int) else part for part in key)
        assert numpy_rng(np.uint8(3), *numpys).random() == numpy_rng(3, *key).random()
    for seed in (3, np.int64(3)):
        assert train_supernet(TOY, seed=seed, out=tmp_path / "net", splits=splits()).run.identity["seed"] == 3
        train_architecture(TOY, ALL[0], seed=seed, out=tmp_path / "alone", splits=splits())
        proxy_scores(TOY, ALL[:1], seed=seed, images=seed + 5, out=tmp_path / "scores", splits=splits())
    assert json.loads((tmp_path / "scores" / "run.json").read_text())["identity"]["seed"] == 3
    with pytest.raises(WsnasError, match=r"a seed is a whole number from 0 to 999,999,999, not 3\.5"):
        train_supernet(TOY, seed=3.5, out=tmp_path / "half", splits=splits())  # type: ignore[arg-type]


def test_a_supernet_drops_the_last_batch() -> None:
    with pytest.raises(WsnasError, match="no field 'last_batch'"):
        change_recipe(MICRO, last_batch="keep")
    with pytest.raises(WsnasError, match="always drops"):
        dataclasses.replace(MICRO, supernet=change_recipe(MICRO.supernet, last_batch="keep"))
    assert change_recipe(MICRO, **{"standalone.last_batch": "keep"}).supernet_identity() == MICRO.supernet_identity()


def test_a_finished_supernet_is_loaded_and_not_trained_again(tmp_path: Path, toy_installed: Path) -> None:
    first = train_supernet(TOY, out=tmp_path / "run")
    steps: list[int] = []
    again = train_supernet(TOY, out=tmp_path / "run", report=lambda done, total, note: steps.append(done))
    loaded = load_supernet(tmp_path / "run")
    assert steps == []
    assert first.step == again.step == loaded.step == 18
    assert loaded.recipe == MICRO
    assert_same(weights(first.model), weights(again.model))
    assert_same(weights(first.model), weights(loaded.model))


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0, 2.0])
def test_paths_of_any_weight_that_learn_nothing_are_named(tmp_path: Path, weight: float) -> None:
    """A step's loss is the sum of its paths': also where that is less than one guess, it is compared with as much."""

    def weighted(space: Any, rng: np.random.Generator) -> list[tuple[Arch, float]]:
        return [(space.sample(rng), weight / 2) for _ in range(2)]

    recipe = change_recipe(MICRO, **{"supernet.lr": 1e-9})
    with pytest.warns(Guesses, match=rf"among 4 classes, {weight * math.log(4):.3f}; lower the learning rate"):
        train_supernet(TOY, recipe, paths=weighted, out=tmp_path / "run", splits=splits(), device="cpu")


# stop and resume ----------------------------------------------------------------------------------


def outcome(path: Path) -> tuple[dict[str, Any], bytes]:
    state = Run.read(path).load_checkpoint(CPU)
    assert state is not None
    return state, (path / "metrics.jsonl").read_bytes()


def assert_same_outcome(a: Path, b: Path) -> None:
    (one, lines), (two, others) = outcome(a), outcome(b)
    assert lines == others
    assert len(lines.splitlines()) == MICRO.supernet.epochs
    assert one["step"] == two["step"] == 18
    assert_same(one["model"], two["model"])
    momenta, others_momenta = one["optimizer"]["state"], two["optimizer"]["state"]
    assert momenta.keys() == others_momenta.keys()
    for key in momenta:
        assert torch.equal(momenta[key]["momentum_buffer"], others_momenta[key]["momentum_buffer"])
    assert one["optimizer"]["param_groups"] == two["optimizer"]["param_groups"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    train_supernet(TOY, out=path, splits=splits())
    return path


@pytest.mark.parametrize("stops", [(1,), (6,), (8, 9, 15), (17,)], ids=str)
def test_ctrl_c_saves_and_the_same_call_resumes_bit_for_bit(
    tmp_path: Path, undisturbed: Path, stops: tuple[int, ...]
) -> None:
    """An epoch has 6 steps: after one step, after an epoch, in the middle of epochs, before the last step."""
    handler = signal.getsignal(signal.SIGINT)
    for stop in stops:

        def press(done: int, total: int, note: str, stop: int = stop) -> None:
            if done == stop:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            train_supernet(TOY, out=tmp_path / "run", splits=splits(), report=press)
        state = Run.read(tmp_path / "run").load_checkpoint(CPU)
        assert state is not None
        assert state["step"] == stop
        assert signal.getsignal(signal.SIGINT) is handler
    train_supernet(TOY, out=tmp_path / "run", splits=splits())
    assert_same_outcome(tmp_path / "run", undisturbed)
    ended = [json.loads(line)["ended"] for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
    assert ended == ["KeyboardInterrupt"] * len(stops) + ["finished"]


def test_the_time_of_a_training_is_that_of_its_sessions_that_trained(tmp_path: Path) -> None:
    """Stopped once, finished, then opened twice more. Every session is said to have taken ten seconds."""

    def press(done: int, total: int, note: str) -> None:
        if done == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_supernet(TOY, out=tmp_path / "run", splits=splits(), device="cpu", report=press)
    run = [train_supernet(TOY, out=tmp_path / "run", splits=splits(), device="cpu") for _ in range(3)][-1].run
    sessions = [json.loads(line) for line in (run.path / "sessions.jsonl").read_text().splitlines()]

    def seconds(*kept: int, then: tuple[int, int] | None = None) -> float | None:
        lines = [{**sessions[i], "seconds": 10.0} for i in kept]
        lines += [] if then is None else [{"seconds": 10.0, "steps": then}]
        (run.path / "sessions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run.seconds()

    assert seconds(0, 1, 2, 3) == seconds(0, 1) == 20
    assert [session["steps"] for session in sessions] == [[0, 8], [8, 18], [18, 18], [18, 18]]
    assert seconds(1, 2, 3) is None  # the first was killed and left no line: how long its steps took, nobody knows
    assert seconds(0, 1, then=(0, 18)) == 10  # the checkpoint was moved away, and all trained again
    assert seconds() == 0


STORM = """
import os, sys
from wsnas.training import stop_between_steps

with stop_between_steps() as stopping:
    print("ready", flush=True)
    while not os.path.exists(sys.argv[1]):
        pass
    print(stopping())
"""


def test_signals_that_interrupt_each_others_handling_only_stop(python: Start, tmp_path: Path) -> None:
    """As Ctrl-C and the parent's SIGTERM, which reach a worker at once."""
    process = python(STORM, tmp_path / "end")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(10_000):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGUSR1)
    (tmp_path / "end").touch()
    assert process.communicate(timeout=60)[0] == "True\n"


def test_a_trainings_time_is_that_of_the_sessions_it_came_from(tmp_path: Path) -> None:
    """Of all of them; unknown if one was killed; of the last, where it was started over."""
    common: dict[str, Any] = {"splits": splits(), "device": "cpu", "checkpoint_seconds": 0}

    def stop(done: int, total: int, note: str) -> None:
        if done == total - 2:
            raise KeyboardInterrupt

    def known(name: str, change: Callable[[Path], None]) -> float:
        out = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            train_architecture(TOY, ALL[3], MICRO, out=out, report=stop, **common)
        change(out / "sessions.jsonl")
        return train_architecture(TOY, ALL[3], MICRO, out=out, **common).seconds

    def hour(file: Path) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), "seconds": 3600.0}) + "\n")

    assert 3600 < known("stopped", hour) < 3660
    assert math.isnan(known("killed", Path.unlink))
    again = train_architecture(TOY, ALL[3], MICRO, out=tmp_path / "stopped", **common).seconds
    assert 3600 < again < 3660  # nothing was left to train
    for name in ("checkpoint.pt", "metrics.jsonl"):
        (tmp_path / "stopped" / name).unlink()
    assert train_architecture(TOY, ALL[3], MICRO, out=tmp_path / "stopped", **common).seconds < 60


def test_lines_written_after_the_checkpoint_are_not_written_twice(tmp_path: Path, undisturbed: Path) -> None:
    """A crash right after an epoch's line, with a checkpoint from before it."""

    def crash(done: int, total: int, note: str) -> None:
        if done == 14:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # no checkpoint at all: begins anew
        train_supernet(TOY, out=tmp_path / "run", splits=splits(), report=crash)
    assert len(Run.read(tmp_path / "run").metrics()) == 2
    train_supernet(TOY, out=tmp_path / "run", splits=splits())
    assert_same_outcome(tmp_path / "run", undisturbed)


KILLED = """
import os, random, signal, sys, time
import torch
from toy_space import TOY, splits
from wsnas.supernet import train_supernet
torch.set_num_threads(1)
random.seed(0)
weight = torch.nn.Parameter(torch.zeros(1))
weight.grad = torch.zeros(1)
torch.optim.SGD([weight], 0.1).step()  # loads what a first step loads: once here, not in every child
try:
    import torch.utils.tensorboard
except ImportError:
    pass
while True:  # each session is a child that is killed a random while after a random number of its steps
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        report = lambda done, total, note: (os.write(write, b"."), time.sleep(0.005))
        train_supernet(TOY, out=__import__("pathlib").Path(sys.argv[1]), splits=splits(), checkpoint_seconds=0,
                       report=report)
        os._exit(0)
    os.close(write)
    for _ in range(random.randint(1, 5)):
        os.read(read, 1)
    time.sleep(random.random() * 0.01)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(read)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
    print("killed", flush=True)
"""


def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path, undisturbed: Path, python: Start) -> None:
    process = python(KILLED, tmp_path / "run")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output.count("killed") >= 3
    assert_same_outcome(tmp_path / "run", undisturbed)


# two processes ------------------------------------------------------------------------------------

RANK = """
import os, sys
from pathlib import Path
import torch
from toy_space import TOY, splits
from wsnas.paths import parse
from wsnas.supernet import train_supernet
supernet = train_supernet(TOY, out=Path(sys.argv[1]), splits=splits(), paths=parse("multi:2"), device="cpu")
torch.save(dict(supernet.model.named_parameters()), Path(sys.argv[1]) / f"rank{os.environ['RANK']}.pt")
"""


def test_two_processes_train_what_one_does_on_the_mean_of_two_half_batches(tmp_path: Path, python: Start) -> None:
    """Gloo on this machine. The ranks agree bit for bit; one process that averages agrees to 1e-5 (float32 sums)."""
    in_two_ranks(python, RANK, tmp_path / "run")
    first, second = (torch.load(tmp_path / "run" / f"rank{r}.pt", weights_only=True) for r in range(2))
    assert_same(first, second)

    training, rule, train_split = MICRO.supernet, MICRO.supernet.optimizer, splits().train
    model = train_supernet(
        TOY,
        change_recipe(MICRO, lr=1e-30, clip=0, weight_decay=0),
        out=tmp_path / "initial",
        splits=splits(),
    ).model.train()
    optimizer = torch.optim.SGD(model.parameters(), rule.lr, 0.9, weight_decay=rule.weight_decay)
    losses = np.zeros(training.epochs)
    for epoch in range(training.epochs):
        for within, (x, y) in enumerate(train_split.epoch(training, 0, epoch)):
            optimizer.param_groups[0]["lr"] = rule.lr * 0.5 * (1 + math.cos(math.pi * epoch / training.epochs))
            optimizer.zero_grad()
            for half in (slice(0, None, 2), slice(1, None, 2)):  # each with its own batch statistics
                for arch, weight in multi_path(2)(TOY, numpy_rng(0, "paths", 6 * epoch + within)):
                    loss = F.cross_entropy(model(x[half], arch), y[half]) * weight / 2
                    loss.backward()
                    losses[epoch] += loss.item() / 6
            nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(first[name].detach(), parameter.detach(), rtol=1e-4, atol=1e-5, msg=name)
    lines = Run.read(tmp_path / "run").metrics()  # the mean over the ranks, not rank 0's
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-4)


MOVED = """
import sys
from pathlib import Path
from toy_space import MICRO, TOY
from wsnas.recipe import change_recipe
from wsnas.supernet import train_supernet
out = Path(sys.argv[1])
train_supernet(TOY, change_recipe(MICRO, dataset=str(out.parent / "new" / "set.npz")), out=out, device="cpu")
"""


def test_two_processes_go_on_where_the_data_lie_now(tmp_path: Path, python: Start) -> None:
    """A finished run, which any number of processes can load."""
    pixels, labels = images(96, 0)
    both = {f"{part}_{name}": v for part in ("train", "test") for name, v in (("images", pixels), ("labels", labels))}
    for place in ("old", "new"):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "set.npz", **both)  # type: ignore[arg-type, unused-ignore]
    recipe = change_recipe(MICRO, dataset=str(tmp_path / "old" / "set.npz"))
    run = train_supernet(TOY, recipe, out=tmp_path / "run", device="cpu").run
    (tmp_path / "old" / "set.npz").unlink()
    in_two_ranks(python, MOVED, run.path)
    assert Run.read(run.path).identity == run.identity


UNEVEN = """
import os, sys
from pathlib import Path
import torch, torch.distributed as dist
from test_training import Uneven, always, data, linear, weights
from toy_space import ALL
from wsnas.recipe import SGD, Training
from wsnas.runs import Run
from wsnas.training import train
dist.init_process_group("gloo")
rank, run, model = dist.get_rank(), Run(Path(sys.argv[1]), {}, {}), linear()
train(model, Uneven(data(48)), Training(2, 16, SGD(0.1), clip=0.5), always(ALL[0]), seed=0, run=run)
torch.save(weights(model), run.path / f"rank{rank}.pt")
"""


class Uneven:
    """The first of two ranks gets three of four images."""

    def __init__(self, whole: Images) -> None:
        self.whole, self.device = whole, whole.device

    def __len__(self) -> int:
        return len(self.whole)

    def steps(self, training: Training, seed: int, epoch: int) -> int:
        return self.whole.steps(training, seed, epoch)

    def epoch(self, training: Training, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Any:
        for x, y in self.whole.epoch(training, seed, epoch, start):
            own = (torch.arange(len(y)) % 4 == 3) == bool(rank)
            yield (x, y) if world == 1 else (x[own], y[own])


class OnePath(nn.Linear):
    """No batch norm, so that one process sees the same as two."""

    def forward(self, x: Tensor, path: Any) -> Tensor:
        return super().forward(x.flatten(1))


def linear() -> OnePath:
    torch.manual_seed(0)
    return OnePath(3 * 8 * 8, 4)


def test_uneven_shares_count_by_their_size(tmp_path: Path, python: Start) -> None:
    """Gradients, clipped by their norm, and losses are those of one process on the whole batch."""
    runs = [Run.open(tmp_path / name, {}, {}) for name in ("one", "two")]
    model = linear()
    train(model, Uneven(data(48)), Training(2, 16, SGD(0.1), clip=0.5), always(ALL[0]), seed=0, run=runs[0])
    in_two_ranks(python, UNEVEN, runs[1].path)
    for rank in range(2):
        found = torch.load(runs[1].path / f"rank{rank}.pt", weights_only=True)
        for name, value in weights(model).items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    one, two = ([line["loss"] for line in run.metrics()] for run in runs)
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("pieces", [False, True])
def test_no_path_is_asked_for_after_the_last_step(pieces: bool) -> None:
    """Pieces ask for those of the step to come, to prepare them."""
    asked = list[int]()

    def paths(step: int) -> list[tuple[Arch, float]]:
        asked.append(step)
        return [(ALL[step % len(ALL)], 1.0)]

    network, pictures = TOY.supernet(MICRO), splits().train
    train(network, pictures, MICRO.supernet, paths, seed=0, pieces=pieces)
    last = first_steps(pictures, MICRO.supernet, 0)[-1] - 1
    assert sorted(set(asked)) == list(range(last + 1))


def test_a_gpu_takes_pieces_only_where_all_batches_have_one_size() -> None:
    network = TOY.supernet(MICRO)
    for last, by_pieces in (("drop", True), ("carry", True), ("keep", False)):
        training = change_recipe(MICRO.standalone, last_batch=last)
        chosen = gradients_of(network, training, lambda step: [], torch.device("cuda"), 1, False, False, None)
        assert (chosen.__name__ == "<lambda>") is by_pieces


FORKS = """
import os, signal, sys
import test_training, torch  # once for both ranks
torch.set_num_threads(1)
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)  # imports what the first of a process does
code, ranks = compile(sys.argv.pop(2), "rank", "exec"), []
for rank in "01":
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
    ranks.append(os.fork())
    if ranks[-1] == 0:
        exec(code)
        os._exit(0)
while ranks:
    pid, status = os.wait()
    ranks.remove(pid)
    if status:
        for other in ranks:
            os.kill(other, signal.SIGKILL)
        sys.exit("a rank failed")
"""


def in_two_ranks(python: Start, code: str, where: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    process = python(FORKS, where, code, **shared)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_captured_step_is_the_eager_step() -> None:
    """The same weights and running statistics after two epochs in float32, to rounding."""
    found = []
    for cuda_graph in (False, True):
        data = splits().train
        images = Images(data.pixels.numpy(), data.labels.numpy(), data.mean, data.std, torch.device("cuda"))
        torch.manual_seed(0)
        network = TOY.network(ALL[0], MICRO).to("cuda", memory_format=torch.channels_last)
        way = {"cuda_graph": cuda_graph, "pieces": False}
        train(network, images, MICRO.standalone, lambda step: [(ALL[0], 1.0)], seed=0, amp=False, **way)
        found.append(network.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-5, msg=name)
