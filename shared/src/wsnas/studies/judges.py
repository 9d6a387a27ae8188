"""All that can rank architectures, each with what it costs: what is known for free, zero-cost scores, supernets, short
trainings, and a predictor. Costs are in sufficient trainings (``wsnas.studies.costs``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy import stats

from wsnas import paths as path_samplers
from wsnas.errors import WsnasError
from wsnas.ground_truth import INTERRUPTED, train_many
from wsnas.metrics import NEARLY_ALL, Floats, Interval, correlation_over, higher_is_better
from wsnas.progress import progress
from wsnas.proxies import SHAPE, ZERO_COST, name_of, proxy_scores, require_fit
from wsnas.randomness import numpy_rng
from wsnas.recipe import Sequences, change_recipe, digest
from wsnas.runs import Run
from wsnas.studies.costs import Costs
from wsnas.studies.jobs import BUDGETS, ProxyJob, Variant, all_untrained_scores, halved, job_of, when_free
from wsnas.studies.options import StudyOptions
from wsnas.studies.predictor import features, gaussian_process, linear, most, predictions
from wsnas.studies.rankings import K, Ranking, finite, measures_csv, measures_json, ranking
from wsnas.studies.sample import SpaceSample
from wsnas.table import Column, Table
from wsnas.words import counted

FREE, UNTRAINED = "free", "zero-cost score"
UNIFORM, FAIR, MULTI = "supernet", "supernet, FairNAS", "supernet, multi-path"
WITH_SIZE, REGRESSION = "supernet and parameter count", "supernet, parameter count, 20 trained"
SHORT, PREDICTOR = "short trainings", "predictor"
LABELS = {
    "naswot": "NASWOT",
    "synflow": "SynFlow",
    "grad_norm": "gradient norm",
    "snip": "SNIP",
    "grasp": "GraSP",
    "fisher": "Fisher",
    "jacob_cov": "Jacobian cov.",
}
TRAINED_COUNTS = (10, 20, 50, 100, 200, 500)  # that the predictor is fitted on
FITS = 1000  # architectures that the predictors of one count are fitted on in all, but MOST_FITS predictors at most
MOST_FITS = 50
FEW = 20  # trained architectures that the regression is fitted on


@dataclass(frozen=True)
class Judge:
    """Something that ranks the sample, with its cost."""

    kind: str
    label: str
    setting: float | None  # epochs, or trained architectures
    cost: float  # of ranking the sample, in trainings
    seconds: float | None  # measured; of supernets only the training. None: not measured
    scores: Floats  # [judges, n], higher is better
    ranking: Ranking

    def interval(self) -> Interval:
        return correlation_over(self.ranking.agreement)

    def known(self) -> dict[str, Any]:
        """What results.json and the CSV both have."""
        about = {name: getattr(self, name) for name in ("kind", "label", "setting", "cost", "seconds")}
        found = self.interval()
        return {**about, "correlation": found.value, "correlation_low": found.low, "correlation_high": found.high}

    def to_json(self, partial: dict[str, Interval]) -> dict[str, Any]:
        ranked = self.ranking
        more = {"not_finite": ranked.not_finite, "correlation_seeds": ranked.correlation_seeds}
        given = {"partial": partial} if partial else {}
        return {**self.known(), **more, "measures": measures_json(ranked.measures), **given}

    def to_csv(self, space: str, partial: dict[str, Interval]) -> dict[str, Any]:
        given = {f"given {name}": found.value for name, found in partial.items()}
        return {"space": space, **self.known(), **measures_csv(self.ranking.measures), **given}


def judge(
    sample: SpaceSample,
    kind: str,
    label: str,
    scores: Floats,
    cost: float,
    setting: float | None = None,
    seconds: float | None = None,
    common: float = 0.0,
) -> Judge:
    """Of scores [judges, n] or [n], higher is better. ``common``: as of ``ranking``."""
    several = np.atleast_2d(scores)
    ranked = ranking(several, sample.valid, sample.test, min(K, len(sample.archs)), common=common)
    return Judge(kind, label, setting, cost, seconds, finite(several), ranked)


def free(sample: SpaceSample, costs: Costs) -> Iterator[Judge]:
    """What is known without any data, unless it is the same for all."""
    known = {"parameters": sample.parameters, "multiply-adds": costs.macs}
    if not isinstance(sample.recipe.standalone.inputs, Sequences):
        for shape in SHAPE:
            found = proxy_scores(sample.space, sample.archs, sample.recipe, shape, images=2, splits=costs.splits)
            known[name_of(shape)] = np.array(list(found.values()))
    for label, values in known.items():
        if len(np.unique(values)) > 1:
            yield judge(sample, FREE, label, values, 0.0)


def untrained(options: StudyOptions, sample: SpaceSample, costs: Costs, images: int) -> Iterator[Judge]:
    """Zero-cost scores, each of as many initialisations and batches as there are seeds."""
    names = []
    for proxy in ZERO_COST:
        try:
            require_fit(sample.space, sample.recipe, proxy)
        except WsnasError as refused:
            click.echo(str(refused))
        else:
            names.append(name_of(proxy))
    jobs = {
        name: [
            ProxyJob(sample.name, sample.recipe, name, images, seed, sample.archs, options.supernets)
            for seed in options.seeds
        ]
        for name in names
    }
    found = all_untrained_scores([job for of_seeds in jobs.values() for job in of_seeds], options)
    for name, of_seeds in jobs.items():
        scores, seconds = zip(*(found[job] for job in of_seeds), strict=True)
        cost = costs.untrained(name, images)
        yield judge(sample, UNTRAINED, LABELS[name], np.array(scores), cost, seconds=float(np.mean(seconds)))


def variants(options: StudyOptions, sample: SpaceSample, count: int | None, others: Sequence[str]) -> list[Variant]:
    """Uniform supernets: all of the recipe's epochs, 1/2, 1/4 ... of them. Those with several paths per step: 1/4 and
    1/8 of them.
    """
    _, usual = BUDGETS[options.scale]
    wanted = [("uniform", epochs) for epochs in halved(sample.recipe, range(count or usual))]
    for paths in others:
        try:
            path_samplers.parse(paths)(sample.space, numpy_rng(0))
        except WsnasError as refused:
            click.echo(f"{sample.name}: left out: {refused}")
        else:
            wanted += [(paths, epochs) for epochs in halved(sample.recipe, (2, 3))]
    return [
        Variant(
            f"{paths}, {counted(epochs, 'epoch')}", change_recipe(sample.recipe, epochs=epochs), paths, options.seeds
        )
        for paths, epochs in wanted
    ]


def seconds_of(options: StudyOptions, sample: SpaceSample, variant: Variant) -> float | None:
    """Of training one supernet, as its sessions recorded; mean over seeds."""
    totals = [Run.read(job_of(options, sample, variant, seed).out).seconds() for seed in variant.seeds]
    known = [total for total in totals if total]
    return float(np.mean(known)) if len(known) == len(totals) else None


def supernets(
    options: StudyOptions, sample: SpaceSample, costs: Costs, wanted: Sequence[Variant], scores: Sequence[Floats]
) -> Iterator[Judge]:
    """Of the scores [seeds, n] of each variant. With the parameter count: the mean of the ranks, and a regression."""
    kinds = {"uniform": UNIFORM, "fair": FAIR}
    varied = len(np.unique(sample.parameters)) > 1
    sizes = stats.rankdata(sample.parameters)
    truth = trained_once(sample)[1][sample.truth.rows(sample.archs)]
    for variant, found in zip(wanted, scores, strict=True):
        cost, epochs = costs.supernet(variant), float(variant.recipe.supernet.epochs)
        seconds = seconds_of(options, sample, variant)
        yield judge(sample, kinds.get(variant.paths, MULTI), variant.label, found, cost, epochs, seconds)
        if varied and variant.paths == "uniform":
            ranks, rows = stats.rankdata(finite(found), axis=1), np.arange(len(sample.archs))
            yield judge(sample, WITH_SIZE, f"{variant.label}, and size", ranks + sizes, cost, epochs, seconds)
            if most(truth, rows) >= FEW:
                fitted = [
                    predictions(linear, np.stack([one, sizes], 1), truth, rows, FEW, numpy_rng(seed, "regression"))
                    for seed, one in zip(variant.seeds, ranks, strict=True)
                ]
                label = f"{variant.label}, size, {FEW} trained"
                yield judge(sample, REGRESSION, label, np.array(fitted), cost + FEW, epochs, seconds)


def trained_once(sample: SpaceSample) -> tuple[list[dict[str, str]], Floats]:
    """Decisions and validation result of one training of every architecture of the ground truth; NaN: no such seed."""
    truth = sample.truth
    valid = truth.table.seeds(truth.dataset, "valid", truth.epochs)
    seed = int(np.isfinite(valid).sum(0).argmax())
    return [dict(sample.space.decisions(arch)) for arch in truth.archs], valid[:, seed]


def predictors(options: StudyOptions, sample: SpaceSample, cost: float = 0.0) -> Iterator[Judge]:
    """A Gaussian process fitted on n trained architectures, several times on a new draw of them; and where it differs,
    the parameter count, which is free: the mean of both ranks, as for ``WITH_SIZE``.

    ``cost``: of a supernet; its whole part is a number to fit on, too, so that the two can be compared. What draws from
    one pool of N trainings have in common, their spread does not show: the variance of their mean is about n / (N - n)
    of it larger than of as many independent ones.
    """
    decisions, truth = trained_once(sample)
    rows, described = sample.truth.rows(sample.archs), features(decisions)
    pool = most(truth, rows)
    for count in sorted({*TRAINED_COUNTS, max(TRAINED_COUNTS[0], int(cost))}):
        if count < pool:
            draws = max(2, len(options.seeds), min(MOST_FITS, FITS // count))
            scores = [
                predictions(gaussian_process, described, truth, rows, count, numpy_rng(seed, "predictor", count))
                for seed in range(draws)
            ]
            ranks = stats.rankdata(scores, axis=1) + stats.rankdata(sample.parameters)  # equal counts add nothing
            common = count / (pool - count)
            yield judge(sample, PREDICTOR, f"{count} trained", ranks, float(count), count, common=common)


def short_trainings(sample: SpaceSample, costs: Costs) -> Iterator[Judge]:
    """Validation results of the table's shorter trainings, each seed a judge.

    Not results half-way through a longer training, whose learning rate was still high; only they have no test result.
    Seed 0 of a short training begins as seed 0 of the ground truth does, which flatters it a little.
    """
    truth = sample.truth
    lengths = {split: truth.table.epochs(truth.dataset, split) for split in ("valid", "test")}
    for epochs in sorted(one for one in lengths["valid"] & lengths["test"] if one < truth.epochs):
        scores = truth.table.seeds(truth.dataset, "valid", epochs)[truth.rows(sample.archs)]
        scores = scores[:, np.isfinite(scores).mean(0) >= NEARLY_ALL]
        if missing := int(np.isnan(scores).sum()):
            length = counted(epochs, "epoch")
            click.echo(f"{sample.name}: {missing} trainings of {length} are missing in the table, and rank last")
        if scores.shape[1]:
            label = f"{epochs} of {counted(truth.epochs, 'epoch')}"
            yield judge(sample, SHORT, label, scores.T, costs.short(epochs), setting=epochs)


def fresh_trainings(options: StudyOptions, sample: SpaceSample, costs: Costs, epochs: int) -> Judge:
    """Validation results of trainings made here, which are kept next to the supernets; each seed a judge."""
    recipe = change_recipe(sample.recipe, **{"standalone.epochs": epochs})
    known = {column.seed or 0 for column in sample.truth.table.columns}
    seeds = [max(known) + 1 + seed for seed in options.seeds]  # none begins as a training of the ground truth does
    name = digest(recipe.standalone_identity(), sample.space.data_identity(recipe))
    out = Path(options.supernets) / f"{sample.name}-alone-{name}"
    if not options.resume:
        Run.remove(out)

    def trained() -> Table:
        with progress(f"{sample.name}, {counted(epochs, 'epoch')}") as report:
            return train_many(
                sample.space,
                sample.archs,
                out,
                recipe,
                seeds=seeds,
                executor=options.executor,
                retry=INTERRUPTED,
                report=report,
            )

    names = [sample.space.encode(arch) for arch in sample.archs]
    columns = when_free(trained).select(names).columns
    found = [columns[Column(recipe.dataset, "valid", epochs, seed)] for seed in seeds]
    if missing := int(np.isnan(found).sum()):
        click.echo(f"{sample.name}: {missing} of {counted(len(seeds) * len(names), 'training')} failed, and rank last")
    scores = higher_is_better(np.array(found), sample.space.metric)
    label = f"{counted(epochs, 'epoch')}, trained here"
    return judge(sample, SHORT, label, scores, costs.fresh(recipe.standalone), setting=epochs)


def of_kind(judges: Sequence[Judge], kind: str) -> list[Judge]:
    return [one for one in judges if one.kind == kind]
