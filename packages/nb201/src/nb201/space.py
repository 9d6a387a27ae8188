"""The NAS-Bench-201 search space (Dong & Yang, 2020): 4 nodes, 6 edges, 5 operations.

A cell's node 0 is its input and node 3 its output; every pair of nodes has one edge, and a
node is the sum of its edges. Of the 5^6 = 15,625 assignments, 341 do not connect the input
to the output by edges other than ``none``; the remaining 15,284 are this space.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from wsnas.errors import WsnasError
from wsnas.words import did_you_mean

if TYPE_CHECKING:
    import numpy as np

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")  # the benchmark's order
NONE, SKIP, CONV1, CONV3, POOL = range(5)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (source, target), grouped by target
INCOMING = {target: [(source, e) for e, (source, t) in enumerate(EDGES) if t == target] for target in (1, 2, 3)}


@dataclass(frozen=True, order=True, slots=True)
class Architecture:
    """One cell: ``ops[e]`` is the operation (index into ``OPS``) on edge ``EDGES[e]``."""

    ops: tuple[int, int, int, int, int, int]


def is_valid(arch: Architecture) -> bool:
    """Whether a path of edges other than ``none`` leads from the input to the output."""
    reached = {0}
    for (source, target), op in zip(EDGES, arch.ops, strict=True):
        if source in reached and op != NONE:
            reached.add(target)
    return 3 in reached


@cache
def architectures() -> tuple[Architecture, ...]:
    """All 15,284 valid architectures, in lexicographic order of their operations."""
    every = (Architecture(ops) for ops in itertools.product(range(5), repeat=6))  # type: ignore[arg-type]
    return tuple(arch for arch in every if is_valid(arch))


def encode(arch: Architecture) -> str:
    """``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, the benchmark's own string."""
    nodes = ["".join(f"|{OPS[arch.ops[e]]}~{source}" for source, e in INCOMING[t]) + "|" for t in (1, 2, 3)]
    return "+".join(nodes)


_PATTERN = re.compile(r"\+".join(r"\|" + r"\|".join(rf"(\w+)~{s}" for s, _ in INCOMING[t]) + r"\|" for t in (1, 2, 3)))


def decode(text: str) -> Architecture:
    """The architecture of a string. Raises WsnasError if it is malformed or not valid."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise WsnasError(
            f"'{text}' is not a NAS-Bench-201 architecture; write it as |op~0|+|op~0|op~1|+|op~0|op~1|op~2| "
            f"with op one of {', '.join(OPS)}"
        )
    for op in match.groups():
        if op not in OPS:
            hint = did_you_mean(op, OPS) or f"; the operations are {', '.join(OPS)}"
            raise WsnasError(f"'{text}' names the unknown operation '{op}'{hint}")
    arch = Architecture(tuple(OPS.index(op) for op in match.groups()))  # type: ignore[arg-type]
    if not is_valid(arch):
        raise WsnasError(f"'{text}' is not valid: every path from the cell's input to its output crosses a 'none'")
    return arch


def sample(rng: np.random.Generator) -> Architecture:
    return architectures()[int(rng.integers(len(architectures())))]


def fair_paths(rng: np.random.Generator) -> Sequence[Architecture]:
    """Five valid architectures in which every edge takes each of the five operations exactly once.

    A set with an invalid cell is redrawn as a whole, to keep the permutations uniform.
    """
    while True:
        permutations = [rng.permutation(5) for _ in EDGES]
        paths = [Architecture(tuple(int(p[i]) for p in permutations)) for i in range(5)]  # type: ignore[arg-type]
        if all(is_valid(path) for path in paths):
            return paths


def decisions(arch: Architecture) -> Mapping[str, str]:
    return {f"edge {s}-{t}": OPS[op] for (s, t), op in zip(EDGES, arch.ops, strict=True)}


def cell_graph(arch: Architecture) -> Mapping[str, Sequence[tuple[str, str, str]]]:
    """The cell, without edges that are ``none``."""
    nodes = ("input 0", "1", "2", "output 3")
    ops = zip(EDGES, arch.ops, strict=True)
    return {"cell": [(nodes[s], nodes[t], OPS[op]) for (s, t), op in ops if op != NONE]}


def canonical(arch: Architecture) -> str:
    """The benchmark's "unique string": 6,461 classes over the valid architectures.

    Its quirks are kept: "#" terms stay in a sum, "#+#" is not reduced, and a source that is itself a
    sum is not sorted again. The classes do not exactly match functions; ``training_key`` does.
    """
    nodes = ["0"]
    for target in (1, 2, 3):
        terms = []
        for source, e in INCOMING[target]:
            op = arch.ops[e]
            if op == NONE or nodes[source] == "#":
                terms.append("#")
            elif op == SKIP:
                terms.append(nodes[source])
            else:
                terms.append(f"({nodes[source]})@{OPS[op]}")
        nodes.append("+".join(sorted(terms)))
    return nodes[3]


Term = tuple[str, Any]  # ("x", None), ("conv", edge) or ("pool", node)
Node = tuple[Term, ...]  # the sum of its terms


def training_key(arch: Architecture) -> str:
    """Equal only if the trained function is the same, up to relabelling: 5,476 classes.

    A node is a multiset of terms. Each edge's convolution is a separate atom: two edges with the same operation have
    different weights, while one edge used twice through skips has the same. A convolution of nothing is a bias atom
    (its batch norm's shift, whatever its kernel). Edges that do not reach the output are dropped. Average pooling
    also distributes over a sum, but this is not used (it would leave 5,227 classes), because such cells are equal as
    functions but not in floating point.
    """
    nodes: list[Node] = [(("x", None),)]
    inputs: dict[int, tuple[int, Node]] = {}
    for target in (1, 2, 3):
        terms: list[Term] = []
        for source, e in INCOMING[target]:
            op = arch.ops[e]
            if op == SKIP:
                terms += nodes[source]
            elif op == POOL and nodes[source]:
                terms.append(("pool", nodes[source]))
            elif op in (CONV1, CONV3):
                inputs[e] = (op, nodes[source])
                terms.append(("conv", e))
        nodes.append(tuple(terms))

    def convolutions(node: Node) -> Iterator[int]:
        for kind, what in node:
            if kind == "conv":
                yield what
            elif kind == "pool":
                yield from convolutions(what)

    live: set[int] = set()
    pending = list(convolutions(nodes[3]))
    while pending:
        edge = pending.pop()
        if edge not in live:
            live.add(edge)
            pending += convolutions(inputs[edge][1])

    def written(order: Sequence[int]) -> str:
        def text(node: Node) -> str:
            return "+".join(sorted(term(*one) for one in node))

        def term(kind: str, what: Any) -> str:
            return "x" if kind == "x" else f"c{order.index(what)}" if kind == "conv" else f"pool({text(what)})"

        atoms = [f"{OPS[op]}({text(node)})" if node else "bias" for op, node in (inputs[edge] for edge in order)]
        return ";".join([*atoms, text(nodes[3])])

    return min(written(order) for order in itertools.permutations(sorted(live)))
