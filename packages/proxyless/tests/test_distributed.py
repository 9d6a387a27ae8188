"""Two processes of torchrun, gloo on the CPU, against one process that does the two halves of each batch in turn."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from proxyless import SPACE
from proxyless.recipes import MICRO
from wsnas import WsnasError, train_supernet
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.recipe import change_recipe
from wsnas.supernet import load_supernet

RECIPE = change_recipe(MICRO, epochs=2, batch=32, train_size=64, schedule="cosine-per-step")  # two steps an epoch


def test_torchrun_trains_what_one_process_does_on_half_batches(tmp_path: Path) -> None:
    """Weights to 1e-5 (float32 gradients are added in another order); running statistics are those of rank 0's half."""
    options = [
        "--epochs",
        "2",
        "--batch",
        "32",
        "--train-size",
        "64",
        "--schedule",
        "cosine-per-step",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "wsnas", "train-supernet", "proxyless", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 4 steps") == 1  # rank 0 speaks
    found = load_supernet(tmp_path / "run", "cpu")
    assert found.recipe == RECIPE

    data = SPACE.load_data(RECIPE, torch.device("cpu")).train
    training = RECIPE.supernet
    with torch_seeded(0, "init"):
        model = SPACE.supernet(RECIPE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    other = copy.deepcopy(model)  # rank 1's batch norms keep statistics of their own
    rule = training.optimizer
    optimizer = torch.optim.SGD(model.parameters(), rule.lr, rule.momentum, weight_decay=rule.weight_decay)
    step = 0
    for epoch in range(2):
        halves = [data.epoch(training, 0, epoch, rank=rank, world=2) for rank in range(2)]
        for (x, y), (u, v) in zip(*halves, strict=True):
            assert len(x) == len(u) == 16
            path = SPACE.sample(numpy_rng(0, "paths", step))
            optimizer.param_groups[0]["lr"] = rule.lr / 2 * (1 + math.cos(math.pi * step / 4))
            optimizer.zero_grad()
            other.zero_grad()
            with torch.no_grad():
                for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
                    mine.copy_(theirs)
            (F.cross_entropy(model(x, path), y) / 2).backward()  # type: ignore[no-untyped-call, unused-ignore]
            (F.cross_entropy(other(u, path), v) / 2).backward()  # type: ignore[no-untyped-call, unused-ignore]
            for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
                if mine.grad is not None and theirs.grad is not None:
                    mine.grad += theirs.grad
            nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            optimizer.step()
            step += 1
    assert step == 4
    expected = model.state_dict()
    for name, value in found.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    start = SPACE.supernet(RECIPE).state_dict()
    assert any(not torch.allclose(value, start[name], atol=1e-3) for name, value in expected.items())


def test_batch_norm_is_not_synchronised_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match="without --sync-bn"):
        train_supernet(SPACE, RECIPE, out=tmp_path / "run", device="cpu", sync_bn=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_synchronised_batch_norm_is_a_run_of_its_own_and_loads_without(tmp_path: Path) -> None:
    trained = train_supernet(SPACE, RECIPE, out=tmp_path / "run", device="cuda", sync_bn=True)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in trained.model.modules())
    with pytest.raises(WsnasError, match="sync_bn"):
        train_supernet(SPACE, RECIPE, out=tmp_path / "run", device="cuda")
    loaded = load_supernet(tmp_path / "run", "cpu")
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in loaded.model.modules())
