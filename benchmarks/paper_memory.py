"""GB of GPU memory that a step of the paper's trainings keeps for its backward pass. Prints a table of docs/gpu.md.

    OMP_NUM_THREADS=1 python benchmarks/paper_memory.py

Needs no GPU: tensors have shapes but no values (torch's meta device). Of each space's supernet and stand-alone training
a few random architectures take the forward pass of one step with the recipe's batch; counted are the distinct storages
that are still alive after it: activations, random masks and the batch itself, but neither parameters nor buffers.
Stand-alone networks are within the recipe's limit of multiply-adds; a supernet's paths are not limited.

bfloat16: all of an image network is bfloat16. Autocast also keeps a bfloat16 copy of each weight it uses.
3x3 average pooling is torch's, which keeps its input; the kernel of ``wsnas.pooling`` keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wsnas import installed_spaces, load_space
from wsnas.randomness import numpy_rng
from wsnas.recipe import Recipe, Sequences, Training
from wsnas.sampling import sample_within_limit
from wsnas.space import SearchSpace


def reference_to(tensor: Tensor) -> Any:
    """A weak reference to the tensor's storage; its ``cdata`` tells storages apart."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


class Storages(TorchDispatchMode):
    """The storages that operations make, without those of the tensors ``known``.

    Hooks on saved tensors would miss what an autograd function keeps as an attribute, as darts_rnn's does.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.known = {reference_to(tensor).cdata for tensor in known}
        self.made: dict[int, tuple[Any, int]] = {}  # a weak reference also keeps its address from being reused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                reference = reference_to(tensor)
                if reference.cdata not in self.known:
                    self.made[reference.cdata] = reference, tensor.untyped_storage().nbytes()
        return result

    def alive(self) -> int:
        """Bytes."""
        return sum(size for reference, size in self.made.values() if not reference.expired())


def kept(model: Any, shape: tuple[int, ...], training: Training, arch: Any, autocast: bool) -> float:
    """GB alive after the forward pass of one step, for images of this shape."""
    storages = Storages([*model.parameters(), *model.buffers()])
    with storages:
        if isinstance(training.inputs, Sequences):
            x = torch.zeros(training.inputs.bptt, training.batch, dtype=torch.int64)
            y = torch.zeros(x.numel(), dtype=torch.int64)
        else:
            x = torch.zeros(training.batch, *shape, dtype=next(model.parameters()).dtype)
            y = torch.zeros(training.batch, dtype=torch.int64)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if hasattr(model, "training_loss"):
                loss = model.training_loss(x, y, arch, training, 0.5)
            else:
                loss = F.cross_entropy(model(x, arch).float(), y, label_smoothing=training.label_smoothing)
        size = storages.alive()
        del loss  # it held all that backward would need
    return size / 1e9


def of_each(space: SearchSpace[Any], recipe: Recipe, training: Training, alone: bool, amp: bool, n: int) -> list[float]:
    """``kept`` of ``n`` random architectures, the same ones in either precision."""
    text, rng = isinstance(training.inputs, Sequences), numpy_rng(0, "memory")
    archs = [sample_within_limit(space, recipe, rng) if alone else space.sample(rng) for _ in range(n)]
    shape = () if text else space.image_shape(recipe)[1:]

    def built(arch: Any) -> Any:
        model = space.build(recipe, arch)
        return model.bfloat16() if amp and not text else model

    # The recurrent network switches autocast off around its cell, which torch cannot do on the meta device. No code of
    # it depends on the device, so its tensors pretend to be on a CPU; image networks compute differently there.
    with FakeTensorMode() if text else torch.device("meta"):
        supernet = None if alone else built(None)
        return [kept(built(arch) if alone else supernet, shape, training, arch, amp and text) for arch in archs]


def spread(values: list[float]) -> str:
    digits = 2 if max(values) < 2 else 1 if max(values) < 40 else 0
    return f"{sum(values) / len(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


@click.command(help=__doc__.split("\n")[0])
@click.option("--architectures", default=5, show_default=True, type=click.IntRange(1))
def main(architectures: int) -> None:
    print("| space | training | batch | image | GB kept in float32 | in bfloat16 (`--amp`) |")
    print("|" + "---|" * 6)
    for name in installed_spaces():
        space = load_space(name)
        recipe = space.recipes["paper"]
        for kind, training in (("supernet", recipe.supernet), ("stand-alone", recipe.standalone)):
            found = [
                of_each(space, recipe, training, kind == "stand-alone", amp, architectures) for amp in (False, True)
            ]
            text = isinstance(training.inputs, Sequences)
            size = f"{training.inputs.bptt} words" if text else f"{space.image_shape(recipe)[2]} pixels"
            print(
                f"| {name} | {kind} | {training.batch:,} | {size} | {spread(found[0])} | {spread(found[1])} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
