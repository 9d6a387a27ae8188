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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from wsnas import paths as path_samplers
from wsnas.devices import choose_device
from wsnas.errors import WsnasError
from wsnas.ground_truth import splits_once, train_many
from wsnas.metrics import (
    NEARLY_ALL,
    Floats,
    Interval,
    contrast,
    correlation_over,
    higher_is_better,
    partial_agreement,
)
from wsnas.options import was_given
from wsnas.progress import progress
from wsnas.proxies import SHAPE, ZERO_COST, name_of, proxy_scores, require_fit, require_images
from wsnas.randomness import numpy_rng
from wsnas.recipe import Sequences, change_recipe, digest
from wsnas.runs import Run
from wsnas.studies.costs import Costs
from wsnas.studies.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    STYLE,
    WIDEST,
    caption,
    counted,
    head,
    spread_labels,
)
from wsnas.studies.jobs import BUDGETS, ProxyJob, SupernetJob, Variant, all_untrained_scores, budgets_option, scores_of
from wsnas.studies.options import StudyCommand, StudyOptions, study_options
from wsnas.studies.predictor import features, gaussian_process, linear, most, predictions
from wsnas.studies.rankings import K, Ranking, finite, measures_csv, measures_json, ranking
from wsnas.studies.results import settings_of, write_results
from wsnas.studies.sample import SpaceSample, space_samples
from wsnas.studies.verdicts import Answer, Numbers, Verdict, enough, sign_verdict
from wsnas.table import Column

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
WITHOUT = ("supernets", "paths", "zero-cost")
TRAINED_COUNTS = (10, 20, 50, 100, 200, 500)  # that the predictor is fitted on
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

    def to_json(self, partial: dict[str, Interval]) -> dict[str, Any]:
        names = ("kind", "label", "setting", "cost", "seconds")
        ranked = self.ranking
        return {
            **{name: getattr(self, name) for name in names},
            **{n: getattr(ranked, n) for n in ("not_finite", "correlation", "correlation_low", "correlation_high")},
            "correlation_seeds": ranked.correlation_seeds,
            "measures": measures_json(ranked.measures),
            **({"partial": partial} if partial else {}),
        }

    def to_csv(self, space: str, partial: dict[str, Interval]) -> dict[str, Any]:
        names = ("kind", "label", "setting", "cost", "seconds")
        ranked = self.ranking
        return {
            "space": space,
            **{name: getattr(self, name) for name in names},
            **{n: getattr(ranked, n) for n in ("correlation", "correlation_low", "correlation_high")},
            **measures_csv(ranked.measures),
            **{f"given {name}": found.value for name, found in partial.items()},
        }


# judges -------------------------------------------------------------------------------------------------------


def judge(sample: SpaceSample, kind: str, label: str, scores: Floats, cost: float, **more: float | None) -> Judge:
    """Of scores [judges, n] or [n], higher is better."""
    several = np.atleast_2d(scores)
    ranked = ranking(several, sample.valid, sample.test, min(K, len(sample.archs)))
    return Judge(kind, label, more.get("setting"), cost, more.get("seconds"), finite(several), ranked)


def free(sample: SpaceSample, costs: Costs) -> Iterator[Judge]:
    """What is known without any data, unless it is the same for all."""
    known = {"parameters": sample.parameters, "multiply-adds": costs.macs}
    if not isinstance(sample.recipe.standalone.inputs, Sequences):
        for count in SHAPE:
            found = proxy_scores(sample.space, sample.archs, sample.recipe, count, images=2, splits=costs.splits)
            known[name_of(count)] = np.array(list(found.values()))
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
    jobs = [
        ProxyJob(sample.name, sample.recipe, name, images, seed, sample.archs, options.supernets)
        for name in names
        for seed in options.seeds
    ]
    found, each = all_untrained_scores(jobs, options), len(options.seeds)
    for i, name in enumerate(names):
        scores, seconds = zip(*found[i * each : (i + 1) * each], strict=True)
        cost = costs.untrained(name, images)
        yield judge(sample, UNTRAINED, LABELS[name], np.array(scores), cost, seconds=float(np.mean(seconds)))


def variants(options: StudyOptions, sample: SpaceSample, count: int | None, others: Sequence[str]) -> list[Variant]:
    """Uniform supernets: all of the recipe's epochs, 1/2, 1/4 ... of them. Those with several paths per step: 1/4 and
    1/8 of them.
    """
    longest, (_, usual) = sample.recipe.supernet.epochs, BUDGETS[options.scale]

    def budgets(halvings: Sequence[int]) -> list[int]:
        return sorted({max(1, round(longest / 2**halving)) for halving in halvings})

    wanted = [("uniform", epochs) for epochs in budgets(range(count or usual))]
    for paths in others:
        try:
            path_samplers.parse(paths)(sample.space, numpy_rng(0))
        except WsnasError as refused:
            click.echo(f"{sample.name}: left out: {refused}")
        else:
            wanted += [(paths, epochs) for epochs in budgets((2, 3))]
    return [
        Variant(f"{paths}, {epochs} epochs", change_recipe(sample.recipe, epochs=epochs), paths, options.seeds)
        for paths, epochs in wanted
    ]


def seconds_of(options: StudyOptions, sample: SpaceSample, variant: Variant) -> float | None:
    """Of training one supernet, as its sessions recorded; mean over seeds."""
    totals = []
    for seed in variant.seeds:
        job = SupernetJob(sample.name, variant.recipe, seed, None, sample.archs, options.supernets, variant.paths)
        totals.append(Run.read(job.out).seconds())
    return float(np.mean(totals)) if all(totals) else None


def supernets(
    options: StudyOptions, sample: SpaceSample, costs: Costs, wanted: Sequence[Variant], scores: Sequence[Floats]
) -> Iterator[Judge]:
    """Of the scores [seeds, n] of each variant. With the parameter count: the mean of the ranks, and a regression."""
    kinds = {"uniform": UNIFORM, "fair": FAIR}
    varied = len(np.unique(sample.parameters)) > 1
    sizes = stats.rankdata(sample.parameters)
    truth = trained_once(sample)[1][sample.truth.rows(sample.archs)]
    for variant, found in zip(wanted, scores, strict=True):
        cost, seconds = costs.supernet(variant), seconds_of(options, sample, variant)
        about = {"seconds": seconds, "setting": float(variant.recipe.supernet.epochs)}
        yield judge(sample, kinds.get(variant.paths, MULTI), variant.label, found, cost, **about)
        if varied and variant.paths == "uniform":
            ranks, rows = stats.rankdata(finite(found), axis=1), np.arange(len(sample.archs))
            yield judge(sample, WITH_SIZE, f"{variant.label}, and size", ranks + sizes, cost, **about)
            if most(truth, rows) >= FEW:
                fitted = [
                    predictions(linear, np.stack([one, sizes], 1), truth, rows, FEW, numpy_rng(seed, "regression"))
                    for seed, one in zip(variant.seeds, ranks, strict=True)
                ]
                label = f"{variant.label}, size, {FEW} trained"
                yield judge(sample, REGRESSION, label, np.array(fitted), cost + FEW, **about)


def trained_once(sample: SpaceSample) -> tuple[list[dict[str, str]], Floats]:
    """Decisions and validation result of one training of every architecture of the ground truth; NaN: no such seed."""
    truth = sample.truth
    valid = truth.table.seeds(truth.dataset, "valid", truth.epochs)
    seed = int(np.isfinite(valid).sum(0).argmax())
    return [dict(sample.space.decisions(arch)) for arch in truth.archs], valid[:, seed]


def predictors(options: StudyOptions, sample: SpaceSample) -> Iterator[Judge]:
    """A Gaussian process fitted on n trained architectures, a new draw of them for each seed."""
    decisions, truth = trained_once(sample)
    rows, described = sample.truth.rows(sample.archs), features(decisions)
    for count in TRAINED_COUNTS:
        if count <= most(truth, rows):
            scores = [
                predictions(gaussian_process, described, truth, rows, count, numpy_rng(seed, "predictor", count))
                for seed in options.seeds
            ]
            yield judge(sample, PREDICTOR, f"{count} trained", np.array(scores), float(count), setting=count)


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
        if scores.shape[1]:
            label = f"{epochs} of {truth.epochs} epochs"
            yield judge(sample, SHORT, label, scores.T, costs.short(epochs), setting=epochs)


def fresh_trainings(options: StudyOptions, sample: SpaceSample, costs: Costs, epochs: int) -> Judge:
    """Validation results of trainings made here, which are kept next to the supernets; each seed a judge."""
    recipe = change_recipe(sample.recipe, **{"standalone.epochs": epochs})
    known = {column.seed or 0 for column in sample.truth.table.columns}
    seeds = [max(known) + 1 + seed for seed in options.seeds]  # none begins as a training of the ground truth does
    out = Path(options.supernets) / f"{sample.name}-alone-{digest(recipe.standalone_identity())}"
    if not options.resume:
        Run.remove(out)
    with progress(f"{sample.name}, {epochs} epochs") as report:
        table = train_many(
            sample.space, sample.archs, out, recipe, seeds=seeds, executor=options.executor, report=report
        )
    names = [sample.space.encode(arch) for arch in sample.archs]
    columns = table.select(names).columns
    found = [columns[Column(recipe.dataset, "valid", epochs, seed)] for seed in seeds]
    scores = higher_is_better(np.array(found), sample.space.metric)
    label = f"{counted(epochs, 'epoch')}, trained here"
    return judge(sample, SHORT, label, scores, costs.fresh(recipe.standalone), setting=epochs)


# what follows -------------------------------------------------------------------------------------------------


def of_kind(judges: Sequence[Judge], kind: str) -> list[Judge]:
    return [one for one in judges if one.kind == kind]


@dataclass(frozen=True)
class Rate:
    """The setting of other judges that rank as well as a supernet; ``low``, ``high``: as the ends of its interval."""

    value: str  # may be "at most 10" or "more than 50"
    low: str
    high: str


def equal_setting(judges: Sequence[Judge], correlation: float) -> str:
    """The first setting whose correlation is this high, between two settings by a straight line over its logarithm."""
    settings = [float(one.setting or 0) for one in judges]
    reached = np.array([one.ranking.correlation for one in judges])
    if correlation <= reached[0]:
        return f"at most {settings[0]:g}"
    above = np.flatnonzero(reached >= correlation)
    if not len(above):
        return f"more than {settings[-1]:g}"
    i = int(above[0])
    share = (correlation - reached[i - 1]) / (reached[i] - reached[i - 1])
    return f"{np.exp(np.interp(share, (0, 1), np.log(settings[i - 1 : i + 1]))):.3g}"


def exchange(sample: SpaceSample, costs: Costs, judges: Sequence[Judge]) -> dict[str, Any]:
    """What the longest-trained supernet can be exchanged for, and the sentence that says so."""
    uniform = of_kind(judges, UNIFORM)
    if not uniform:
        return {}
    net = uniform[-1]
    found = net.interval()
    rates = {
        kind: Rate(*(equal_setting(others, value) for value in (found.value, found.low, found.high)))
        for kind in (PREDICTOR, SHORT)
        if (others := of_kind(judges, kind))
    }
    said = []
    if PREDICTOR in rates:
        said.append(f"{rates[PREDICTOR].value} trained architectures and a predictor")
    if SHORT in rates:
        said.append(f"training each for {rates[SHORT].value} of {sample.truth.epochs} epochs")
    scoring = costs.scoring(sample.recipe)
    sentence = f"a supernet that costs {net.cost:.3g} trainings, {scoring:.3g} of them for scoring, "
    sentence += f"ranks ({found.value:.2f})"
    sentence += f" as well as {', or as '.join(said)}" if said else ": nothing to compare it with"
    return {"sentence": sentence, "cost": net.cost, "scoring": scoring, "correlation": found, "rates": rates}


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
        rule = f"holds where the 95 % interval of {rule} is above 0, does not hold where it is below 0; else, and with "
        rule += "one supernet, inconclusive"
        judged = sign_verdict(found.low, found.high, seeds)
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
        above = all(advantage(net, one).low > 0 for one in scored)
        below = any(advantage(net, one, level=1 - 0.05 / len(scored)).high < 0 for one in scored)
        verdicts.append(
            Verdict(
                "a supernet ranks better than every zero-cost score",
                "not in the paper",
                sample.name,
                "holds where the longest-trained supernets' correlation is above every score's (95 % intervals of the "
                "differences above 0); does not hold where some score's is above theirs (the intervals corrected for "
                "how many there are); else, and with one supernet, inconclusive",
                f"{numbers.say('supernet', net.ranking.correlation)} against "
                f"{numbers.say('best score', best.ranking.correlation)} of {best.label}",
                "inconclusive" if seeds < 2 else "holds" if above else "does not hold" if below else "inconclusive",
                numbers,
            )
        )
    for kind, claim in ((PREDICTOR, "a predictor of its cost"), (SHORT, "short trainings of its cost")):
        affordable = [one for one in of_kind(judges, kind) if one.cost <= net.cost]
        if affordable:
            other, numbers = affordable[-1], Numbers()
            found = advantage(net, other)
            said = (
                f"{numbers.say('supernet', net.ranking.correlation)} for "
                f"{numbers.say('cost of the supernet', net.cost, '.1f')} trainings against "
                f"{numbers.say('other', other.ranking.correlation)} for "
                f"{numbers.say('cost of the other', other.cost, '.1f')}: {numbers.estimate('difference', found)}"
            )
            rule = f"(longest-trained supernets' correlation - that of the dearest {kind} that cost no more)"
            add(f"a supernet ranks better than {claim}", rule, found, said, numbers)
    return verdicts


# figure -------------------------------------------------------------------------------------------------------

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
            for axes, height, text, colour in ((upper, ceiling, "noise ceiling", GREEN), (lower, random, RANDOM, GREY)):
                if height is not None:
                    axes.axhline(height, color=colour, lw=1, ls="--")
                    where = axes.get_yaxis_transform()
                    axes.text(0.01, height, text, color=colour, va="bottom", fontsize=8, transform=where)
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
        for (upper, _), (_, judges, _, _) in zip(pairs, panels, strict=False):  # last: it needs the final layout
            labels = [(one.ranking.correlation, one.label, GREY) for one in of_kind(judges, FREE)]
            if labels:
                spread_labels(labels, upper, upper.get_xticks()[0])
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
    paths = tuple(path_samplers.name_of(path_samplers.parse(one)) for one in paths)
    if "uniform" in paths:
        raise WsnasError("uniform supernets are always trained, of more budgets: leave out --paths uniform")
    paths = () if "paths" in without else paths
    samples = space_samples(options, BUDGETS[options.scale][0])
    for sample in samples:
        if short and max(short) >= sample.truth.epochs:
            raise WsnasError(
                f"--short {max(short)} is no shorter than the ground truth of {sample.name}, which has "
                f"{sample.truth.epochs} epochs"
            )
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
        judges = [
            *free(sample, costs),
            *(() if "zero-cost" in without else untrained(options, sample, costs, images)),
            *supernets(options, sample, costs, wanted[sample.name], of_nets),
            *sorted(
                [
                    *short_trainings(sample, costs),
                    *(fresh_trainings(options, sample, costs, epochs) for epochs in short),
                ],
                key=lambda one: one.setting or 0,
            ),
            *predictors(options, sample),
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
            "Supernets carry no information beyond the parameter count",
        ),
        source="not in the paper",
        svg=options.svg,
        figure=figure_of(
            panels,
            f"{options.about}, {counted(len(options.seeds), 'seed')} of every judge but the "
            "table's. One training: a sufficient stand-alone training of an average architecture, in multiply-adds "
            f"times images. Supernets{several}: scoring included; the ten trainings that "
            "pick the best of a top 10 are not counted. Bars: 95 % intervals over architectures and judges.",
        ),
    )


if __name__ == "__main__":
    main()
