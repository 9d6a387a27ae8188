"""What only a GPU shows; where the CPU can stand in for one, the test runs there, too, to try the test."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from toy_space import ALL, MICRO, TOY, Net, splits, trained_alone

from wsnas.cuda_graphs import replayed
from wsnas.data.folders import StreamedImages
from wsnas.data.tokens import Tokens
from wsnas.devices import choose_device, to_device
from wsnas.evaluation import evaluate_submodel
from wsnas.executor import Executor, run_jobs
from wsnas.pooling import average_pool
from wsnas.randomness import torch_seeded
from wsnas.recipe import SGD, Sequences, Training, change_recipe
from wsnas.runs import Run
from wsnas.supernet import train_supernet
from wsnas.training import train

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def weights(path: Path) -> dict[str, Tensor]:
    state = Run.read(path).load_checkpoint(CPU)
    assert state is not None
    assert state["step"] == 18
    found: dict[str, Tensor] = state["model"]
    return found


KILLED = """
import os, signal, sys, torch
from toy_space import TOY, splits
from wsnas.supernet import train_supernet
torch.use_deterministic_algorithms(True)
torch.backends.cudnn.allow_tf32 = False
torch.set_num_threads(1)
device, out = sys.argv[1:]
def die(done, total, note):
    if done == 8:
        os.kill(os.getpid(), signal.SIGKILL)
train_supernet(TOY, out=out, device=device, splits=splits(device=device), checkpoint_seconds=0, report=die)
"""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.usefixtures("deterministic")
def test_a_seed_decides_the_weights_also_through_kill_9(
    device: str, tmp_path: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Bit for bit with deterministic algorithms: twice in this process, and once begun in one that was killed."""
    for name in ("one", "two"):
        train_supernet(TOY, out=tmp_path / name, device=device, splits=splits(device=device))
    killed = python(KILLED, device, tmp_path / "killed", CUBLAS_WORKSPACE_CONFIG=os.environ["CUBLAS_WORKSPACE_CONFIG"])
    _, said = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, said
    steps: list[int] = []
    train_supernet(
        TOY,
        out=tmp_path / "killed",
        device=device,
        splits=splits(device=device),
        report=lambda done, total, note: steps.append(done),
    )
    assert steps == list(range(8, 19))  # the eighth had not been saved
    expected = weights(tmp_path / "one")
    for name in ("two", "killed"):
        for key, value in weights(tmp_path / name).items():
            assert torch.equal(value, expected[key]), (name, key)


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_calibrates_and_scores_as_the_cpu_does(device: str) -> None:
    torch.manual_seed(0)
    here = to_device(Net(4), CPU)
    there = to_device(copy.deepcopy(here), choose_device(device))
    for arch in (ALL[0], ALL[13], ALL[26]):
        expected = evaluate_submodel(here, arch, splits(), MICRO)
        found = evaluate_submodel(there, arch, splits(device=device), MICRO)
        assert found[1] == pytest.approx(expected[1], rel=1e-4)
        assert found[0] == pytest.approx(expected[0], abs=100 / 64 + 1e-6)  # one image may lie on the edge
        for (name, b), c in zip(here.named_buffers(), there.buffers(), strict=True):
            torch.testing.assert_close(c.cpu(), b, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_a_replayed_function_adds_every_batch(device: str) -> None:
    """Nine batches of 4 and one of 2, as from plain calls."""
    total = torch.zeros(3, device=device)
    batches = list(torch.arange(114.0, device=device).view(38, 3).split(4))
    add = replayed(lambda x: total.add_((x * x).sum(0)))
    for batch in batches:
        add(batch)
    assert [len(batch) for batch in batches] == [4] * 9 + [2]
    np.testing.assert_array_equal(total.cpu(), (np.arange(114).reshape(38, 3) ** 2).sum(0))


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
def test_a_device_that_is_not_the_current_one_computes_the_same() -> None:
    """Pooling by its own kernel, and a training from a captured graph."""
    found = []
    with torch.cuda.device(0):
        for index in (0, 1):
            device = torch.device("cuda", index)
            pooled = average_pool(torch.arange(2.0 * 3 * 4 * 5, device=device).reshape(2, 3, 4, 5))
            with torch_seeded(0, "init"):
                network = to_device(TOY.network(ALL[5], MICRO), device)
            pictures = splits(device=device).train
            train(network, pictures, MICRO.standalone, lambda step: [(ALL[5], 1.0)], seed=0, amp=False, cuda_graph=True)
            found.append([pooled.cpu(), *(value.detach().cpu() for value in network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_trainings_that_share_a_card_are_those_that_have_it_alone(device: str) -> None:
    """Two worker processes on one device, captured graphs on a GPU: the weights of this process's trainings."""
    jobs = [(device, index) for index in (0, 5, 17, 26)]
    together = dict(run_jobs(trained_alone, jobs, Executor(2)))
    for job in jobs:
        found = together[job]
        assert not isinstance(found, BaseException), found
        np.testing.assert_allclose(found, trained_alone(job), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("last", ["keep", "carry"])
def test_a_graph_for_each_batch_size_trains_as_none_does(device: str, last: str) -> None:
    """96 images in batches of 36, so that 24 are left: the gradients of one graph never meet those of the other."""
    training, path, found = change_recipe(MICRO.standalone, batch=36, last_batch=last, epochs=3), ALL[5], []
    for graph in (False, True):
        with torch_seeded(0, "init"):
            network = to_device(TOY.network(path, MICRO), torch.device(device))
        pictures = splits(device=device).train
        train(
            network, pictures, training, lambda step: [(path, 1.0)], seed=0, amp=False, cuda_graph=graph, pieces=False
        )
        found.append({name: value.cpu() for name, value in network.state_dict().items()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_reads_the_same_text(device: str) -> None:
    ids, training = np.random.default_rng(0).integers(0, 50, 4000), Training(1, 4, SGD(1.0), inputs=Sequences(35))
    here, there = (Tokens(ids, torch.device(name), streams=10) for name in ("cpu", device))
    for one, other in (
        (here.epoch(training, 0, 1), there.epoch(training, 0, 1)),
        (here.ordered(90), there.ordered(90)),
    ):
        for (x, y), (u, v) in zip(one, other, strict=True):
            assert u.device.type == device
            assert torch.equal(x, u.cpu())
            assert torch.equal(y, v.cpu())


@pytest.mark.parametrize("device", DEVICES)
def test_streamed_images_arrive_whole_while_the_card_is_busy(device: str, tmp_path: Path) -> None:
    """Copies on a separate stream are faster than the network: no batch is overwritten or used too early.

    Images are flat, each in a grey of its own, so that a batch says which images it holds.
    """
    files = []
    for i in range(64):
        files.append(str(tmp_path / f"{i}.png"))
        Image.new("RGB", (40, 40), (3 * i, 3 * i, 3 * i)).save(files[-1])
    photos = StreamedImages(files, np.arange(64), 32, choose_device(device), workers=3)
    big = torch.randn(512 if device == "cpu" else 6000, 512 if device == "cpu" else 6000, device=device)
    greys = []
    for epoch in range(3):
        for x, y in photos.epoch(Training(3, 8, SGD(1.0)), 0, epoch):
            big = torch.tanh(big @ big)  # several milliseconds that are queued before the batch is read
            greys.append((x.mean((2, 3)), x.amax((2, 3)) - x.amin((2, 3)), y))
    for mean, spread, y in greys:
        slope = mean[:, 0].cpu() - mean[:, 0].cpu()[0]
        steps = (y.cpu() - y.cpu()[0]) * 3 / 255 / 0.229
        torch.testing.assert_close(slope, steps.float(), rtol=0, atol=2e-2)
        assert spread.max() < 2e-2
