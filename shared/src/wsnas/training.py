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
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsnas.errors import Diverged, WsnasError
from wsnas.images import Data
from wsnas.paths import Step
from wsnas.randomness import torch_seeded
from wsnas.runs import Run
from wsnas.space import Training

Report = Callable[[int, int, str], None]  # (steps done, steps in all, what to say)


def learning_rate(training: Training, step: int, steps_per_epoch: float) -> float:
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


def first_steps(data: Data, training: Training, seed: int) -> list[int]:
    """The first step of every epoch, and last the number of steps in all; epochs of jittered text differ in length."""
    return list(accumulate((data.steps(training, seed, epoch) for epoch in range(training.epochs)), initial=0))


def optimizer_of(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The training's optimizer over all parameters of ``model``; it leaves alone those without a gradient."""
    norms = {id(p) for m in model.modules() if isinstance(m, _BatchNorm) for p in m.parameters(recurse=False)}
    trainable = [p for p in model.parameters() if p.requires_grad]
    spared = [p for p in trainable if training.spare_norms and id(p) in norms]
    decayed = [p for p in trainable if not (training.spare_norms and id(p) in norms)]
    groups: list[dict[str, Any]] = [{"params": decayed}]
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})
    common: dict[str, Any] = {"lr": training.lr, "momentum": training.momentum, "weight_decay": training.weight_decay}
    if training.optimizer == "rmsprop-tf":
        try:
            from timm.optim import RMSpropTF
        except ImportError as error:
            raise WsnasError("this recipe trains with timm's RMSpropTF: pip install timm") from error
        found: torch.optim.Optimizer = RMSpropTF(groups, alpha=training.rms_alpha, eps=training.rms_eps, **common)
        return found
    fused = torch.__version__ >= "2.4"  # compared as versions; an earlier torch fuses on CUDA only
    optimizer = torch.optim.SGD(groups, nesterov=training.nesterov, fused=fused, foreach=not fused, **common)
    if training.momentum:  # from zero instead of none: a fused step cannot take first steps together with later ones
        for parameter in trainable:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def train(
    model: nn.Module,
    data: Data,
    training: Training,
    paths: Callable[[int], Step],
    *,
    seed: int,
    run: Run | None = None,
    amp: bool | None = None,
    captured: bool = False,
    checkpoint_seconds: float = 30.0,
    validate: Callable[[], float] | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    report: Report | None = None,
) -> None:
    """Trains ``model`` in place, from the run's checkpoint on when it has one.

    ``model(x, path)``: x as ``data`` has it (images: float32 [B, C, H, W]) -> logits [B, classes]. A model
    with a loss of its own (auxiliary head, dropout) has ``training_loss(x, y, path, training, progress)``:
    progress is the fraction of the steps done; inside it torch's generator is seeded from (seed, step). What
    a model carries from step to step belongs into its ``get_extra_state``; ``start_epoch()``, where it has that,
    is called before an epoch's first step. ``paths(step)``: what the step
    trains. ``amp``: bfloat16 autocast, by default on CUDA only: a CPU with bfloat16 instructions gains, too
    (benchmarks/supernet_step.py), but its results would then depend on the processor. ``captured``: forward
    and backward as one CUDA graph; only where every step trains the same single path. ``validate()``: the
    cross-entropy that ``Training.patience`` watches; the best weights by it are the result. ``on_epoch(line
    of metrics)`` may look at the model between epochs; both may leave it in eval mode.
    Under ``torchrun`` every rank takes its share of the batch and of the same paths; gradients are averaged.
    Raises Diverged on a loss or weights that are not finite (the last checkpoint is from before), KeyboardInterrupt
    after saving a checkpoint. Where the weights were averaged, batch norm must be calibrated afterwards.
    """
    device = data.device
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    amp = device.type == "cuda" if amp is None else amp
    if training.batch % world:
        raise WsnasError(f"a batch of {training.batch} does not divide among {world} processes; choose another")
    if training.patience and validate is None:
        raise WsnasError("a training with patience needs validation, which a supernet's does not have: set it to 0")
    parameters = [p for p in model.parameters() if p.requires_grad]
    values = [p.detach() for p in parameters]
    optimizer = optimizer_of(model, training)
    first = first_steps(data, training, seed)
    total = first[-1]
    per_epoch = total / training.epochs
    average_from = total if training.patience else total - round(training.average * total)
    average: list[Tensor] = []  # of the weights after step average_from
    best: list[Tensor] = []  # by validation, with patience
    validations: list[float] = []
    step, loss_sum, metrics_size = 0, torch.zeros((), dtype=torch.float64, device=device), 0

    state = run.load_checkpoint(device) if run is not None else None
    if run is not None and state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, average_from = state["average"], state["average_from"]
        best, validations = state["best"], state["validations"]
        step, loss_sum, metrics_size = state["step"], state["loss_sum"].to(device), state["metrics_size"]
    if run is not None and rank == 0:
        run.cut_back("metrics.jsonl", metrics_size)

    def require_finite(*tensors: Tensor) -> None:
        if not torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all():
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
                    "average_from": average_from,
                    "best": best,
                    "validations": validations,
                    "step": step,
                    "loss_sum": loss_sum,
                    "metrics_size": metrics_size,
                }
            )

    own = getattr(model, "training_loss", None)
    start_epoch = getattr(model, "start_epoch", None)

    def backward(x: Tensor, y: Tensor, path: Any, weight: float) -> Tensor:
        """Adds the path's gradient to the parameters'; returns its loss."""
        with torch.autocast(device.type, torch.bfloat16, enabled=amp, cache_enabled=not captured):
            if own is not None:
                loss: Tensor = own(x, y, path, training, step / total) * weight
            else:
                loss = F.cross_entropy(model(x, path), y, label_smoothing=training.label_smoothing) * weight
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss.detach()

    replay = None
    if captured and own is None and device.type == "cuda" and step < total:
        ((path, weight),) = paths(step)
        replay = capture(lambda x, y: backward(x, y, path, weight), model, *next(data.epoch(training, seed, 0)))

    def validation_loss() -> float:
        """Validation of the averaged weights, where averaging has begun; keeps the best."""
        assert validate is not None
        current = [value.clone() for value in values]
        if average:
            torch._foreach_copy_(values, average)
        loss = validate()
        if loss < min(validations, default=math.inf):
            best[:] = [value.clone() for value in values]
        torch._foreach_copy_(values, current)
        return loss

    model.train()
    saved_at = time.monotonic()
    with stop_between_steps() as stopping, tensorboard(run if rank == 0 else None) as board:
        while step < total:
            epoch = bisect_right(first, step) - 1
            if start_epoch is not None and step == first[epoch]:
                start_epoch()
            for x, y in data.epoch(training, seed, epoch, step - first[epoch], rank, world):
                lr = learning_rate(training, step, per_epoch) * (len(x) / training.bptt if training.bptt else 1.0)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                if replay is not None:
                    loss_sum += replay(x, y)
                else:
                    for parameter in parameters:
                        parameter.grad = None
                    with nullcontext() if own is None else torch_seeded(seed, "step", step, rank, device=device):
                        for path, weight in paths(step):
                            loss_sum += backward(x, y, path, weight)
                if world > 1:
                    average_gradients(parameters, world)
                if training.clip:
                    nn.utils.clip_grad_norm_(parameters, training.clip, foreach=True)
                optimizer.step()
                step += 1
                if step > average_from:
                    if not average:
                        average = [value.clone() for value in values]
                    else:  # the running mean of as many weights as steps since average_from
                        torch._foreach_lerp_(average, values, 1 / (step - average_from))
                if report is not None and rank == 0:
                    report(step, total, f"epoch {epoch + 1} of {training.epochs}")
                if step == first[epoch + 1]:  # an epoch is done: one line of metrics
                    require_finite(loss_sum)
                    line = {"step": step, "epoch": epoch + 1, "loss": loss_sum.item() / (step - first[epoch]), "lr": lr}
                    loss_sum.zero_()
                    if training.patience:
                        line["valid_loss"] = validation_loss()
                        earlier = validations[: -training.patience]
                        if earlier and line["valid_loss"] > min(earlier) and step <= average_from:
                            average_from = step  # non-monotone trigger (Merity et al., 2018, algorithm 1)
                        validations.append(line["valid_loss"])
                    if run is not None and rank == 0:
                        metrics_size = run.append("metrics.jsonl", line)
                        board(line)
                    if step == total and (average or best):
                        torch._foreach_copy_(values, best or average)
                    if on_epoch is not None:
                        on_epoch(line)
                    model.train()
                if stopping() or step == total or time.monotonic() - saved_at > checkpoint_seconds:
                    save()
                    saved_at = time.monotonic()
                if stopping():
                    raise KeyboardInterrupt


def capture(
    backward: Callable[[Tensor, Tensor], Tensor], model: nn.Module, x: Tensor, y: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """``backward(x, y)`` as one CUDA graph: a small network's step is otherwise spent on launching kernels.

    Its gradients stay in the same tensors from step to step, each replay overwrites them. The warm-up that
    a capture needs leaves no trace: buffers (running statistics) are put back, gradients dropped.
    """
    x, y = x.clone(), y.clone()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model.zero_grad(set_to_none=True)
            backward(x, y)
    torch.cuda.current_stream().wait_stream(side)
    model.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = backward(x, y)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])

    def replay(new_x: Tensor, new_y: Tensor) -> Tensor:
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()
        return loss

    return replay


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
