"""The recurrent search space of DARTS (Liu et al., 2019): 8 nodes, each with a predecessor and an activation.

Node 0 is the cell's initial state. Node i of 1 to 8 takes one of the i nodes before it and one of four
activations, so there are 8! * 4^8 = 2,642,411,520 cells. Every node has one weight matrix, whatever its input,
and all eight nodes enter the cell's output.
"""

from __future__ import annotations

import ast
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from wsnas.errors import WsnasError
from wsnas.words import did_you_mean

if TYPE_CHECKING:
    import numpy as np

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")  # the reference's order, without its "none"
NODES = 8
SIZE = prod(len(ACTIVATIONS) * node for node in range(1, NODES + 1))


@dataclass(frozen=True, order=True, slots=True)
class Architecture:
    """One cell: node i + 1 is ``nodes[i]`` = (activation, index into ``ACTIVATIONS``; its predecessor, 0 to i)."""

    nodes: tuple[tuple[int, int], ...]


def architectures() -> Iterator[Architecture]:
    """All architectures in lexicographic order, one at a time: iterating over all takes hours."""
    choices = [list(itertools.product(range(len(ACTIVATIONS)), range(node))) for node in range(1, NODES + 1)]
    return map(Architecture, itertools.product(*choices))


def sample(rng: np.random.Generator) -> Architecture:
    """Uniform: a random number below ``SIZE``, whose digit of node i has 4 * i values."""
    number, nodes = int(rng.integers(SIZE)), []
    for node in range(NODES, 0, -1):
        number, digit = divmod(number, len(ACTIVATIONS) * node)
        nodes.append(divmod(digit, node))
    return Architecture(tuple(reversed(nodes)))


def encode(arch: Architecture) -> str:
    """``[('relu', 0), ('tanh', 1), ...]``: the ``recurrent`` part of a DARTS genotype, as Python prints it."""
    return str([(ACTIVATIONS[activation], predecessor) for activation, predecessor in arch.nodes])


LONGEST = 2_000  # characters; a genotype has fewer than 200
NOTATION = "[('relu', 0), ('tanh', 1), ...] with 8 pairs, or Genotype(recurrent=[...], concat=range(1, 9))"


def decode(text: str) -> Architecture:
    """The architecture of a genotype: a bare list, or DARTS's ``Genotype(recurrent=[...], concat=range(1, 9))``.

    The text is parsed, never run. Raises WsnasError for anything else.
    """
    shown = text if len(text) <= 300 else text[:300] + "..."
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes
            pairs = _recurrent(ast.parse(text.strip(), mode="eval").body) if len(text) <= LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pairs = None
    if pairs is None:
        raise WsnasError(f"'{shown}' is not a genotype of a recurrent cell; write it as {NOTATION}")
    if len(pairs) != NODES:
        raise WsnasError(f"'{shown}' has {len(pairs)} nodes; a darts_rnn cell has {NODES}")
    for node, (name, predecessor) in enumerate(pairs, start=1):
        if name not in ACTIVATIONS:
            hint = did_you_mean(name, ACTIVATIONS) or f"; they are {', '.join(ACTIVATIONS)}"
            raise WsnasError(f"'{shown}' names the unknown activation '{name}'{hint}")
        if not 0 <= predecessor < node:
            raise WsnasError(f"'{shown}': node {node} takes one of the nodes 0 to {node - 1}, not {predecessor}")
    return Architecture(tuple((ACTIVATIONS.index(name), predecessor) for name, predecessor in pairs))


def _recurrent(tree: ast.expr) -> list[tuple[str, int]] | None:
    """The (activation, predecessor) pairs of a parsed genotype; None if it has another form."""
    if isinstance(tree, ast.Call):
        if not (isinstance(tree.func, ast.Name) and tree.func.id == "Genotype" and not tree.args):
            return None
        parts = {keyword.arg: keyword.value for keyword in tree.keywords}
        if set(parts) != {"recurrent", "concat"} or len(tree.keywords) != 2 or not _all_nodes(parts["concat"]):
            return None
        tree = parts["recurrent"]
    if not isinstance(tree, ast.List):
        return None
    pairs = []
    for element in tree.elts:
        if not (isinstance(element, ast.Tuple) and len(element.elts) == 2):
            return None
        name, predecessor = (part.value if isinstance(part, ast.Constant) else None for part in element.elts)
        if not (isinstance(name, str) and type(predecessor) is int):
            return None
        pairs.append((name, predecessor))
    return pairs


def _all_nodes(tree: ast.expr) -> bool:
    """Whether the expression is ``range(1, 9)`` or a list of 1 to 8: every node enters the output."""
    return ast.unparse(tree) in (f"range(1, {NODES + 1})", str([*range(1, NODES + 1)]))


def shape(arch: Architecture) -> str:
    """The cell as a rooted tree of activations, ``relu(tanh,tanh(relu))...``, its branches in one fixed order.

    Cells of one shape differ only in the numbering of their nodes. The nodes' matrices have the same initial
    distribution and all states are averaged, so trained stand-alone they are the same function up to relabelling:
    this is both the class of isomorphic cells and the training key. (In a supernet they use different matrices.) No
    other two cells are the same: each node has its own weights, a gate keeps even the identity from
    vanishing, and every node enters the output. There are 9,345,761 shapes.
    """
    below: list[list[str]] = [[] for _ in range(NODES + 1)]
    for node in range(NODES, 0, -1):
        activation, predecessor = arch.nodes[node - 1]
        below[predecessor].append(ACTIVATIONS[activation] + _branches(below[node]))
    return "state" + _branches(below[0])


def _branches(found: list[str]) -> str:
    return f"({','.join(sorted(found))})" if found else ""


def fair_paths(rng: np.random.Generator) -> Sequence[Architecture]:
    """Four cells of one random topology in which every node takes each of the four activations exactly once.

    FairNAS on this space: one topology, with the activations permuted node by node.
    """
    predecessors = [predecessor for _, predecessor in sample(rng).nodes]
    permutations = [rng.permutation(len(ACTIVATIONS)) for _ in range(NODES)]
    return [
        Architecture(tuple((int(p[i]), predecessor) for p, predecessor in zip(permutations, predecessors, strict=True)))
        for i in range(len(ACTIVATIONS))
    ]


def decisions(arch: Architecture) -> dict[str, str]:
    """``{"node 1 activation": "relu", "node 1 input": "0", ...}``."""
    found = {}
    for node, (activation, predecessor) in enumerate(arch.nodes, start=1):
        found[f"node {node} activation"] = ACTIVATIONS[activation]
        found[f"node {node} input"] = str(predecessor)
    return found


def cell_graph(arch: Architecture) -> dict[str, list[tuple[str, str, str]]]:
    """The cell; every node leads to the output, which averages them."""
    nodes = ["input 0", *map(str, range(1, NODES + 1))]
    inside = enumerate(arch.nodes, start=1)
    edges = [(nodes[before], nodes[node], ACTIVATIONS[activation]) for node, (activation, before) in inside]
    return {"cell": edges + [(node, "output", "") for node in nodes[1:]]}
