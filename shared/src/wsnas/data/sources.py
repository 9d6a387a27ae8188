"""Image data sets: where they come from and how they are split.

Splits (fixed: by seed 0 of a separate stream, or ``Recipe.split_file``):

==================  ===========================  ==============================================
data set            train / valid / test         source
==================  ===========================  ==============================================
cifar10             25,000 / 25,000 / 10,000     NAS-Bench-201, section 2.2; 40,000 / 10,000 with
                                                 ``train_size=40000`` (NAS-Bench-101)
cifar100            50,000 / 5,000 / 5,000       NAS-Bench-201: valid and test halve the test set
imagenet16-120      151,700 / 3,000 / 3,000      NAS-Bench-201, likewise
FILE.npz            half / half / its test set   as cifar10
FOLDER              half / half / val or test    as cifar10; in memory, or streamed (folders.py)
imagenet            1,231,167 / 50,000 / val     streamed from ``$WSNAS_DATA/imagenet``, train/ and val/
digits              6,000 / 4,000 / 4,000        made here, see ``digits``
faint-digits        6,000 / 4,000 / 4,000        the same images, labelled by their weaker digit
more-digits         60,000 / 10,000 / 20,000     more such images, of the same handwritten digits
==================  ===========================  ==============================================

Each part is shuffled once, by a fixed seed, because its first images calibrate and score submodels and a file may be
sorted by class. Only the digits are kept as they are made: in random order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsnas.data.cifar import cifar, official_copy
from wsnas.data.digits import MORE, digits
from wsnas.data.fingerprint import Version, version_of
from wsnas.data.images import Images, Labels, Pixels, Source, Splits
from wsnas.errors import WsnasError
from wsnas.files import files_in, home, read_file, read_npz
from wsnas.pickles import read_pickle
from wsnas.randomness import numpy_rng
from wsnas.recipe import Recipe
from wsnas.words import did_you_mean

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
PIXELS = 1 << 26  # of one image: a third of a gigabyte while it is decoded


def data_root() -> Path:
    """The folder of data sets: ``$WSNAS_DATA``, else ``~/.cache/wsnas``."""
    return home("WSNAS_DATA", ".cache")


def load_splits(recipe: Recipe, device: torch.device) -> Splits:
    """The recipe's data set, split and on the device. Raises WsnasError if it is missing or malformed."""
    source = _source(recipe.dataset)
    classes = int(max(source.train[1].max(), source.test[1].max())) + 1
    train, test, n = source.train, source.test, len(source.train[1])
    if source.valid is not None:  # the digits: in random order already, which the shipped ground truth depends on
        if recipe.split_file is not None:
            raise WsnasError(f"{recipe.dataset} has its own split; leave out the split file {recipe.split_file}")
        valid, train = source.valid, _take(train, np.arange(training_images(recipe, n, n)))
    elif source.halve_test:
        first, second = two_parts(len(test[1]), len(test[1]) // 2, recipe.split_file, ("xvalid", "xtest"))
        valid, test = _take(test, first), _take(test, second)
        train = _take(train, shuffled(n)[: training_images(recipe, n, n)])
    else:
        first, second = two_parts(n, training_images(recipe, n, n // 2), recipe.split_file, ("train", "valid"))
        train, valid, test = _take(train, first), _take(train, second), _take(test, shuffled(len(test[1])))
    pixels = torch.from_numpy(train[0]).reshape(-1, train[0].shape[-1])
    mean = torch.stack([channel.double().mean() for channel in pixels.T]).float()
    std = torch.stack([channel.double().std(correction=0) for channel in pixels.T]).float().clamp_min(1.0)
    on_device = [Images(*part, mean, std, device) for part in (train, valid, test)]
    return Splits(on_device[0], on_device[1], on_device[2], classes)


CIFAR = ("cifar10", "cifar100")
HALVED = ("cifar100", "imagenet16-120")  # their test images are split into validation and test, as in NAS-Bench-201
KNOWN = {
    "digits": (10, 1, 8, 8),
    "faint-digits": (10, 1, 8, 8),
    "more-digits": (10, 1, 8, 8),
    "cifar10": (10, 3, 32, 32),
    "cifar100": (100, 3, 32, 32),
    "imagenet16-120": (120, 3, 16, 16),
    "imagenet": (1000, 3, 224, 224),  # as it is streamed (folders.py)
}


def shape_of(dataset: str) -> tuple[int, int, int, int]:
    """(classes, channels, height, width) of a data set's images, in pixels: what a network's head and stem need."""
    return KNOWN[dataset] if dataset in KNOWN else _shape_of_file(dataset, version_of(Path(dataset)))


@cache
def _shape_of_file(dataset: str, version: Version) -> tuple[int, int, int, int]:
    source = _source(dataset)  # cached: counting the parameters of a whole space needs it often
    _, height, width, channels = source.train[0].shape
    return int(max(source.train[1].max(), source.test[1].max())) + 1, channels, height, width


def nearest(dataset: str, known: Iterable[str]) -> str:
    """A hint for a data set that is no path, as ``did_you_mean``."""
    return "" if Path(dataset).name != dataset or Path(dataset).suffix else did_you_mean(dataset, known)


def _no_such(dataset: str) -> WsnasError:
    hint = nearest(dataset, KNOWN)
    if hint:
        return WsnasError(f"no data set '{dataset}'{hint}")
    return WsnasError(
        f"no data set '{dataset}': use {', '.join(KNOWN)}, or the path of a .npz file (train_images "
        "uint8 [N,H,W,3], train_labels, test_images, test_labels) or image folder (train/, val/)"
    )


def is_there(dataset: str) -> bool:
    """Whether a data set is one of those known by name, or a file or folder that exists."""
    return dataset in KNOWN or Path(dataset).exists()


def place_of(dataset: str) -> Path | None:
    """The file or folder a data set is read from; None if it is installed, or official files whose md5 is checked."""
    if dataset not in KNOWN:
        return Path(dataset)
    if dataset not in CIFAR:
        return None
    copy, parquet = data_root() / f"{dataset}.npz", data_root() / dataset
    if copy.exists():
        return copy
    return parquet if parquet.exists() and not official_copy(data_root(), dataset) else None


def _source(dataset: str) -> Source:
    if dataset in ("digits", "faint-digits"):
        return digits(faint=dataset == "faint-digits")
    if dataset == "more-digits":
        return digits(sizes=MORE)
    if dataset in CIFAR:
        copy = data_root() / f"{dataset}.npz"
        source = npz(copy) if copy.is_file() else cifar(data_root(), dataset)
        return replace(source, halve_test=dataset in HALVED)
    if dataset == "imagenet16-120":
        return imagenet16(data_root() / "ImageNet16")
    if dataset == "imagenet":
        raise WsnasError("imagenet does not fit into memory: choose a space that streams image folders, and --size")
    path = Path(dataset)
    if path.is_dir():
        return folder(path)
    if path.suffix == ".npz" and path.is_file():
        return npz(path)
    raise _no_such(dataset)


def _take(part: tuple[Pixels, Labels], index: NDArray[np.int64]) -> tuple[Pixels, Labels]:
    return part[0][index], part[1][index]


def shuffled(n: int) -> NDArray[np.int64]:
    """The indices 0 to n - 1 in a random order that is always the same."""
    return numpy_rng(0, "split", n).permutation(n)


def training_images(recipe: Recipe, n: int, default: int) -> int:
    """How many of a data set's ``n`` training images the recipe trains on. Raises WsnasError if it has too few."""
    count = default if recipe.train_size is None else recipe.train_size
    if not 0 < count <= n:
        raise WsnasError(f"{recipe.dataset} has {n} training images; train_size={count} is out of range")
    return count


def _index(written: Any) -> int:
    """An index as text or an integer. Raises ValueError for anything else: ``int`` would cut 1.5."""
    if not isinstance(written, str) and type(written) is not int:
        raise ValueError(f"{str(written)[:40]} is not an integer")
    return int(written)


def two_parts(
    n: int, first: int, split_file: str | None, names: tuple[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of two disjoint parts, both shuffled: from the authors' file, else drawn; always the same."""
    order = shuffled(n)
    if split_file is None:
        return order[:first], order[first:]
    try:  # NAS-Bench-201's configs: {"train": ["int", ["0", "2", ...]], "valid": [...]}
        stored = json.loads(read_file(Path(split_file), 1 << 28))
        parts = [np.array([_index(i) for i in stored[name][1]], dtype=np.int64) for name in names]
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise WsnasError(
            f"cannot read the split file {split_file}: it must be NAS-Bench-201's JSON with '{names[0]}' and "
            f"'{names[1]}' ({error})"
        ) from error
    together = np.concatenate(parts)
    if not (len(parts[0]) and len(parts[1])):
        raise WsnasError(f"the split file {split_file} leaves '{names[0]}' or '{names[1]}' without images")
    if len(np.unique(together)) != len(together) or together.min() < 0 or together.max() >= n:
        raise WsnasError(f"the split file {split_file} must name each of the {n} images at most once")
    return order[np.isin(order, parts[0])], order[np.isin(order, parts[1])]


IMAGENET16_MD5 = {
    "train_data_batch_1": "27846dcaa50de8e21a7d1a35f30f0e91",
    "train_data_batch_2": "c7254a054e0e795c69120a5727050e3f",
    "train_data_batch_3": "4333d3df2e5ffb114b05d2ffc19b1e87",
    "train_data_batch_4": "1620cdf193304f4a92677b695d70d10f",
    "train_data_batch_5": "348b3c2fdbb3940c4e9e834affd3b18d",
    "train_data_batch_6": "6e765307c242a1b3d7d5ef9139b48945",
    "train_data_batch_7": "564926d8cbf8fc4818ba23d2faac7564",
    "train_data_batch_8": "f4755871f718ccb653440b9dd0ebac66",
    "train_data_batch_9": "bb6dd660c38c58552125b1a92f86b5d4",
    "train_data_batch_10": "8f03f34ac4b42271a294f91bf480f29b",
    "val_data": "3410e3017fdaefba8d5073aaa65e4bd6",
}


def imagenet16(root: Path, md5: dict[str, str] = IMAGENET16_MD5, classes: int = 120) -> Source:
    """ImageNet16-120 from its official pickled batches: the md5 of each file is checked before it is read."""
    train: list[tuple[Pixels, Labels]] = []
    test: list[tuple[Pixels, Labels]] = []
    for name, expected in md5.items():
        path = root / name
        try:
            content = read_file(path, 1 << 28)
        except OSError as error:
            raise WsnasError(
                f"ImageNet16-120 needs the official file {path} ({error.strerror}): it is part of the training data "
                "linked at github.com/D-X-Y/NAS-Bench-201"
            ) from error
        if hashlib.md5(content).hexdigest() != expected:
            raise WsnasError(f"{path} is not the official file (md5 differs); download it again")
        batch = read_pickle(content, path)
        try:
            labels = np.asarray(batch["labels"], dtype=np.int64) - 1  # published 1-based
            pixels = np.asarray(batch["data"], dtype=np.uint8).reshape(len(labels), 3, 16, 16).transpose(0, 2, 3, 1)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WsnasError(f"{path} is not a batch of ImageNet16 ({type(error).__name__}: {error})") from error
        kept = labels < classes
        (test if name == "val_data" else train).append((pixels[kept], labels[kept]))
    joined = [(np.concatenate([p for p, _ in part]), np.concatenate([y for _, y in part])) for part in (train, test)]
    return Source(joined[0], joined[1], halve_test=True)


def _npz_arrays(path: Path, names: tuple[str, ...]) -> list[NDArray[Any]]:
    try:
        return [*read_npz(path, names).values()]
    except Exception as error:  # a malformed file can raise nearly anything
        raise WsnasError(
            f"cannot read {path}: a .npz data set holds train_images uint8 [N,H,W,3], train_labels [N], test_images, "
            f"test_labels ({error})"
        ) from error


def npz(path: Path) -> Source:
    """A data set from a ``.npz`` file with ``{train,test}_images`` uint8 [N,H,W,3] and ``{train,test}_labels`` [N]."""
    parts = []
    for part in ("train", "test"):
        pixels, labels = _npz_arrays(path, (f"{part}_images", f"{part}_labels"))
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise WsnasError(f"{path}: {part}_images must be uint8 [N,H,W,3], not {pixels.dtype} {list(pixels.shape)}")
        if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu" or len(labels) == 0 or labels.min() < 0:
            raise WsnasError(
                f"{path}: {part}_labels must be {len(pixels)} integers from 0, one per image, "
                f"not {labels.dtype} {list(labels.shape)}"
            )
        if 0 in pixels.shape:
            raise WsnasError(f"{path}: {part}_images {list(pixels.shape)} have no pixels")
        parts.append((pixels, labels))
    images = sum(len(labels) for _, labels in parts)
    highest = max(int(labels.max()) for _, labels in parts)
    if highest >= images:
        raise WsnasError(f"{path}: a label is {highest}, but {images} images have at most {images} classes, from 0")
    lowest = min(int(labels.min()) for _, labels in parts)
    if lowest > 0:
        raise WsnasError(f"{path}: the lowest label is {lowest}: classes are counted from 0, so subtract {lowest}")
    parts = [(pixels, labels.astype(np.int64)) for pixels, labels in parts]
    if parts[0][0].shape[1:] != parts[1][0].shape[1:]:
        raise WsnasError(f"{path}: training and test images differ in size")
    return Source(parts[0], parts[1])


def class_folders(path: Path) -> list[str]:
    """The names of the class folders in ``path``, in order; hidden ones (``.ipynb_checkpoints``) are no classes."""
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")] if path.is_dir() else []
    broken = sorted(entry for entry in entries if entry.is_symlink() and not entry.exists())
    if broken:  # left out, it would shift the labels
        raise WsnasError(f"{broken[0]} is a link to {os.readlink(broken[0])}, which does not exist")
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise WsnasError(f"{path} must hold one folder of images for each class")
    return names


def image_files(path: Path) -> tuple[list[str], tuple[list[str], Labels], tuple[list[str], Labels]]:
    """Classes of an image folder; files and labels [N] int64 of its ``train/``, and of its ``test/`` or ``val/``."""
    classes = class_folders(path / "train")
    parts = []
    for part in ("train", "test" if (path / "test").is_dir() else "val"):
        unknown = sorted({*class_folders(path / part)} - {*classes})
        if unknown:
            raise WsnasError(f"{path / part / unknown[0]} is not a class of {path / 'train'}")
        found = [files_in(path / part / name) for name in classes]
        files = [file for own in found for file in own]
        if not files:
            raise WsnasError(f"{path / part} holds no images in the folders {', '.join(classes[:3])} ...")
        empty = [name for name, own in zip(classes, found, strict=True) if not own]
        if empty and part == "train":
            raise WsnasError(f"the class {path / part / empty[0]} holds no images: add some, or remove its folder")
        parts.append((files, np.repeat(np.arange(len(classes), dtype=np.int64), [len(own) for own in found])))
    return classes, parts[0], parts[1]


def opened(file: str) -> Any:
    """A pillow image of one of ``FORMATS``, not yet decoded. Raises OSError or ValueError for anything else.

    Without the list pillow would hand an EPS file to Ghostscript, whatever its name.
    """
    from PIL import Image

    if not os.path.isfile(file):
        raise ValueError("it is no regular file")
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > PIXELS:
        image.close()
        raise ValueError(f"its {image.width} x {image.height} pixels are more than {PIXELS:,}")
    return image


def rgb(image: Any, box: tuple[int, int, int, int] | None = None) -> Pixels:
    """A pillow image, or its ``box`` (left, top, right, bottom; as stored), as uint8 [height, width, 3].

    Turned upright if its EXIF orientation says so. 16-bit grey keeps its upper eight bits, as pillow does with 16-bit
    colours. Raises ValueError for 32-bit and float pixels, whose range no file tells.
    """
    from PIL.Image import Transpose

    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")  # pillow < 11 opens it as I
    if image.mode in ("I", "F") and not deep:
        raise ValueError(f"its pixels are {'floats' if image.mode == 'F' else '32-bit'}: save it with 8 or 16 bits")
    part = image.crop((0, 0, *image.size) if box is None else box)
    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(image.getexif().get(0x0112))  # after the crop: pillow itself turns a TIFF when it loads it
    if turn is not None:
        part = part.transpose(turn)
    if deep:
        return np.repeat((np.asarray(part) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(part.convert("RGB"))


def folder(path: Path) -> Source:
    """A small image folder, ``train/CLASS/*`` and ``val/`` or ``test/CLASS/*``, read into memory.

    All images must have the size of the first; larger data sets stream instead (folders.py).
    """
    _, *listed = image_files(path)
    parts = []
    size: tuple[int, ...] | None = None
    for files, labels in listed:
        pixels: list[Pixels] = []
        for file in files:
            try:
                with opened(file) as image:
                    pixels.append(rgb(image))
            except Exception as error:  # a malformed image can raise nearly anything
                raise WsnasError(f"cannot decode the image {file} ({error})") from error
            size = pixels[0].shape if size is None else size
            if pixels[-1].shape != size:
                raise WsnasError(f"{file} is {pixels[-1].shape[:2]}, but the first image is {size[:2]}: resize them")
        parts.append((np.stack(pixels), labels))
    order = numpy_rng(0, "folder").permutation(len(parts[0][1]))  # of the files that folders.py splits
    return Source(_take(parts[0], order), parts[1])
