"""Errors reported to the user: one sentence, exit code 2, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class WsnasError(Exception):
    """An error whose message says in one sentence what is wrong, where, and what to do.

    The command line prints the message and exits with code 2; results already written are kept.
    """


class Diverged(WsnasError):
    """Training produced a loss that is not finite."""


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
