"""The convolutional search space of DARTS (Liu et al., 2019): a normal and a reduction cell of four nodes.

A cell's nodes 0 and 1 are the outputs of the two cells before it. Each of its nodes 2 to 5 adds up two slots; a slot
applies one of seven operations to one earlier node, and the two slots of a node read different nodes. The cell's
output is the four nodes, concatenated. Slots are ordered, as in the paper's count: node i of four has (i + 2)(i + 1)
pairs of inputs, hence (2 * 6 * 12 * 20 * 7^8)^2 = 275,647,219,316,498,534,400 architectures. The slots of a node can
be exchanged, so each network is among them at least 2^8 times.
"""

from __future__ import annotations

import ast
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsnas.errors import WsnasError
from wsnas.words import did_you_mean

if TYPE_CHECKING:
    import numpy as np

OPS = (  # DARTS's order, without its "none"
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
MAX_POOL, AVG_POOL, SKIP, SEP3, SEP5, DIL3, DIL5 = range(7)
NODES = 4
FORM = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ... two per node], normal_concat=[2, 3, 4, 5], "
    "reduce=[...], reduce_concat=[2, 3, 4, 5])"
)

Slot = tuple[int, int]  # (operation, the node it reads)
Node = tuple[Slot, Slot]
Cell = tuple[Node, Node, Node, Node]


@dataclass(frozen=True, order=True, slots=True)
class Architecture:
    """Two cells; ``normal[i][s]`` is slot ``s`` of node ``i + 2``: (index into ``OPS``, node it reads)."""

    normal: Cell
    reduce: Cell


# The choices of one architecture in order, and their numbers of options: operation and input of a node's first
# slot, operation and input of its second, which has one input fewer to choose from.
RADICES = [choices for _ in range(2) for i in range(NODES) for choices in (len(OPS), i + 2, len(OPS), i + 1)]
SIZE = math.prod(RADICES)


def _of_choices(choices: Iterable[int]) -> Architecture:
    rest = iter(choices)

    def cell() -> Cell:
        nodes = []
        for _ in range(NODES):
            op, source, other_op, other = (next(rest) for _ in range(4))
            nodes.append(((op, source), (other_op, other + (other >= source))))
        return tuple(nodes)  # type: ignore[return-value]

    return Architecture(cell(), cell())


def architectures() -> Iterator[Architecture]:
    """All architectures in lexicographic order of their choices, one at a time; there are far too many to finish."""
    return map(_of_choices, itertools.product(*map(range, RADICES)))


def sample(rng: np.random.Generator) -> Architecture:
    return _of_choices(rng.integers(0, RADICES).tolist())


def fair_paths(rng: np.random.Generator) -> Sequence[Architecture]:
    """Seven architectures of one topology in which every slot takes each of the seven operations exactly once.

    All share one uniformly drawn topology. Weights belong to slots and operations, not to inputs (network.py), so
    every operation of a slot is trained once, as strict fairness requires (Chu et al., 2019); the factorised skip of a
    reduction cell only where its slot reads an input of the cell.
    """
    topology = sample(rng)
    every = iter([rng.permutation(len(OPS)).tolist() for _ in range(4 * NODES)])
    cells = [
        [[(next(every), source) for _, source in node] for node in cell] for cell in (topology.normal, topology.reduce)
    ]
    return [
        Architecture(*(tuple(tuple((ops[i], source) for ops, source in node) for node in cell) for cell in cells))  # type: ignore[arg-type]
        for i in range(len(OPS))
    ]


def decisions(arch: Architecture) -> dict[str, str]:
    """``{"normal 2a op": "sep_conv_3x3", "normal 2a input": "1", ...}``: slots a and b of nodes 2 to 5, 32 in all."""
    found = {}
    for name, cell in (("normal", arch.normal), ("reduce", arch.reduce)):
        for i, node in enumerate(cell):
            for letter, (op, source) in zip("ab", node, strict=True):
                found[f"{name} {i + 2}{letter} op"] = OPS[op]
                found[f"{name} {i + 2}{letter} input"] = str(source)
    return found


def cell_graph(arch: Architecture) -> dict[str, list[tuple[str, str, str]]]:
    """The two cells; in each, every node leads to the output, which concatenates them."""
    nodes = ["input 0", "input 1", *map(str, range(2, 2 + NODES))]
    found = {}
    for name, cell in (("normal", arch.normal), ("reduce", arch.reduce)):
        slots = [(nodes[source], nodes[i], OPS[op]) for i, node in enumerate(cell, start=2) for op, source in node]
        found[name] = slots + [(node, "output", "") for node in nodes[2:]]
    return found


# which are the same ------------------------------------------------------------------------------------------------


def _in_order(cell: Cell) -> Cell:
    """The cell with each node's slots sorted by their inputs."""
    return tuple(tuple(sorted(node, key=lambda slot: slot[1])) for node in cell)  # type: ignore[return-value]


def _smallest(cell: Cell) -> Cell:
    """The smallest of the cells that number the same four nodes in another order."""
    found = []
    for order in itertools.permutations(range(NODES)):
        label = [0, 1, *(2 + order.index(i) for i in range(NODES))]  # a node's number in the new order
        nodes = [[(op, label[source]) for op, source in cell[i]] for i in order]
        if all(source < 2 + i for i, node in enumerate(nodes) for _, source in node):
            found.append(_in_order(tuple(map(tuple, nodes))))  # type: ignore[arg-type]
    return min(found)


def canonical(arch: Architecture) -> str:
    """The genotype with each node's slots in the order of their inputs.

    DARTS defines no classes; a genotype is read as the set of a node's two edges, in either order.
    """
    return encode(Architecture(_in_order(arch.normal), _in_order(arch.reduce)))


def training_key(arch: Architecture) -> str:
    """Equal only if the trained function is the same, up to the names of its weights.

    In the stand-alone network, the slots of a node can be swapped (their sum commutes), and a cell's nodes can be
    renumbered in any order in which none reads a later one: this permutes the channels of the cell's output, which
    only 1x1 convolutions and the linear layer read, whose weights are learned. The key uses both symmetries. (In the
    supernet these are different paths, because other slots or nodes have other weights.) It ignores rarer ones: two
    nodes that add the same two inputs by skips are one function, but architectures that read one or the other have
    different keys.
    """
    return encode(Architecture(_smallest(arch.normal), _smallest(arch.reduce)))


# notation ------------------------------------------------------------------------------------------------------------


def encode(arch: Architecture) -> str:
    """``Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=[2, 3, 4, 5], reduce=...)``, as DARTS prints it."""

    def slots(cell: Cell) -> str:
        return ", ".join(f"('{OPS[op]}', {source})" for node in cell for op, source in node)

    concat = list(range(2, 2 + NODES))
    return (
        f"Genotype(normal=[{slots(arch.normal)}], normal_concat={concat}, "
        f"reduce=[{slots(arch.reduce)}], reduce_concat={concat})"
    )


def decode(text: str) -> Architecture:
    """The architecture of a genotype. Raises WsnasError, with the reason, if it is malformed or not in the space.

    The text is parsed as Python but never evaluated. Only a call of ``Genotype`` with four keyword arguments, lists
    or tuples of literals, and ``range(2, 6)`` as a concat are accepted.
    """
    shown = repr(text if len(text) <= 80 else text[:77] + "...")
    try:
        fields = _parsed(text)
        for name in ("normal", "reduce"):
            if fields[f"{name}_concat"] != list(range(2, 2 + NODES)):
                raise ValueError(f"{name}_concat must be [2, 3, 4, 5]: in this space every node enters the output")
        return Architecture(cell_of(fields["normal"], "normal"), cell_of(fields["reduce"], "reduce"))
    except ValueError as error:
        raise WsnasError(f"{shown} is not a genotype of darts_cnn: {error}; write it as {FORM}") from error


def cell_of(slots: Sequence[Any], name: str) -> Cell:
    """The cell of eight ``(operation's name, input)``, two per node. Raises ValueError naming the wrong one."""
    if len(slots) != 2 * NODES:
        raise ValueError(f"{name} needs {2 * NODES} slots, two per node, but has {len(slots)}")
    read: list[Slot] = []
    for i, slot in enumerate(slots):
        node = f"{name}, node {2 + i // 2}"
        if not (
            isinstance(slot, list | tuple) and len(slot) == 2 and isinstance(slot[0], str) and type(slot[1]) is int
        ):
            raise ValueError(f"{node}: a slot is an operation and the node it reads, such as ('skip_connect', 0)")
        op, source = slot
        if op not in OPS:
            hint = did_you_mean(op[:40], OPS).rstrip("?") or f"; it has {', '.join(OPS)}"
            raise ValueError(f"{node}: the operation {op[:40]!r} is unknown{hint}")
        if not 0 <= source < 2 + i // 2:
            raise ValueError(f"{node} cannot read node {source}, only nodes 0 to {1 + i // 2}")
        if i % 2 and source == read[-1][1]:
            raise ValueError(f"{node} reads node {source} twice; its two slots must read different nodes")
        read.append((OPS.index(op), source))
    return tuple(zip(read[::2], read[1::2], strict=True))  # type: ignore[return-value]


def _parsed(text: str) -> dict[str, list[Any]]:
    """The four arguments of ``Genotype(...)``. Raises ValueError for anything else."""
    if len(text) > 5000:  # a genotype has some 600 characters; do not parse much longer text
        raise ValueError("it is far too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError("it cannot be parsed") from error
    names = ["normal", "normal_concat", "reduce", "reduce_concat"]
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise ValueError("it is not one Genotype(...)")
    if call.args or sorted(keyword.arg or "" for keyword in call.keywords) != names:
        raise ValueError(f"it must name {', '.join(names)}, each once")
    return {keyword.arg or "": _list_of(keyword.value) for keyword in call.keywords}


def _list_of(node: ast.expr) -> list[Any]:
    """A list or tuple, or ``range(...)`` of literals: strings, integers, and lists or tuples of them."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords:
        if [_literal(arg) for arg in node.args] == [2, 2 + NODES]:
            return list(range(2, 2 + NODES))
    elif isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    raise ValueError("its arguments must be lists, a concat possibly range(2, 6)")


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (str, int):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    raise ValueError("it holds something other than names of operations and numbers of nodes")
