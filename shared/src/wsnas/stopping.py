"""The signals that end a run early: of the keyboard, of Slurm and spot machines, of a terminal that closes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGHUP", "SIGUSR1")  # beside SIGINT; Windows lacks the last two
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
MASKS = hasattr(signal, "pthread_sigmask")  # not on Windows


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler that makes any signal a KeyboardInterrupt, as Python's own does for Ctrl-C."""
    raise KeyboardInterrupt


def heard() -> list[signal.Signals]:
    """Those of ``SIGNALS`` that are not ignored, as nohup ignores SIGHUP; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """In the block the signals raise KeyboardInterrupt."""
    before = {number: signal.signal(number, interrupt) for number in heard()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopped_in_a_job() -> Iterator[None]:
    """For a pool's worker: in the block Ctrl-C and the signals raise KeyboardInterrupt, whatever they do otherwise."""
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, *SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def postponed() -> Iterator[None]:
    """In the block Ctrl-C and the signals wait, in the processes that it starts until they call ``let_through``.

    They act at the block's end. Outside the main thread, which receives no signals, only the processes wait.
    """
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGINT, *heard()] if main else []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *SIGNALS)) if MASKS else ()
    try:
        yield
    finally:
        if MASKS:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for postponed_one in came:
            signal.raise_signal(postponed_one)


def let_through() -> None:
    """Ends, in a process that was started in ``postponed``, the wait of the signals."""
    if MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, *SIGNALS))
