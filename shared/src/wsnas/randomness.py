"""Random numbers that depend on a seed and a key (epoch, step), never on earlier draws.

Step 1,234 draws the same numbers whether or not the process was killed at step 1,000, so a resumed run needs no
generator state and equals an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from wsnas.errors import WsnasError

SEEDS = 10**9  # so many: the columns of a table name theirs in nine digits
SEEDED = threading.RLock()  # torch has one generator for all threads of a process


def python_seed(seed: int) -> int:
    """The seed as Python's integer, if it is NumPy's. Raises WsnasError if it is no whole number below ``SEEDS``."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < SEEDS:
        raise WsnasError(f"a seed is a whole number from 0 to {SEEDS - 1:,}, not {seed!r}")
    return int(seed)


def _entropy(seed: int, key: tuple[str | int, ...]) -> int:
    plain = (int(part) if isinstance(part, np.integer) else part for part in key)  # which NumPy 2 writes otherwise
    text = repr((python_seed(seed), *plain)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def numpy_rng(seed: int, *key: str | int) -> np.random.Generator:
    """A NumPy generator for this seed and key, e.g. ``numpy_rng(0, "paths", step)``."""
    return np.random.Generator(np.random.PCG64(_entropy(seed, key)))


def torch_rng(seed: int, *key: str | int) -> torch.Generator:
    """A CPU torch generator for this seed and key: the same draws on any device."""
    return torch.Generator().manual_seed(_entropy(seed, key) >> 1)


@contextmanager
def torch_seeded(seed: int, *key: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds torch's global generators, the CPU's and the device's, inside the block and restores them after it.

    Other threads wait for the end of the block.
    """
    on_gpu = device is not None and device.type == "cuda"
    with SEEDED, torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(_entropy(seed, key) >> 1)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(_entropy(seed, key) >> 1)
        yield
