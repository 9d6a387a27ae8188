"""Scores submodels of one trained supernet: calibrate, then measure accuracy or perplexity on the validation data.

Each submodel's row is committed at once, so a killed evaluation resumes where it stopped. A submodel's
score depends on the weights, the calibration images and its path, not on earlier evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsnas.calibration import calibrate
from wsnas.data.images import Splits
from wsnas.devices import cpu_threads
from wsnas.errors import WsnasError
from wsnas.progress import Report, bar_in_notebook
from wsnas.recipe import Decides, Recipe, recipe_fields
from wsnas.runs import Run
from wsnas.space import SearchSpace, load_space
from wsnas.supernet import Supernet
from wsnas.training import stop_between_steps

BF16 = " bf16"  # suffix of the kind of rows scored in bfloat16


class Scores(dict[str, float]):
    """Scores by encoded architecture: a dict that is short to look at. ``metric``: ``accuracy`` or ``perplexity``."""

    metric = "score"

    def __repr__(self) -> str:
        known = [value for value in self.values() if math.isfinite(value)]
        spread = f" from {min(known):.2f} to {max(known):.2f}" if known else ""
        return f"Scores of {len(self):,} architectures: {self.metric}{spread}"

    def _repr_html_(self) -> str:
        """The five best and the worst."""
        order = sorted(self.items(), key=lambda item: item[1] if self.metric == "perplexity" else -item[1])
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

    Calibration images are the first training images in order, not augmented: the same for every path. ``amp``:
    calibrate and score under bfloat16 autocast.
    """
    images = recipe.calibration_batch * recipe.calibration_steps
    with torch.autocast(splits.valid.device.type, torch.bfloat16, enabled=amp):
        if images:
            batches: Iterator[torch.Tensor] = (x for x, _ in splits.train.ordered(recipe.calibration_batch, images))
            calibrate(model, path, batches)
        return splits.valid.score(model, path, recipe.evaluation_batch, recipe.valid_size)


def evaluate(
    supernet: Supernet,
    archs: Iterable[Any] | str,
    *,
    resume: bool = True,
    amp: bool = False,
    report: Report | None = None,
) -> Scores:
    """Validation accuracy in percent (or perplexity) of each architecture, by its encoding, in the order given.

    ``archs``: architectures or their encodings, or one encoding. Existing rows for the same weights and settings,
    ``amp`` (bfloat16) included, are reused. On the CPU torch uses as many threads as in training. Raises WsnasError for
    an invalid encoding, before anything is evaluated.
    """
    space, recipe = supernet.space, supernet.recipe
    archs = [archs] if isinstance(archs, str) else archs
    wanted = {space.encode(arch): arch for arch in map(space.arch, archs)}
    if not wanted:
        raise WsnasError("there are no architectures to evaluate")
    kind, device = _kind(recipe, supernet.step, amp), supernet.splits.valid.device
    threads = supernet.run.identity.get("threads") if device.type == "cpu" else None
    with (
        cpu_threads(threads, device),
        supernet.run.writing(),
        stop_between_steps() as stopping,
        bar_in_notebook(report, "evaluate") as report,
    ):
        rows = supernet.run.records(kind) if resume else {}
        for done, (name, arch) in enumerate(wanted.items(), start=1):
            if name not in rows:
                value, loss = evaluate_submodel(supernet.model, arch, supernet.splits, recipe, amp)
                rows[name] = {space.metric: value, "loss": loss if math.isfinite(loss) else None}
                supernet.run.record(kind, name, rows[name], "ok" if math.isfinite(loss) else "not finite")
            if report is not None:
                report(done, len(wanted), "submodels")
            if stopping():
                raise KeyboardInterrupt
    scores = Scores((name, rows[name][space.metric]) for name in wanted)
    scores.metric = space.metric
    return scores


def _kind(recipe: Recipe, step: int, amp: bool = False) -> str:
    """The kind of submodel rows: everything a score depends on besides the submodel and the supernet's run."""
    images = "all" if recipe.valid_size is None else f"{recipe.valid_size:08d}"
    calibration = f"{recipe.calibration_batch}x{recipe.calibration_steps}"
    own = [f for f in recipe_fields(recipe).values() if f.decides is Decides.SCORES and "calibration" not in f.name]
    more = "".join(f" {f.name}={f.value}" for f in own)  # fields added by the space
    return f"evaluation step={step:08d} images={images} calibration={calibration}{more}" + BF16 * amp


def recorded_scores(
    path: Path, space: SearchSpace[Any], recipe: Recipe, archs: Iterable[Any]
) -> NDArray[np.float64] | None:
    """Scores [n] of the architectures, if a finished run has all of them; loads no data and builds no network."""
    if not (path / "metrics.jsonl").exists():
        return None
    run = Run.read(path)
    last = run.metrics()[-1:]
    if not last or last[0]["epoch"] != recipe.supernet.epochs:
        return None
    rows = run.records(_kind(recipe, last[0]["step"]))
    wanted = [space.encode(arch) for arch in archs]
    return np.array([rows[name][space.metric] for name in wanted]) if rows.keys() >= set(wanted) else None


def latest_scores(run: Run) -> dict[str, float]:
    """Validation accuracy in percent (or perplexity) by architecture, for the latest weights and the most images.

    bfloat16 scores are used only if there are none in float32.
    """
    kinds = [kind for kind in run.kinds() if kind.startswith("evaluation ")]
    if not kinds:
        raise WsnasError(f"{run.path} has no evaluated submodels yet: run 'wsnas evaluate {run.path}' first")
    latest = max(kinds, key=lambda kind: (kind.removesuffix(BF16), not kind.endswith(BF16)))
    metric = load_space(run.identity["space"]).metric
    return {arch: row[metric] for arch, row in run.records(latest).items() if row["status"] == "ok"}
