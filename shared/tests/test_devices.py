"""Which device is chosen, and that a GPU is then torch's current one."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest
import torch

from wsnas.devices import Waiting, choose_device, cores, cpu_quota, cpu_threads
from wsnas.errors import WsnasError
from wsnas.training import waits_in_words


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """As if this machine had two GPUs; the devices that were made current."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "")  # so that what a test leaves goes with it
        monkeypatch.delenv(name)
    return current


@pytest.mark.parametrize(
    ("name", "rank", "chosen"),
    [(None, None, 0), (None, "1", 1), ("cuda", "1", 1), ("cuda", None, 0), ("cuda:0", "1", 0), ("cuda:1", None, 1)],
)
def test_a_gpu_is_the_ranks_own_and_current(
    two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch, name: str | None, rank: str | None, chosen: int
) -> None:
    """Captured graphs, streams and seeds are those of the current device: it must be the one that is used."""
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(name) == torch.device("cuda", chosen)
    assert two_gpus == [torch.device("cuda", chosen)]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"  # too late once cuBLAS was used


def test_ranks_do_not_share_a_gpu(two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(WsnasError, match="use cuda instead of cuda:0"):
        choose_device("cuda:0")
    assert choose_device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert choose_device("cuda:0") == torch.device("cuda", 0)


def test_the_cpu_when_it_is_asked_for(two_gpus: list[torch.device]) -> None:
    for cpu in ("cpu", "CPU", torch.device("cpu")):
        assert choose_device(cpu) == torch.device("cpu")
    assert two_gpus == []
    with pytest.raises(WsnasError, match="unsupported device 'cpu:1'"):  # in which a checkpoint could not be loaded
        choose_device("cpu:1")


def test_a_missing_gpu_is_refused(two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WsnasError, match="no device cuda:2: this machine has 2"):
        choose_device("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(WsnasError, match="no device cuda:3: this machine has 2"):
        choose_device()


def test_threads_are_set_for_the_block_on_the_cpu_only() -> None:
    before = torch.get_num_threads()
    for count, expected in ((None, 1), (2, 2)):
        with cpu_threads(count, torch.device("cpu")):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == before
    for count, device in ((2, "cuda"), (0, "cpu")):
        with pytest.raises(WsnasError, match="thread"), cpu_threads(count, torch.device(device)):
            pass


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == expected


def test_no_more_workers_than_the_quota_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a core still runs one worker."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, expected in ((math.inf, 8), (2.5, 3), (0.5, 1), (64.0, 8)):
        monkeypatch.setattr("wsnas.devices.cpu_quota", lambda quota=quota: quota)
        assert cores() == expected


def test_waiting_is_told_from_computing() -> None:
    watch = Waiting()
    time.sleep(0.2)
    assert watch.share() > 0.9
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    busy = watch.share()
    assert busy < 1  # how much less depends on what else runs here
    time.sleep(0.2)
    assert watch.share() > busy or busy > 0.9


def test_slow_steps_name_what_helps() -> None:
    assert waits_in_words(0.29) == ""
    with cpu_threads(2, torch.device("cpu")):
        assert waits_in_words(0.5) == (
            ", waiting 50 % of the time for a core (or images): fewer --threads (OMP_NUM_THREADS) wait less"
        )
    with cpu_threads(1, torch.device("cpu")):
        assert "other processes use it" in waits_in_words(0.5)
