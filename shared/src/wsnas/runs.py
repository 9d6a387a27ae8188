"""A run directory: a run's settings, progress and results.

    run.json          identity (space, recipe, seed, paths ...), environment and command
    checkpoint.pt     weights, optimizer and step: replaced whole, never written in place
    metrics.jsonl     one line per epoch, deterministic; cut back to the checkpoint on resume
    records.sqlite    one row per evaluation or training, committed at once or, if they are quick, every second
    sessions.jsonl    when, where and how long each session ran, and from which step to which
    lock              held by the one process that writes

A run can be resumed only with the same identity: a checkpoint of another recipe is refused, and so are other data.
A run of which nothing has come, because its options could not be trained, makes way for another.
For a data set that is a file or a folder, the identity holds a fingerprint of its content. Every file of results
carries checksums, which are compared when it is read.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from wsnas.environment import command_line, environment
from wsnas.errors import Busy, WsnasError, of_the_gpu, short_of_memory
from wsnas.files import atomic_write, cannot_write, read_file
from wsnas.recipe import as_if_in_place

if TYPE_CHECKING:
    import torch  # imported where it is used: a list of runs does without

FORMAT = 3  # of run.json
LARGEST = {"run.json": 1 << 24, "metrics.jsonl": 1 << 28, "checkpoint.pt": 1 << 35}  # bytes
CRC = "crc"
STARTED = ("environment", "command")  # what run.json says of the run's start
RESULTS = ("checkpoint.pt", "metrics.jsonl", "records.sqlite")
ASKED = ("architecture", "request")  # rows of what a ground truth is asked for, before any result
WRITTEN = (*RESULTS, "sessions.jsonl")
OfRecipe = Callable[[Mapping[str, Any]], Mapping[str, Any]]
COMMIT_SECONDS = 1.0  # between two commits of rows that come quickly
PUBLISHED = ("table.parquet", "table.csv", "curves.parquet", "README.md")  # from a run of ground truth


@dataclass
class _Sitting:
    """Whether this process writes the run now, its connection to the records, opened when first used, and the steps of
    the checkpoint as the session found and as it left it.
    """

    held: bool = False
    records: sqlite3.Connection | None = None
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Run:
    """One run directory. Create it with ``Run.open`` (to write) or ``Run.read``."""

    path: Path
    identity: Mapping[str, Any]
    recipe: Mapping[str, Any]  # as last given, with the fields that do not affect its weights
    _sitting: _Sitting = field(default_factory=_Sitting, repr=False, compare=False)

    @staticmethod
    def open(
        path: Path | str, identity: Mapping[str, Any], recipe: Mapping[str, Any], of_recipe: OfRecipe | None = None
    ) -> Run:
        """The run at ``path``, created, or resumed with those fields of ``recipe`` that are not in its identity.

        ``of_recipe``: the part of a stored recipe that belongs to an identity, which leaves out defaults. Raises
        WsnasError if the directory holds another run with weights, metrics or records, or one of another default, or
        is none but holds files of names that a run writes.
        """
        path = Path(path)
        identity, recipe = json.loads(json.dumps([identity, recipe]))  # tuples become lists, as when read back
        if not (path / "run.json").exists():
            created = Run(path, identity, recipe)
            created._require_nothing_foreign()  # before there is a lock in it, and again when it is held
            with created.writing():
                if not (path / "run.json").exists():  # nobody was faster
                    created._require_nothing_foreign()
                    return created._begun()
        existing = Run.read(path)
        moved = as_if_in_place(identity, existing.identity)
        if (difference := _first_difference(existing.identity, moved)) is not None:
            if existing._is_empty():
                with existing.writing():
                    if existing._is_empty() and Run.read(path) == existing:  # still
                        (path / "sessions.jsonl").unlink(missing_ok=True)
                        existing.forget_records()
                        return Run(path, identity, recipe)._begun()
            name, there, here = difference
            if name == "data":
                existing.require_data(identity)
            raise WsnasError(
                f"{path} holds another run: its {name} is {there}, yours is {here}; "
                "choose another directory with --out, or use that run's options"
            )
        if existing.recipe == recipe:
            return existing
        own = existing.identity.get("recipe")
        if of_recipe is not None:
            with suppress(WsnasError):  # a field was renamed since: the identities alone must do
                own = json.loads(json.dumps(of_recipe(existing.recipe)))
        if own is not None and (changed := _first_difference(existing.identity["recipe"], own)) is not None:
            name, _, stored = changed
            raise WsnasError(
                f"{path} holds another run: its {name} is {stored}, which was the default when it began; choose "
                "another directory with --out"
            )
        with existing.writing():
            described = _unsealed_file(path / "run.json") | {"format": FORMAT, "recipe": recipe}
            atomic_write(path / "run.json", json.dumps(sealed(described), indent=1).encode())
        return Run(path, existing.identity, recipe)

    def _begun(self) -> Run:
        """The run, with its run.json written."""
        described = {"format": FORMAT, "identity": self.identity, "recipe": self.recipe}
        described |= {"environment": environment(), "command": command_line()}
        atomic_write(self.path / "run.json", json.dumps(sealed(described), indent=1).encode())
        return self

    def _require_nothing_foreign(self) -> None:
        """Raises WsnasError if a directory that is no run holds files of names that this run writes."""
        own = (*WRITTEN, *PUBLISHED) if self.identity.get("kind") == "ground truth" else WRITTEN
        foreign = next((name for name in own if (self.path / name).exists()), None)
        if foreign and not (self.path / "run.json").exists():
            raise WsnasError(f"{self.path} holds {foreign} but no run.json, so it is no run: choose another --out")

    def _is_empty(self) -> bool:
        """Whether the run has no results, nor a ground truth's published files or trainings' checkpoints."""
        trainings = self.path / "trainings"
        begun = trainings.is_dir() and any(trainings.iterdir())
        files = {*RESULTS, *PUBLISHED} - {"records.sqlite"}
        return not (begun or any((self.path / name).exists() for name in files) or {*self.kinds()} - {*ASKED})

    @staticmethod
    def read(path: Path | str) -> Run:
        """The run at ``path``. Raises WsnasError if there is none."""
        path = Path(path)
        try:
            stored = json.loads(read_file(path / "run.json", LARGEST["run.json"]))
            if (written := dict(stored)["format"]) != FORMAT:
                raise WsnasError(
                    f"{path} was written by another version of wsnas (format {written}, here {FORMAT}): train it "
                    "again, or use the version that wrote it"
                )
            described = unsealed(stored)
            if unknown := sorted(described.keys() - {"format", "identity", "recipe", *STARTED}):
                raise ValueError(f"it has an unknown part, {unknown[0]}")  # its checksum's name may be damaged
            return Run(path, {**described["identity"]}, {**described["recipe"]})
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WsnasError(f"{path} is not a run directory (it has no run.json)") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise WsnasError(
                f"{path / 'run.json'} cannot be read ({str(error)[:200]}); the run cannot be resumed"
            ) from error

    def require_data(self, now: Mapping[str, Any]) -> None:
        """Raises WsnasError if the run's data have changed. ``now``: what ``SearchSpace.data_identity`` returns."""
        there, here = self.identity.get("data"), now.get("data")
        if there is not None and here is not None and there != here:
            raise WsnasError(
                f"{self.path} was made with other data: the files of {self.recipe.get('dataset')} have changed since "
                f"(fingerprint {there}, now {here}); restore them, or start a new run with another --out"
            )

    def started(self) -> dict[str, Any]:
        """The ``environment`` (machine and versions) and the ``command`` that started the run."""
        described = _unsealed_file(self.path / "run.json")
        return {name: described.get(name, {} if name == "environment" else "") for name in STARTED}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock: a second writer is refused at once; a killed process releases its lock."""
        lock = filelock.FileLock(str(self.path / "lock"), timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            finally:
                if isinstance(lock, filelock.SoftFileLock):  # newer filelocks' makeshift, which a killed process leaves
                    lock.release()
                    raise NotImplementedError
        except filelock.Timeout as error:
            raise Busy(
                f"{self.path} is being written by another process, which holds {self.path / 'lock'}; wait for it or "
                "choose another --out"
            ) from error
        except (OSError, NotImplementedError) as error:  # filelock 3.13 raises the latter
            if isinstance(error, OSError) and error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise cannot_write(self.path / "lock", error) from error
            raise WsnasError(
                f"cannot lock {self.path / 'lock'}: its file system has no locks; choose another --out"
            ) from error
        try:
            for left in self.path.glob(".checkpoint.pt.*.part"):
                left.unlink(missing_ok=True)  # from a process killed while writing
            self._sitting.held = True
            yield
        finally:
            if self._sitting.records is not None:
                self._sitting.records.close()
            self._sitting.held, self._sitting.records = False, None
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
        import torch

        buffer = io.BytesIO()  # serialised in memory first, so a full disk fails where it can be handled
        torch.save({"format": FORMAT, "identity": json.dumps(self.identity, sort_keys=True), **state}, buffer)
        if not (self.path / "checkpoint.pt").exists():  # better now than after hours
            try:
                torch.load(io.BytesIO(buffer.getvalue()), map_location="meta", weights_only=True)
            except Exception as error:  # it has a type of its own for pickles, and others
                raise WsnasError(
                    "the model's get_extra_state returns something that no checkpoint can hold: it may return tensors, "
                    "numbers, strings, and lists, tuples and dicts of them"
                ) from error
        atomic_write(self.path / "checkpoint.pt", _with_digest(buffer.getvalue()))
        self._sitting.last = state.get("step", 0)

    def load_checkpoint(self, device: torch.device, data: bytes | None = None) -> dict[str, Any] | None:
        """The last checkpoint, or None. Only tensors and plain containers are read, never code.

        ``data``: the file's content, if it is on another machine.
        """
        path = self.path / "checkpoint.pt"
        if data is None and not path.exists():
            return None
        import torch

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's about the pickle protocol: the error below says more
                stored = read_file(path, LARGEST["checkpoint.pt"]) if data is None else data
                content = io.BytesIO(_checked_digest(stored))
                state = dict(torch.load(content, map_location=device, weights_only=True))
            recorded, here = dict(json.loads(state["identity"])), json.loads(json.dumps(self.identity))
        except WsnasError:
            raise
        except Exception as error:  # a malformed pickle can raise nearly anything
            if short_of_memory(error) or of_the_gpu(error):  # no fault of the file's
                raise
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
        if self._sitting.held:
            self._sitting.first = self._sitting.last = state.get("step", 0)
        return state

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Around loading the checkpoint's content: an error about other shapes or missing parts is one sentence."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if short_of_memory(error) or of_the_gpu(error):
                raise
            reason = (str(error).strip().splitlines() or [""])[-1].strip()[:200]
            raise WsnasError(
                f"the checkpoint in {self.path} does not fit the network of {self.recipe.get('dataset')} as it is now: "
                f"did its number of classes or words change? ({type(error).__name__}: {reason})"
            ) from error

    # metrics --------------------------------------------------------------------------------------

    def append(self, name: str, line: Mapping[str, Any]) -> int:
        """Adds one JSON line to ``name`` (e.g. metrics.jsonl) and returns the file's new size in bytes."""
        path = self.path / name
        try:
            with path.open("a") as file:
                file.write(json.dumps(sealed(line)) + "\n")
                file.flush()
                os.fsync(file.fileno())  # before the checkpoint that counts it
            return path.stat().st_size
        except OSError as error:
            raise cannot_write(path, error) from error

    def cut_back(self, name: str, size: int) -> None:
        """Drops the lines written after a checkpoint; the resumed run writes them again.

        Raises WsnasError if the lines before it are not there.
        """
        path = self.path / name
        content = b"".join(self._lines(name))
        if len(content) < size or (size and content[size - 1 : size] != b"\n"):
            raise WsnasError(
                f"{path} is damaged: it lacks lines that the checkpoint counts; move checkpoint.pt and {name} away to "
                "restart this run"
            )
        if len(content) > size:
            os.truncate(path, size)
        self.metrics()

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: one per epoch. Raises WsnasError if one is damaged."""
        found: list[dict[str, Any]] = []
        for number, line in enumerate(self._lines("metrics.jsonl"), start=1):
            if not line.endswith(b"\n"):
                break  # a truncated line is written again
            try:
                found.append(unsealed(json.loads(line)))
                if not all(isinstance(value, int | float) for value in found[-1].values()):
                    raise ValueError("it holds something else than numbers")
            except (ValueError, TypeError, RecursionError, OverflowError) as error:
                raise WsnasError(
                    f"{self.path / 'metrics.jsonl'}, line {number} is damaged ({str(error)[:100]}); move checkpoint.pt "
                    "and metrics.jsonl away to restart this run"
                ) from error
        return found

    def epochs(self) -> tuple[int, int]:
        """How many epochs a supernet or a network has trained for, and how many its recipe asks for."""
        training = self.recipe["supernet" if self.identity["kind"] == "supernet" else "standalone"]
        last = self.metrics()[-1:]
        return int(last[0]["epoch"]) if last else 0, int(training["epochs"])

    def _lines(self, name: str) -> list[bytes]:
        path = self.path / name
        try:
            # not splitlines, which takes a damaged byte for the end of a line that was cut short
            return io.BytesIO(read_file(path, LARGEST["metrics.jsonl"])).readlines() if path.exists() else []
        except OSError as error:
            raise WsnasError(f"{path} cannot be read ({error.strerror})") from error

    def seconds(self) -> float | None:
        """The length of all sessions that trained; None if it is not known, because one of them was killed.

        Within a session: of those that it continues.
        """
        total, done, known = 0.0, 0, True
        for line in self._lines("sessions.jsonl"):
            with suppress(ValueError, KeyError, TypeError):  # cut short, or damaged: only a number that is reported
                session = json.loads(line)
                seconds, (first, last) = float(session["seconds"]), session["steps"]
                if first < last:  # from the beginning, what was trained before is gone
                    total, known = (seconds, True) if first == 0 else (total + seconds, known and first == done)
                    done = last
        if self._sitting.held:
            if self._sitting.first == 0:  # it continues none
                return 0.0
            known &= self._sitting.first == done
        return total if known else None

    # records --------------------------------------------------------------------------------------

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on the connection of this sitting if the run is being written, else on one of its own."""
        path = self.path / "records.sqlite"
        try:
            if not self._sitting.held:
                with closing(_connected(path)) as database, database:
                    yield database
                return
            if self._sitting.records is None:
                self._sitting.records = _connected(path)
            with self._sitting.records as database:
                yield database
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise WsnasError(
                f"cannot use {path} ({error}): committed rows are intact; free some disk space, or move the "
                "file away if it is damaged, then run the same command again"
            ) from error

    def _read(self, query: str, *values: str) -> list[Any]:
        """The rows of a query; nothing is written, so the run may be another user's, or on a read-only disk."""
        path = self.path / "records.sqlite"
        if not path.exists():
            return []
        if self._sitting.held:
            with self._database() as database:
                return database.execute(query, values).fetchall()

        def rows(file: Path, how: str = "mode=ro") -> list[Any]:
            _require_more_than_a_byte(file)
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?{how}", uri=True, timeout=30)) as connection:
                _require_intact(connection)
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone():
                    return []
                return connection.execute(query, values).fetchall()

        try:
            try:
                return rows(path)
            except sqlite3.OperationalError as error:  # SQLite wants to write beside the file even to read it:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                    raise
                logs = [path.with_name(f"records.sqlite-{log}") for log in ("wal", "journal")]  # of a killed process
                if not any(log.exists() and log.stat().st_size for log in logs):
                    return rows(path, "immutable=1")
                with tempfile.TemporaryDirectory() as folder:
                    for part in self.path.glob("records.sqlite*"):
                        if not part.name.endswith("-shm"):
                            shutil.copyfile(part, Path(folder) / part.name)
                    return rows(Path(folder) / path.name, "mode=rw")
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise WsnasError(
                f"cannot read {path} ({error}): it is unchanged; if it is damaged, move it away"
            ) from error

    def record(self, kind: str, key: str, data: Mapping[str, Any], status: str = "ok") -> None:
        """Commits one row at once. A row of the same kind and key is replaced."""
        self._insert([(kind, key, status, json.dumps(data))])

    def record_all(self, kind: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Commits many rows of one kind, key -> data (with their ``status``, if it is not ok), in one transaction."""
        self._insert((kind, key, data.get("status", "ok"), json.dumps(data)) for key, data in rows.items())

    @contextmanager
    def recording(self, kind: str) -> Iterator[Callable[[str, Mapping[str, Any], str], None]]:
        """A function like ``record`` without the kind, for rows that come quickly.

        A commit waits for the disk, often longer than it takes to score a submodel, so they are committed together:
        when a second has passed since the last commit, and at the end, even by an error. ``kill -9`` loses the work
        of a second.
        """
        rows: list[tuple[str, str, str, str]] = []
        committed = time.monotonic()

        def commit() -> None:
            nonlocal committed
            self._insert(rows)
            rows.clear()
            committed = time.monotonic()

        def record(key: str, data: Mapping[str, Any], status: str) -> None:
            rows.append((kind, key, status, json.dumps(data)))
            if time.monotonic() - committed >= COMMIT_SECONDS:
                commit()

        try:
            yield record
        finally:
            if rows:
                commit()

    def _insert(self, rows: Iterable[tuple[str, str, str, str]]) -> None:
        with self._database() as database:
            values = ((*row, _crc(row)) for row in rows)
            database.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", values)

    def forget_records(self) -> None:
        """Deletes all rows."""
        if self.kinds():
            with self._database() as database:
                database.execute("DELETE FROM records")

    def forget(self, kind: str, keys: Iterable[str]) -> None:
        """Deletes some rows of one kind."""
        with self._database() as database:
            database.executemany("DELETE FROM records WHERE kind = ? AND key = ?", ((kind, key) for key in keys))

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """Key -> row of one kind, with its ``status``; empty if there are none."""
        found: dict[str, dict[str, Any]] = {}
        wanted = "SELECT key, status, data, crc FROM records WHERE kind = ?"
        for key, status, data, crc in self._read(wanted, kind):
            try:
                if crc != _crc((kind, key, status, data)):
                    raise ValueError("its checksum does not match")
                found[key] = {"status": status, **json.loads(data)}
            except (ValueError, TypeError, RecursionError) as error:
                raise WsnasError(
                    f"{self.path / 'records.sqlite'}: the row {str(key)[:100]} is damaged ({str(error)[:100]}); move "
                    "the file away, and run the same command again"
                ) from error
        return found

    def kinds(self) -> list[str]:
        """All kinds of rows in the run, sorted."""
        return [kind for (kind,) in self._read("SELECT DISTINCT kind FROM records ORDER BY kind")]

    @contextmanager
    def session(self, device: torch.device) -> Iterator[None]:
        """Holds the lock, and logs the session when it ends, even by an error."""
        started, ended = time.time(), "finished"
        self._sitting.first = self._sitting.last = 0
        with self.writing():
            if Run.read(self.path).identity != self.identity:
                raise Busy(f"{self.path} was given to another run just now: choose another --out")
            try:
                yield
            except BaseException as error:
                ended = type(error).__name__
                raise
            finally:
                start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
                notes = {"device": str(device), "ended": ended, "seconds": round(time.time() - started, 1)}
                notes["steps"] = [self._sitting.first, self._sitting.last]
                self.append("sessions.jsonl", {"started": start, **notes, **environment()})


def _unsealed_file(path: Path) -> dict[str, Any]:
    return unsealed(json.loads(read_file(path, LARGEST["run.json"])))


def _first_difference(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> tuple[str, str, str] | None:
    """The name of the first field that differs, and its values as text; identities leave out defaults.

    What a run is comes first, then its space: other differences follow from these.
    """
    for name in sorted({*a, *b}, key=lambda name: (name != "kind", name != "space", name)):
        if (prefix, name) == ("", "data") and not (name in a and name in b):
            continue  # a run from before there were fingerprints, or data that are not here
        x, y = a.get(name), b.get(name)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            if (inner := _first_difference(x, y, f"{prefix}{name}.")) is not None:
                return inner
        elif x != y or (name in a) != (name in b):
            there, here = (repr(part[name]) if name in part else "the default" for part in (a, b))
            return f"{prefix}{name}", there, here
    return None


def _connected(path: Path) -> sqlite3.Connection:
    """A connection for writing to a database of records, which is found intact."""
    _require_more_than_a_byte(path)
    connection = sqlite3.connect(path, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode=TRUNCATE")  # a write-ahead log does not work on network filesystems
        connection.execute(
            "CREATE TABLE IF NOT EXISTS records "
            "(kind TEXT, key TEXT, status TEXT, data TEXT, crc TEXT, PRIMARY KEY (kind, key))"
        )
        _require_intact(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_more_than_a_byte(path: Path) -> None:
    if path.exists() and path.stat().st_size == 1:  # which SQLite takes for an empty database
        raise sqlite3.DatabaseError("it is cut short")


def _require_intact(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


MARK = b"wsnas blake2b "


def _with_digest(zipped: bytes) -> bytes:
    """A zip file with the digest of its bytes as its comment."""
    comment = MARK + hashlib.blake2b(zipped, digest_size=16).hexdigest().encode()
    return zipped[:-2] + len(comment).to_bytes(2, "little") + comment


def _checked_digest(content: bytes) -> bytes:
    """The zip file without its digest. Raises ValueError if there is none, or another file's."""
    zipped, _, digest = content.rpartition(MARK)
    zipped = zipped[:-2] + b"\0\0"
    if hashlib.blake2b(zipped, digest_size=16).hexdigest().encode() != digest:
        raise ValueError("its checksum does not match")
    return zipped


def sealed(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with its checksum."""
    return {**line, CRC: _crc(line)}


def unsealed(stored: Any) -> dict[str, Any]:
    """The line without its checksum. Raises ValueError if it is none of this line."""
    if not isinstance(stored, dict):
        raise ValueError("it is no object")
    line = {name: value for name, value in stored.items() if name != CRC}
    if stored.get(CRC) != _crc(line):
        raise ValueError("its checksum does not match")
    return line


def _crc(value: Any) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"
