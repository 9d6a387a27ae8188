"""wsnas: does weight sharing rank architectures the way training them does?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wsnas.errors import WsnasError

if TYPE_CHECKING:
    from wsnas.agreement import correlate, load_ground_truth
    from wsnas.evaluation import evaluate, submodel
    from wsnas.proxies import proxy_scores
    from wsnas.space import installed_spaces, load_space
    from wsnas.standalone import train_architecture
    from wsnas.supernet import load_supernet, train_supernet

__version__ = "0.1.0"
__all__ = [
    "WsnasError",
    "correlate",
    "evaluate",
    "installed_spaces",
    "load_ground_truth",
    "load_space",
    "load_supernet",
    "proxy_scores",
    "submodel",
    "train_architecture",
    "train_supernet",
]

_HOME = {
    "correlate": "agreement",
    "evaluate": "evaluation",
    "installed_spaces": "space",
    "load_ground_truth": "agreement",
    "load_space": "space",
    "load_supernet": "supernet",
    "proxy_scores": "proxies",
    "submodel": "evaluation",
    "train_architecture": "standalone",
    "train_supernet": "supernet",
}


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


def __getattr__(name: str) -> Any:
    """Loads a public name on first use, to keep ``wsnas --help`` from importing torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'wsnas' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f"wsnas.{_HOME[name]}"), name)
    globals()[name] = value
    return value
