"""The paper's part of NAS-Bench-101 (Ying et al., 2019): cells of 7 vertices and 9 edges, 3 operations.

Vertex 0 is a cell's input and vertex 6 its output. The intermediates 1 to 5 sum 1, 1, 1, 2 and 2 earlier vertices,
in this order, and apply an operation; the output concatenates two intermediates, and every intermediate leads to it
(Appendix A.1). That leaves 395 graphs and, with 3^5 assignments of operations each, 95,985 cells. Isomorphic cells
are kept apart, as in the paper; 42,228 are distinct.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsnas import WsnasError

OPS = ("conv3x3", "conv1x1", "maxpool3x3")  # the benchmark's order: its hash depends on it
CONV3, CONV1, POOL = range(3)
INTERMEDIATES = (1, 2, 3, 4, 5)
OUTPUT = 6
IN_DEGREES = (1, 1, 1, 2, 2, 2)  # of the vertices 1 to 6
ASSIGNMENTS = 3**5  # of operations

Sources = tuple[tuple[int, ...], ...]
Integers = NDArray[np.int64]


@dataclass(frozen=True, order=True, slots=True)
class Architecture:
    """One cell: vertex ``v`` takes the vertices ``sources[v - 1]`` (ascending), ``ops[v - 1]`` is its operation."""

    sources: Sources  # of the vertices 1 to 6
    ops: tuple[int, ...]  # of the vertices 1 to 5, indices into OPS


# enumeration -------------------------------------------------------------------------------------------------


@cache
def dags() -> tuple[Sources, ...]:
    """The 395 graphs, in lexicographic order of their sources."""
    before = [range(v) for v in INTERMEDIATES] + [range(1, OUTPUT)]
    every = itertools.product(*(itertools.combinations(some, d) for some, d in zip(before, IN_DEGREES, strict=True)))
    return tuple(sources for sources in every if {0, *INTERMEDIATES} == set(itertools.chain(*sources)))


@cache
def dag_indices() -> dict[Sources, int]:
    return {sources: i for i, sources in enumerate(dags())}


@cache
def assignments() -> tuple[tuple[int, ...], ...]:
    return tuple(itertools.product(range(len(OPS)), repeat=len(INTERMEDIATES)))


@cache
def assignment_indices() -> dict[tuple[int, ...], int]:
    return {ops: i for i, ops in enumerate(assignments())}


@cache
def architectures() -> tuple[Architecture, ...]:
    """All 95,985 cells in lexicographic order: graph, then operations."""
    return tuple(Architecture(sources, ops) for sources in dags() for ops in assignments())


def index(arch: Architecture) -> int:
    """Position in ``architectures()``. Raises KeyError for any other cell."""
    return dag_indices()[arch.sources] * ASSIGNMENTS + assignment_indices()[arch.ops]


def arch_at(index: int) -> Architecture:
    dag, place = divmod(index, ASSIGNMENTS)
    return Architecture(dags()[dag], assignments()[place])


def arrays() -> tuple[Integers, Integers]:
    """All cells in order: adjacency [95985, 7, 7] (source, target), operations [95985, 5]."""
    graphs = np.zeros((len(dags()), 7, 7), dtype=np.int64)
    for graph, sources in zip(graphs, dags(), strict=True):
        for target, each in enumerate(sources, start=1):
            graph[list(each), target] = 1
    return graphs.repeat(ASSIGNMENTS, 0), np.tile(np.array(assignments()), (len(graphs), 1))


# notation ----------------------------------------------------------------------------------------------------


def encode(arch: Architecture) -> str:
    """``op~source/op~source/op~source/op~source+source/op~source+source/output~source,source``.

    The benchmark writes a cell as a matrix and a list; this is both in one word that needs no quotes in a shell. The
    vertices are in order from 1; ``+`` adds a vertex's inputs, ``,`` concatenates them.
    """
    vertices = [f"{OPS[op]}~{'+'.join(map(str, taken))}" for op, taken in zip(arch.ops, arch.sources[:5], strict=True)]
    return "/".join([*vertices, f"output~{arch.sources[5][0]},{arch.sources[5][1]}"])


_FORM = "/".join([r"(\w+)~(\d)"] * 3 + [r"(\w+)~(\d)\+(\d)"] * 2 + [r"output~(\d),(\d)"])
_PATTERN = re.compile(_FORM, re.ASCII)


def decode(text: str) -> Architecture:
    """The cell of a string. Raises WsnasError if it is malformed or not in this space."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise WsnasError(
            f"'{text}' is not a cell of nb101; write it as op~A/op~B/op~C/op~D+E/op~F+G/output~H,I with op one of "
            f"{', '.join(OPS)} and A to I the input vertices: 0 is the cell's input, 1 to 5 are the operations in order"
        )
    fields = iter(match.groups())
    ops: list[int] = []
    sources: list[tuple[int, ...]] = []
    for vertex, degree in enumerate(IN_DEGREES, start=1):
        if vertex != OUTPUT:
            op = next(fields)
            if op not in OPS:
                raise WsnasError(f"'{text}' names the unknown operation '{op}'; the operations are {', '.join(OPS)}")
            ops.append(OPS.index(op))
        taken = tuple(int(field) for field in itertools.islice(fields, degree))
        if list(taken) != sorted(set(taken)) or taken[-1] >= vertex:
            raise WsnasError(f"'{text}': vertex {vertex} must take different earlier vertices, in ascending order")
        sources.append(taken)
    if 0 in sources[-1]:
        raise WsnasError(f"'{text}': the output cannot take the input (0) in this space; choose two of 1 to 5")
    unused = set(INTERMEDIATES) - set(itertools.chain(*sources))
    if unused:
        raise WsnasError(f"'{text}': vertex {min(unused)} leads nowhere; every operation must reach the output")
    return Architecture(tuple(sources), tuple(ops))


# chance ------------------------------------------------------------------------------------------------------


def sample(rng: np.random.Generator) -> Architecture:
    """Uniform over the 95,985 cells, as the paper samples."""
    return arch_at(int(rng.integers(len(dags()) * ASSIGNMENTS)))


def fair_paths(rng: np.random.Generator) -> Sequence[Architecture]:
    """Three cells of one graph in which every vertex has each of the three operations exactly once.

    The graph is uniform over the 395; the paper does not say how it is chosen.
    """
    sources = dags()[int(rng.integers(len(dags())))]
    permutations = np.array([rng.permutation(len(OPS)) for _ in INTERMEDIATES])
    return [Architecture(sources, tuple(int(op) for op in column)) for column in permutations.T]


def decisions(arch: Architecture) -> Mapping[str, str]:
    """Every vertex's operation and inputs; vertex 1 has no choice of input."""
    found = {f"vertex {v}": OPS[op] for v, op in zip(INTERMEDIATES, arch.ops, strict=True)}
    for v, taken in enumerate(arch.sources[1:], start=2):
        found["output takes" if v == OUTPUT else f"vertex {v} takes"] = ", ".join(map(str, taken))
    return found


def cell_graph(arch: Architecture) -> Mapping[str, Sequence[tuple[str, str, str]]]:
    """The cell; its operations belong to vertices."""
    inside = (f"{v} {OPS[op]}" for v, op in zip(INTERMEDIATES, arch.ops, strict=True))
    vertices = ("input 0", *inside, f"output {OUTPUT}")
    taken = enumerate(arch.sources, start=1)
    return {"cell": [(vertices[s], vertices[v], "") for v, sources in taken for s in sources]}


# which cells are the same ------------------------------------------------------------------------------------


BLANK = 3  # instead of an operation: the vertex was merged into another


def canonical_codes(adjacency: Integers, ops: Integers) -> Integers:
    """[n]: equal exactly for cells that are equal up to the order of their intermediates.

    adjacency [n, 7, 7]: multiplicity of each edge (0 to 2); ops [n, 5]: operations (0 to 3). A cell's code is the
    smallest of the numbers that encode its 120 orders.
    """
    orders = np.array(list(itertools.permutations(range(5))))  # [120, 5]
    inside = np.concatenate([adjacency[:, :6, 1:6].reshape(len(ops), 30), adjacency[:, 1:6, 6]], axis=1)
    one_graph, graph = _distinct(inside, 3)
    one_label, label = _distinct(ops, 4)
    graphs, labels = adjacency[one_graph], ops[one_label]

    def spell(digits: Integers, base: int) -> Integers:
        code = np.zeros(digits.shape[:2], dtype=np.int64)
        for i in range(digits.shape[2]):
            code = base * code + digits[:, :, i]
        return code

    inner = graphs[:, orders[:, :, None] + 1, orders[:, None, :] + 1].reshape(len(graphs), 120, 25)
    off_diagonal = np.flatnonzero(~np.eye(5, dtype=bool))
    outer = np.concatenate([graphs[:, 0, orders + 1], graphs[:, orders + 1, 6]], axis=2)
    of_graph = spell(np.concatenate([inner[:, :, off_diagonal], outer], axis=2), 3)  # 3^30 < 2^48
    of_labels = spell(labels[:, orders], 4)  # 4^5 = 2^10
    codes = np.empty(len(ops), dtype=np.int64)
    for start in range(0, len(ops), 8192):  # in chunks that fit the cache
        part = slice(start, start + 8192)
        codes[part] = ((of_graph[graph[part]] << 10) | of_labels[label[part]]).min(1)
    return codes


def _distinct(rows: Integers, base: int) -> tuple[Integers, Integers]:
    """(index of each distinct row's first occurrence, class of each row); entries < base, base^columns < 2^63."""
    numbers = rows @ base ** np.arange(rows.shape[1])
    _, firsts, which = np.unique(numbers, return_index=True, return_inverse=True)
    return firsts, which.reshape(-1)


def merge_equal_pools(adjacency: Integers, ops: Integers) -> tuple[Integers, Integers]:
    """Merges max-pools of the same intermediates, which are equal because they have no weights.

    Convolutions, and vertices that take the input (through their projection), have their own weights and are never
    merged. A vertex that both pools lead to then has a double edge.
    """
    adjacency, ops = adjacency.copy(), ops.copy()
    for later in INTERMEDIATES[1:]:
        for earlier in range(1, later):
            pools = (ops[:, later - 1] == POOL) & (ops[:, earlier - 1] == POOL) & (adjacency[:, 0, later] == 0)
            same = np.flatnonzero(pools & (adjacency[:, :, later] == adjacency[:, :, earlier]).all(1))
            adjacency[same, earlier] += adjacency[same, later]
            adjacency[same, later], adjacency[same, :, later] = 0, 0
            ops[same, later - 1] = BLANK
    return adjacency, ops


@cache
def training_codes() -> Integers:
    """[95985]: equal exactly if the trained function is the same, see ``training_key``."""
    return canonical_codes(*merge_equal_pools(*arrays()))


class Classes(NamedTuple):
    """The 42,228 classes of isomorphic cells."""

    codes: Integers  # [42228], ascending, from ``canonical_codes``
    firsts: Integers  # [42228]: the index of each class's first cell
    of_cell: Integers  # [95985]: the class of every cell


@cache
def classes() -> Classes:
    codes, firsts, which = np.unique(canonical_codes(*arrays()), return_index=True, return_inverse=True)
    return Classes(codes, firsts, which.reshape(-1))


def training_key(arch: Architecture) -> str:
    """Equal exactly for cells whose training is the same up to the order of channels: 42,093 classes.

    This holds for isomorphic cells: projections, convolutions and their batch norms move with their vertices, a
    vertex adds at most two terms (which commute even in floating point), and the order of the output's concatenation
    only permutes the input channels of the next weights. Moreover, two max-pools of the same intermediates are equal,
    because they have no weights. Two convolutions of the same input are not, nor are two pools of the cell's input,
    which have separate projections.
    """
    return f"{int(training_codes()[index(arch)]):x}"


def canonical(arch: Architecture) -> str:
    """The benchmark's graph hash (``hash_module`` of its ``graph_util.py``), 32 hex digits: 42,228 classes."""
    return hashes()[int(classes().of_cell[index(arch)])]


@cache
def hashes() -> tuple[str, ...]:
    """The graph hash of each class of isomorphic cells, in the order of ``classes``; about two seconds.

    A vertex starts as the md5 of "(out-degree, in-degree, label)". Seven times it becomes the md5 of its
    in-neighbours' digests, sorted, "|", its out-neighbours', sorted, "|", and its own. The md5 of the sorted list
    is the cell's. No pruning is needed first: all vertices lie between the input and the output.
    """
    adjacency, ops = (array[classes().firsts] for array in arrays())
    n = len(ops)
    labels = np.concatenate([np.full((n, 1), -1), ops, np.full((n, 1), -2)], axis=1)
    start = np.stack([adjacency.sum(2), adjacency.sum(1), labels], axis=2).reshape(n * 7, 3)
    kinds, kind = _distinct(start + 2, 8)
    states = _md5_of([str(tuple(row)).encode() for row in start[kinds].tolist()])[kind]  # [n * 7]

    # vertices with equal numbers of in- and out-neighbours have messages of equal length, hashed together
    names: Integers = np.broadcast_to(np.arange(n)[:, None, None] * 7 + np.arange(7), (n, 7, 7)).reshape(n * 7, 7)
    into, out = adjacency.transpose(0, 2, 1).reshape(n * 7, 7) > 0, adjacency.reshape(n * 7, 7) > 0
    degrees = into.sum(1) * 8 + out.sum(1)
    groups: list[tuple[Integers, list[Integers]]] = []
    for degree in set(degrees.tolist()):
        own = np.flatnonzero(degrees == degree)
        groups.append((own, [names[own][some[own]].reshape(len(own), -1) for some in (into, out)]))
    for _ in range(7):
        new = np.empty_like(states)
        rank = states.view(">u8").reshape(-1, 4)[:, :2]  # sixteen digits suffice: digests differ there or are equal
        for own, neighbours in groups:
            bar = np.full((len(own), 1), ord("|"), dtype=np.uint8)
            parts = []
            for each in neighbours:
                order = np.lexsort((rank[each, 1], rank[each, 0]), axis=1)
                parts += [_bytes(states[np.take_along_axis(each, order, 1)]), bar]
            messages = np.concatenate([*parts, _bytes(states[own])], axis=1)
            size, text = messages.shape[1], messages.tobytes()
            new[own] = _md5_of([text[i : i + size] for i in range(0, len(text), size)])
        states = new
    cells = states.astype("U32").reshape(n, 7).tolist()
    return tuple(hashlib.md5(str(sorted(cell)).encode()).hexdigest() for cell in cells)


def _md5_of(messages: list[bytes]) -> NDArray[np.bytes_]:
    """Hexadecimal digests, an array of 32-byte strings."""
    digests = b"".join([hashlib.md5(message).digest() for message in messages])
    return np.frombuffer(digests.hex().encode(), dtype="S32")


def _bytes(states: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    return states.view(np.uint8).reshape(len(states), -1)
