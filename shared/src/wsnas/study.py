"""What every study does: options, supernets trained once and shared, verdicts, and the files it leaves.

A study writes ``results.json`` (every number with its interval, and the verdicts), a tidy CSV and its
figure as PNG and SVG into one directory, and says where.
"""

from __future__ import annotations

import csv
import functools
import inspect
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
import numpy as np

from wsnas import paths as path_samplers
from wsnas.cli import chosen_recipe, executor_options, progress, recipe_options
from wsnas.devices import choose_device
from wsnas.errors import WsnasError
from wsnas.evaluation import evaluate, recorded_scores
from wsnas.executor import Executor, run_jobs
from wsnas.files import atomic_write
from wsnas.ground_truth import load_ground_truth, splits_once
from wsnas.metrics import (
    Ceiling,
    Floats,
    goodness,
    noise_ceiling,
    percentiles,
    random_top_k,
    rank_bootstrap,
    spearman,
    top_k,
)
from wsnas.paths import Sampler
from wsnas.randomness import numpy_rng
from wsnas.runs import Run, commit, environment
from wsnas.space import Recipe, SearchSpace, change_recipe, digest, installed_spaces, load_space
from wsnas.supernet import supernet_identity, train_supernet
from wsnas.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

F = TypeVar("F", bound=Callable[..., Any])
Holds = Literal["holds", "does not hold", "inconclusive"]


@dataclass(frozen=True)
class Asked:
    """What a study was asked for on its command line."""

    study: str
    scale: str
    spaces: tuple[str, ...]  # none: every installed one
    seeds: tuple[int, ...]  # of the supernets (or trainings) of each setting
    architectures: int | None  # to score or train; None: as the study has it for the scale
    table: str | None
    truth: str | None  # data set of the ground truth; None: the supernet's
    resume: bool
    executor: Executor
    out: Path
    recipe: Mapping[str, Any]  # changes on top of the scale's

    @property
    def supernets(self) -> str:
        """The folder of the runs that studies share, beside their results; absolute, as a worker may be elsewhere."""
        return str((self.out.parent / "supernets").resolve())

    @property
    def about(self) -> str:
        """The recipe, for a figure, which names the data itself: a scale as it is, or one that options changed."""
        changed = any(value is not None for value in self.recipe.values())
        return f"{self.scale.capitalize()} {'recipe, changed by options' if changed else 'scale'}"

    def settings(self, subjects: Sequence[Subject], **more: Any) -> dict[str, Any]:
        """What ``results.json`` says of the study's settings."""
        return {"scale": self.scale, "seeds": len(self.seeds), **more, **{s.name: s.settings() for s in subjects}}


def study_options(study: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options every study takes, the recipe's included; the command gets them as its first argument ``asked``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = {name for name in inspect.signature(command).parameters if name != "asked"}

        @functools.wraps(command)
        def with_asked(
            spaces: tuple[str, ...],
            scale: str,
            seeds: int | None,
            architectures: int | None,
            table: str | None,
            truth: str | None,
            resume: bool,
            executor: Executor,
            out: Path | None,
            **others: Any,
        ) -> Any:
            mine = {name: others.pop(name) for name in own}
            where = out or Path("runs") / f"study-{study}-{scale}"
            number = tuple(range(seeds or 3))
            asked = Asked(study, scale, spaces, number, architectures, table, truth, resume, executor, where, others)
            return command(asked, **mine)

        return _with_options(with_asked)

    return decorate


def _with_options(command: F) -> F:
    options = (
        click.option(
            "--space", "spaces", multiple=True, help="Search space; repeatable. Default: every installed one."
        ),
        click.option("--seeds", type=click.IntRange(1), help="Supernets a setting. Default: 3."),
        click.option("--architectures", type=click.IntRange(4), help="How many are scored, or trained, a space."),
        click.option("--table", type=click.Path(), help="Ground truth, in place of the shipped or imported table."),
        click.option("--truth", help="Data set of the ground truth. Default: the supernet's."),
        click.option("--resume/--fresh", default=True, show_default=True, help="Use what earlier runs left, or not."),
        click.option("--out", type=click.Path(path_type=Path), help="Default: runs/study-NAME-SCALE."),
    )
    command = recipe_options(executor_options(command))
    for option in reversed(options):
        command = option(command)
    return command


def chosen_spaces(names: Sequence[str]) -> list[Any]:
    """The named spaces, or all installed ones. Raises WsnasError where there are none."""
    found = names or installed_spaces()
    if not found:
        raise WsnasError("no search space is installed; install one, e.g. pip install ./packages/nb201")
    return [load_space(name) for name in found]


@dataclass(frozen=True)
class Truth:
    """The ground truth a study ranks by: architectures with validation and test results, higher is better."""

    table: Table
    dataset: str
    epochs: int  # of the trainings
    valid: Floats
    test: Floats
    left_out: int  # architectures of the table that failed or were not measured

    def seeds(self, archs: Sequence[str] | None = None) -> Floats:
        """[architectures, seeds]: test results of every seed, of all architectures or of these."""
        table = self.table if archs is None else self.table.select(archs)
        return table.seeds(self.dataset, "test", self.epochs)


def ground_truth(space: SearchSpace[Any], asked: Asked, recipe: Recipe) -> Truth:
    """The ground truth of the data set asked for; else of the recipe's, or of the table's first without that.

    Validation and test results are those of one training length: the longest that has both.
    """
    dataset = asked.truth or recipe.dataset
    found = load_ground_truth(space, dataset, asked.table)
    if asked.truth is not None and dataset not in found.datasets:
        raise WsnasError(
            f"--truth {dataset}: the table of {space.name} has no such data set, but {', '.join(found.datasets)}"
        )
    dataset = dataset if dataset in found.datasets else found.datasets[0]
    lengths = {split: found.epochs(dataset, split) for split in ("valid", "test")}
    both, longest = lengths["valid"] & lengths["test"], max(lengths["valid"] | lengths["test"])
    if not both:
        raise WsnasError(
            f"the table of {space.name} has validation and test results of {dataset} for no common number of epochs"
        )
    epochs = max(both)
    if epochs < longest:
        click.echo(
            f"{space.name}: the {longest}-epoch results of {dataset} are not used: only those of {epochs} epochs are "
            "there for validation and test"
        )
    valid, test = (found.mean(dataset, split, epochs) for split in ("valid", "test"))
    known = ~(np.isnan(valid) | np.isnan(test))
    left_out = int((~known).sum())
    if left_out:
        click.echo(f"{space.name}: {left_out} of {len(found)} architectures have no result (failed or not trained)")
    kept = found.select([arch for arch, ok in zip(found.archs, known, strict=True) if ok])
    valid, test = (goodness(values[known], space.metric) for values in (valid, test))
    return Truth(kept, dataset, epochs, valid, test, left_out)


@dataclass(frozen=True)
class Subject:
    """What a study looks at in one space: its recipe, and a uniform sample of architectures with a ground truth."""

    space: SearchSpace[Any]
    recipe: Recipe
    truth: Truth
    archs: tuple[str, ...]  # the sample, encoded
    valid: Floats  # of the sample, as ``test``: ground truth, higher is better
    test: Floats
    parameters: Floats

    @property
    def name(self) -> str:
        return self.space.name

    def settings(self) -> dict[str, Any]:
        """What ``results.json`` says of it."""
        about = {"truth": self.truth.dataset, "truth_epochs": self.truth.epochs, "evaluated": len(self.archs)}
        about["truth_trainings"] = self.truth.table.about.get("status")  # how many went well; None: not recorded
        return {**self.recipe.to_json(), **about, "without_ground_truth": self.truth.left_out}

    def panel(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Its column of a ``ranking_figure``."""
        return {"space": self.space, "recipe": self.recipe, "dataset": self.truth.dataset, "rows": rows}

    def ceiling(self) -> Ceiling | None:
        return noise_ceiling(self.truth.seeds(self.archs))


def subjects(asked: Asked, count: int, least: int = 12, fewest: int = 12) -> list[Subject]:
    """The spaces that can serve a study which scores ``count`` architectures, unless it was asked for another number.

    Says which spaces are left out, and why: no ground truth, or of fewer than ``least`` architectures. Raises
    WsnasError where fewer than ``fewest`` are to be scored, before anything is trained.
    """
    if (asked.architectures or count) < fewest:
        raise WsnasError(f"--architectures {asked.architectures} is too few for this study: give at least {fewest}")
    found = []
    for space in chosen_spaces(asked.spaces):
        chosen = chosen_recipe(space, asked.scale, **asked.recipe)
        try:
            ground = ground_truth(space, asked, chosen)
        except WsnasError as error:
            if asked.spaces:
                raise
            click.echo(f"{space.name}: left out: {error}")
            continue
        if len(ground.table) < least:
            click.echo(f"{space.name}: left out: {len(ground.table)} architectures with a ground truth are too few")
            continue
        order = numpy_rng(0, "sample").permutation(len(ground.table))[: asked.architectures or count]
        archs = tuple(ground.table.archs[int(i)] for i in order)
        sizes = np.array([space.parameters(space.decode(arch), chosen) for arch in archs], dtype=np.float64)
        found.append(Subject(space, chosen, ground, archs, ground.valid[order], ground.test[order], sizes))
    if not found:
        raise WsnasError("no installed space has a ground truth for this study; see 'wsnas ground-truth' and --table")
    return found


def finite(scores: Floats) -> Floats:
    """The scores with those that are not finite (a submodel whose perplexity overflowed) below all others: last."""
    known = np.isfinite(scores)
    return np.where(known, scores, np.min(scores, where=known, initial=0.0) - 1.0)


def ranking(
    scores: Floats, valid: Floats, test: Floats, k: int, parameters: Floats | None = None, *, draws: int = 0
) -> dict[str, Any]:
    """How supernets rank architectures. scores [supernets, n]; valid, test, parameters [n]; all higher is better.

    Correlations with the ground truth (mean over supernets, bootstrap interval over architectures and supernets,
    each supernet's), the top-k by each supernet, the exact expectation of a random top-k and three draws (``draws``
    numbers them). A score that is not finite ranks last. ``bootstrap``: the draws behind the interval.
    """
    not_finite = int((~np.isfinite(scores)).sum())
    scores = finite(scores)
    drawn = rank_bootstrap(scores, test)
    low, high = percentiles(drawn)
    correlations = [spearman(score, test) for score in scores]
    tops = [top_k(score, valid, test, k) for score in scores]
    rng = numpy_rng(0, "random top-k", draws)
    varied = parameters is not None and (parameters >= 0).all() and len(np.unique(parameters)) > 1
    return {
        "evaluated": len(test),
        "not_finite": not_finite,
        "correlation": float(np.mean(correlations)),
        "correlation_low": low,
        "correlation_high": high,
        "correlation_seeds": correlations,
        "parameters_correlation": spearman(parameters, test) if varied and parameters is not None else None,
        "top": float(np.mean(tops)),
        "top_seeds": tops,
        "random_top": random_top_k(valid, test, k),
        "random_top_draws": [top_k(rng.random(len(test)), valid, test, k) for _ in range(3)],
        "best": float(test.max()),
        "bootstrap": drawn,
    }


@dataclass(frozen=True)
class SupernetJob:
    """Train one supernet and score some of its submodels; found again by its content."""

    space: str
    recipe: Recipe
    seed: int
    within: tuple[str, ...] | None  # encoded architectures of the sub-space; None: the whole space
    evaluate: tuple[str, ...]  # encoded architectures to score
    runs: str  # the folder that holds content-addressed runs
    paths: str = "uniform"  # or "fair", "multi:N"

    def place(self) -> tuple[list[Any] | None, Sampler, Path]:
        """Architectures to draw paths from (None: all), how, and the directory of its run."""
        space, paths = load_space(self.space), path_samplers.parse(self.paths)
        within = None if self.within is None else [space.decode(arch) for arch in self.within]
        identity = supernet_identity(space, self.recipe, self.seed, paths, within)
        return within, paths, Path(self.runs) / f"{self.space}-{digest(identity)}"

    def recorded(self) -> dict[str, float] | None:
        """What an earlier study left, where that is all."""
        return recorded_scores(self.place()[2], load_space(self.space), self.recipe, self.evaluate)


def supernet_scores(job: SupernetJob) -> dict[str, float]:
    """Accuracy in percent or perplexity of each architecture of the job; trains the supernet where needed."""
    space = load_space(job.space)
    within, paths, out = job.place()
    splits = splits_once(job.space, job.recipe, choose_device())
    supernet = train_supernet(space, job.recipe, seed=job.seed, paths=paths, within=within, out=out, splits=splits)
    return evaluate(supernet, job.evaluate)


def all_scores(jobs: Sequence[SupernetJob], asked: Asked) -> list[dict[str, float]]:
    """The scores of every job, in the jobs' order. A job that fails raises once the others are done."""
    for job in jobs:
        if not asked.resume:
            Run.remove(job.place()[2])
    recorded = [job.recorded() for job in jobs]
    results = {i: scores for i, scores in enumerate(recorded) if scores is not None}
    position = {id(job): i for i, job in enumerate(jobs)}
    missing = [job for i, job in enumerate(jobs) if i not in results]
    missing.sort(key=lambda job: -job.recipe.supernet.epochs)  # the long ones first: no worker waits for one at the end
    failed: list[BaseException] = []
    with progress(asked.study) as report:
        for job, result in run_jobs(supernet_scores, missing, asked.executor) if missing else ():
            if isinstance(result, BaseException):
                failed.append(result)
            else:
                results[position[id(job)]] = result
            report(len(results) + len(failed), len(jobs), "supernets")
    if failed:
        known = isinstance(failed[0], WsnasError)
        raise WsnasError(
            f"{len(failed)} of {len(jobs)} supernets failed, the others are kept; the first said: "
            f"{failed[0] if known else repr(failed[0])}"
        ) from failed[0]
    return [results[i] for i in range(len(jobs))]


def sub_space_job(asked: Asked, subject: Subject, kept: Sequence[str], scored: Sequence[str], seed: int) -> SupernetJob:
    """A supernet of the architectures ``kept``, some of which are ``scored``."""
    within = None if len(kept) == subject.space.size else tuple(sorted(kept))
    return SupernetJob(subject.name, subject.recipe, seed, within, tuple(scored), asked.supernets)


def ranking_within(
    subject: Subject, scored: Sequence[str], results: Sequence[Mapping[str, float]], k: int, draws: int
) -> dict[str, Any]:
    """``ranking`` of architectures that are not the subject's sample; ``results``: of each supernet, as measured."""
    rows = [subject.truth.table.row[arch] for arch in scored]
    matrix = goodness([[result[arch] for arch in scored] for result in results], subject.space.metric)
    valid, test = subject.truth.valid[rows], subject.truth.test[rows]
    counted = [subject.space.parameters(subject.space.decode(arch), subject.recipe) for arch in scored]
    return ranking(matrix, valid, test, k, np.array(counted, dtype=np.float64), draws=draws)


@dataclass(frozen=True)
class Variant:
    """One way to train a supernet of a whole space, with several seeds."""

    label: str
    recipe: Recipe
    paths: str = "uniform"
    seeds: tuple[int, ...] = (0, 1, 2)


def scores_of(asked: Asked, wanted: Sequence[tuple[Subject, Variant]]) -> dict[tuple[str, str], Floats]:
    """(space, label) -> [seeds, architectures of the subject's sample], higher is better.

    The supernets lie beside the study's results, in folders named by what decides their weights: studies share them.
    """
    jobs = {
        (subject.name, variant.label, seed): SupernetJob(
            subject.name, variant.recipe, seed, None, subject.archs, asked.supernets, variant.paths
        )
        for subject, variant in wanted
        for seed in variant.seeds
    }
    unique = list(dict.fromkeys(jobs.values()))  # two variants can be one supernet
    found = dict(zip(unique, all_scores(unique, asked), strict=True))
    return {
        (subject.name, variant.label): goodness(
            [
                [found[jobs[subject.name, variant.label, seed]][arch] for arch in subject.archs]
                for seed in variant.seeds
            ],
            subject.space.metric,
        )
        for subject, variant in wanted
    }


BUDGETS = {"micro": (100, 4), "paper": (1000, 7)}  # architectures scored, budgets a space
budgets_option = click.option(
    "--budgets", "count", type=click.IntRange(1), help="How often the recipe's epochs are halved, and one."
)


def scores_by_budget(asked: Asked, count: int | None) -> list[tuple[Subject, dict[int, Floats]]]:
    """Of each space, by epochs, [seeds, architectures]: 1/2^(count - 1) ... 1/4, 1/2 and all of the recipe's epochs.

    Each budget is a training of its own, as in Figure 1; the studies that look at budgets share the supernets.
    """
    architectures, usual = BUDGETS[asked.scale]
    wanted = []
    for subject in subjects(asked, architectures):
        longest = subject.recipe.supernet.epochs
        for epochs in sorted({max(1, round(longest / 2**halvings)) for halvings in range(count or usual)}):
            recipe = change_recipe(subject.recipe, epochs=epochs)
            wanted.append((subject, Variant(f"{epochs} epochs", recipe, "uniform", asked.seeds)))
    scores = scores_of(asked, wanted)
    found: dict[str, tuple[Subject, dict[int, Floats]]] = {}
    for subject, variant in wanted:
        _, of_budgets = found.setdefault(subject.name, (subject, {}))
        of_budgets[variant.recipe.supernet.epochs] = scores[subject.name, variant.label]
    return list(found.values())


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, what was measured, and what a rule written beforehand says of it."""

    claim: str
    source: str  # where the paper says so
    space: str
    rule: str
    measured: str
    verdict: Holds


def sign_verdict(low: float, high: float, supernets: int = 2) -> Holds:
    """For a claim "this number is above zero": by the interval [low, high]. One supernet has no spread: it decides
    nothing.
    """
    return "inconclusive" if supernets < 2 or low <= 0 <= high else "holds" if low > 0 else "does not hold"


def plain(value: Any) -> Any:
    """Numbers, strings and containers that JSON can hold; NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_results(
    asked: Asked,
    *,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    results: Mapping[str, Any],
    figure: Figure,
    title: str,
    source: str,
    more: Mapping[str, Figure] | None = None,
) -> None:
    """Writes results.json, STUDY.csv, STUDY.png and STUDY.svg into ``asked.out`` and says so.

    ``more``: further figures, which become STUDY-NAME.png and .svg; the report shows them, too.
    """
    out, study = asked.out, asked.study
    described = {
        "study": study,
        "title": title,
        "source": source,
        "command": " ".join(["python", f"studies/{study}.py", *sys.argv[1:]]),
        "settings": settings,
        "environment": {**environment(), "commit": commit()},
        "results": results,
        "verdicts": verdicts,
    }
    atomic_write(out / "results.json", (json.dumps(plain(described), indent=1) + "\n").encode())
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(out / f"{study}.csv", text.getvalue().encode())
    figures = {study: figure, **{f"{study}-{name}": other for name, other in (more or {}).items()}}
    for name, drawn in figures.items():
        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            drawn.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            atomic_write(out / f"{name}.{kind}", buffer.getvalue())
    for verdict in verdicts:
        click.echo(f"{verdict.space}: {verdict.claim}: {verdict.verdict} ({verdict.measured})")
    click.echo(", ".join([f"{out / 'results.json'}, {study}.csv", *(f"{name}.png, {name}.svg" for name in figures)]))
