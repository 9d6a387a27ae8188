"""What is a supernet worth? Against what the same compute could have bought.

For everything that can rank architectures: the Spearman correlation with the ground truth, and the regret of the best
of its top 10, over the compute it takes to rank the whole sample. Judges: what is known for free (parameters,
multiply-adds, number of convolutions, depth), zero-cost scores of untrained networks, supernets of several budgets and
path samplers (scoring included), trainings of every architecture for fewer epochs (from the table; other lengths with
``--short``), a predictor fitted on n trained architectures, and a supernet together with the parameter count.

Compute is counted in sufficient trainings (``wsnas.studies.costs``).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsnas import paths as path_samplers
from wsnas.devices import choose_device
from wsnas.errors import WsnasError
from wsnas.ground_truth import require_validation, splits_once
from wsnas.metrics import Interval, contrast, correlation_over, partial_agreement
from wsnas.options import was_given
from wsnas.proxies import require_images
from wsnas.studies.costs import Costs
from wsnas.studies.figures import BLACK, BLUE, GREEN, GREY, INK, ORANGE, RED, STYLE, WIDEST, caption, end_labels, head
from wsnas.studies.jobs import BUDGETS, budgets_option, scores_of
from wsnas.studies.judges import (
    FAIR,
    FREE,
    LABELS,
    MULTI,
    PREDICTOR,
    REGRESSION,
    SHORT,
    UNIFORM,
    UNTRAINED,
    WITH_SIZE,
    Judge,
    free,
    fresh_trainings,
    of_kind,
    predictors,
    short_trainings,
    supernets,
    untrained,
    variants,
)
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.rankings import K
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample, space_samples
from wsnas.studies.verdicts import HARDLY, Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.words import counted

WITHOUT = ("supernets", "paths", "zero-cost")
SPENT = 0.8  # of a supernet's cost: judges that cost less are no comparison


@dataclass(frozen=True)
class Rate:
    """The setting of other judges that rank as well as a supernet; ``low``, ``high``: as the ends of its interval."""

    value: str  # may be "at most 10" or "more than 50"
    low: str
    high: str


def equal_setting(judges: Sequence[Judge], correlation: float) -> str:
    """The first setting whose correlation is this high, between two settings by a straight line over its logarithm.

    Rounded to a whole number from 10 on; below, to two digits.
    """
    settings = [float(one.setting or 0) for one in judges]
    reached = np.array([one.ranking.correlation for one in judges])
    if correlation <= reached[0]:
        return f"at most {settings[0]:g}"
    above = np.flatnonzero(reached >= correlation)
    if not len(above):
        return f"more than {settings[-1]:g}"
    i = int(above[0])
    share = (correlation - reached[i - 1]) / (reached[i] - reached[i - 1])
    between = np.exp(np.interp(share, (0, 1), np.log(settings[i - 1 : i + 1])))
    return f"{between:.0f}" if between >= 10 else f"{between:.2g}"


def exchange(sample: SpaceSample, costs: Costs, judges: Sequence[Judge]) -> dict[str, Any]:
    """What the longest-trained supernet can be exchanged for, and the sentence that says so."""
    uniform = of_kind(judges, UNIFORM)
    if not uniform:
        return {}
    net = uniform[-1]
    found, best = net.interval(), with_size(judges)
    together, worthless = best.interval(), best.interval().high < 0  # nothing else is so bad
    rates = {
        kind: Rate(*(equal_setting(others, value) for value in (one.value, one.low, one.high)))
        for kind, one in ((PREDICTOR, together), (SHORT, found))
        if not worthless and (others := of_kind(judges, kind))
    }
    said, size = [], "with the parameter count " * (best is not net)
    if SHORT in rates:
        length = f"{rates[SHORT].value} of {counted(sample.truth.epochs, 'epoch')}"
        said.append(f"ranks as well ({found.value:.2f}) as training each for {length}")
    if PREDICTOR in rates:
        fitted = f"fitted to {rates[PREDICTOR].value} trained architectures"
        said.append(f"{size}ranks as well ({together.value:.2f}) as a predictor {size}{fitted}")
    scoring = costs.scoring(sample.recipe)
    sentence = f"a supernet that costs {net.cost:.3g} trainings, {scoring:.3g} of them for scoring, "
    unequalled = "worse than a random order" if worthless else "nothing to compare it with"
    sentence += "; ".join(said) if said else f"ranks at {found.value:.2f}: {unequalled}"
    return {
        "sentence": sentence,
        "cost": net.cost,
        "scoring": scoring,
        "correlation": found,
        "with_size": together,
        "rates": rates,
    }


def with_size(judges: Sequence[Judge]) -> Judge:
    """The longest-trained supernets together with the parameter count, where that differs."""
    return [*of_kind(judges, UNIFORM)[-1:], *of_kind(judges, WITH_SIZE)[-1:]][-1]


def partials(sample: SpaceSample, judges: Sequence[Judge]) -> dict[str, dict[str, Interval]]:
    """Of each supernet's label: its partial Spearman given each free score."""
    given = {one.label: one.scores[0] for one in of_kind(judges, FREE)}
    return {
        net.label: {
            name: correlation_over(partial_agreement(net.scores, sample.test, values)) for name, values in given.items()
        }
        for kind in (UNIFORM, FAIR, MULTI)
        for net in of_kind(judges, kind)
    }


def advantage(net: Judge, other: Judge, level: float = 0.95) -> Interval:
    """The supernets' correlation minus the other's; a single other judge is no supernet, so it adds no spread."""
    ours, theirs = net.ranking.agreement, other.ranking.agreement
    if len(theirs.each) == 1:
        return contrast((1, ours - theirs), level=level)
    return contrast((1, ours), (-1, theirs), level=level)


def verdicts_of(sample: SpaceSample, judges: Sequence[Judge]) -> list[Verdict]:
    """Claims about the longest-trained uniform supernets. docs/claims.md has the rules."""
    uniform = of_kind(judges, UNIFORM)
    if not uniform:
        return []
    net, verdicts = uniform[-1], list[Verdict]()
    seeds = len(net.scores)

    def add(claim: str, rule: str, found: Interval, said: str, numbers: Numbers) -> None:
        rule = (
            f"holds where the 95 % interval of {rule} is above 0, does not hold where it ends below +{HARDLY}; else, "
        )
        rule += "and with one supernet, inconclusive"
        judged = sign_verdict(found.low, found.high, seeds, hardly=HARDLY)
        verdicts.append(Verdict(claim, "not in the paper", sample.name, rule, said, judged, numbers))

    size = next((one for one in of_kind(judges, FREE) if one.label == "parameters"), None)
    if size is not None:
        numbers = Numbers()
        found = contrast((1, partial_agreement(net.scores, sample.test, size.scores[0])))
        said = f"partial correlation {numbers.estimate('partial', found)}"
        rule = "(partial Spearman of the longest-trained supernets with the ground truth, given the parameter count)"
        add("weight sharing knows more than the parameter count", rule, found, said, numbers)
        both, numbers = of_kind(judges, WITH_SIZE)[-1], Numbers()
        found = contrast((1, both.ranking.agreement - size.ranking.agreement))
        said = (
            f"{numbers.say('together', both.ranking.correlation)} against "
            f"{numbers.say('parameter count', size.ranking.correlation)}: {numbers.estimate('difference', found)}"
        )
        rule = "(correlation of the mean rank by supernet and by parameter count - by parameter count alone)"
        add("a supernet and the parameter count together rank better than the count", rule, found, said, numbers)
    scored = of_kind(judges, UNTRAINED)
    if scored:
        best, numbers = max(scored, key=lambda one: one.ranking.correlation), Numbers()
        # a random order is a zero-cost score, too: it correlates at 0
        above = all(advantage(net, one).low > 0 for one in scored) and net.interval().low > 0
        level = 1 - 0.05 / (len(scored) + 1)
        ahead = [advantage(net, one, level) for one in scored]
        below = any(one.high < HARDLY for one in (*ahead, contrast((1, net.ranking.agreement), level=level)))
        verdicts.append(
            Verdict(
                "a supernet ranks better than every zero-cost score",
                "not in the paper",
                sample.name,
                "holds where the longest-trained supernets' correlation is above every score's, and above that of a "
                "random order, which is 0 (95 % intervals of the differences above 0); does not hold where one of "
                f"these ends below +{HARDLY} (corrected for how many there are); else, and with one supernet, "
                "inconclusive",
                f"{numbers.say('supernet', net.ranking.correlation)} against "
                f"{numbers.say('best score', best.ranking.correlation)} of {best.label}",
                "inconclusive" if seeds < 2 else "holds" if above else "does not hold" if below else "inconclusive",
                numbers,
            )
        )
    for kind, claim in ((PREDICTOR, "a predictor of its cost"), (SHORT, "short trainings of its cost")):
        affordable = [one for one in of_kind(judges, kind) if SPENT * net.cost <= one.cost <= net.cost]
        if affordable:
            other, numbers = affordable[-1], Numbers()
            ours = with_size(judges) if kind == PREDICTOR else net
            found = advantage(ours, other)
            said = (
                f"{numbers.say('supernet', ours.ranking.correlation)} for "
                f"{numbers.say('cost of the supernet', net.cost, '.1f')} trainings against "
                f"{numbers.say('other', other.ranking.correlation)} for "
                f"{numbers.say('cost of the other', other.cost, '.1f')}: {numbers.estimate('difference', found)}"
            )
            rule = f"(longest-trained supernets' correlation - that of the dearest {kind} that cost no more, but at "
            rule += f"least {SPENT} times as much"
            rule += ", both together with the parameter count where it differs)" if kind == PREDICTOR else ")"
            add(f"a supernet ranks better than {claim}", rule, found, said, numbers)
    return verdicts


RANDOM = "ten random ones"
LOOKS: dict[str, tuple[str, str, str]] = {  # colour, marker, line
    FREE: (GREY, "_", ""),
    UNTRAINED: (RED, "x", ""),
    UNIFORM: (BLACK, "o", "-"),
    FAIR: (BLACK, "^", "--"),
    MULTI: (BLACK, "s", ":"),
    WITH_SIZE: (BLUE, "X", "-"),
    REGRESSION: (BLUE, "D", ":"),
    SHORT: (ORANGE, "v", "-"),
    PREDICTOR: (GREEN, "P", "-"),
}


SCORE_MARKERS = dict(zip(LABELS.values(), ("*", "x", "1", "2", "3", "4", "+"), strict=True))


def draw(axes: Axes, judges: Sequence[Judge], free_at: float, value: Callable[[Judge], Interval]) -> None:
    """Each kind a line over cost, with bars; the zero-cost scores each a marker."""
    for kind, (colour, marker, line) in LOOKS.items():
        chosen = of_kind(judges, kind)
        x = np.array([one.cost or free_at for one in chosen])
        found = [value(one) for one in chosen]
        y, low, high = (np.array([getattr(one, name) for one in found]) for name in ("value", "low", "high"))
        axes.vlines(x, low, high, color=colour, lw=0.8, alpha=0.35)
        if kind == UNTRAINED:
            for one, where, height in zip(chosen, x, y, strict=True):
                label = f"{one.label} {height:.2f}"
                axes.plot(where, height, color=colour, marker=SCORE_MARKERS[one.label], ls="none", ms=7, label=label)
        elif chosen:
            axes.plot(x, y, color=colour, marker=marker, ls=line or "none", ms=5, lw=1.3, label=kind)


def figure_of(panels: Sequence[tuple[SpaceSample, Sequence[Judge], dict[str, Any], float | None]], note: str) -> Figure:
    """Correlation above regret over cost, a column per space."""
    columns = min(len(panels), 2)
    bands = -(-len(panels) // columns)
    with plt.rc_context(STYLE):
        figure: Figure
        size = (min(WIDEST, 1.0 + 6.3 * columns), 1.2 + 6.6 * bands)
        figure, grid = plt.subplots(2 * bands, columns, figsize=size, squeeze=False, layout="constrained")
        pairs = grid.reshape(bands, 2, columns).transpose(0, 2, 1).reshape(-1, 2)
        for axes in pairs[len(panels) :].flat:
            axes.set_visible(False)
        shown: dict[str, Any] = {}
        for (upper, lower), (sample, judges, rate, ceiling) in zip(pairs, panels, strict=False):
            upper.sharex(lower)
            upper.tick_params(labelbottom=False)
            costs = [one.cost for one in judges if one.cost] or [1.0]
            decades = np.arange(np.floor(np.log10(min(costs))), np.ceil(np.log10(max(costs))) + 1)
            gap = 0.5 + 0.22 * (decades[-1] - decades[0])  # wide enough for the names of what is free
            free_at = float(10.0 ** (decades[0] - gap))
            lower.set_xscale("log")
            draw(upper, judges, free_at, Judge.interval)
            draw(lower, judges, free_at, lambda one: one.ranking.measures.intervals()["regret"])
            ticks = (f"{10.0**power:g}" if power > -3 else f"$10^{{{power:.0f}}}$" for power in decades)
            lower.set_xticks([free_at, *10.0**decades], ["free", *ticks])
            lower.minorticks_off()
            upper.axhline(0, color=GREY, lw=0.8)
            random = judges[0].ranking.best - judges[0].ranking.random_top
            for axes, height, text, side, colour in (
                (upper, ceiling, "noise ceiling", "top", GREEN),  # below its line, which may be the highest of all
                (lower, random, RANDOM, "bottom", GREY),
            ):
                if height is not None:
                    axes.axhline(height, color=colour, lw=1, ls="--")
                    where = axes.get_yaxis_transform()
                    axes.text(0.01, height, text, color=INK.get(colour, colour), va=side, fontsize=8, transform=where)
            lower.set_ylim(0, 1.25 * max(random, *(one.ranking.measures.intervals()["regret"].value for one in judges)))
            upper.set_ylabel("Spearman correlation with ground truth")
            points = "points" if sample.space.metric == "accuracy" else "perplexity"
            lower.set_ylabel(f"regret of the best of the top {K}, {points}")
            lower.set_xlabel(f"compute to rank {len(sample.archs):,} architectures, in sufficient trainings")
            sentence = rate.get("sentence", "")
            head(upper, sample.title, textwrap.fill(sentence[:1].upper() + sentence[1:], 100))
            handles = dict(zip(*reversed(upper.get_legend_handles_labels()), strict=True))
            shown |= {kind: handles[kind] for kind in LOOKS if kind in handles}
            scored = sorted(of_kind(judges, UNTRAINED), key=lambda one: -one.ranking.correlation)
            if scored:
                names = [f"{one.label} {one.ranking.correlation:.2f}" for one in scored]
                upper.legend(
                    [handles[name] for name in names],
                    names,
                    title="zero-cost scores",
                    loc="upper left",
                    bbox_to_anchor=(1.01, 1),  # beside the axes, where it hides no point
                    frameon=False,
                    title_fontsize=8,
                )
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "frameon": False}
        pairs[len(panels) - 1][1].legend(shown.values(), shown.keys(), ncols=3, **below)
        caption(figure, note)
        for (upper, _), (_, judges, _, _) in zip(pairs, panels, strict=False):
            labels = [(one.ranking.correlation, one.label, GREY) for one in of_kind(judges, FREE)]
            end_labels(upper, labels, upper.get_xticks()[0])
        plt.close(figure)
        return figure


@click.command(cls=StudyCommand)
@study_options("worth")
@budgets_option
@click.option(
    "--paths",
    multiple=True,
    default=("fair", "multi:2"),
    show_default=True,
    help="Other path samplers to train supernets with; repeatable.",
)
@click.option(
    "--short",
    multiple=True,
    type=click.IntRange(1),
    help="Also train every architecture for this many epochs; repeatable.",
)
@click.option(
    "--images",
    type=click.IntRange(2),
    default=64,
    show_default=True,
    help="Images (text: sequences) in a zero-cost score's batch.",
)
@click.option("--without", multiple=True, type=click.Choice(WITHOUT), help="Leave these out; repeatable.")
def main(
    options: StudyOptions,
    count: int | None,
    paths: tuple[str, ...],
    short: tuple[int, ...],
    images: int,
    without: tuple[str, ...],
) -> None:
    """What a supernet is worth, against what else the same compute could buy."""
    for name, option, left_out in (
        ("count", "--budgets", "supernets"),
        ("paths", "--paths", "supernets"),
        ("paths", "--paths", "paths"),
        ("images", "--images", "zero-cost"),
    ):
        if left_out in without and was_given(name):
            raise WsnasError(f"{option} has no effect with --without {left_out}: leave one of them out")
    paths = tuple(dict.fromkeys(path_samplers.name_of(path_samplers.parse(one)) for one in paths))
    short = tuple(dict.fromkeys(short))
    if "uniform" in paths:
        raise WsnasError("uniform supernets are always trained, of more budgets: leave out --paths uniform")
    paths = () if "paths" in without else paths
    samples = space_samples(options, BUDGETS[options.scale][0])
    for sample in samples:
        if short and max(short) >= sample.truth.epochs:
            raise WsnasError(
                f"--short {max(short)} is no shorter than the ground truth of {sample.name}, which has "
                f"{counted(sample.truth.epochs, 'epoch')}"
            )
        if short:
            require_validation(sample.space, sample.recipe, "--short")
        if "zero-cost" not in without:
            require_images(splits_once(sample.name, sample.recipe, choose_device()), sample.recipe, images)
    wanted = {
        sample.name: [] if "supernets" in without else variants(options, sample, count, paths) for sample in samples
    }
    scores = scores_of(options, [(sample, variant) for sample in samples for variant in wanted[sample.name]])
    panels, verdicts, rows = [], list[Verdict](), list[dict[str, Any]]()
    results: dict[str, Any] = {}
    for sample in samples:
        costs = Costs.of(sample, splits_once(sample.name, sample.recipe, choose_device()))
        of_nets = [scores[sample.name, variant.label] for variant in wanted[sample.name]]
        nets = [*supernets(options, sample, costs, wanted[sample.name], of_nets)]
        judges = [
            *free(sample, costs),
            *(() if "zero-cost" in without else untrained(options, sample, costs, images)),
            *nets,
            *sorted(
                [
                    *short_trainings(sample, costs),
                    *(fresh_trainings(options, sample, costs, epochs) for epochs in short),
                ],
                key=lambda one: one.setting or 0,
            ),
            *predictors(options, sample, of_kind(nets, UNIFORM)[-1].cost if nets else 0.0),
        ]
        if not judges:
            click.echo(f"{sample.name}: left out: nothing to rank its architectures by")
            continue
        rate, given, ceiling = exchange(sample, costs, judges), partials(sample, judges), sample.ceiling()
        panels.append((sample, judges, rate, ceiling))
        verdicts += enough(verdicts_of(sample, judges), len(sample.archs))
        rows += [one.to_csv(sample.name, given.get(one.label, {})) for one in judges]
        results[sample.name] = {
            "training": {**costs.truth, "total": costs.training},
            "ceiling": ceiling,
            "exchange": rate,
            "rows": [one.to_json(given.get(one.label, {})) for one in judges],
        }
        if rate:
            click.echo(f"{sample.name}: {rate['sentence']}")
    budgets = max((len({one.recipe.supernet.epochs for one in some}) for some in wanted.values()), default=0)
    several = ", from left to right of twice the epochs" if budgets > 1 else ""
    if not panels:
        raise WsnasError("no space has anything to rank its architectures by: leave out one --without")
    write_results(
        options.study,
        options.out,
        settings=settings_of(options, [sample for sample, *_ in panels], images=images),
        rows=rows,
        verdicts=verdicts,
        results=results,
        title="What is a supernet worth?",
        answer=Answer(
            "weight sharing knows more than the parameter count",
            "Supernets carry information beyond the parameter count",
            "Supernets carry hardly any information beyond the parameter count",
        ),
        source="not in the paper",
        svg=options.svg,
        figure=figure_of(
            panels,
            f"{options.about}, {counted(len(options.seeds), 'seed')} of every judge but the table's and the predictor, "
            "fitted several times and combined with the parameter count. One training: a sufficient stand-alone "
            "training of an average architecture, in multiply-adds times images. "
            f"Supernets{several}: scoring included; the ten trainings that pick the best of a top 10 are not counted. "
            "Bars: 95 % intervals over architectures and judges.",
        ),
    )


if __name__ == "__main__":
    main()
