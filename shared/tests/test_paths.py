"""What a training step samples."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from toy_space import ALL, OPS, TOY, Arch, splits

from wsnas.errors import WsnasError
from wsnas.paths import fair, multi_path, name_of, parse, taken, uniform
from wsnas.runs import Run
from wsnas.space import SubSpace
from wsnas.supernet import train_supernet


def chi_square(drawn: Sequence[Any], possible: Sequence[Any]) -> float:
    counts = Counter(drawn)
    assert set(counts) <= set(possible)
    return float(stats.chisquare([counts[one] for one in possible]).pvalue)


def test_uniform_is_uniform_over_the_space_and_inside_a_sub_space() -> None:
    rng = np.random.default_rng(0)
    steps = [uniform(TOY, rng) for _ in range(4000)]
    assert all(len(step) == 1 and step[0][1] == 1.0 for step in steps)
    assert chi_square([step[0][0] for step in steps], ALL) > 1e-3
    part = SubSpace(TOY, ALL[3:10])
    assert chi_square([uniform(part, rng)[0][0] for _ in range(2000)], ALL[3:10]) > 1e-3


def test_fair_takes_each_choice_once_with_full_weight_and_draws_anew() -> None:
    rng = np.random.default_rng(1)
    steps = [fair(TOY, rng) for _ in range(600)]
    for step in steps:
        assert [weight for _, weight in step] == [1.0] * len(OPS)
        for layer in range(3):
            assert sorted(arch.ops[layer] for arch, _ in step) == list(range(len(OPS)))
    assert chi_square([step[0][0] for step in steps], ALL) > 1e-3


def test_fair_is_refused_inside_a_sub_space(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match="uniform"):
        fair(SubSpace(TOY, ALL[:5]), np.random.default_rng(0))
    with pytest.raises(WsnasError, match="uniform"):
        train_supernet(TOY, paths=fair, candidates=ALL[:5], out=tmp_path / "run", splits=splits())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_multi_path_weights_sum_to_one_and_its_paths_are_independent(count: int) -> None:
    rng = np.random.default_rng(2)
    steps = [multi_path(count)(TOY, rng) for _ in range(1500)]
    assert all(len(step) == count for step in steps)
    assert all(sum(weight for _, weight in step) == pytest.approx(1) for step in steps)
    assert len({weight for step in steps for _, weight in step}) == 1
    for position in (0, count - 1):
        assert chi_square([step[position][0] for step in steps], ALL) > 1e-3
    if count > 1:  # independent: two paths of a step are equal once in 27
        equal = sum(step[0][0] == step[1][0] for step in steps)
        assert stats.binomtest(equal, 1500, 1 / 27).pvalue > 1e-3


def test_parse() -> None:
    assert parse("uniform") is uniform
    assert parse("fair") is fair
    assert len(parse("multi:4")(TOY, np.random.default_rng(0))) == 4
    for text in ("uniform", "fair", "multi:12"):
        assert name_of(parse(text)) == name_of(parse(text.upper())) == text


@pytest.mark.parametrize(
    "text", ["", "unifrom", "multi", "multi:", "multi:0", "multi:-1", "multi:2.5", "multi:x", "fair:2", "multi:²"]
)
def test_parse_says_what_is_allowed(text: str) -> None:
    with pytest.raises(WsnasError):
        parse(text)


def test_a_sampler_of_ones_own_trains_a_supernet_and_is_named_in_its_identity(tmp_path: Path) -> None:
    asked: list[Arch] = []

    def only_convolutions(space: Any, rng: np.random.Generator) -> list[tuple[Arch, float]]:
        arch = Arch(tuple(int(op) for op in rng.integers(0, 2, 3)))
        asked.append(arch)
        return [(arch, 1.0)]

    supernet = train_supernet(TOY, paths=only_convolutions, out=tmp_path / "run", splits=splits())
    assert Run.read(tmp_path / "run").identity["paths"] == name_of(only_convolutions)
    assert supernet.step == 3 * 6
    assert asked[0] == asked[1]  # the first step's, drawn once more before the run is begun
    assert len(asked) == 1 + supernet.step + 2
    assert asked[-3] == asked[-2] == asked[-1]  # the last step's, twice more: a loss is judged by its paths' weights
    assert not any(2 in arch.ops for arch in asked)
    for layer in supernet.model.layers:  # never trained: still as batch norm begins
        assert (layer["pool"][2].weight == 1).all()
        assert (layer["conv1"][2].weight != 1).any()


class Several:
    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, space: Any, rng: np.random.Generator) -> list[tuple[Arch, float]]:
        return [(space.sample(rng), 1 / self.count)] * self.count


def test_a_sampler_has_a_name_of_its_own() -> None:
    """Two of one name would share their runs: an object's class is none, nor is that of a sampler that is built in."""

    def fair(space: Any, rng: np.random.Generator) -> list[tuple[Arch, float]]:
        return [(ALL[0], 1.0)]

    for sampler in (Several(2), functools.partial(multi_path, 2), lambda space, rng: [(ALL[0], 1.0)]):
        with pytest.raises(WsnasError, match="a path sampler needs a name for the run's identity"):
            name_of(sampler)  # type: ignore[arg-type]
    with pytest.raises(WsnasError, match="a path sampler named 'fair' is built in"):
        name_of(fair)
    named = Several(2)
    named.__name__ = "twice"  # type: ignore[attr-defined]
    assert name_of(named) == "twice"


def test_a_sampler_that_was_changed_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook's cell that is run again: its runs are its own, and those of the cell before are kept."""
    monkeypatch.chdir(tmp_path)
    written = "def mine(space, rng):\n    return [(space.sample(rng), WEIGHT)]"

    def sampler(weight: str, comment: str = "") -> Any:
        cell: dict[str, Any] = {}
        exec(written.replace("WEIGHT", weight) + comment, cell)
        return cell["mine"]

    first, changed = (train_supernet(TOY, paths=sampler(weight), splits=splits()) for weight in ("1.0", "0.5"))
    assert first.run.path != changed.run.path
    assert first.weights != changed.weights
    again = train_supernet(TOY, paths=sampler("1.0", "  # as before"), splits=splits())
    assert (again.run.path, again.weights) == (first.run.path, first.weights)

    def weighted(weight: float) -> Any:
        def mine(space: Any, rng: np.random.Generator) -> list[tuple[Arch, float]]:
            return [(space.sample(rng), weight)]

        return mine

    assert name_of(weighted(1.0)) == name_of(weighted(1.0)) != name_of(weighted(0.5))
    in_a_set = (
        "def f(x):\n    return x in {'a', 'b', 'c'}\nfrom wsnas.words import own_name\nprint(own_name(f, (), ''))"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", in_a_set], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(names) == 1
    assert names.pop().startswith("f ")


def test_a_sampler_of_ones_own_finds_in_a_sub_space_what_the_space_has(tmp_path: Path) -> None:
    part = ALL[3:10]

    def fewest_pools(space: Any, rng: np.random.Generator) -> list[tuple[Arch, float]]:
        paths = [space.sample(rng) for _ in range(4)]
        return [(min(paths, key=lambda path: list(space.decisions(path).values()).count("pool")), 1.0)]

    supernet = train_supernet(TOY, paths=fewest_pools, candidates=part, out=tmp_path / "run", splits=splits())
    assert supernet.step == 3 * 6
    space = copy.deepcopy(SubSpace(TOY, part))
    assert (space.name, space.size, list(space)) == ("toy", 7, list(part))
    assert not hasattr(space, "no_such_thing")
    assert pickle.loads(pickle.dumps(space)).encode(ALL[3]) == TOY.encode(ALL[3])


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        ([], r"\[\]"),
        (None, "None"),
        (ALL[0], r"Arch\(ops="),
        ((ALL[0], 1.0), r"\(Arch"),
        ([ALL[0]], r"\[Arch"),
        ([(ALL[0], 1.0), (ALL[1], float("nan"))], r"nan"),
        ([(ALL[0], float("inf"))], r"inf"),
        ([(ALL[0], "1")], r"'1'"),
        ([(ALL[0], 1.0, 2.0)], r"2\.0"),
    ],
)
def test_a_sampler_that_returns_no_weighted_paths_is_named(tmp_path: Path, returned: Any, shown: str) -> None:
    """At its first step before there is a run, and at a later one, in whose place another run can begin."""

    def mine(space: Any, rng: np.random.Generator) -> Any:
        return returned

    def later(space: Any, rng: np.random.Generator) -> Any:
        return [(ALL[0], 1.0)] if len(asked) < 3 and not asked.append(1) else returned  # type: ignore[func-returns-value]

    asked: list[int] = []
    for sampler in (mine, later):
        out = tmp_path / sampler.__name__
        with pytest.raises(WsnasError, match=rf"sampler {sampler.__name__} returned .*{shown}.*must return a list"):
            train_supernet(TOY, paths=sampler, out=out, splits=splits())
        assert out.exists() == (sampler is later)
    if returned is None:
        assert train_supernet(TOY, out=tmp_path / "later", splits=splits()).step == 3 * 6


def test_a_supernet_without_a_path_says_so() -> None:
    assert taken(None, ALL[1]) == taken(ALL[1], None) == taken(ALL[1], ALL[2]) == ALL[1]
    with pytest.raises(WsnasError, match=r"a supernet needs the path to take: model\(x, arch\)"):
        taken(None, None)
