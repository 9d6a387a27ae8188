"""Recipes: how networks are trained, and everything else that decides a result besides the seed.

A recipe is composed of frozen dataclasses, and each field is honoured by whatever it is given to. An annotation
holds the field's help and its range: the command line's options are made of them (``wsnas.options``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from wsnas.errors import WsnasError


@dataclass(frozen=True)
class Between:
    """The values a number may have; ``above``, ``below``: the ends themselves are not among them."""

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False


class Decides(Enum):
    """What a field decides if it is not how a network is trained."""

    SCORES = "how a trained network is calibrated and scored"
    SUBMODELS = "which submodels of a supernet are scored, and on how many images"
    NOTHING = "no result"


Count = Annotated[int, Between(1)]
Natural = Annotated[int, Between(0)]
Positive = Annotated[float, Between(0, above=True)]
NotNegative = Annotated[float, Between(0)]
Fraction = Annotated[float, Between(0, 1, below=True)]


# optimizers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SGD:
    """``torch.optim.SGD``."""

    kind: ClassVar = "sgd"
    lr: Annotated[Positive, "learning rate that the schedule starts from, or rises to"]
    momentum: Annotated[Fraction, "momentum of the gradient"] = 0.9
    nesterov: Annotated[bool, "Nesterov's momentum"] = False
    weight_decay: Annotated[NotNegative, "L2 penalty, on every weight that a step trained"] = 0.0

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise WsnasError("Nesterov's momentum needs a momentum above 0: set momentum, or leave out nesterov")


@dataclass(frozen=True)
class RMSpropTF:
    """RMSProp in TensorFlow's form, eps inside the square root: ``timm.optim.RMSpropTF``."""

    kind: ClassVar = "rmsprop-tf"
    lr: Annotated[Positive, "learning rate that the schedule starts from, or rises to"]
    momentum: Annotated[Fraction, "momentum of the update"] = 0.9
    weight_decay: Annotated[NotNegative, "L2 penalty, on every weight that a step trained"] = 0.0
    alpha: Annotated[Fraction, "decay of the squared gradient's running mean"] = 0.9
    eps: Annotated[Positive, "added to that mean, inside the square root"] = 1e-10


# schedules of the learning rate ------------------------------------------------------------------------------


@dataclass(frozen=True)
class CosinePerEpoch:
    """Half a cosine from the learning rate to 0, one value per epoch."""

    kind: ClassVar = "cosine-per-epoch"


@dataclass(frozen=True)
class CosinePerStep:
    """Half a cosine from the learning rate to 0, one value per step."""

    kind: ClassVar = "cosine-per-step"


@dataclass(frozen=True)
class Linear:
    """A straight line up to the learning rate and one down to 0, one value per step."""

    kind: ClassVar = "linear"
    warmup: Annotated[Fraction, "fraction of all steps in which the learning rate rises"] = 0.0


@dataclass(frozen=True)
class Fixed:
    """The learning rate as it is."""

    kind: ClassVar = "fixed"


# what a training reads ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images."""

    flip: Annotated[bool, "mirror an image left to right with probability 1/2"] = False
    crop: Annotated[Natural, "pixels of black padding before a random crop back to size; 0: no crop"] = 0
    cutout: Annotated[Natural, "side in pixels of a square set to the mean colour; 0: none"] = 0


@dataclass(frozen=True)
class ColourAugmentation(Augmentation):
    """Augmentation that also changes colours: of image folders that are streamed."""

    colour_jitter: Annotated[
        NotNegative, "largest relative change of brightness, contrast and saturation (streamed folders)"
    ] = 0.0
    hue: Annotated[
        Annotated[float, Between(0, 0.5)], "largest turn of the hue, in whole turns (with colour jitter)"
    ] = 0.0

    def __post_init__(self) -> None:
        if self.hue and not self.colour_jitter:
            raise WsnasError("the hue turns as a part of the colour jitter: set colour_jitter, too, or leave out hue")


@dataclass(frozen=True)
class Sequences:
    """How text is cut for truncated backpropagation through time."""

    bptt: Annotated[Count, "tokens of a sequence and step, on average; the learning rate is scaled by length / bptt"]


# a recipe ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """How one network, supernet or stand-alone, is trained."""

    epochs: Annotated[Count, "passes over the training data"]
    batch: Annotated[Count, "images (text: sequences) per step, over all devices together"]
    optimizer: Annotated[SGD | RMSpropTF, "rule of the update"]
    schedule: Annotated[CosinePerEpoch | CosinePerStep | Linear | Fixed, "course of the learning rate"] = field(
        default_factory=CosinePerEpoch
    )
    clip: Annotated[NotNegative, "largest L2 norm of the whole gradient; 0: not clipped"] = 0.0
    average_last: Annotated[Fraction, "the result is the mean of the weights in this last fraction of all steps"] = 0.0
    patience: Annotated[
        Natural,
        "epochs without a better validation loss before the weights are averaged, of which the best are kept; 0: off",
    ] = 0
    label_smoothing: Annotated[Fraction, "probability that is spread over all classes"] = 0.0
    inputs: Augmentation | Sequences = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.patience and self.average_last:
            raise WsnasError("patience and average_last both say when weights are averaged: set one of them to 0")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a result besides the seed. A space adds its network's sizes."""

    dataset: Annotated[str, "name of a data set, e.g. cifar10, or the path of a .npz file or an image folder"]
    supernet: Training
    standalone: Training
    calibration_batch: Annotated[Natural, "images per batch-norm calibration step", Decides.SCORES]
    calibration_steps: Annotated[Natural, "batch-norm calibration steps per submodel; 0: none", Decides.SCORES]
    evaluation_batch: Annotated[Count, "images (text: tokens) per forward pass when scoring", Decides.NOTHING] = 1000
    train_size: Annotated[Count | None, "training images; none: the data set's own split"] = None
    valid_size: Annotated[Count | None, "validation images that score a submodel; none: all", Decides.SUBMODELS] = None
    split_file: Annotated[str | None, "the benchmark authors' split, in place of a random one"] = None
    max_macs: Annotated[
        Count | None, "draw only architectures of at most this many multiply-adds; none: all", Decides.NOTHING
    ] = None

    def __post_init__(self) -> None:
        if self.supernet.patience:
            raise WsnasError("patience waits for a validation loss, which a supernet's training does not have")

    def to_json(self) -> dict[str, Any]:
        return _to_json(self)

    def identity(self) -> dict[str, Any]:
        """``to_json()`` without the defaults: two recipes are equal if their identities are."""
        return _beside_defaults(self)

    def supernet_identity(self) -> dict[str, Any]:
        """The part that decides a supernet's weights."""
        decides = {f.name: f.decides for f in recipe_fields(self).values()}
        return {k: v for k, v in self.identity().items() if k != "standalone" and decides.get(k) is None}

    def standalone_identity(self) -> dict[str, Any]:
        """The part that decides a stand-alone training and its scores. Only averaged weights are calibrated."""
        decides = {f.name: f.decides for f in recipe_fields(self).values()}
        other = {"supernet"} if self.standalone.average_last else {"supernet", "calibration_batch", "calibration_steps"}
        kept = (None, Decides.SCORES)
        return {k: v for k, v in self.identity().items() if k not in other and decides.get(k) in kept}


R = TypeVar("R", bound=Recipe | Training)
TRAININGS = ("supernet", "standalone")


@dataclass(frozen=True)
class RecipeField:
    """One value of a recipe that can be set: ``supernet.lr`` is the ``lr`` of the supernet's optimizer."""

    name: str
    path: tuple[str, ...]  # of attributes
    value: Any
    type: Any  # int, float, bool, str, or a Literal
    optional: bool  # may be None
    help: str
    between: Between | None
    kinds: Mapping[str, Any]  # of a part that comes in several: kind -> class
    decides: Decides | None


@dataclass(frozen=True)
class _Declared:
    type: Any
    optional: bool
    help: str
    between: Between | None
    kinds: Mapping[str, Any]
    decides: Decides | None


@cache
def _declared(owner: type) -> Mapping[str, _Declared]:
    """The settable fields of a dataclass: name -> what its annotation says."""
    hints = get_type_hints(owner, include_extras=True)
    settable = [f.name for f in dataclasses.fields(owner) if f.init]
    return {name: _read(hints[name]) for name in settable}


def _read(hint: Any) -> _Declared:
    notes: list[Any] = []
    optional = False
    alternatives: tuple[Any, ...] = ()
    while True:
        if get_origin(hint) is Annotated:
            notes += hint.__metadata__
            hint = get_args(hint)[0]
        elif get_origin(hint) not in (None, Literal):
            alternatives = tuple(part for part in get_args(hint) if part is not type(None))
            optional |= len(alternatives) < len(get_args(hint))
            if len(alternatives) != 1:
                break
            hint = alternatives[0]
        else:
            break

    def note(kind: type) -> Any:
        return next((found for found in notes if isinstance(found, kind)), None)

    kinds = {part.kind: part for part in alternatives if hasattr(part, "kind")}
    return _Declared(hint, optional, note(str) or "", note(Between), kinds, note(Decides))


def recipe_fields(recipe: Recipe | Training) -> dict[str, RecipeField]:
    """Everything that can be set in ``recipe``, by name: its own fields, and ``supernet.X`` and ``standalone.X``."""
    return {found.name: found for found in _fields(recipe, (), "")}


def _fields(part: Any, path: tuple[str, ...], prefix: str) -> list[RecipeField]:
    found = []
    for name, declared in _declared(part.__class__).items():
        if (*path, name) == ("supernet", "patience"):
            continue  # see Recipe.__post_init__
        value, here = getattr(part, name), (*path, name)
        if declared.kinds:
            kind = value.kind
            found.append(RecipeField(prefix + name, here, kind, **vars(declared)))
        if dataclasses.is_dataclass(value):
            found += _fields(value, here, f"{name}." if name in TRAININGS and not path else prefix)
        else:
            found.append(RecipeField(prefix + name, here, value, **vars(declared)))
    return found


def change_recipe(recipe: R, **changes: Any) -> R:
    """``recipe``, or one training, with the values replaced that are not None.

    Names are those of ``recipe_fields``, e.g. ``**{"standalone.epochs": 1}``; one that only a training has
    (``epochs``, ``batch``, ``lr`` ...) changes the supernet's. Raises WsnasError for a name that is not among them.
    """
    return with_changes(recipe, {name: value for name, value in changes.items() if value is not None})


def with_changes(recipe: R, changes: Mapping[str, Any]) -> R:
    """As ``change_recipe``, with None as a value."""
    known = recipe_fields(recipe)
    short = f"{TRAININGS[0]}." if isinstance(recipe, Recipe) else ""
    full = {n if n in known or n in TRAININGS or "." in n else short + n: value for n, value in changes.items()}
    chosen = {name: value for name, value in full.items() if name in known and known[name].kinds}
    if chosen:  # first, since an optimizer or a schedule has fields of its own
        recipe = _replaced(recipe, {known[name].path: _of_kind(recipe, known[name], k) for name, k in chosen.items()})
        known = recipe_fields(recipe)
    values = {name: value for name, value in full.items() if name not in chosen}
    for name in values:
        if name in TRAININGS and isinstance(values[name], Training):
            continue
        if name not in known:
            have = ", ".join(sorted(known))
            raise WsnasError(f"the recipe has no '{name.removeprefix(short)}'; it has {have}")
    changed: R = _replaced(recipe, {known[n].path if n in known else (n,): value for n, value in values.items()})
    return changed


def _of_kind(recipe: Recipe | Training, where: RecipeField, kind: str) -> Any:
    """An optimizer or schedule of another kind, with the values that both have."""
    part: Any = recipe
    for name in where.path:
        part = getattr(part, name)
    if kind not in where.kinds:
        raise WsnasError(f"{where.name} is one of {', '.join(where.kinds)}, not '{kind}'")
    made = where.kinds[kind]
    return made(**{name: getattr(part, name) for name in _declared(made) if hasattr(part, name)})


def _replaced(part: Any, values: Mapping[tuple[str, ...], Any]) -> Any:
    """``part`` with the values at these paths replaced, those of one dataclass together."""
    inner: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *rest), value in values.items():
        inner.setdefault(name, {})[tuple(rest)] = value
    found = {n: v[()] if () in v else _replaced(getattr(part, n), v) for n, v in inner.items()}
    return dataclasses.replace(part, **found)


# as JSON -----------------------------------------------------------------------------------------------------


def _to_json(part: Any) -> dict[str, Any]:
    values = {name: getattr(part, name) for name in _declared(part.__class__)}
    found = {name: _to_json(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}
    return {"kind": part.kind, **found} if hasattr(part, "kind") else found


def _beside_defaults(part: Any) -> dict[str, Any]:
    found = {"kind": part.kind} if hasattr(part, "kind") else {}
    for one in dataclasses.fields(part):
        value = getattr(part, one.name)
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if one.init and value != default:
            found[one.name] = _beside_defaults(value) if dataclasses.is_dataclass(value) else value
    return found


def recipe_from_json(like: R, stored: Mapping[str, Any]) -> R:
    """The recipe that ``to_json`` wrote, of the same class as ``like``."""
    try:
        found: R = _from_json(like, stored)
    except (TypeError, KeyError, AttributeError) as error:
        raise WsnasError(f"the stored recipe does not fit this version of wsnas ({error})") from error
    return found


def _from_json(like: Any, stored: Mapping[str, Any]) -> Any:
    declared, values = _declared(like.__class__), dict(stored)
    for name, value in stored.items():
        if isinstance(value, Mapping):
            kinds = declared[name].kinds
            values[name] = (
                kinds[value["kind"]](**{k: v for k, v in value.items() if k != "kind"})
                if kinds
                else _from_json(getattr(like, name), value)
            )
    return type(like)(**values)


def digest(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits of a JSON-able description: what a content-addressed run is called."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
