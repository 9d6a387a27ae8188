"""Recipes: how networks are trained, and everything else besides the seed that affects a result.

A recipe is composed of frozen dataclasses in which every field has an effect. Annotations hold each field's help
and range, from which ``wsnas.recipe_options`` makes the command-line options.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from wsnas.errors import WsnasError
from wsnas.words import did_you_mean


@dataclass(frozen=True)
class Between:
    """The range of a number; ``above``, ``below``: the end itself is excluded."""

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False


class Decides(Enum):
    """The effect of a field that does not affect training."""

    SCORES = "how a trained network is calibrated and scored"
    SUBMODELS = "which submodels of a supernet are scored, and on how many images"
    NOTHING = "no result"


LARGEST_COUNT = 2**31 - 1  # of whole numbers without an upper end of their own; no training could use as many
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
    lr: Annotated[Positive, "peak learning rate of the schedule"]
    momentum: Annotated[Fraction, "momentum of the gradient"] = 0.9
    nesterov: Annotated[bool, "Nesterov momentum"] = False
    weight_decay: Annotated[NotNegative, "L2 penalty on every weight the step trains"] = 0.0

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise WsnasError("Nesterov momentum needs a momentum above 0: set momentum, or leave out nesterov")


@dataclass(frozen=True)
class RMSpropTF:
    """RMSProp as in TensorFlow, with eps inside the square root: ``timm.optim.RMSpropTF``."""

    kind: ClassVar = "rmsprop-tf"
    lr: Annotated[Positive, "peak learning rate of the schedule"]
    momentum: Annotated[Fraction, "momentum of the update"] = 0.9
    weight_decay: Annotated[NotNegative, "L2 penalty on every weight the step trains"] = 0.0
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
    """Linear warm-up to the learning rate, then linear decay to 0, one value per step."""

    kind: ClassVar = "linear"
    warmup: Annotated[Fraction, "fraction of all steps spent on warm-up"] = 0.0


@dataclass(frozen=True)
class Fixed:
    """A constant learning rate."""

    kind: ClassVar = "fixed"


# inputs of a training ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images, and what becomes of those that do not fill a batch at an epoch's end.

    ``last_batch`` is for stand-alone training, to follow its original; a supernet always drops the incomplete batch.
    """

    flip: Annotated[bool, "mirror an image left to right with probability 1/2"] = False
    crop: Annotated[Natural, "pixels of black padding before a random crop back to size; 0: no crop"] = 0
    cutout: Annotated[Natural, "side in pixels of a square set to the mean colour; 0: none"] = 0
    last_batch: Annotated[
        Literal["drop", "keep", "carry"],
        "images that do not fill a batch at an epoch's end: left out, a smaller batch, or the next epoch's first",
    ] = "drop"


@dataclass(frozen=True)
class ColourAugmentation(Augmentation):
    """Augmentation of streamed image folders, which can also change colours."""

    colour_jitter: Annotated[
        NotNegative, "largest relative change of brightness, contrast and saturation (streamed folders)"
    ] = 0.0
    hue: Annotated[
        Annotated[float, Between(0, 0.5)], "largest rotation of the hue, in whole turns (with colour jitter)"
    ] = 0.0

    def __post_init__(self) -> None:
        if self.hue and not self.colour_jitter:
            raise WsnasError("hue is part of the colour jitter: set colour_jitter too, or leave out hue")


@dataclass(frozen=True)
class Sequences:
    """How text is cut for truncated backpropagation through time."""

    bptt: Annotated[Count, "mean sequence length in tokens; the learning rate is scaled by length / bptt"]


# a recipe ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """How one network is trained, supernet or stand-alone."""

    epochs: Annotated[int, Between(1, 1_000_000), "passes over the training data"]
    batch: Annotated[Count, "images (text: sequences) per step, in total over all devices"]
    optimizer: Annotated[SGD | RMSpropTF, "update rule"]
    schedule: Annotated[CosinePerEpoch | CosinePerStep | Linear | Fixed, "learning-rate schedule"] = field(
        default_factory=CosinePerEpoch
    )
    clip: Annotated[NotNegative, "largest L2 norm of the whole gradient; 0: no clipping"] = 0.0
    average_last: Annotated[Fraction, "the result is the mean of the weights over this last fraction of all steps"] = (
        0.0
    )
    patience: Annotated[
        Natural,
        "epochs without a better validation loss before weight averaging starts; the best weights are kept; 0: off",
    ] = 0
    label_smoothing: Annotated[Fraction, "probability spread evenly over all classes"] = 0.0
    inputs: Augmentation | Sequences = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.patience and self.average_last:
            raise WsnasError("patience and average_last both start weight averaging: set one of them to 0")

    def guess(self, classes: int) -> float:
        """The loss, in nats, of a network that guesses among so many classes (or words), all of them equally likely."""
        return math.log(classes)


@dataclass(frozen=True)
class Recipe:
    """Everything besides the seed that affects a result. A space adds its network's sizes."""

    dataset: Annotated[str, "name of a data set, e.g. cifar10, or path of a .npz file or image folder"]
    supernet: Training
    standalone: Training
    calibration_batch: Annotated[Natural, "images per batch-norm calibration step", Decides.SCORES]
    calibration_steps: Annotated[Natural, "batch-norm calibration steps per submodel; 0: none", Decides.SCORES]
    evaluation_batch: Annotated[Count, "images (text: tokens) per forward pass when scoring", Decides.NOTHING] = 1000
    train_size: Annotated[
        Count | None, "training images, the others validate: all of them leave none; 'none': the data set's own split"
    ] = None
    valid_size: Annotated[Count | None, "validation images used to score a submodel; none: all", Decides.SUBMODELS] = (
        None
    )
    split_file: Annotated[str | None, "file with the benchmark authors' split, instead of a random one"] = None
    amp: Annotated[bool, "train in bfloat16 (autocast), not in float32"] = False
    max_macs: Annotated[
        Annotated[int, Between(1, 10**18)] | None,
        "draw only architectures with at most this many multiply-adds; none: all",
        Decides.NOTHING,
    ] = None

    def __post_init__(self) -> None:
        for name in TRAININGS:
            if not isinstance(getattr(self, name), Training):
                raise WsnasError(f"{name} must be a Training, not {getattr(self, name)!r:.100}")
        for name, one in recipe_fields(self).items():  # written by hand, nobody else has looked at them
            _fitting(name, one, one.value)
        if self.supernet.patience:
            raise WsnasError("patience needs a validation loss, which supernet training does not have")
        if isinstance(self.supernet.inputs, Augmentation) and self.supernet.inputs.last_batch != "drop":
            raise WsnasError("a supernet's training always drops an incomplete last batch: leave out last_batch")

    def on(self, dataset: str) -> Self:
        """The same recipe on another data set, to which no split file of this one belongs.

        Overridden where the original trains differently there.
        """
        if dataset == self.dataset or self.split_file is None:
            return dataclasses.replace(self, dataset=dataset)
        return dataclasses.replace(self, dataset=dataset, split_file=None)

    @property
    def calibration_images(self) -> int:
        """Training images that recalibrate one submodel's batch norms."""
        return self.calibration_batch * self.calibration_steps

    def validation_images(self, available: int) -> int:
        """Of so many validation images, those that score a submodel."""
        return min(self.valid_size or available, available)

    def to_json(self) -> dict[str, Any]:
        return _to_json(self)

    def identity(self) -> dict[str, Any]:
        """``to_json()`` without the defaults: two recipes are equal if their identities are."""
        return _beside_defaults(self)

    def supernet_identity(self) -> dict[str, Any]:
        """The part that affects a supernet's weights."""
        decides = {f.name: f.decides for f in recipe_fields(self).values()}
        return {k: v for k, v in self.identity().items() if k != "standalone" and decides.get(k) is None}

    def standalone_identity(self) -> dict[str, Any]:
        """The part that affects a stand-alone training and its scores. Only averaged or best weights are calibrated."""
        decides = {f.name: f.decides for f in recipe_fields(self).values()}
        calibrated = self.standalone.average_last or self.standalone.patience
        other = {"supernet"} if calibrated else {"supernet", "calibration_batch", "calibration_steps"}
        kept = (None, Decides.SCORES)
        return {k: v for k, v in self.identity().items() if k not in other and decides.get(k) in kept}

    def supernet_identity_of(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """``supernet_identity()`` of a recipe that a run stored, by the defaults as they are now."""
        return recipe_from_json(self, stored).supernet_identity()

    def standalone_identity_of(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """``standalone_identity()`` of a recipe that a run stored, by the defaults as they are now."""
        return recipe_from_json(self, stored).standalone_identity()


FILES = ("dataset", "split_file")  # the fields that can be paths


def files_by_name(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's ``to_json()`` for a published result: its files without the folders they lie in."""
    files = {name: recipe[name] for name in FILES if recipe.get(name) is not None}
    return {**recipe, **{name: Path(file).name for name, file in files.items()}}


R = TypeVar("R", bound=Recipe | Training)
TRAININGS = ("supernet", "standalone")


@dataclass(frozen=True)
class _Declared:
    """What the annotation of a field says."""

    type: Any  # int, float, bool, str, or a Literal
    optional: bool  # may be None
    help: str
    between: Between | None
    kinds: Mapping[str, Any]  # of a part with several kinds: kind -> class
    decides: Decides | None


@dataclass(frozen=True)
class RecipeField(_Declared):
    """One settable value of a recipe: ``supernet.lr`` is the ``lr`` of the supernet's optimizer."""

    name: str
    path: tuple[str, ...]  # of attributes
    value: Any


@cache
def _declared(owner: type) -> Mapping[str, _Declared]:
    """The settable fields of a dataclass: name -> its annotation."""
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
    """All settable fields of ``recipe``, by name: its own, and ``supernet.X`` and ``standalone.X``."""
    return {found.name: found for found in _fields(recipe, (), "")}


def _fields(part: Any, path: tuple[str, ...], prefix: str) -> list[RecipeField]:
    found = []
    for name, declared in _declared(part.__class__).items():
        if (*path, name) in (("supernet", "patience"), ("supernet", "inputs", "last_batch")):
            continue  # see Recipe.__post_init__
        value, here = getattr(part, name), (*path, name)
        if declared.kinds or not dataclasses.is_dataclass(value):
            shown = value.kind if declared.kinds else value
            found.append(RecipeField(**vars(declared), name=prefix + name, path=here, value=shown))
        if dataclasses.is_dataclass(value):
            found += _fields(value, here, f"{name}." if name in TRAININGS and not path else prefix)
    return found


def change_recipe(recipe: R, **changes: Any) -> R:
    """A copy of ``recipe``, or of one training, with the given values; None leaves a field unchanged.

    Names are those of ``recipe_fields``, e.g. ``**{"standalone.epochs": 1}``; a training's field without a prefix
    (``epochs``, ``batch``, ``lr`` ...) is the supernet's. Raises WsnasError for an unknown name.
    """
    return with_changes(recipe, {name: value for name, value in changes.items() if value is not None})


def with_changes(recipe: R, changes: Mapping[str, Any]) -> R:
    """Like ``change_recipe``, but None is a value."""
    known = recipe_fields(recipe)
    short = f"{TRAININGS[0]}." if isinstance(recipe, Recipe) else ""
    full = {n if n in known or n in TRAININGS or "." in n else short + n: value for n, value in changes.items()}
    chosen = {name: value for name, value in full.items() if name in known and known[name].kinds}
    if chosen:  # first, because an optimizer or a schedule has its own fields
        recipe = _replaced(recipe, {known[name].path: _of_kind(recipe, known[name], k) for name, k in chosen.items()})
        known = recipe_fields(recipe)
    values = {name: value for name, value in full.items() if name not in chosen}
    if isinstance(recipe, Recipe) and "dataset" in values:  # before the values that go with it
        moved: Any = recipe.on(_fitting("dataset", known["dataset"], values.pop("dataset")))
        recipe = moved
    for name in values:
        if name in TRAININGS and isinstance(values[name], Training):
            continue
        if name not in known:
            given, own = name.removeprefix(short), [n.removeprefix(short) for n in known if n.startswith(short)]
            have = [*(n for n in known if "." not in n), *own] if short else sorted(known)
            raise WsnasError(
                f"the recipe has no field '{given}'"
                + (did_you_mean(given, [*have, *known]) or f"; it has {', '.join(have)}")
            )
        values[name] = _fitting(name.removeprefix(short), known[name], values[name])
    changed: R = _replaced(recipe, {known[n].path if n in known else (n,): value for n, value in values.items()})
    return changed


def _fitting(name: str, field: RecipeField, value: Any) -> Any:
    """The value, a number of NumPy's as Python's own.

    Raises WsnasError, as the command line does, if it is of another type or none of the choices, or if a number is not
    finite or out of its range.
    """
    if value is None and field.optional:
        return value
    if get_origin(field.type) is Literal and value not in get_args(field.type):
        raise WsnasError(f"{name} must be one of {', '.join(get_args(field.type))}, not {value!r}")
    if field.type in (bool, str) and not isinstance(value, field.type):
        raise WsnasError(f"{name} must be {'True or False' if field.type is bool else 'a string'}, not {value!r}")
    if field.type not in (int, float):
        return value
    kind: Any = Integral if field.type is int else Real
    if isinstance(value, bool) or not isinstance(value, kind):
        raise WsnasError(f"{name} must be a {'whole ' if field.type is int else ''}number, not {value!r}")
    if not math.isfinite(value):
        raise WsnasError(f"{name} must be a finite number, not {value}")
    limits = field.between or Between(-math.inf)
    if field.type is int and limits.most == math.inf and value > LARGEST_COUNT:
        raise WsnasError(f"{name} must be at most {LARGEST_COUNT:,}, not {value}")
    low = value > limits.least if limits.above else value >= limits.least
    high = value < limits.most if limits.below else value <= limits.most
    if not (low and high):
        least = f"{'above' if limits.above else 'at least'} {limits.least:,.15g}"
        most = "" if limits.most == math.inf else f" and {'below' if limits.below else 'at most'} {limits.most:,.15g}"
        raise WsnasError(f"{name} must be {least}{most}, not {value}")
    return value if isinstance(value, int | float) else field.type(value)


def _of_kind(recipe: Recipe | Training, where: RecipeField, kind: str) -> Any:
    """An optimizer or schedule of another kind, keeping the values both have."""
    part: Any = recipe
    for name in where.path:
        part = getattr(part, name)
    if kind not in where.kinds:
        raise WsnasError(f"{where.name} must be one of {', '.join(where.kinds)}, not '{kind}'")
    made = where.kinds[kind]
    return made(**{name: getattr(part, name) for name in _declared(made) if hasattr(part, name)})


def _replaced(part: Any, values: Mapping[tuple[str, ...], Any]) -> Any:
    """``part`` with the values at these paths replaced, one dataclass at a time."""
    inner: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *rest), value in values.items():
        inner.setdefault(name, {})[tuple(rest)] = value
    found = {}
    for name, value in inner.items():  # of a whole part, and perhaps of its parts
        whole = value.pop((), getattr(part, name))
        found[name] = _replaced(whole, value) if value else whole
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
    """The recipe ``to_json`` wrote, of the same class as ``like``."""
    try:
        found: R = _from_json(like, stored)
    except (TypeError, KeyError, AttributeError, WsnasError) as error:
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


def as_if_in_place(identity: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """The identity, with the files of ``other`` instead of its own if these are the same, at another place.

    On a cluster each job may copy its data to a folder of its own.
    """
    if "data" not in identity or identity["data"] != other.get("data"):
        return identity
    recipe, there = dict(identity["recipe"]), other["recipe"]
    for name in FILES:
        if all(os.path.isabs(one.get(name) or "") for one in (recipe, there)):  # no name of a data set
            recipe[name] = there[name]
    return {**identity, "recipe": recipe}


def digest(identity: Mapping[str, Any], data: Mapping[str, str] | None = None) -> str:
    """Sixteen hex digits of a JSON-able description: the name of a content-addressed run.

    ``data``: what ``SearchSpace.data_identity`` returns. Files that are there and whose paths are absolute, as those
    from a command line are, then count by their content, not by their place.
    """
    if data:
        recipe = identity.get("recipe", identity)
        files = [name for name in FILES if os.path.isabs(recipe.get(name) or "")]  # no known name
        if files and all(os.path.exists(recipe[name]) for name in files):
            recipe = {**recipe, **dict.fromkeys(files, "a file"), **data}
            identity = {**identity, "recipe": recipe} if "recipe" in identity else recipe
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
