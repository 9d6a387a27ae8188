"""Ground truth: trains many architectures stand-alone and collects their scores in a table."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, suppress
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from wsnas.data.fingerprint import Version
from wsnas.data.images import Splits
from wsnas.devices import choose_device, cpu_threads, to_device
from wsnas.environment import command_line, environment
from wsnas.errors import Diverged, Guesses, WorkerLost, WsnasError, in_words
from wsnas.evaluation import fill
from wsnas.executor import Executor, run_jobs
from wsnas.metrics import higher_is_better
from wsnas.progress import Report
from wsnas.randomness import python_seed, torch_seeded
from wsnas.recipe import Recipe, as_if_in_place, digest, recipe_from_json
from wsnas.runs import Run
from wsnas.space import SearchSpace, load_space, require_installed
from wsnas.standalone import Trained, require_trainable, train_architecture
from wsnas.table import LARGEST_NUMBER, MACS, TRAINED, Column, Table
from wsnas.training import first_steps
from wsnas.words import counted

J = TypeVar("J")
R = TypeVar("R")

INTERRUPTED = ("timeout", "crash")  # statuses of trainings that might end well if they were repeated
FAILED = ("diverged", *INTERRUPTED)  # of all that have no result
FIRST_FAILURES = 20  # trainings that fail before one succeeds
MANY_FAILED = 0.1  # of the trainings


def splits_once(space: str, recipe: Recipe, device: torch.device) -> Splits:
    """The recipe's data, loaded once per worker, which trains many networks on the same images, and after a change.

    Recipes that differ in their trainings have the same data.
    """
    found = load_space(space)
    usual = found.recipe("micro")
    recipe = replace(recipe, supernet=usual.supernet, standalone=usual.standalone)
    return _splits(space, recipe, device, found.data_version(recipe))


@lru_cache(maxsize=1)
def _splits(space: str, recipe: Recipe, device: torch.device, version: tuple[Version, ...]) -> Splits:
    return load_space(space).load_data(recipe, device)


LONG = 1000  # steps: from here on a training keeps checkpoints; a shorter one starts again if it is stopped


class TrainingJob(NamedTuple):
    """One training, for a worker."""

    space: str
    recipe: Recipe
    arch: Any
    seed: int
    folder: str  # for the run directories of long trainings, which any worker that sees the folder continues

    @property
    def out(self) -> Path:
        """The training's own run directory, if it is long; removed when its row is committed."""
        return Path(self.folder) / f"{digest({'arch': load_space(self.space).encode(self.arch)})}-{self.seed}"


def train_job(job: TrainingJob) -> Trained:
    space, splits = load_space(job.space), splits_once(job.space, job.recipe, choose_device())
    long = first_steps(splits.train, job.recipe.standalone, job.seed)[-1] >= LONG
    try:
        out = job.out if long else None
        with warnings.catch_warnings(action="ignore", category=Guesses):  # the table counts them
            return train_architecture(space, job.arch, job.recipe, seed=job.seed, splits=splits, out=out)
    except Diverged:
        return Trained(math.nan, math.nan, math.nan, math.nan, status="diverged")


def require_trainings(space: SearchSpace[Any], archs: Sequence[Any], recipe: Recipe) -> None:
    """Raises WsnasError if workers could not train these: their data are missing, damaged or unsuitable."""
    splits = splits_once(space.name, recipe, torch.device("cpu"))
    for arch in archs[:1]:
        with torch_seeded(0, "init"):
            require_trainable(space, space.network(arch, recipe), splits, recipe)
        space.macs(arch, recipe)  # which the table will have


def require_validation(space: SearchSpace[Any], recipe: Recipe, what: str) -> None:
    """Raises WsnasError if there are no images for the validation results that ``what`` rests on."""
    if not len(splits_once(space.name, recipe, choose_device()).valid):
        raise WsnasError(f"{what} needs validation results of {space.name}: leave images for them (--train-size)")


@cpu_threads(1, torch.device("cpu"))  # as in the workers, and so recorded
def train_many(
    space: SearchSpace[Any] | str,
    archs: Sequence[Any],
    out: Path | str,
    recipe: Recipe | str | None = None,
    *,
    seeds: Iterable[int] = (0, 1, 2),
    executor: Executor | None = None,
    dedupe: bool = True,
    known: Table | None = None,
    retry: Collection[str] = (),
    shard: tuple[int, int] = (1, 1),
    report: Report | None = None,
) -> Table:
    """Trains every architecture with every seed into the run ``out`` and returns the table.

    ``space``, ``recipe``: as in ``train_supernet``. ``archs``: architectures or their encodings. With ``dedupe``, of
    the architectures with the same ``training_key`` only the first is trained. Rows are committed as they come; a
    second call trains only the missing ones, and its table includes the architectures and seeds of earlier calls. The
    trainings in ``known`` (a table of the same recipe) are reused. A training that diverged, crashed or timed out is a
    row with that status; those of a status in ``retry`` are trained again. Trainings of at least ``LONG`` steps keep
    checkpoints in ``out`` and go on where they were stopped. ``shard``: (i, n) trains only the i-th of n equal parts,
    to be put together by ``merge_runs``.
    """
    space, out = load_space(space), Path(out)
    require_installed(space)
    archs, recipe = space.archs(archs), space.recipe(recipe)
    if not archs:
        raise WsnasError("there are no architectures to train")
    seeds = tuple(map(python_seed, seeds))
    if not seeds:
        raise WsnasError("there are no seeds to train with")
    if not 1 <= shard[0] <= shard[1]:
        raise WsnasError(f"a shard is a part and their number, such as 2/8, not '{shard[0]}/{shard[1]}'")
    data = space.data_identity(recipe)
    identity = {"kind": "ground truth", "space": space.name, "recipe": recipe.standalone_identity(), **data}
    executor = executor or Executor()
    if known is not None:
        known = known.in_place_of({"recipe": _recipe_text(recipe), **data})
        _about(known, recipe, data.get("data"))
    if executor.ray is None and not (out / "run.json").exists():  # what cannot be trained leaves no directory
        require_trainings(space, archs, recipe)
    run = Run.open(out, identity, recipe.to_json(), recipe.standalone_identity_of)
    key_of = space.training_key if dedupe else space.encode
    first: dict[str, Any] = {}  # training key -> the architecture that is trained for it
    for arch in archs:
        first.setdefault(key_of(arch), arch)
    with run.writing():
        _require_same_sharing(space, run, dedupe)
        trained = {name.rpartition("@")[0] for name in run.records("training")}
        before = map(space.decode, run.records("architecture"))  # of what was asked for then, what has come stays
        run.forget("architecture", [space.encode(arch) for arch in before if key_of(arch) not in trained])
        run.record_all("architecture", {space.encode(arch): {} for arch in archs})
        named = {f"{key}@{seed}": (arch, seed) for key, arch in first.items() for seed in seeds}
        named = dict(islice(named.items(), shard[0] - 1, None, shard[1]))
        if known is not None:
            _take_over(space, known, run, recipe, seeds, dedupe, wanted=named.keys())
        rows = run.records("training")
        folder = str((out / "trainings").absolute())
        run.record("request", "latest", {"trainings": list(named), "command": command_line()})
        wanted = {TrainingJob(space.name, recipe, arch, seed, folder): name for name, (arch, seed) in named.items()}
        have = {name for name, row in rows.items() if row["status"] not in retry}
        jobs = [job for job, name in wanted.items() if name not in have]
        done, failed = len(wanted) - len(jobs), 0
        worked = any(row["status"] == "ok" for row in rows.values())
        retried = all(wanted[job] in rows for job in jobs)
        for job, result in of_trainings(run_jobs(train_job, jobs, executor), worked, retried):
            row: dict[str, Any] = {"arch": space.encode(job.arch)}
            if isinstance(result, BaseException):
                status = "timeout" if isinstance(result, TimeoutError) else "crash"
                run.record("training", wanted[job], row | {"error": repr(result)}, status)
            else:
                status = result.status
                row |= _without_nan(asdict(result))
                run.record("training", wanted[job], row, status)
                Run.remove(job.out)
            done, failed = done + 1, failed + (status != "ok")
            if report is not None:
                report(done, len(wanted), f"trainings, {failed} failed" if failed else "trainings")
    with suppress(OSError):  # not there, or with trainings that failed
        Path(folder).rmdir()
    return table_of(space, archs, run, recipe, seeds, dedupe)


def merge_runs(paths: Sequence[Path | str], out: Path | str) -> tuple[SearchSpace[Any], Table]:
    """Puts the trainings of several runs of one space and recipe into the run ``out``, and returns its table.

    ``paths``: runs of ground truth (such as shards) and finished stand-alone trainings. Where two have the same
    training, a successful one wins, then that of ``out`` if it exists, then the first. If one of them was trained
    without ``dedupe``, each architecture has its own training here, too. Raises WsnasError for runs of several spaces
    or recipes, if no training is finished, and if ``out`` would have to give its own trainings other names.
    """
    runs = [Run.read(path) for path in paths]
    if not runs:
        raise WsnasError("there are no runs to merge")
    space = load_space(runs[0].identity["space"])

    def has_data(run: Run) -> bool:
        return "data" not in run.identity or bool(
            space.data_identity(recipe_from_json(space.recipes["micro"], run.recipe))
        )

    first = next((run for run in runs if run.identity["space"] == space.name and has_data(run)), runs[0])
    recipe = first.identity["recipe"]
    trained, archs = list[tuple[str, dict[str, Any]]](), dict[str, dict[str, Any]]()

    def shared(name: str) -> str:
        return space.training_key(space.decode(name))

    for run in runs:
        kind = run.identity["kind"]
        if kind not in ("ground truth", "stand-alone"):
            raise WsnasError(f"{run.path} is a {kind} run; only trainings of single architectures can be merged")
        if (run.identity["space"], as_if_in_place(run.identity, first.identity)["recipe"]) != (space.name, recipe):
            raise WsnasError(f"{run.path} and {first.path} have different spaces or recipes and cannot be merged")
        run.require_data(first.identity)
        own = run.records("training")
        if kind == "stand-alone":
            name, seed = run.identity["arch"], run.identity["seed"]
            if name not in own:
                raise WsnasError(f"the training in {run.path} is not finished: repeat its command first")
            own = {f"{shared(name)}@{seed}": {**_without_nan(own[name]), "arch": name}}
            archs[name] = {}
        else:
            archs |= {name: {} for name in run.records("architecture")}
        trained += own.items()
    if not trained:
        raise WsnasError(f"no training in {', '.join(map(str, paths))} is finished: repeat the command that began them")
    identity = {name: value for name, value in first.identity.items() if name in ("space", "recipe", "data")}
    merged = Run.open(out, {"kind": "ground truth", **identity}, first.recipe)
    with merged.writing():
        there = merged.records("training")
        trained = [*there.items(), *trained]
        dedupe = all(key.rpartition("@")[0] == shared(row["arch"]) for key, row in trained)
        rows: dict[str, dict[str, Any]] = {}
        for key, row in trained:
            name = key if dedupe else f"{row['arch']}@{key.rpartition('@')[2]}"
            if name not in rows or (row["status"] == "ok" != rows[name]["status"]):
                rows[name] = row
        if not there.keys() <= rows.keys():
            raise WsnasError(
                f"{out} trains one of several equal architectures, but not all that is merged does: give another "
                f"--out, and {out} as one of the runs"
            )
        merged.record_all("architecture", archs)
        merged.record_all("training", rows)
        for run in runs:
            for name, row in run.records("known").items():  # of trainings that it took over
                merged.record("known", name, {"makers": row["makers"]})
            seconds = [row["seconds"] for row in run.records("training").values() if row.get("seconds")]
            maker = {"environment": json.dumps(run.started()["environment"], sort_keys=True)}
            maker["seconds"] = f"{sum(seconds):.0f} in all of {len(seconds)} trainings"
            merged.record("known", str(run.path.absolute()), {"makers": [maker]})  # the last merge of a run counts
    known = recipe_from_json(space.recipes["micro"], merged.recipe)
    seeds = sorted({int(key.rpartition("@")[2]) for key in rows})
    return space, table_of(space, [space.decode(name) for name in archs], merged, known, seeds, dedupe)


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """None where a number is NaN: of a training that failed, or of images that there are none of."""
    return {name: None if value != value else value for name, value in row.items()}


def of_trainings(
    results: Generator[tuple[J, R | BaseException], None, None], worked: bool, retried: bool = False
) -> Iterator[tuple[J, R | BaseException]]:
    """Passes on results that say something about their own training, not about the environment.

    Failures before the first success are held back: if none succeeds, or the first ``FIRST_FAILURES`` fail, no
    architecture is to blame, and WsnasError is raised. ``worked``: whether trainings of the run have succeeded before;
    ``retried``: all of these have failed before, so that it is no surprise if they fail again. Raises WsnasError at
    once for a package or file that is missing.
    """
    held: list[tuple[J, R | BaseException]] = []
    trusted = worked and retried
    with closing(results):
        for job, result in results:
            if isinstance(result, ImportError | OSError) and not isinstance(result, TimeoutError):
                raise WsnasError(f"the workers cannot train here ({type(result).__name__}: {result})") from result
            if isinstance(result, WsnasError) and not isinstance(result, WorkerLost):
                raise result
            trusted |= not isinstance(result, BaseException)
            held.append((job, result))
            if trusted:
                yield from held
                held = []
            elif len(held) == FIRST_FAILURES:
                worked = False
                break
    if held and not worked:
        first: Any = held[0][1]
        raise WsnasError(
            f"none of {counted(len(held), 'training')} succeeded, so nothing was recorded; the first error was: "
            f"{in_words(first)}"
        )
    yield from held


def best_of(space: SearchSpace[Any], archs: Sequence[Any], out: Path, count: int, dedupe: bool = True) -> list[Any]:
    """The best ``count`` architectures by seed 0's validation score in the run ``out``; other seeds then report them.

    Raises WsnasError if one of ``archs`` has no training with seed 0 yet, as it might be among the best.
    """
    rows = Run.read(out).records("training") if (out / "run.json").exists() else {}
    keys = [f"{space.training_key(arch) if dedupe else space.encode(arch)}@0" for arch in archs]
    missing = sum(key not in rows for key in keys)
    if missing:
        raise WsnasError(
            f"{missing} of {len(archs)} architectures have no training with seed 0 in {out}: run the same command "
            "without --best and with --seeds 1 first"
        )
    values = [rows[key].get("valid") for key in keys]
    known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if np.isnan(known).all():
        raise WsnasError(f"no training with seed 0 in {out} has a validation score to choose the best by")
    order = np.argsort(-higher_is_better(known, space.metric), kind="stable")  # NaN, a failed training, comes last
    return [archs[int(i)] for i in order[:count]]


def _about(known: Table, recipe: Recipe, data: str | None) -> Mapping[str, str]:
    """What the table says of its trainings with this recipe. Raises WsnasError if it has none, or of other data."""
    about = known.about_length(recipe.standalone.epochs) or known.about
    if about.get("recipe") != _recipe_text(recipe):
        raise WsnasError(f"the known table of {known.space} has another recipe, so its rows cannot be reused")
    if data is not None and about.get("data", data) != data:
        raise WsnasError(
            f"the known table of {known.space} was made with other data: the files of {recipe.dataset} have changed "
            f"since (fingerprint {about['data']}, now {data}), so its rows cannot be reused"
        )
    return about


def _require_same_sharing(space: SearchSpace[Any], run: Run, dedupe: bool) -> None:
    """Raises WsnasError if the run's trainings have the names of the other choice of ``dedupe``: none would be used."""
    name_of = space.training_key if dedupe else space.encode
    for name, row in run.records("training").items():
        if name.rpartition("@")[0] != name_of(space.decode(row["arch"])):
            how, option = (
                ("each architecture", "add") if dedupe else ("one of several equal architectures", "leave out")
            )
            raise WsnasError(
                f"{run.path} trains {how}, so this command could use none of its trainings: {option} --no-dedupe "
                "(dedupe=False), or give another --out"
            )


def _take_over(
    space: SearchSpace[Any],
    known: Table,
    run: Run,
    recipe: Recipe,
    seeds: Sequence[int],
    dedupe: bool,
    wanted: Set[str],
) -> None:
    """Copies a table's ``wanted`` trainings of the same recipe into the run's records, and where they were made."""
    about = _about(known, recipe, run.identity.get("data"))
    rows, added = run.records("training"), dict[str, dict[str, Any]]()
    names = {field: _column(recipe, field, 0) for field in ("valid", "test", "half_valid")}
    if names["half_valid"].epochs in known.epochs(recipe.dataset, "test"):  # other trainings, which ended there
        del names["half_valid"]
    missing = wanted - rows.keys()
    for i, text in enumerate(known.archs):
        key = space.training_key(space.decode(text)) if dedupe else text
        for seed in seeds:
            if f"{key}@{seed}" not in missing:
                continue
            columns = {field: known.columns.get(column._replace(seed=seed)) for field, column in names.items()}
            values = {f: None if c is None or np.isnan(c[i]) else round(float(c[i]), 6) for f, c in columns.items()}
            complete = all(values[f] is not None for f in ("valid", "test") if f == "test" or columns[f] is not None)
            if complete:
                added.setdefault(f"{key}@{seed}", {"arch": text, **values, "seconds": None, "curve": []})
    if added:
        maker = {name: about.get(name) for name in ("environment", "seconds")}
        run.record("known", json.dumps(maker), {"makers": [*json.loads(about.get("taken over", "[]")), maker]})
        run.record_all("training", added)


def _column(recipe: Recipe, field: str, seed: int) -> Column:
    epochs = recipe.standalone.epochs
    return Column(recipe.dataset, field.removeprefix("half_"), epochs // 2 if "half" in field else epochs, seed)


def _recipe_text(recipe: Recipe) -> str:
    return json.dumps(recipe.standalone_identity(), sort_keys=True)


def table_of(
    space: SearchSpace[Any],
    archs: Sequence[Any],
    run: Run,
    recipe: Recipe,
    seeds: Sequence[int],
    dedupe: bool = True,
    whole: bool = True,
) -> Table:
    """The ground-truth table of a run's trainings; missing values are NaN.

    ``whole``: of all its architectures, these first, and all its seeds; else of no others than these.
    """
    rows = run.records("training")
    if whole:
        archs = list(dict.fromkeys([*archs, *map(space.decode, run.records("architecture"))]))
        seeds = sorted({*seeds, *(int(key.rpartition("@")[2]) for key in rows)})
    names = [space.training_key(arch) if dedupe else space.encode(arch) for arch in archs]
    used = {f"{name}@{seed}": rows.get(f"{name}@{seed}", {"status": "missing"}) for name in names for seed in seeds}
    columns: dict[Column, Any] = {}
    scored = [row for row in used.values() if row.get("test") is not None]
    fields = ["valid", "test", "half_valid"][: 3 if recipe.standalone.epochs > 1 else 2]
    if scored and all(row.get("valid") is None for row in scored):  # the recipe trains on all images
        fields = ["test"]
    overflowed = np.zeros(len(names), dtype=np.bool_)
    for seed in seeds:
        for field in fields:
            measured = [used[f"{name}@{seed}"].get(field) for name in names]
            values = np.array([np.nan if v is None else v for v in measured], np.float64)
            above = values > LARGEST_NUMBER  # a perplexity
            overflowed |= above
            columns[_column(recipe, field, seed)] = np.where(above, np.nan, values)
    fine = ("ok", "missing")
    failed = np.array([any(used[f"{name}@{seed}"]["status"] not in fine for seed in seeds) for name in names])
    statuses = Counter(row["status"] for row in used.values())
    trained = len(used) - statuses["missing"]
    guess = sum(bool(row.get("guesses")) for row in used.values())

    def size(count: Callable[[Any, Recipe], float], arch: Any, failed: bool, unknown: float) -> float:
        try:
            return count(arch, recipe)
        except Exception:  # of a network that could not even be built
            if not failed:
                raise
            return unknown

    seconds = [row["seconds"] for row in used.values() if row.get("seconds")]
    listed = [maker for row in run.records("known").values() for maker in row["makers"]]
    # a merged table's own trainings are also those of the run that it is made of
    makers = list({(one["environment"], str(one["seconds"]).partition(",")[0]): one for one in listed}.values())
    return Table(
        space.name,
        tuple(space.encode(arch) for arch in archs),
        columns,
        np.array([size(space.parameters, *one, -1) for one in zip(archs, failed, strict=True)], dtype=np.int64),
        np.array([1e-6 * size(space.macs, *one, np.nan) for one in zip(archs, failed, strict=True)], dtype=np.float64),
        failed | overflowed,
        about={
            "source": TRAINED,
            "macs": MACS,
            "metric": space.metric,
            "epochs": str(recipe.standalone.epochs),
            "recipe": _recipe_text(recipe),
            **({"data": run.identity["data"]} if "data" in run.identity else {}),
            "seeds": ", ".join(map(str, seeds)),
            "trainings": f"{trained}, one per {'training key' if dedupe else 'architecture'} and seed",
            "status": ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
            **({"guesses": f"{guess} of {trained} trainings ended no better than guessing"} if guess else {}),
            "seconds": f"{sum(seconds):.0f} in all of {len(seconds)} trainings, median {np.median(seconds or [0]):.2f}",
            "environment": json.dumps(run.started()["environment"], sort_keys=True),
            **({"taken over": json.dumps(makers)} if makers else {}),  # oldest first: environment, seconds
        },
    )


def measure_latencies(
    space: SearchSpace[Any],
    table: Table,
    out: Path,
    recipe: Recipe,
    *,
    report: Report | None = None,
) -> Table:
    """The table with each network's latency: the fastest of twelve forward passes in eval mode.

    Milliseconds per batch of 32 images, if there are as many, or of about 32 tokens (``about`` has the number), on one
    CPU thread or on the GPU. Rows are committed within a second; those of another device are measured again.
    """
    chosen = choose_device()
    splits = splits_once(space.name, recipe, chosen)
    where = f"{environment()['gpu'] if chosen.type == 'cuda' else environment()['processor'] + ', one thread'}"
    run, kind = Run.read(out), f"latency {where}"
    x, y = next((splits.valid if len(splits.valid) else splits.test).ordered(32, 32))
    latencies = {name: row["milliseconds"] for name, row in run.records(kind).items()}

    def compute(name: str, arch: Any) -> float:
        with torch_seeded(0, "init"):
            network = to_device(space.network(arch, recipe), chosen)
        milliseconds = _milliseconds(network.eval(), x)
        record(name, {"milliseconds": milliseconds}, "ok")
        return milliseconds

    with cpu_threads(1, torch.device("cpu")), run.writing(), run.recording(kind) as record:
        fill(latencies, {name: space.decode(name) for name in table.archs}, compute, "networks", report)
    about = {**table.about, "latency": f"milliseconds per forward pass of {len(y)}, fastest of 12, {where}"}
    return replace(table, latency=np.array([latencies[name] for name in table.archs]), about=about)


@torch.inference_mode()
def _milliseconds(network: torch.nn.Module, x: torch.Tensor) -> float:
    times = []
    for _ in range(12):
        started = time.perf_counter()
        network(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        times.append(1e3 * (time.perf_counter() - started))
    return min(times)  # other load can only add to it
