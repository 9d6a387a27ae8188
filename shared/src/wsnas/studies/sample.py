"""A study's sample of one space: uniform architectures with a ground truth."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from wsnas.agreement import ground_truth_for
from wsnas.errors import NoGroundTruth, WsnasError
from wsnas.metrics import Floats, noise_ceiling
from wsnas.randomness import numpy_rng
from wsnas.recipe import Recipe, files_by_name
from wsnas.recipe_options import chosen_recipe
from wsnas.space import SearchSpace, installed_spaces, load_space
from wsnas.studies.options import StudyOptions
from wsnas.table import Table
from wsnas.words import counted

A = TypeVar("A", bound=Hashable)

# Architectures with a ground truth that a space needs for a study of its sub-spaces, unless --space names it: verdicts
# need 30, so a quarter of these can be judged.
ENOUGH = 160


def chosen_spaces(names: Sequence[str]) -> list[Any]:
    """The named spaces, or all installed ones. Raises WsnasError if there are none."""
    chosen = names or installed_spaces()
    if not chosen:
        raise WsnasError("no search space is installed; in a checkout, e.g.: pip install ./packages/nb201")
    return list({(space := load_space(name)).name: space for name in chosen}.values())


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth a study ranks by: architectures with validation and test results.

    Higher is better in all of it: a perplexity's sign is flipped in the table itself, once, by ``ground_truth_of``.
    """

    table: Table
    archs: tuple[Any, ...]  # of the table's rows
    dataset: str
    epochs: int  # of the trainings
    valid: Floats  # mean over the seeds nearly all architectures have
    test: Floats
    left_out: int  # architectures of the table that failed or were not measured

    @cached_property
    def _row(self) -> dict[Any, int]:
        return {arch: i for i, arch in enumerate(self.archs)}

    def rows(self, archs: Sequence[Any]) -> list[int]:
        return [self._row[arch] for arch in archs]

    def seeds(self, archs: Sequence[Any] | None = None) -> Floats:
        """[architectures, seeds]: test results, higher is better, of all architectures or of these; of every seed that
        nearly all of them have.
        """
        table = self.table if archs is None else self.table.select([self.table.archs[row] for row in self.rows(archs)])
        return table.common_seeds(self.dataset, "test", self.epochs)

    def means(self, archs: Sequence[Any]) -> tuple[Floats, Floats]:
        """[n] validation and test results of these, over the seeds that nearly all of them have."""
        rows = self.rows(archs)
        table = self.table.select([self.table.archs[row] for row in rows])
        valid, test = _common_means(table, self.dataset, self.epochs)
        return np.where(np.isnan(valid), self.valid[rows], valid), np.where(np.isnan(test), self.test[rows], test)


def ground_truth_of(space: SearchSpace[Any], options: StudyOptions, recipe: Recipe) -> GroundTruth:
    """The ground truth of the requested data set, else of the recipe's, else of the table's first.

    Validation and test results come from the same training length: of a table that was asked for the one it names, of
    the space's own the recipe's; else the other of the two, else the longest that has both.
    """
    loaded, dataset = ground_truth_for(space, recipe.dataset, options.truth, options.table)
    lengths = {split: loaded.epochs(dataset, split) for split in ("valid", "test")}
    both = lengths["valid"] & lengths["test"]
    if not both:
        raise NoGroundTruth(
            f"the table of {space.name} has no number of epochs with both validation and test results of {dataset}"
        )
    tables = [loaded.length(dataset, split) for split in ("test", "valid")]
    recipes = [recipe.standalone.epochs]
    wanted = recipes + tables if options.table is None else tables + recipes
    epochs = next((length for length in wanted if length in both), max(both))
    if epochs != wanted[0] and epochs < max(tables):
        click.echo(
            f"{space.name}: the {max(tables)}-epoch results of {dataset} are not used, because they lack validation or "
            f"test results; those of {counted(epochs, 'epoch')} are"
        )
    valid, test = _common_means(loaded, dataset, epochs)
    known = ~(np.isnan(valid) | np.isnan(test))
    left_out, without = int((~known).sum()), ~known
    for other in lengths["test"] - {epochs}:  # those trained only for another length are not worth a message
        without &= np.isnan(loaded.mean(dataset, "test", other))
    if without.any():
        click.echo(
            f"{space.name}: {without.sum()} of {counted(len(loaded), 'architecture')} have no result (failed or not "
            "trained)"
        )
    kept = loaded.select([arch for arch, ok in zip(loaded.archs, known, strict=True) if ok])
    kept = kept.higher_is_better(space.metric)
    valid, test = _common_means(kept, dataset, epochs)
    return GroundTruth(kept, tuple(map(space.decode, kept.archs)), dataset, epochs, valid, test, left_out)


def _common_means(table: Table, dataset: str, epochs: int) -> tuple[Floats, Floats]:
    """[architectures] validation and test results, over the seeds that nearly all of the table have."""
    return table.mean(dataset, "valid", epochs), table.mean(dataset, "test", epochs)


@dataclass(frozen=True)
class SpaceSample:
    """A study's sample of one space: its recipe, and uniform architectures with a ground truth."""

    space: SearchSpace[Any]
    recipe: Recipe
    truth: GroundTruth
    archs: tuple[Any, ...]
    valid: Floats  # [n] ground truth, higher is better
    test: Floats
    parameters: Floats

    @property
    def name(self) -> str:
        return self.space.name

    @property
    def title(self) -> str:
        """The space and its data sets, for a figure."""
        data, truth = Path(self.recipe.dataset).stem, Path(self.truth.dataset).stem
        return f"{self.name} on {data}" + (f", ground truth on {truth}" if truth != data else "")

    def settings(self) -> dict[str, Any]:
        """Its settings in ``results.json``; of a data set in a file, the file's name without its folder."""
        about: dict[str, Any] = {"truth": Path(self.truth.dataset).name, "truth_epochs": self.truth.epochs}
        about["evaluated"] = len(self.archs)
        about["truth_trainings"] = self.truth.table.about.get("status")  # counts by status; None: not recorded
        return {**files_by_name(self.recipe.to_json()), **about, "without_ground_truth": self.truth.left_out}

    def ceiling(self) -> float | None:
        """The highest correlation the noise of the ground truth allows; None: not available."""
        ceiling = noise_ceiling(self.truth.seeds(self.archs))
        return None if ceiling is None else ceiling.ceiling


def space_samples(options: StudyOptions, count: int, least: int = 12, fewest: int = 12) -> list[SpaceSample]:
    """Samples of the spaces a study can use, of ``count`` architectures each, unless the options give another number.

    Prints which spaces are skipped and why: no ground truth, or one of fewer than ``least`` architectures. Raises
    WsnasError if fewer than ``fewest`` are to be scored, before anything is trained.
    """
    if (options.architectures or count) < fewest:
        raise WsnasError(f"--architectures {options.architectures} is too few for this study: give at least {fewest}")
    samples = []
    for space in chosen_spaces(options.spaces):
        chosen = chosen_recipe(space, options.scale, options.recipe)
        try:
            ground = ground_truth_of(space, options, chosen)
        except WsnasError as error:
            damaged = options.table is None and not isinstance(error, NoGroundTruth)
            if options.spaces or damaged:
                raise
            click.echo(f"{space.name}: left out: {error}")
            continue
        if len(ground.table) < least:
            click.echo(f"{space.name}: left out: {len(ground.table)} architectures with a ground truth are too few")
            continue
        if (options.architectures or 0) > len(ground.table):
            click.echo(
                f"{space.name}: all {len(ground.table)} architectures with a ground truth are scored, which are fewer "
                f"than --architectures {options.architectures}"
            )
        order = numpy_rng(0, "sample").permutation(len(ground.table))[: options.architectures or count]
        archs = tuple(ground.archs[int(i)] for i in order)
        sizes = np.array([space.parameters(arch, chosen) for arch in archs], dtype=np.float64)
        samples.append(SpaceSample(space, chosen, ground, archs, *ground.means(archs), sizes))
    if not samples:
        raise WsnasError("no installed space has a ground truth for this study; see 'wsnas ground-truth' and --table")
    return samples


def kept_at(factor: float, archs: Sequence[Any]) -> int:
    """How many of ``archs`` a sub-space of 1/``factor`` of them has."""
    return max(1, round(len(archs) / factor))


def random_archs(archs: Sequence[A], factor: float, rng: np.random.Generator) -> list[A]:
    """1/``factor`` of them, uniform, without replacement (Figure 2)."""
    return [archs[int(i)] for i in rng.choice(len(archs), kept_at(factor, archs), replace=False)]
