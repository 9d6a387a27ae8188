"""Every installed search space keeps the contract of ``wsnas.space.SearchSpace``.

Nothing here knows a space by name: a package that is installed is tested, alone or with others.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import re
import runpy
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from wsnas import WsnasError, installed_spaces, load_ground_truth, load_space
from wsnas.calibration import calibrate
from wsnas.data.images import Splits
from wsnas.environment import environment
from wsnas.evaluation import evaluate, evaluate_submodel
from wsnas.paths import fair, multi_path, uniform
from wsnas.proxies import ZERO_COST, name_of, proxy_scores
from wsnas.recipe import Sequences, change_recipe, recipe_fields, recipe_from_json
from wsnas.sampling import sample_distinct
from wsnas.space import SubSpace
from wsnas.standalone import train_architecture
from wsnas.sufficiency import sufficiency
from wsnas.supernet import inherit, train_supernet
from wsnas.table import SINGLE, Column, Table
from wsnas.training import can_be_captured, gradients_of

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
NAMES = (*installed_spaces(), *(("depth",) if EXAMPLES.exists() else ()))  # and the documentation's own
ENUMERABLE = 200_000  # architectures


@pytest.fixture(params=NAMES, scope="module")
def space(request: pytest.FixtureRequest) -> Any:
    torch.set_num_threads(1)
    if request.param == "depth":
        return runpy.run_path(str(EXAMPLES / "depth_space.py"))["SPACE"]
    return load_space(request.param)


@pytest.fixture(scope="module")
def splits(space: Any) -> Splits:
    found: Splits = space.load_data(space.recipes["micro"], torch.device("cpu"))
    return found


@pytest.fixture(scope="module")
def batch(splits: Splits) -> Tensor:
    x, _ = next(iter(splits.valid.ordered(4)))
    return x


@pytest.fixture(scope="module")
def archs(space: Any) -> list[Any]:
    return sample_distinct(space, 40, np.random.default_rng(0))


def test_a_space_is_installed() -> None:
    assert installed_spaces()


def test_names_and_scales(space: Any) -> None:
    assert space.name in NAMES
    assert space.metric in ("accuracy", "perplexity")
    assert set(space.recipes) >= {"paper", "micro"}
    assert isinstance(space.size, int)
    assert all(path.suffix == ".parquet" and path.exists() for path in space.tables.values())
    assert space.tables.keys() <= {recipe.dataset for recipe in space.recipes.values()}


def test_size_is_what_iteration_finds(space: Any) -> None:
    if space.size > ENUMERABLE:
        pytest.skip(f"{space.name} has {space.size} architectures")
    every = list(space)
    assert len(set(every)) == len(every) == space.size
    assert len({space.encode(one) for one in every}) == space.size


def test_samples_are_architectures(space: Any, archs: list[Any]) -> None:
    """They depend only on the generator, survive encoding and decoding, are hashable and can be sorted."""
    again = sample_distinct(space, 40, np.random.default_rng(0))
    other = sample_distinct(space, 40, np.random.default_rng(1))
    assert archs == again
    assert archs != other
    for one in archs:
        text = space.encode(one)
        assert isinstance(text, str)
        assert text == text.strip() != ""
        assert "\n" not in text
        assert space.decode(text) == one
        assert space.encode(space.decode(text)) == text
    assert len({hash(one) for one in archs}) > len(archs) // 2
    in_order = sorted(archs)
    assert all(a < b for a, b in itertools.pairwise(in_order))
    assert dataclasses.is_dataclass(archs[0])
    name = dataclasses.fields(archs[0])[0].name
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        setattr(archs[0], name, None)
    if space.size <= ENUMERABLE:
        assert set(archs) <= set(space)


@pytest.mark.parametrize("text", ["", " ", "garbage", "0", "é|~+", "|" * 10_000, "None", "[1, 2"])
def test_garbage_is_refused(space: Any, text: str) -> None:
    with pytest.raises(WsnasError):
        space.decode(text)


def test_damaged_notation_is_refused(space: Any, archs: list[Any]) -> None:
    for one in archs[:10]:
        text = space.encode(one)
        for damaged in (text[:-1], text[: len(text) // 2], text + "x", text + text):
            with pytest.raises(WsnasError):
                space.decode(damaged)


def test_keys(space: Any, archs: list[Any]) -> None:
    """Strings that depend only on the architecture."""
    for key in (space.canonical, space.training_key):
        found = [key(one) for one in archs]
        assert all(isinstance(text, str) and text for text in found)
        assert found == [key(space.decode(space.encode(one))) for one in archs]
        assert len(set(found)) > len(archs) // 2


def test_encodings_and_scales_are_taken_everywhere(space: Any, archs: list[Any]) -> None:
    """As the architectures and recipes they name."""
    one, text, recipe = archs[0], space.encode(archs[0]), space.recipes["micro"]
    for name in ("canonical", "cell_graph", "decisions", "encode", "training_key"):
        assert getattr(space, name)(text) == getattr(space, name)(one)
    for name in ("macs", "parameters"):
        assert getattr(space, name)(text, "micro") == getattr(space, name)(one, recipe)
        assert getattr(space, name)(arch=text, recipe="micro") == getattr(space, name)(one, recipe)
    assert str(space.network(text, "micro")) == str(space.network(one, recipe))
    assert SubSpace(space, [text]).archs == [one]
    assert space.archs(text) == space.archs(one) == space.archs([text]) == [one]
    for wrong in ({"epochs": 1}, 3):
        with pytest.raises(WsnasError, match="expected a recipe of"):
            space.recipe(wrong)


def test_decisions(space: Any, archs: list[Any]) -> None:
    """The same names for every architecture, values as text; together they determine the architecture."""
    found = [space.decisions(one) for one in archs]
    assert all(set(one) == set(found[0]) for one in found)
    assert all(isinstance(name, str) and isinstance(value, str) for one in found for name, value in one.items())
    assert len({tuple(sorted(one.items())) for one in found}) == len(archs)
    assert any(len({one[name] for one in found}) > 1 for name in found[0])


def test_drawings(space: Any, archs: list[Any]) -> None:
    """Cells without a cycle from an input to an output; on their edges and vertices the operations decided on.

    A choice that is a word is an operation (a number is a vertex that is taken); ``none`` draws nothing.
    """
    found = [space.cell_graph(one) for one in archs]
    assert len({str(one) for one in found}) == len(archs)
    assert json.loads(json.dumps(found)) == [{name: [*map(list, cell)] for name, cell in one.items()} for one in found]
    for one, drawing in zip(archs, found, strict=True):
        drawn: Counter[str] = Counter()
        for edges in drawing.values():
            nodes = {node for edge in edges for node in edge[:2]}
            assert len({edge[:2] for edge in edges}) == len(edges)
            drawn.update(operation for *_, operation in edges if operation)
            drawn.update(node.split(" ", 1)[1] for node in nodes if node[0].isdigit() and " " in node)
            reached = nodes - {target for _, target, _ in edges}
            for _ in nodes:  # a step away from those without a predecessor at a time
                reached |= {t for t in nodes if all(s in reached for s, target, _ in edges if target == t)}
            assert reached == nodes  # else there is a cycle
        operations = [value for value in space.decisions(one).values() if value.islower() and value != "none"]
        assert drawn == Counter(operations)


def test_fair_paths_are_balanced(space: Any) -> None:
    """They are valid and different, and each decision takes each of its values equally often."""
    rng = np.random.default_rng(0)
    sets = [list(space.fair_paths(rng)) for _ in range(5)]
    for paths in sets:
        assert len(set(paths)) == len(paths) > 1
        assert all(space.decode(space.encode(path)) == path for path in paths)
        for name in space.decisions(paths[0]):
            times = Counter(space.decisions(path)[name] for path in paths)
            assert len(set(times.values())) == 1, name
    assert len({tuple(paths) for paths in sets}) == len(sets)  # drawn anew each time
    assert list(space.fair_paths(np.random.default_rng(7))) == list(space.fair_paths(np.random.default_rng(7)))


@pytest.mark.parametrize("sampler", [uniform, fair, multi_path(3)], ids=["uniform", "fair", "multi"])
def test_path_samplers_accept_the_space(space: Any, sampler: Any) -> None:
    step = sampler(space, np.random.default_rng(0))
    assert sum(weight for _, weight in step) == pytest.approx(len(step) if sampler is fair else 1.0)
    assert all(space.decode(space.encode(path)) == path for path, _ in step)


def test_a_supernet_path_is_the_network_with_its_weights(space: Any, archs: list[Any], splits: Splits) -> None:
    """Bit for bit: finite logits of every class in train mode, gradients, and logits in eval mode after calibration.

    Batch norms get scales and shifts other than their initial ones, so mistakes would show.
    """
    recipe = space.recipes["micro"]
    torch.manual_seed(0)
    supernet = space.supernet(recipe)
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    (x, y), (another, _) = itertools.islice(splits.valid.ordered(12), 2)
    for one in archs[:20]:
        network = inherit(supernet, space.network(one, recipe))
        parameters = dict(network.named_parameters())
        assert set(network.state_dict()) <= set(supernet.state_dict())
        supernet.zero_grad(set_to_none=True)
        found, expected = network.train()(x), supernet.train()(x, one)
        assert torch.isfinite(found).all()
        assert found.shape == (len(y), splits.classes)
        assert torch.equal(found, expected)
        for logits in (found, expected):
            F.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
        for name, parameter in supernet.named_parameters():
            gradient = parameters[name].grad if name in parameters else None
            assert (parameter.grad is None) == (gradient is None), name  # off the path: no decay, no momentum
            assert gradient is None or torch.equal(parameter.grad, gradient), name
        calibrate(supernet, one, [x, another])
        network = inherit(supernet, space.network(one, recipe))
        with torch.no_grad():
            assert torch.equal(network.eval()(x), supernet.eval()(x, one))


def test_a_supernet_asks_for_its_path(space: Any, batch: Tensor) -> None:
    if space.name not in installed_spaces():
        pytest.skip("an example")
    with pytest.raises(WsnasError, match="a supernet needs the path to take"):
        space.supernet("micro")(batch)


def test_initial_weights_come_from_torchs_generator(space: Any, archs: list[Any]) -> None:
    recipe = space.recipes["micro"]
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append((space.supernet(recipe).state_dict(), space.network(archs[0], recipe).state_dict()))
    for first, second, third in zip(*states, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not all(torch.equal(first[name], third[name]) for name in first)


@pytest.mark.parametrize("scale", ["micro", "paper"])
def test_parameters_are_those_of_the_network(space: Any, archs: list[Any], scale: str) -> None:
    recipe = space.recipes[scale]
    for one in archs[:5]:
        assert space.parameters(one, recipe) == sum(p.numel() for p in space.network(one, recipe).parameters())


def test_multiply_adds_are_those_of_the_network(space: Any, archs: list[Any], batch: Tensor) -> None:
    """Against torch's counter, two operations per multiply-add; convolutions and linear layers, one image.

    A network may leave out what does not reach its output, which then gets no gradient; it counts all the same.
    """
    if space.metric != "accuracy":
        pytest.skip("counted a token, not an image")
    recipe = space.recipes["micro"]
    for one in archs[:8]:
        with torch.device("meta"):  # a CPU multiplies matrices in place of convolutions
            network = space.network(one, recipe).eval()
        with FlopCounterMode(display=False) as counter:
            outputs = network(batch[:1].to("meta"))
            counted = counter.get_total_flops()
        outputs.sum().backward()
        idle = any(p.grad is None for p in network.parameters())
        assert (2 * space.macs(one, recipe) > counted) if idle else (2 * space.macs(one, recipe) == counted)


def image_file(folder: Path, pixels: Any) -> str:
    """A data set of four classes in a file, the same images to train and to test."""
    labels, path = np.arange(len(pixels)) % 4, folder / "t.npz"
    np.savez(path, train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    return str(path)


@pytest.mark.parametrize(("height", "width"), [(16, 32), (32, 16), (9, 16)])
def test_images_that_are_not_square_are_counted_so(
    space: Any, archs: list[Any], tmp_path: Path, height: int, width: int
) -> None:
    """Against torch's counter, as above."""
    if space.metric != "accuracy":
        pytest.skip("counted a token, not an image")
    dataset = image_file(tmp_path, np.zeros((8, height, width, 3), np.uint8))
    recipe = dataclasses.replace(space.recipes["micro"], dataset=dataset)
    exact = 0
    for one in archs[:8]:
        with torch.device("meta"):
            network = space.network(one, recipe).eval()
        with FlopCounterMode(display=False) as counter:
            outputs = network(torch.zeros(1, 3, height, width, device="meta"))
            counted = counter.get_total_flops()
        outputs.sum().backward()
        if all(p.grad is not None for p in network.parameters()):
            assert 2 * space.macs(one, recipe) == counted
            exact += 1
    assert exact


def test_recipes_survive_json(space: Any) -> None:
    for scale, recipe in space.recipes.items():
        stored = json.loads(json.dumps(recipe.to_json()))
        assert recipe_from_json(space.recipes["micro"], stored) == recipe, scale
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.dataset = "other"
        assert recipe.supernet.epochs > 0
        assert recipe.standalone.optimizer.lr > 0
        assert all(field.help for field in recipe_fields(recipe).values())  # it is an option's help
    with pytest.raises(WsnasError, match="recipe"):
        recipe_from_json(space.recipes["micro"], {**stored, "unheard_of": 1})


def test_micro_images_are_disjoint(space: Any, splits: Splits) -> None:
    """No image is in two splits; uint8; the same at every call; labels from 0."""
    if space.metric != "accuracy":
        pytest.skip("no images")
    seen = []
    again = space.load_data(space.recipes["micro"], torch.device("cpu"))
    for part, same in zip(
        (splits.train, splits.valid, splits.test), (again.train, again.valid, again.test), strict=True
    ):
        assert part.pixels.dtype == torch.uint8
        assert part.pixels.ndim == 4
        assert len(part.labels) == len(part.pixels) == len(part) > 100
        assert torch.equal(part.pixels, same.pixels)
        assert torch.equal(part.labels, same.labels)
        assert part.labels.min() == 0
        assert part.labels.max() == splits.classes - 1
        seen.append({image.numpy().tobytes() for image in part.pixels})
    for one, other in itertools.combinations(seen, 2):
        assert not one & other


# the shipped ground truth ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(space: Any) -> Table:
    if space.recipes["micro"].dataset not in space.tables:
        pytest.skip("ships none")
    return load_ground_truth(space)


def test_the_shipped_ground_truth_says_how_it_was_made(space: Any, shipped: Table) -> None:
    """The command, without folders of the machine that ran it; how long it took; that nothing failed unseen."""
    about = shipped.about
    assert about["command"].startswith(f"wsnas ground-truth {space.name} ")
    for option, value in (("--sample", r"\d+"), ("--seeds", r"\d+"), ("--out", r"(runs/)?[\w-]+")):
        assert re.search(rf" {option} {value}( |$)", about["command"]), option
    assert about["metric"] == space.metric
    assert about["seconds"].split()[0].isdecimal()
    assert about["status"].endswith(" ok")


def test_the_shipped_ground_truth_is_whole(space: Any, shipped: Table) -> None:
    """Fifty different architectures or more with two seeds or more, which both have validated and been tested; after
    half the epochs they were worse. Others may have shorter trainings only.
    """
    assert shipped.space == space.name
    assert len(set(shipped.archs)) == len(shipped)
    recipe = space.recipes["micro"]
    epochs, best = recipe.standalone.epochs, 100 if space.metric == "accuracy" else np.inf
    valid, test = (shipped.seeds(recipe.dataset, split, epochs) for split in ("valid", "test"))
    for values in (valid, test):
        assert values.shape[0] == len(shipped)
        assert values.shape[1] >= 2
        assert 0 <= np.nanmin(values) < np.nanmax(values) <= best
    trained = np.isfinite(test)
    assert (trained == np.isfinite(valid)).all()
    assert (trained.all(1) == trained.any(1)).all()
    assert trained.any(1).sum() >= 50
    assert (trained.any(1) == shipped.have_results()).all()
    higher = shipped.higher_is_better(space.metric)
    full, half = (higher.mean(recipe.dataset, "valid", budget) for budget in (epochs, epochs // 2))
    assert np.nanmean(full - half) > 0  # where both are known


def test_the_shipped_ground_truth_is_sufficient(space: Any, shipped: Table) -> None:
    """What the paper means by ground truth: twice the epochs neither rank otherwise nor are much better."""
    recipe = space.recipes["micro"]
    found = {one.epochs: one for one in sufficiency(shipped, recipe.dataset, space.metric)}
    assert found[recipe.standalone.epochs].holds


def test_the_shipped_ground_truth_is_of_todays_recipe(space: Any, shipped: Table) -> None:
    """Its recipe is the package's; its parameter counts are those of its networks."""
    recipe = space.recipes["micro"]
    assert json.loads(shipped.about["recipe"]) == json.loads(json.dumps(recipe.standalone_identity()))
    assert shipped.parameters is not None
    for row in range(0, len(shipped), len(shipped) // 20):
        network = space.network(space.decode(shipped.archs[row]), recipe)
        assert shipped.parameters[row] == sum(p.numel() for p in network.parameters())


def test_a_sufficient_training_of_the_shipped_table_repeats(space: Any) -> None:
    """The row of a middle-sized network: to the last digit with the torch and processor that made it.

    Elsewhere within six standard deviations of a seed, a distance that trainings of the short length do not keep.
    """
    recipe = space.recipes.get("desk")
    if recipe is None or recipe.dataset not in space.tables:
        pytest.skip("ships none")
    dataset, epochs = recipe.dataset, recipe.standalone.epochs
    table = load_ground_truth(space, dataset)
    seeds = table.seeds(dataset, "test", epochs)
    trained = np.flatnonzero(np.isfinite(seeds).all(1))
    row = trained[np.argsort(table.parameters[trained], kind="stable")[len(trained) // 2]]
    key = space.training_key(space.decode(table.archs[row]))
    arch = next(arch for arch in map(space.decode, table.archs) if space.training_key(arch) == key)  # the one trained
    found = train_architecture(space, arch, recipe, seed=0, device="cpu")

    about, here = table.about_length(epochs), environment()
    makers = [about, *json.loads(about.get("taken over", "[]"))]  # which row is whose, the table does not say
    made_in = [json.loads(maker["environment"]) for maker in makers]
    values = {split: float(table.seeds(dataset, split, epochs)[row, 0]) for split in ("valid", "test")}
    same = all(here[name] == maker[name] for name in ("torch", "processor", "cpu") for maker in made_in)
    if same:
        assert {"valid": np.float32(found.valid), "test": np.float32(found.test)} == values
    elif seeds.shape[1] > 1:
        near = 6 * float(np.median(seeds[trained].std(1, ddof=1)))
        assert abs(found.test - values["test"]) < near
        shortest = table.mean(dataset, "test", min(table.epochs(dataset, "test")))
        assert near < abs(np.nanmean(seeds) - np.nanmean(shortest))


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "table.pth", "table.tfrecord", "table"])
def test_a_foreign_table_is_refused(space: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is not a table\n1,2\n")
    with pytest.raises(WsnasError, match=name):
        space.import_table(tmp_path / name)
    with pytest.raises(WsnasError):
        space.import_table(tmp_path / f"missing-{name}")


def written(draw: st.DrawFn, space: Any, names: list[str]) -> Table:
    """Any table of these architectures: some are measured, some arrays are there; numbers as precise as a file's."""
    archs = tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=6, unique=True)))

    def values(least: float, most: float) -> Any:
        one = st.floats(least, most, width=32) | st.just(float("nan"))
        return np.array(draw(st.lists(one, min_size=len(archs), max_size=len(archs))))

    each = {"min_size": len(archs), "max_size": len(archs)}
    dataset = st.sampled_from(["cifar10", "imagenet16-120", "a_test_8"]) | st.text("a1_/-., ", min_size=1, max_size=6)
    column = st.builds(
        Column, dataset, st.sampled_from(["valid", "test"]), st.integers(1, 999), st.none() | st.integers(0, 999)
    )
    limits = (2, 100) if space.metric == "accuracy" else (1, 2.0**99)  # accuracies of at most 1 would be fractions
    single = {
        "parameters": np.array(draw(st.lists(st.integers(-1, 2**50), **each))),
        "macs": values(0, 2.0**99),
        "latency": values(0, 2.0**99),
        "failed": np.array(draw(st.lists(st.booleans(), **each))),
    }
    return Table(
        space.name,
        archs,
        {name: values(*limits) for name in draw(st.lists(column, min_size=1, max_size=4, unique=True))},
        about=draw(st.dictionaries(st.sampled_from(["recipe", "note"]), st.text())),
        **{name: draw(st.none() | st.just(found)) for name, found in single.items()},
    )


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_table_survives_export_and_import(space: Any, archs: list[Any], data: st.DataObject) -> None:
    """All but ``about``, which CSV cannot hold. A file that does not say what failed may get it from the accuracies."""
    table = written(data.draw, space, [space.encode(arch) for arch in archs])
    with tempfile.TemporaryDirectory() as folder:
        for name in ("table.parquet", "table.csv"):
            (table.save if name.endswith("parquet") else table.save_csv)(Path(folder) / name)
            found = space.import_table(Path(folder) / name)
            assert (found.space, found.archs) == (table.space, table.archs)
            assert list(found.columns) == list(table.columns)
            for column, values in table.columns.items():
                np.testing.assert_array_equal(found.columns[column].astype(np.float32), values.astype(np.float32))
            for kind in SINGLE:
                one, other = getattr(found, kind), getattr(table, kind)
                if other is None:
                    assert one is None or (kind == "failed" and name == "table.csv")
                else:
                    assert one.dtype == other.dtype
                    np.testing.assert_array_equal(
                        *(x.astype(np.float32) if x.dtype.kind == "f" else x for x in (one, other))
                    )
            assert name == "table.csv" or found.about == table.about


def test_rows_that_are_no_architecture_null_or_duplicate_are_refused(
    space: Any, archs: list[Any], tmp_path: Path
) -> None:
    """In a Parquet file, which ``Table.save`` would write of anything."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"wsnas": json.dumps({"space": space.name, "about": {}})}
    first, second = map(space.encode, archs[:2])
    for row, says in (
        ("resnet18", "row 3: .*resnet18"),
        (None, "row 3: .*missing"),
        (first, "twice.*row 1 and row 3"),
        ("=1+1", "row 3: .*=1"),
    ):
        stored = pa.table({"arch": [first, second, row], "d/test/8/0": [90.5, 91.5, 92.5]})
        pq.write_table(stored.replace_schema_metadata(about), tmp_path / "t.parquet")
        for read in (space.import_table, lambda path: load_ground_truth(space, table=path)):
            with pytest.raises(WsnasError, match=rf"(?s)t\.parquet.*{says}"):
                read(tmp_path / "t.parquet")


def test_a_gpu_can_begin_to_train_every_network(space: Any, archs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What stand-alone and supernet training ask of ``gradients_of`` on a GPU is not refused; seen without a GPU."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    gpu, recipe = torch.device("cuda"), space.recipes["micro"]
    alone, shared = space.network(archs[0], recipe), space.supernet(recipe)
    trainings = ((alone, recipe.standalone, can_be_captured(alone, gpu)), (shared, recipe.supernet, False))
    for network, training, whole in trainings:
        gradients_of(network, training, lambda step: [(archs[0], 1.0)], gpu, 1, False, whole, None)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_trains_every_network_alone(space: Any, archs: list[Any]) -> None:
    recipe = change_recipe(space.recipes["micro"], **{"standalone.epochs": 1})
    assert math.isfinite(train_architecture(space, archs[0], recipe, device="cuda").test)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_computes_what_the_cpu_does(
    space: Any, batch: Tensor, archs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits and the head's gradient of some submodels, in eval mode and float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    here = space.supernet(space.recipes["micro"]).eval()
    there = copy.deepcopy(here).to("cuda", memory_format=torch.channels_last)
    for arch in archs[:8]:
        found = []
        for model, x in ((here, batch), (there, batch.to("cuda"))):
            model.zero_grad(set_to_none=True)
            logits = model(x, arch)
            logits.square().mean().backward()
            norms = torch.stack([p.grad.norm().cpu() for p in model.parameters() if p.grad is not None])
            found.append((logits.detach().cpu(), norms))
        torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_scores_as_the_cpu_does(
    space: Any, splits: Splits, archs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibration and score over several batches, which a GPU replays as graphs, the last one smaller."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = dataclasses.replace(space.recipes["micro"], valid_size=460, evaluation_batch=100)
    if recipe.calibration_steps:
        recipe = dataclasses.replace(recipe, calibration_batch=60, calibration_steps=5)
    there = space.load_data(recipe, torch.device("cuda"))
    torch.manual_seed(0)
    model = space.supernet(recipe)
    for arch in archs[:3]:
        expected = evaluate_submodel(model, arch, splits, recipe)
        found = evaluate_submodel(
            copy.deepcopy(model).to("cuda", memory_format=torch.channels_last), arch, there, recipe
        )
        assert found[1] == pytest.approx(expected[1], rel=1e-3)


@pytest.mark.parametrize("proxy", ZERO_COST, ids=name_of)
def test_zero_cost_scores_tell_architectures_apart(space: Any, splits: Splits, archs: list[Any], proxy: Any) -> None:
    """Each is finite on untrained networks of every space, or refused in one sentence."""
    recipe = space.recipes["micro"]
    text = isinstance(recipe.standalone.inputs, Sequences)
    if text and name_of(proxy) not in ("grad_norm", "snip"):
        with pytest.raises(WsnasError, match=f"{name_of(proxy)} needs images and {space.name} reads words"):
            proxy_scores(space, archs[:2], recipe, proxy, splits=splits)
        return
    scores = proxy_scores(space, archs[:4], recipe, proxy, images=16, splits=splits)
    assert np.isfinite(list(scores.values())).all()
    assert len(set(scores.values())) > 1


@pytest.mark.parametrize(("height", "width"), [(2, 3), (1, 1)])
def test_tiny_images_are_trained_and_scored(
    space: Any, archs: list[Any], tmp_path: Path, height: int, width: int
) -> None:
    """A supernet, one of its submodels, and a stand-alone network, though every reduction leaves less than a pixel."""
    if space.metric != "accuracy":
        pytest.skip("reads words, not images")
    pixels = np.random.default_rng(0).integers(0, 256, (32, height, width, 3), dtype=np.uint8)
    changes = {"dataset": image_file(tmp_path, pixels), "train_size": 16, "valid_size": 16}
    small = {"epochs": 1, "batch": 8, "standalone.epochs": 1, "standalone.batch": 8}
    calibration = {"calibration_batch": 8, "calibration_steps": 2}
    recipe = change_recipe(space.recipes["micro"], **changes, **small, **calibration)
    supernet = train_supernet(space, recipe, out=tmp_path / "net", device="cpu")
    (score,) = evaluate(supernet, archs[:1]).values()
    trained = train_architecture(space, archs[0], recipe, device="cpu")
    assert 0 <= score <= 100
    assert 0 <= trained.test <= 100
    assert np.isfinite(trained.curve).all()
