"""The second wall: a process with limits."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from wsnas.errors import WorkerLost, WsnasError
from wsnas.files import at_most, read_file
from wsnas.isolation import apart


def pid(_: None) -> int:
    return os.getpid()


def takes(size: int) -> int:
    return len(bytearray(size))


def refuses(name: str) -> None:
    raise WsnasError(f"{name} is no table")


def dies(number: int) -> None:
    os.kill(os.getpid(), number)


def test_it_is_another_process_and_answers() -> None:
    assert apart(pid, None) != os.getpid()
    assert apart(takes, 1000) == 1000


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(WsnasError, match="x is no table"):
        apart(refuses, "x")
    if sys.platform == "linux":  # elsewhere memory is not limited
        with pytest.raises(MemoryError):
            apart(takes, 8 << 30, memory=100 << 20)  # more than what earlier tests freed and this process kept
    assert apart(takes, 300 << 20, memory=400 << 20) == 300 << 20


def test_its_death_and_its_slowness_are_sentences() -> None:
    with pytest.raises(WorkerLost, match="exit code -9"):
        apart(dies, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(WsnasError, match=r"longer than 0\.2 s"):
        apart(time.sleep, 60, seconds=0.2)
    assert time.monotonic() - started < 20


def test_where_processes_are_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on other systems; the function is one that another process can import."""
    monkeypatch.setattr("sys.platform", "darwin")
    assert apart(eval, "__import__('os').getpid()") != os.getpid()
    with pytest.raises(ZeroDivisionError):
        apart(eval, "1 / 0")


def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(WsnasError, match="not a regular file"):
            read_file(path, 10)
    (tmp_path / "file").write_bytes(b"x" * 11)
    with pytest.raises(WsnasError, match="more than"):
        read_file(tmp_path / "file", 10)
    assert read_file(tmp_path / "file", 11) == b"x" * 11
    with open("/dev/zero", "rb") as endless, pytest.raises(WsnasError, match="more than 3 MB"):
        at_most(endless, 3_000_000, "endless")
