"""A cheap fingerprint of the files a data set is read from, so that a run notices when they have changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from wsnas.files import files_in

WHOLE = 64 << 20  # bytes that are read completely
SOME, PIECE = 64, 64 << 10  # of more: so many files and pieces of each; bytes of a piece


Version = tuple[tuple[str, int, int, int], ...]


def version_of(place: Path) -> Version:
    """Tells a file, or a folder and what is in it, from an earlier one in its place by names, times, sizes and numbers.

    Cheap, but for one process only: a copy has another version, and a file replaced deep in a folder is not noticed.
    Empty if it cannot be read, which whoever reads it will say.
    """
    try:
        within = sorted(place.iterdir()) if place.is_dir() else []
        found = [(one.name, one.stat()) for one in (place, *within)]
    except OSError:
        return ()
    return tuple((name, one.st_mtime_ns, one.st_size, one.st_ino) for name, one in found)


def fingerprint(place: Path) -> str | None:
    """Sixteen hex digits of the content of a file, a folder of files, or an image folder; None if it does not exist.

    The names and sizes of all files (of an image folder: of training and test images), and their bytes; above 64 MiB
    in all, 64 pieces of 64 files. Times and the place itself do not matter.
    """
    if not place.exists():
        return None
    files = [str(place)] if place.is_file() else files_in(place)
    if (place / "train").is_dir():
        test = "test" if (place / "test").is_dir() else "val"
        files = [file for part in ("train", test) for file in files_in(place / part)]
    sizes = [os.path.getsize(file) for file in files]
    found = hashlib.blake2b(digest_size=8)
    for file, size in zip(files, sizes, strict=True):
        found.update(f"{os.path.relpath(file, place)} {size}\n".encode(errors="surrogateescape"))
    whole = sum(sizes) <= WHOLE
    for i in range(len(files)) if whole else np.unique(np.linspace(0, len(files) - 1, SOME).astype(int)).tolist():
        with open(files[i], "rb") as content:
            if whole or sizes[i] <= SOME * PIECE:
                found.update(content.read())
            else:
                for start in np.linspace(0, sizes[i] - PIECE, SOME).astype(int).tolist():  # the last ends with the file
                    content.seek(start)
                    found.update(content.read(PIECE))
    return found.hexdigest()
