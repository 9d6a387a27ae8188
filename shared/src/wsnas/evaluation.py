"""Scores submodels of one trained supernet: calibrate, then measure accuracy or perplexity on the validation data.

Each submodel's row is committed within a second, so a killed evaluation resumes where it stopped. A submodel's
score depends on the weights, the calibration images and its path, not on earlier evaluations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsnas.calibration import recalibrate
from wsnas.data.images import Splits
from wsnas.devices import cpu_threads, to_device
from wsnas.errors import Unfinished, WsnasError
from wsnas.executor import Executor, run_jobs
from wsnas.pieces import buffers_kept
from wsnas.progress import Report, bar_in_notebook
from wsnas.recipe import Decides, Recipe, recipe_fields
from wsnas.runs import Run
from wsnas.space import SearchSpace, load_space, require_installed
from wsnas.supernet import Supernet, bits_digest, inherit, load_supernet, require_supernets, unfinished
from wsnas.training import stop_between_steps
from wsnas.words import counted

A = TypeVar("A")
R = TypeVar("R")

PART = 20  # submodels a worker scores at a time, at most
BF16 = " bf16"  # suffix of the kind of rows scored in bfloat16
CUDA = " cuda"  # before it, of those scored on a GPU, which adds in another order


class Scores(dict[str, float]):
    """Scores by encoded architecture: a dict that is short to look at.

    ``metric``: ``accuracy``, ``perplexity`` or, of a zero-cost score, ``score``. ``truth_metric``: that of the space's
    stand-alone results. ``dataset``: what the supernet was trained on. ``settings``: how recorded submodels were scored
    (images, calibration, ...). ``remarks``: sentences about them that a reader should know.
    """

    metric = "score"
    truth_metric = "accuracy"
    dataset = ""
    settings = ""
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        known = [value for value in self.values() if math.isfinite(value)]
        spread = f" from {min(known):.2f} to {max(known):.2f}" if known else ""
        return f"Scores of {counted(len(self), 'architecture')}: {self.metric}{spread}"

    def _repr_html_(self) -> str:
        """The five best and the worst; those without a score are worse than any."""
        sign = 1 if self.metric == "perplexity" else -1
        order = sorted(self.items(), key=lambda item: (math.isnan(item[1]), sign * item[1]))
        shown = order if len(order) <= 6 else [*order[:5], ("...", math.nan), order[-1]]
        cells = [(escape(arch), "" if math.isnan(value) else f"{value:.2f}") for arch, value in shown]
        rows = "".join(f"<tr><td>{arch}</td><td>{value}</td></tr>" for arch, value in cells)
        return f"<p>{escape(repr(self))}</p><table>{rows}</table>"

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table`` with the columns ``arch`` and the metric's name."""
        import pyarrow as pa

        archs, values = pa.array(list(self), pa.string()), pa.array(list(self.values()), pa.float64())
        return pa.table({"arch": archs, self.metric: values})

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def evaluate_submodel(
    model: nn.Module, path: Any, splits: Splits, recipe: Recipe, amp: bool = False
) -> tuple[float, float]:
    """(validation accuracy in percent or perplexity, cross-entropy) of one path, after calibrating its batch norms.

    ``amp``: calibrate and score under bfloat16 autocast.
    """
    with torch.autocast(splits.valid.device.type, torch.bfloat16, enabled=amp):
        recalibrate(model, path, splits, recipe)
        return splits.valid.score(model, path, recipe.evaluation_batch, recipe.valid_size)


def submodel(supernet: Supernet | Path | str, arch: Any) -> nn.Module:
    """An architecture's own network, ``forward(x) -> logits``, with the supernet's weights: to fine-tune or to export.

    ``arch``: the architecture or its encoding. Its batch norms are calibrated, so that in eval mode, in which it comes,
    it predicts what ``evaluate`` scores. Raises WsnasError for an invalid encoding.
    """
    supernet = supernet if isinstance(supernet, Supernet) else load_supernet(supernet)
    recipe, splits, arch = supernet.recipe, supernet.splits, supernet.space.arch(arch)
    network = to_device(supernet.space.network(arch, recipe), splits.train.device)
    with buffers_kept(supernet.model):
        recalibrate(supernet.model, arch, splits, recipe)
        return inherit(supernet.model, network).eval()


def fill(
    rows: dict[str, R], wanted: Mapping[str, A], compute: Callable[[str, A], R], what: str, report: Report | None
) -> None:
    """Adds the ``wanted`` rows that are missing; ``compute`` also records them. Ctrl-C stops between two."""
    missing = [name for name in wanted if name not in rows]
    with stop_between_steps() as stopping:
        for done, name in enumerate(missing, start=len(wanted) - len(missing) + 1):
            rows[name] = compute(name, wanted[name])
            if report is not None:
                report(done, len(wanted), what)
            if stopping():
                raise KeyboardInterrupt


def recorded(record: Callable[..., None], name: str, metric: str, value: float, loss: float) -> dict[str, Any]:
    """A submodel's row, once it is recorded."""
    row = {metric: value, "loss": loss if math.isfinite(loss) else None}
    fine = math.isfinite(loss) and math.isfinite(value)  # a perplexity overflows before its loss does
    status = "ok" if fine else "not finite"
    record(name, row, status)
    return {**row, "status": status}


class ScoringJob(NamedTuple):
    """Some submodels to score, for a worker."""

    run: str  # the supernet's directory
    recipe: Recipe
    step: int  # of the weights
    archs: tuple[str, ...]
    amp: bool
    device: str | None  # None: the worker's own GPU


@lru_cache(maxsize=1)
def _loaded(run: str, device: str | None, written: tuple[int, int]) -> Supernet:
    """A run's supernet, loaded once per worker, which scores many of its submodels. ``written``: tells its weights from
    those of another training in the same directory.
    """
    with warnings.catch_warnings(action="ignore", category=Unfinished):  # the main process has said it
        return load_supernet(run, device)


def score_job(job: ScoringJob) -> list[tuple[float, float]]:
    """(score, cross-entropy) of each submodel of the job."""
    checkpoint = Path(job.run) / "checkpoint.pt"
    file = checkpoint.stat() if checkpoint.exists() else None
    supernet = _loaded(job.run, job.device, (0, 0) if file is None else (file.st_mtime_ns, file.st_ino))
    if supernet.step != job.step:
        raise WsnasError(f"{job.run} was trained on while its submodels were scored: run the same command again")
    device = supernet.splits.valid.device
    if job.device is None and device.type == "cpu":
        raise WsnasError(
            "a worker has no GPU, but scores of a GPU are asked for: give each a part of one, or --device cpu"
        )
    with cpu_threads(supernet.threads, device):
        decoded = map(supernet.space.decode, job.archs)
        with buffers_kept(supernet.model):
            return [evaluate_submodel(supernet.model, arch, supernet.splits, job.recipe, job.amp) for arch in decoded]


def scored_by(
    executor: Executor, supernet: Supernet, recipe: Recipe, names: list[str], amp: bool
) -> Iterator[tuple[tuple[str, ...], list[tuple[float, float]]]]:
    """Some of the submodels with (score, cross-entropy) of each, as workers have scored them."""
    where, own = str(supernet.run.path.absolute()), "cpu" if supernet.splits.valid.device.type == "cpu" else None
    for_each = math.ceil(len(names) / (executor.processes or 1))  # so that every process has work
    part = min(PART, max(1, for_each))
    parts = [tuple(names[i : i + part]) for i in range(0, len(names), part)]
    jobs = [ScoringJob(where, recipe, supernet.step, part, amp, own) for part in parts]
    for job, result in run_jobs(score_job, jobs, executor):
        if isinstance(result, TimeoutError) and executor.timeout is not None:
            first, *others = job.archs
            more = f" and {counted(len(others), 'more submodel')}" if others else ""
            raise WsnasError(
                f"a job that loads the supernet and scores {first}{more} {result}: give a larger time limit (--timeout)"
            ) from result
        if isinstance(result, BaseException):
            raise result
        yield job.archs, result


def evaluate(
    supernet: Supernet | Path | str,
    archs: Any,
    *,
    resume: bool = True,
    amp: bool = False,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Scores:
    """Validation accuracy in percent (or perplexity) of each architecture, by its encoding, in the order given.

    ``supernet``: one that is trained, or its run directory. ``archs``: architectures or their encodings, or a single
    one. Existing rows for the same weights and settings, ``amp`` (bfloat16) and the kind of device included, are
    reused. ``executor``: workers that load the supernet from its run directory and share the work; by default this
    process does it all. On the CPU torch uses as many threads as in training. Raises WsnasError, before anything is
    evaluated, for an invalid encoding and if the parameters are no longer those of the run.
    """
    supernet = supernet if isinstance(supernet, Supernet) else load_supernet(supernet)
    space, recipe = supernet.space, supernet.recipe
    wanted = {space.encode(arch): arch for arch in space.archs(archs)}
    if not wanted:
        raise WsnasError("there are no architectures to evaluate")
    if executor is not None:
        require_installed(space)
    device = supernet.splits.valid.device
    kind = _kind(recipe, supernet.step, amp, device.type)
    with (
        cpu_threads(supernet.threads, device),
        supernet.run.writing(),
        buffers_kept(supernet.model),  # other ways to score start from the statistics of training
        stop_between_steps() as stopping,
        bar_in_notebook(report, "evaluate") as report,
    ):
        require_own_rows(supernet)
        rows = supernet.run.records(kind) if resume else {}
        missing = {name: arch for name, arch in wanted.items() if name not in rows}
        if report is not None and not missing:
            report(len(wanted), len(wanted), "submodels")
        if executor is None:
            with supernet.run.recording(kind) as record:

                def compute(name: str, arch: Any) -> dict[str, Any]:
                    found = evaluate_submodel(supernet.model, arch, supernet.splits, recipe, amp)
                    return recorded(record, name, space.metric, *found)

                fill(rows, wanted, compute, "submodels", report)
        else:
            for names, result in scored_by(executor, supernet, recipe, list(missing), amp):
                with supernet.run.recording(kind) as record:  # what a worker has sent is kept whole
                    for name, found in zip(names, result, strict=True):
                        rows[name] = recorded(record, name, space.metric, *found)
                if report is not None:
                    report(sum(name in rows for name in wanted), len(wanted), "submodels")
                if stopping():
                    raise KeyboardInterrupt
    scores = Scores((name, _score(rows[name], space.metric)) for name in wanted)
    scores.metric = scores.truth_metric = space.metric
    scores.dataset = recipe.dataset
    return scores


def require_own_rows(supernet: Supernet) -> None:
    """Raises WsnasError if rows of this supernet and those in its directory would not be of the same weights."""
    where = supernet.run.path
    if Run.read(where).identity != supernet.run.identity:
        raise WsnasError(f"{where} has held another run since this supernet was trained or loaded: load it again")
    if bits_digest(supernet.model.parameters()) != supernet.weights:
        raise WsnasError(
            f"the weights of this supernet have changed since it was trained or loaded, and {where} keeps scores of "
            "those: score yours with wsnas.evaluation.evaluate_submodel"
        )
    if not supernet.recipe.calibration_images and bits_digest(supernet.model.buffers()) != supernet.statistics:
        raise WsnasError(
            "without calibration a score rests on the running statistics of training, and those of this supernet have "
            f"changed since it was trained or loaded: load {where} again"
        )


def _score(row: Mapping[str, Any], metric: str) -> float:
    """NaN where the score or its loss is not finite: no ranking has a place for it."""
    return float(row[metric]) if row["status"] == "ok" and math.isfinite(row[metric]) else math.nan


def _kind(recipe: Recipe, step: int, amp: bool = False, device: str = "cpu") -> str:
    """The kind of submodel rows: everything a score depends on besides the submodel and the supernet's run.

    ``device``: torch's type. Rows scored on a GPU before it counted are of the CPU's kind.
    """
    images = "all" if recipe.valid_size is None else f"{recipe.valid_size:08d}"
    calibration = f"{recipe.calibration_batch}x{recipe.calibration_steps}"
    own = [f for f in recipe_fields(recipe).values() if f.decides is Decides.SCORES and "calibration" not in f.name]
    more = "".join(f" {f.name}={f.value}" for f in own)  # fields added by the space
    how = CUDA * (device == "cuda") + BF16 * amp
    return f"evaluation step={step:08d} images={images} calibration={calibration}{more}{how}"


def recorded_scores(
    path: Path, space: SearchSpace[Any], recipe: Recipe, archs: Iterable[Any], data: Mapping[str, str] | None = None
) -> NDArray[np.float64] | None:
    """Scores [n] of the architectures, if a finished run has all of them; loads no data and builds no network.

    In float32, of the CPU or, if not all were scored there, of a GPU. ``data``: what ``SearchSpace.data_identity``
    returns, if it is known: of a large folder it takes a while.
    """
    if not (path / "metrics.jsonl").exists():
        return None
    run = Run.read(path)
    run.require_data(space.data_identity(recipe) if data is None else data)
    if unfinished(run):
        return None
    wanted, step = [space.encode(arch) for arch in archs], run.metrics()[-1]["step"]
    for device in ("cpu", "cuda"):
        rows = run.records(_kind(recipe, step, device=device))
        if rows.keys() >= set(wanted):
            return np.array([_score(rows[name], space.metric) for name in wanted])
    return None


def latest_scores(run: Run) -> Scores:
    """Validation accuracy in percent (or perplexity) by architecture, for the latest weights; ``remarks`` say more.

    Of several settings, those of most architectures, then in float32, then of the most images, then of the CPU.
    """
    kinds = [kind for kind in run.kinds() if kind.startswith("evaluation ")]
    require_supernets(run)
    if not kinds:
        raise WsnasError(f"{run.path} has no evaluated submodels yet: run 'wsnas evaluate {run.path}' first")
    latest = max(kind.split(" ")[1] for kind in kinds)  # e.g. step=00000920
    of_settings = {kind: run.records(kind) for kind in kinds if kind.split(" ")[1] == latest}

    def rank(kind: str) -> tuple[Any, ...]:
        return len(of_settings[kind]), not kind.endswith(BF16), kind.replace(CUDA, ""), CUDA not in kind

    chosen = max(of_settings, key=rank)
    metric = load_space(run.identity["space"]).metric
    scores = Scores((arch, _score(row, metric)) for arch, row in of_settings[chosen].items())
    scores.metric = scores.truth_metric = metric
    scores.dataset = run.recipe["dataset"]
    scores.settings = chosen.removeprefix(f"evaluation {latest} ")
    remarks = [unfinished(run)]
    step, trained = int(latest.removeprefix("step=")), max((line["step"] for line in run.metrics()), default=0)
    if step < trained:
        remarks.append(f"{run.path} was last scored at step {step} of {trained}: run 'wsnas evaluate {run.path}' again")
    if len(of_settings) > 1:
        remarks.append(
            f"{run.path} was scored with {len(of_settings)} settings; used: {scores.settings}, of most submodels"
        )
    scores.remarks = tuple(filter(None, remarks))
    return scores
