"""Writing a file whole or not at all; reading one up to a stated size."""

from __future__ import annotations

import bz2
import errno
import gzip
import math
import os
import stat
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsnas.errors import WsnasError


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces ``path`` with ``content``; a crash or a full disk leaves the old file intact."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):  # fails if the folder could not be created
            temporary.unlink()
        raise cannot_write(path, error) from error


def _sync(folder: Path) -> None:
    """Makes a new name in ``folder`` survive a power cut, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_file(path: Path, most: int, packed: bool = False) -> bytes:
    """The content of a regular file. ``packed``: of what is in it, if it begins as a gzip or bzip2 file does.

    Raises OSError or ValueError if it cannot be read (EOFError, zlib.error: unpacked), and WsnasError if it is a device
    or a pipe, which might never end, or holds more than ``most`` bytes.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise WsnasError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        begin = file.read(3) if packed else b""
        file.seek(0)
        if begin[:2] == b"\x1f\x8b":
            return at_most(gzip.GzipFile(fileobj=file), most, path)
        return at_most(bz2.BZ2File(file) if begin == b"BZh" else file, most, path)


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def at_most(file: Readable, most: int, path: Path | str) -> bytes:
    """The rest of a file. Raises WsnasError once it holds more than ``most`` bytes: it may be a decompression bomb."""
    parts, size = [], 0
    while part := file.read(min(1 << 20, most + 1)):
        parts.append(part)
        size += len(part)
        if size > most:
            raise WsnasError(f"{path} holds more than {most / 1e6:,.0f} MB, the most that is read of such a file")
    return b"".join(parts)


def home(variable: str, below: str) -> Path:
    """The folder that an environment variable names, else ``~/BELOW/wsnas``."""
    try:
        return Path(os.environ.get(variable, f"~/{below}/wsnas")).expanduser()
    except RuntimeError as error:  # a container's user without a name
        raise WsnasError(f"this user has no home directory: set {variable} to a folder") from error


def unpacked_at_most(path: Path, least: int = 256_000_000) -> int:
    """How many bytes a packed file may hold: ``least``, or thirty times its size, which no text or images exceed."""
    return max(least, 30 * path.stat().st_size)


def read_npz(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file of these names; by default all. Raises whatever a malformed file makes zipfile raise.

    Before an array is made, what its header claims is compared with what the file holds.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a regular file")
    found = {}
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > unpacked_at_most(path):
            raise ValueError("it holds too many bytes for its size")
        if len(set(archive.namelist())) < len(archive.namelist()):
            raise ValueError("it holds an array twice")
        for name in [entry.removesuffix(".npy") for entry in archive.namelist()] if names is None else names:
            with archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, kind = read_header[version](file)
                if kind.itemsize * math.prod(shape) > archive.getinfo(f"{name}.npy").file_size and not kind.hasobject:
                    raise ValueError(f"{name} claims {shape} numbers, more than the file has")
            with archive.open(f"{name}.npy") as file:
                found[name] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def cannot_write(path: Path, error: OSError) -> WsnasError:
    forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return WsnasError(
        f"cannot write {path} ({error.strerror or error}): existing files are intact; "
        f"{'' if forbidden else 'free some disk space or '}choose another folder, then run the same command again"
    )
