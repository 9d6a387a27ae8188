"""The paper's part of NAS-Bench-101 (Ying et al., 2019): cells of 7 vertices and 9 edges, 3 operations.

Vertex 0 is a cell's input and vertex 6 its output. The intermediates 1 to 5 sum 1, 1, 1, 2 and 2 earlier vertices,
in this order, and apply an operation; the output concatenates two intermediates, and every intermediate leads to it
(Appendix A.1). That leaves 395 graphs and, with 3^5 assignments of operations each, 95,985 cells. Isomorphic cells
are kept apart, as in the paper; 42,228 are distinct.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from wsnas.errors import WsnasError
from wsnas.words import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

OPS = ("conv3x3", "conv1x1", "maxpool3x3")  # the benchmark's order: its hash depends on it
LABELS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # of the same, in the benchmark's files
INPUT_LABEL, OUTPUT_LABEL = "input", "output"
CONV3, CONV1, POOL = range(3)
INTERMEDIATES = (1, 2, 3, 4, 5)
OUTPUT = 6
IN_DEGREES = (1, 1, 1, 2, 2, 2)  # of the vertices 1 to 6
ASSIGNMENTS = 3**5  # of operations

Sources = tuple[tuple[int, ...], ...]


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
def assignments() -> tuple[tuple[int, ...], ...]:
    return tuple(itertools.product(range(len(OPS)), repeat=len(INTERMEDIATES)))


@cache
def architectures() -> tuple[Architecture, ...]:
    """All 95,985 cells in lexicographic order: graph, then operations."""
    return tuple(Architecture(sources, ops) for sources in dags() for ops in assignments())


def arch_at(index: int) -> Architecture:
    dag, place = divmod(index, ASSIGNMENTS)
    return Architecture(dags()[dag], assignments()[place])


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
                hint = did_you_mean(op, OPS) or f"; the operations are {', '.join(OPS)}"
                raise WsnasError(f"'{text}' names the unknown operation '{op}'{hint}")
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


# NAS-Bench-101's own form ----------------------------------------------------------------------------------------


def to_matrix(arch: Architecture) -> tuple[NDArray[np.int64], list[str]]:
    """The cell as the benchmark's ``ModelSpec`` takes it: adjacency [7, 7] (source, target), and seven labels."""
    import numpy as np

    matrix = np.zeros((OUTPUT + 1, OUTPUT + 1), dtype=np.int64)
    for target, taken in enumerate(arch.sources, start=1):
        matrix[list(taken), target] = 1
    return matrix, [INPUT_LABEL, *(LABELS[op] for op in arch.ops), OUTPUT_LABEL]


def of_matrix(matrix: ArrayLike, labels: Sequence[str]) -> Architecture:
    """The cell of an adjacency matrix and labels in this form, its vertices in their order.

    Raises WsnasError if it is not in the space: most cells of the benchmark are not.
    """
    import numpy as np

    adjacency = np.asarray(matrix)
    if adjacency.shape != (OUTPUT + 1, OUTPUT + 1) or len(labels) != OUTPUT + 1:
        raise WsnasError(
            f"a cell of this space has 7 vertices, not a matrix {adjacency.shape} and {len(labels)} labels"
        )
    unknown = [label for label in labels[1:-1] if label not in LABELS]
    if unknown or np.tril(adjacency).any() or not np.isin(adjacency, (0, 1)).all():
        raise WsnasError(
            f"a cell is an upper triangular matrix of 0 and 1, and its intermediates are {', '.join(LABELS)}"
            + (f", not {unknown[0]}" if unknown else "")
        )
    sources = tuple(tuple(np.flatnonzero(adjacency[:, v]).tolist()) for v in range(1, OUTPUT + 1))
    if tuple(map(len, sources)) != IN_DEGREES:
        raise WsnasError(
            f"in this space the vertices 1 to 6 take {', '.join(map(str, IN_DEGREES))} earlier ones, "
            f"not {', '.join(str(len(taken)) for taken in sources)}"
        )
    return decode(encode(Architecture(sources, tuple(LABELS.index(label) for label in labels[1:-1]))))


# sampling, decisions, drawing ------------------------------------------------------------------------------------


def sample(rng: np.random.Generator) -> Architecture:
    """Uniform over the 95,985 cells, as the paper samples."""
    return arch_at(int(rng.integers(len(dags()) * ASSIGNMENTS)))


def fair_paths(rng: np.random.Generator) -> Sequence[Architecture]:
    """Three cells of one graph in which every vertex has each of the three operations exactly once.

    The graph is uniform over the 395; the paper does not say how it is chosen.
    """
    sources = dags()[int(rng.integers(len(dags())))]
    permutations = [rng.permutation(len(OPS)).tolist() for _ in INTERMEDIATES]
    return [Architecture(sources, ops) for ops in zip(*permutations, strict=True)]


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


# which cells are the same: see isomorphism.py, imported only when needed because numpy takes long to import ----------


def training_key(arch: Architecture) -> str:
    """Equal exactly for cells whose training is the same up to the order of channels: 42,093 classes.

    This holds for isomorphic cells: projections, convolutions and their batch norms move with their vertices, a
    vertex adds at most two terms (which commute even in floating point), and the order of the output's concatenation
    only permutes the input channels of the next weights. Moreover, two max-pools of the same intermediates are equal,
    because they have no weights. Two convolutions of the same input are not, nor are two pools of the cell's input,
    which have separate projections.
    """
    from nb101.isomorphism import index, training_codes

    return f"{int(training_codes()[index(arch)]):x}"


def canonical(arch: Architecture) -> str:
    """The benchmark's graph hash (``hash_module`` of its ``graph_util.py``), 32 hex digits: 42,228 classes."""
    from nb101.isomorphism import classes, hashes, index

    return hashes()[int(classes().of_cell[index(arch)])]
