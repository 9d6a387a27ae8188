"""Errors reported to the user: one sentence, exit code 2, nothing lost."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class WsnasError(Exception):
    """An error whose message says in one sentence what is wrong, where, and what to do.

    The command line prints the message and exits with code 2; results already written are kept.
    """


class NoGroundTruth(WsnasError):
    """There is no ground truth of a space or data set, as opposed to one that cannot be read."""


class WsnasWarning(UserWarning):
    """What a user should know about a result that is there; the command line prints it as one sentence."""


class Guesses(WsnasWarning):
    """A training ended no better than guessing."""


class Unfinished(WsnasWarning):
    """A supernet is used that has not trained for all its epochs."""


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """In the block a WsnasWarning is one line on stderr, without the line of code that it comes from."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **others: Any) -> None:
        if issubclass(category, WsnasWarning):
            print(f"Warning: {message}", file=sys.stderr)
        else:
            before(message, category, *where, **others)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


class Diverged(WsnasError):
    """Training produced a loss that is not finite."""


SHORT = "memory is short: give a smaller --batch, --evaluation-batch or --channels, or fewer --workers"
SHORT_IN_TORCH = ("out of memory", "allocate memory", "ALLOC_FAILED", "MemoryAllocation", "size calculation overflowed")


def short_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch could not allocate what it needed; torch says so in a RuntimeError."""
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in SHORT_IN_TORCH)
    return isinstance(error, MemoryError)


def of_the_gpu(error: object) -> bool:
    """Whether it is an error of CUDA that stays until the process ends, such as an illegal access."""
    if not isinstance(error, RuntimeError) or short_of_memory(error):
        return False
    return any(words in str(error) for words in ("CUDA error", "Triton Error [CUDA]", "cuDNN error"))


def first_line(error: BaseException) -> str:
    """What an error of somebody else's code says, in a line; the error's class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def in_words(error: BaseException) -> str:
    """An error of a job within a sentence about several."""
    if isinstance(error, WsnasError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"a job {error}: give a larger time limit (--timeout)"
    return SHORT if short_of_memory(error) else repr(error)[:500]


class WorkerLost(WsnasError):
    """A job's worker died on every attempt."""


class Busy(WsnasError):
    """Another process writes to the run."""


@contextmanager
def one_value_a_channel(option: str) -> Iterator[None]:
    """Around a forward pass in train mode: torch's refusal of a single value per channel becomes a WsnasError."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise WsnasError(
            "a batch of one image has no batch statistics where the feature maps are a single pixel: give "
            f"{option} of at least 2 images per process"
        ) from error
