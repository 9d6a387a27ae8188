"""Recalibrated statistics against NumPy on the activations that reach each batch norm."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_space import ALL, MICRO, TOY, Arch, Net, splits

from wsnas import evaluation
from wsnas.calibration import calibrate
from wsnas.errors import WsnasError
from wsnas.evaluation import evaluate, evaluate_submodel, latest_scores, submodel
from wsnas.recipe import change_recipe
from wsnas.runs import Run
from wsnas.standalone import train_architecture
from wsnas.supernet import train_supernet
from wsnas.table import Column, Table

SIZES = (5, 16, 11)


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, 8, 8, generator=generator) * (i + 1) + i for i, n in enumerate(SIZES)]


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(4)


def statistics(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: b.numpy().copy() for name, b in model.named_buffers() if name.endswith(("mean", "var"))}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_the_average_over_batches_is_weighted_by_samples_and_its_variance_is_biased() -> None:
    """Every batch norm of the path against NumPy in float64, on the inputs it received."""
    model, path = net(), Arch((0, 2, 1))
    on_path = [layer[op][2] for layer, op in zip(model.layers, ("conv3", "pool", "conv1"), strict=True)]
    seen: dict[nn.Module, list[np.ndarray]] = {norm: [] for norm in on_path}
    hooks = [norm.register_forward_pre_hook(lambda m, x: seen[m].append(x[0].double().numpy())) for norm in on_path]
    calibrate(model, path, batches())
    for hook in hooks:
        hook.remove()
    for norm in on_path:
        assert [len(x) for x in seen[norm]] == list(SIZES)
        mean = sum(len(x) * x.mean((0, 2, 3)) for x in seen[norm]) / sum(SIZES)
        var = sum(len(x) * ((x - x.mean((0, 2, 3), keepdims=True)) ** 2).mean((0, 2, 3)) for x in seen[norm])
        np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm.running_var, var / sum(SIZES), rtol=1e-4)


def test_a_single_image_left_over_is_left_out_and_only_single_ones_are_refused() -> None:
    """On maps of one pixel: torch refuses a single value per channel."""
    model, path = net(), Arch((0, 2, 1))
    x = torch.randn(17, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    calibrate(model, path, x.split(8))  # 8, 8 and 1
    found = statistics(model)
    calibrate(model, path, x[:16].split(8))
    same(found, statistics(model))
    with pytest.raises(WsnasError, match="give --calibration-batch of at least 2 images per process"):
        calibrate(model, path, x.split(1))
    calibrate(model, path, torch.randn(3, 3, 8, 8).split(1))  # larger maps have statistics of single images


class Twice(nn.Module):
    """One batch norm that sees the batch, and then the batch times 3 plus 1."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor, path: None) -> Tensor:
        return self.norm(self.norm(x) * 0 + x * 3 + 1)  # type: ignore[no-any-return]


def test_a_batch_norm_used_twice_averages_both_inputs() -> None:
    model = Twice()
    calibrate(model, None, batches())
    x = [b.double().numpy() for b in batches()]
    mean = sum(len(b) * (b.mean((0, 2, 3)) + (3 * b + 1).mean((0, 2, 3))) / 2 for b in x) / sum(SIZES)
    var = sum(len(b) * (b.var((0, 2, 3)) + (3 * b + 1).var((0, 2, 3))) / 2 for b in x) / sum(SIZES)
    np.testing.assert_allclose(model.norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.norm.running_var, var, rtol=1e-4)


def test_the_biased_variance_is_told_from_the_unbiased_one() -> None:
    """With two values per channel the biased variance is half the unbiased one, so a mistake is a factor of 2."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(1)

        def forward(self, x: Tensor, path: object) -> Tensor:
            return self.norm(x)

    model = One()
    calibrate(model, None, [torch.tensor([[1.0], [3.0]]), torch.tensor([[10.0], [20.0]])])
    assert model.norm.running_mean.item() == pytest.approx((2 + 15) / 2)
    assert model.norm.running_var.item() == pytest.approx((1 + 25) / 2)


def test_momentum_and_earlier_statistics_play_no_part() -> None:
    first, second = net(), net()
    for module in second.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.003
            module.running_mean.fill_(7)
            module.running_var.fill_(9)
            module.num_batches_tracked.fill_(1234)
    for model in (first, second):
        calibrate(model, ALL[5], batches())
    same(statistics(first), statistics(second))
    assert {m.momentum for m in second.modules() if isinstance(m, nn.BatchNorm2d)} == {0.003}
    assert {m.momentum for m in first.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_batch_norms_off_the_path_are_reset() -> None:
    model = net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(7)
            module.running_var.fill_(9)
    calibrate(model, Arch((1, 1, 1)), batches())
    for layer in model.layers:
        for op in ("conv3", "pool"):
            assert not layer[op][2].running_mean.any()
            assert (layer[op][2].running_var == 1).all()
        assert (layer["conv1"][2].running_mean != 7).all()


def test_two_submodels_give_the_same_numbers_in_either_order() -> None:
    model, x = net(), torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def logits(path: Arch) -> Tensor:
        calibrate(model, path, batches())
        with torch.no_grad():
            return model(x, path)

    a, b = ALL[3], ALL[22]
    first = logits(a), logits(b)
    second = logits(b), logits(a)
    assert torch.equal(first[0], second[1])
    assert torch.equal(first[1], second[0])
    assert not torch.equal(first[0], first[1])


def test_the_model_is_left_in_eval_mode_with_its_weights_and_without_gradients() -> None:
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    calibrate(model, ALL[0], batches())
    assert not any(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_momentum_comes_back_after_an_exception_and_the_next_calibration_is_clean() -> None:
    model = net()

    def broken() -> object:
        yield batches()[0]
        raise RuntimeError("no more images")

    with pytest.raises(RuntimeError, match="no more images"):
        calibrate(model, ALL[0], broken())  # type: ignore[arg-type]
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert not any(m._forward_hooks for m in model.modules())
    calibrate(model, ALL[0], batches())
    fresh = net()
    calibrate(fresh, ALL[0], batches())
    same(statistics(model), statistics(fresh))


@pytest.mark.usefixtures("toy_installed")
def test_scores_in_bfloat16_are_rows_of_their_own(tmp_path: Path) -> None:
    """They are close to those in float32, which are preferred if there are any."""
    supernet = train_supernet(TOY, out=tmp_path / "run", splits=splits())
    half = evaluate(supernet, ALL[:6], amp=True)
    assert latest_scores(supernet.run) == half
    full = evaluate(supernet, ALL[:6])
    assert latest_scores(supernet.run) == full
    assert len(supernet.run.kinds()) == 2
    rows = [supernet.run.records(kind) for kind in supernet.run.kinds()]
    losses = [[row["loss"] for row in some.values()] for some in rows]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.02)


@pytest.mark.usefixtures("toy_installed")
def test_scores_of_a_gpu_are_rows_of_their_own(tmp_path: Path) -> None:
    """Of made-up ones. Those of the CPU are of the kind that they always were, and the first to be used."""
    run = train_supernet(TOY, out=tmp_path / "run", splits=splits(), device="cpu").run
    step = run.metrics()[-1]["step"]
    kinds = {
        (device, amp): evaluation._kind(MICRO, step, amp, device) for device in ("cpu", "cuda") for amp in (False, True)
    }
    known = f"evaluation step={step:08d} images=all calibration=16x3"
    assert list(kinds.values()) == [known, f"{known} bf16", f"{known} cuda", f"{known} cuda bf16"]

    def score(device: str, value: float, count: int, amp: bool = False) -> None:
        rows = {TOY.encode(arch): {"accuracy": value, "loss": 1.0} for arch in ALL[:count]}
        run.record_all(kinds[device, amp], rows)

    def found() -> tuple[set[float], str, list[float] | None]:
        latest, recorded = latest_scores(run), evaluation.recorded_scores(run.path, TOY, MICRO, ALL[:3])
        return {*latest.values()}, latest.settings, None if recorded is None else recorded.tolist()

    score("cuda", 60.0, 3, amp=True)
    assert found() == ({60.0}, "images=all calibration=16x3 cuda bf16", None)
    score("cuda", 70.0, 3)
    assert found() == ({70.0}, "images=all calibration=16x3 cuda", [70.0] * 3)
    score("cpu", 80.0, 2)
    assert found() == ({70.0}, "images=all calibration=16x3 cuda", [70.0] * 3)
    score("cpu", 80.0, 3)
    assert found() == ({80.0}, "images=all calibration=16x3", [80.0] * 3)


@pytest.mark.usefixtures("toy_installed")
def test_scores_do_not_outlive_their_weights(tmp_path: Path) -> None:
    """Another processor would train others; while nobody trains again, the scores are used without the weights."""
    run = train_supernet(TOY, out=tmp_path / "run", splits=splits()).run
    scores = evaluate(train_supernet(TOY, out=run.path, splits=splits()), ALL[:6])
    (kind,) = run.kinds()
    run.record(kind, TOY.encode(ALL[0]), {"accuracy": 12.5, "loss": 1.0})  # what another processor found
    (run.path / "checkpoint.pt").unlink()
    supernet = train_supernet(TOY, out=run.path, splits=splits())
    assert run.kinds() == []
    assert evaluate(supernet, ALL[:6]) == scores
    assert evaluate(run.path, ALL[:6]) == scores


@pytest.mark.filterwarnings("ignore::wsnas.errors.Guesses")
def test_scores_of_other_weights_than_the_runs_are_refused(tmp_path: Path) -> None:
    """Weights that were changed since, and a directory that holds another training by now."""
    tuned, old = (train_supernet(TOY, out=tmp_path / name, splits=splits(), device="cpu") for name in ("tuned", "old"))
    before = evaluate(tuned, ALL[:2])
    bias = tuned.model.head.bias.detach()
    as_trained = bias.clone()
    bias += 1
    for changed in (tuned, dataclasses.replace(tuned, recipe=change_recipe(MICRO, valid_size=32))):
        with pytest.raises(WsnasError, match="the weights of this supernet have changed since"):
            evaluate(changed, ALL[:3])
    bias.copy_(as_trained)
    assert evaluate(tuned, ALL[:2]) == before
    shutil.rmtree(tmp_path / "old")
    train_supernet(TOY, seed=1, out=tmp_path / "old", splits=splits(), device="cpu")
    with pytest.raises(WsnasError, match="old has held another run since this supernet was trained or loaded"):
        evaluate(old, ALL[:2])


def test_a_submodel_is_a_network_that_predicts_what_is_scored(tmp_path: Path) -> None:
    """Of calibrated weights, its own: training it leaves the supernet as it was."""
    supernet = train_supernet(TOY, out=tmp_path / "net", splits=splits(), device="cpu")
    score = evaluate(supernet, [ALL[5]])
    before = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    for arch in (ALL[5], TOY.encode(ALL[5])):
        network = submodel(supernet, arch)
        assert not network.training
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in supernet.splits.valid.ordered(16))
        assert 100 * right / len(supernet.splits.valid) == pytest.approx(score[TOY.encode(ALL[5])])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    assert all(torch.equal(value, before[name]) for name, value in supernet.model.state_dict().items())


def test_what_is_no_architecture_of_the_space_is_refused(tmp_path: Path) -> None:
    supernet = train_supernet(TOY, out=tmp_path / "net", splits=splits(), device="cpu")
    with pytest.raises(WsnasError, match=r"\(0, 1, 2\) \(tuple\) is not an architecture of toy"):
        evaluate(supernet, [(0, 1, 2)])
    names = tuple(map(TOY.encode, ALL[:3]))
    table = Table("toy", names, {Column("toy", "test", 2, 0): np.arange(3.0)})
    assert tuple(evaluate(supernet, table)) == names


def test_more_images_than_there_are_to_train_on_are_refused(tmp_path: Path) -> None:
    """Of 96: six batches of 16, not seven. A scale's own three are left to data that have fewer images."""
    averaged = change_recipe(MICRO, **{"standalone.average_last": 0.5})
    patient = change_recipe(MICRO, **{"standalone.patience": 1})
    for steps, size, refused in ((6, 96, False), (7, 96, True), (3, 32, False)):
        data = splits(size)
        for recipe in (MICRO, averaged, patient):
            many = change_recipe(recipe, calibration_steps=steps)
            said = pytest.raises(WsnasError, match=r"112 calibration images .* more than the 96 to train on")
            with said if refused else nullcontext():
                train_supernet(TOY, many, out=tmp_path / f"net{steps}", splits=data)
            with said if refused and recipe is not MICRO else nullcontext():  # only other weights than the last step's
                train_architecture(TOY, ALL[0], many, splits=data)
    assert not (tmp_path / "net7").exists()


def test_the_best_weights_are_scored_with_statistics_of_their_own(tmp_path: Path) -> None:
    """With patience, the result and the validations that chose it; the training itself goes on with its own."""
    fixed = {"epochs": 9, "batch": 8, "schedule": "fixed", "lr": 0.2, "clip": 1.0, "nesterov": False}
    rough = change_recipe(MICRO, **{f"standalone.{field}": value for field, value in fixed.items()})
    patient = change_recipe(rough, **{"standalone.patience": 1})
    data = splits()
    for part in (data.train, data.valid):  # wrong labels, so that validation gets worse at times
        part.labels[::3] = (part.labels[::3] + 1) % 4  # type: ignore[attr-defined]
    found = train_architecture(TOY, ALL[0], patient, out=tmp_path / "run", splits=data)
    run = Run.read(tmp_path / "run")
    state = run.load_checkpoint(torch.device("cpu"))
    assert state is not None
    losses = [line["valid_loss"] for line in run.metrics()]
    assert state["average_from"] / 12 < 1 + np.argmin(losses) < 9  # the best is a mean, and not the last
    network = TOY.network(ALL[0], patient)
    network.load_state_dict(state["model"])
    assert all(torch.equal(a, b) for a, b in zip(state["best"], network.parameters(), strict=True))
    calibrate(network, ALL[0], [x for x, _ in data.train.ordered(patient.calibration_batch, 48)])
    valid, loss = data.valid.score(network, ALL[0], 64)
    assert found.valid == pytest.approx(valid)
    assert min(losses) == pytest.approx(loss)
    plain = train_architecture(TOY, ALL[0], rough, splits=data)
    assert (found.curve, found.half_valid) == (plain.curve, plain.half_valid)
    with pytest.raises(WsnasError, match="--calibration-steps above 0"):
        train_architecture(TOY, ALL[0], change_recipe(patient, calibration_steps=0), splits=data)


def test_calibration_is_part_of_a_training_whose_result_it_affects() -> None:
    for field, value in (("epochs", 3), ("average_last", 0.5), ("patience", 1)):
        recipe = change_recipe(MICRO, **{f"standalone.{field}": value})
        other = change_recipe(recipe, calibration_steps=2)
        assert (recipe.standalone_identity() == other.standalone_identity()) == (field == "epochs")


def test_without_calibration_scores_rest_on_the_statistics_of_training(tmp_path: Path) -> None:
    """Another way to score leaves its own behind; they are nobody's."""
    net = train_supernet(TOY, change_recipe(MICRO, calibration_steps=0), out=tmp_path / "run", splits=splits())
    before = evaluate(net, ALL[:3])
    evaluate_submodel(net.model, ALL[1], net.splits, MICRO)
    with pytest.raises(WsnasError, match="the running statistics of training, and those of this supernet have changed"):
        evaluate(net, ALL[:3], resume=False)
    again = train_supernet(TOY, net.recipe, out=tmp_path / "run", splits=splits())
    assert evaluate(again, ALL[:3], resume=False) == before


def test_batch_norms_without_running_statistics_are_left_alone() -> None:
    class Usual(nn.Sequential):
        def forward(self, x: Tensor, path: Any = None) -> Tensor:
            return super().forward(x)

    model = Usual(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), nn.BatchNorm2d(4))
    (x,) = batches()[:1]
    calibrate(model, None, [x])
    assert torch.allclose(model[3].running_mean, model[:3](x).mean((0, 2, 3)), atol=1e-6)
