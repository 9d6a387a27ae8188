"""Progress: a bar in a terminal or a notebook, and a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

Report = Callable[[int, int, str], None]  # (steps done, all steps, note), after every step

FIRST, LONGEST = 10.0, 600.0  # seconds until a log's first line, and at most between two of them


def is_leader() -> bool:
    """Whether this process prints: under torchrun only rank 0 does. A RANK without other processes means nothing."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Yields a function ``(done, total, note)`` that shows how far ``what`` is; it says where a stopped run continues.

    A bar where someone looks: in a terminal or a notebook. Elsewhere stderr gets a line after 10 seconds, then when a
    quarter of the time so far has passed again, at least every 10 minutes. Under torchrun only rank 0 shows anything.
    """
    if not is_leader():
        yield lambda done, total, note: None
    elif in_notebook():
        yield _Notebook(what).report
    elif sys.stderr.isatty():
        with _terminal(what) as report:
            yield report
    else:
        yield _Log(what).report


@contextmanager
def bar_in_notebook(report: Report | None, what: str) -> Iterator[Report | None]:
    """The given report; without one, a bar if this is a notebook."""
    if report is not None or not in_notebook():
        yield report
    else:
        with progress(what) as bar:
            yield bar


def duration(seconds: float) -> str:
    """A time to read, e.g. ``35 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _terminal(what: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    description = TextColumn("{task.description}", markup=False)
    columns = (TextColumn(what, markup=False), BarColumn(), MofNCompleteColumn(), description, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task, first = bar.add_task("", total=None), True

        def report(done: int, total: int, note: str) -> None:
            nonlocal first
            if first and 1 < done < total:
                bar.console.print(f"{what}: continues at {done - 1} of {total}", markup=False, highlight=False)
            first = False
            bar.update(task, completed=done, total=total, description=note)

        yield report


class _Pace:
    """How long a step takes since the first of this session, which also loads data and compiles."""

    def __init__(self, done: int, total: int) -> None:
        self.first, self.since = done, time.monotonic()
        self.before = done - 1 if done < total else 0  # steps done in earlier sessions; nothing continues at the end

    def left(self, done: int, total: int) -> str:
        """E.g. ``, 12 min left``; nothing after one step, or at the end."""
        if done == self.first or done == total:
            return ""
        return f", {duration((time.monotonic() - self.since) / (done - self.first) * (total - done))} left"


class _Log:
    """Lines on stderr."""

    def __init__(self, what: str) -> None:
        self.what, self.started = what, time.monotonic()
        self.due = FIRST  # seconds after the start
        self.pace: _Pace | None = None

    def report(self, done: int, total: int, note: str) -> None:
        if self.pace is None:
            self.pace = _Pace(done, total)
            if self.pace.before:
                self._say(f"continues at {self.pace.before} of {total}")
        elapsed = time.monotonic() - self.started
        if elapsed >= self.due and done < total:
            self._say(f"{done} of {total} {note}{self.pace.left(done, total)}")
            self.due = elapsed + min(LONGEST, max(FIRST, elapsed / 4))

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.what}: {text}", file=sys.stderr, flush=True)


class _Notebook:
    """A bar in the cell's output, redrawn at most five times a second."""

    def __init__(self, what: str) -> None:
        from IPython.display import display

        self.what, self.drawn, self.html, self.text = what, 0.0, "", what
        self.pace: _Pace | None = None
        self.handle = display(self, display_id=True)

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text

    def report(self, done: int, total: int, note: str) -> None:
        self.pace = self.pace or _Pace(done, total)
        now = time.monotonic()
        if done < total and now - self.drawn < 0.2:
            return
        self.drawn = now
        continued = f", continued at {self.pace.before}" if self.pace.before else ""
        said = f"{done} of {total} {note}{continued}{self.pace.left(done, total)}"
        self.text = f"{self.what}: {said}"
        self.html = f'{escape(self.what)} <progress value="{done}" max="{total}"></progress> {escape(said)}'
        self.handle.update(self)
