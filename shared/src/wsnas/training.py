"""The training loop: of every supernet and of every stand-alone network.

A step draws its batch and its paths from (seed, step), so it does not matter which process made the
steps before it. A supernet's step trains the paths its sampler drew; a stand-alone network's path is
always itself. Parameters that a step did not use have no gradient and do not move: no weight decay,
no momentum.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from wsnas.errors import Diverged, WsnasError
from wsnas.images import Images
from wsnas.paths import Step
from wsnas.runs import Run
from wsnas.space import Training

Report = Callable[[int, int, str], None]  # (steps done, steps in all, what to say)


def learning_rate(training: Training, step: int, steps_per_epoch: int) -> float:
    """The step's learning rate: fixed; half a cosine to 0 over the epochs, stepped per epoch or step; or a
    straight line up and one down to 0, stepped per step.
    """
    if training.decay == "fixed":
        return training.lr
    if training.decay == "linear-step":
        total, rise = training.epochs * steps_per_epoch, training.warmup
        up = (step + 1) / (rise * total) if rise else 1.0
        return training.lr * min(up, (1 - step / total) / (1 - rise))
    done = step // steps_per_epoch if training.decay == "cosine-epoch" else step / steps_per_epoch
    return training.lr * 0.5 * (1 + math.cos(math.pi * done / training.epochs))


def train(
    model: nn.Module,
    images: Images,
    training: Training,
    paths: Callable[[int], Step],
    *,
    seed: int,
    run: Run | None = None,
    amp: bool | None = None,
    checkpoint_seconds: float = 30.0,
    on_epoch: Callable[[int], None] | None = None,
    report: Report | None = None,
) -> None:
    """Trains ``model`` in place, from the run's checkpoint on when it has one.

    ``model(x, path)``: x float32 [B, C, H, W] -> logits [B, classes]. ``paths(step)``: what the step
    trains. ``amp``: bfloat16 autocast, by default on CUDA only: a CPU with bfloat16 instructions gains, too
    (benchmarks/supernet_step.py), but its results would then depend on the processor. ``on_epoch(epochs
    done)`` may look at the model between epochs; it must leave it in train mode.
    Under ``torchrun`` every rank takes its share of the batch and of the same paths; gradients are averaged.
    Raises Diverged on a loss or weights that are not finite (the last checkpoint is from before), KeyboardInterrupt
    after saving a checkpoint. Where the weights were averaged, batch norm must be calibrated afterwards.
    """
    device = images.device
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    amp = device.type == "cuda" if amp is None else amp
    if training.batch % world:
        raise WsnasError(f"a batch of {training.batch} images does not divide among {world} processes; choose another")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        parameters,
        lr=training.lr,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
        foreach=True,  # not fused: that fails where some parameters have no gradient
    )
    per_epoch = images.steps(training.batch)
    total = training.epochs * per_epoch
    average_from = total - round(training.average * total)  # the first step whose weights enter the average
    average: list[Tensor] = []
    step, loss_sum, metrics_size = 0, torch.zeros((), dtype=torch.float64, device=device), 0

    state = run.load_checkpoint(device) if run is not None else None
    if run is not None and state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average = state["average"]
        step, loss_sum, metrics_size = state["step"], state["loss_sum"].to(device), state["metrics_size"]
    if run is not None and rank == 0:
        run.cut_back("metrics.jsonl", metrics_size)

    def require_finite(*values: Tensor) -> None:
        if not torch.stack([value.detach().isfinite().all() for value in values]).all():
            raise Diverged(
                f"the training is not finite by step {step} of {total}: lower the learning rate ({training.lr:g}) "
                f"or clip the gradient (now {training.clip:g}; 0 is off); what was saved before is intact"
            )

    def save() -> None:
        require_finite(loss_sum, *parameters)  # a last update can overflow although the loss before it did not
        if run is not None and rank == 0:
            run.save_checkpoint(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average,
                    "step": step,
                    "loss_sum": loss_sum,
                    "metrics_size": metrics_size,
                }
            )

    model.train()
    saved_at = time.monotonic()
    with stop_between_steps() as stopping, tensorboard(run if rank == 0 else None) as board:
        while step < total:
            epoch, within = divmod(step, per_epoch)
            for x, y in images.epoch(training, seed, epoch, within, rank, world):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(training, step, per_epoch)
                optimizer.zero_grad(set_to_none=True)
                for path, weight in paths(step):
                    with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                        loss = F.cross_entropy(model(x, path), y) * weight
                    loss.backward()  # type: ignore[no-untyped-call]
                    loss_sum += loss.detach()
                if world > 1:
                    average_gradients(parameters, world)
                if training.clip:
                    nn.utils.clip_grad_norm_(parameters, training.clip, foreach=True)
                optimizer.step()
                step += 1
                if step > average_from:
                    if not average:
                        average = [p.detach().clone() for p in parameters]
                    else:  # the running mean of as many weights as steps since average_from
                        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 / (step - average_from))
                    if step == total:
                        torch._foreach_copy_([p.detach() for p in parameters], average)
                if report is not None and rank == 0:
                    report(step, total, f"epoch {epoch + 1} of {training.epochs}")
                if step % per_epoch == 0:  # an epoch is done: one line of metrics
                    require_finite(loss_sum)
                    last = learning_rate(training, step - 1, per_epoch)
                    line = {"step": step, "epoch": epoch + 1, "loss": loss_sum.item() / per_epoch, "lr": last}
                    loss_sum.zero_()
                    if run is not None and rank == 0:
                        metrics_size = run.append("metrics.jsonl", line)
                        board(line)
                    if on_epoch is not None:
                        on_epoch(epoch + 1)
                if stopping() or step == total or time.monotonic() - saved_at > checkpoint_seconds:
                    save()
                    saved_at = time.monotonic()
                if stopping():
                    raise KeyboardInterrupt


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Replaces every gradient by its mean over the ranks, in one all-reduce.

    Not DistributedDataParallel: its hooks expect one backward a step and the same parameters in each,
    which strict fairness and single paths both break. Ranks train the same paths, so they have
    gradients for the same parameters.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat / world, [g.numel() for g in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view_as(gradient))


@contextmanager
def stop_between_steps() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C was pressed: the step in hand is finished and saved.

    A second Ctrl-C stops at once. Outside the main thread, where signals do not arrive, it tells False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def tensorboard(run: Run | None) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yields a function that adds a line of metrics to TensorBoard, when that is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        run = None
    if run is None:
        yield lambda line: None
        return
    writer = SummaryWriter(str(run.path / "tensorboard"))

    def add(line: dict[str, float]) -> None:
        for name in ("loss", "lr"):
            writer.add_scalar(name, line[name], line["step"])

    try:
        yield add
    finally:
        writer.close()


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Number of correct answers, int64 scalar on the device. logits [B, classes], labels [B]."""
    return (logits.argmax(1) == labels).sum()
