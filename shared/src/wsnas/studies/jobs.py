"""Supernets trained once and shared by studies, the scores of their submodels, and those of untrained networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import torch

from wsnas import paths as path_samplers
from wsnas.data.fingerprint import Version
from wsnas.devices import choose_device
from wsnas.errors import Busy, WsnasError, in_words
from wsnas.evaluation import evaluate, recorded_scores
from wsnas.executor import run_jobs
from wsnas.ground_truth import splits_once
from wsnas.metrics import Floats, higher_is_better
from wsnas.progress import progress
from wsnas.protocols import Protocol, protocol_scores
from wsnas.proxies import parse, proxy_identity, proxy_scores, score_kind
from wsnas.recipe import Recipe, change_recipe, digest
from wsnas.runs import Run
from wsnas.space import load_space
from wsnas.studies.options import StudyOptions
from wsnas.studies.sample import SpaceSample, space_samples
from wsnas.supernet import Supernet, require_trainable, supernet_identity, train_supernet
from wsnas.words import counted

J = TypeVar("J")
T = TypeVar("T")

PAUSE = 2.0  # seconds between two looks at a run that another process writes


def data_of(space: str, recipe: Recipe) -> dict[str, str]:
    """What names a recipe's data in a run's identity (``SearchSpace.data_identity``), found once until they change."""
    return _data_of(space, recipe, load_space(space).data_version(recipe))


@cache  # of a folder of a million images, this takes a while
def _data_of(space: str, recipe: Recipe, version: tuple[Version, ...]) -> dict[str, str]:
    return load_space(space).data_identity(recipe)


@dataclass(frozen=True)
class SupernetJob:
    """Train one supernet and score some of its submodels; the run is addressed by its content."""

    space: str
    recipe: Recipe
    seed: int
    candidates: tuple[Any, ...] | None  # architectures of the sub-space; None: the whole space
    evaluate: tuple[Any, ...]  # architectures to score
    runs: str  # the folder of content-addressed runs
    paths: str = "uniform"  # or "fair", "multi:N"

    @cached_property
    def out(self) -> Path:
        """Its run directory."""
        space, sampler = load_space(self.space), path_samplers.parse(self.paths)
        identity = supernet_identity(space, self.recipe, self.seed, sampler, self.candidates)
        return Path(self.runs) / f"{self.space}-{digest(identity, data_of(self.space, self.recipe))}"

    def recorded(self) -> Floats | None:
        """The scores recorded by an earlier study, if it has all of them."""
        data = data_of(self.space, self.recipe)
        return recorded_scores(self.out, load_space(self.space), self.recipe, self.evaluate, data)


def when_free(work: Callable[[], T]) -> T:
    """``work()``; while another study is writing to its run, waits, to take what it has."""
    while True:
        try:
            return work()
        except Busy:
            time.sleep(PAUSE)


def with_supernet(job: SupernetJob, use: Callable[[Supernet], T]) -> T:
    """``use`` of the job's supernet, which is trained if necessary."""

    def trained() -> Supernet:
        return train_supernet(
            load_space(job.space),
            job.recipe,
            seed=job.seed,
            paths=path_samplers.parse(job.paths),
            candidates=job.candidates,
            out=job.out,
            splits=splits_once(job.space, job.recipe, choose_device()),
        )

    return when_free(lambda: use(trained()))


def supernet_scores(job: SupernetJob) -> Floats:
    """Accuracy in percent or perplexity of each architecture of the job."""
    return with_supernet(job, lambda supernet: np.array(list(evaluate(supernet, job.evaluate).values())))


@dataclass(frozen=True)
class ProtocolJob:
    """Score submodels of one supernet in several ways."""

    supernet: SupernetJob
    protocols: tuple[Protocol, ...]

    def scores(self, supernet: Supernet) -> Floats:
        found = [protocol_scores(supernet, self.supernet.evaluate, protocol) for protocol in self.protocols]
        return np.array([list(scores.values()) for scores in found])


def scores_by_protocol(job: ProtocolJob) -> Floats:
    """[protocols, architectures, 2]: validation accuracy in percent, and cross-entropy in nats."""
    return with_supernet(job.supernet, job.scores)


def require_supernets(jobs: Sequence[SupernetJob], options: StudyOptions) -> None:
    """Raises WsnasError if workers could not train these: their data are missing, damaged or unsuitable.

    On Ray only the nodes need to have them.
    """
    if options.executor.ray is None:
        for space, recipe in dict.fromkeys((job.space, job.recipe) for job in jobs):
            require_trainable(load_space(space), recipe, splits_once(space, recipe, torch.device("cpu")))


def all_scores(jobs: Iterable[SupernetJob], options: StudyOptions) -> dict[SupernetJob, Floats]:
    """The scores of every job. A failed job raises WsnasError after the others are done."""
    distinct = dict.fromkeys(jobs)
    scores = {job: job.recorded() for job in distinct} if options.resume else {}
    recorded = {job: found for job, found in scores.items() if found is not None}
    return _all_of(supernet_scores, {job: job for job in distinct}, recorded, options)


def all_scores_by_protocol(jobs: Iterable[ProtocolJob], options: StudyOptions) -> dict[ProtocolJob, Floats]:
    """``scores_by_protocol`` of every job, as ``all_scores``."""
    return _all_of(scores_by_protocol, {job: job.supernet for job in jobs}, {}, options)


def _all_of(
    function: Callable[[J], Floats],
    supernets: Mapping[J, SupernetJob],
    recorded: Mapping[J, Floats],
    options: StudyOptions,
) -> dict[J, Floats]:
    """The results of all jobs, each of one supernet: those ``recorded``, and the function of the others."""
    missing = [job for job in supernets if job not in recorded]
    missing.sort(key=lambda job: -supernets[job].recipe.supernet.epochs)  # so no worker idles at the end
    require_supernets([supernets[job] for job in missing], options)
    if not options.resume:
        for supernet in supernets.values():
            Run.remove(supernet.out)
    count = len(supernets)
    click.echo(f"{options.study}: {counted(count, 'supernet')}, {len(missing)} of them to train or score", err=True)
    results, failed = dict(recorded), list[BaseException]()
    with progress(options.study) as report:
        for job, result in run_jobs(function, missing, options.executor) if missing else ():
            if isinstance(result, BaseException):
                failed.append(result)
            else:
                results[job] = result
            report(len(results) + len(failed), count, "supernets")
    if failed:
        kept = ", the others are kept" if results else ""
        raise WsnasError(
            f"{len(failed)} of {counted(count, 'supernet')} failed{kept}; the first error was: {in_words(failed[0])}"
        ) from failed[0]
    return results


@dataclass(frozen=True)
class Factors:
    """By which a study shrinks a space at one scale, and how many architectures it scores per factor at most."""

    factors: tuple[int, ...]
    architectures: int


def sub_space_job(
    options: StudyOptions, sample: SpaceSample, kept: Sequence[Any], scored: Sequence[Any], seed: int
) -> SupernetJob:
    """A supernet over the architectures ``kept``, some of which are ``scored``."""
    candidates = None if len(kept) == sample.space.size else tuple(sorted(kept))
    return SupernetJob(sample.name, sample.recipe, seed, candidates, tuple(scored), options.supernets)


@dataclass(frozen=True)
class Variant:
    """One way to train a supernet of a whole space, with several seeds."""

    label: str
    recipe: Recipe
    paths: str = "uniform"
    seeds: tuple[int, ...] = (0, 1, 2)


def job_of(options: StudyOptions, sample: SpaceSample, variant: Variant, seed: int) -> SupernetJob:
    """A variant's supernet of one of its seeds, which scores the sample."""
    return SupernetJob(sample.name, variant.recipe, seed, None, sample.archs, options.supernets, variant.paths)


def scores_of(options: StudyOptions, wanted: Sequence[tuple[SpaceSample, Variant]]) -> dict[tuple[str, str], Floats]:
    """(space, label) -> [seeds, architectures of the sample], higher is better.

    The supernets are kept next to the study's results, in folders named by their identity, and shared by the studies.
    """
    jobs = {
        (sample.name, variant.label, seed): job_of(options, sample, variant, seed)
        for sample, variant in wanted
        for seed in variant.seeds
    }
    scores = all_scores(jobs.values(), options)  # two variants can be one supernet
    return {
        (sample.name, variant.label): higher_is_better(
            [scores[jobs[sample.name, variant.label, seed]] for seed in variant.seeds], sample.space.metric
        )
        for sample, variant in wanted
    }


BUDGETS = {"micro": (100, 4), "desk": (1000, 7), "paper": (1000, 7)}  # architectures scored, budgets per space
budgets_option = click.option(
    "--budgets", "count", type=click.IntRange(1), help="Number of budgets: the recipe's epochs, 1/2, 1/4 ... of them."
)


def halved(recipe: Recipe, halvings: Iterable[int]) -> list[int]:
    """Ascending: the epochs of the recipe's supernet halved 0, 1, 2 ... times, as ``halvings`` says, at least one."""
    return sorted({max(1, round(recipe.supernet.epochs / 2**times)) for times in halvings})


def scores_by_budget(options: StudyOptions, count: int | None) -> list[tuple[SpaceSample, dict[int, Floats]]]:
    """For each space, scores [seeds, architectures] by epochs: 1/2^(count - 1) ... 1/4, 1/2 and all of the recipe's.

    Each budget is a separate training, as in Figure 1; the studies that use budgets share the supernets.
    """
    architectures, usual = BUDGETS[options.scale]
    wanted = []
    for sample in space_samples(options, architectures):
        budgets = halved(sample.recipe, range(count or usual))
        if len(budgets) < (count or 0):
            found = f"{counted(len(budgets), 'budget')} instead of {count}"
            longest = counted(sample.recipe.supernet.epochs, "epoch")
            click.echo(f"{sample.name}: {found}, as {longest} cannot be halved more often")
        for epochs in budgets:
            recipe = change_recipe(sample.recipe, epochs=epochs)
            wanted.append((sample, Variant(counted(epochs, "epoch"), recipe, "uniform", options.seeds)))
    scores = scores_of(options, wanted)
    by_space: dict[str, tuple[SpaceSample, dict[int, Floats]]] = {}
    for sample, variant in wanted:
        _, by_epochs = by_space.setdefault(sample.name, (sample, {}))
        by_epochs[variant.recipe.supernet.epochs] = scores[sample.name, variant.label]
    return list(by_space.values())


@dataclass(frozen=True)
class ProxyJob:
    """Score untrained architectures; the run is addressed by its content."""

    space: str
    recipe: Recipe
    proxy: str
    images: int
    seed: int
    archs: tuple[Any, ...]
    runs: str  # the folder of content-addressed runs

    @cached_property
    def out(self) -> Path:
        """Its run directory."""
        space = load_space(self.space)
        identity = proxy_identity(space, self.recipe, parse(self.proxy), self.images, self.seed)
        return Path(self.runs) / f"{self.space}-{self.proxy}-{digest(identity, data_of(self.space, self.recipe))}"


def untrained_scores(job: ProxyJob) -> tuple[Floats, float]:
    """Score of each architecture of the job, and the seconds that all of them took."""
    space = load_space(job.space)
    device = choose_device()
    splits = splits_once(job.space, job.recipe, device)
    options: dict[str, Any] = {"images": job.images, "seed": job.seed, "out": job.out, "splits": splits}
    scores = when_free(lambda: proxy_scores(space, job.archs, job.recipe, job.proxy, **options))
    rows = Run.read(job.out).records(score_kind(device.type))
    return np.array(list(scores.values())), sum(rows[name]["seconds"] for name in scores)


def all_untrained_scores(jobs: Sequence[ProxyJob], options: StudyOptions) -> dict[ProxyJob, tuple[Floats, float]]:
    """``untrained_scores`` of every job."""
    for job in jobs:
        if not options.resume:
            Run.remove(job.out)
    found: dict[ProxyJob, tuple[Floats, float]] = {}
    with progress(options.study) as report:
        for job, result in run_jobs(untrained_scores, jobs, options.executor):
            if isinstance(result, TimeoutError) and options.executor.timeout is not None:
                raise WsnasError(
                    f"{job.proxy} of {counted(len(job.archs), 'architecture')} of {job.space} {result}: give a larger "
                    "time limit (--timeout)"
                ) from result
            if isinstance(result, BaseException):
                raise result
            found[job] = result
            report(len(found), len(jobs), "zero-cost scores")
    return found
