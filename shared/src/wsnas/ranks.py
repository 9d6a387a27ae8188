"""What torchrun's processes, the ranks, agree on while they train one model together.

Not DistributedDataParallel, whose hooks expect one backward per step and the same parameters in each; strict fairness
and single paths break both. Ranks train the same paths, so they have gradients for the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wsnas.errors import WsnasError
from wsnas.files import read_file
from wsnas.recipe import as_if_in_place
from wsnas.runs import LARGEST, Run

OWN = "_extra_state"  # ends the names of what each rank's model carries from step to step, such as hidden states


@dataclass(frozen=True)
class Ranks:
    """The processes of a training; one alone is a group of one. Every rank has to make the same calls."""

    rank: int = 0
    world: int = 1
    control: Any = None  # a gloo group for messages, so no GPU waits for them

    def any(self, *wishes: bool) -> list[bool]:
        """For each wish, whether some rank has it: ranks stop and save after the same step."""
        if self.world == 1:
            return list(wishes)
        flags = torch.tensor(wishes, dtype=torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.control)
        return [bool(flag) for flag in flags]

    def average(self, parameters: Sequence[nn.Parameter], losses: Sequence[Tensor], targets: int) -> Sequence[Tensor]:
        """Replaces every gradient by its mean over the ranks, and returns the losses' sum's, in one all-reduce.

        Both are means over this rank's ``targets``, so a rank counts as much as it has of them.
        """
        if self.world == 1:
            return losses
        gradients = [p.grad for p in parameters if p.grad is not None]
        loss = torch.stack(list(losses)).sum().reshape(1)
        flat = torch.cat([*(g.reshape(-1) for g in gradients), loss, torch.ones_like(loss)]) * targets
        dist.all_reduce(flat)
        *parts, mean_loss = torch.split(flat[:-1] / flat[-1], [*(g.numel() for g in gradients), 1])
        for gradient, mean in zip(gradients, parts, strict=True):
            gradient.copy_(mean.view_as(gradient))
        return [mean_loss[0]]

    def open(self, own: Run, opened: Callable[[], Run]) -> Run:
        """The run that ``opened()`` returns on the first rank, on every rank: its data may have begun at another place.

        ``own``: the run as this rank was told. No rank goes on before the run is open. Raises WsnasError, on every
        rank, if ranks were started with different options.
        """
        if self.world == 1:
            return opened()
        told: list[Any] = [None] * self.world
        dist.all_gather_object(told, own.identity, group=self.control)
        for rank, other in enumerate(told):
            if as_if_in_place(other, told[0]) != told[0]:
                raise WsnasError(
                    f"process {rank} of {self.world} was started with other options than process 0: give all the same"
                )
        run = opened() if self.rank == 0 else own
        identity = [run.identity]
        dist.broadcast_object_list(identity, src=0, group=self.control)
        return replace(run, identity=identity[0])

    def load(self, run: Run, device: torch.device, total: int) -> dict[str, Any] | None:
        """The run's last checkpoint on every rank, or None; only the first rank's folder needs to hold it.

        Raises WsnasError, on every rank, if there were fewer or more of them before and steps remain of the ``total``,
        or if another rank's folder is further than the first one's.
        """
        state = run.load_checkpoint(device) if self.world == 1 else self._from_the_first(run, device)
        if state is None:
            return None
        ranks = state.get("ranks", [{}] * self.world)
        if len(ranks) != self.world:
            if state["step"] == total:  # nothing is left to train: the weights are rank 0's
                return state
            raise WsnasError(
                f"{run.path} was trained by {_processes(len(ranks))} until now, and batch norm's statistics depend on "
                f"their number: continue it with as many, not with {self.world}"
            )
        return {**state, "model": {**state["model"], **ranks[self.rank]}}

    def _from_the_first(self, run: Run, device: torch.device) -> dict[str, Any] | None:
        path = run.path / "checkpoint.pt"
        own = {"folder": str(run.path), "step": -1}
        error: WsnasError | None = None
        data = None
        try:
            data = read_file(path, LARGEST[path.name]) if path.exists() else None
            if data is not None:
                own["step"] = (run.load_checkpoint(torch.device("cpu"), data) or {})["step"]
        except OSError as problem:
            error = WsnasError(f"cannot read {path} ({problem})")
        except WsnasError as problem:
            error = problem
        own["error"] = str(error) if error is not None and self.rank == 0 else ""
        told: list[Any] = [None] * self.world
        dist.all_gather_object(told, own, group=self.control)
        first = told[0]
        if first["error"]:
            raise WsnasError(first["error"])
        for rank, other in enumerate(told):
            if other["step"] > first["step"]:
                begun = f"a checkpoint of step {first['step']}" if first["step"] >= 0 else "no checkpoint"
                raise WsnasError(
                    f"process {rank} has a checkpoint of step {other['step']} in {other['folder']}, process 0 has "
                    f"{begun}: copy the folder to process 0's machine, or start there with --node-rank 0"
                )
        sent = [data]
        dist.broadcast_object_list(sent, src=0, group=self.control)
        return None if sent[0] is None else run.load_checkpoint(device, sent[0])

    def own_states(self, model: nn.Module) -> list[dict[str, Any]]:
        """What each rank's model carries from step to step, for the first rank to save; empty on the others."""
        own = {name: _on_cpu(value) for name, value in model.state_dict().items() if name.endswith(OWN)}
        if self.world == 1:
            return [own]
        every: list[Any] = [None] * self.world
        dist.gather_object(own, every if self.rank == 0 else None, dst=0, group=self.control)
        return every if self.rank == 0 else []


def torchruns_ranks() -> Ranks:
    """The group of torchrun's processes, each of which has to call this."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _processes(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"
