"""The run directory: identity, lock, checkpoints, records; what a full disk or a hostile file may do to it."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_space import ALL, TOY

from wsnas import environment
from wsnas.errors import Busy, WsnasError
from wsnas.files import atomic_write
from wsnas.proxies import proxy_scores
from wsnas.runs import PUBLISHED, RESULTS, WRITTEN, Run, sealed
from wsnas.standalone import train_architecture
from wsnas.supernet import load_supernet

CPU = torch.device("cpu")
RECIPE = {"dataset": "toy", "supernet": {"lr": 0.1, "batch": 16}}
IDENTITY = {"kind": "supernet", "space": "toy", "seed": 3, "recipe": RECIPE, "paths": "uniform"}
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.open(tmp_path / "run", IDENTITY, RECIPE)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# identity -----------------------------------------------------------------------------------------


def test_a_run_is_continued_by_the_same_identity_and_read_without_one(run: Run) -> None:
    for found in (Run.open(run.path, IDENTITY, RECIPE), Run.read(run.path)):
        assert found.identity == IDENTITY
        assert found.recipe == RECIPE
    written = json.loads((run.path / "run.json").read_text())
    assert written["environment"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, "seed is 3, yours is 4"),
        ({"paths": "fair"}, "paths is 'uniform'"),
        ({"recipe": {**RECIPE, "supernet": {"lr": 0.2, "batch": 16}}}, "recipe.supernet.lr is 0.1"),
        ({"recipe": {"dataset": "toy"}}, "recipe.supernet"),
        ({"candidates": "4 architectures"}, "candidates is the default"),
    ],
)
def test_another_identity_is_refused_with_the_field_that_differs(run: Run, change: dict[str, Any], named: str) -> None:
    run.append("metrics.jsonl", {"epoch": 1})
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(WsnasError) as refusal:
        Run.open(run.path, {**IDENTITY, **change}, RECIPE)
    assert named in str(refusal.value)
    assert (run.path / "run.json").read_bytes() == before


def test_a_run_of_which_nothing_came_makes_way_for_another(run: Run) -> None:
    """But not while it is written, nor for a moment after the other began."""
    other = {**IDENTITY, "seed": 4}
    with run.session(CPU), pytest.raises(Busy):
        Run.open(run.path, other, RECIPE)
    assert (run.path / "sessions.jsonl").exists()
    corrected = Run.open(run.path, other, {**RECIPE, "dataset": "more"})
    assert corrected == Run.read(run.path)
    assert corrected.identity["seed"] == 4
    assert not (run.path / "sessions.jsonl").exists()
    with pytest.raises(Busy, match="another run"), run.session(CPU):
        pass
    with corrected.writing():
        corrected.record("architecture", "a", {})  # asked for, and stopped before it was trained
    assert Run.open(run.path, IDENTITY, RECIPE).kinds() == []


@pytest.mark.parametrize("name", [*RESULTS, "table.parquet", "trainings/0-1/checkpoint.pt"])
def test_a_run_of_which_something_came_stays(run: Run, name: str) -> None:
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    if name == "records.sqlite":
        with run.writing():
            run.record("training", "a@0", {"test": 1.0})
    else:
        (run.path / name).touch()
    with pytest.raises(WsnasError, match="holds another run: its seed is 3, yours is 4"):
        Run.open(run.path, {**IDENTITY, "seed": 4}, RECIPE)
    assert Run.read(run.path) == run


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b'{"format": 1}', b'{"format": 99}', b"\xff\xfe\x00"])
def test_a_malformed_run_json_is_refused(run: Run, content: bytes) -> None:
    (run.path / "run.json").write_bytes(content)
    with pytest.raises(WsnasError):
        Run.read(run.path)
    with pytest.raises(WsnasError):
        Run.open(run.path, IDENTITY, RECIPE)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(WsnasError):
            Run.read(place)
    with pytest.raises(WsnasError, match="cannot write"):
        Run.open(tmp_path / "file", IDENTITY, RECIPE)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("supernet", name) for name in WRITTEN), *(("ground truth", name) for name in PUBLISHED)],
)
def test_another_programs_folder_is_not_taken_over(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_text("theirs")
    with pytest.raises(WsnasError, match=f"holds {name} but no run.json.*choose another --out"):
        Run.open(tmp_path, {"kind": kind}, {})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "theirs"


def test_a_run_that_was_killed_before_it_had_a_run_json_is_begun_again(tmp_path: Path) -> None:
    for left in ("lock", ".run.json.123.part", "README.md"):  # the last: what a user notes of a supernet beforehand
        (tmp_path / left).touch()
    assert Run.open(tmp_path, IDENTITY, RECIPE).identity == IDENTITY


# checkpoints --------------------------------------------------------------------------------------


def state(step: int = 1) -> dict[str, Any]:
    return {"model": {"w": torch.arange(600.0).reshape(20, 30) + step}, "step": step, "lines": [1, "a", None]}


def test_a_checkpoint_comes_back_as_it_was(run: Run) -> None:
    assert run.load_checkpoint(CPU) is None
    for step in (1, 2):
        run.save_checkpoint(state(step))
    found = run.load_checkpoint(CPU)
    assert found is not None
    assert torch.equal(found["model"]["w"], state(2)["model"]["w"])
    assert (found["step"], found["lines"]) == (2, [1, "a", None])
    assert not list(run.path.glob(".*")), "temporary files are left"


def test_the_checkpoint_of_another_recipe_is_refused(tmp_path: Path, run: Run) -> None:
    other = Run.open(tmp_path / "other", {**IDENTITY, "seed": 9}, RECIPE)
    other.save_checkpoint(state())
    (other.path / "checkpoint.pt").rename(run.path / "checkpoint.pt")
    with pytest.raises(WsnasError, match="another recipe: its seed is 9, this run's is 3"):
        run.load_checkpoint(CPU)


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, run: Run, form: str) -> None:
    victim, file = tmp_path / "victim", run.path / "checkpoint.pt"
    hostile = {"identity": json.dumps(IDENTITY), "format": 1, "model": Touch(victim), "step": 1}
    if form == "pickle":
        file.write_bytes(pickle.dumps(hostile))
        pickle.loads(file.read_bytes())
    else:
        torch.save(hostile, file)
        torch.load(file, weights_only=False)
    assert victim.exists()  # the attack works on who reads it carelessly
    victim.unlink()
    with pytest.raises(WsnasError, match="nothing in it was executed"):
        run.load_checkpoint(CPU)
    assert not victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        None,
        {},
        {"identity": 3},
        {"identity": "["},
        {"identity": "[1]"},
        {"model": {}, "step": 4},
    ],
    ids=str,
)
def test_the_checkpoint_of_another_program_is_refused(run: Run, content: Any) -> None:
    torch.save(content, run.path / "checkpoint.pt")
    with pytest.raises(WsnasError, match="not a wsnas checkpoint"):
        run.load_checkpoint(CPU)


@pytest.mark.parametrize(
    "error", [MemoryError("no"), RuntimeError("CUDA out of memory. Tried to"), RuntimeError("CUDA error: device lost")]
)
def test_a_checkpoint_is_not_blamed_for_a_full_or_lost_gpu(
    run: Run, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where it is read, nor where the network takes it: such an error is the caller's, who may try again."""

    def fails(*args: Any, **options: Any) -> Any:
        raise error

    run.save_checkpoint(state())
    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(type(error), match=str(error)):
        run.load_checkpoint(CPU)
    with pytest.raises(type(error), match=str(error)), run.fitting():
        fails()


def cut_or_overwritten(content: bytes, trial: int, chance: random.Random) -> bytes | None:
    """Two of three trials' damage: the beginning alone, or some bytes replaced. None: the third is the caller's."""
    if trial % 3 == 0:
        return content[: chance.randrange(len(content))]
    if trial % 3 == 2:
        return None
    bad = bytearray(content)
    for _ in range(chance.randrange(1, 30)):
        bad[chance.randrange(len(bad))] = chance.randrange(256)
    return bytes(bad)


def test_a_damaged_checkpoint_is_refused_or_read_but_never_a_traceback(run: Run) -> None:
    """Cut or overwritten anywhere, or replaced by noise, in 600 ways."""
    run.save_checkpoint(state())
    good, chance = (run.path / "checkpoint.pt").read_bytes(), random.Random(0)
    for trial in range(600):
        bad = cut_or_overwritten(good, trial, chance)
        bad = chance.randbytes(chance.randrange(300)) if bad is None else bad
        (run.path / "checkpoint.pt").write_bytes(bad)
        if trial % 3 == 1:
            try:
                run.load_checkpoint(CPU)
            except WsnasError:
                continue
        else:
            with pytest.raises(WsnasError, match="not a wsnas checkpoint"):
                run.load_checkpoint(CPU)


def test_loading_a_supernet_without_a_checkpoint_is_refused(run: Run, toy_installed: Path) -> None:
    Run.open(run.path.parent / "r", IDENTITY, TOY.recipes["micro"].to_json())
    with pytest.raises(WsnasError, match="no checkpoint yet"):
        load_supernet(run.path.parent / "r")
    Run.open(run.path.parent / "alone", {"kind": "stand-alone"}, {})
    with pytest.raises(WsnasError, match="stand-alone run, not a supernet"):
        load_supernet(run.path.parent / "alone")


# damage -------------------------------------------------------------------------------------------


def everything(path: Path) -> Any:
    """All that a run directory says."""
    run = Run.read(path)
    run.cut_back("metrics.jsonl", (path / "metrics.jsonl").stat().st_size)
    saved = run.load_checkpoint(CPU)
    assert saved is not None
    weights = saved["model"].pop("w").tolist()
    records = {kind: run.records(kind) for kind in run.kinds()}
    return run.identity, run.recipe, saved, weights, run.metrics(), records


def filled(path: Path) -> Run:
    run = Run.open(path, IDENTITY, RECIPE)
    with run.writing():
        for epoch in range(5):
            run.append("metrics.jsonl", {"epoch": epoch, "loss": 0.1 * epoch, "lr": 0.5})
        run.save_checkpoint(state())
        for i in range(40):
            run.record("a", f"key {i}", {"value": i / 7, "loss": None})
        run.record_all("b", {str(i): {"value": 100 + i} for i in range(40)})
    return run


@pytest.mark.parametrize("name", ["run.json", "checkpoint.pt", "metrics.jsonl", "records.sqlite"])
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path, name: str) -> None:
    good = everything(filled(tmp_path / "run").path)
    file = tmp_path / "run" / name
    content, chance, refused = file.read_bytes(), random.Random(1), 0
    for _ in range(400):
        bad = bytearray(content)
        bit = chance.randrange(8 * len(bad))
        bad[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bad)
        try:
            assert everything(tmp_path / "run") == good
        except WsnasError:
            refused += 1
    assert refused > (20 if name == "records.sqlite" else 100)  # most of a small database is empty


@pytest.mark.parametrize("name", ["run.json", "checkpoint.pt", "metrics.jsonl", "records.sqlite"])
def test_any_damage_is_refused_or_changes_nothing(tmp_path: Path, name: str) -> None:
    """Cut, bytes overwritten, lines swapped, doubled or removed. Only rows may be fewer than before."""
    good = everything(filled(tmp_path / "run").path)
    file = tmp_path / "run" / name
    content, chance = file.read_bytes(), random.Random(2)
    for trial in range(100):
        bad = cut_or_overwritten(content, trial, chance)
        if bad is None:
            lines = content.splitlines(keepends=True)
            lines[chance.randrange(len(lines))] = lines[chance.randrange(len(lines))]
            bad = b"".join(lines)
        file.write_bytes(bad)
        try:
            found = everything(tmp_path / "run")
        except WsnasError:
            continue
        if name == "records.sqlite" and not bad:
            assert found[-1] == {}  # SQLite takes an empty file for an empty database
        else:
            assert found == good or name == "metrics.jsonl", trial
            assert all(line in good[-2] for line in found[-2])


def test_damage_that_hides_a_checksum_is_refused(tmp_path: Path) -> None:
    """Each of these was once found by benchmarks/fuzz.py, and read as fewer lines, no rows, or another run."""
    path = filled(tmp_path / "run").path
    files = {name: (path / name).read_bytes() for name in ("run.json", "metrics.jsonl", "records.sqlite")}
    described = json.loads(files["run.json"])
    del described["crc"]
    described["command"] = "another"
    for name, bad in (
        ("run.json", json.dumps(described).encode()),
        ("metrics.jsonl", files["metrics.jsonl"].replace(b'"loss"', b'"loss\r', 1)),
        ("metrics.jsonl", files["metrics.jsonl"].replace(b'"epoch": 4', b'"epoch"\r 4', 1)),
        ("records.sqlite", files["records.sqlite"][:1]),
    ):
        assert bad != files[name]
        (path / name).write_bytes(bad)
        with pytest.raises(WsnasError, match=name.replace(".", r"\.")):
            everything(path)
        if name == "records.sqlite":
            with pytest.raises(WsnasError, match="cut short"), Run.read(path).writing():
                Run.read(path).record("a", "x", {})
        (path / name).write_bytes(files[name])


def test_a_run_of_another_format_is_refused(run: Run) -> None:
    described = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**described, "format": 2}))
    with pytest.raises(WsnasError, match=r"written by another version of wsnas \(format 2, here 3\): train it again"):
        Run.read(run.path)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        json.dumps(sealed({"format": 3, "identity": "x", "recipe": {}})),
        json.dumps(sealed({"format": 3, "identity": {}, "recipe": 3})),
        json.dumps(sealed({"format": 3, "identity": {}, "recipe": {}, "more": 1})),
        "7",
        '{"format": 3, "identity": {}, "recipe": {}, "crb": "00000000"}',
    ],
    ids=["nested", "text", "a number", "an unknown part", "only a number", "the checksum's name damaged"],
)
def test_a_run_json_of_other_types_is_refused(run: Run, content: str) -> None:
    (run.path / "run.json").write_text(content)
    with pytest.raises(WsnasError, match=r"run\.json"):
        Run.read(run.path)


def test_a_checkpoint_that_does_not_fit_the_model_is_refused(tmp_path: Path, toy_installed: Path) -> None:
    run = Run.open(tmp_path / "r", {**IDENTITY, "recipe": {}}, TOY.recipes["micro"].to_json())
    for content in ({"step": 3}, {"step": 3, "model": {"x": torch.zeros(3)}}, {"step": 3, "model": 5}):
        run.save_checkpoint(content)
        with pytest.raises(WsnasError, match="does not fit the network"):
            load_supernet(run.path)


def test_two_that_open_a_new_run_at_once_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second arrives after the first has looked for run.json, and before it has written it."""
    said: list[str] = []

    def slowly(path: Path, content: bytes) -> None:
        if not said:
            said.append("second")
            with pytest.raises(WsnasError, match="being written by another process"):
                Run.open(tmp_path / "run", {**IDENTITY, "seed": 4}, RECIPE)
        atomic_write(path, content)

    monkeypatch.setattr("wsnas.runs.atomic_write", slowly)
    Run.open(tmp_path / "run", IDENTITY, RECIPE)
    assert said
    assert Run.read(tmp_path / "run").identity == IDENTITY


def test_a_sitting_has_one_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, connect = [], sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: opened.append(1) or connect(*args, **kwargs))
    with run.writing():
        for i in range(10):
            run.record("a", str(i), {"i": i})
            assert len(run.records("a")) == i + 1
            with sqlite3.connect(run.path / "records.sqlite") as other:  # committed at once: another reader sees it
                assert other.execute("SELECT count(*) FROM records").fetchone() == (i + 1,)
    assert len(opened) == 11
    assert len(run.records("a")) == 10
    assert len(opened) == 12


# the lock -----------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from wsnas.errors import WsnasError
from wsnas.runs import PUBLISHED, WRITTEN, Run
run = Run.read(Path(sys.argv[1]))
try:
    with run.writing():
        print("held", flush=True)
        time.sleep(60)
except WsnasError as error:
    print(error, flush=True)
"""


def test_a_second_writer_is_refused_until_the_first_is_gone_even_by_kill_9(run: Run, python: Start) -> None:
    holder = python(HOLD, run.path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(WsnasError, match="being written by another process"), run.writing():
        pass
    holder.kill()
    holder.wait()
    with run.writing():
        pass
    with run.writing():
        with pytest.raises(WsnasError, match="being written by another process"):
            Run.remove(run.path)
        second = python(HOLD, run.path)
        assert "being written by another process" in second.communicate(timeout=60)[0]


def test_whatever_is_recorded_the_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    insert, kinds = Run._insert, []

    def inserted(run: Run, rows: Any) -> None:
        with pytest.raises(Busy), Run.read(run.path).writing():
            pass
        rows = list(rows)
        kinds.extend(kind for kind, *_ in rows)
        insert(run, rows)

    monkeypatch.setattr(Run, "_insert", inserted)
    train_architecture(TOY, ALL[0], out=tmp_path / "alone", device="cpu")
    proxy_scores(TOY, ALL[:2], images=8, out=tmp_path / "untrained", device="cpu")
    assert kinds == ["half", "training", "proxy", "proxy"]


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.skipif(os.name != "posix", reason="flock is Unix's")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK], ids=os.strerror)
def test_without_locks_a_run_is_read_and_not_written(run: Run, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What the system says of a filesystem mounted without locks."""
    run.append("metrics.jsonl", {"epoch": 1})

    def flock(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(WsnasError) as refusal, run.writing():
        pass
    assert str(refusal.value) == (
        f"cannot lock {run.path / 'lock'}: its file system has no locks; choose another --out"
    )
    assert Run.read(run.path).metrics() == [{"epoch": 1}]


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_lock_left_by_another_host_is_refused_and_its_file_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without flock the file itself would be the lock, which a process that is killed leaves there."""

    def flock(*arguments: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    (run.path / "lock").write_text("4242\nanother-host\n")
    with pytest.raises(WsnasError, match=f"cannot lock {run.path / 'lock'}"), run.writing():
        pass


def test_a_removed_run_is_gone_and_can_be_begun_again(run: Run) -> None:
    (run.path / "run.json").write_text("{")  # whatever is in it
    Run.remove(run.path)
    Run.remove(run.path)
    assert not run.path.exists()
    assert Run.open(run.path, {**IDENTITY, "seed": 4}, RECIPE).metrics() == []


# writing whole or not at all ----------------------------------------------------------------------


def test_a_write_replaces_the_whole_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    for content in (b"a" * 100, b"b"):
        atomic_write(path, content)
        assert path.read_bytes() == content
    with path.open("rb") as reader:  # who reads the old file goes on reading it whole
        atomic_write(path, b"c")
        assert reader.read() == b"b"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")
    run.save_checkpoint(state(1))
    with full_disk(1000):
        with pytest.raises(WsnasError, match=r"cannot write .*intact"):
            atomic_write(path, b"n" * 1001)
        with pytest.raises(WsnasError, match=r"checkpoint\.pt"):
            run.save_checkpoint(state(2))
        atomic_write(tmp_path / "small", b"n" * 1000)
    assert path.read_bytes() == b"old"
    found = run.load_checkpoint(CPU)
    assert found is not None
    assert found["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "run", "small"]
    assert not list(run.path.glob(".*"))


def test_a_full_disk_stops_lines_and_records_and_keeps_those_before(run: Run) -> None:
    run.append("metrics.jsonl", {"epoch": 1})
    run.record("kind", "before", {"x": 1})
    size = (run.path / "records.sqlite").stat().st_size
    with full_disk(10), pytest.raises(WsnasError, match=r"metrics\.jsonl"):
        run.append("metrics.jsonl", {"epoch": 2})
    with full_disk(size), pytest.raises(WsnasError, match="committed rows are intact"):
        run.record("kind", "after", {"x": "y" * 100_000})
    assert run.records("kind") == {"before": {"status": "ok", "x": 1}}
    run.record("kind", "after", {"x": 2})
    assert set(run.records("kind")) == {"before", "after"}


# lines and records --------------------------------------------------------------------------------


def test_a_line_cut_off_by_a_crash_is_not_read(run: Run) -> None:
    size = run.append("metrics.jsonl", {"step": 1})
    run.append("metrics.jsonl", {"step": 2})
    os.truncate(run.path / "metrics.jsonl", size + 5)
    assert run.metrics() == [{"step": 1}]


def test_cut_back_forgets_what_came_after(run: Run) -> None:
    sizes = [run.append("metrics.jsonl", {"epoch": i, "loss": 0.1 * i}) for i in range(4)]
    assert sizes[-1] == (run.path / "metrics.jsonl").stat().st_size
    run.cut_back("metrics.jsonl", sizes[1])
    assert run.metrics() == [{"epoch": 0, "loss": 0.0}, {"epoch": 1, "loss": 0.1}]
    for missing in (sizes[1] + 1, 10_000):
        with pytest.raises(WsnasError, match=r"metrics\.jsonl is damaged: it lacks lines"):
            run.cut_back("metrics.jsonl", missing)
    with pytest.raises(WsnasError, match="lacks lines"):  # not the end of a line
        run.cut_back("metrics.jsonl", sizes[1] - 1)
    assert len(run.metrics()) == 2
    run.cut_back("metrics.jsonl", 0)
    assert run.metrics() == []
    run.cut_back("nothing.jsonl", 0)
    assert not (run.path / "nothing.jsonl").exists()


def test_records_come_back_by_kind_and_the_last_of_a_key_counts(run: Run) -> None:
    assert run.records("a") == {}
    assert run.kinds() == []
    run.record("b", "x", {"value": 1.5, "none": None})
    run.record("a", "x", {"value": 2, "text": "é|~'\"; DROP TABLE records"}, "failed")
    run.record("b", "'", {"value": [1, 2]})
    run.record("b", "x", {"value": 3})
    assert Run.read(run.path).records("b") == {
        "x": {"status": "ok", "value": 3},
        "'": {"status": "ok", "value": [1, 2]},
    }
    assert run.records("a") == {"x": {"status": "failed", "value": 2, "text": "é|~'\"; DROP TABLE records"}}
    assert run.kinds() == ["a", "b"]


RECORDS = """
import itertools, sys
from pathlib import Path
from wsnas.runs import PUBLISHED, WRITTEN, Run
run = Run.read(Path(sys.argv[1]))
for i in itertools.count():
    run.record("row", str(i), {"i": i})
    print(i, flush=True)
"""


def test_quick_rows_are_committed_every_second_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of our own; what another process would see is read through a run without a connection."""
    times = [100.0]
    monkeypatch.setattr("wsnas.runs.time.monotonic", lambda: times[-1])
    run = Run.open(tmp_path / "run", IDENTITY, RECIPE)
    seen = []

    def six_rows() -> None:
        with run.writing(), run.recording("a") as record:
            for i, now in enumerate([100.1, 100.9, 101.0, 101.5, 102.1, 102.2]):
                times.append(now)
                record(str(i), {"value": i}, "ok" if i else "failed")
                seen.append(len(Run.read(run.path).records("a")))
            raise KeyError

    with pytest.raises(KeyError):
        six_rows()
    assert seen == [0, 0, 3, 3, 5, 5]
    assert Run.read(run.path).records("a") == {
        "0": {"status": "failed", "value": 0},
        **{str(i): {"status": "ok", "value": i} for i in range(1, 6)},
    }


def test_committed_records_survive_kill_9(run: Run, python: Start) -> None:
    writer = python(RECORDS, run.path)
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(25)]
    writer.kill()
    told += [int(line) for line in writer.communicate()[0].split()]
    rows = run.records("row")
    assert {str(i) for i in told} <= set(rows)
    assert len(rows) - len(told) in (0, 1)  # one may be committed and not yet told
    assert all(row == {"status": "ok", "i": int(key)} for key, row in rows.items())
    with sqlite3.connect(run.path / "records.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_run_that_was_killed_while_it_committed_is_read_as_before(run: Run, tmp_path: Path) -> None:
    """SQLite has written a part of the new rows into the file, and the old ones into the journal beside it."""
    with run.writing():
        run.record_all("row", {str(i): {"i": i, "text": "x" * 500} for i in range(300)})
    before = run.records("row")
    copy = Run.open(tmp_path / "copy", IDENTITY, RECIPE)
    with closing(sqlite3.connect(run.path / "records.sqlite")) as writer:
        writer.execute("PRAGMA journal_mode=TRUNCATE")
        writer.execute("PRAGMA cache_size=1")
        writer.execute("UPDATE records SET data = '{}'")  # not committed
        for file in run.path.glob("records.sqlite*"):
            shutil.copyfile(file, copy.path / file.name)
        writer.rollback()
    assert (copy.path / "records.sqlite-journal").stat().st_size
    assert (copy.path / "records.sqlite").read_bytes() != (run.path / "records.sqlite").read_bytes()
    assert copy.records("row") == before


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_a_run_that_is_not_writable_is_read_and_unchanged(tmp_path: Path, open_elsewhere: bool) -> None:
    """Another user's, whose rows may still be in the log beside the database; reading said to free some disk space."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # another user gets there, unlike to tmp_path
        own = Run.open(Path(folder) / "run", IDENTITY, RECIPE)
        own.record("a", "x", {"value": 2})
        own.record("a", "y", {"value": 3})
        held = sqlite3.connect(own.path / "records.sqlite") if open_elsewhere else None
        if held is not None:  # keeps a log, as runs of earlier versions had
            held.execute("PRAGMA journal_mode=WAL")
            with held:
                held.execute("UPDATE records SET status = 'ok'")
        for file in [*own.path.iterdir(), own.path]:
            file.chmod(0o555 if file.is_dir() else 0o444)
        before = {file.name: file.read_bytes() for file in own.path.iterdir() if not file.name.endswith("-shm")}
        assert ("records.sqlite-wal" in before) == open_elsewhere
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.geteuid() == 0:  # whom no permission stops
                    os.seteuid(65534)
                assert not os.access(own.path, os.W_OK, effective_ids=True)
                assert Run.read(own.path).records("a") == {
                    key: {"status": "ok", "value": v} for key, v in (("x", 2), ("y", 3))
                }
                assert own.kinds() == ["a"]
                with pytest.raises(WsnasError, match=r"Permission denied\): .* intact; choose another"), own.writing():
                    pass
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        after = {file.name: file.read_bytes() for file in own.path.iterdir() if not file.name.endswith("-shm")}
        assert after == before
        if held is not None:
            held.close()
        own.path.chmod(0o755)


@pytest.mark.parametrize("content", [b"not a database at all, just text", os.urandom(5000)], ids=["text", "noise"])
def test_a_damaged_database_is_one_sentence(run: Run, content: bytes) -> None:
    (run.path / "records.sqlite").write_bytes(content)
    with pytest.raises(WsnasError, match=r"records\.sqlite"):
        run.records("a")
    with pytest.raises(WsnasError, match=r"records\.sqlite"):
        run.record("a", "b", {})


def test_a_session_is_logged_however_it_ends(run: Run) -> None:
    with run.session(CPU), pytest.raises(WsnasError, match="being written by another process"), run.writing():
        pass
    with pytest.raises(ZeroDivisionError), run.session(CPU):
        raise ZeroDivisionError
    first, second = (json.loads(line) for line in (run.path / "sessions.jsonl").read_text().splitlines())
    assert (first["ended"], first["device"], second["ended"]) == ("finished", "cpu", "ZeroDivisionError")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of wsnas's repository, whether its script or its code runs; not of another that has wsnas in its .venv."""

    def git(*arguments: str) -> str:
        settings = ("-c", "user.name=a", "-c", "user.email=b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *settings, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    code, study, installed = (
        tmp_path / name for name in ("shared/src/wsnas/environment.py", "studies/a.py", ".venv/a")
    )
    for path in (code, study, installed):
        path.parent.mkdir(parents=True)
        path.touch()
    git("init")
    git("add", "studies")
    git("commit", "-m", "a repository of scripts that use wsnas")
    elsewhere = tmp_path.parent / "elsewhere"
    places = ((study, elsewhere), (elsewhere, code), (installed, installed))
    for tracked in (False, True):
        if tracked:
            git("add", "shared")
            git("commit", "-m", "wsnas itself")
        for script, file in places:
            monkeypatch.setattr(sys, "argv", [str(script)])
            monkeypatch.setattr(environment, "__file__", str(file))
            assert environment.commit() == (git("describe", "--always", "--dirty") if tracked else None)
