"""Train a supernet (SPOS by default) in a run directory, and load it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsnas import paths as path_samplers
from wsnas.calibration import require_calibration_images
from wsnas.data.images import Splits
from wsnas.devices import choose_device, cpu_threads, fixed_order, process_group, to_device
from wsnas.errors import Guesses, Unfinished, WsnasError
from wsnas.progress import Report, bar_in_notebook
from wsnas.randomness import numpy_rng, python_seed, torch_seeded
from wsnas.ranks import torchruns_ranks
from wsnas.recipe import Recipe, digest, recipe_from_json
from wsnas.runs import Run
from wsnas.space import SearchSpace, SubSpace, load_space
from wsnas.training import first_steps, guesses, require_suitable, train
from wsnas.words import counted


@dataclass(frozen=True)
class Supernet:
    """A supernet with its weights and run directory."""

    space: SearchSpace[Any]
    recipe: Recipe
    model: nn.Module  # forward(x, arch) -> logits
    splits: Splits
    run: Run
    step: int  # training steps done
    weights: str = ""  # a digest of the parameters as they were trained or loaded
    statistics: str = ""  # the same of the buffers, which a score without calibration rests on

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", bits_digest(self.model.parameters()))
        if not self.statistics:
            object.__setattr__(self, "statistics", bits_digest(self.model.buffers()))

    def __repr__(self) -> str:
        said = f"{self.step:,} steps on {self.recipe.dataset}, seed {self.run.identity['seed']}"
        return f"Supernet of {self.space.name}: {said}: {self.run.path}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"

    @property
    def threads(self) -> int | None:
        """Torch's on the CPU, as in training: None stands for one. Elsewhere None: they do not matter."""
        return self.run.identity.get("threads") if self.splits.valid.device.type == "cpu" else None


def train_supernet(
    space: SearchSpace[Any] | str,
    recipe: Recipe | str | None = None,
    *,
    seed: int = 0,
    paths: path_samplers.Sampler | str = path_samplers.uniform,
    candidates: Sequence[Any] | None = None,
    out: Path | str | None = None,
    folder: Path | str | None = None,
    device: str | None = None,
    sync_bn: bool = False,
    threads: int | None = None,
    deterministic: bool = False,
    splits: Splits | None = None,
    checkpoint_seconds: float = 30.0,
    report: Report | None = None,
) -> Supernet:
    """Trains a supernet of ``space`` and returns it; resumes an unfinished run, just loads a finished one.

    ``space``: a search space or its name. ``recipe``: a recipe or the name of a scale, by default micro. ``paths``:
    a sampler or its name. ``candidates``: the architectures (or encodings) of a sub-space to draw paths from.
    ``out``: the run directory, by default ``<folder>/<space>-<digest of the identity>`` (folder: runs), the name
    under which studies look for it. On the CPU the same seed gives the same weights, even after a kill and a
    resume; on CUDA they are the same but for the order in which its kernels add, unless ``deterministic`` chooses
    slower kernels that always add in one order. ``splits``: the recipe's data, if already on the device.
    ``checkpoint_seconds``: the most work a kill can lose. ``sync_bn``: under ``torchrun`` on GPUs, batch norm uses
    the statistics of all ranks' images instead of its own rank's. ``threads``: torch's on the CPU, by default one;
    a run continues only with as many.
    """
    space = load_space(space)
    recipe = space.recipe(recipe)
    paths = path_samplers.parse(paths) if isinstance(paths, str) else paths
    candidates = None if candidates is None else space.archs(candidates)
    source = space if candidates is None else SubSpace(space, candidates)
    if out is not None and folder is not None:
        raise WsnasError("out names the run directory, folder the one it is put in: give only one of them")
    identity = supernet_identity(space, recipe, seed, paths, candidates, sync_bn, threads)
    identity |= {"deterministic": True} if deterministic else {}
    data = space.data_identity(recipe)
    where = Path(folder or "runs") / f"{space.name}-{digest(identity, data)}" if out is None else Path(out)
    identity |= data
    chosen = choose_device(device)
    if deterministic and chosen.type != "cuda":
        raise WsnasError("on the CPU every training is deterministic: leave the option out")
    if sync_bn and chosen.type != "cuda":
        raise WsnasError(
            "batch norm cannot be synchronised on the CPU, because torch's SyncBatchNorm needs GPUs; without --sync-bn "
            "each process normalises with the statistics of its own images"
        )

    def drawn(step: int) -> path_samplers.Step:
        return path_samplers.drawn(paths, source, numpy_rng(seed, "paths", step))

    with cpu_threads(threads, chosen), process_group(chosen) as rank:
        splits = space.load_data(recipe, chosen) if splits is None else splits
        with torch_seeded(seed, "init"):
            model = to_device(space.supernet(recipe), chosen)
        require_trainable(space, recipe, splits, model)  # what cannot be trained leaves no directory
        steps = first_steps(splits.train, recipe.supernet, seed)[-1]
        drawn(0)  # a sampler that cannot be used leaves no directory either
        asked = Run(where, identity, recipe.to_json())
        run = torchruns_ranks().open(
            asked, lambda: Run.open(where, identity, asked.recipe, recipe.supernet_identity_of)
        )
        if sync_bn:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call, unused-ignore]
        session = run.session(chosen) if rank == 0 else nullcontext()
        with session, fixed_order(deterministic), bar_in_notebook(report, f"{space.name} supernet") as report:
            train(
                model,
                splits.train,
                recipe.supernet,
                drawn,
                seed=seed,
                run=run,
                amp=recipe.amp,
                checkpoint_seconds=checkpoint_seconds,
                report=report,
            )
    losses = [line["loss"] for line in run.metrics()] if rank == 0 else []
    weight = sum(weight for _, weight in drawn(steps - 1))  # a step's loss is the sum of its paths'
    if said := guesses(losses, recipe.supernet, splits.classes, weight):
        warnings.warn(said, Guesses, stacklevel=2)
    return Supernet(space, recipe, model, splits, run, steps)


def require_trainable(space: SearchSpace[Any], recipe: Recipe, splits: Splits, model: nn.Module | None = None) -> None:
    """Raises WsnasError if the recipe cannot train a supernet (``model``) on these data and score its submodels."""
    if not len(splits.valid):
        raise WsnasError("a supernet needs validation images to score submodels on: train on fewer images (train_size)")
    usual = {one.valid_size for one in space.recipes.values()}  # what a scale asks for, small data need not have
    if recipe.valid_size not in usual and (recipe.valid_size or 0) > len(splits.valid):
        raise too_many_to_validate(recipe, splits)
    require_calibration_images(space, recipe, splits)
    require_suitable(splits.train, recipe.supernet, model)


def too_many_to_validate(recipe: Recipe, splits: Splits) -> WsnasError:
    return WsnasError(
        f"valid_size {recipe.valid_size:,} is more than {Path(recipe.dataset).name} has to validate, "
        f"{len(splits.valid):,}: make it smaller"
    )


def supernet_identity(
    space: SearchSpace[Any],
    recipe: Recipe,
    seed: int,
    paths: path_samplers.Sampler = path_samplers.uniform,
    candidates: Sequence[Any] | None = None,
    sync_bn: bool = False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Everything that affects a supernet's weights on a given device: runs with the same identity are the same.

    The run adds its data's fingerprint, which names its directory if the data are in a file or folder.
    """
    part = None if candidates is None else SubSpace(space, candidates)
    return {
        "kind": "supernet",
        "space": space.name,
        "recipe": recipe.supernet_identity(),
        "seed": python_seed(seed),
        "paths": path_samplers.name_of(paths),
        "candidates": None if part is None else f"{part.size} architectures {part.fingerprint()}",
        **({"sync_bn": True} if sync_bn else {}),
        **({} if threads in (None, 1) else {"threads": threads}),
    }


def require_supernets(run: Run) -> None:
    """Raises WsnasError if the run trains something else than a supernet."""
    if run.identity.get("kind") != "supernet":
        raise WsnasError(f"{run.path} is a {run.identity.get('kind')} run, not a supernet's")


def load_supernet(path: Path | str, device: str | None = None) -> Supernet:
    """The supernet at the last checkpoint of a run directory. Raises WsnasError if there is none.

    Warns (``Unfinished``) if it has not trained for all its epochs.
    """
    run = Run.read(Path(path))
    require_supernets(run)
    space = load_space(str(run.identity.get("space")))
    recipe = recipe_from_json(space.recipes["micro"], run.recipe)
    run.require_data(space.data_identity(recipe))
    chosen = choose_device(device)
    state = run.load_checkpoint(chosen)
    if state is None:
        raise WsnasError(f"{path} has no checkpoint yet: train it first with 'wsnas train-supernet ... --out {path}'")
    model = to_device(space.supernet(recipe), chosen)
    with run.fitting():
        model.load_state_dict(state["model"])
        step = int(state["step"])
    if said := unfinished(run):
        warnings.warn(said, Unfinished, stacklevel=2)
    return Supernet(space, recipe, model, space.load_data(recipe, chosen), run, step)


def bits_digest(tensors: Iterable[Tensor]) -> str:
    """Sixteen hex digits of all tensors' bits."""
    found = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        found.update(tensor.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy().tobytes())
    return found.hexdigest()


def unfinished(run: Run) -> str:
    """A sentence if a supernet's run has not finished all its epochs, else nothing."""
    done, epochs = run.epochs()
    of = f"{done} of {counted(epochs, 'epoch')}"
    return f"{run.path} has trained for {of}: repeat the command that began it" * (done < epochs)


def inherit(supernet: nn.Module, network: nn.Module) -> nn.Module:
    """Copies a supernet's weights into a stand-alone network, whose parameter names are a subset, and returns it."""
    weights = supernet.state_dict()
    with torch.no_grad():
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network
