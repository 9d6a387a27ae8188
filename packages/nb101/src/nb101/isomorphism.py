"""Which cells of nb101 are the same: isomorphic, by the benchmark's own hash, or in the function that is trained.

All 95,985 cells are compared at once, as arrays, when the first is asked for.
"""

from __future__ import annotations

import hashlib
import itertools
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nb101.space import ASSIGNMENTS, INTERMEDIATES, POOL, Architecture, Sources, assignments, dags

Integers = NDArray[np.int64]
BLANK = 3  # instead of an operation: the vertex was merged into another


@cache
def dag_indices() -> dict[Sources, int]:
    return {sources: i for i, sources in enumerate(dags())}


@cache
def assignment_indices() -> dict[tuple[int, ...], int]:
    return {ops: i for i, ops in enumerate(assignments())}


def index(arch: Architecture) -> int:
    """Position in ``architectures()``. Raises KeyError for any other cell."""
    return dag_indices()[arch.sources] * ASSIGNMENTS + assignment_indices()[arch.ops]


def arrays() -> tuple[Integers, Integers]:
    """All cells in order: adjacency [95985, 7, 7] (source, target), operations [95985, 5]."""
    graphs = np.zeros((len(dags()), 7, 7), dtype=np.int64)
    for graph, sources in zip(graphs, dags(), strict=True):
        for target, each in enumerate(sources, start=1):
            graph[list(each), target] = 1
    return graphs.repeat(ASSIGNMENTS, 0), np.tile(np.array(assignments()), (len(graphs), 1))


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
    """[95985]: equal exactly if the trained function is the same, see ``nb101.space.training_key``."""
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
