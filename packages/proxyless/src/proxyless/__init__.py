"""ProxylessNAS (Cai, Zhu & Han, 2019) as a wsnas search space: ``wsnas.load_space("proxyless")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from proxyless import space as blocks
from proxyless.recipes import MICRO, PAPER, RECIPES, ProxylessRecipe
from proxyless.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from proxyless.network import Network
    from wsnas.data.images import Splits


class Proxyless(SearchSpace[Architecture]):
    """The space, as ``wsnas.space.SearchSpace`` asks for it."""

    name = "proxyless"
    size = blocks.SIZE
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, ProxylessRecipe] = RECIPES

    sample = staticmethod(blocks.sample)
    encode = staticmethod(blocks.encode)
    decode = staticmethod(blocks.decode)
    canonical = staticmethod(blocks.canonical)
    training_key = staticmethod(blocks.training_key)
    decisions = staticmethod(blocks.decisions)
    cell_graph = staticmethod(blocks.cell_graph)
    fair_paths = staticmethod(blocks.fair_paths)

    def __iter__(self) -> Iterator[Architecture]:
        return blocks.architectures()

    def build(self, recipe: ProxylessRecipe, arch: Architecture | None = None) -> Network:
        from proxyless.images import skeleton_of
        from proxyless.network import Network

        return Network(skeleton_of(recipe), arch)

    def load_data(self, recipe: ProxylessRecipe, device: torch.device) -> Splits:
        from proxyless.images import load_splits

        return load_splits(recipe, device)

    def parameters(self, arch: Architecture, recipe: ProxylessRecipe) -> int:
        from proxyless.images import skeleton_of
        from proxyless.network import parameters

        return parameters(arch, skeleton_of(recipe))

    def macs(self, arch: Architecture, recipe: ProxylessRecipe) -> int:
        from proxyless.images import shape_of, skeleton_of
        from proxyless.network import macs

        return macs(arch, skeleton_of(recipe), shape_of(recipe)[2])


SPACE = Proxyless()

__all__ = ["MICRO", "PAPER", "SPACE", "Proxyless", "ProxylessRecipe"]
