"""Writing a file whole or not at all; reading one up to a stated size; listing all files of a folder."""

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

WINDOWS = ("thumbs.db", "desktop.ini")  # what its file manager leaves beside images


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces ``path`` with ``content``; a crash or a full disk leaves the old file intact."""
    if not path.name:
        raise WsnasError(f"{path} is a folder: name a file in it")
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

    Raises OSError or ValueError if it cannot be read (EOFError, zlib.error: unpacked), and WsnasError if this user may
    not read it, if it is a device or a pipe, which might never end, or if it holds more than ``most`` bytes.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise WsnasError(f"{path} is not a regular file")
        opened = open(path, "rb")  # noqa: SIM115 (closed below)
    except PermissionError as error:
        raise cannot_read(path, error) from error
    with opened as file:
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


def files_in(folder: Path) -> list[str]:
    """All files below ``folder``, in order, also through links; without hidden ones, and without ``WINDOWS``.

    Raises WsnasError if one of its folders cannot be listed, or something is neither a file nor a folder.
    """
    found, seen = [], set()
    for where, inside, files in os.walk(folder, onerror=_unlisted, followlinks=True):
        seen.add(os.path.realpath(where))
        inside[:] = [n for n in inside if n[0] != "." and os.path.realpath(os.path.join(where, n)) not in seen]
        found += [os.path.join(where, file) for file in files if file[0] != "." and file.lower() not in WINDOWS]
    for file in found:
        try:
            regular = stat.S_ISREG(os.stat(file).st_mode)
        except PermissionError as error:
            raise cannot_read(Path(file), error) from error
        except OSError:
            regular = False
        if not regular:  # reading a pipe would wait for ever
            raise WsnasError(f"{file} is no regular file, or a link to none: remove it")
    return sorted(found)


def _unlisted(error: OSError) -> None:
    """For ``os.walk``, which passes over a folder that it cannot list."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise cannot_read(Path(error.filename), error) from error


def cannot_read(path: Path, error: OSError) -> WsnasError:
    why = "make it, and the folders above it, readable" if isinstance(error, PermissionError) else "it is unchanged"
    return WsnasError(f"cannot read {path} ({error.strerror or error}): {why}")


def cannot_write(path: Path, error: OSError) -> WsnasError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return WsnasError(
        f"cannot write {path} ({error.strerror or error}): existing files are intact; "
        f"{'free some disk space or ' if full else ''}choose another folder, then run the same command again"
    )
