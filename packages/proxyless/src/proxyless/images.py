"""The images a recipe names: held in memory, or a folder that is streamed."""

from __future__ import annotations

from pathlib import Path

import torch

from proxyless.network import Skeleton
from proxyless.recipes import ProxylessRecipe
from wsnas.data import sources
from wsnas.data.folders import stream_splits
from wsnas.data.images import Splits
from wsnas.errors import WsnasError


def load_splits(recipe: ProxylessRecipe, device: torch.device) -> Splits:
    """Streams an image folder if the recipe sets ``size``; everything else is held in memory."""
    folder = place_of(recipe)
    if folder is not None:
        if recipe.dataset == "imagenet" and (folder / "train").is_dir():
            count = len(sources.class_folders(folder / "train"))
            if count != 1000:
                raise WsnasError(
                    f"{folder / 'train'} has {count:,} class folders, but ImageNet has 1,000: remove what is no class, "
                    f"or take it as a data set of its own with --dataset {folder}"
                )
        return stream_splits(folder, recipe.size, recipe, device, skip_corrupt=recipe.skip_corrupt)
    if (recipe.size or recipe.skip_corrupt) and sources.is_there(recipe.dataset):
        raise WsnasError(
            f"{recipe.dataset} is held in memory: size and skip_corrupt are only for streamed image folders"
        )
    return sources.load_splits(recipe, device)


def shape_of(recipe: ProxylessRecipe) -> tuple[int, int, int, int]:
    """(classes, channels, height, width) of the recipe's images, in pixels."""
    folder = place_of(recipe)
    if folder is None:
        return sources.shape_of(recipe.dataset)
    classes = 1000 if recipe.dataset == "imagenet" else len(sources.class_folders(folder / "train"))
    return classes, 3, recipe.size, recipe.size


def skeleton_of(recipe: ProxylessRecipe) -> Skeleton:
    classes, inputs = shape_of(recipe)[:2]
    return Skeleton(recipe.width, recipe.strides, classes, inputs, recipe.identity_start)


def place_of(recipe: ProxylessRecipe) -> Path | None:
    """The image folder the recipe streams, if any."""
    if not recipe.size:
        return None
    if recipe.dataset == "imagenet":
        return sources.data_root() / "imagenet"
    return Path(recipe.dataset) if Path(recipe.dataset).is_dir() else None
