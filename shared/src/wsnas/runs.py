"""A run directory: a run's settings, progress and results.

    run.json          identity (space, recipe, seed, paths ...), environment and command
    checkpoint.pt     weights, optimizer and step: replaced whole, never written in place
    metrics.jsonl     one line per epoch, deterministic; cut back to the checkpoint on resume
    records.sqlite    one row per evaluation or training, committed at once (WAL)
    sessions.jsonl    when, where and how long each session ran
    lock              held by the one process that writes

A run can be resumed only with the same identity: a checkpoint of another recipe is refused.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import torch

from wsnas.environment import command_line, environment
from wsnas.errors import WsnasError
from wsnas.files import atomic_write, cannot_write

FORMAT = 2


@dataclass(frozen=True)
class Run:
    """One run directory. Create it with ``Run.open`` (to write) or ``Run.read``."""

    path: Path
    identity: Mapping[str, Any]
    recipe: Mapping[str, Any]  # at the run's start, with the fields that do not affect its weights

    @staticmethod
    def open(path: Path, identity: Mapping[str, Any], recipe: Mapping[str, Any]) -> Run:
        """The run at ``path``, created or resumed. Raises WsnasError if the directory holds another run."""
        identity = json.loads(json.dumps(identity))  # tuples become lists, as when read back
        if (path / "run.json").exists():
            existing = Run.read(path)
            if (difference := _first_difference(existing.identity, identity)) is not None:
                name, there, here = difference
                raise WsnasError(
                    f"{path} holds another run: its {name} is {there}, yours is {here}; "
                    "choose another directory with --out, or use that run's options"
                )
            return existing
        described = {"format": FORMAT, "identity": identity, "recipe": recipe}
        described |= {"environment": environment(), "command": command_line()}
        atomic_write(path / "run.json", json.dumps(described, indent=1).encode())
        return Run(path, identity, recipe)

    @staticmethod
    def read(path: Path) -> Run:
        """The run at ``path``. Raises WsnasError if there is none."""
        try:
            described = json.loads((path / "run.json").read_text())
            if described["format"] != FORMAT:
                raise WsnasError(
                    f"{path} was written by another version of wsnas (format {described['format']}, here {FORMAT}): "
                    "train it again, or use the version that wrote it"
                )
            return Run(path, dict(described["identity"]), dict(described["recipe"]))
        except FileNotFoundError as error:
            raise WsnasError(f"{path} is not a run directory (it has no run.json)") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WsnasError(f"{path / 'run.json'} cannot be read ({error}); the run cannot be resumed") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock: a second writer is refused at once; a killed process releases its lock."""
        lock = filelock.FileLock(str(self.path / "lock"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise WsnasError(
                f"{self.path} is being written by another process; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise cannot_write(self.path / "lock", error) from error
        try:
            for left in self.path.glob(".checkpoint.pt.*.part"):
                left.unlink(missing_ok=True)  # from a process killed while writing
            yield
        finally:
            lock.release()

    @staticmethod
    def remove(path: Path) -> None:
        """Deletes the run at ``path``, if there is one. Refused while another process writes to it."""
        if path.exists():
            with Run(path, {}, {}).writing():
                shutil.rmtree(path)

    # checkpoint -----------------------------------------------------------------------------------

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint. ``state``: tensors, numbers, strings and containers of them."""
        buffer = io.BytesIO()  # serialised in memory first, so a full disk fails where it can be handled
        torch.save({"format": FORMAT, "identity": json.dumps(self.identity, sort_keys=True), **state}, buffer)
        atomic_write(self.path / "checkpoint.pt", buffer.getvalue())

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint, or None. Only tensors and plain containers are read, never code."""
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's about the pickle protocol: the error below says more
                state = dict(torch.load(path, map_location=device, weights_only=True))
            recorded, here = dict(json.loads(state["identity"])), json.loads(json.dumps(self.identity))
        except Exception as error:  # a malformed pickle can raise nearly anything
            reason = (str(error).strip().splitlines() or ["it ends too early"])[0][:120]
            raise WsnasError(
                f"{path} is not a wsnas checkpoint ({type(error).__name__}: {reason}); "
                "nothing in it was executed; move it away to restart this run"
            ) from error
        if (difference := _first_difference(recorded, here)) is not None:
            name, there, own = difference
            raise WsnasError(
                f"{path} is a checkpoint of another recipe: its {name} is {there}, this run's is {own}; move it away"
            )
        return dict(state)

    # metrics --------------------------------------------------------------------------------------

    def append(self, name: str, line: Mapping[str, Any]) -> int:
        """Adds one JSON line to ``name`` (e.g. metrics.jsonl) and returns the file's new size in bytes."""
        path = self.path / name
        try:
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            return path.stat().st_size
        except OSError as error:
            raise cannot_write(path, error) from error

    def cut_back(self, name: str, size: int) -> None:
        """Drops the lines written after a checkpoint; the resumed run writes them again."""
        path = self.path / name
        if path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    def metrics(self) -> list[dict[str, Any]]:
        return self._lines("metrics.jsonl")

    def sessions(self) -> list[dict[str, Any]]:
        return self._lines("sessions.jsonl")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]  # a truncated line is written again

    # records --------------------------------------------------------------------------------------

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        path = self.path / "records.sqlite"
        try:
            connection = sqlite3.connect(path, timeout=30)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS records "
                    "(kind TEXT, key TEXT, status TEXT, data TEXT, PRIMARY KEY (kind, key))"
                )
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise WsnasError(
                f"cannot use {path} ({error}): committed rows are intact; free some disk space, or move the "
                "file away if it is damaged, then run the same command again"
            ) from error

    def record(self, kind: str, key: str, data: Mapping[str, Any], status: str = "ok") -> None:
        """Commits one row at once. A row of the same kind and key is replaced."""
        with self._database() as database:
            database.execute(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (kind, key, status, json.dumps(data))
            )

    def record_all(self, kind: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Commits many rows of one kind, key -> data, in one transaction."""
        with self._database() as database:
            values = [(kind, key, "ok", json.dumps(data)) for key, data in rows.items()]
            database.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", values)

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """Key -> row of one kind, with its ``status``; empty if there are none."""
        if not (self.path / "records.sqlite").exists():
            return {}
        with self._database() as database:
            rows = database.execute("SELECT key, status, data FROM records WHERE kind = ?", (kind,)).fetchall()
        return {key: {"status": status, **json.loads(data)} for key, status, data in rows}

    def kinds(self) -> list[str]:
        """All kinds of rows in the run, sorted."""
        if not (self.path / "records.sqlite").exists():
            return []
        with self._database() as database:
            return [kind for (kind,) in database.execute("SELECT DISTINCT kind FROM records ORDER BY kind")]

    @contextmanager
    def session(self, device: torch.device) -> Iterator[None]:
        """Holds the lock, and logs the session when it ends, even by an error."""
        started, ended = time.time(), "finished"
        with self.writing():
            try:
                yield
            except BaseException as error:
                ended = type(error).__name__
                raise
            finally:
                start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
                notes = {"device": str(device), "ended": ended, "seconds": round(time.time() - started, 1)}
                self.append("sessions.jsonl", {"started": start, **notes, **environment()})


def _first_difference(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> tuple[str, str, str] | None:
    """The name of the first field that differs, and its values as text; identities leave out defaults."""
    for name in sorted({*a, *b}):
        x, y = a.get(name), b.get(name)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            if (inner := _first_difference(x, y, f"{prefix}{name}.")) is not None:
                return inner
        elif x != y or (name in a) != (name in b):
            there, here = (repr(part[name]) if name in part else "the default" for part in (a, b))
            return f"{prefix}{name}", there, here
    return None
