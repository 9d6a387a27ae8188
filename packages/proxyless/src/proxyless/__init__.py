"""ProxylessNAS (Cai, Zhu & Han, 2019) as a wsnas search space: ``wsnas.load_space("proxyless")``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from proxyless import space as blocks
from proxyless.recipes import RECIPES, ProxylessRecipe
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from proxyless.network import Network
    from wsnas.data.images import Splits

TABLES = {"more-digits": Path(__file__).with_name("micro.parquet")}  # data set -> ground truth


class Proxyless(SearchSpace[blocks.Architecture]):
    name = "proxyless"
    size = blocks.SIZE
    tables = TABLES
    recipes = RECIPES

    sample = staticmethod(blocks.sample)
    encode = staticmethod(blocks.encode)
    decode = staticmethod(blocks.decode)
    canonical = staticmethod(blocks.canonical)
    training_key = staticmethod(blocks.training_key)
    decisions = staticmethod(blocks.decisions)
    cell_graph = staticmethod(blocks.cell_graph)
    fair_paths = staticmethod(blocks.fair_paths)

    def __iter__(self) -> Iterator[blocks.Architecture]:
        return blocks.architectures()

    def build(self, recipe: ProxylessRecipe, arch: blocks.Architecture | None = None) -> Network:
        from proxyless import images, network

        return network.Network(images.skeleton_of(recipe), arch)

    def load_data(self, recipe: ProxylessRecipe, device: torch.device) -> Splits:
        from proxyless import images

        return images.load_splits(recipe, device)

    def data_place(self, recipe: ProxylessRecipe) -> Path | None:
        from proxyless import images

        return images.place_of(recipe) or super().data_place(recipe)

    def parameters(self, arch: blocks.Architecture, recipe: ProxylessRecipe) -> int:
        from proxyless import images, network

        return network.parameters(arch, images.skeleton_of(recipe))

    def macs(self, arch: blocks.Architecture, recipe: ProxylessRecipe) -> int:
        from proxyless import images, network

        return network.macs(arch, images.skeleton_of(recipe), *images.shape_of(recipe)[2:])


SPACE = Proxyless()
