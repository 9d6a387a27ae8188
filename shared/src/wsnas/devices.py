"""The device and the memory layout of networks on it; cores, threads and memory of a CPU; kernels of a fixed order."""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous

from wsnas.errors import WsnasError

M = TypeVar("M", bound=nn.Module)


def cores() -> int:
    """CPU cores this process may use, by its affinity and its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, cpu_quota())))


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores that the control group of a container grants (cgroup v2, else v1); infinite without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / file).read_text() for file in files).split()
            return int(quota) / int(period) if int(quota) > 0 else math.inf
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return math.inf


class Waiting:
    """How much of its time the calling thread waits instead of computing, as where other processes use its core."""

    def __init__(self) -> None:
        self.since, self._busy = time.perf_counter(), time.thread_time()

    def share(self) -> float:
        """0 to 1, since the start or the last call."""
        wall, busy = time.perf_counter(), time.thread_time()
        waited = 1 - (busy - self._busy) / max(wall - self.since, 1e-9)
        self.since, self._busy = wall, busy
        return max(0.0, waited)


def from_torchrun(name: str, alone: int) -> int:
    """A number that torchrun sets in the environment; ``alone``: its value without torchrun."""
    written = os.environ.get(name, str(alone))
    if not written.isdecimal():
        raise WsnasError(f"the environment variable {name} is '{written}', not a number: unset it, or use torchrun")
    return int(written)


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """``cpu``, ``cuda`` or ``cuda:N``; by default a GPU if there is one, and of several the rank's or worker's own.

    A GPU becomes torch's current one, which streams, captured graphs and seeds use by default.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(str(name).lower())
    except RuntimeError as error:
        raise WsnasError(f"unknown device '{name}'; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise WsnasError(f"unsupported device '{name}'; use cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise WsnasError(
            f"cannot use device {name}: this torch ({torch.__version__}) finds no CUDA GPU; use --device cpu"
        )
    if device.type == "cuda":
        index = from_torchrun("LOCAL_RANK", 0) if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise WsnasError(f"there is no device cuda:{index}: this machine has {torch.cuda.device_count()} CUDA GPUs")
        if device.index is not None and from_torchrun("LOCAL_WORLD_SIZE", 1) > 1:
            raise WsnasError(f"under torchrun each process takes a GPU of its own: use cuda instead of cuda:{index}")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for --deterministic; read at cuBLAS's first use
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    keep_freed_memory()
    return device


@cache
def keep_freed_memory() -> None:
    """Makes glibc keep freed memory, instead of returning a step's activations to the system and allocating them again.

    That took up to a sixth of a training step. Other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes: the largest
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD, bytes


@contextmanager
def cpu_threads(count: int | None, device: torch.device) -> Iterator[None]:
    """Torch computes on ``count`` threads (None: one) in the block if ``device`` is the CPU; a GPU takes no count.

    One by default: it is fastest for small networks, above all on a busy machine, and the last bits of a result
    depend on the number, which must not come from the machine.
    """
    if count is not None and count < 1:
        raise WsnasError(f"torch needs at least one thread, not {count}")
    if count is not None and device.type != "cpu":
        raise WsnasError(f"a number of threads is only for the CPU: leave it out on {device}")
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(count or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def fixed_order(wanted: bool) -> Iterator[None]:
    """In the block CUDA's kernels add in one order, if ``wanted``: the same numbers each time, more slowly.

    https://pytorch.org/docs/stable/notes/randomness.html
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def to_device(model: M, device: torch.device) -> M:
    """The model on the device, with convolution weights in ``channels_last``, the fast layout on CPUs and GPUs."""
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


@contextmanager
def process_group(device: torch.device) -> Iterator[int]:
    """Joins torchrun's processes (NCCL on CUDA, gloo on the CPU) for the block; yields this one's rank."""
    if from_torchrun("WORLD_SIZE", 1) == 1 or dist.is_initialized():
        yield dist.get_rank() if dist.is_initialized() else 0
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise WsnasError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} without {', '.join(missing)}: start the processes with "
            "torchrun, or unset WORLD_SIZE"
        )
    store, rank, world = next(rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the store still has the addresses of killed ranks
    store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined, unused-ignore]
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=world)
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()
