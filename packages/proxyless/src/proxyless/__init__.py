"""ProxylessNAS (Cai, Zhu & Han, 2019) as a wsnas search space: ``wsnas.load_space("proxyless")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from proxyless import space as blocks
from proxyless.space import OPS, STARTS, Architecture
from wsnas.recipe import Recipe, Training
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from proxyless.network import Network, Skeleton
    from wsnas.data.images import Splits
    from wsnas.table import Table


@dataclass(frozen=True)
class ProxylessRecipe(Recipe):
    """A recipe with the skeleton's sizes, and how an image folder is read."""

    width: float = 1.0  # factor on all widths
    strides: str = "2222121"  # of the stem and of the six stages
    identity_start: bool = False  # blocks with a residual begin as the identity, for short trainings (network.py)
    size: int = 0  # side in pixels at which an image folder is streamed; 0: it is read into memory, as it is
    skip_corrupt: bool = False  # leave out images that cannot be decoded, with a warning, instead of stopping


# Supernet: Table 2 and Appendix A.1 of the paper, which give neither momentum nor augmentation: 0.9, and crops and
# flips, are choices. Stand-alone: Cai et al. (2019) and their released configuration, with the paper's batch of 1024
# and 0.2 for it (from 0.05 for 256). One thing differs from it: the last linear layer starts normal with deviation
# 0.01 (network.py), theirs uniform in +-1/sqrt(inputs). 50,000 of ImageNet's 1,281,167 training images validate.
PAPER = ProxylessRecipe(
    dataset="imagenet",
    supernet=Training(epochs=1000, batch=1024, lr=0.2, weight_decay=5e-4, flip=True),
    standalone=Training(
        epochs=300,
        batch=1024,
        lr=0.2,
        decay="cosine-step",
        nesterov=True,
        weight_decay=4e-5,
        no_decay_on_norms=True,
        label_smoothing=0.1,
        flip=True,
        colour_jitter=0.4,
        hue=0.1,
    ),
    calibration_batch=400,
    calibration_steps=25,
    evaluation_batch=250,
    train_size=1_231_167,
    max_macs=600_000_000,  # A.1: only what fits in a mobile setting is evaluated
    width=1.35,
    size=224,
)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU. Of the five strides two are left:
# 8x8 images are 4x4 after the stem, where a kernel of 7 still sees more than one of 5, and 2x2 from the fifth stage on.
MICRO = ProxylessRecipe(
    dataset="digits",
    supernet=Training(epochs=30, batch=128, lr=0.1, decay="cosine-step", weight_decay=5e-4, clip=5.0),
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
    evaluation_batch=500,
    train_size=4000,  # of the 6,000: 2.5 to 5 seconds a stand-alone training
    valid_size=2000,  # of the 4,000: scoring submodels is most of a study's time
    width=0.125,
    strides="2111121",
    identity_start=True,
)


class Proxyless:
    """The space; its methods are the contract ``wsnas.space.SearchSpace`` asks for."""

    name = "proxyless"
    size = blocks.SIZE
    metric: Literal["accuracy", "perplexity"] = "accuracy"
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, ProxylessRecipe] = {"paper": PAPER, "micro": MICRO}

    sample = staticmethod(blocks.sample)
    encode = staticmethod(blocks.encode)
    decode = staticmethod(blocks.decode)
    canonical = staticmethod(blocks.canonical)
    training_key = staticmethod(blocks.training_key)
    fair_paths = staticmethod(blocks.fair_paths)
    index = staticmethod(blocks.index)
    arch = staticmethod(blocks.architecture)

    def __iter__(self) -> Iterator[Architecture]:
        return blocks.architectures()

    def decisions(self, arch: Architecture) -> Mapping[str, str]:
        found = {}
        for block, choice in enumerate(arch.blocks):
            stage = sum(start <= block for start in STARTS)
            found[f"stage {stage} block {block - STARTS[stage - 1] + 1}"] = OPS[choice]
        return found

    def cell_graph(self, arch: Architecture) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        """Each stage, a chain of blocks: kernel and expansion."""
        found = {}
        for stage, choices in enumerate(blocks.stages(arch), start=1):
            nodes = ["input", *map(str, range(1, len(choices))), "output"]
            found[f"stage {stage}"] = [(nodes[i], nodes[i + 1], OPS[choice]) for i, choice in enumerate(choices)]
        return found

    def supernet(self, recipe: ProxylessRecipe) -> Network:
        from proxyless.network import Network

        return Network(_skeleton(recipe))

    def network(self, arch: Architecture, recipe: ProxylessRecipe) -> Network:
        from proxyless.network import Network

        return Network(_skeleton(recipe), arch)

    def load_data(self, recipe: ProxylessRecipe, device: torch.device) -> Splits:
        """An image folder is streamed where the recipe says at which ``size``; all else is held in memory."""
        from wsnas.data.folders import stream_splits
        from wsnas.data.sources import load_splits

        folder = _streamed(recipe)
        if folder is None:
            return load_splits(recipe, device)
        return stream_splits(folder, recipe.size, recipe, device, skip_corrupt=recipe.skip_corrupt)

    def parameters(self, arch: Architecture, recipe: ProxylessRecipe) -> int:
        from proxyless.network import parameters

        return parameters(arch, _skeleton(recipe))

    def macs(self, arch: Architecture, recipe: ProxylessRecipe) -> int:
        from proxyless.network import macs

        return macs(arch, _skeleton(recipe), _shape(recipe)[2])

    def import_table(self, path: Path) -> Table:
        """A CSV table (``wsnas.table.read_csv``) or one of ours: no ground truth of this space was ever published."""
        from wsnas.table import read_table

        return read_table(path, self.name, lambda text: self.encode(self.decode(text)))


def _streamed(recipe: ProxylessRecipe) -> Path | None:
    """The image folder that the recipe streams, if it does."""
    from wsnas.data.sources import data_root

    if not recipe.size:
        return None
    if recipe.dataset == "imagenet":
        return data_root() / "imagenet"
    return Path(recipe.dataset) if Path(recipe.dataset).is_dir() else None


def _shape(recipe: ProxylessRecipe) -> tuple[int, int, int]:
    """(classes, channels, side in pixels) of the recipe's images."""
    from wsnas.data.sources import class_folders, shape_of

    folder = _streamed(recipe)
    if folder is None:
        return shape_of(recipe.dataset)
    classes = 1000 if recipe.dataset == "imagenet" else len(class_folders(folder / "train"))
    return classes, 3, recipe.size


def _skeleton(recipe: ProxylessRecipe) -> Skeleton:
    from proxyless.network import Skeleton

    classes, inputs, _ = _shape(recipe)
    return Skeleton(recipe.width, recipe.strides, classes, inputs, recipe.identity_start)


SPACE: SearchSpace[Architecture] = Proxyless()  # mypy checks the contract here

__all__ = ["MICRO", "PAPER", "SPACE", "Proxyless", "ProxylessRecipe"]
