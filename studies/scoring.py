"""How should a submodel be scored: with which batch-norm statistics, tuned or not, by accuracy or by loss?

The same supernets, the longest that ``epochs`` trains, score the same architectures in several ways
(``wsnas.protocols``): with the running statistics of training, with each validation batch's own, with statistics
recalibrated on few, on the recipe's and on many training images, and after the batch norms alone were tuned for a few
steps. Each way gives an accuracy and a cross-entropy. For each: the Spearman correlation with the ground truth, and the
forward passes it takes. Not in the paper, which recalibrates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsnas.data.images import Splits
from wsnas.devices import choose_device
from wsnas.errors import WsnasError
from wsnas.ground_truth import splits_once
from wsnas.metrics import Floats, contrast
from wsnas.protocols import Protocol, require_images
from wsnas.recipe import Recipe, Sequences
from wsnas.studies.figures import BLUE, ORANGE, STYLE, axes_grid, caption, head, legend_below
from wsnas.studies.jobs import ProtocolJob, SupernetJob, all_scores_by_protocol
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import K, Ranking, measures_csv, measures_json, ranking
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample, space_samples
from wsnas.studies.verdicts import HARDLY, Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted

ARCHITECTURES = {"micro": 100, "desk": 300, "paper": 1000}
READINGS = ("accuracy", "loss")


@dataclass(frozen=True)
class Way:
    """One way to score, and how it ranks."""

    protocol: Protocol
    reading: str  # accuracy or loss
    passes: int  # forward passes of one image, per submodel
    mean: float  # accuracy in percent, or cross-entropy in nats
    ranking: Ranking

    def known(self) -> dict[str, Any]:
        """What results.json and the CSV both have."""
        about = {"label": f"{self.protocol.name}: {self.reading}", "passes": self.passes, "mean": self.mean}
        return {**about, **self.ranking.with_interval()}

    def to_json(self) -> dict[str, Any]:
        ranked = self.ranking
        more: dict[str, Any] = {"correlation_seeds": ranked.correlation_seeds}
        if self.reading == READINGS[0]:  # a submodel lacks both readings or none
            more["not_finite"] = ranked.not_finite
        return {**self.known(), **more, "measures": measures_json(ranked.measures)}


def calibration_images(recipe: Recipe) -> tuple[int, int, int]:
    """Few, the recipe's, and many."""
    usual = recipe.calibration_images
    return recipe.calibration_batch, usual, 4 * usual


def protocols_of(recipe: Recipe, splits: Splits, steps: int) -> tuple[Protocol, ...]:
    """Cheapest first: on one batch, on as many images as the recipe says, and on four times as many."""
    few, usual, many = (min(images, len(splits.train)) for images in calibration_images(recipe))
    return (
        Protocol("inherited"),
        Protocol("batch"),
        *(Protocol("recalibrated", images) for images in sorted({few, usual, many})),
        Protocol("recalibrated", usual, steps),
    )


def ways_of(sample: SpaceSample, protocols: Sequence[Protocol], scores: Floats, images: int) -> list[Way]:
    """Scores [seeds, protocols, n, accuracy and loss]."""
    return [
        Way(
            protocol,
            reading,
            protocol.passes(sample.recipe, images),
            float(np.mean(scores[:, i, :, j], where=np.isfinite(scores[:, i, :, j]))),
            ranking((1 - 2 * j) * scores[:, i, :, j], sample.valid, sample.test, min(K, len(sample.archs))),
        )
        for i, protocol in enumerate(protocols)
        for j, reading in enumerate(READINGS)
    ]


def verdicts_of(sample: SpaceSample, ways: Sequence[Way]) -> list[Verdict]:
    """All at the recipe's number of calibration images, by accuracy unless the loss is meant."""
    by_name = {(way.protocol.name, way.reading): way for way in ways}
    tuned = next(way.protocol for way in ways if way.protocol.steps)
    own = by_name[Protocol("recalibrated", tuned.images).name, "accuracy"]

    def better(claim: str, what: str, one: Way, other: Way) -> Verdict:
        change, numbers = (
            contrast((1, one.ranking.agreement - other.ranking.agreement)),
            Numbers(),
        )  # the same supernets
        return Verdict(
            claim,
            "not in the paper",
            sample.name,
            f"holds where the 95 % interval of ({what}) is above 0, does not hold where it ends below +{HARDLY}; else, "
            "and with one supernet, inconclusive",
            f"{numbers.say('one', one.ranking.correlation)} against {numbers.say('other', other.ranking.correlation)}: "
            f"{numbers.estimate('difference', change)}",
            sign_verdict(change.low, change.high, len(one.ranking.correlation_seeds), hardly=HARDLY),
            numbers,
        )

    return [
        better(
            "recalibrated batch norms rank better than inherited statistics",
            "correlation of accuracies with recalibrated statistics - with inherited ones",
            own,
            by_name["inherited", "accuracy"],
        ),
        better(
            "recalibrated batch norms rank better than each batch's own statistics",
            "correlation of accuracies with recalibrated statistics - with the validation batches' own",
            own,
            by_name["batch", "accuracy"],
        ),
        better(
            "tuning the batch norms first ranks better than recalibration alone",
            "correlation of accuracies after tuning - with recalibrated statistics alone",
            by_name[tuned.name, "accuracy"],
            own,
        ),
        better(
            "the loss ranks better than the accuracy",
            "correlation of the negative loss - of the accuracy, both with recalibrated statistics",
            by_name[own.protocol.name, "loss"],
            own,
        ),
    ]


def figure_of(panels: Sequence[tuple[SpaceSample, Sequence[Way]]], note: str) -> Figure:
    """A panel per space: a line per protocol, with the correlations of accuracy and loss."""
    with plt.rc_context(STYLE):
        lines = max(len({way.protocol for way in ways}) for _, ways in panels)
        figure, grid = axes_grid(len(panels), 6.4, 1.0 + 0.55 * lines)
        for axes, (sample, ways) in zip(grid, panels, strict=True):
            protocols = list(dict.fromkeys(way.protocol for way in ways))
            for reading, colour, marker, shift in (("accuracy", BLUE, "o", 0.13), ("loss", ORANGE, "D", -0.13)):
                chosen = [way.ranking for way in ways if way.reading == reading]
                y = np.arange(len(protocols))[::-1] + shift
                axes.hlines(
                    y, [r.correlation_low for r in chosen], [r.correlation_high for r in chosen], color=colour, lw=1.6
                )
                filled = colour if reading == "accuracy" else "white"
                axes.plot([r.correlation for r in chosen], y, marker, color=colour, mfc=filled, ms=5, label=reading)
            passes = {way.protocol: way.passes for way in ways}
            axes.set_yticks(
                np.arange(len(protocols))[::-1], [f"{one.name}\n{passes[one]:,} passes" for one in protocols]
            )
            axes.grid(axis="y", visible=False)
            axes.set_xlabel("Spearman correlation with ground truth")
            legend_below(axes, 2)
            head(axes, sample.title, f"{len(sample.archs):,} architectures")
        caption(figure, note)
        plt.close(figure)
        return figure


@click.command(cls=StudyCommand)
@study_options("scoring")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="SGD steps that tune the batch norms for a path.",
)
def main(options: StudyOptions, steps: int) -> None:
    """How a submodel is scored, and what that changes."""
    samples = []
    for sample in space_samples(options, ARCHITECTURES[options.scale]):
        if isinstance(sample.recipe.supernet.inputs, Sequences):
            if options.spaces:
                raise WsnasError(f"{sample.name} has no batch norms: its submodels can be scored in one way only")
            click.echo(f"{sample.name}: left out: it has no batch norms")
            continue
        if not sample.recipe.calibration_images:
            raise WsnasError("this study recalibrates: give --calibration-batch and --calibration-steps above 0")
        splits = splits_once(sample.name, sample.recipe, choose_device())
        protocols = protocols_of(sample.recipe, splits, steps)
        for protocol in protocols:
            require_images(protocol, sample.recipe, splits)
        images = sample.recipe.validation_images(len(splits.valid))
        jobs = [
            ProtocolJob(SupernetJob(sample.name, sample.recipe, seed, None, sample.archs, options.supernets), protocols)
            for seed in options.seeds
        ]
        samples.append((sample, protocols, images, jobs))
    if not samples:
        raise WsnasError("none of the spaces has batch norms")
    scores, panels = all_scores_by_protocol([job for *_, jobs in samples for job in jobs], options), []
    for sample, protocols, images, jobs in samples:
        found = np.array([scores[job] for job in jobs])
        panels.append((sample, ways_of(sample, protocols, found, images)))
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, [sample for sample, _ in panels], steps=steps),
        rows=[
            {"space": sample.name, **way.known(), **measures_csv(way.ranking.measures)}
            for sample, ways in panels
            for way in ways
        ],
        verdicts=[
            verdict for sample, ways in panels for verdict in enough(verdicts_of(sample, ways), len(sample.archs))
        ],
        results={sample.name: [way.to_json() for way in ways] for sample, ways in panels},
        title="How should a submodel be scored?",
        answer=Answer(
            "recalibrated batch norms rank better than inherited statistics",
            "Recalibrating batch norms ranks better than keeping their statistics",
            "Recalibrating batch norms ranks hardly better than keeping their statistics",
        ),
        source="not in the paper",
        svg=options.svg,
        figure=figure_of(
            panels,
            f"{options.about}, {counted(len(options.seeds), 'supernet')}, the same for every line. Passes: forward "
            "passes of one image that a submodel's score takes, where a training step counts as three. Bars: 95 % "
            "intervals over architectures and supernets.",
        ),
    )


if __name__ == "__main__":
    main()
