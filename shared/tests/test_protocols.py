"""Ways to score a submodel, against torch's own modules and hand-made statistics."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy_space import ALL, TOY, Arch, Net

from wsnas import protocols
from wsnas.calibration import calibrate
from wsnas.errors import WsnasError
from wsnas.evaluation import evaluate, evaluate_submodel
from wsnas.protocols import Protocol, protocol_scores, score_submodel, tune
from wsnas.supernet import Supernet, train_supernet

PATH = Arch((0, 2, 1))
WAYS = (Protocol("inherited"), Protocol("batch"), Protocol("recalibrated", 32), Protocol("recalibrated", 32, 3))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Supernet:
    return train_supernet(TOY, out=tmp_path_factory.mktemp("runs") / "net", device="cpu")


def by_hand(model: nn.Module, net: Supernet) -> tuple[float, float]:
    """(accuracy, loss) of the path in the mode that the model is in, batch by batch."""
    right, loss, count = 0, 0.0, 0
    with torch.no_grad():
        for x, y in net.splits.valid.ordered(net.recipe.evaluation_batch, net.recipe.valid_size):
            logits = model(x, PATH)
            right += int((logits.argmax(1) == y).sum())
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            count += len(y)
    return 100 * right / count, loss / count


def scored(net: Supernet, protocol: Protocol) -> tuple[float, float]:
    return score_submodel(net.model, PATH, net.splits, net.recipe, protocol)


def test_inherited_statistics_are_those_of_the_checkpoint(trained: Supernet) -> None:
    model = copy.deepcopy(trained.model).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None
    assert scored(trained, WAYS[0]) == pytest.approx(by_hand(model, trained))


def test_statistics_are_inherited_also_after_submodels_were_calibrated(tmp_path: Path) -> None:
    """Scores of one object used to depend on what it had scored before; also where scoring is interrupted."""
    net = train_supernet(TOY, out=tmp_path / "net", device="cpu")
    others = [arch for arch in TOY if arch != PATH][:4]
    before = scored(net, WAYS[0])
    evaluate(net, others)
    assert scored(net, WAYS[0]) == before

    def press(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(net, ALL[10:], report=press)
    assert scored(net, WAYS[0]) == before


def test_a_batchs_own_statistics_are_those_of_a_batch_norm_without_memory(trained: Supernet) -> None:
    """torch's: without running statistics it normalises by the batch's in eval mode, too."""
    model = copy.deepcopy(trained.model).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean = norm.running_var = None
    assert scored(trained, WAYS[1]) == pytest.approx(by_hand(model, trained))


def test_recalibrated_is_what_evaluate_does(trained: Supernet) -> None:
    images = trained.recipe.calibration_batch * trained.recipe.calibration_steps
    other = copy.deepcopy(trained.model)
    expected = evaluate_submodel(other, PATH, trained.splits, trained.recipe)
    assert scored(trained, Protocol("recalibrated", images)) == expected


def test_the_ways_differ_and_leave_the_supernet_as_it_was(trained: Supernet) -> None:
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    learned = [parameter.requires_grad for parameter in trained.model.parameters()]
    losses = [scored(trained, way)[1] for way in (*WAYS, *WAYS)]
    assert losses[:4] == losses[4:]
    assert len(set(losses)) == 4
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert [parameter.requires_grad for parameter in trained.model.parameters()] == learned
    assert not any(module.training for module in trained.model.modules())


def test_tuning_trains_the_paths_batch_norms_and_nothing_else() -> None:
    """The first step by hand: the weight less the learning rate times its gradient, in train mode."""
    torch.manual_seed(0)
    model = Net(4)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    x, y = torch.randn(16, 3, 8, 8), torch.arange(16) % 4
    other = copy.deepcopy(model).train()
    F.cross_entropy(other(x, PATH), y).backward()  # type: ignore[no-untyped-call, unused-ignore]
    tune(model, norms, PATH, [(x, y)], lr=0.5)
    on_path = {layer[op][2] for layer, op in zip(model.layers, ("conv3", "pool", "conv1"), strict=True)}
    names = {f"{name}.{kind}" for name, norm in model.named_modules() if norm in on_path for kind in ("weight", "bias")}
    assert len(names) == 6
    start = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        if name in names:
            grad = start[name].grad
            assert grad is not None
            assert grad.abs().max() > 1e-4
            torch.testing.assert_close(parameter, start[name] - 0.5 * grad)
        else:
            assert torch.equal(parameter, start[name]), name


def test_tuning_lowers_the_loss_on_what_it_sees(trained: Supernet) -> None:
    model = copy.deepcopy(trained.model)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = list(trained.splits.train.ordered(32, 32))

    def loss() -> float:
        calibrate(model, PATH, [x for x, _ in seen])
        with torch.no_grad():
            return sum(float(F.cross_entropy(model(x, PATH), y)) for x, y in seen)

    before = loss()
    tune(model, norms, PATH, seen * 20, lr=0.05)
    assert loss() < before - 1e-3


def test_scores_are_kept(trained: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By protocol, and apart from those of evaluate; in the order asked for."""
    archs = [Arch((0, 0, 0)), PATH]
    found = {way: protocol_scores(trained, archs, way) for way in WAYS}
    assert [list(one) for one in found.values()] == [[TOY.encode(arch) for arch in archs]] * 4
    assert {way: one[TOY.encode(PATH)] for way, one in found.items()} == {way: scored(trained, way) for way in WAYS}
    monkeypatch.setattr(protocols, "score_submodel", None)
    for way in WAYS:
        again = protocol_scores(trained, archs[::-1], way)
        assert again == found[way]
        assert list(again) == list(found[way])[::-1]
    assert not any(kind.startswith("evaluation ") for kind in trained.run.kinds())


def test_scores_of_changed_weights_are_not_kept(tmp_path: Path) -> None:
    net = train_supernet(TOY, out=tmp_path / "net", device="cpu")
    with torch.no_grad():
        next(net.model.parameters()).mul_(2)
    with pytest.raises(WsnasError, match="the weights of this supernet have changed"):
        protocol_scores(net, [PATH], WAYS[0])
    assert not any(kind.startswith("scoring ") for kind in net.run.kinds())


def test_a_score_whose_loss_is_not_finite_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for evaluate: its accuracy says nothing. Also where it is read again, beside one that is."""
    net, other = train_supernet(TOY, out=tmp_path / "net", device="cpu"), Arch((0, 0, 0))
    losses = {PATH: float("nan"), other: 1.5}
    monkeypatch.setattr(protocols, "score_submodel", lambda model, path, *_: (25.0, losses[path]))
    found = [protocol_scores(net, [PATH, other], WAYS[0])]
    monkeypatch.setattr(protocols, "score_submodel", None)
    found.append(protocol_scores(net, [PATH, other], WAYS[0]))
    for (accuracy, loss), fine in (one.values() for one in found):
        assert math.isnan(accuracy)
        assert loss == math.inf
        assert fine == (25.0, 1.5)


def test_more_images_than_there_are_are_refused(trained: Supernet) -> None:
    """There are 96, six batches of 16: the seventh step would have trained on nothing."""
    for way in (Protocol("recalibrated", 97), Protocol("recalibrated", 32, 7)):
        with pytest.raises(WsnasError, match=r"this takes (97|112) training images, and there are 96"):
            protocol_scores(trained, [PATH], way)
    assert protocol_scores(trained, [PATH], Protocol("recalibrated", 96, 6))


def test_a_score_costs_its_forward_passes() -> None:
    """By hand, 250 calibration images a batch."""
    recipe = TOY.recipe("micro")
    batch = recipe.calibration_batch
    passes = [way.passes(recipe, 1000) for way in WAYS]
    assert passes == [1000, 1000, 1032, 1032 + 9 * batch]
