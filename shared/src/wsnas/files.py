"""Writing a file whole or not at all; reading a pickle without running it."""

from __future__ import annotations

import io
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    except OSError as error:
        with suppress(OSError):  # fails if the folder could not be created
            temporary.unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> WsnasError:
    return WsnasError(
        f"cannot write {path} ({error.strerror or error}): existing files are intact; "
        "free some disk space or choose another folder, then run the same command again"
    )


NUMPY_PICKLE = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict")}
NUMPY_PICKLE |= {(f"numpy.{core}.multiarray", n) for core in ("core", "_core") for n in ("_reconstruct", "scalar")}


def safe_pickle(content: bytes, path: Path) -> Any:
    """Unpickles plain containers, numbers, strings and NumPy arrays; refuses everything else by name."""

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in NUMPY_PICKLE:
                return super().find_class(module, name)
            raise WsnasError(
                f"refused to read {path}: its pickle asks for {module}.{name}, which plain data do not need and "
                "which could run code; download the file from its publisher again"
            )

    try:
        return Reader(io.BytesIO(content), encoding="latin1").load()
    except WsnasError:
        raise
    except Exception as error:  # a malformed pickle can raise nearly anything
        raise WsnasError(f"{path} is truncated or not a pickle ({type(error).__name__}: {error})") from error
