"""The signals that end a run early: of the keyboard, of Slurm and spot machines, of a terminal that closes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from wsnas.errors import WsnasError

NAMES = ("SIGTERM", "SIGHUP", "SIGUSR1")  # beside SIGINT; Windows lacks the last two
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


def require_signals() -> None:
    """Raises WsnasError on Windows, which lacks what stops and resumes jobs."""
    if sys.platform == "win32":
        raise WsnasError("wsnas does not run on Windows itself: use it in WSL (Windows Subsystem for Linux)")


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler that makes any signal a KeyboardInterrupt, as Python's own does for Ctrl-C."""
    raise KeyboardInterrupt


def heard() -> list[signal.Signals]:
    """Those of ``SIGNALS`` that are not ignored, as nohup ignores SIGHUP; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """In the block these signals call ``handler``; then what they called before."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """In the block the signals raise KeyboardInterrupt."""
    with handling(heard(), interrupt):
        yield


@contextmanager
def stopped_in_a_job() -> Iterator[None]:
    """For a pool's worker: in the block Ctrl-C and the signals raise KeyboardInterrupt, whatever they do otherwise."""
    with handling((signal.SIGINT, *SIGNALS), interrupt):
        yield


@contextmanager
def postponed() -> Iterator[None]:
    """In the block Ctrl-C and the signals wait, in the processes that it starts until they call ``let_through``.

    They act at the block's end. Outside the main thread, which receives no signals, only the processes wait.
    """
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    try:
        with handling([signal.SIGINT, *heard()] if main else [], lambda number, _: came.append(number)):
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *SIGNALS))
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    finally:
        for number in came:
            signal.raise_signal(number)


def let_through() -> None:
    """Ends, in a process that was started in ``postponed``, the wait of the signals."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, *SIGNALS))
