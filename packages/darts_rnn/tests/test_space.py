"""The space against exact counts, DARTS's own notation, and brute force on small cells."""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_rnn import SPACE
from darts_rnn.space import (
    ACTIVATIONS,
    NODES,
    SIZE,
    Architecture,
    decode,
    encode,
    sample,
    shape,
)
from wsnas import WsnasError

# The recurrent cell that Liu et al. (2019) publish, as their code prints it.
DARTS = (
    "Genotype(recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), ('relu', 4), ('identity', 1), "
    "('relu', 5), ('relu', 1)], concat=range(1, 9))"
)
RECURRENT = DARTS[DARTS.index("[") : DARTS.index("]") + 1]


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    return Architecture(
        tuple((draw(st.integers(0, 3)), draw(st.integers(0, node - 1))) for node in range(1, NODES + 1))
    )


def test_size_is_table_1() -> None:
    assert SPACE.size == SIZE == math.factorial(8) * 4**8 == 2_642_411_520
    assert f"{SPACE.size:.2e}" == "2.64e+09"


def test_iteration_is_lazy_and_in_order() -> None:
    """First every last node: 4 activations of 8 predecessors; then the node before changes, slowest is node 1."""
    first = list(itertools.islice(SPACE, 4 * 8 * 4 * 7 + 1))
    assert first[:32] == [Architecture(((0, 0),) * 7 + ((a, p),)) for a in range(4) for p in range(8)]
    assert first[32] == Architecture(((0, 0),) * 6 + ((0, 1), (0, 0)))
    assert first[-1] == Architecture(((0, 0),) * 5 + ((0, 1), (0, 0), (0, 0)))
    assert first == sorted(set(first))


def test_the_published_cell_reads_in_both_forms() -> None:
    cell = decode(DARTS)
    assert cell == decode(RECURRENT) == decode(DARTS.replace("range(1, 9)", "[1, 2, 3, 4, 5, 6, 7, 8]"))
    assert encode(cell) == RECURRENT
    assert [ACTIVATIONS[a] for a, _ in cell.nodes].count("relu") == 6
    assert [p for _, p in cell.nodes] == [0, 1, 2, 3, 4, 1, 5, 1]
    assert decode("  " + DARTS.replace(" ", "").replace("'", '"') + "\n") == cell


@given(architectures())
def test_notation_goes_there_and_back(one: Architecture) -> None:
    text = encode(one)
    assert decode(text) == one
    assert eval(text) == [(ACTIVATIONS[a], p) for a, p in one.nodes]  # it is Python's own notation


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (RECURRENT.replace("'tanh', 2", "'tanh', 3"), "node 3 takes one of the nodes 0 to 2"),
        (RECURRENT.replace("'tanh', 2", "'tanh', -1"), "not a genotype"),
        (RECURRENT.replace("'tanh', 2", "'tanh', True"), "not a genotype"),
        (RECURRENT.replace("'tanh', 2", "'tanh', 2.0"), "not a genotype"),
        (RECURRENT.replace("tanh", "none"), "unknown activation 'none'"),
        (RECURRENT.replace("tanh", "softsign"), "tanh, relu, sigmoid, identity"),
        (RECURRENT.replace(", ('relu', 1)]", "]"), "7 nodes"),
        (RECURRENT.replace("]", ", ('relu', 1)]"), "9 nodes"),
        (RECURRENT.replace("[", "(").replace("]", ")"), "not a genotype"),
        (DARTS.replace("range(1, 9)", "range(1, 8)"), "not a genotype"),
        (DARTS.replace("range(1, 9)", "[2, 5]"), "not a genotype"),
        (DARTS.replace(", concat=range(1, 9)", ""), "not a genotype"),
        (DARTS.replace("Genotype", "print"), "not a genotype"),
        (DARTS.replace("Genotype(", "Genotype(**{}, "), "not a genotype"),
        (RECURRENT.replace("2", "__import__('os').getpid()"), "not a genotype"),
        ("[(" * 5000, "not a genotype"),
        ("-" * 1900 + "1", "not a genotype"),
        ("Genotype(recurrent=[], concat=" + "-" * 1800 + "1)", "not a genotype"),
        (RECURRENT + "\0", "not a genotype"),
        ("'\\d'", "not a genotype"),
    ],
)
def test_what_is_no_architecture_is_refused(text: str, why: str) -> None:
    with warnings.catch_warnings(action="error"), pytest.raises(WsnasError, match=why) as refusal:
        decode(text)
    assert len(str(refusal.value)) < 600


def test_decoding_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("print('run')", RECURRENT.replace("2", "print('run')"), "Genotype(recurrent=print('run'), concat=1)"):
        with pytest.raises(WsnasError):
            decode(text)
    assert capsys.readouterr().out == ""


def test_samples_are_uniform() -> None:
    """Each choice of each node about as often as it should be: within 5 standard errors."""
    rng = np.random.default_rng(0)
    drawn = np.array([sample(rng).nodes for _ in range(4000)])
    for node in range(NODES):
        for values, choices in ((drawn[:, node, 0], 4), (drawn[:, node, 1], node + 1)):
            share = np.bincount(values, minlength=choices) / len(drawn)
            assert len(share) == choices
            assert (np.abs(share - 1 / choices) <= 5 * np.sqrt(choices - 1) / choices / np.sqrt(len(drawn))).all()


def test_fair_paths_permute_the_activations_of_one_topology() -> None:
    rng = np.random.default_rng(0)
    topologies = set()
    for _ in range(20):
        paths = SPACE.fair_paths(rng)
        assert len(paths) == 4
        assert len({tuple(p for _, p in path.nodes) for path in paths}) == 1
        topologies.add(tuple(p for _, p in paths[0].nodes))
        for node in range(NODES):
            assert sorted(path.nodes[node][0] for path in paths) == [0, 1, 2, 3]
    assert len(topologies) > 10


def test_decisions_name_activation_and_input() -> None:
    found = SPACE.decisions(decode(DARTS))
    assert found["node 3 activation"] == "tanh"
    assert found["node 7 input"] == "5"
    assert len(found) == 16


def test_drawing_by_hand() -> None:
    assert SPACE.cell_graph(decode(DARTS)) == {
        "cell": [
            ("input 0", "1", "relu"),
            ("1", "2", "relu"),
            ("2", "3", "tanh"),
            ("3", "4", "relu"),
            ("4", "5", "relu"),
            ("1", "6", "identity"),
            ("5", "7", "relu"),
            ("1", "8", "relu"),
            *((str(node), "output", "") for node in range(1, 9)),
        ]
    }


# shapes ------------------------------------------------------------------------------------------------------


def relabelled(one: Architecture, rng: np.random.Generator) -> Architecture:
    """The same cell with its nodes numbered in another order that still has predecessors first."""
    free, order = {n for n, (_, p) in enumerate(one.nodes, start=1) if p == 0}, [0]
    while free:
        chosen = int(rng.choice(sorted(free)))
        order.append(chosen)
        free.remove(chosen)
        free |= {n for n, (_, p) in enumerate(one.nodes, start=1) if p == chosen}
    place = {old: new for new, old in enumerate(order)}
    return Architecture(tuple((one.nodes[old - 1][0], place[one.nodes[old - 1][1]]) for old in order[1:]))


def test_shape_forgets_the_numbering_alone() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        one = sample(rng)
        other = relabelled(one, rng)
        assert shape(other) == shape(one)
        changed = list(one.nodes)
        node = int(rng.integers(NODES))
        changed[node] = ((changed[node][0] + 1) % 4, changed[node][1])
        assert shape(Architecture(tuple(changed))) != shape(one)  # another multiset of activations


def forests(nodes: int, colours: int) -> int:
    """Rooted forests with so many coloured, otherwise alike nodes, by Euler's transform."""
    trees, found = [0] * (nodes + 1), [1] + [0] * nodes
    for n in range(1, nodes + 1):
        trees[n] = colours * found[n - 1]
        found[n] = sum(sum(d * trees[d] for d in range(1, j + 1) if j % d == 0) * found[n - j] for j in range(1, n + 1))
        found[n] //= n
    return found[nodes]


def test_number_of_shapes() -> None:
    """``shape`` tells as many small cells apart as there are forests; the docstring's count is that of 8 nodes."""
    rest = ((0, 0),) * 4  # four more nodes that are always the same: tanh of the initial state
    for colours in (1, 2, 4):
        choices = [[(a, p) for a in range(colours) for p in range(node)] for node in range(1, 5)]
        cells = [Architecture(first + rest) for first in itertools.product(*choices)]
        assert len({shape(cell) for cell in cells}) == forests(4, colours)
    assert forests(NODES, 4) == 9_345_761
    assert f"{forests(NODES, 4):,}" in (shape.__doc__ or "")


def test_training_key_is_the_shape() -> None:
    one = decode(DARTS)
    assert SPACE.training_key(one) == SPACE.canonical(one) == shape(one)
    assert Counter(shape(one).replace("(", " ").replace(")", " ").replace(",", " ").split())["relu"] == 6
