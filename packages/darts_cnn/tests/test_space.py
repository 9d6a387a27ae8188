"""The space against counts and functions of its own making, and its notation against what is published."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from darts_cnn import SPACE
from darts_cnn.space import (
    DIL3,
    MAX_POOL,
    OPS,
    SEP3,
    SKIP,
    Architecture,
    Node,
    canonical,
    cell_of,
    decode,
    encode,
    fair_paths,
    sample,
    training_key,
)
from wsnas import WsnasError

DARTS_V2 = (  # as darts/cnn/genotypes.py has it, on one line
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)


def some(count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [sample(rng) for _ in range(count)]


# how many, and which -----------------------------------------------------------------------------------------


def test_size() -> None:
    """Table 1's 2.76e20, by listing the slots of each node: ordered pairs of different inputs, seven operations."""
    per_node = [
        sum(1 for a, b in itertools.product(range(i + 2), repeat=2) if a != b) * sum(1 for _ in OPS) ** 2
        for i in range(4)
    ]
    assert math.prod(per_node) ** 2 == SPACE.size == 275_647_219_316_498_534_400
    assert f"{SPACE.size:.2e}" == "2.76e+20"


def test_iteration_is_lazy_and_in_order() -> None:
    """First every last node of the reduction cell: 7 * 7 operations on 5 * 4 pairs of inputs; then the node before."""
    first = list(itertools.islice(SPACE, 980 + 1))
    lowest: Node = ((0, 0), (0, 1))
    inputs = [(a, b) for a, b in itertools.product(range(5), repeat=2) if a != b]
    expected = {((op, a), (other, b)) for op, other in itertools.product(range(7), repeat=2) for a, b in inputs}
    assert all((one.normal, one.reduce[:3]) == ((lowest,) * 4, (lowest,) * 3) for one in first[:980])
    assert {one.reduce[3] for one in first[:980]} == expected
    assert len(expected) == 980
    assert first[980].reduce == (lowest, lowest, ((0, 0), (0, 2)), lowest)


def test_samples_are_valid() -> None:
    """``decode`` refuses a genotype that is not."""
    for one in some(300):
        assert decode(encode(one)) == one


# which are the same --------------------------------------------------------------------------------------------


def swapped(one: Architecture, which: int) -> Architecture:
    """The slots of those of the eight nodes swapped whose bit is set in ``which``."""
    nodes = [node[::-1] if which >> i & 1 else node for i, node in enumerate((*one.normal, *one.reduce))]
    return Architecture(tuple(nodes[:4]), tuple(nodes[4:]))  # type: ignore[arg-type]


def renumbered(one: Architecture, order: tuple[int, ...]) -> Architecture | None:
    """The normal cell's nodes in another order; None where a node would read a later one."""
    label = {0: 0, 1: 1, **{2 + old: 2 + new for new, old in enumerate(order)}}
    cell = [tuple((op, label[source]) for op, source in one.normal[old]) for old in order]
    if any(source >= 2 + i for i, node in enumerate(cell) for _, source in node):
        return None
    return Architecture(tuple(cell), one.reduce)  # type: ignore[arg-type]


def test_swapped_slots_are_one_class() -> None:
    for one in some(5):
        every = {swapped(one, which) for which in range(256)}
        assert len(every) == 256  # all valid, all different
        assert all(decode(encode(other)) == other for other in every)  # refuses what is not valid
        assert len({canonical(other) for other in every}) == 1
        assert len({training_key(other) for other in every}) == 1


def test_renumbered_nodes_are_trained_once() -> None:
    """Every order of the normal cell's nodes that reads only earlier ones: one key, and not one canonical genotype."""
    apart = orders = 0
    for one in some(60):
        others = [renumbered(one, order) for order in itertools.permutations(range(4))]
        found = {other for other in others if other is not None}
        assert len({training_key(other) for other in found}) == 1
        orders += len(found)
        apart += len({canonical(other) for other in found}) > 1
    assert orders > 100
    assert apart > 10


def test_keys_are_members_of_their_class() -> None:
    for one in some(100):
        for key in (canonical, training_key):
            assert key(decode(key(one))) == key(one)
        assert training_key(decode(canonical(one))) == training_key(one)


def test_different_functions_have_different_keys() -> None:
    """A different operation, input, or cell for the other; 2,000 random architectures have as many keys."""
    assert len({training_key(one) for one in some(2000)}) == 2000
    one = decode(DARTS_V2)
    assert training_key(Architecture(one.reduce, one.normal)) != training_key(one)
    node = ((SEP3, 0), (DIL3, 1))
    for other in (((DIL3, 0), (SEP3, 1)), ((SEP3, 0), (SEP3, 1))):
        keys = {training_key(Architecture((first, *one.normal[1:]), one.reduce)) for first in (node, other)}  # type: ignore[arg-type]
        assert len(keys) == 2


# notation --------------------------------------------------------------------------------------------------------


def test_the_published_genotype_is_read_and_written() -> None:
    one = decode(DARTS_V2)
    assert encode(one) == DARTS_V2
    assert one.normal[3] == ((SKIP, 0), (DIL3, 2))
    assert one.reduce[1] == ((SKIP, 2), (MAX_POOL, 1))
    multi_line = DARTS_V2.replace(", normal_concat", ",\n  normal_concat").replace("[2, 3, 4, 5]", "range(2, 6)")
    assert decode(f"  {multi_line}\n") == one
    tuples = DARTS_V2.replace("[", "(").replace("]", ")").replace("'", '"')
    assert decode(tuples) == one


def test_the_214_real_genotypes_survive() -> None:
    """From JSON to an architecture, to the field's notation and back: none changed, all different."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("WSNAS_TEST_DATA", default)) / "darts_cnn.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    entries = json.loads(path.read_text())
    assert len(entries) == 214
    seen = set()
    for entry in entries:
        cells = {name: [tuple(slot) for node in entry[name] for slot in node] for name in ("normal", "reduce")}
        one = Architecture(*(cell_of(cells[name], name) for name in ("normal", "reduce")))
        text = encode(one)
        concat = "[2, 3, 4, 5]"
        assert text == (
            f"Genotype(normal={cells['normal']}, normal_concat={concat}, reduce={cells['reduce']}, "
            f"reduce_concat={concat})"
        )
        assert decode(text) == one
        again = {name: [(OPS[op], s) for node in getattr(decode(text), name) for op, s in node] for name in cells}
        assert again == cells
        seen.add(one)
    assert len(seen) == 214


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Genotype(", "Cell(", "not one Genotype"),
        ("Genotype(", "os.system(", "not one Genotype"),
        ("Genotype(", "Genotype(Genotype(", "cannot be parsed"),
        ("normal=", "normal_=", "must name normal, normal_concat, reduce, reduce_concat"),
        ("normal=[", "*[", "must name normal"),
        ("normal_concat=[2, 3, 4, 5], ", "", "must name normal"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=[3, 4, 5]", "normal_concat must be"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=range(2, 7)", "must be lists"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=list((2, 3, 4, 5))", "must be lists"),
        ("('skip_connect', 0), ('dil_conv_3x3', 2)]", "('skip_connect', 0)]", "needs 8 slots, two per node, but has 7"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2, 1)", "node 5: a slot is an operation and the node it reads"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', '2')", "a slot is an operation and the node it reads"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)", "something other"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 1 + 1)", "something other"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', -1)", "something other"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', __import__('os'))", "something other"),
        ("('dil_conv_3x3', 2)", "('none', 2)", "the operation 'none' is unknown; it has max_pool_3x3"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "node 5 cannot read node 5, only nodes 0 to 4"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "node 5 reads node 0 twice"),
    ],
)
def test_decode_says_what_is_wrong(old: str, new: str, reason: str) -> None:
    assert old in DARTS_V2
    text = DARTS_V2.replace(old, new, 1)
    with pytest.raises(WsnasError, match=reason):
        decode(text)


def test_nothing_is_evaluated(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    attack = f"__import__('os').system('touch {marker}')"
    for text in (
        attack,
        f"Genotype(normal={attack}, normal_concat=[], reduce=[], reduce_concat=[])",
        DARTS_V2.replace("'skip_connect'", attack),
        DARTS_V2.replace("[2, 3, 4, 5]", f"range({attack}, 6)"),
    ):
        with pytest.raises(WsnasError):
            decode(text)
    assert not marker.exists()


@pytest.mark.parametrize("text", ["(" * 4000, "[" * 300 + "]" * 300, "-" * 4000 + "1", "\0", "'\\d", "x" * 10_000_000])
def test_hostile_text_is_one_sentence(text: str) -> None:
    with pytest.raises(WsnasError) as caught:
        decode(text)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(WsnasError):
        decode(text)


# chance ----------------------------------------------------------------------------------------------------------


def test_sampling_is_uniform() -> None:
    """Chi-square of every slot's operations and of every node's 2, 6, 12 and 20 ordered pairs of inputs."""
    drawn = some(8000, seed=1)
    found = []
    for i, name in itertools.product(range(4), ("normal", "reduce")):
        nodes = [getattr(one, name)[i] for one in drawn]
        pairs = Counter((a, b) for (_, a), (_, b) in nodes)
        assert len(pairs) == (i + 2) * (i + 1)
        found.append(stats.chisquare(list(pairs.values())).pvalue)
        for s in range(2):
            found.append(stats.chisquare([sum(node[s][0] == op for node in nodes) for op in range(7)]).pvalue)
    assert min(found) > 1e-3 / len(found)
    assert stats.kstest(found, "uniform").pvalue > 1e-3  # too even is not chance either
    assert some(100) == some(100)


def test_fair_paths_use_every_operation_once() -> None:
    """Weights belong to (cell, node, slot, operation): each is on exactly one of the seven paths; inputs stay."""
    rng = np.random.default_rng(0)
    first = np.zeros((8, 2, 7), dtype=np.int64)
    inputs = Counter()  # type: ignore[var-annotated]
    for _ in range(500):
        paths = fair_paths(rng)
        assert len(paths) == 7
        assert all(decode(encode(path)) == path for path in paths)
        nodes = [(*path.normal, *path.reduce) for path in paths]
        for i, s in itertools.product(range(8), range(2)):
            assert sorted(path[i][s][0] for path in nodes) == list(range(7))
            assert len({path[i][s][1] for path in nodes}) == 1
            first[i, s, nodes[0][i][s][0]] += 1
        inputs[tuple(node[0][1] for node in nodes[0][:4])] += 1
    assert min(stats.chisquare(first[i, s]).pvalue for i in range(8) for s in range(2)) > 1e-5
    assert len(inputs) > 100  # topologies change from set to set: 120 first inputs of the normal cell


def test_decisions_are_the_architecture() -> None:
    """Thirty-two of them; read back by hand they give the architecture."""
    for one in [decode(DARTS_V2), *some(20)]:
        found = SPACE.decisions(one)
        assert len(found) == 32
        cells = [
            tuple(
                tuple(
                    (OPS.index(found[f"{name} {node}{slot} op"]), int(found[f"{name} {node}{slot} input"]))
                    for slot in "ab"
                )
                for node in range(2, 6)
            )
            for name in ("normal", "reduce")
        ]
        assert Architecture(*cells) == one  # type: ignore[arg-type]


def test_drawing_by_hand() -> None:
    """The second-order cells of DARTS, as the paper's Figures 4 and 5 draw them."""
    drawn = SPACE.cell_graph(decode(DARTS_V2))
    assert list(drawn) == ["normal", "reduce"]
    outputs = [(node, "output", "") for node in "2345"]
    assert sorted(drawn["normal"]) == sorted(
        [
            ("input 0", "2", "sep_conv_3x3"),
            ("input 1", "2", "sep_conv_3x3"),
            ("input 0", "3", "sep_conv_3x3"),
            ("input 1", "3", "sep_conv_3x3"),
            ("input 1", "4", "sep_conv_3x3"),
            ("input 0", "4", "skip_connect"),
            ("input 0", "5", "skip_connect"),
            ("2", "5", "dil_conv_3x3"),
            *outputs,
        ]
    )
    assert [edge[:2] for edge in drawn["reduce"] if edge[2] == "skip_connect"] == [("2", "3"), ("2", "4"), ("2", "5")]
