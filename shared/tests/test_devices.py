"""Which device is chosen, and that a GPU is then torch's current one."""

from __future__ import annotations

import pytest
import torch

from wsnas.devices import choose_device, cpu_threads
from wsnas.errors import WsnasError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """As if this machine had two GPUs; the devices that were made current."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
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


def test_the_cpu_when_it_is_asked_for(two_gpus: list[torch.device]) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert two_gpus == []


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
