"""The studies' rules, by hand: the verdicts on numbers whose intervals are known."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from wsnas import installed_spaces, load_ground_truth, load_space
from wsnas.metrics import Floats, Interval, PerSupernet, search_gain, top_k
from wsnas.randomness import numpy_rng
from wsnas.studies.rankings import K, Point, finite, judged, mean_ranking, ranking
from wsnas.studies.verdicts import FEWEST, Answer, Verdict, enough
from wsnas.table import Column, Table

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

STUDIES = Path(__file__).resolve().parents[1] / "studies"


def about(mean: float, spread: float = 0.02, supernets: int = 3) -> PerSupernet:
    """Of supernets whose numbers are ``spread`` apart, on any architectures: the interval is Student's alone."""
    each = mean + spread * (np.arange(float(supernets)) - (supernets - 1) / 2)
    return PerSupernet(each, np.repeat(each[:, None], 10, axis=1), 100, 99)


def point(setting: int, mean: float, supernets: int = 3, **more: Any) -> Any:
    """A setting whose supernets correlate so; ``more``: of a ``Point``, and ``evaluated``."""
    agreement = about(mean, supernets=supernets)
    ranked = SimpleNamespace(
        agreement=agreement,
        correlation=mean,
        correlation_low=0.0,
        correlation_seeds=[*agreement.each],
        top_seeds=[*agreement.each],
        evaluated=more.pop("evaluated", 100),
    )
    known = {"search": None, "gain": None, "any_judge": None, "reporting_seeds": 1, **more}
    return SimpleNamespace(setting=setting, ranking=ranked, **known)


@pytest.mark.parametrize(
    ("means", "supernets", "verdict"),
    [
        ((0.2, 0.5, 0.8), 3, "does not hold"),
        ((0.9, 0.5, 0.8), 3, "holds"),
        ((0.8, 0.5, 0.8), 3, "inconclusive"),  # above only one
        ((0.5, 0.85, 0.8), 3, "inconclusive"),  # 0.05 +- 0.045, or +- 0.057 corrected for two
        ((0.85, 0.8), 3, "holds"),  # of one, nothing is corrected
        ((0.9, 0.8), 1, "inconclusive"),
        ((0.7, 0.8), 1, "inconclusive"),
    ],
)
def test_a_longer_training_ranks_better_only_if_it_is_above_every_shorter_one(
    means: tuple[float, ...], supernets: int, verdict: str
) -> None:
    verdicts_of = runpy.run_path(str(STUDIES / "epochs.py"))["verdicts_of"]
    (found,) = verdicts_of("nb201", [point(2**i, mean, supernets) for i, mean in enumerate(means)])
    assert (found.claim, found.verdict) == ("a longer training does not guarantee a better ranking", verdict)


def test_small_searches_of_epochs_choose_by_validation_and_report_test() -> None:
    rng = numpy_rng(24)
    scores, valid, test = rng.standard_normal((2, 60)), *rng.standard_normal((2, 60))
    sample = SimpleNamespace(valid=valid, test=test, parameters=np.arange(60.0))
    found = runpy.run_path(str(STUDIES / "epochs.py"))["point_of"](sample, 4, scores, None)
    assert found.search.each == pytest.approx(search_gain(scores, valid, test).each)
    assert found.ranking.correlation_seeds == pytest.approx([stats.spearmanr(one, test).statistic for one in scores])
    assert found.ranking.top_seeds == [top_k(one, valid, test, K) for one in scores]


def capacity(*points: Any) -> dict[str, Any]:
    sample = SimpleNamespace(name="nb201", space=SimpleNamespace(metric="accuracy"))
    found = runpy.run_path(str(STUDIES / "capacity.py"))["verdicts_of"](sample, points)
    return {one.claim: one for one in found}


PRUNING = "pruning to the best lowers the correlation"
SHRINKS, LITTLE = "the advantage over random shrinks with pruning", "little advantage over random is left at 8x"
GROWS = "beyond 8x the correlation grows again"


def test_pruning_is_judged_by_the_mean_over_the_factors_reported_alike() -> None:
    found = capacity(point(1, 0.8), point(4, 0.2), point(16, 0.8))[PRUNING]  # the largest alone: no change
    assert (found.verdict, found.numbers["change"]) == ("holds", pytest.approx(-0.3))
    assert capacity(point(1, 0.5), point(4, 0.8))[PRUNING].verdict == "does not hold"
    assert capacity(point(1, 0.8, 1), point(4, 0.2, 1))[PRUNING].verdict == "inconclusive"  # one supernet
    assert capacity(point(1, 0.8), point(4, 0.2, evaluated=29))[PRUNING].verdict == "inconclusive"
    other = capacity(point(1, 0.8), point(4, 0.8), point(16, 0.0, reporting_seeds=0))[PRUNING]
    assert (other.verdict, other.numbers["factors"]) == ("inconclusive", 1)


@pytest.mark.parametrize(
    ("at8", "at16", "shrinks", "little"),
    [
        (0.8, 0.5, "holds", "holds"),
        (1.5, 2.5, "does not hold", "does not hold"),  # of 2: 1.5 is less, but more than half
        (1.0, 2.0, "inconclusive", "inconclusive"),
    ],
)
def test_the_advantage_over_random_is_compared_with_that_of_the_whole(
    at8: float, at16: float, shrinks: str, little: str
) -> None:
    whole, eighth = point(1, 0.8, search=about(2.0)), point(8, 0.8, search=about(at8))
    found = capacity(whole, eighth, point(16, 0.8, search=about(at16)))
    assert (found[SHRINKS].verdict, found[LITTLE].verdict) == (shrinks, little)
    assert found[SHRINKS].numbers["factor"] == 16
    unsure = capacity(point(1, 0.8, search=about(0.1, 0.1)), eighth)  # nothing certain to lose
    assert set(unsure) == {PRUNING}


def test_a_correlation_grows_again_only_far_beyond_8x() -> None:
    eighth = point(8, 0.3)
    assert GROWS not in capacity(point(1, 0.8), eighth, point(16, 0.6))
    assert capacity(point(1, 0.8), eighth, point(32, 0.6))[GROWS].verdict == "holds"
    assert capacity(point(1, 0.8), eighth, point(32, 0.1))[GROWS].verdict == "does not hold"


def test_the_factor_to_which_the_fall_is_certain_is_one_of_several() -> None:
    """A fall of 0.05 +- 0.045 is certain alone, but +- 0.057 of two."""
    partly = runpy.run_path(str(STUDIES / "capacity.py"))["partly"]
    assert partly([point(1, 0.8), point(2, 0.75)]) == "Pruning to the best half lowers the correlation"
    assert partly([point(1, 0.8), point(2, 0.75), point(4, 0.8)]) is None


def consistency(noises: Any, size: Any, supernets: int = 3) -> dict[str, str]:
    """Verdicts where budgets' supernets are the truth with such noise; ``size``: what the parameter count is."""
    code, rng = runpy.run_path(str(STUDIES / "consistency.py")), numpy_rng(25)
    truth = rng.standard_normal(150)
    nets = np.array([truth + noise * rng.standard_normal((supernets, 150)) for noise in noises])
    once = SimpleNamespace(seeds=lambda archs: truth[:, None])
    sizes = size(truth, nets[-1], rng)
    sample = SimpleNamespace(name="nb201", test=truth, parameters=sizes, truth=once, archs=())
    return {one.claim: one.verdict for one in code["verdicts_of"](sample, nets)}


AGREE = "supernets agree with each other more than with the ground truth"
COUNT, FOLLOW = (
    "the parameter count ranks better than weight sharing",
    "supernets follow model size more than ground truth",
)


def test_who_ranks_better_and_what_supernets_follow() -> None:
    good = consistency((1, 1), lambda truth, nets, rng: truth + 0.1 * rng.standard_normal(150))
    assert good == {AGREE: "does not hold", COUNT: "holds", FOLLOW: "inconclusive"}
    poor = consistency((1, 1), lambda truth, nets, rng: truth + 5 * rng.standard_normal(150))
    assert poor == {AGREE: "does not hold", COUNT: "does not hold", FOLLOW: "does not hold"}
    same = consistency((0.5, 0.5), lambda truth, nets, rng: nets.mean(0) + 0.4 * rng.standard_normal(150))
    assert same[COUNT] == "does not hold"  # neither is better, so the lead is below 0.05
    two = consistency((1, 1), lambda truth, nets, rng: truth + 5 * rng.standard_normal(150), supernets=2)
    assert (two[AGREE], two[COUNT]) == ("inconclusive", "does not hold")  # two seeds have one agreement
    alone = consistency((1, 1), lambda truth, nets, rng: truth + 5 * rng.standard_normal(150), supernets=1)
    assert set(alone.values()) == {"inconclusive"}


def test_mean_performances_are_judged_by_certain_steps_and_at_the_longest_budget() -> None:
    verdicts_of = runpy.run_path(str(STUDIES / "convergence.py"))["verdicts_of"]
    truth = PerSupernet(np.array([80.0]), np.full((1, 10), 80.0), 100, 99)

    def found(*means: float, supernets: int = 3, images: tuple[int, int] | None = None) -> list[str]:
        by_epochs = {2**i: about(mean, supernets=supernets) for i, mean in enumerate(means)}
        return [one.verdict for one in verdicts_of("nb201", by_epochs, truth, images)]

    assert found(60, 70, 69.95) == ["inconclusive", "does not hold"]  # -0.05 +- 0.045, or +- 0.057 of two steps
    assert found(70, 69.95) == ["does not hold", "does not hold"]
    assert found(60, 81) == ["holds", "holds"]
    assert found(60, 81, images=(2000, 10_000)) == ["holds", "inconclusive"]  # of 2,000 images: +- 1.5
    assert found(60, 81, images=(2000, 2000)) == ["holds", "holds"]
    assert found(60, 90, images=(2000, 10_000)) == ["holds", "holds"]
    assert found(60, 90, supernets=1) == ["inconclusive", "inconclusive"]


def density(supernets: int = 3, **gains: Any) -> list[str]:
    """Verdicts by gains at factors, e.g. f16=0.1."""
    points = [point(1, 0.5, supernets), *(point(int(name[1:]), 0.5, gain=gain) for name, gain in gains.items())]
    return [one.verdict for one in runpy.run_path(str(STUDIES / "density.py"))["verdicts_of"]("nb201", points)]


def test_a_lower_density_hardly_helps_at_any_factor_but_the_largest() -> None:
    assert density(f4=about(0.0, 0.01), f16=about(0.3, 0.01)) == ["holds", "holds"]  # the largest is another claim
    assert density(f16=about(0.3, 0.01), f64=about(0.0, 0.01)) == ["does not hold", "does not hold"]
    assert density(f4=about(0.0, 0.01), f8=about(0.3, 0.01)) == ["inconclusive"]  # below 16, the largest counts, too
    assert density(f4=about(0.02, 0.005)) == ["holds"]  # above 0, but hardly
    assert density(f4=about(0.3, 0.01)) == ["does not hold"]
    assert density(1, f4=about(0.0, supernets=1)) == ["inconclusive"]


@pytest.mark.parametrize(
    ("ends", "verdict"), [((0.96, 0.98), "holds"), ((0.85, 0.94), "does not hold"), ((0.8, 0.97), "inconclusive")]
)
def test_perplexities_rank_alike_from_0_95_on(ends: tuple[float, float], verdict: str) -> None:
    size = {"parameters": Interval(0.1, 0.05, 0.2, 100)}
    findings = SimpleNamespace(
        correlation_in_shipped=size, correlation_with_test=size, splits_agree=Interval(np.mean(ends), *ends, 100)
    )
    space = SimpleNamespace(name="darts_rnn", metric="perplexity")
    (found,) = runpy.run_path(str(STUDIES / "standalone.py"))["verdicts_of"](space, findings)
    assert (found.claim[:21], found.verdict) == ("validation perplexity", verdict)


def table3(*differences: tuple[str, float, float], noise: float | None = 0.1) -> str:
    """The verdict on tricks with such differences to the baseline, and how uncertain they are."""
    rows = [SimpleNamespace(label="baseline", change=None, gap=None, corr_baseline=0.9)]
    for label, value, half in differences:
        change = SimpleNamespace(
            difference=value,
            difference_low=value - half,
            difference_high=value + half,
            above_as_one_of_two=value - 1.2 * half > 0,
        )
        rows.append(SimpleNamespace(label=label, change=change, gap=None))
    table = SimpleNamespace(seed_noise=noise, rows=rows, at_equal_cost=None, sample=SimpleNamespace(name="nb201"))
    return str(runpy.run_path(str(STUDIES / "tricks.py"))["verdicts_of"](table)[0].verdict)


def test_a_trick_is_beneficial_if_one_of_the_two_is() -> None:
    fair, multi = "FairNAS", "multi-path (4)"
    assert table3((fair, 0.0, 0.04), (multi, 0.0, 0.04)) == "holds"
    assert table3((fair, 0.0, 0.04), (multi, 0.02, 0.04)) == "inconclusive"  # one may be better by 0.06
    assert table3((fair, 0.0, 0.04), (multi, 0.2, 0.04)) == "does not hold"
    assert table3((fair, 0.0, 0.04), (multi, 0.2, 0.18)) == "inconclusive"  # but for the correction
    assert table3((fair, 0.0, 0.04), (multi, 0.0, 0.04), ("100 epochs, not 50", 0.2, 0.04)) == "holds"  # no trick
    assert table3((fair, 0.0, 0.04), (multi, 0.0, 0.04), noise=None) == "inconclusive"


def test_a_gain_in_correlation_is_certain_for_one_or_for_one_of_two() -> None:
    """Welch's interval of two means of three supernets: +-0.045, or +-0.057 corrected for two tricks."""
    change_of = runpy.run_path(str(STUDIES / "tricks.py"))["change_of"]
    numbers = {"rank_agreement": lambda scores, test: about(float(scores[0]), supernets=len(scores))}
    numbers["top_k_advantage"] = lambda scores, valid, test, k: numbers["rank_agreement"](scores, test)
    change_of.__globals__.update(numbers)
    sample = SimpleNamespace(valid=None, test=None)

    def found(base: float, variant: float, supernets: int = 3) -> tuple[float, bool, bool]:
        change = change_of(sample, *(np.full(supernets, one) for one in (base, variant)))
        return round(change.difference, 9), change.beyond_seeds, change.above_as_one_of_two

    assert found(0.5, 0.54) == (0.04, False, False)
    assert found(0.5, 0.55) == (0.05, True, False)
    assert found(0.5, 0.56) == (0.06, True, True)
    assert found(0.56, 0.5) == (-0.06, True, False)
    assert found(0.5, 0.9, supernets=1) == (0.4, False, False)


def test_agreement_with_the_baseline_is_compared_without_noise_and_from_three_seeds_on() -> None:
    code, rng = runpy.run_path(str(STUDIES / "tricks.py")), numpy_rng(27)
    quality = rng.standard_normal(300)
    trainings = quality[:, None] + rng.standard_normal((300, 2))
    truth = SimpleNamespace(seeds=lambda archs: trainings)
    sample = SimpleNamespace(test=trainings.mean(1), valid=trainings.mean(1), truth=truth, archs=())

    def gap(supernets: int) -> Any:
        nets = [
            code["VariantScores"](label, tuple(range(supernets)), quality + 0.5 * rng.standard_normal((supernets, 300)))
            for label in ("baseline", "FairNAS")
        ]
        return code["row_of"](sample, *nets).gap

    assert gap(2) is None
    same = rng.standard_normal((3, 300))  # of both variants: seeds are told apart by them
    other = code["row_of"](sample, *(code["VariantScores"](name, (0, 1, 2), same) for name in ("baseline", "FairNAS")))
    assert abs(other.corr_baseline) < 0.2
    found = code["contrast"]((1, gap(3)))
    assert found.high < 0.05  # supernets that know quality agree with it more than with each other, whatever its noise


def judges_of(supernets: int = 3, **given: Any) -> tuple[Any, list[Any]]:
    """The study ``worth``, and its judges by kind: (correlation, cost) of each."""
    code = runpy.run_path(str(STUDIES / "worth.py"))
    found, scores = [], numpy_rng(28).standard_normal((supernets, 100))
    for name, many in given.items():
        kind = code[name]
        for mean, cost in many:
            size = 1 if name == "FREE" else supernets
            agreement = about(mean, supernets=size)
            interval = code["contrast"]((1, agreement))
            found.append(
                SimpleNamespace(
                    kind=kind,
                    label="parameters" if name == "FREE" else name,
                    cost=cost,
                    scores=scores[:size],
                    ranking=SimpleNamespace(agreement=agreement, correlation=mean),
                    interval=lambda interval=interval: interval,
                )
            )
    return code, found


def worth(supernets: int = 3, **given: Any) -> dict[str, str]:
    code, judges = judges_of(supernets, **given)
    sample = SimpleNamespace(name="nb201", test=np.arange(100.0))
    return {one.claim: one.verdict for one in code["verdicts_of"](sample, judges)}


EVERY, PREDICTS = (
    "a supernet ranks better than every zero-cost score",
    "a supernet ranks better than a predictor of its cost",
)
SHORTER, BOTH = (
    "a supernet ranks better than short trainings of its cost",
    "a supernet and the parameter count together rank better than the count",
)


@pytest.mark.parametrize(
    ("nets", "scores", "verdict"),
    [
        ((0.8,), (0.3, 0.5), "holds"),
        ((0.8,), (0.3, 0.85), "does not hold"),  # better than one of them only
        ((0.8,), (0.3, 0.8), "inconclusive"),  # 0 +- 0.045, or +- 0.065 of two scores and a random order
        ((0.8, 0.2), (0.3, 0.5), "does not hold"),  # the longest counts
        ((0.2, 0.8), (0.3, 0.5), "holds"),
        ((-0.3,), (-0.6, -0.5), "does not hold"),  # above all of them, below a random order
        ((0.03,), (-0.6, -0.5), "inconclusive"),
    ],
)
def test_a_supernet_must_be_above_every_score(nets: Any, scores: Any, verdict: str) -> None:
    given = {"UNIFORM": [(one, 20.0) for one in nets], "UNTRAINED": [(one, 0.1) for one in scores]}
    assert worth(**given) == {EVERY: verdict}
    assert worth(1, **given) == {EVERY: "inconclusive"}


def test_supernets_are_compared_with_the_dearest_that_they_could_pay_for() -> None:
    net = {"UNIFORM": [(0.5, 20.0)], "WITH_SIZE": [(0.8, 20.0)]}
    assert worth(**net, PREDICTOR=[(0.6, 17.0), (0.9, 20.0)]) == {PREDICTS: "does not hold"}
    assert worth(**net, PREDICTOR=[(0.9, 17.0), (0.6, 20.0)]) == {PREDICTS: "holds"}  # with the parameter count
    assert worth(**net, SHORT=[(0.6, 20.0)]) == {SHORTER: "does not hold"}  # which short trainings are without
    assert worth(**net, SHORT=[(0.3, 20.0)]) == {SHORTER: "holds"}
    assert worth(**net, SHORT=[(0.48, 20.0)]) == {SHORTER: "inconclusive"}  # +0.02 +- 0.045
    assert worth(**net, SHORT=[(0.5, 20.0)]) == {SHORTER: "does not hold"}  # 0 +- 0.045: hardly
    assert worth(1, **net, SHORT=[(0.3, 20.0)]) == {SHORTER: "inconclusive"}


def test_a_supernet_knows_more_than_the_count_only_beside_it() -> None:
    """The scores here are noise: given the count, they know nothing; the means of ranks are as they are given."""
    found = worth(5, UNIFORM=[(0.5, 20.0)], WITH_SIZE=[(0.8, 20.0)], FREE=[(0.7, 0.0)])
    assert found[BOTH] == "holds"
    equal = worth(5, UNIFORM=[(0.5, 20.0)], WITH_SIZE=[(0.7, 20.0)], FREE=[(0.7, 0.0)])
    assert equal[BOTH] == "does not hold"


def test_a_variant_is_opposed_only_if_that_is_certain_among_all() -> None:
    """One of two is below 0 by 0.055: -0.05 would do alone, not as one of two."""
    verdicts_of = runpy.run_path(str(STUDIES / "tricks.py"))["verdicts_of"]

    def found(*gaps: float) -> str:
        rows = [SimpleNamespace(label="baseline", change=None, gap=None, corr_baseline=0.9)]
        rows += [SimpleNamespace(label=str(i), change=None, gap=about(gap)) for i, gap in enumerate(gaps)]
        table = SimpleNamespace(seed_noise=0.1, rows=rows, at_equal_cost=None, sample=SimpleNamespace(name="nb201"))
        return str(verdicts_of(table)[1].verdict)

    assert found(0.5, -0.055) == "holds"  # +-0.050, or +-0.072 corrected for two
    assert found(0.5, -0.08) == "inconclusive"


def test_the_smallest_sample_counts_as_many_architectures() -> None:
    rng = numpy_rng(29)
    parts = [ranking(rng.standard_normal((1, n)), *rng.standard_normal((2, n)), K) for n in (40, 29, 35)]
    assert mean_ranking(parts).evaluated == 29


def chosen(decision: str = "edge", **given: Any) -> Any:
    """An effect of a choice about which nothing is certain but what is ``given``."""
    known = {
        "effect": 0.0,
        "low": -0.2,
        "high": 0.2,
        "p": 1.0,
        "preferred_by_supernet": 0.0,
        "better_when_trained": 0.0,
    }
    known |= {f"{name}_{end}": value for name in ("preferred", "better") for end, value in (("low", -1), ("high", 1))}
    known |= {"p_misleads": 1.0, "negligible": False, "harmless": False}
    effect = runpy.run_path(str(STUDIES / "operators.py"))["Effect"]
    return effect(**{"decision": decision, "choice": "skip", "architectures": 40, **known, **given})


def test_biases_are_judged_after_correction_and_excluded_for_every_choice() -> None:
    verdicts_of = runpy.run_path(str(STUDIES / "operators.py"))["verdicts_of"]

    def found(*effects: Any) -> list[str]:
        return [one.verdict for one in verdicts_of(SimpleNamespace(name="nb201"), effects, 3)]

    none, unclear = chosen(negligible=True, harmless=True), chosen(p=0.01, p_misleads=0.01)  # but for the correction
    biased, misleading = chosen(p_corrected=0.04, harmless=True), chosen(p_misleads_corrected=0.04)
    assert found(none, none) == ["does not hold", "does not hold"]
    assert found(none, unclear) == ["inconclusive", "inconclusive"]
    assert found(biased, none) == ["holds", "does not hold"]
    assert found(misleading, none) == ["inconclusive", "holds"]


def effect_of(n: int, test: Any, scores: Any, reliability: float = 1.0, **instead: Any) -> Any:
    """Of the choice that every second of n architectures made; ``instead``: of functions of the study."""
    effects = runpy.run_path(str(STUDIES / "operators.py"))["effects"]
    effects.__globals__.update({"PERMUTATIONS": 200, **instead})
    made = [{"edge": "yes" if i % 2 else "no"} for i in range(n)]
    return next(one for one in effects(test, made, scores, reliability) if one.choice == "yes")


def test_a_bias_is_what_neither_quality_nor_its_noise_explains() -> None:
    """By the slope on a ground truth without noise, 1 at most; supernets that rank the wrong way round know nothing."""
    rng, n = numpy_rng(30), 100
    quality = rng.standard_normal(n) + np.arange(n) % 2
    test, supernets = quality + 2 * rng.standard_normal(n), quality + 0.1 * rng.standard_normal((1, n))
    slope = stats.spearmanr(supernets[0], test).statistic
    assert 0.2 < slope < 0.8
    for reliability, expected in ((1.0, slope), (0.8, slope / 0.8), (0.1, 1.0)):
        found = effect_of(n, test, supernets, reliability)
        assert found.effect == pytest.approx(found.preferred_by_supernet - expected * found.better_when_trained)
    found = effect_of(n, test, -supernets)
    assert found.effect == pytest.approx(found.preferred_by_supernet)


def test_the_larger_of_two_p_counts() -> None:
    rng = numpy_rng(31)
    test = rng.standard_normal(60)
    supernets = test + 3 * (np.arange(60) % 2) + 0.1 * rng.standard_normal((3, 60))
    assert effect_of(60, test, supernets).p < 0.01
    assert effect_of(60, test, supernets, permuted=lambda values, groups: [0.5] * len(groups)).p == 0.5
    assert effect_of(60, test, supernets, chance_of=lambda term: 0.5).p == 0.5


def test_choices_are_corrected_and_moderated_together() -> None:
    """Ten choices of five decisions: both p by Holm over all of them, and each spread with those of the others."""
    code, rng, together = runpy.run_path(str(STUDIES / "operators.py")), numpy_rng(34), []
    moderated = code["moderated"]
    code["effects"].__globals__.update(
        {"PERMUTATIONS": 200, "moderated": lambda groups: together.append(len(groups)) or moderated(groups)}
    )
    made = [{f"edge {i}": str(one) for i, one in enumerate(row)} for row in rng.integers(2, size=(60, 5))]
    skips = np.array([[int(one) for one in row.values()] for row in made])
    test = rng.standard_normal(60) - skips[:, 0]
    found = code["effects"](test, made, test + 3 * skips[:, 0] + 0.5 * rng.standard_normal((3, 60)))
    assert together == [10] * 4
    for name in ("p", "p_misleads"):
        corrected = [getattr(one, f"{name}_corrected") for one in found]
        assert corrected == pytest.approx(code["holm"]([getattr(one, name) for one in found]))
        assert corrected != [getattr(one, name) for one in found]
    assert [one.p for one in found] != [one.p_misleads for one in found]


@pytest.mark.parametrize(
    ("effect", "preferred", "better", "apart", "negligible", "harmless"),
    [
        (0.04, 0.01, -0.5, 0.51, True, True),  # +-0.050; of three bounds +-0.088
        (0.06, 0.03, -0.5, 0.53, False, False),
        (-0.06, 0.5, -0.01, 0.51, False, True),
        (-0.04, 0.5, -0.03, 0.53, True, False),
        (0.0, 0.06, -0.05, 0.11, True, True),
        (0.0, 0.08, -0.07, 0.15, True, False),
    ],
)
def test_a_choice_is_harmless_if_one_of_three_bounds_is_certain(
    effect: float, preferred: float, better: float, apart: float, negligible: bool, harmless: bool
) -> None:
    given = iter([about(one) for one in (effect, preferred, better, apart) for _ in range(2)])  # of both choices
    test = numpy_rng(32).standard_normal(60)
    found = effect_of(60, test, np.stack([test] * 3), group_difference=lambda ranks, mine: next(given))
    assert (found.negligible, found.harmless) == (negligible, harmless)
    assert (found.effect, found.preferred_by_supernet) == (pytest.approx(effect), pytest.approx(preferred))


READ = ("inherited", "batch", "recalibrated, 8 images", "recalibrated, 64 images", "tuned for 1 steps, 64 images")


def test_each_way_to_score_is_compared_with_the_right_other() -> None:
    """At the recipe's 64 images, whatever fewer do; the loss against the accuracy."""
    code = runpy.run_path(str(STUDIES / "scoring.py"))
    protocols = [code["Protocol"](*of) for of in (["inherited"], ["batch"], *(["recalibrated", n] for n in (8, 64)))]
    protocols.append(code["Protocol"]("recalibrated", 64, 1))
    assert tuple(one.name for one in protocols) == READ

    def found(supernets: int = 3, **accuracies: float) -> list[str]:
        """By how the protocols' names begin; ``loss``: of all losses."""
        ways = []
        for i, protocol in enumerate(protocols):
            for reading in ("accuracy", "loss"):
                mean = accuracies.get(
                    "loss" if reading == "loss" else ("inherited", "batch", "few", "own", "tuned")[i], 0.5
                )
                each = about(mean, supernets=supernets)
                ranked = SimpleNamespace(agreement=each, correlation=mean, correlation_seeds=[*each.each])
                ways.append(SimpleNamespace(protocol=protocol, reading=reading, ranking=ranked))
        return [one.verdict for one in code["verdicts_of"](SimpleNamespace(name="nb201"), ways)]

    no, yes = "does not hold", "holds"
    assert found() == [no] * 4  # all alike: by less than 0.05
    assert found(inherited=0.3) == [yes, no, no, no]
    assert found(batch=0.3) == [no, yes, no, no]
    assert found(tuned=0.7) == [no, no, yes, no]
    assert found(loss=0.7) == [no, no, no, yes]
    assert found(own=0.7) == [yes, yes, no, no]
    assert found(few=0.7) == [no] * 4
    assert found(supernets=1, own=0.7) == ["inconclusive"] * 4


def test_of_a_loss_lower_is_better() -> None:
    code, rng = runpy.run_path(str(STUDIES / "scoring.py")), numpy_rng(33)
    truth = rng.standard_normal(40)
    accuracy = truth + 0.1 * rng.standard_normal((2, 1, 40))
    sample = SimpleNamespace(valid=truth, test=truth, archs=[None] * 40, recipe=None)
    protocol = SimpleNamespace(passes=lambda recipe, images: 1)
    found = code["ways_of"](sample, [protocol], np.stack([accuracy, 2 - accuracy], axis=-1), 8)
    assert [one.reading for one in found] == ["accuracy", "loss"]
    assert found[0].ranking.correlation == pytest.approx(found[1].ranking.correlation)
    assert found[0].ranking.correlation > 0.9


@pytest.mark.parametrize(
    ("space", "changed", "verdicts"),
    [
        ("nb101", {}, ["holds", "holds", "holds"]),
        ("nb101", {"counted": 95_984}, ["does not hold", "holds", "holds"]),
        ("nb101", {"classes": 42_227}, ["holds", "does not hold", "holds"]),
        ("nb101", {"parameters": [1.2e6, 13.6e6]}, ["holds", "holds", "does not hold"]),
        ("nb101", {"parameters": [0.4e6, 13.2e6]}, ["holds", "holds", "does not hold"]),
        ("nb201", {"counted": 15_284, "parameters": [0.073e6, 1.29e6]}, ["holds", "holds"]),
        ("nb201", {"counted": 15_284, "parameters": [0.073e6, 1.36e6]}, ["holds", "does not hold"]),
        ("proxyless", {"counted": None, "size": 2216 * 10**14}, ["holds"]),
        ("proxyless", {"counted": None, "size": 2226 * 10**14}, ["does not hold"]),
    ],
)
def test_spaces_are_compared_with_the_printed_digits(space: str, changed: dict[str, Any], verdicts: list[str]) -> None:
    code = runpy.run_path(str(STUDIES / "spaces.py"))
    known = {"size": 95_985, "counted": 95_985, "classes": 42_228, "functions": 0, "looked_at": 0, "dataset": "digits"}
    row = code["Summary"](space, **{**known, "parameters": [1.2e6, 13.2e6], "macs": [], **changed})
    assert [one.verdict for one in code["verdicts_of"](row)] == verdicts


def test_a_single_training_borrows_no_spread_from_supernets() -> None:
    """Student's interval against a constant; between two groups of three it is Welch's."""
    code = runpy.run_path(str(STUDIES / "worth.py"))

    def half(supernets: int) -> float:
        net, other = (
            SimpleNamespace(ranking=SimpleNamespace(agreement=one)) for one in (about(0.5), about(0.4, 0.02, supernets))
        )
        found = code["advantage"](net, other)
        return float(found.high - found.value)

    assert half(1) == pytest.approx(stats.t.ppf(0.975, 2) * 0.02 * (1 / 3) ** 0.5)
    assert half(3) == pytest.approx(stats.t.ppf(0.975, 4) * 0.02 * (2 / 3) ** 0.5)


def test_supernets_that_know_only_size_know_no_more_than_it() -> None:
    code, rng = runpy.run_path(str(STUDIES / "worth.py")), numpy_rng(35)
    size = np.arange(150.0)
    truth = size + 30 * rng.standard_normal(150)

    def found(scores: Any) -> str:
        judges = [
            code["Judge"](code[kind], "parameters", None, 1.0, None, of, ranking(of, truth, truth, K))
            for kind, of in (("UNIFORM", scores), ("WITH_SIZE", scores), ("FREE", size[None]))
        ]
        knows, _ = code["verdicts_of"](SimpleNamespace(name="nb201", test=truth), judges)
        assert knows.claim == "weight sharing knows more than the parameter count"
        return str(knows.verdict)

    noise = 30 * rng.standard_normal((3, 150))
    assert found(size + noise) != "holds"
    assert found(truth + noise) == "holds"


def test_verdicts_need_a_minimum_of_architectures() -> None:
    verdict = Verdict("c", "s", "nb201", "r", "m", "holds")
    (many,), (few,) = (enough([verdict], n) for n in (FEWEST, FEWEST - 1))
    assert (many.verdict, many.measured) == ("holds", "m")
    assert (few.verdict, few.measured) == ("inconclusive", "m; too few architectures")
    assert many.rule == few.rule == "r; inconclusive from fewer than 30 architectures"


def test_two_readings_of_the_same_supernets_are_compared_pair_by_pair() -> None:
    """Five supernets differ widely, but each ranks a little worse by one reading, as a paired t-test sees."""
    noise, truth = numpy_rng(8), np.arange(2000.0)
    strengths = np.array([0.5, 0.7, 1.0, 1.3, 1.6])[:, None]
    better = strengths * stats.zscore(truth) + noise.standard_normal((5, 2000))
    worse = better + 0.4 * noise.standard_normal((5, 2000))
    good, poor = (ranking(scores, truth, truth, K) for scores in (better, worse))
    assert stats.ttest_rel(good.correlation_seeds, poor.correlation_seeds).pvalue < 0.05
    assert stats.ttest_ind(good.correlation_seeds, poor.correlation_seeds).pvalue > 0.5

    code = runpy.run_path(str(STUDIES / "scoring.py"))
    protocols = [
        code["Protocol"](*what) for what in (["inherited"], ["batch"], ["recalibrated", 8], ["recalibrated", 8, 1])
    ]
    rankings = {"batch": poor, "recalibrated, 8 images": good, "tuned for 1 steps, 8 images": good}
    ways = [
        code["Way"](protocol, reading, 0, 0.0, rankings.get(protocol.name, poor))
        for protocol in protocols
        for reading in ("accuracy", "loss")
    ]
    _, own_statistics, tuned, _ = code["verdicts_of"](SimpleNamespace(name="nb201"), ways)
    assert own_statistics.verdict == "holds"
    assert (tuned.verdict, tuned.numbers["difference"]) == ("does not hold", 0)  # the very same scores


def test_results_have_the_interval_that_is_drawn() -> None:
    """Also of predictors, which were fitted on draws from one pool."""
    noise, truth = numpy_rng(14), np.arange(200.0)
    ranked_scores = truth + 60 * noise.standard_normal((5, 200))
    ranked = ranking(ranked_scores, truth, truth, K)
    pooled = ranking(ranked_scores, truth, truth, K, common=3.0)
    judge = runpy.run_path(str(STUDIES / "worth.py"))["Judge"]
    alone, together = (judge("predictor", "20 trained", 20, 20.0, None, truth[None], one) for one in (ranked, pooled))
    for one in (alone, together):
        found = one.interval()
        known = one.known()
        assert (known["correlation"], known["correlation_low"], known["correlation_high"]) == (
            found.value,
            found.low,
            found.high,
        )
    assert together.known()["correlation_low"] < alone.known()["correlation_low"]
    wider, usual = (one.ranking.measures.intervals() for one in (together, alone))
    for name, found in wider.items():
        assert (found.value, found.high >= usual[name].high, found.low <= usual[name].low) == (
            usual[name].value,
            True,
            True,
        )
    assert wider["kendall"].low < usual["kendall"].low
    assert pooled.advantage_low < ranked.advantage_low


@pytest.mark.parametrize("lowest", [0.0, 50.0, -3.0, -1e17])
def test_a_score_that_is_not_finite_ranks_last(lowest: float) -> None:
    """Also beside scores so large that 1 less is the same number."""
    scores = finite(np.array([lowest, np.inf, lowest + abs(lowest) + 1, np.nan]))
    assert np.argsort(-scores, kind="stable")[:2].tolist() == [2, 0]
    assert scores[1] == scores[3] < lowest


def test_a_single_supernet_shows_no_bias_of_supernets() -> None:
    code = runpy.run_path(str(STUDIES / "operators.py"))
    numbers = (0.4, 0.3, 0.5, 0.0, 0.4, 0.3, 0.5, -0.1, -0.2, -0.05, 0.0)
    effect = code["Effect"]("edge 0-1", "skip", 40, *numbers, False, False, 0.0, 0.0)
    verdicts = [code["verdicts_of"](SimpleNamespace(name="nb201"), [effect], supernets) for supernets in (1, 2)]
    assert [[one.verdict for one in found] for found in verdicts] == [["inconclusive"] * 2, ["holds"] * 2]
    unsure = dataclasses.replace(effect, p_misleads_corrected=0.06)  # biased, but which of the two it is is not certain
    found = code["verdicts_of"](SimpleNamespace(name="nb201"), [unsure], 2)
    assert [one.verdict for one in found] == ["holds", "inconclusive"]


def test_many_architectures_exclude_a_bias_and_a_misleading_choice() -> None:
    """Supernets rank as trainings do, one choice is better: 1,500 architectures show it, 60 do not."""
    code, noise = runpy.run_path(str(STUDIES / "operators.py")), numpy_rng(12)

    def found(n: int, favour: float = 0.0) -> list[str]:
        made = [
            {f"edge {i}": "skip" if has else "none" for i, has in enumerate(one)} for one in noise.random((n, 3)) < 0.5
        ]
        skips = np.array([one["edge 0"] == "skip" for one in made])
        truth = noise.standard_normal(n) + skips
        scores = np.array([truth + noise.standard_normal(n) + favour * skips for _ in range(3)])
        effects = code["effects"](truth, made, scores)
        return [one.verdict for one in code["verdicts_of"](SimpleNamespace(name="nb201"), effects, 3)]

    assert found(1500) == ["does not hold", "does not hold"]
    assert found(60) == ["inconclusive", "inconclusive"]
    assert found(1500, favour=1.0) == ["holds", "does not hold"]  # ranked too high, but it is better


def test_holms_correction_by_hand() -> None:
    holm = runpy.run_path(str(STUDIES / "operators.py"))["holm"]
    assert holm([0.03, 0.01, 0.04, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert holm([0.5, 0.5]) == [1, 1]


def test_among_many_choices_one_that_trains_worse_by_chance_misleads_nobody() -> None:
    """Supernets prefer all twenty, and training tells none of them from the others: one in forty seems worse."""
    effects, noise = runpy.run_path(str(STUDIES / "operators.py"))["effects"], numpy_rng(11)
    made = [
        {f"edge {i}": "skip" if has else "none" for i, has in enumerate(one)} for one in noise.random((300, 20)) < 0.5
    ]
    skips = np.array([[choice == "skip" for choice in one.values()] for one in made])
    truth = noise.standard_normal(300)
    scores = np.array([skips.sum(1) + 0.5 * noise.standard_normal(300) for _ in range(3)])
    found = effects(truth, made, scores)
    assert any(one.preferred_low > 0 > one.better_high for one in found)
    assert not any(one.misleads for one in found)


def test_a_bias_that_supernets_do_not_share_is_none() -> None:
    """Three supernets favour a choice by 0.45, 0.25 and 0.02 of the ranks: on average certain for these three only."""
    effects, noise = runpy.run_path(str(STUDIES / "operators.py"))["effects"], numpy_rng(9)
    made = [{"edge": "skip" if i % 2 else "none"} for i in range(200)]
    truth, skips = noise.standard_normal(200), np.arange(200) % 2

    def found(*favours: float) -> Any:
        scores = np.array([truth + 0.3 * noise.standard_normal(200) + favour * skips for favour in favours])
        return effects(truth, made, scores)[0]

    alike, unlike = found(0.8, 0.8, 0.8), found(2.0, 0.8, 0.0)
    assert abs(unlike.effect) == pytest.approx(abs(alike.effect), abs=0.01)
    assert (alike.p_corrected < 0.001, unlike.p_corrected > 0.05) == (True, True)
    assert abs(alike.low - alike.high) < abs(unlike.low - unlike.high)


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("capacity", "pruning to the best lowers the correlation"),
        ("density", "a random sub-space at the largest factor ranks better than the whole"),
    ],
)
def test_factors_that_leave_too_few_architectures_do_not_spoil_a_verdict(name: str, claim: str) -> None:
    """It is about the factors that leave enough; if only 1x does, it is inconclusive."""
    space = "nb201" if name == "density" else SimpleNamespace(name="nb201", space=load_space("nb201"))
    verdicts_of, noise = runpy.run_path(str(STUDIES / f"{name}.py"))["verdicts_of"], numpy_rng(7)

    def found(**left: int) -> Verdict:
        points = []
        for factor, (size, strength) in enumerate(zip(left.values(), (1.0, -1.0, 1.0), strict=False)):
            truth = np.arange(float(size))
            ranked, whole = (
                ranking(one * truth + 0.2 * size * noise.standard_normal((5, size)), truth, truth, min(K, size))
                for one in (strength, 1.0)
            )
            gain = ranked.agreement - whole.agreement if factor else None
            points.append(Point(16**factor, "", ranked, None, gain=gain))
        (verdict,) = [one for one in verdicts_of(space, judged(points)) if one.claim == claim]
        return verdict

    expected = "holds" if name == "capacity" else "does not hold"
    assert (found(a=80, b=FEWEST, c=12).verdict, found(a=80, b=FEWEST, c=12).numbers["factor"]) == (expected, 16)
    assert found(a=80, b=FEWEST, c=FEWEST).numbers["factor"] == 256
    few = found(a=80, b=FEWEST - 1, c=12)
    assert (few.verdict, few.numbers["factor"]) == ("inconclusive", 256)
    assert few.measured.endswith("too few architectures")


def test_standalone_judges_by_the_whole_ground_truth_where_it_ships() -> None:
    """Six trainings say nothing on a claim that hundreds of shipped ones of the same recipe decide."""
    code = runpy.run_path(str(STUDIES / "standalone.py"))
    space = load_space("nb201")
    shipped = load_ground_truth(space)
    six = shipped.select(shipped.archs[:6])
    found = code["findings_of"](six, shipped, space, "digits")
    (verdict,) = code["verdicts_of"](space, found)
    tests = shipped.mean("digits", "test")
    known = np.isfinite(tests) & np.isfinite(shipped.mean("digits", "valid"))
    assert shipped.parameters is not None
    expected = stats.spearmanr(shipped.parameters[known], tests[known]).statistic
    assert verdict.numbers["correlation"] == pytest.approx(expected, abs=1e-9)
    assert verdict.numbers["architectures"] == known.sum() >= 700
    assert verdict.verdict == "holds"
    (alone,) = code["verdicts_of"](space, code["findings_of"](six, None, space, "digits"))
    assert alone.verdict == "inconclusive"


@pytest.mark.parametrize(("cost", "asked"), [(8.0, False), (16.8, True), (21.0, True), (21.5, False)])
def test_what_costs_much_less_is_no_comparison(cost: float, asked: bool) -> None:
    noise, truth = numpy_rng(16), np.arange(60.0)
    code = runpy.run_path(str(STUDIES / "worth.py"))
    kinds = {code["UNIFORM"]: (3, 21.0), code["SHORT"]: (2, cost)}
    judges = []
    for kind, (count, price) in kinds.items():
        scores = truth + 20 * noise.standard_normal((count, 60))
        judges.append(code["Judge"](kind, kind, None, price, None, scores, ranking(scores, truth, truth, K)))
    claims = [one.claim for one in code["verdicts_of"](SimpleNamespace(name="nb201", test=truth), judges)]
    assert claims == ["a supernet ranks better than short trainings of its cost"] * asked


def test_worth_exchange_rates() -> None:
    """Between two settings: by a straight line over the logarithm."""
    equal = runpy.run_path(str(STUDIES / "worth.py"))["equal_setting"]
    judges = [
        SimpleNamespace(setting=setting, ranking=SimpleNamespace(correlation=reached))
        for setting, reached in ((10, 0.2), (40, 0.6), (50, 0.5), (100, 0.7))
    ]
    epochs = [SimpleNamespace(setting=n, ranking=SimpleNamespace(correlation=n / 10)) for n in (1, 2)]
    assert equal(epochs, 0.15) == "1.4"
    assert equal(judges, 0.1) == "at most 10"
    assert equal(judges, 0.4) == "20"
    assert equal(judges, 0.6) == "40"
    assert equal(judges, 0.65) == "84"  # 50 * 2^(0.15 / 0.2)
    assert equal(judges, 0.71) == "more than 100"


@pytest.mark.parametrize(
    ("means", "verdict"),
    [((10, 40, 60, 70), "holds"), ((10, 40, 41, 70), "inconclusive"), ((10, 60, 40, 70), "does not hold")],
)
def test_a_mean_rises_throughout_if_every_step_does(means: Sequence[float], verdict: str) -> None:
    """Three supernets a budget, whose means spread by 2."""
    code, noise = runpy.run_path(str(STUDIES / "convergence.py")), numpy_rng(12)
    found = {2**i: mean + np.array([[-2], [0], [2]]) + noise.random((3, 50)) for i, mean in enumerate(means)}
    by_epochs = {epochs: code["mean_score"](scores) for epochs, scores in found.items()}
    throughout, _ = code["verdicts_of"]("nb201", by_epochs, code["mean_score"](np.zeros(50)))
    assert throughout.verdict == verdict


def test_supernets_that_have_hardly_trained_do_not_decide_whether_supernets_agree() -> None:
    code, noise = runpy.run_path(str(STUDIES / "consistency.py")), numpy_rng(13)
    truth, shared = noise.standard_normal((2, 100))
    longest = np.array([[truth + 2 * shared + 0.5 * noise.standard_normal(100) for _ in range(3)] for _ in range(2)])
    short = noise.standard_normal((5, 3, 100))
    once = SimpleNamespace(seeds=lambda archs: truth[:, None])  # of one training each no noise is known
    sample = SimpleNamespace(name="nb201", test=truth, parameters=np.ones(100), truth=once, archs=())
    (alone,), (among,) = (code["verdicts_of"](sample, one) for one in (longest, np.concatenate([short, longest])))
    assert alone.verdict == among.verdict == "holds"
    assert alone.numbers == among.numbers


def test_noise_of_the_ground_truth_is_no_disagreement_with_it() -> None:
    """Supernets score quality with noise of their own, size is nothing but a good guess at quality."""
    code, noise = runpy.run_path(str(STUDIES / "consistency.py")), numpy_rng(17)
    quality, n = noise.standard_normal(500), 500
    seeds = quality[:, None] + 1.2 * noise.standard_normal((n, 2))
    supernets = quality + 0.4 * noise.standard_normal((2, 3, n))
    size = quality + 0.5 * noise.standard_normal(n)

    def found(trainings: Any) -> list[str]:
        truth = SimpleNamespace(seeds=lambda archs: trainings)
        sample = SimpleNamespace(name="nb201", test=seeds.mean(1), parameters=size, truth=truth, archs=())
        return [one.verdict for one in code["verdicts_of"](sample, supernets) if "ranks better" not in one.claim]

    assert found(seeds[:, :1]) == ["holds", "holds"]  # as if the ground truth had no noise
    assert "holds" not in found(seeds)


def test_the_answer_names_the_spaces() -> None:
    answer = Answer("it helps", "It helps", "It hurts")

    def said(*verdicts: str) -> str:
        found = [Verdict("it helps", "", f"space{i}", "", "", verdict) for i, verdict in enumerate(verdicts)]
        return answer.sentence("Does it help?", [*found, Verdict("another", "", "space0", "", "", "holds")])

    assert said("holds", "holds", "holds") == "It helps on space0, space1 and space2."
    assert said("does not hold", "inconclusive") == "It hurts on space0; undecided on space1."
    assert (
        said("inconclusive", "holds", "does not hold") == "It helps on space1; it hurts on space2; undecided on space0."
    )
    assert said("inconclusive", "inconclusive") == "Does it help? Undecided on space0 and space1."
    assert said() == "Does it help?"


def test_top_10_is_asked_only_where_the_correlation_is_above_0_4() -> None:
    """The paper claims an advantage where supernets rank well; elsewhere there is no verdict, not an open one."""
    code, truth, noise = runpy.run_path(str(STUDIES / "epochs.py")), np.arange(200.0), numpy_rng(5)
    sample = SimpleNamespace(valid=truth, test=truth, parameters=truth)

    def asked(strength: float, supernets: int = 3) -> list[tuple[float, str]]:
        scores = strength * truth + 10 * noise.standard_normal((supernets, 200))
        point = code["point_of"](sample, 4, scores, None)
        found = [one for one in code["verdicts_of"]("nb201", [point]) if one.claim.startswith("where the correlation")]
        return [(point.ranking.correlation_low, one.verdict) for one in found]

    ((low, said),) = asked(1.0)
    assert (low > 0.4, said) == (True, "holds")
    assert [said for _, said in asked(1.0, supernets=1)] == ["inconclusive"]
    assert asked(0.0) == asked(-1.0) == []
    assert asked(0.07) == []  # about 0.4: its interval begins below


def test_the_answer_says_what_is_certain_where_the_claim_is_undecided() -> None:
    """Budgets that rank at random, well, and better by nothing: the longest surpasses only the first."""
    points_of, partly = (runpy.run_path(str(STUDIES / "epochs.py"))[name] for name in ("point_of", "partly"))
    truth, noise = np.arange(80.0), numpy_rng(5)
    sample = SimpleNamespace(valid=truth, test=truth, parameters=truth)

    def points(*strengths: float, supernets: int = 3, archs: int = 80) -> list[Any]:
        sample.valid = sample.test = sample.parameters = truth[:archs]
        scores = [truth[:archs] * one + 10 * noise.standard_normal((supernets, archs)) for one in strengths]
        return [points_of(sample, 2**i, one, None) for i, one in enumerate(scores)]

    assert partly(points(0.0, 1.0, 1.0)) == "The longest training ranks better than those of less than 2 epochs"
    assert partly(points(0.0, 0.0, 1.0)) == "The longest training ranks better than those of less than 4 epochs"
    assert partly(points(1.0, 0.0, 1.0)) is None
    assert partly(points(0.0, 1.0, 1.0, supernets=1)) is None
    assert partly(points(0.0, 1.0, 1.0, archs=FEWEST - 1)) is None
    answer = Answer("it helps", "It helps", "It hurts", {"a": "It helps a little", "b": "It helps a bit"})
    verdicts = [
        Verdict("it helps", "", space, "", "", said)
        for space, said in (("a", "inconclusive"), ("b", "holds"), ("c", "inconclusive"))
    ]
    assert answer.sentence("?", verdicts) == "It helps on b; it helps a little on a; undecided on c."


def test_capacity_says_to_what_factor_the_fall_is_certain() -> None:
    """The largest factor at which supernets rank worse for certain, of those that leave enough architectures."""
    partly, noise = runpy.run_path(str(STUDIES / "capacity.py"))["partly"], numpy_rng(6)

    def said(*strengths: float, size: int = 80, supernets: int = 3, last: int = 80, reporting: int = 1) -> str | None:
        points = []
        for factor, strength in enumerate(strengths):
            truth = np.arange(float(last if factor == len(strengths) - 1 else size))
            scores = strength * truth + 10 * noise.standard_normal((supernets, len(truth)))
            seeds = reporting if factor else 1
            points.append(Point(2**factor, "", ranking(scores, truth, truth, K), None, reporting_seeds=seeds))
        return partly(judged(points))

    assert said(1.0, 0.0, 1.0) == "Pruning to the best half lowers the correlation"
    assert said(1.0, 0.0, 0.0) == "Pruning to the best 1/4 lowers the correlation"
    assert said(1.0, 0.0, 0.0, last=FEWEST - 1) == "Pruning to the best half lowers the correlation"
    assert said(1.0, 1.0, 1.0) is None
    assert said(0.0, 1.0, 1.0) is None
    assert said(1.0, 0.0, 0.0, supernets=1) is None
    assert said(1.0, 0.0, 0.0, reporting=0) is None  # those that choose also report
    assert said(1.0, 0.0, 0.0, size=FEWEST - 1, last=FEWEST - 1) is None


def test_only_accuracies_on_other_images_are_less_certain() -> None:
    """By hand: at 90 % of 2,000 of 10,000 images the standard error is 0.6 points, which adds to +-0.5 so."""
    code = runpy.run_path(str(STUDIES / "convergence.py"))
    found = code["on_other_images"](Interval(1.0, 0.5, 1.5, 60), 90.0, 2000, 10_000)
    assert found.value == 1
    assert found.high - 1 == pytest.approx(np.hypot(0.5, 1.959964 * 0.6))
    assert found.high - 1 == pytest.approx(1 - found.low)
    assert code["on_other_images"](Interval(1.0, 0.5, 1.5, 60), 90.0, 4000, 4000) == Interval(1.0, 0.5, 1.5, 60)


def test_a_part_of_the_images_is_easier_than_all_by_so_much() -> None:
    """Simulated: the mean of the first 500 of 2,000 images beside that of all."""
    right = numpy_rng(3).random((4000, 2000)) < 0.9
    gap = 100 * (right[:, :500].mean(1) - right.mean(1))
    found = runpy.run_path(str(STUDIES / "convergence.py"))["on_other_images"](Interval(0, 0, 0, 60), 90.0, 500, 2000)
    assert found.high == pytest.approx(1.96 * gap.std(), rel=0.05)


def test_validation_ranks_as_test_only_beyond_what_a_training_has_in_common() -> None:
    """Both results of a training share its luck: here most of what they rank by, and still nothing is in common."""
    splits_agree, rng = runpy.run_path(str(STUDIES / "standalone.py"))["splits_agree"], numpy_rng(20)

    def table(valid: Floats, test: Floats) -> Table:
        """Of three seeds of each split's own quality, with luck that both splits share."""
        columns = {}
        for seed in range(3):
            luck = rng.standard_normal(300)
            for split, quality in (("valid", valid), ("test", test)):
                columns[Column("digits", split, 2, seed)] = quality + luck + 0.3 * rng.standard_normal(300)
        return Table("nb201", tuple(map(str, range(300))), columns)

    one, other = rng.standard_normal((2, 300))
    alike, unlike = splits_agree(table(one, one), "digits"), splits_agree(table(one, other), "digits")
    assert 0.8 < alike.low < 1 < alike.high
    assert abs(unlike.value) < 0.2
    (single,) = (table(one, one) for _ in range(1))
    first = {column: values for column, values in single.columns.items() if column.seed == 0}
    assert splits_agree(dataclasses.replace(single, columns=first), "digits") is None


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [((0.2, 0.2, 0.02), "holds"), ((0.2, 0.2, -0.3), "inconclusive"), ((-0.2, -0.2, -0.2), "does not hold")],
)
def test_ways_to_train_are_judged_together(gaps: tuple[float, ...], verdict: str) -> None:
    """One variant may be uncertain, but none certainly opposed."""
    code, rng = runpy.run_path(str(STUDIES / "tricks.py")), numpy_rng(21)

    def row(label: str, gap: float | None) -> Any:
        each = None if gap is None else gap + 0.01 * rng.standard_normal(5)
        drawn = None if each is None else each[:, None] + 0.03 * rng.standard_normal((5, 2000)).mean(0)
        found = None if each is None else PerSupernet(each, drawn, 100, 99)
        return SimpleNamespace(label=label, change=None, gap=found, corr_baseline=0.9)

    rows = [row("baseline", None), *(row(f"variant {i}", gap) for i, gap in enumerate(gaps))]
    table = SimpleNamespace(seed_noise=0.1, rows=rows, at_equal_cost=None, sample=SimpleNamespace(name="nb201"))
    _, ways = code["verdicts_of"](table)
    assert (ways.verdict, ways.numbers["mean"]) == (verdict, pytest.approx(np.mean(gaps), abs=0.02))


def test_no_choice_is_harmful_however_many_there_are() -> None:
    """Each of many choices shows for itself that it is not: corrected for their number, three would be suspects."""
    code, rng = runpy.run_path(str(STUDIES / "operators.py")), numpy_rng(22)
    truth = rng.standard_normal(200)
    made = [{f"edge {i}": str(one) for i, one in enumerate(row)} for row in rng.integers(2, size=(200, 20))]
    found = code["effects"](truth, made, truth + 0.5 * rng.standard_normal((3, 200)))
    assert len(found) == 40
    assert all(one.harmless for one in found)


def test_a_random_order_is_a_zero_cost_score() -> None:
    """Supernets that rank the wrong way round are worse than chance, however bad all scores are."""
    code, rng = runpy.run_path(str(STUDIES / "worth.py")), numpy_rng(23)
    truth = np.arange(100.0)

    def judge(kind: str, scores: Floats) -> Any:
        return code["Judge"](kind, kind, None, 1.0, None, scores, ranking(scores, truth, truth, K))

    wrong = rng.standard_normal((3, 100)) * 30 - truth
    judges = [judge(code["UNIFORM"], wrong), judge(code["UNTRAINED"], -truth[None] + rng.standard_normal((3, 100)))]
    (found,) = code["verdicts_of"](SimpleNamespace(name="nb201", test=truth), judges)
    assert (found.claim, found.verdict) == ("a supernet ranks better than every zero-cost score", "does not hold")
    costs = SimpleNamespace(scoring=lambda recipe: 0.5)
    sample = SimpleNamespace(recipe=None, truth=SimpleNamespace(epochs=10))
    learning = dataclasses.replace(judge(code["PREDICTOR"], truth[None]), setting=10.0)
    exchanged = code["exchange"](sample, costs, [*judges, learning])
    assert exchanged["rates"] == {}
    assert exchanged["sentence"].endswith("worse than a random order")
