"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from wsnas.errors import WsnasError


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces ``path`` with ``content``; a crash or a full disk leaves what was there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # where the folder itself cannot be, neither can this
            temporary.unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> WsnasError:
    return WsnasError(
        f"cannot write {path} ({error.strerror or error}): what was there before is intact; "
        "free some space or choose another place, then run the same command again"
    )
