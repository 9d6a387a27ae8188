"""Figure 4, section 2: which choices does weight sharing favour?

Each decision of an architecture (the operation of an edge or vertex, the activation of a node) groups the sample.
A choice's effect is how much higher supernets rank architectures with it than all others that train as well: their
rank minus what the ground truth's rank lets one expect. (A supernet that is only noisy ranks good choices lower, and
bad ones higher, than the ground truth does. That is no bias.) Whether the effect differs from 0 is tested over
architectures (by permutation) and over architectures and supernets (Student's t, with what all choices tell of how
supernets differ), and corrected over all choices (Holm). The largest is drawn. A choice can be rare among the very best
and good on average, so how often the best architectures make each choice, by supernets and when trained, is told, too.
The scored architectures are also saved one by one, for the explorer page of ``wsnas report``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from wsnas.errors import WsnasError
from wsnas.metrics import (
    AT_ONCE,
    Floats,
    chance_of,
    contrast,
    group_difference,
    higher_is_better,
    moderated,
    sign_of,
    spearman,
)
from wsnas.studies.figures import GREY, RED, STYLE, axes_grid, caption, head, legend_below
from wsnas.studies.jobs import Variant, scores_of
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import finite, not_finite
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample, space_samples
from wsnas.studies.verdicts import Answer, Numbers, Verdict, enough
from wsnas.words import counted

ARCHITECTURES = {"micro": 200, "desk": 1000, "paper": 1000}
LEAST = 8  # architectures on either side of a choice
NOTICEABLE = 0.1  # of all ranks: a choice that is ranked higher or lower by less hardly matters
BEST, FEWEST_BEST = 0.05, 10  # this share of the architectures, and at least so many, are "the best"
PERMUTATIONS = 20_000  # the smallest p is 5e-5, or 0.01 after correction over 200 choices


@dataclass(frozen=True)
class Effect:
    """How much higher supernets rank the architectures with a choice than others that train as well."""

    decision: str
    choice: str
    architectures: int  # that made it
    effect: float  # mean of (rank by supernet - rank expected from ground truth) / n, minus that of all others
    low: float  # its 95 % interval over architectures and supernets
    high: float
    p: float  # the larger of two: by permutation of the architectures, and by ``metrics.chance_of``
    preferred_by_supernet: float  # mean rank / n, minus that of all that chose otherwise
    preferred_low: float  # its 95 % interval
    preferred_high: float
    better_when_trained: float  # the same of the rank by ground truth
    better_low: float
    better_high: float
    p_misleads: float  # that it is not both preferred by supernets and worse when trained; 1 where it does not seem so
    negligible: bool  # certainly less than ``NOTICEABLE`` either way
    harmless: bool  # certainly not preferred by that much and worse when trained by that much
    p_corrected: float = 1.0  # p after Holm's correction over all choices
    p_misleads_corrected: float = 1.0  # and that

    @property
    def misleads(self) -> bool:
        """Whether supernets rank architectures with the choice higher, and the ground truth lower, than all others."""
        return self.p_misleads_corrected < 0.05


@dataclass(frozen=True)
class Share:
    """How often a choice is made among the best architectures."""

    decision: str
    choice: str
    by_supernets: float  # among those that a supernet ranks best, mean over supernets
    by_truth: float  # among those that are best when trained
    of_all: float


@dataclass(frozen=True)
class Scored:
    """One scored architecture: its measurements, without sign changes, and its cell."""

    arch: str
    supernet: float  # mean over supernets
    supernet_seeds: Floats
    valid: float  # ground truth
    test: float
    parameters: int
    decisions: Mapping[str, str]
    cell_graph: Mapping[str, Sequence[tuple[str, str, str]]]


def effects(test: Floats, made: Sequence[Mapping[str, str]], scores: Floats, reliability: float = 1.0) -> list[Effect]:
    """The effect of each choice that enough architectures made and did not make, strongest first.

    test [n] of the ground truth and scores [supernets, n]: higher is better. ``reliability`` of the ground truth: the
    square of its noise ceiling. Regression on a noisy ground truth is too flat by that much.
    """
    n = scores.shape[1]
    by_supernet, by_truth = stats.rankdata(scores, axis=1) / n, stats.rankdata(test) / n
    agreement = np.array([spearman(one, test) for one in scores])
    # a supernet that ranks the wrong way round knows nothing: there, every preference is a bias
    slopes = np.clip(agreement / max(reliability, 1e-9), 0, 1)
    gap = by_supernet - slopes[:, None] * by_truth  # higher than of others: ranked too high by the supernet
    chosen: list[tuple[str, str, NDArray[np.bool_]]] = []
    for decision in made[0]:
        values = np.array([one[decision] for one in made])
        for choice in np.unique(values):
            mine = values == choice
            if min(mine.sum(), n - mine.sum()) >= LEAST:
                chosen.append((decision, str(choice), mine))
    gaps, preferences, gains, opposites = (
        moderated([group_difference(ranks, mine) for *_, mine in chosen])
        for ranks in (gap, by_supernet, by_truth, by_supernet - by_truth)
    )
    # that no choice matters, each must show for itself: an intersection-union test (Berger, Technometrics 24, 1982),
    # which is wrong only where the one that matters is wrong, however many there are; of three bounds, one is enough
    tested, one_of_three = [], 1 - 0.05 / 3
    chances = permuted(gap.mean(0), [mine for *_, mine in chosen])
    for (decision, choice, mine), by_permutation, *differences, both in zip(
        chosen, chances, gaps, preferences, gains, opposites, strict=True
    ):
        effect, preferred, better = (contrast((1, one)) for one in differences)
        opposed = preferred.value > 0 > better.value
        most, least, apart = (contrast((1, one), level=one_of_three) for one in (*differences[1:], both))
        tested.append(
            Effect(
                decision=decision,
                choice=choice,
                architectures=int(mine.sum()),
                effect=effect.value,
                low=effect.low,
                high=effect.high,
                p=max(by_permutation, chance_of((1, differences[0]))),
                preferred_by_supernet=preferred.value,
                preferred_low=preferred.low,
                preferred_high=preferred.high,
                better_when_trained=better.value,
                better_low=better.low,
                better_high=better.high,
                p_misleads=max(chance_of((1, one)) for one in differences[1:]) if opposed else 1.0,
                negligible=effect.low > -NOTICEABLE and effect.high < NOTICEABLE,
                harmless=most.high < NOTICEABLE or least.low > -NOTICEABLE or apart.high < 2 * NOTICEABLE,
            )
        )
    of_effects, of_misleading = (holm([getattr(one, name) for one in tested]) for name in ("p", "p_misleads"))
    corrected = [
        replace(one, p_corrected=p, p_misleads_corrected=q)
        for one, p, q in zip(tested, of_effects, of_misleading, strict=True)
    ]
    return sorted(corrected, key=lambda one: (one.p_corrected >= 0.05, -abs(one.effect)))


def best_of(n: int) -> int:
    """How many of n architectures are "the best"."""
    return min(n, max(FEWEST_BEST, round(BEST * n)))


def shares(test: Floats, made: Sequence[Mapping[str, str]], scores: Floats) -> list[Share]:
    """Of every choice; test [n], scores [supernets, n]: higher is better. Ties keep the sample's order.

    The paper looks at those with top accuracy, where a choice can prevail that is not the best on average: on
    NAS-Bench-201, the skip connection from a cell's input to its output.
    """
    first = best_of(len(test))
    ranked, trained = (np.argsort(-one, axis=-1, kind="stable")[..., :first] for one in (scores, test))
    found = []
    for decision in made[0]:
        values = np.array([one[decision] for one in made])
        for choice in np.unique(values):
            mine = values == choice
            found.append(Share(decision, str(choice), *(float(mine[one].mean()) for one in (ranked, trained, ...))))
    return found


def furthest_apart(shares: Sequence[Share]) -> tuple[Share, Share] | None:
    """The commonest choice of the supernets' best and that of the best when trained, where they differ most."""
    pairs = []
    for decision in dict.fromkeys(one.decision for one in shares):
        here = [one for one in shares if one.decision == decision]
        pairs.append((max(here, key=lambda one: one.by_supernets), max(here, key=lambda one: one.by_truth)))

    def apart(pair: tuple[Share, Share]) -> float:
        ours, theirs = pair
        return ours.by_supernets - ours.by_truth + theirs.by_truth - theirs.by_supernets

    return max((pair for pair in pairs if pair[0] is not pair[1]), key=apart, default=None)


def permuted(values: Floats, groups: Sequence[NDArray[np.bool_]]) -> list[float]:
    """Two-sided p of the difference of mean ``values`` [n] between each group [n] and all others, by permutation."""
    if not groups:
        return []
    weights = np.array([mine / mine.sum() - ~mine / (~mine).sum() for mine in groups]).T
    observed, as_large, rng = np.abs(values @ weights) - 1e-12, np.ones(len(groups)), np.random.default_rng(0)
    part = max(1, AT_ONCE // len(values))
    for first in range(0, PERMUTATIONS, part):
        shuffled = rng.permuted(np.tile(values, (min(part, PERMUTATIONS - first), 1)), axis=1)
        as_large += (np.abs(shuffled @ weights) >= observed).sum(0)
    return [float(one) / (PERMUTATIONS + 1) for one in as_large]


def holm(found: Sequence[float]) -> list[float]:
    """p-values after Holm's correction for how many there are (Scandinavian Journal of Statistics 6, 1979)."""
    corrected, highest = [1.0] * len(found), 0.0
    for i, place in enumerate(sorted(range(len(found)), key=found.__getitem__)):
        highest = max(highest, min(1.0, found[place] * (len(found) - i)))  # times the tests left
        corrected[place] = highest
    return corrected


def scored_architectures(sample: SpaceSample, made: Sequence[Mapping[str, str]], scores: Floats) -> list[Scored]:
    """Scores [supernets, n], higher is better."""
    space = sample.space
    seeds, valid, test = (higher_is_better(one, space.metric) for one in (scores, sample.valid, sample.test))
    return [
        Scored(
            arch=space.encode(arch),
            supernet=float(seeds[:, i].mean()),
            supernet_seeds=seeds[:, i],
            valid=float(valid[i]),
            test=float(test[i]),
            parameters=int(sample.parameters[i]),
            decisions=made[i],
            cell_graph=space.cell_graph(arch),
        )
        for i, arch in enumerate(sample.archs)
    ]


def verdicts_of(sample: SpaceSample, effects: Sequence[Effect], supernets: int) -> list[Verdict]:
    worst, biased = effects[0], [one for one in effects if one.p_corrected < 0.05]
    misled = [one for one in effects if one.misleads]
    unsettled = [one for one in effects if not one.negligible]
    suspects = [one for one in effects if not one.harmless]
    numbers, of_misleading, alone = Numbers(), Numbers(), supernets < 2
    found = "; ".join(f"{one.choice} at {one.decision}" for one in misled[:3]) or "none found"
    if not misled:
        left = of_misleading.say("suspects", len(suspects), "d")
        found += f", not excluded for {left} of {of_misleading.count('choices', len(effects), 'choice')}"
    return [
        Verdict(
            "weight sharing is biased towards certain operators or connections",
            "section 2, Figure 4",
            sample.name,
            "holds where at least one choice's effect has p below 0.05 after Holm's correction over all choices, by a "
            "permutation of the architectures and by Student's t over architectures and supernets; does not hold where "
            f"every choice's 95 % interval is within {NOTICEABLE} of all ranks either way; else, and with one "
            "supernet, inconclusive",
            f"{numbers.say('biased', len(biased), 'd')} of {numbers.say('choices', len(effects), 'd')} choices; "
            f"largest: {worst.choice} at {worst.decision} {numbers.say('effect', worst.effect, '+.2f')} "
            f"[{numbers.say('effect, low', worst.low, '+.2f')}, {numbers.say('effect, high', worst.high, '+.2f')}]"
            + ("" if biased else f"; {numbers.say('unsettled', len(unsettled), 'd')} may exceed a tenth"),
            "inconclusive" if alone else "holds" if biased else "inconclusive" if unsettled else "does not hold",
            numbers,
        ),
        Verdict(
            "supernets prefer a choice that is worse when trained",
            "section 2, Figure 4 (conv3x3 from input to output on NAS-Bench-201, tanh on PTB)",
            sample.name,
            "holds where a choice is ranked above the others by the supernets and below them by the ground "
            "truth, both with p below 0.05 after Holm's correction over all choices; does not hold where no choice can "
            f"be both by {NOTICEABLE} of all ranks: one of three bounds is certain for each (ranked higher by less "
            f"than that, or trained worse by less than that, or both together by less than {2 * NOTICEABLE}; intervals "
            "corrected for the three); else, and with one supernet, inconclusive",
            found,
            "inconclusive" if alone else "holds" if misled else "inconclusive" if suspects else "does not hold",
            of_misleading,
        ),
    ]


def largest_bias(effects: Sequence[Effect]) -> str:
    """In words, without the full stop; ``effects``: the strongest first."""
    largest = effects[0]
    return f"Supernets rank {largest.choice} at {largest.decision} too {'high' if largest.effect > 0 else 'low'}"


@dataclass(frozen=True)
class Panel:
    """One space, and the choice its panel highlights."""

    sample: SpaceSample
    scores: Floats  # [n] mean over supernets, higher is better
    choices: list[str]  # [n] what each architecture chose at the effect's decision
    drawn: Effect
    effects: list[Effect]
    shares: list[Share]
    architectures: list[Scored]
    not_finite: int  # scores of single supernets, which rank last


def operators_figure(panels: Sequence[Panel], note: str) -> Figure:
    """Figure 4: supernet score against ground truth, a panel per space, the most biased choice highlighted."""
    with plt.rc_context(STYLE):
        figure, grid = axes_grid(len(panels), 4.5, 5)
        markers = "osD^vPX<>*hp"
        for axes, panel in zip(grid, panels, strict=True):
            sample, drawn = panel.sample, panel.drawn
            sign = sign_of(sample.space.metric)
            choices = sorted(set(panel.choices))
            for choice, marker in zip(choices, markers * (1 + len(choices) // len(markers)), strict=False):
                mine = np.array([one == choice for one in panel.choices])
                highlighted = choice == drawn.choice
                axes.plot(
                    sign * panel.scores[mine],
                    sign * sample.test[mine],
                    marker,
                    ms=5 if highlighted else 4,
                    color=RED if highlighted else GREY,
                    alpha=0.9 if highlighted else 0.45,
                    zorder=3 if highlighted else 2,
                    label=f"{choice} ({int(mine.sum())})",
                    ls="none",
                )
            if sign < 0:
                axes.invert_xaxis()
                axes.invert_yaxis()
            legend_below(axes, 2, drawn.decision)
            axes.set_xlabel(f"supernet {sample.space.metric} (mean over supernets)")
            axes.set_ylabel(f"ground truth {sample.space.metric}")
            head(
                axes,
                sample.title,
                f"{drawn.choice} too {'high' if drawn.effect > 0 else 'low'}: {drawn.effect:+.2f} "
                f"[{drawn.low:+.2f}, {drawn.high:+.2f}], p = {drawn.p_corrected:.2g}",
            )
        caption(
            figure,
            "Upper right is better. Effect: how much higher supernets rank a choice than all others of that decision "
            "that train as well, as a fraction of the sample, with its 95 % interval over architectures and supernets; "
            "p after Holm's correction. "
            f"{note}",
        )
        plt.close(figure)
        return figure


@click.command(cls=StudyCommand)
@study_options("operators")
@click.option("--decision", help="Draw this decision instead of the most biased one, e.g. 'edge 0-3'.")
def main(options: StudyOptions, decision: str | None) -> None:
    """Choices supernets rank too high or too low (Figure 4)."""
    samples = space_samples(options, ARCHITECTURES[options.scale], least=3 * LEAST, fewest=3 * LEAST)
    for sample in samples:
        there = sample.space.decisions(sample.archs[0])
        if decision is not None and decision not in there:
            raise WsnasError(f"--decision '{decision}': {sample.name} has {', '.join(there)}; choose with --space")
    wanted = [
        (s, Variant(counted(s.recipe.supernet.epochs, "epoch"), s.recipe, "uniform", options.seeds)) for s in samples
    ]
    scores = scores_of(options, wanted)
    panels: list[Panel] = []
    for sample, variant in wanted:
        matrix = scores[sample.name, variant.label]
        made = [sample.space.decisions(arch) for arch in sample.archs]
        ceiling = sample.ceiling()
        biases = effects(sample.test, made, finite(matrix), 1.0 if ceiling is None else ceiling**2)
        if not biases:
            click.echo(f"{sample.name}: left out: no choice was made by at least {LEAST} of {len(sample.archs)}")
            continue
        drawn = next((one for one in biases if decision in (None, one.decision)), None)
        if drawn is None:
            raise WsnasError(
                f"{sample.name}: no choice at '{decision}' was made by at least {LEAST} of {len(sample.archs)} "
                "architectures; score more with --architectures"
            )
        choices = [one[drawn.decision] for one in made]
        architectures, common = scored_architectures(sample, made, matrix), shares(sample.test, made, finite(matrix))
        panels.append(Panel(sample, matrix.mean(0), choices, drawn, biases, common, architectures, not_finite(matrix)))
        if pair := furthest_apart(common):
            ours, theirs = pair
            click.echo(
                f"{sample.name}, {ours.decision}: commonest among the best {best_of(len(made))} of {len(made)} are "
                f"{ours.choice} by supernets ({ours.by_supernets:.0%}; when trained {ours.by_truth:.0%}) and "
                f"{theirs.choice} when trained ({theirs.by_truth:.0%}; by supernets {theirs.by_supernets:.0%})"
            )
    if not panels:
        raise WsnasError("no space has enough architectures; score more with --architectures (the supernets are kept)")
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, [panel.sample for panel in panels]),
        rows=[{"space": panel.sample.name, **asdict(effect)} for panel in panels for effect in panel.effects],
        verdicts=[
            verdict
            for panel in panels
            for verdict in enough(verdicts_of(panel.sample, panel.effects, len(options.seeds)), len(panel.sample.archs))
        ],
        results={
            panel.sample.name: {
                "metric": panel.sample.space.metric,
                "not_finite": panel.not_finite,
                "choices": panel.effects,
                "best": {"architectures": best_of(len(panel.architectures)), "shares": panel.shares},
                "architectures": panel.architectures,
            }
            for panel in panels
        },
        title="Towards which choices is weight sharing biased?",
        answer=Answer(
            "weight sharing is biased towards certain operators or connections",
            "Weight sharing is biased towards certain choices" if len(panels) > 1 else largest_bias(panels[0].effects),
            "No choice is favoured or disfavoured by a tenth of the ranks",
        ),
        source="Figure 4, section 2",
        svg=options.svg,
        figure=operators_figure(panels, f"{options.about}, mean of {counted(len(options.seeds), 'supernet')}."),
    )


if __name__ == "__main__":
    main()
