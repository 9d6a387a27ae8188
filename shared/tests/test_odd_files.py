"""Data files that are odd, damaged or hostile: read as they should be, or refused in one sentence."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsnas.data.folders import StreamedImages
from wsnas.data.sources import data_root, folder, npz, two_parts
from wsnas.errors import WsnasError
from wsnas.files import atomic_write
from wsnas.overview import overview
from wsnas.studies.explorer import read_panels
from wsnas.studies.report import read_study
from wsnas.table import import_home

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One image of a class to train, one to validate."""
    for part in ("train", "val"):
        (tmp_path / "set" / part / "cat").mkdir(parents=True)
        Image.fromarray(PIXELS).save(tmp_path / "set" / part / "cat" / "0.png")
    return tmp_path / "set"


def streamed(file: Path) -> Any:
    """The image as a streamed folder reads it: float32 [1, 3, 8, 8]."""
    ((x, _),) = StreamedImages([str(file)], np.zeros(1, dtype=np.int64), 8, CPU).ordered(1)
    return x


def png_of(width: int, height: int) -> bytes:
    """A black PNG of any size, of a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(min((3 * width + 1) * height, 1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n(made) (w) file closefile\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["0.PNG", "0.JPEG", "0.tar.png", "no suffix", "ünï çødé.png", "a" * 240 + ".png"])
def test_an_image_is_known_by_its_content_not_its_name(images: Path, name: str) -> None:
    (images / "train/cat/0.png").rename(images / "train/cat" / name)
    assert np.array_equal(folder(images).train[0][0], PIXELS)
    assert streamed(images / "train/cat" / name).shape == (1, 3, 8, 8)


def test_of_an_animated_image_the_first_frame_counts(images: Path) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (200, 10)]
    frames[0].save(images / "train/cat/0.png", "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(folder(images).train[0][0], np.full((16, 16, 3), 200))
    assert streamed(images / "train/cat/0.png").min() > 1


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "I;16", "LA"])
def test_every_kind_of_image_is_read_into_memory_in_three_colours(images: Path, mode: str) -> None:
    """As it is streamed (test_folders.py); by each pixel's own value, or within what the kind of file can hold."""
    grey = PIXELS.mean(2).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode in ("L", "LA", "1"):
        image = Image.fromarray(np.where(grey > 127, 255, 0).astype(np.uint8) if mode == "1" else grey).convert(mode)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
    assert image.mode == mode
    image.save(images / "train/cat/0.png", "TIFF" if mode == "CMYK" else "PNG")
    (found,) = folder(images).train[0]
    if mode == "P":  # as pillow itself sees its palette
        expected = np.asarray(image.convert("RGB"))
    elif mode in ("CMYK", "RGBA"):
        expected = PIXELS
    else:
        expected = np.repeat((np.where(grey > 127, 255, 0) if mode == "1" else grey)[..., None], 3, axis=2)
    assert found.shape == (16, 16, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_truncated_image_is_refused_in_memory_too(images: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = images / "train/cat/0.png"
    for kind in ("PNG", "JPEG"):
        Image.fromarray(noise).save(file, kind)
        file.write_bytes(file.read_bytes()[:3000])
        for read in (lambda: folder(images), lambda: streamed(file)):
            with pytest.raises(WsnasError, match=r"(?s)cannot decode the image .*0\.png"):
                read()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (EPS, "cannot identify"),
        (png_of(30_000, 30_000), "pixels|decompression bomb"),
        (png_of(9_000, 9_000), "pixels"),
        (b"", "cannot identify"),
        (bytes(1000), "cannot identify"),
    ],
    ids=["EPS", "a bomb", "a smaller bomb", "empty", "Thumbs.db"],
)
def test_what_is_no_image_or_too_large_is_refused(images: Path, content: bytes, says: str) -> None:
    file = images / "train/cat/0.png"
    file.write_bytes(content)
    for read in (lambda: folder(images), lambda: streamed(file)):
        with pytest.raises(WsnasError, match=rf"(?s)cannot decode the image .*0\.png.*({says})"):
            read()


def test_a_pipe_among_images_is_refused_at_once(images: Path) -> None:
    os.mkfifo(images / "train/cat/1.png")
    with pytest.raises(WsnasError, match=r"1\.png is no regular file"):
        folder(images)
    with pytest.raises(WsnasError, match="regular file"):
        streamed(images / "train/cat/1.png")


def arrays(**changes: Any) -> dict[str, Any]:
    good = {
        "train_images": np.zeros((6, 4, 4, 3), np.uint8),
        "train_labels": np.arange(6) % 3,
        "test_images": np.zeros((4, 4, 4, 3), np.uint8),
        "test_labels": np.arange(4) % 2,
    }
    return {**good, **changes}


def test_more_classes_in_test_than_in_training_count(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays(test_labels=np.array([0, 1, 5, 2])))  # six images train, of classes 0 to 2
    source = npz(tmp_path / "d.npz")
    assert (source.train[1].max(), source.test[1].max()) == (2, 5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_labels": np.array([0, 1, 10**9, 0, 1, 2])}, "a label is 1000000000"),
        ({"train_labels": np.arange(6) % 3 + 1, "test_labels": np.arange(4) % 2 + 1}, "so subtract 1"),
        ({"train_images": np.zeros((6, 0, 0, 3), np.uint8)}, "no pixels"),
        ({"test_images": np.zeros((4, 4, 4, 3), "M8[s]")}, "must be uint8"),
        ({"train_labels": np.array(["a"] * 6)}, "must be 6 integers"),
    ],
    ids=["label 1e9", "labels from 1", "no pixels", "dates", "text"],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays(**changes))
    with pytest.raises(WsnasError, match=says):
        npz(tmp_path / "d.npz")


@pytest.mark.parametrize("kind", ["1 TB", "no array", "no name", "a bomb", "objects", "encrypted", "a version"])
def test_an_npz_that_lies_is_refused(tmp_path: Path, kind: str) -> None:
    np.savez(tmp_path / "good.npz", **arrays())
    with zipfile.ZipFile(tmp_path / "good.npz") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    images = entries["train_images.npy"]
    if kind == "1 TB":
        entries["train_images.npy"] = images.replace(b"(6, 4, 4, 3), }          ", b"(6000000000, 64, 3), }   ")
        assert entries["train_images.npy"] != images
    elif kind == "no array":
        entries["train_images.npy"] = b"hello"
    elif kind == "no name":
        entries["train_images"] = entries.pop("train_images.npy")
    elif kind == "a bomb":
        entries["more.npy"] = bytes(300 << 20)
    elif kind == "objects":
        buffer = io.BytesIO()
        np.save(buffer, np.array([{}] * 6, dtype=object), allow_pickle=True)
        entries["train_labels.npy"] = buffer.getvalue()
    elif kind == "a version":
        entries["train_images.npy"] = images[:6] + b"\x09" + images[7:]
    with zipfile.ZipFile(tmp_path / "bad.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    if kind == "encrypted":
        content = bytearray((tmp_path / "bad.npz").read_bytes())
        for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            content[content.index(mark) + offset] |= 1
        (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(WsnasError, match=r"cannot read .*bad\.npz"):
        npz(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "content", ["[" * 3000, '{"train": 3}', '{"train": ["int", ' + "[" * 3000, "\0", '{"train": ["int", [1e400]]}']
)
def test_a_split_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(WsnasError, match=r"cannot read the split file .*s\.json"):
        two_parts(10, 5, str(tmp_path / "s.json"), ("train", "valid"))
    with pytest.raises(WsnasError, match="not a regular file"):
        two_parts(10, 5, "/dev/zero", ("train", "valid"))


def test_a_user_without_a_home_needs_the_variables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``docker run -u 12345``."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for a user it does not know
    for name, read in (("WSNAS_DATA", data_root), ("WSNAS_TABLES", import_home)):
        monkeypatch.setenv(name, "/somewhere")
        assert read() == Path("/somewhere")
        monkeypatch.delenv(name)
        with pytest.raises(WsnasError, match=f"no home directory: set {name}"):
            read()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", "[" * 100_000, '{"study": []}', '{"study": "capacity"}', '{"study": "x", "settings": 3}',
     '{"study": "operators", "settings": {}, "results": [1], "verdicts": [{"claim": []}], "environment": {}}',
     '{"study": "tricks", "settings": {}, "results": {"nb201": {"rows": [{}]}}, "verdicts": [], "environment": {}}'],
)  # fmt: skip
def test_results_of_another_form_are_refused_in_the_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(WsnasError, match="does not hold a finished study"):
        read_study(tmp_path)
    try:
        assert read_panels(tmp_path) == []
    except WsnasError as error:
        assert "holds no architectures" in str(error)  # noqa: PT017


VERDICT = {"claim": "c", "source": "s", "space": "nb201", "rule": "r", "measured": "m", "verdict": "holds"}


@pytest.mark.parametrize(
    "damage",
    [{"title": [1]}, {"answer": ["a"]}, {"source": {"a": 1}}, {"verdicts": [{**VERDICT, "verdict": "maybe"}]},
     *({"settings": {"nb201": {"dataset": "x", **of}}} for of in ({"truth": {"a": 2}}, {"truth_epochs": [1]}))],
)  # fmt: skip
def test_a_part_of_another_type_is_refused_in_the_report(tmp_path: Path, damage: dict[str, Any]) -> None:
    (tmp_path / "capacity.png").write_bytes(png_of(4, 4))
    good = {"study": "capacity", "settings": {"nb201": {"dataset": "x"}}, "verdicts": [VERDICT], "environment": {}}
    for stored in (good, {**good, **damage}):
        (tmp_path / "results.json").write_text(json.dumps(stored))
        with nullcontext() if stored is good else pytest.raises(WsnasError, match="does not hold a finished study"):
            assert read_study(tmp_path).name == "capacity"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 100_000, '{"study": "x", "verdicts": []}', '{"study": "x", "verdicts": 3, "command": "y"}', None],
    ids=["empty", "a list", "nested", "no command", "a number", "a pipe"],
)
def test_another_programs_results_are_not_listed(tmp_path: Path, content: str | None) -> None:
    """``wsnas runs`` looks at every results.json below a folder; the study beside it is listed."""
    for name in ("other", "study"):
        (tmp_path / name).mkdir()
    if content is None:
        os.mkfifo(tmp_path / "other/results.json")
    else:
        (tmp_path / "other/results.json").write_text(content)
    (tmp_path / "study/results.json").write_text('{"study": "epochs", "verdicts": [{}, {}], "command": "nox"}')
    (found,) = overview(tmp_path)
    assert (found.path, found.what, found.progress) == (tmp_path / "study", "study epochs", "2 verdicts")


def test_a_pipe_is_no_figure(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"spearman": 0.5}')
    os.mkfifo(tmp_path / "figure.png")
    with pytest.raises(WsnasError, match=r"figure\.png is not a regular file"):
        read_study(tmp_path)


def test_a_write_reaches_the_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it gets its name, and the folder after."""
    calls: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda d: (calls.append("folder" if stat.S_ISDIR(os.fstat(d).st_mode) else "file"), sync(d))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("name"), replace(a, b)))
    atomic_write(tmp_path / "x", b"content")
    assert calls == ["file", "name", "folder"]
