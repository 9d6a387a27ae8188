"""The paper's part of NAS-Bench-101 (Ying et al., 2019) as a wsnas search space: ``wsnas.load_space("nb101")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nb101 import space as cells
from nb101.space import INTERMEDIATES, OPS, Architecture
from wsnas.errors import WsnasError
from wsnas.recipe import Recipe, Training
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from nb101.network import Network
    from wsnas.data.images import Splits
    from wsnas.table import Table


@dataclass(frozen=True)
class NB101Recipe(Recipe):
    """A recipe with the skeleton's sizes."""

    channels: int = 128  # of the stem and the first stack; the others have 2 and 4 times as many
    cells: int = 3  # a stack
    bn_momentum: float = 0.003  # in torch's convention; TensorFlow's 0.997


# Supernet: Table 2 of the paper (which gives no momentum: 0.9 is a choice). Stand-alone: Ying et al. (2019), section
# 2.3, and their released ``config.py`` and ``model_builder.py``: RMSProp in TensorFlow's form with eps 1 inside the
# square root, cosine by step, L2 on every weight, those of batch norm included, no clip.
PAPER = NB101Recipe(
    dataset="cifar10",
    supernet=Training(epochs=1000, batch=256, lr=0.1, weight_decay=1e-4, clip=5.0, flip=True, crop=4),
    standalone=Training(
        epochs=108,
        batch=256,
        lr=0.2,
        decay="cosine-step",
        optimizer="rmsprop-tf",
        rms_alpha=0.9,
        rms_eps=1.0,
        weight_decay=1e-4,
        flip=True,
        crop=4,
    ),
    calibration_batch=400,
    calibration_steps=25,
    train_size=40_000,  # Appendix A.1: the other 10,000 validate
)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU.
MICRO = NB101Recipe(
    dataset="digits",
    # Warm-up, Nesterov momentum and averaged weights rank better after 40 epochs than plain cosine did after 60.
    supernet=Training(
        epochs=40,
        batch=128,
        lr=0.2,
        decay="linear-step",
        warmup=0.3,
        average_last=0.2,
        nesterov=True,
        weight_decay=1e-4,
        clip=1.0,
    ),
    standalone=Training(
        epochs=2,
        batch=128,
        lr=0.1,
        decay="linear-step",
        warmup=0.4,
        average_last=0.3,  # two seeds agree better on averaged weights
        nesterov=True,
        weight_decay=5e-4,
    ),
    calibration_batch=250,
    calibration_steps=8,
    evaluation_batch=500,  # quicker than 1,000 on a CPU
    valid_size=2000,  # of the 4,000: scoring submodels is most of a study's time
    train_size=3000,  # of the 6,000: seeds agree as well after half the time
    channels=16,
    cells=1,
    bn_momentum=0.1,  # 0.997 remembers more steps than there are
)


class NB101:
    """The space; its methods are the contract ``wsnas.space.SearchSpace`` asks for."""

    name = "nb101"
    size = 95_985
    metric: Literal["accuracy", "perplexity"] = "accuracy"
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, NB101Recipe] = {"paper": PAPER, "micro": MICRO}

    sample = staticmethod(cells.sample)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = staticmethod(cells.canonical)
    training_key = staticmethod(cells.training_key)
    fair_paths = staticmethod(cells.fair_paths)

    def __iter__(self) -> Iterator[Architecture]:
        return iter(cells.architectures())

    def index(self, arch: Architecture) -> int:
        """Position among the 95,985 cells in lexicographic order: graph, then operations."""
        try:
            return cells.index(arch)
        except KeyError as error:
            raise WsnasError(f"{arch} is not one of the {self.size} cells") from error

    def arch(self, index: int) -> Architecture:
        if not 0 <= index < self.size:
            raise WsnasError(f"nb101 has architectures 0 to {self.size - 1}, not {index}")
        return cells.arch_at(index)

    def decisions(self, arch: Architecture) -> Mapping[str, str]:
        """Every vertex's operation and what it takes; vertex 1 has no choice of the latter."""
        found = {f"vertex {v}": OPS[op] for v, op in zip(INTERMEDIATES, arch.ops, strict=True)}
        for v, taken in enumerate(arch.sources[1:], start=2):
            found["output takes" if v == cells.OUTPUT else f"vertex {v} takes"] = ", ".join(map(str, taken))
        return found

    def cell_graph(self, arch: Architecture) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        """The cell; its operations belong to vertices."""
        inside = (f"{v} {OPS[op]}" for v, op in zip(INTERMEDIATES, arch.ops, strict=True))
        vertices = ("input 0", *inside, f"output {cells.OUTPUT}")
        taken = enumerate(arch.sources, start=1)
        return {"cell": [(vertices[s], vertices[v], "") for v, sources in taken for s in sources]}

    def supernet(self, recipe: NB101Recipe) -> Network:
        return self._network(recipe, None)

    def network(self, arch: Architecture, recipe: NB101Recipe) -> Network:
        return self._network(recipe, arch)

    def _network(self, recipe: NB101Recipe, arch: Architecture | None) -> Network:
        from nb101.network import Network
        from wsnas.data.sources import shape_of

        classes, inputs, _ = shape_of(recipe.dataset)
        return Network(recipe.channels, recipe.cells, classes, inputs, arch, recipe.bn_momentum)

    def load_data(self, recipe: NB101Recipe, device: torch.device) -> Splits:
        from wsnas.data.sources import load_splits

        return load_splits(recipe, device)

    def parameters(self, arch: Architecture, recipe: NB101Recipe) -> int:
        from nb101.network import parameters
        from wsnas.data.sources import shape_of

        classes, inputs, _ = shape_of(recipe.dataset)
        return parameters(arch, recipe.channels, recipe.cells, classes, inputs)

    def macs(self, arch: Architecture, recipe: NB101Recipe) -> int:
        from nb101.network import macs
        from wsnas.data.sources import shape_of

        return macs(arch, recipe.channels, recipe.cells, *shape_of(recipe.dataset))

    def import_table(self, path: Path) -> Table:
        from nb101.tables import import_table

        return import_table(path)


SPACE: SearchSpace[Architecture] = NB101()  # mypy checks the contract here

__all__ = ["MICRO", "NB101", "PAPER", "SPACE", "NB101Recipe"]
