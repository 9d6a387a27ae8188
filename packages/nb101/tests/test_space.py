"""The space against counts of its own making: graphs by brute force, hashes by the benchmark's algorithm in plain
Python, functions by evaluating them.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from nb101 import SPACE
from nb101.isomorphism import canonical_codes, hashes, index
from nb101.network import Cell
from nb101.space import (
    CONV1,
    CONV3,
    INTERMEDIATES,
    OPS,
    POOL,
    Architecture,
    arch_at,
    architectures,
    canonical,
    dags,
    decode,
    encode,
    fair_paths,
    of_matrix,
    sample,
    to_matrix,
    training_key,
)
from wsnas import WsnasError


def cell(*sources: tuple[int, ...], ops: tuple[int, ...]) -> Architecture:
    return Architecture(tuple(sources), ops)


def matrix(arch: Architecture) -> NDArray[np.int64]:
    adjacency = np.zeros((7, 7), dtype=np.int64)
    for target, taken in enumerate(arch.sources, start=1):
        for source in taken:
            adjacency[source, target] = 1
    return adjacency


def plain_hash(adjacency: NDArray[np.int64], ops: tuple[int, ...]) -> str:
    """The benchmark's ``hash_module``, one cell, in plain Python."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    n = len(adjacency)
    labels = [-1, *ops, -2]
    digests = [md5(str((int(adjacency[v].sum()), int(adjacency[:, v].sum()), labels[v]))) for v in range(n)]
    for _ in range(n):
        before = [sorted(digests[u] for u in range(n) if adjacency[u, v]) for v in range(n)]
        after = [sorted(digests[u] for u in range(n) if adjacency[v, u]) for v in range(n)]
        digests = [md5("".join(before[v]) + "|" + "".join(after[v]) + "|" + digests[v]) for v in range(n)]
    return md5(str(sorted(digests)))


# how many, and which -----------------------------------------------------------------------------------------


def test_graphs_by_brute_force() -> None:
    """Of all 2^20 graphs with edges forward, none from input to output and none skipped on the way."""
    pairs = [(s, t) for s, t in itertools.combinations(range(7), 2) if (s, t) != (0, 6)]
    assert len(pairs) == 20
    bits = np.arange(2**20)
    taken = {t: sum((bits >> i & 1) for i, pair in enumerate(pairs) if pair[1] == t) for t in range(1, 7)}
    leads = {s: sum((bits >> i & 1) for i, pair in enumerate(pairs) if pair[0] == s) for s in range(6)}
    every_leads = np.all([leads[s] > 0 for s in range(6)], axis=0)
    in_order = np.all([taken[t] == d for t, d in zip(range(1, 7), (1, 1, 1, 2, 2, 2), strict=True)], axis=0)
    assert (in_order & every_leads).sum() == 395
    any_order = np.sort([taken[t] for t in range(1, 6)], axis=0).T == (1, 1, 1, 2, 2)
    assert (any_order.all(1) & (taken[6] == 2) & every_leads).sum() == 965
    found = {
        tuple(tuple(pair[0] for i, pair in enumerate(pairs) if b >> i & 1 and pair[1] == t) for t in range(1, 7))
        for b in bits[in_order & every_leads].tolist()
    }
    assert set(dags()) == found
    assert list(dags()) == sorted(dags())


def test_every_cell_is_counted_once_in_order() -> None:
    every = list(SPACE)
    assert len(every) == len(set(every)) == SPACE.size == 95_985  # Table 1
    assert every == sorted(every)
    assert [index(one) for one in every] == list(range(95_985))
    assert all(arch_at(i) == every[i] for i in range(0, 95_985, 97))
    assert all(matrix(one).sum() == 9 for one in every[::101])


# the benchmark's hash ----------------------------------------------------------------------------------------


def test_distinct_cells() -> None:
    """42,228 hashes (A.1), and as many cells that are different up to relabelling: the hash confuses none."""
    assert len(set(hashes())) == 42_228
    found = [canonical(one) for one in architectures()]
    assert len(set(found)) == 42_228
    for i in np.random.default_rng(0).choice(95_985, 300, replace=False):
        one = architectures()[i]
        assert canonical(one) == plain_hash(matrix(one), one.ops)


def data(name: str) -> Path:
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("WSNAS_TEST_DATA", default)) / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def test_published_hashes() -> None:
    """All 10,975 cells of the table."""
    with np.load(data("nb101.npz")) as stored:
        published = stored["graph_hash"].tolist()
        adjacency, ops = stored["adjacency"].astype(np.int64), stored["operations"].tolist()
    assert len(set(published)) == 10_975
    for matrix_, op, expected in zip(adjacency, ops, published, strict=True):
        sources = tuple(tuple(np.flatnonzero(matrix_[:, v]).tolist()) for v in range(1, 7))
        assert canonical(Architecture(sources, tuple(op))) == expected


def test_isomorphic_cells_have_one_code() -> None:
    """Cells and their relabellings (not of this space any more) against other cells, by networkx-free brute force."""
    rng = np.random.default_rng(0)
    archs = [SPACE.sample(rng) for _ in range(40)]
    adjacency, ops = np.array([matrix(one) for one in archs]), np.array([one.ops for one in archs])
    codes = canonical_codes(adjacency, ops)
    order = rng.permutation(5)
    names = np.array([0, *(order + 1), 6])
    assert (canonical_codes(adjacency[:, names][:, :, names], ops[:, order]) == codes).all()

    def isomorphic(a: int, b: int) -> bool:
        for order in itertools.permutations(range(5)):
            names = np.array([0, *(np.array(order) + 1), 6])
            if tuple(ops[a][list(order)]) == tuple(ops[b]) and (adjacency[a][names][:, names] == adjacency[b]).all():
                return True
        return False

    same_graph = list(architectures()[: 243 * 6 : 40])  # alike enough that some are isomorphic
    adjacency, ops = np.array([matrix(one) for one in same_graph]), np.array([one.ops for one in same_graph])
    codes = canonical_codes(adjacency, ops)
    for a, b in itertools.combinations(range(len(codes)), 2):
        assert (codes[a] == codes[b]) == isomorphic(a, b)


# training_key ------------------------------------------------------------------------------------------------


def fingerprints(archs: list[Architecture]) -> list[tuple[float, ...]]:
    """A number for each cell that only its function decides, whatever its vertices are called.

    Vertices are scalars. The five convolutions and projections have random weights of their own; max-pooling is one
    odd function. The weights are dealt to the vertices in all 120 ways at once: cells that differ only in what their
    vertices are called see the same 120 values.
    """
    rng = np.random.default_rng(0)
    a, b, p, q = rng.uniform(0.5, 1.5, (4, 5))
    deals = np.array(list(itertools.permutations(range(5)))).T  # [5 vertices, 120]
    graphs: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
    for i, one in enumerate(archs):
        graphs[one.sources].append(i)
    found: list[tuple[float, ...]] = [()] * len(archs)
    for sources, members in graphs.items():
        ops = np.array([archs[i].ops for i in members])
        nodes = [np.zeros((len(members), 120))]
        for v in INTERMEDIATES:
            own = deals[v - 1]
            x = sum(
                (nodes[s] if s else np.broadcast_to(np.tanh(p[own]) + q[own], (len(ops), 120))) for s in sources[v - 1]
            )
            h3, h1 = np.sin(a[own] * x + b[own]), np.tanh(a[own] * x - b[own])
            op = ops[:, v - 1, None]
            nodes.append(np.where(op == CONV3, h3, np.where(op == CONV1, h1, np.sin(1.7 * np.asarray(x)))))
        # the output tells its two parts apart only by what they are: a symmetric function of the pair, twice
        u, w = nodes[sources[5][0]], nodes[sources[5][1]]
        values = np.sort(np.stack([u + w, u * w], axis=2).reshape(len(ops), -1), axis=1)
        weights = np.cos(np.arange(values.shape[1]))
        for row, i in enumerate(members):
            found[i] = (round(float(values[row] @ weights), 7), round(float((values[row] ** 2).sum()), 7))
    return found


def test_training_key_is_the_function_up_to_names() -> None:
    """42,093 classes: equal keys where, and only where, the functions are equal."""
    archs = list(architectures())
    keys = [training_key(one) for one in archs]
    found = fingerprints(archs)
    assert len(set(keys)) == 42_093
    assert len(set(found)) == 42_093
    assert len(set(zip(keys, found, strict=True))) == 42_093
    assert len({(training_key(one), canonical(one)) for one in archs}) == 42_228  # isomorphic cells have one key


def computed(arch: Architecture, weights: Cell, x: torch.Tensor, names: tuple[int, ...]) -> torch.Tensor:
    """The cell's output with vertex ``v``'s weights taken from vertex ``names[v - 1]`` of ``weights``."""
    own = Cell(4, 8, 0.1, arch).double().train()
    for v in INTERMEDIATES:
        if str(v) in own.projections:
            own.projections[str(v)].load_state_dict(weights.projections[str(names[v - 1])].state_dict())
        for op, module in own.vertices[str(v)].items():  # type: ignore[operator, union-attr]
            module.load_state_dict(weights.vertices[str(names[v - 1])][op].state_dict())  # type: ignore[index]
    return own(x, arch)  # type: ignore[no-any-return]


def same_function(a: Architecture, b: Architecture) -> bool:
    """Whether some dealing of a's random weights to b's vertices makes the two cells equal, up to the order of the
    output's two parts.
    """
    torch.manual_seed(0)
    weights = Cell(4, 8, 0.1, None).double().train()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    expected = computed(a, weights, x, INTERMEDIATES)
    swapped = torch.cat([expected[:, 4:], expected[:, :4]], 1)
    for names in itertools.permutations(INTERMEDIATES):
        found = computed(b, weights, x, names)
        if any(torch.allclose(found, one, rtol=1e-9, atol=1e-9) for one in (expected, swapped)):
            return True
    return False


def test_networks_of_one_training_key_compute_the_same() -> None:
    """With the cell that is trained, batch norm in train mode; isomorphic cells and cells that are not."""
    groups = defaultdict(list)
    for one in architectures():
        groups[training_key(one)].append(one)
    rng = np.random.default_rng(0)
    shared = [group for group in groups.values() if len(group) > 1]
    for i in rng.choice(len(shared), 6, replace=False):
        first, second = rng.choice(len(shared[i]), 2, replace=False)
        assert same_function(shared[i][first], shared[i][second])
    merged = [group for group in shared if len({canonical(one) for one in group}) > 1]
    assert len(merged) == 81
    for i in rng.choice(len(merged), 4, replace=False):
        by_hash = {canonical(one): one for one in merged[i]}
        assert same_function(*list(by_hash.values())[:2])


def test_two_pools_of_the_same_are_one() -> None:
    """By hand: vertices 2 and 3 pool vertex 1, one of them leads to 4, one to 5 and one to the output. Three ways that
    are not isomorphic are one function; with convolutions in place of the pools they are three.
    """
    ways = [
        "conv3x3~0/OP~1/OP~1/conv3x3~0+3/conv3x3~3+4/output~2,5",
        "conv3x3~0/OP~1/OP~1/conv3x3~0+3/conv3x3~2+4/output~3,5",
        "conv3x3~0/OP~1/OP~1/conv3x3~0+3/conv3x3~2+4/output~2,5",
    ]
    for op, functions in (("maxpool3x3", 1), ("conv1x1", 3)):
        archs = [decode(way.replace("OP", op)) for way in ways]
        assert len({canonical(arch) for arch in archs}) == 3
        assert len({training_key(arch) for arch in archs}) == functions
        assert all(same_function(a, b) == (functions == 1) for a, b in itertools.combinations(archs, 2))


# notation ----------------------------------------------------------------------------------------------------

TEXT = "conv3x3~0/conv1x1~1/maxpool3x3~0/conv3x3~1+2/conv1x1~0+3/output~4,5"


def test_notation_by_hand() -> None:
    arch = cell((0,), (1,), (0,), (1, 2), (0, 3), (4, 5), ops=(CONV3, CONV1, POOL, CONV3, CONV1))
    assert encode(arch) == TEXT
    assert decode(f" {TEXT}\n") == arch
    expected = np.zeros((7, 7), dtype=np.int64)
    for source, target in ((0, 1), (1, 2), (0, 3), (1, 4), (2, 4), (0, 5), (3, 5), (4, 6), (5, 6)):
        expected[source, target] = 1
    assert (matrix(arch) == expected).all()
    assert canonical(arch) == plain_hash(expected, (0, 1, 2, 0, 1))


def test_every_cell_survives_writing_and_reading() -> None:
    written = {encode(one): one for one in architectures()}
    assert len(written) == 95_985
    for text, one in itertools.islice(written.items(), 0, None, 7):
        assert decode(text) == one


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a cell of nb101"),
        (TEXT[:-1], "is not a cell"),
        (TEXT + "\n" + TEXT, "is not a cell"),
        (TEXT.replace("output", "sum"), "is not a cell"),
        (TEXT.replace("~1+2", "~1"), "is not a cell"),
        (TEXT.replace("maxpool3x3", "avgpool3x3"), "unknown operation 'avgpool3x3'"),
        (TEXT.replace("conv3x3", "CONV3X3"), "unknown operation 'CONV3X3'"),
        (TEXT.replace("~1+2", "~2+1"), "vertex 4 must take different earlier vertices, in ascending order"),
        (TEXT.replace("~1+2", "~1+1"), "vertex 4 must take"),
        (TEXT.replace("~1+2", "~1+4"), "vertex 4 must take"),
        (TEXT.replace("conv3x3~0", "conv3x3~1", 1), "vertex 1 must take"),
        (TEXT.replace("~4,5", "~4,6"), "vertex 6 must take"),
        (TEXT.replace("~4,5", "~0,5"), "the output cannot take the input"),
        (TEXT.replace("~4,5", "~3,5"), "vertex 4 leads nowhere"),
        (TEXT.replace("maxpool3x3~0", "maxpool3x3~٠"), "is not a cell"),
    ],
)
def test_decode_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(WsnasError, match=reason):
        decode(text)


# chance ------------------------------------------------------------------------------------------------------


def test_sampling_is_uniform() -> None:
    """Chi-square over graphs and over operations; a generator decides the draws."""
    rng = np.random.default_rng(0)
    drawn = np.array([index(SPACE.sample(rng)) for _ in range(60_000)])
    for kinds in (drawn // 243, drawn % 243):
        assert 1e-3 < stats.chisquare(np.bincount(kinds)).pvalue < 1 - 1e-3  # too even is not chance either
    assert SPACE.sample(np.random.default_rng(5)) == SPACE.sample(np.random.default_rng(5))


def test_sizes_of_the_classes() -> None:
    """Classes of isomorphic cells hold 1 to 12."""
    sizes = Counter(canonical(one) for one in architectures())
    assert Counter(sizes.values()) == {1: 17_361, 2: 8_775, 3: 11_502, 4: 1_053, 6: 3_348, 12: 189}


def test_fair_paths_keep_the_graph_and_permute_the_operations() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros((3, 5, 3), dtype=np.int64)  # path, vertex, operation
    graphs: Counter[tuple[tuple[int, ...], ...]] = Counter()
    for _ in range(3000):
        paths = fair_paths(rng)
        assert len(paths) == len({index(path) for path in paths}) == 3
        assert len({path.sources for path in paths}) == 1
        graphs[paths[0].sources] += 1
        for vertex in range(5):
            assert sorted(path.ops[vertex] for path in paths) == [0, 1, 2]
        for i, path in enumerate(paths):
            for vertex, op in enumerate(path.ops):
                counts[i, vertex, op] += 1
    assert stats.chisquare(counts.reshape(-1, 3), axis=1).pvalue.min() > 1e-4
    assert stats.chisquare([graphs[sources] for sources in dags()]).pvalue > 1e-3
    assert list(fair_paths(np.random.default_rng(3))) == list(fair_paths(np.random.default_rng(3)))


def test_decisions_name_every_choice() -> None:
    assert SPACE.decisions(decode(TEXT)) == {
        "vertex 1": "conv3x3",
        "vertex 2": "conv1x1",
        "vertex 3": "maxpool3x3",
        "vertex 4": "conv3x3",
        "vertex 5": "conv1x1",
        "vertex 2 takes": "1",
        "vertex 3 takes": "0",
        "vertex 4 takes": "1, 2",
        "vertex 5 takes": "0, 3",
        "output takes": "4, 5",
    }


def test_drawing_by_hand() -> None:
    assert SPACE.cell_graph(decode(TEXT)) == {
        "cell": [
            ("input 0", "1 conv3x3", ""),
            ("1 conv3x3", "2 conv1x1", ""),
            ("input 0", "3 maxpool3x3", ""),
            ("1 conv3x3", "4 conv3x3", ""),
            ("2 conv1x1", "4 conv3x3", ""),
            ("input 0", "5 conv1x1", ""),
            ("3 maxpool3x3", "5 conv1x1", ""),
            ("4 conv3x3", "output 6", ""),
            ("5 conv1x1", "output 6", ""),
        ]
    }


# the benchmark's own form --------------------------------------------------------------------------------------------


def test_matrices_come_back() -> None:
    rng = np.random.default_rng(0)
    for arch in [architectures()[0], *(sample(rng) for _ in range(50))]:
        adjacency, labels = to_matrix(arch)
        np.testing.assert_array_equal(adjacency, matrix(arch))
        assert labels[0] == "input"
        assert labels[-1] == "output"
        assert [label.split("-")[0] for label in labels[1:-1]] == [OPS[op] for op in arch.ops]
        assert of_matrix(adjacency.tolist(), labels) == arch


def test_matrices_of_other_cells_are_refused() -> None:
    """The benchmark's own example is none of this space: its output takes three vertices."""
    example = np.zeros((7, 7), dtype=int)
    for source, target in ((0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 5), (5, 6)):
        example[source, target] = 1
    conv1, conv3, pool = "conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3"
    labels = ["input", conv1, conv3, conv3, conv3, pool, "output"]
    good, names = to_matrix(architectures()[0])
    for adjacency, words, said in (
        (example, labels, "the vertices 1 to 6 take 1, 1, 1, 2, 2, 2 earlier ones, not 1, 1, 1, 1, 2, 3"),
        (good[:6, :6], names[:6], r"a cell of this space has 7 vertices, not a matrix \(6, 6\) and 6 labels"),
        (good, ["input", *["conv5x5"] * 5, "output"], "its intermediates are .*, not conv5x5"),
        (good.T, names, "an upper triangular matrix of 0 and 1"),
        (2 * good, names, "an upper triangular matrix of 0 and 1"),
    ):
        with pytest.raises(WsnasError, match=said):
            of_matrix(adjacency, words)
