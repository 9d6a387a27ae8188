"""Writing a file whole or not at all; reading one up to a stated size."""

from __future__ import annotations

import bz2
import gzip
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Protocol

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


def cannot_write(path: Path, error: OSError) -> WsnasError:
    return WsnasError(
        f"cannot write {path} ({error.strerror or error}): existing files are intact; "
        "free some disk space or choose another folder, then run the same command again"
    )
