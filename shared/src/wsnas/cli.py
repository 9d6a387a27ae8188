"""The ``wsnas`` command. Heavy imports happen inside the command that needs them."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsnas.errors import NoGroundTruth, WsnasError
from wsnas.options import Group, HomePath, Stopped, complete_spaces, executor_options, measured, was_given
from wsnas.progress import is_leader, progress
from wsnas.recipe_options import RecipeCommand, chosen_recipe, complete_scales, data_set_option
from wsnas.studies.scripts import Studies
from wsnas.words import counted

if TYPE_CHECKING:
    from wsnas.executor import Executor
    from wsnas.recipe import Recipe
    from wsnas.space import SearchSpace
    from wsnas.table import Table


PATH, FILE, COUNT = HomePath(path_type=Path), HomePath(path_type=Path, dir_okay=False), click.IntRange(1)
device_option = click.option("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one.")
threads_option = click.option(
    "--threads", type=click.IntRange(1, 10_000), help="Torch threads on the CPU.  [default: 1]"
)
space_argument = click.argument("space", shell_complete=complete_spaces)
run_argument = click.argument("run", type=PATH)
table_option = click.option("--table", type=HomePath(), help="Ground truth; by default the shipped or imported table.")
sample_option = click.option(
    "--sample",
    type=COUNT,
    default=200,
    help="Architectures to draw uniformly.  [default: 200, or all if there are fewer]",
)
sample_seed_option = click.option("--sample-seed", type=click.IntRange(0), default=0, show_default=True)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--json``: what the command returns is printed as one JSON object, and its sentences go to stderr."""

    @functools.wraps(command)
    def with_json(*args: Any, as_json: bool, **kwargs: Any) -> None:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            result = command(*args, **kwargs)
        if as_json and is_leader():
            from wsnas.studies.results import to_jsonable

            click.echo(json.dumps(to_jsonable(result), indent=1))

    option: Any = click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON, and messages to stderr."
    )
    return option(with_json)  # type: ignore[no-any-return]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wsnas")
def main() -> None:
    """Does weight sharing rank architectures the way training them does?"""


@main.command()
@json_option
def spaces() -> Any:
    """List the installed search spaces."""
    from wsnas.space import installed_spaces, load_space

    names = installed_spaces()
    if not names:
        raise WsnasError("no search space is installed; in a checkout, e.g.: pip install ./packages/nb201")
    for name in names:
        space = load_space(name)
        sets = ", ".join(f"{scale}: {recipe.dataset}" for scale, recipe in space.recipes.items())
        click.echo(f"{name:10} {space.size:>30,} architectures   {sets}")
    return {
        name: {
            "size": load_space(name).size,
            "datasets": {scale: recipe.dataset for scale, recipe in load_space(name).recipes.items()},
        }
        for name in names
    }


@main.command()
@click.argument("folder", type=PATH, default=Path("runs"))
@json_option
def runs(folder: Path) -> Any:
    """List the runs in FOLDER (by default runs): what each is, its progress, its size, and how to continue it."""
    from wsnas.overview import overview

    found = overview(folder)
    for one in found:
        click.echo(f"{one.path}: {one.what}, {one.progress}, {one.megabytes:.1f} MB")
        if not one.finished and one.command:
            click.echo(f"    {one.command}")
    if not found:
        click.echo(f"no run directories in {folder}")
    return found


@main.command("train-supernet", cls=RecipeCommand)
@space_argument
@click.option("--paths", default="uniform", show_default=True, help="Paths trained per step: uniform, fair or multi:N.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=PATH, help="Run directory.  [default: runs/SPACE-<digest of everything that affects it>]")
@click.option(
    "--folder", type=PATH, help="Put the run, under its default name, in this folder; studies look in runs/supernets."
)
@click.option("--sync-bn", is_flag=True, help="Batch norm over the images of all GPUs together.")
@click.option("--deterministic", is_flag=True, help="On CUDA: the same weights to the last bit each time, more slowly.")
@device_option
@threads_option
@json_option
def train_supernet(
    space: str,
    paths: str,
    seed: int,
    out: Path | None,
    folder: Path | None,
    sync_bn: bool,
    deterministic: bool,
    device: str | None,
    threads: int | None,
    scale: str,
    recipe: dict[str, Any],
) -> Any:
    """Train a supernet of SPACE. Repeat the command to resume a stopped run.

    \b
    For example:
      wsnas train-supernet nb201 --out runs/first
      wsnas train-supernet nb201 --scale desk --epochs 40
    """
    from wsnas.paths import parse
    from wsnas.space import load_space
    from wsnas.supernet import train_supernet as train

    found = load_space(space)
    with progress(f"{space} supernet") as report:
        supernet = train(
            found,
            chosen_recipe(found, scale, recipe),
            seed=seed,
            paths=parse(paths),
            out=out,
            folder=folder,
            device=device,
            sync_bn=sync_bn,
            threads=threads,
            deterministic=deterministic,
            report=report,
        )
    lines = supernet.run.metrics() if is_leader() else []
    if is_leader():
        loss = f"last epoch's loss {lines[-1]['loss']:.4f}" if lines else "its losses are not there (metrics.jsonl)"
        click.echo(f"trained {counted(supernet.step, 'step')}, {loss}: {supernet.run.path}")
    return {"run": supernet.run.path, "steps": supernet.step, "last_epoch": lines[-1:]}


@main.command()
@run_argument
@sample_option
@click.option("--arch", multiple=True, help="Evaluate this architecture instead; repeatable.")
@click.option("--table", type=HomePath(), help="Draw the sample from this ground-truth table.")
@sample_seed_option
@click.option("--valid-size", type=COUNT, help="Number of validation images (text: tokens); by default the recipe's.")
@click.option("--max-macs", type=COUNT, help="Draw only architectures with at most this many multiply-adds.")
@click.option("--amp", is_flag=True, help="Calibrate and score in bfloat16 instead of float32.")
@device_option
@functools.partial(executor_options, default="only this one")
@json_option
def evaluate(
    run: Path,
    sample: int,
    arch: tuple[str, ...],
    table: str | None,
    sample_seed: int,
    valid_size: int | None,
    max_macs: int | None,
    amp: bool,
    device: str | None,
    executor: Executor,
) -> Any:
    """Score submodels of a trained supernet: calibrate each, then measure validation accuracy or perplexity.

    With --workers, --ray or --slurm several processes share the work; by default only this one does it.

    \b
    For example:
      wsnas evaluate runs/first --sample 200
      wsnas evaluate runs/first --table runs/truth
    """
    import dataclasses

    import numpy as np

    from wsnas.agreement import ground_truth_for
    from wsnas.evaluation import evaluate as score
    from wsnas.randomness import numpy_rng
    from wsnas.recipe import change_recipe
    from wsnas.sampling import sample_candidates
    from wsnas.supernet import load_supernet, too_many_to_validate

    for name in ("sample", "table", "sample_seed", "max_macs"):
        if arch and was_given(name):
            option = name.replace("_", "-")
            raise WsnasError(
                f"--arch names the architectures, --{option} is for drawing them: give only one of the two"
            )
    alone = executor.workers is None and executor.ray is None and executor.slurm is None
    if alone and executor.timeout is not None:
        raise WsnasError("--timeout limits the jobs of several processes: give --workers, --ray or --slurm, too")
    if not alone and device is not None and ":" in device:
        raise WsnasError(
            f"--device {device} is for one process, and several share all GPUs: set CUDA_VISIBLE_DEVICES instead, or "
            "leave out --workers, --ray and --slurm"
        )
    supernet = load_supernet(run, device)
    changed = change_recipe(supernet.recipe, valid_size=valid_size, max_macs=max_macs)
    if valid_size is not None and valid_size > len(supernet.splits.valid):
        raise too_many_to_validate(changed, supernet.splits)
    supernet = dataclasses.replace(supernet, recipe=changed)
    archs: list[Any] = list(arch)
    if not archs:
        try:
            truth, _ = ground_truth_for(supernet.space, changed.dataset, table=table)
        except NoGroundTruth:
            if table is not None:
                raise
            count, rng = _at_most(sample, supernet.space), numpy_rng(sample_seed, "evaluate")
            archs = sample_candidates(supernet.space, changed, count, rng)
        else:
            archs = _drawn(_affordable(truth, supernet.space, changed), sample, sample_seed, changed.max_macs)
    with progress("evaluate") as report:
        scores = score(supernet, archs, amp=amp, executor=None if alone else executor, report=report)
    values = np.array([value for value in scores.values() if math.isfinite(value)])
    if len(values) < len(scores):
        click.echo(f"{len(scores) - len(values)} of {len(scores)} scores are not finite and left out")
    if not len(values):
        raise WsnasError(f"no score is finite: train the supernet longer, or with a lower learning rate: {run}")
    click.echo(
        f"{counted(len(values), 'submodel')}: validation {'accuracy ' if supernet.space.metric == 'accuracy' else ''}"
        f"{measured(supernet.space, values.mean())} "
        f"(from {values.min():.2f} to {values.max():.2f}): {run / 'records.sqlite'}"
    )
    return {"run": run, "metric": supernet.space.metric, "scores": scores}


def _at_most(sample: int, space: SearchSpace[Any]) -> int:
    """``--sample``, or, if it is the default, all architectures of a smaller space."""
    return sample if was_given("sample") else min(sample, space.size)


def _affordable(truth: Table, space: SearchSpace[Any], recipe: Recipe) -> Table:
    """The rows of at most the recipe's ``max_macs``."""
    most = recipe.max_macs
    if most is None:
        return truth
    return truth.select([name for name in truth.archs if space.macs(space.decode(name), recipe) <= most])


def _drawn(truth: Table, sample: int, sample_seed: int, max_macs: int | None) -> list[str]:
    """Architectures of a ground truth: ``--sample``, which must not be more than there are, or by default all."""
    there = int(truth.have_results().sum())
    if not there or (sample > there and was_given("sample")):
        raise WsnasError(
            f"cannot draw {sample} different architectures: the ground truth has results of {there}"
            + (f" with at most {max_macs:,} multiply-adds" if max_macs is not None else "")
        )
    return truth.sample(sample, sample_seed)


@main.command()
@run_argument
@table_option
@data_set_option("--truth", "dataset", help="Data set of the ground truth; by default the run's, if the table has it.")
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True)
@json_option
def correlate(run: Path, table: str | None, dataset: str | None, split: str) -> Any:
    """Spearman correlation between a supernet's evaluated scores and ground truth.

    \b
    For example:
      wsnas correlate runs/first
      wsnas correlate runs/first --table runs/truth --json
    """
    from wsnas.agreement import correlate as compare
    from wsnas.agreement import ground_truth_for, remarks
    from wsnas.evaluation import latest_scores
    from wsnas.runs import Run
    from wsnas.space import load_space

    supernet_run = Run.read(run)
    space = load_space(supernet_run.identity["space"])
    truth, dataset = ground_truth_for(space, supernet_run.recipe["dataset"], dataset, table)
    scores = latest_scores(supernet_run)
    result = compare(scores, truth, dataset, split)
    click.echo(
        f"Spearman {result.value:.3f}, 95 % interval {result.low:.3f} to {result.high:.3f}, over {result.n} of "
        f"{len(scores)} evaluated architectures ({dataset} {split}, {counted(truth.length(dataset, split), 'epoch')})"
    )
    for remark in (*scores.remarks, *remarks(scores, truth, dataset, split)):
        click.echo(remark)
    return {"run": run, "spearman": result, "scored": len(scores), "dataset": dataset, "split": split}


@main.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@table_option
@data_set_option(
    "--truth", "dataset", help="Data set of the ground truth; by default the first run's, if the table has it."
)
@click.option(
    "--scale",
    default="paper",
    show_default=True,
    shell_complete=complete_scales,
    help="Scale of the ground truth's recipe, used to count parameters and multiply-adds.",
)
@click.option("--out", type=PATH, help="Output folder; by default the folder rank in the first run.")
@json_option
def rank(runs: tuple[Path, ...], table: str | None, dataset: str | None, scale: str, out: Path | None) -> Any:
    """Compare supernets' ranking with what costs nothing to know: parameters and multiply-adds.

    Writes results.json, a CSV and a figure. Several runs of one space, such as seeds, are averaged over the
    architectures that all of them have scored, with an interval that covers other supernets.

    \b
    For example:
      wsnas rank runs/first --scale micro
      wsnas rank runs/seed-* --scale micro
    """
    from wsnas.studies.rank import rank as compare

    where = runs[0] / "rank" if out is None else out
    agreement = compare(runs, where, table=table, dataset=dataset, scale=scale)
    who = "supernet" if len(runs) == 1 else f"{len(runs)} supernets"
    sizes = {
        "parameter count": agreement.parameter_count_spearman,
        "multiply-adds": agreement.multiply_adds_spearman,
    }
    free = "".join(f", {name} {found}" for name, found in sizes.items() if found is not None)
    click.echo(
        f"Spearman: {who} {agreement.spearman}{free}, over {agreement.architectures} of {agreement.evaluated} "
        f"evaluated architectures: {where}"
    )
    for remark in agreement.remarks:
        click.echo(remark)
    return {"out": where, **vars(agreement)}


@main.command(
    cls=RecipeCommand,
    trains="",
    without=("calibration_batch", "calibration_steps", "evaluation_batch", "valid_size"),
)
@space_argument
@click.option(
    "--proxy",
    default="naswot",
    show_default=True,
    help="naswot, synflow, grad_norm, snip, grasp, fisher or jacob_cov; or convolutions or depth, which count.",
)
@sample_option
@sample_seed_option
@click.option(
    "--images", type=click.IntRange(2), default=64, show_default=True, help="Images (text: sequences) in the batch."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the initial weights and of the images drawn.",
)
@click.option("--table", type=HomePath(), help="Ground truth; by default the shipped or imported table, if any.")
@data_set_option("--truth", help="Data set of the ground truth; by default the recipe's, if the table has it.")
@click.option(
    "--out",
    type=FILE,
    help="CSV file of the scores.  [default: runs/SPACE-PROXY-<digest of all settings>.csv]",
)
@device_option
@threads_option
@json_option
def score(
    space: str,
    proxy: str,
    sample: int,
    sample_seed: int,
    images: int,
    seed: int,
    table: str | None,
    truth: str | None,
    out: Path | None,
    device: str | None,
    threads: int | None,
    scale: str,
    recipe: dict[str, Any],
) -> Any:
    """Score untrained architectures of SPACE on one batch, and compare their ranking with ground truth.

    \b
    For example:
      wsnas score nb201 --proxy synflow --sample 200
    """
    import numpy as np

    from wsnas.agreement import ground_truth_for
    from wsnas.metrics import correlation
    from wsnas.proxies import name_of, parse, proxy_identity, proxy_scores, require_fit
    from wsnas.randomness import numpy_rng
    from wsnas.recipe import digest
    from wsnas.sampling import sample_candidates
    from wsnas.space import load_space
    from wsnas.studies.rankings import finite
    from wsnas.studies.results import write_csv

    found = load_space(space)
    chosen, known = chosen_recipe(found, scale, recipe), None
    require_fit(found, chosen, parse(proxy))
    proxy = name_of(parse(proxy))
    try:
        known, dataset = ground_truth_for(found, chosen.dataset, truth, table)
    except NoGroundTruth:
        if truth is not None or table is not None:
            raise
        rng = numpy_rng(sample_seed, "evaluate")
        archs = [found.encode(arch) for arch in sample_candidates(found, chosen, _at_most(sample, found), rng)]
    else:
        known = _affordable(known, found, chosen)
        tested = np.isfinite(known.mean(dataset, "test"))
        known = known.take(np.flatnonzero(tested)).higher_is_better(found.metric)
        archs = _drawn(known, sample, sample_seed, chosen.max_macs)
    try:
        with progress(f"{space} {proxy}") as report:
            scores = proxy_scores(
                found, archs, chosen, proxy, images=images, seed=seed, device=device, threads=threads, report=report
            )
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing is written before all are scored") from None
    rows: list[dict[str, Any]] = [
        {"arch": name, "score": value, "parameters": found.parameters(found.decode(name), chosen)}
        for name, value in scores.items()
    ]
    said, ranked = counted(len(rows), "architecture"), None
    if known is not None and len(rows) > 1:
        results = known.mean(dataset, "test")[[known.row[name] for name in scores]]
        for row, result in zip(rows, results, strict=True):
            row["test"] = abs(float(result))  # as measured
        ranked = correlation(finite(np.array(list(scores.values()))), results)
        sizes = [row["parameters"] for row in rows]
        by_size = f", parameter count {correlation(sizes, results)}" if len(set(sizes)) > 1 else ""
        said = (
            f"Spearman: {proxy} {ranked}{by_size}, over {ranked.n} architectures "
            f"({dataset} test, {counted(known.length(dataset, 'test'), 'epoch')})"
        )
    settings = proxy_identity(found, chosen, parse(proxy), images, seed) | {"archs": sorted(scores)}
    settings |= {"threads": threads, "truth": None if known is None else dataset, "table": table}
    where = out or Path("runs") / f"{found.name}-{proxy}-{digest(settings, found.data_identity(chosen))}.csv"
    write_csv(where, rows)
    click.echo(f"{said}: {where}")
    return {"out": where, "proxy": proxy, "spearman": ranked, "scores": scores}


@main.command(cls=RecipeCommand, trains="standalone", without=("valid_size", "max_macs"))
@space_argument
@click.argument("arch")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=PATH, help="Run directory, for checkpoints and resuming.")
@device_option
@threads_option
@json_option
def train(
    space: str,
    arch: str,
    seed: int,
    out: Path | None,
    device: str | None,
    threads: int | None,
    scale: str,
    recipe: dict[str, Any],
) -> Any:
    """Train the architecture ARCH of SPACE stand-alone: one row of ground truth."""
    from wsnas.recipe import digest
    from wsnas.space import load_space
    from wsnas.standalone import train_architecture

    found = load_space(space)
    chosen = chosen_recipe(found, scale, recipe)
    decoded = found.decode(arch)
    identity = {"arch": found.encode(decoded), "recipe": chosen.standalone_identity(), "seed": seed}
    identity |= {} if threads in (None, 1) else {"threads": threads}
    where = out or Path("runs") / f"{found.name}-alone-{digest(identity, found.data_identity(chosen))}"
    with progress(f"{space} stand-alone") as report:
        result = train_architecture(
            found, decoded, chosen, seed=seed, out=where, device=device, threads=threads, report=report
        )
    valid = "" if math.isnan(result.valid) else f"validation {measured(found, result.valid)}, "
    said = f"{valid}test {measured(found, result.test)}"
    click.echo(f"{said} after {counted(chosen.standalone.epochs, 'epoch')}: {where}")
    return {"run": where, "metric": found.metric, "epochs": chosen.standalone.epochs, **vars(result)}


@main.command("ground-truth", cls=RecipeCommand, trains="standalone", without=("valid_size",))
@space_argument
@click.option(
    "--sample", type=COUNT, required=True, help="Architectures, drawn uniformly; a larger sample extends a smaller one."
)
@click.option("--seeds", type=COUNT, default=3, show_default=True, help="Trainings per architecture.")
@sample_seed_option
@click.option(
    "--best", type=COUNT, help="Train only the N best of the sample by seed 0's validation score, already in --out."
)
@click.option(
    "--dedupe/--no-dedupe",
    default=True,
    show_default=True,
    help="Train architectures with the same training key only once.",
)
@click.option("--known", type=PATH, help="Table of the same recipe; its rows are not trained again.")
@click.option("--shard", metavar="I/N", help="Train only the I-th of N equal parts; wsnas table merge joins them.")
@click.option("--retry-failed", is_flag=True, help="Repeat trainings that diverged, crashed or timed out.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Measure each network's forward pass.")
@executor_options
@click.option("--out", type=PATH, required=True, help="Run directory; the benchmark is written there too.")
@json_option
def ground_truth(
    space: str,
    sample: int,
    seeds: int,
    sample_seed: int,
    best: int | None,
    dedupe: bool,
    known: Path | None,
    shard: str | None,
    retry_failed: bool,
    latency: bool,
    executor: Executor,
    out: Path,
    scale: str,
    recipe: dict[str, Any],
) -> Any:
    """Train a uniform sample of SPACE from scratch and publish it as a benchmark.

    Writes table.parquet, table.csv, curves.parquet and a data card to --out. Ctrl-C stops it; the same command
    resumes. A larger --sample or more --seeds extend the existing table.

    \b
    For example:
      wsnas ground-truth nb201 --sample 50 --out runs/truth
      wsnas table show nb201 --table runs/truth
    """
    from wsnas.agreement import load_ground_truth
    from wsnas.ground_truth import FAILED, MANY_FAILED, best_of, measure_latencies, train_many
    from wsnas.publish import drawn_uniformly, publish
    from wsnas.randomness import numpy_rng
    from wsnas.runs import Run
    from wsnas.sampling import sample_candidates
    from wsnas.space import load_space

    if best is not None and best > sample:
        raise WsnasError(f"--best takes the best of the sample, and {best} are more than --sample {sample} draws")
    index, slash, parts = (shard or "1/1").partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal()):
        raise WsnasError(f"--shard takes a part and their number, such as 2/8, not '{shard}'")
    part = int(index), int(parts)
    if part[1] > 1 and latency:
        raise WsnasError("a shard's networks are timed when all are there: give --no-latency")
    found = load_space(space)
    chosen = chosen_recipe(found, scale, recipe)
    drawn = sample_candidates(found, chosen, sample, numpy_rng(sample_seed, "ground truth"))
    archs = drawn if best is None else best_of(found, drawn, out, best, dedupe)
    with progress(f"{space} ground truth") as report:
        table = train_many(
            found,
            archs,
            out,
            chosen,
            seeds=range(seeds),
            executor=executor,
            dedupe=dedupe,
            known=None if known is None else load_ground_truth(found, table=known),
            retry=FAILED if retry_failed else (),
            shard=part,
            report=report,
        )
    if latency:
        with progress(f"{space} latency") as report:
            table = measure_latencies(found, table, out, chosen, report=report)
    elif any(kind.startswith("latency ") for kind in Run.read(out).kinds()):
        click.echo("left out: the latencies measured before; without --no-latency they are in the table")
    for line in publish(found, table, out, drawn_uniformly(table, len(drawn), chosen)):
        click.echo(line)
    rows = Run.read(out).records("training").values()
    failed = sum(row["status"] != "ok" for row in rows)
    if failed > MANY_FAILED * len(rows):
        raise WsnasError(
            f"{failed} of {counted(len(rows), 'training')} failed: find out why before you use this table (their "
            f"errors are in {out / 'records.sqlite'}); --retry-failed repeats them"
        )
    return {"out": out, "architectures": len(table), "columns": list(map(str, table.columns)), "about": table.about}


@main.command()
@click.argument("folders", type=PATH, nargs=-1)
@click.option("--out", type=FILE, help="By default report.html in the first folder.")
@json_option
def report(folders: tuple[Path, ...], out: Path | None) -> Any:
    """Write one HTML page of the study results in FOLDERS (by default runs): figures, claims, verdicts, commands.

    If the study operators was run, explorer.html next to it shows the architectures one by one.
    """
    from wsnas.studies.explorer import write_explorer
    from wsnas.studies.report import write_report

    folders = folders or (Path("runs"),)
    target = out or folders[0] / "report.html"
    explored = target.with_name("explorer.html")
    if target == explored:
        raise WsnasError(f"{target} is the name of the architectures' own page: choose another one for the report")
    try:
        explorer, why = write_explorer(folders, explored, target.name), ""
    except WsnasError as error:
        explorer, why = None, f"no explorer.html: {error}"
    names = write_report(folders, target, explorer)
    said = "1 study" if len(names) == 1 else f"{len(names)} studies"
    for folder in (folder for folder in folders if not folder.exists()):
        click.echo(f"left out: {folder}, which does not exist")
    click.echo(f"{said} ({', '.join(names)}): {target}" if names else f"results of no study: {target}")
    if explorer or why:
        click.echo(why or f"explorer of the architectures: {explorer}")
    return {"report": target, "studies": names, "explorer": explorer}


@main.group(cls=Studies)
def study() -> None:
    """Run a study: it trains, scores, and writes results.json, a CSV and figures.

    \b
    For example:
      wsnas study capacity
      wsnas study epochs --space nb201 --budgets 3
      wsnas study epochs --help
    """


@main.group(cls=Group)
def table() -> None:
    """Import published ground truth and look it up."""


def _parquet(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and os.path.isdir(value):
        raise click.BadParameter(f"{value} is a folder: name a file, such as {value / 'table.parquet'}")
    if value is not None and value.suffix.lower() != ".parquet":
        raise click.BadParameter(f"a table is written as Parquet, so name the file {value.with_suffix('.parquet')}")
    return value


@table.command("import")
@space_argument
@click.argument("file", type=PATH)
@click.option(
    "--out", type=PATH, callback=_parquet, help="Output, a .parquet file; by default in your folder of imported tables."
)
@json_option
def table_import(space: str, file: Path, out: Path | None) -> Any:
    """Convert the official FILE of SPACE to one compact table, without executing any code in it.

    A separate process reads the file, so that a damaged or hostile one can neither crash this command nor fill memory.

    \b
    For example:
      wsnas table import nb201 NAS-Bench-201-v1_1-096897.pth
      wsnas table import nb101 nasbench_only108.tfrecord
    """
    from wsnas.errors import WorkerLost
    from wsnas.isolation import apart

    try:
        said, found = apart(_imported, (space, file, out))
    except WorkerLost as error:
        raise WsnasError(f"cannot read {file}: {error}") from error
    for line in said:
        click.echo(line)
    return found


def _imported(job: tuple[str, Path, Path | None]) -> tuple[list[str], dict[str, Any]]:
    """Converts one file; returns what to say about it, in sentences and as JSON."""
    from wsnas.space import load_space
    from wsnas.table import import_home

    name, file, out = job
    space = load_space(name)
    target = out or import_home() / f"{space.name}.parquet"
    imported = space.import_table(file)
    if out is None:
        _require_free(space, target, imported)
    imported.save(target)
    size = f"{target.stat().st_size / 1e6:.2f} MB"
    said = [f"{counted(len(imported), 'architecture')}, {counted(len(imported.columns), 'column')}, {size}: {target}"]
    said += [f"{note}: {imported.about[note]}" for note in ("dropped", "disagreeing") if note in imported.about]
    found = {"table": target, "architectures": len(imported), "columns": list(map(str, imported.columns))}
    return said, found


def _require_free(space: SearchSpace[Any], home: Path, imported: Table) -> None:
    """Raises WsnasError if an import without --out would never be used, or replace another one."""
    if {*imported.datasets} <= {*space.tables}:
        raise WsnasError(
            f"{space.name} ships a ground truth on {' and '.join(imported.datasets)}, which is used wherever no "
            "--table is given: say where to keep yours, with --out, and name it with --table"
        )
    lost = {*space.load_table(home).datasets} - {*imported.datasets} if home.exists() else set()
    if lost:
        raise WsnasError(
            f"{home} is an earlier import, with {' and '.join(sorted(lost))}, which this table lacks: say where to "
            "keep this one, with --out, or move that one away"
        )


@table.command("join")
@click.argument("files", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, callback=_parquet, help="The joined table, a .parquet file.")
@json_option
def table_join(files: tuple[Path, ...], out: Path) -> Any:
    """Join the tables FILES of one space: all their architectures, training lengths and seeds.

    A FILE is a .parquet file, or the folder of a ground truth. Where tables overlap, the first wins; it also decides
    which training length is the ground truth.
    """
    from wsnas.agreement import table_file
    from wsnas.space import load_space
    from wsnas.table import Table, join

    tables = []
    for file in map(table_file, files):
        if file.is_dir():
            raise WsnasError(f"{file} is a folder without a table.parquet: give a ground truth's folder, or a table")
        if file.exists() and file.suffix.lower() != ".parquet":  # nor does it say of which space it is
            raise WsnasError(
                f"{file} is no .parquet table: import it first, with 'wsnas table import SPACE {file} --out "
                "TABLE.parquet'"
            )
        tables.append(load_space(Table.load(file).space).import_table(file))
    joined = join(tables)
    joined.save(out)
    size = f"{out.stat().st_size / 1e6:.2f} MB"
    click.echo(f"{counted(len(joined), 'architecture')}, {counted(len(joined.columns), 'column')}, {size}: {out}")
    return {"table": out, "architectures": len(joined), "columns": list(map(str, joined.columns))}


@table.command("merge")
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Run directory; the benchmark is written there too.")
@json_option
def table_merge(runs: tuple[Path, ...], out: Path) -> Any:
    """Put the trainings of several RUNS together: shards of wsnas ground-truth, and runs of wsnas train.

    All must have one space and recipe. The result can be extended by wsnas ground-truth.
    """
    from wsnas.ground_truth import merge_runs
    from wsnas.publish import publish

    space, merged = merge_runs(runs, out)
    for line in publish(space, merged, out):
        click.echo(line)
    return {"out": out, "architectures": len(merged), "about": merged.about}


_TABLE = click.option("--table", "file", type=HomePath(), help="A table file; by default the shipped table.")
_DATASET = data_set_option("--dataset", help="Use the imported table that has this data set.")


def _asked_for(space: Any, file: str | None, dataset: str | None) -> tuple[Any, str]:
    """The table, and the data set asked for, or its first; "" if it has none. Raises NoGroundTruth if it has others."""
    from wsnas.agreement import dataset_of, load_ground_truth

    if file is not None and dataset is not None:
        raise WsnasError("--table is the table itself, --dataset chooses an imported one: give only one of the two")
    loaded = load_ground_truth(space, dataset, file)
    return loaded, dataset_of(loaded, loaded.datasets[0], dataset) if loaded.datasets else ""


@table.command("show")
@space_argument
@_TABLE
@_DATASET
@click.option("--figure", type=FILE, help="Draw it, too: a .png, .svg or .pdf file.")
@json_option
def table_show(space: str, file: str | None, dataset: str | None, figure: Path | None) -> Any:
    """Show what a ground-truth table holds and how reliable it is.

    \b
    For example:
      wsnas table show nb201
      wsnas table show nb201 --figure truth.png
    """
    import numpy as np
    from rich.console import Console
    from rich.table import Table as Grid

    from wsnas.metrics import ceiling_interval, noise_ceiling
    from wsnas.space import load_space
    from wsnas.sufficiency import sufficiency

    loaded, dataset = _asked_for(load_space(space), file, dataset)
    failed = 0 if loaded.failed is None else int(loaded.failed.sum())
    click.echo(f"{loaded.space}: {counted(len(loaded), 'architecture')}, {failed} with a failed training")
    about_seeds = ("two seeds agree", "reliability")
    grid = Grid("data set", "split", "epochs", "seeds", "measured", "lowest", "mean", "highest", *about_seeds)
    copies: list[str] = []
    for kind in dict.fromkeys((c.dataset, c.split, c.epochs) for c in loaded.columns):
        seeds, mean = loaded.seeds(*kind), loaded.mean(*kind)
        known = mean[~np.isnan(mean)]
        scores = [f"{x:.2f}" for x in (known.min(), known.mean(), known.max())] if len(known) else ["-"] * 3
        ceiling = noise_ceiling(loaded.common_seeds(*kind))
        trust = ["not available"] * 2
        copies += [f"{kind[0]} {kind[1]}: seeds {a} and {b} are equal everywhere" for a, b in loaded.equal_seeds(*kind)]
        if ceiling is not None:
            trust = [f"{ceiling.agreement:.3f}", f"{ceiling.reliability:.3f}"]
        grid.add_row(*map(str, kind), str(seeds.shape[1]), str(len(known)), *scores, *trust)
    console = Console(width=None if Console().is_terminal else 140)
    with console.capture() as drawn:
        console.print(grid)
    click.echo(drawn.get(), nl=False)  # which replaces what the terminal's encoding does not have
    for copy in copies:
        click.echo(f"{copy}: a copy, not a repetition")
    tested = [name for name in loaded.datasets if loaded.epochs(name, "test")]
    ceilings = {name: ceiling_interval(loaded.common_seeds(name, "test")) for name in tested}
    for name, interval in ceilings.items():
        if interval is not None:
            click.echo(f"{name}: no predictor can correlate with the mean test result above {interval}")
    metric = load_space(space).metric
    sufficient = [f"{name}, {rule}" for name in tested for rule in sufficiency(loaded, name, metric)]
    for line in sufficient:
        click.echo(line)
    others = {f"{length} epochs": length for length in sorted({column.epochs for column in loaded.columns})}
    for name, value in loaded.about.items():
        if name not in others:
            click.echo(f"{name}: {_in_words(value)}")
    for name in (name for name in others if name in loaded.about):  # in short: about the others is as much again
        about = loaded.about_length(others[name])
        said = "; ".join(f"{key} {about[key]}" for key in ("command", "seconds") if key in about)
        click.echo(f"{counted(others[name], 'epoch')}: {said}; --json has the rest")
    if figure is not None:
        from wsnas.studies.results import save_figure
        from wsnas.studies.truth import truth_figure

        save_figure(truth_figure(loaded, load_space(space), dataset), figure)
        click.echo(f"figure: {figure}")
    heads = [str(column.header) for column in grid.columns]
    cells = zip(*(column.cells for column in grid.columns), strict=True)
    numbers = [[float(cell) if re.fullmatch(r"-?\d+(\.\d+)?", str(cell)) else cell for cell in row] for row in cells]
    measurements = [dict(zip(heads, row, strict=True)) for row in numbers]
    return {
        "space": loaded.space,
        "architectures": len(loaded),
        "failed": failed,
        "measurements": measurements,
        "copies": copies,
        "ceilings": {name: None if one is None else asdict(one) for name, one in ceilings.items()},
        "sufficiency": sufficient,
        "about": loaded.about,
    }


def _in_words(value: Any, inner: bool = False) -> str:
    """What a table notes of itself, some of it as JSON within JSON, without quotes."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    if isinstance(value, dict):
        said = ", ".join(f"{name} {_in_words(item, inner=True)}" for name, item in value.items())
        return f"({said})" if inner else said
    return "; ".join(map(_in_words, value)) if isinstance(value, list) else str(value)


@table.command("query")
@space_argument
@click.argument("arch")
@_TABLE
@_DATASET
@json_option
def table_query(space: str, arch: str, file: str | None, dataset: str | None) -> Any:
    """Show one architecture's ground truth."""
    from wsnas.space import load_space

    search_space = load_space(space)
    name = search_space.encode(search_space.decode(arch))
    row = _asked_for(search_space, file, dataset)[0].select([name])
    click.echo(name)
    if row.parameters is not None and row.parameters[0] >= 0:
        click.echo(f"parameters  {row.parameters[0]:,}")
    for column, values in row.columns.items():
        click.echo(f"{column!s:32} {'not measured' if values[0] != values[0] else format(values[0], '.3f')}")
    if row.failed is not None and row.failed[0]:
        click.echo("a training of this architecture failed")
    measured_here = {str(column): float(values[0]) for column, values in row.columns.items()}
    return {"arch": name, **{one: v[0] for one, v in row.single().items()}, "measured": measured_here}
