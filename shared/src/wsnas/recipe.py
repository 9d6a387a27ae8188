"""How a network is trained, and everything else that decides a result besides the seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from wsnas.errors import WsnasError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Training:
    """How one network, supernet or stand-alone, is trained. Every number has its unit.

    A run's identity holds what differs from the defaults: they never change, and a new field must be off by
    default, so that it does not make old runs foreign.
    """

    epochs: int
    batch: int  # images a step, over all devices together
    lr: float  # initial learning rate
    decay: Literal["cosine-epoch", "cosine-step", "linear-step", "fixed"] = "cosine-epoch"  # to 0, stepped per ...
    warmup: float = 0.0  # fraction of all steps in which the learning rate rises linearly to ``lr`` (linear-step)
    average_last: float = 0.0  # the final weights are the mean over this last fraction of all steps; 0 is off
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0  # L2, on every trainable weight a step used
    clip: float = 0.0  # greatest L2 norm of the whole gradient; 0 is off
    flip: bool = False  # random horizontal flip, probability 1/2
    crop: int = 0  # pixels of black padding before a random crop back to size; 0 is off
    cutout: int = 0  # side of a square set to the mean colour; 0 is off
    colour_jitter: float = 0.0  # greatest relative change of brightness, contrast and saturation (streamed images)
    hue: float = 0.0  # greatest turn of the hue either way, in whole turns (streamed images, with colour_jitter)
    label_smoothing: float = 0.0  # probability spread over all classes
    no_decay_on_norms: bool = False  # no weight decay on batch norms
    optimizer: Literal["sgd", "rmsprop-tf"] = "sgd"  # RMSProp in TensorFlow's form: eps inside the square root
    rms_alpha: float = 0.9  # RMSProp's decay of the squared gradient's mean
    rms_eps: float = 1e-10
    auxiliary: float = 0.0  # weight of an auxiliary head's loss
    drop_path: float = 0.0  # probability of dropping a path at the end of training, rising linearly from 0
    bptt: int = 0  # tokens a sequence and step (text); the learning rate is scaled by the step's own length / bptt
    patience: int = 0  # epochs; averaging starts once validation is no better than all but the last this many; 0 is off


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a result besides the seed. A space adds its skeleton's sizes."""

    dataset: str  # one of ``datasets.KNOWN``, e.g. "cifar10", or the path of a .npz or folder
    supernet: Training
    standalone: Training
    calibration_batch: int  # images a calibration step (Table 2)
    calibration_steps: int  # 0: the space has no batch norm to calibrate
    evaluation_batch: int = 1000  # images a forward pass; no effect on the result
    train_size: int | None = None  # None: the data set's own split (images.py)
    valid_size: int | None = None  # how many validation images score a submodel; None: all
    split_file: str | None = None  # the benchmark authors' index file, in place of the seeded split
    max_macs: int | None = None  # multiply-adds above which an architecture is not drawn for evaluation; None: no limit

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def identity(self) -> dict[str, Any]:
        """What of ``to_json()`` is not a default: two recipes with one identity are one recipe."""
        return _beside_defaults(self)


def _beside_defaults(part: Any) -> dict[str, Any]:
    values = {field.name: (getattr(part, field.name), field.default) for field in dataclasses.fields(part)}
    return {
        name: _beside_defaults(value) if dataclasses.is_dataclass(value) else value
        for name, (value, default) in values.items()
        if value != default
    }


def change_recipe(recipe: Recipe, **changes: Any) -> Recipe:
    """``recipe`` with the fields that are not None replaced; both trainings' with ``epochs=...`` etc.

    A name that only ``Training`` has (``epochs``, ``batch``, ``lr`` ...) changes the supernet's training.
    """
    own = {field.name for field in dataclasses.fields(recipe)}
    trained = {field.name for field in dataclasses.fields(Training)}
    changes = {name: value for name, value in changes.items() if value is not None}
    for name in changes:
        if name not in own | trained:
            raise WsnasError(f"this space's recipe has no '{name}'; it has {', '.join(sorted(own | trained))}")
    supernet = {name: changes.pop(name) for name in list(changes) if name not in own}
    if supernet:
        changes["supernet"] = dataclasses.replace(recipe.supernet, **supernet)
    return dataclasses.replace(recipe, **changes)


def recipe_from_json(like: Recipe, stored: Mapping[str, Any]) -> Recipe:
    """The recipe that ``to_json`` wrote, of the same class as ``like``."""
    try:
        trainings = {name: Training(**stored[name]) for name in ("supernet", "standalone")}
        return type(like)(**{**stored, **trainings})
    except (TypeError, KeyError) as error:
        raise WsnasError(f"the stored recipe does not fit this version of wsnas ({error})") from error


RENAMED = {
    "average": "average_last",
    "spare_norms": "no_decay_on_norms",
    "train_images": "train_size",
    "valid_images": "valid_size",
    "within": "candidates",
}


def with_new_names(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe or identity that an earlier version stored, its fields as they are called now."""
    return {
        RENAMED.get(name, name): with_new_names(value) if isinstance(value, Mapping) else value
        for name, value in stored.items()
    }


def digest(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits of a JSON-able description: what a content-addressed run is called."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
