"""Sub-spaces, distinct samples, recipes and the look-up of installed spaces."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from toy_space import ALL, MICRO, TOY, Arch, Toy, ToyRecipe

import wsnas
from wsnas.cli import main
from wsnas.errors import WsnasError
from wsnas.executor import Executor
from wsnas.ground_truth import train_many
from wsnas.recipe import SGD, Recipe, Training, change_recipe, digest, recipe_from_json
from wsnas.recipe_options import _given
from wsnas.sampling import sample_distinct
from wsnas.space import SearchSpace, SubSpace, installed_spaces, load_space
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
    ("target", "says"),
    [
        ("half_installed:SPACE", "'half' is installed, but cannot be imported .*No module named 'missing'"),
        ("json:SPACE", "'half' is installed, but cannot be imported .*no attribute 'SPACE'"),
        ("half_written:SPACE", "'half' is installed, but cannot be imported .*abstract class"),
        ("json:loads", "'half' names json:loads, which is no search space"),
        ("toy_space:TOY", "installed as 'half' is called 'toy'"),
    ],
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
    unfinished = "from wsnas.space import SearchSpace\nclass Half(SearchSpace):\n    pass\nSPACE = Half()\n"
    (tmp_path / "half_written.py").write_text(unfinished)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WsnasError, match=says):
        load_space("half")


def test_a_space_is_found_under_a_name_with_a_hyphen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "my_toy-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_toy\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[wsnas.spaces]\nMy-toy = my_toy:SPACE\n")
    (tmp_path / "my_toy.py").write_text(
        "from toy_space import Toy\nclass MyToy(Toy):\n    name = 'My-toy'\nSPACE = MyToy()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_space("My-toy") is load_space("my_toy")
    assert load_space("my-toy").name == "My-toy"


def test_what_a_space_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match="the metric of Lossy is 'loss'"):
        type("Lossy", (Toy,), {"metric": "loss"})
    of_texts = {"__iter__": lambda self: iter(["a", "b"]), "decode": SearchSpace.decode, "name": "words"}
    words = type("Words", (Toy,), of_texts)()
    for arch in ("a", ALL[0]):
        with pytest.raises(WsnasError, match="words's architectures are of the class str"):
            wsnas.train_architecture(words, arch, MICRO, out=tmp_path / "words")
    with pytest.raises(WsnasError, match="make an instance of the class"):
        load_space(Toy)  # type: ignore[arg-type]


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


def test_a_recipe_written_by_hand_is_checked_as_one_from_options() -> None:
    good = Training(1, 16, SGD(0.1))
    for made, said in (
        (lambda: Recipe("toy", Training(0, 16, SGD(0.1)), good, 16, 1), "supernet.epochs must be at least 1"),
        (lambda: Recipe("toy", good, Training(1, 16, SGD(-0.1)), 16, 1), r"standalone.lr must be above 0, not -0\.1"),
        (lambda: Recipe("toy", good, good, 16, -1), "calibration_steps must be at least 0, not -1"),
        (lambda: Recipe("toy", good, good, 16, 1, amp="no"), "amp must be True or False"),  # type: ignore[arg-type]
        (lambda: Recipe("toy", good, None, 16, 1), "standalone must be a Training, not None"),  # type: ignore[arg-type]
    ):
        with pytest.raises(WsnasError, match=said):
            made()


def test_a_training_and_its_parts_are_changed_together() -> None:
    other = Training(7, 8, SGD(0.3), clip=2.0)
    changed = change_recipe(MICRO, supernet=other, lr=0.5, **{"standalone.epochs": 4})
    assert changed.supernet == dataclasses.replace(other, optimizer=SGD(0.5))
    assert changed.standalone == dataclasses.replace(MICRO.standalone, epochs=4)


@pytest.mark.parametrize("name", ["epochs", "seed", "scale", "help"])
def test_a_recipes_field_cannot_have_the_name_of_an_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind: Any = dataclasses.make_dataclass(
        "Named", [(name, Annotated[int, "mine"], 1)], bases=(ToyRecipe,), frozen=True
    )
    of = dataclasses.asdict(MICRO) | {"supernet": MICRO.supernet, "standalone": MICRO.standalone}
    monkeypatch.setattr(Toy, "recipes", {"micro": kind(**of)})
    monkeypatch.setattr("wsnas.space.load_space", lambda name: TOY)
    monkeypatch.setattr("wsnas.space.space_named", lambda name: "toy" if name == "toy" else None)
    done = CliRunner().invoke(main, ["train-supernet", "toy", "--batch", "8"])
    assert done.exit_code == 2
    assert f"the recipe of toy has a field '{name}', the name of another option: rename it" in done.output


def test_of_an_option_given_twice_the_last_counts_however_it_is_written() -> None:
    assert _given(["--scale=micro", "--scale", "paper", "--scale=desk"], "--scale") == ["micro", "paper", "desk"]
