"""Sub-spaces, distinct samples, recipes and the look-up of installed spaces."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from toy_space import ALL, MICRO, TOY, Arch, ToyRecipe

import wsnas
from wsnas.errors import WsnasError
from wsnas.executor import Executor
from wsnas.ground_truth import train_many
from wsnas.recipe import Recipe, change_recipe, digest, recipe_from_json
from wsnas.sampling import sample_distinct
from wsnas.space import SubSpace, installed_spaces, load_space
from wsnas.studies.sample import kept_at, random_archs
from wsnas.supernet import supernet_identity


def test_a_sub_space_holds_its_architectures_once_in_order() -> None:
    part = SubSpace(TOY, [ALL[9], ALL[2], ALL[9]])
    assert list(part) == [ALL[2], ALL[9]]
    assert part.size == 2
    assert ALL[2] in part
    assert ALL[3] not in part
    assert {part.sample(np.random.default_rng(seed)) for seed in range(40)} == {ALL[2], ALL[9]}
    with pytest.raises(WsnasError, match="at least one"):
        SubSpace(TOY, [])


def test_a_fingerprint_names_the_set_and_not_its_order() -> None:
    assert SubSpace(TOY, ALL[:5]).fingerprint() == SubSpace(TOY, ALL[4::-1]).fingerprint()
    prints = {SubSpace(TOY, pair).fingerprint() for pair in itertools.combinations(ALL, 2)}
    assert len(prints) == 27 * 26 // 2


def test_a_candidate_named_twice_is_one_in_a_supernets_identity() -> None:
    once, twice = (supernet_identity(TOY, MICRO, 0, candidates=archs) for archs in (ALL[:2], [*ALL[:2], ALL[0]]))
    assert once == twice
    assert once["candidates"].startswith("2 architectures ")


def test_random_archs_are_distinct_and_uniform() -> None:
    rng = np.random.default_rng(1)
    assert len(random_archs(ALL, 1, rng)) == 27
    assert len(random_archs(ALL, 1000, rng)) == 1
    assert all(len(random_archs(ALL, factor, rng)) == kept_at(factor, ALL) for factor in (1, 2, 2.6, 7, 50))
    assert kept_at(2.6, ALL) == 10  # 10.4: no top-10 of them is a choice
    taken: Counter[Arch] = Counter()
    for _ in range(900):
        part = random_archs(ALL, 9, rng)
        assert len(set(part)) == 3
        taken.update(part)
    assert stats.chisquare([taken[arch] for arch in ALL]).pvalue > 1e-3


def test_a_longer_distinct_sample_begins_with_a_shorter_one() -> None:
    long = sample_distinct(TOY, 27, np.random.default_rng(3))
    assert sorted(long) == list(ALL)
    for count in (1, 5, 26):
        assert sample_distinct(TOY, count, np.random.default_rng(3)) == long[:count]


def test_a_distinct_sample_is_uniform_over_all_ordered_samples() -> None:
    part, rng = SubSpace(TOY, ALL[:5]), np.random.default_rng(4)
    drawn = Counter(tuple(sample_distinct(part, 2, rng)) for _ in range(4000))
    possible = list(itertools.permutations(ALL[:5], 2))
    assert set(drawn) == set(possible)
    assert stats.chisquare([drawn[pair] for pair in possible]).pvalue > 1e-3


@pytest.mark.parametrize("count", [0, -1, 28])
def test_an_impossible_distinct_sample_is_refused(count: int) -> None:
    with pytest.raises(WsnasError, match="27"):
        sample_distinct(TOY, count, np.random.default_rng(0))


def test_change_recipe_changes_a_copy() -> None:
    changed = change_recipe(MICRO, dataset="cifar10", channels=9, epochs=7, lr=None, train_size=None)
    assert changed == dataclasses.replace(
        MICRO, dataset="cifar10", channels=9, supernet=dataclasses.replace(MICRO.supernet, epochs=7)
    )
    assert MICRO.supernet.epochs == 3
    assert change_recipe(MICRO) == MICRO


def test_change_recipe_refuses_unknown_fields() -> None:
    plain = Recipe("digits", MICRO.supernet, MICRO.standalone, 16, 3)
    with pytest.raises(WsnasError, match="channels"):
        change_recipe(plain, channels=9)


def test_a_recipe_survives_json() -> None:
    stored = json.loads(json.dumps(MICRO.to_json()))
    back = recipe_from_json(MICRO, stored)
    assert back == MICRO
    assert isinstance(back, ToyRecipe)


@pytest.mark.parametrize("damage", [{"supernet": None}, {"supernet": {"epochs": 1}}, {"colour": "red"}])
def test_a_stored_recipe_that_does_not_fit_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(WsnasError, match="version"):
        recipe_from_json(MICRO, {**MICRO.to_json(), **damage})
    with pytest.raises(WsnasError, match="version"):
        recipe_from_json(MICRO, {})


def test_a_digest_depends_on_every_field_and_not_on_their_order() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert len({digest(x) for x in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1]})}) == 5


def test_an_installed_space_is_found_by_its_entry_point(toy_installed: Path) -> None:
    assert "toy" in installed_spaces()
    assert load_space("toy") is TOY


def test_an_unknown_space_is_refused_with_what_to_install() -> None:
    with pytest.raises(WsnasError, match=r"no search space 'nb999'.*pip install ./packages/NAME"):
        load_space("nb999")


@pytest.mark.parametrize(
    ("target", "says"), [("half_installed:SPACE", "No module named 'missing'"), ("json:SPACE", "no attribute 'SPACE'")]
)
def test_a_space_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, says: str
) -> None:
    """Such as one whose own requirements were left out."""
    info = tmp_path / "half-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[wsnas.spaces]\nhalf = {target}\n")
    (tmp_path / "half_installed.py").write_text("import missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WsnasError, match=f"'half' is installed, but cannot be imported .*{says}"):
        load_space("half")


def test_a_misspelt_space_is_suggested_and_its_case_forgiven(toy_installed: Path) -> None:
    assert load_space("TOY") is TOY
    with pytest.raises(WsnasError, match=r"no search space 'toyy'.*did you mean 'toy'\?"):
        load_space("toyy")
    with pytest.raises(WsnasError, match="not int"):
        load_space(201)  # type: ignore[arg-type]


def test_names_are_taken_where_spaces_recipes_and_architectures_are(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and what they name lead to the same runs, which are found rather than trained again."""
    monkeypatch.chdir(tmp_path)
    first, second = (TOY.encode(arch) for arch in ALL[:2])
    by_name = wsnas.train_supernet("toy", "micro", candidates=[first, second])
    again = wsnas.train_supernet(TOY, MICRO, candidates=ALL[:2])
    assert by_name.run.path == again.run.path
    assert wsnas.evaluate(by_name, first) == wsnas.evaluate(again, [ALL[0]])
    alone = wsnas.train_architecture("toy", first, "micro", out="alone")
    assert wsnas.train_architecture(TOY, ALL[0], MICRO, out="alone").test == alone.test
    assert str(TOY.network(first, MICRO)) == str(TOY.network(ALL[0], MICRO))
    table = train_many("toy", [first], "truth", "micro", seeds=[0], executor=Executor(workers=0))
    table.save(tmp_path / "table.parquet")
    assert wsnas.load_ground_truth("toy", table="table.parquet").archs == (first,)
    with pytest.raises(WsnasError, match=r"toy has no scale 'mirco'; .* did you mean 'micro'"):
        wsnas.train_supernet("toy", "mirco")


def test_dir_lists_the_public_names() -> None:
    """Before any of them is used, and so before torch is imported."""
    code = "import wsnas; print(*sorted(name for name in dir(wsnas) if not name.startswith('_')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(wsnas.__all__)
    assert all(getattr(wsnas, name) is not None for name in wsnas.__all__)
