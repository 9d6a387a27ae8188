"""What is shown while something runs, where nobody looks and where somebody does."""

from __future__ import annotations

import itertools
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_space import TOY

from wsnas.evaluation import evaluate, fill
from wsnas.progress import duration, progress
from wsnas.supernet import train_supernet


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the seconds that have passed."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passed(seconds: float) -> None:
        now[0] = 100.0 + seconds

    return passed


def test_a_log_gets_a_line_now_and_then(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    """A step a second for an hour: about thirty lines, each with what is left."""
    with progress("toy supernet") as report:
        for step in range(1, 3601):
            clock(step)
            report(step, 3600, "steps, epoch 1 of 1, loss 2.302")
    out, err = capsys.readouterr()
    lines = [line.split(" ", 1)[1] for line in err.splitlines()]
    assert out == ""
    assert lines[0] == "toy supernet: 10 of 3600 steps, epoch 1 of 1, loss 2.302, 60 min left"
    assert 15 < len(lines) < 40
    steps = [int(line.split()[2]) for line in lines]
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 600


def test_what_is_short_says_nothing(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("toy") as report:
        clock(9)
        report(1, 2, "")
        report(2, 2, "")
    assert capsys.readouterr() == ("", "")


def test_a_resumed_run_says_where_it_continues(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The time left counts this session's steps only: 10 in 20 s, 420 to go."""
    with progress("toy") as report:
        clock(2)
        report(491, 920, "")
        clock(20)
        report(500, 920, "steps, epoch 22 of 40")
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["toy: continues at 490 of 920", "toy: 500 of 920 steps, epoch 22 of 40, 14 min left"]


def test_rows_that_are_there_are_no_work_of_this_session(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 1,020 networks 1,000 are measured already: the others take a second each, not a fiftieth of one."""
    rows = {str(i): i for i in range(1000)}

    def compute(name: str, one: int) -> int:
        clock(float(one - 989))
        return one

    with progress("toy") as report:
        fill(rows, {str(i): i for i in range(1020)}, compute, "networks", report)
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines[:2] == ["toy: continues at 1000 of 1020", "toy: 1001 of 1020 networks"]
    assert lines[2].endswith(", 9 s left")
    assert list(rows.values()) == [*range(1020)]


def test_what_is_all_there_does_not_continue(capsys: pytest.CaptureFixture[str]) -> None:
    """As the scores of an earlier evaluation, which are reported at once."""
    with progress("toy") as report:
        report(12, 12, "submodels")
    assert capsys.readouterr() == ("", "")


def test_what_comes_before_the_first_step_is_not_its_pace(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading the data took 60 s, a step takes 2: not 83 hours for 5,000, but 3."""
    with progress("toy") as report:
        for step in range(1, 13):
            clock(60 + 2 * step)
            report(step, 5000, "steps")
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["toy: 1 of 5000 steps", "toy: 9 of 5000 steps, 2 h 46 min left"]


def test_only_the_leader_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with progress("toy") as report:
        report(491, 920, "")
    assert capsys.readouterr() == ("", "")


def test_a_notebook_gets_a_bar_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``train_supernet`` and ``evaluate`` draw one without being asked; a given report replaces it."""
    drawn: list[str] = []

    class Handle:
        def update(self, shown: Any) -> None:
            drawn.append(shown._repr_html_())

    ipython, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=True)  # type: ignore[attr-defined]
    shown.display = lambda *_, **__: Handle()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    supernet = train_supernet(TOY, out=tmp_path / "run")
    assert f'<progress value="{supernet.step}" max="{supernet.step}"></progress>' in drawn[-1]
    assert drawn[-1].startswith("toy supernet ")
    assert "loss " in drawn[-1]
    evaluate(supernet, [next(iter(TOY))])
    assert drawn[-1] == 'evaluate <progress value="1" max="1"></progress> 1 of 1 submodels'
    before = len(drawn)
    evaluate(supernet, [next(iter(TOY))], report=lambda *_: None)
    assert len(drawn) == before


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (99, "99 s"), (125, "2 min"), (5400, "90 min"), (12000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
