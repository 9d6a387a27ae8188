"""CIFAR in every form in which it is handed round: the same images and labels."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100
from toy_space import MICRO

from wsnas.data.cifar import BINARY, MIRRORS, cifar, fetch, local_copy, read_parquet
from wsnas.data.sources import load_splits
from wsnas.errors import WsnasError
from wsnas.recipe import change_recipe

RNG = np.random.default_rng(0)
PARTS = [(RNG.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), RNG.integers(0, 10, n)) for n in (15, 4)]


def binary(root: Path, name: str, superclass: bool) -> str:
    """Writes an archive in the documented layout: label bytes, then red, green and blue planes. Returns its md5."""
    archive, buffer = BINARY[name], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for names, (pixels, labels) in zip((archive.train, archive.test), PARTS, strict=True):
            parts = zip(np.array_split(pixels, len(names)), np.array_split(labels, len(names)), strict=True)
            for member, (some, own) in zip(names, parts, strict=True):
                rows = [
                    bytes([7] * superclass + [label]) + image.transpose(2, 0, 1).tobytes()
                    for image, label in zip(some, own, strict=True)
                ]
                info = tarfile.TarInfo(member)
                info.size = sum(map(len, rows))
                tar.addfile(info, io.BytesIO(b"".join(rows)))
    (root / archive.name).write_bytes(buffer.getvalue())
    return hashlib.md5(buffer.getvalue()).hexdigest()


def parquet(root: Path, name: str, image: str, label: str) -> None:
    for part, (pixels, labels) in zip(("train", "test"), PARTS, strict=True):
        shards = zip(np.array_split(pixels, 2), np.array_split(labels, 2), strict=True)
        for number, (some, own) in enumerate(shards):
            stored = []
            for one in some:
                buffer = io.BytesIO()
                Image.fromarray(one).save(buffer, "PNG")
                stored.append({"bytes": buffer.getvalue(), "path": None})
            where = root / name / "plain_text" / f"{part}-0000{number}-of-00002.parquet"
            where.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({image: stored, label: own}), where)


@pytest.mark.parametrize("form", ["binary", "parquet"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_every_form_has_the_same_images(tmp_path: Path, name: str, form: str) -> None:
    archive = None
    if form == "binary":
        archive = BINARY[name]._replace(md5=binary(tmp_path, name, name == "cifar100"))
    else:
        columns = ("img", "label") if name == "cifar10" else ("img", "fine_label")
        parquet(tmp_path, name, *columns)
    found = local_copy(tmp_path, name, archive)
    assert found is not None
    for (pixels, labels), (expected, classes) in zip(found, PARTS, strict=True):
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(labels, classes)
        assert (pixels.dtype, labels.dtype) == (np.uint8, np.int64)


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = png((32, 32))


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        ([GOOD, png((33, 32))], [0, 1], "an image is 33x32"),
        ([GOOD, png((15_000, 15_000))], [0, 1], "DecompressionBomb|15000x15000"),
        ([GOOD, None], [0, 1], "UnidentifiedImageError"),
        ([GOOD, b"no image"], [0, 1], "UnidentifiedImageError"),
        ([GOOD, GOOD], [0, 10], "labels are 0 to 10"),
        ([GOOD, GOOD], [0, -1], "labels are -1 to 0"),
        ([GOOD, GOOD], [0, None], "labels are"),
        ([GOOD, GOOD], ["a", "b"], "ValueError"),
        ([], [], "ValueError"),
        ([GOOD] * 200_001, [0] * 200_001, "claims 200001 images"),
    ],
    ids=["another size", "a bomb", "null", "text", "a label", "a negative label", "no label", "words", "empty", "many"],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_a_parquet_file_that_is_no_cifar_is_refused(
    tmp_path: Path, images: list[bytes | None], labels: list[Any], says: str
) -> None:
    path = tmp_path / "train.parquet"
    kind = pa.array(images, pa.binary())
    pq.write_table(pa.table({"img": pa.StructArray.from_arrays([kind], ["bytes"]), "label": labels}), path)
    with pytest.raises(WsnasError, match=rf"train\.parquet is not a part of cifar10.*({says})"):
        read_parquet([path], "cifar10")


def test_a_pipe_is_no_cifar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.parquet")
    with pytest.raises(WsnasError, match="not a regular file"):
        read_parquet([tmp_path / "train.parquet"], "cifar10")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_python_archive_has_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Unpacked without network. The md5 sums are those of the small archive written here."""
    kind = CIFAR10 if name == "cifar10" else CIFAR100
    folder, lists = tmp_path / "made" / kind.base_folder, (kind.train_list, kind.test_list)
    folder.mkdir(parents=True)

    def write(file: str, content: object) -> str:
        (folder / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / file).read_bytes()).hexdigest()

    for attribute, files, (pixels, labels) in zip(("train_list", "test_list"), lists, PARTS, strict=True):
        parts = zip(np.array_split(pixels, len(files)), np.array_split(labels, len(files)), strict=True)
        key = "labels" if name == "cifar10" else "fine_labels"
        rows = [{"data": some.transpose(0, 3, 1, 2).reshape(-1, 3072), key: own.tolist()} for some, own in parts]
        sums = [[file, write(file, row)] for (file, _), row in zip(files, rows, strict=True)]
        monkeypatch.setattr(kind, attribute, sums)
    meta = {**kind.meta, "md5": write(kind.meta["filename"], {kind.meta["key"]: [str(i) for i in range(10)]})}
    monkeypatch.setattr(kind, "meta", meta)
    with tarfile.open(tmp_path / kind.filename, "w:gz") as tar:
        tar.add(folder, kind.base_folder)
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5((tmp_path / kind.filename).read_bytes()).hexdigest())
    monkeypatch.setattr("urllib.request.urlopen", None)
    source = cifar(tmp_path, name)
    for (pixels, labels), (expected, classes) in zip((source.train, source.test), PARTS, strict=True):
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(labels, classes)


def test_an_npz_file_of_that_name_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    (train, train_labels), (test, test_labels) = PARTS
    arrays = {"train_images": train, "train_labels": train_labels, "test_images": test, "test_labels": test_labels}
    np.savez(tmp_path / "cifar100.npz", **arrays)
    recipe = change_recipe(MICRO, dataset="cifar100", train_size=15)
    parts = load_splits(recipe, torch.device("cpu"))
    assert [len(part) for part in (parts.train, parts.valid, parts.test)] == [15, 2, 2]  # halves of the test set


def test_an_archive_with_other_content_is_refused(tmp_path: Path) -> None:
    binary(tmp_path, "cifar10", superclass=False)
    with pytest.raises(WsnasError, match=r"cifar-10-binary.tar.gz is not the official file"):
        cifar(tmp_path, "cifar10")


def test_the_mirror_is_asked_when_the_home_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(url: str, root: str, filename: str, md5: str) -> None:
        asked.append(url)
        assert md5 == "c58f30108f718f92721af3b95e74349a"
        if url == CIFAR10.url:
            raise OSError("no answer")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    fetch(CIFAR10, tmp_path, "cifar10")
    assert asked == [CIFAR10.url, MIRRORS["cifar10"]]


def test_nowhere_to_be_had_says_which_files_would_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, root: str, filename: str, md5: str) -> None:
        raise OSError("no answer")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    with pytest.raises(WsnasError, match=r"cifar-10-python.tar.gz, cifar-10-binary.tar.gz, cifar10.npz, or cifar10/"):
        cifar(tmp_path, "cifar10")
