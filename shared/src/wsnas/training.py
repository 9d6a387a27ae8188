"""The training loop, for supernets and stand-alone networks.

A step draws its batch and its paths from (seed, step), so a resumed run repeats them exactly. A supernet's
step trains the paths its sampler drew; a stand-alone network's path is always itself. Parameters that a step
does not use have no gradient and stay as they are: no weight decay, no momentum.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from wsnas.averaging import Averages
from wsnas.data.images import Data
from wsnas.devices import Waiting
from wsnas.errors import Diverged, WsnasError, one_value_a_channel
from wsnas.paths import Step
from wsnas.pieces import Pieces, buffers_kept
from wsnas.progress import Report
from wsnas.randomness import torch_seeded
from wsnas.ranks import torchruns_ranks
from wsnas.recipe import Augmentation, CosinePerEpoch, CosinePerStep, Fixed, Linear, Sequences, Training
from wsnas.recipe import RMSpropTF as RMSpropTFRecipe
from wsnas.runs import Run
from wsnas.stopping import handling, heard

Gradients = Callable[[Tensor, Tensor, int, float], list[Tensor]]  # (x, y, step, progress) -> the losses of its paths

HOPELESS_LOSS = 20.0  # nats a path: who guesses among 1,000 classes loses 7, among 30,000 words 10


@dataclass
class State:
    """The state of a training, all of it saved in a checkpoint."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averages: Averages
    loss_sum: Tensor  # float64, over the steps of this epoch
    step: int = 0  # steps done
    metrics_size: int = 0  # bytes of metrics.jsonl

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self.averages.state_dict(),
            "step": self.step,
            "loss_sum": self.loss_sum,
            "metrics_size": self.metrics_size,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averages.load_state_dict(saved)
        self.loss_sum = saved["loss_sum"].to(self.loss_sum.device)
        self.step, self.metrics_size = saved["step"], saved["metrics_size"]


def train(
    model: nn.Module,
    data: Data,
    training: Training,
    paths: Callable[[int], Step],
    *,
    seed: int,
    run: Run | None = None,
    amp: bool = False,
    cuda_graph: bool = False,
    pieces: bool | None = None,
    checkpoint_seconds: float = 30.0,
    validate: Callable[[], float] | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    report: Report | None = None,
) -> None:
    """Trains ``model`` in place, resuming from the run's checkpoint if there is one.

    ``model(x, path)``: x from ``data`` (images: float32 [B, C, H, W]) -> logits [B, classes]. A model with its own loss
    (auxiliary head, dropout) defines ``training_loss(x, y, path, training, progress)``, where progress is the fraction
    of steps done. Torch's generator is seeded from (seed, step) inside it and, on a CPU, inside ``forward``. A model
    can refuse a training with a WsnasError from ``require_suitable(training)``, which is asked before there is a run.
    State that it carries from step to step belongs in its ``get_extra_state``; ``start_epoch()``, if defined, is
    called before the first step of each epoch.

    ``paths(step)``: the paths the step trains. ``amp``: bfloat16 autocast (on a CPU, results then depend on whether it
    has bfloat16 instructions). ``cuda_graph``: forward and backward as one CUDA graph, if every step trains the same
    single path. ``pieces``: the step runs through ``wsnas.pieces``, by default on CUDA if the model describes its
    pieces, there is no whole graph, and training uses one process. ``validate()``: the cross-entropy for
    ``Training.patience``, of an average's weights with the last step's buffers; the weights with the lowest value are
    kept. ``on_epoch(metrics)`` may use the model between epochs; both may leave it in eval mode. Under ``torchrun`` the
    ranks share each batch and train the same paths; gradients and losses are averaged.

    Raises Diverged if the loss or a weight is not finite, or the last epoch's loss (an earlier one may recover) is
    above ``HOPELESS_LOSS`` for each of a step's paths; the last checkpoint predates it. Raises KeyboardInterrupt after
    saving a checkpoint. If the weights were averaged, or are the best, batch norm must be calibrated afterwards.
    """
    device = data.device
    ranks = torchruns_ranks()
    rank, world = ranks.rank, ranks.world
    if training.patience and validate is None:
        raise WsnasError("patience needs validation, which supernet training does not have: set it to 0")
    require_suitable(data, training, model)
    first = first_steps(data, training, seed)
    total = first[-1]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer_of(model, training)
    averages = Averages(parameters, training, total)
    state = State(model, optimizer, averages, loss_sum=torch.zeros((), dtype=torch.float64, device=device))
    saved = None if run is None else ranks.load(run, device, total)
    if saved is not None and run is not None:
        with run.fitting():
            state.load_state_dict(saved)
    start_epoch = getattr(model, "start_epoch", None)
    random = device.type == "cpu" or hasattr(model, "training_loss")  # captured graphs of a GPU keep their own state
    own_run = run if rank == 0 else None  # only rank 0 writes
    if own_run is not None and saved is None:
        own_run.forget_records()  # of weights that are gone: trained again elsewhere, they would not be the same
    if own_run is not None and (state.step < total or (own_run.path / "metrics.jsonl").exists()):
        own_run.cut_back("metrics.jsonl", state.metrics_size)

    def drawn(step: int) -> Step:
        """The step's paths; pieces also ask for those of the step to come, which the last step has not."""
        return paths(step) if step < total else []

    gradients = gradients_of(model, training, drawn, device, world, amp, cuda_graph, pieces)

    def step(x: Tensor, y: Tensor, lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr
        seeded = torch_seeded(seed, "step", state.step, rank, device=device) if random else nullcontext()
        with seeded, one_value_a_channel("--batch"):
            losses = gradients(x, y, state.step, state.step / total)
        for loss in ranks.average(parameters, losses, len(y)):
            state.loss_sum += loss
        if training.clip:
            nn.utils.clip_grad_norm_(parameters, training.clip, foreach=True)
        optimizer.step()
        state.step += 1
        averages.add(state.step)

    def diverged(what: str) -> Diverged:
        kept = run is not None and (run.path / "checkpoint.pt").exists()
        return Diverged(
            f"{what} by step {state.step} of {total}: lower the learning rate ({training.optimizer.lr:g}) or clip the "
            f"gradient (now {training.clip:g}; 0 is off)" + "; the last checkpoint is intact" * kept
        )

    def hopeless(loss: float) -> bool:
        return loss > HOPELESS_LOSS * sum(weight for _, weight in paths(total - 1))

    def require_finite(*tensors: Tensor) -> None:
        if not torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all():
            raise diverged("loss or weights are not finite")

    model.train()
    saved_at, said, waiting, slow = time.monotonic(), "", Waiting(), ""
    with stop_between_steps() as stopping, tensorboard(own_run) as board:
        while state.step < total:
            epoch = bisect_right(first, state.step) - 1
            if start_epoch is not None and state.step == first[epoch]:
                start_epoch()
            for x, y in data.epoch(training, seed, epoch, state.step - first[epoch], rank, world):
                lr = learning_rate(training, epoch, state.step, total / training.epochs)
                if isinstance(training.inputs, Sequences):
                    lr *= len(x) / training.inputs.bptt
                step(x, y, lr)
                if report is not None and rank == 0:
                    report(state.step, total, f"steps, epoch {epoch + 1} of {training.epochs}{said}")
                if state.step == first[epoch + 1]:  # an epoch is done: one line of metrics
                    require_finite(state.loss_sum)
                    loss = state.loss_sum.item() / (state.step - first[epoch])
                    if state.step == total and hopeless(loss):
                        raise diverged(f"the loss has risen to {loss:,.0f}, far worse than guessing,")
                    line = {"step": state.step, "epoch": epoch + 1, "loss": loss, "lr": lr}
                    state.loss_sum.zero_()
                    if device.type == "cpu" and time.perf_counter() - waiting.since > 10:
                        slow = waits_in_words(waiting.share())
                    said = f", loss {loss:.3f}{slow}"
                    if validate is not None and training.patience:
                        line["valid_loss"] = averages.validate(validate, state.step)
                    if own_run is not None:
                        state.metrics_size = own_run.append("metrics.jsonl", line)
                        board(line)
                    if state.step == total:
                        averages.become_the_weights()
                    if on_epoch is not None:
                        on_epoch(line)
                    model.train()
                stop, save = ranks.any(stopping(), time.monotonic() - saved_at > checkpoint_seconds)
                if stop or save or state.step == total:
                    require_finite(state.loss_sum, *parameters)  # the last update can overflow after a finite loss
                    if run is not None:
                        own = ranks.own_states(model)
                        if rank == 0:
                            run.save_checkpoint({**state.state_dict(), "ranks": own})
                    saved_at = time.monotonic()
                if stop:
                    raise KeyboardInterrupt


def guesses(losses: Sequence[float], training: Training, classes: int, weight: float = 1.0) -> str:
    """A sentence if a training ended no better than guessing, else nothing.

    ``losses``: of each epoch, of steps whose paths' weights add up to ``weight``. A single epoch's tells nothing: its
    mean includes the untrained network.
    """
    if len(losses) < 2 or losses[-1] < weight * training.guess(classes):
        return ""
    return (
        f"the training learned nothing: the last epoch's loss, {losses[-1]:.3f}, is no better than guessing among "
        f"{classes:,} classes, {weight * training.guess(classes):.3f}; lower the learning rate "
        f"({training.optimizer.lr:g}), or train for more epochs"
    )


def waits_in_words(share: float) -> str:
    """What to append to the progress where a training waits for more than 30 % of its time."""
    if share < 0.3:
        return ""
    threads = torch.get_num_threads()
    advice = "fewer --threads (OMP_NUM_THREADS) wait less" if threads > 1 else "other processes use it"
    return f", waiting {100 * share:.0f} % of the time for a core (or images): {advice}"


def learning_rate(training: Training, epoch: int, step: int, steps_per_epoch: float) -> float:
    """The step's learning rate: constant; half a cosine to 0, updated per epoch or per step; or linear warm-up and
    linear decay to 0, updated per step. ``steps_per_epoch``: their mean, where epochs differ in length.
    """
    lr, total = training.optimizer.lr, training.epochs * steps_per_epoch
    match training.schedule:
        case Fixed():
            return lr
        case Linear(warmup=rise):
            up = (step + 1) / (rise * total) if rise else 1.0
            return lr * min(up, 1.0, (1 - step / total) / (1 - rise))  # 1: the peak may lie between two steps
        case CosinePerEpoch():
            return lr * 0.5 * (1 + math.cos(math.pi * epoch / training.epochs))
        case CosinePerStep():
            return lr * 0.5 * (1 + math.cos(math.pi * (step / steps_per_epoch) / training.epochs))


def first_steps(data: Data, training: Training, seed: int) -> list[int]:
    """The first step of each epoch, then the total number of steps; epochs of text differ in length."""
    return list(accumulate((data.steps(training, seed, epoch) for epoch in range(training.epochs)), initial=0))


def require_suitable(data: Data, training: Training, model: nn.Module | None = None) -> None:
    """Raises WsnasError if the data are fewer than a batch, or do not suit the training, or if torchrun's processes
    cannot share its batches, or if its optimizer is not installed, or if the model lacks something for it.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    if isinstance(training.inputs, Augmentation) and len(data) < training.batch:
        raise WsnasError(
            f"a batch of {training.batch} images is larger than the training set, which has {len(data)}: make the "
            "batch smaller"
        )
    if training.batch % world:
        raise WsnasError(f"a batch of {training.batch} cannot be split evenly across {world} processes; change --batch")
    if world > 1 and isinstance(training.inputs, Augmentation) and training.inputs.last_batch == "keep":
        raise WsnasError("several processes cannot share an incomplete last batch evenly: drop or carry it")
    if isinstance(training.optimizer, RMSpropTFRecipe) and find_spec("timm") is None:
        raise WsnasError("this recipe trains with timm's RMSpropTF: pip install timm")
    data.steps(training, seed=0, epoch=0)  # raises if a text is too short, or the data cannot be augmented so
    if hasattr(model, "require_suitable"):
        model.require_suitable(training)  # type: ignore[union-attr, operator]


def optimizer_of(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The training's optimizer over all parameters of ``model``; those without a gradient are not changed.

    A model can exempt parameters from weight decay by returning them from ``no_weight_decay(training)``.
    """
    spared = list(model.no_weight_decay(training)) if hasattr(model, "no_weight_decay") else []  # type: ignore[operator]
    spared_ids = {id(p) for p in spared}
    decayed = [p for p in model.parameters() if p.requires_grad and id(p) not in spared_ids]
    groups: list[dict[str, Any]] = [{"params": decayed}]
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})
    rule = training.optimizer
    common: dict[str, Any] = {"lr": rule.lr, "momentum": rule.momentum, "weight_decay": rule.weight_decay}
    if isinstance(rule, RMSpropTFRecipe):
        from timm.optim import RMSpropTF

        rmsprop: torch.optim.Optimizer = RMSpropTF(groups, alpha=rule.alpha, eps=rule.eps, **common)
        return rmsprop
    fused = torch.__version__ >= "2.4"  # compared as versions; older torch fuses on CUDA only
    optimizer = torch.optim.SGD(groups, nesterov=rule.nesterov, fused=fused, foreach=not fused, **common)
    if rule.momentum:  # zero instead of none: a fused step cannot mix first steps with later ones
        for parameter in (parameter for group in groups for parameter in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def gradients_of(
    model: nn.Module,
    training: Training,
    paths: Callable[[int], Step],
    device: torch.device,
    world: int,
    amp: bool,
    cuda_graph: bool,
    pieces: bool | None,
) -> Gradients:
    """A function that computes a step's gradients into ``p.grad`` and returns the weighted losses of its paths."""
    custom_loss = getattr(model, "training_loss", None)
    on_gpu = can_be_captured(model, device)
    parameters = list(model.parameters())
    if custom_loss is not None and (pieces or cuda_graph):
        raise WsnasError("a network with its own training_loss is not captured: leave out pieces and cuda_graph")
    if pieces is None:
        one_size = getattr(training.inputs, "last_batch", "drop") != "keep"
        pieces = on_gpu and world == 1 and not cuda_graph and one_size and hasattr(model, "pieces")

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, label_smoothing=training.label_smoothing)

    def backward(x: Tensor, y: Tensor, path: Any, weight: float, progress: float) -> Tensor:
        """Adds the path's gradient to the parameters'; returns its loss."""
        with torch.autocast(device.type, torch.bfloat16, enabled=amp, cache_enabled=not cuda_graph):
            if custom_loss is not None:
                loss: Tensor = custom_loss(x, y, path, training, progress) * weight
            else:
                loss = cross_entropy(model(x, path), y) * weight
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss.detach()

    if pieces:
        by_pieces = Pieces(model, cross_entropy, amp)
        return lambda x, y, step, progress: [by_pieces(x, y, paths(step), paths(step + 1))]

    if cuda_graph and on_gpu:
        replays: dict[int, Callable[[Tensor, Tensor], Tensor]] = {}  # by size: an epoch's last batch can be smaller
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call, unused-ignore]
        pool = torch.cuda.graph_pool_handle()

        def by_graph(x: Tensor, y: Tensor, step: int, progress: float) -> list[Tensor]:
            if len(x) not in replays:  # every step has the same path
                ((path, weight),) = paths(step)
                replays[len(x)] = capture(lambda x, y: backward(x, y, path, weight, 0.0), model, x, y, stream, pool)
            return [replays[len(x)](x, y)]

        return by_graph

    def by_autograd(x: Tensor, y: Tensor, step: int, progress: float) -> list[Tensor]:
        for parameter in parameters:
            parameter.grad = None
        step_paths = paths(step)
        several = len(step_paths) > 1  # a network may change its input in place
        return [backward(x.clone() if several else x, y, path, weight, progress) for path, weight in step_paths]

    return by_autograd


def can_be_captured(model: nn.Module, device: torch.device) -> bool:
    """Whether a training step can be a CUDA graph: on a GPU, if the model has no loss of its own, which may draw."""
    return device.type == "cuda" and not hasattr(model, "training_loss")


def capture(
    backward: Callable[[Tensor, Tensor], Tensor],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    side: torch.cuda.Stream,
    pool: Any,
) -> Callable[[Tensor, Tensor], Tensor]:
    """``backward(x, y)`` as one CUDA graph, because launching kernels otherwise dominates a small network's step.

    Gradients stay in the graph's own tensors, which each replay overwrites. The warm-up before the capture has no side
    effects: buffers (running statistics) are restored, gradients dropped. Graphs that run one after the other, captured
    on the same stream ``side``, share the memory of ``pool``; what each returns stays its own.
    """
    x, y = x.clone(), y.clone()
    model.train()
    graph = torch.cuda.CUDAGraph()
    with buffers_kept(model):
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                model.zero_grad(set_to_none=True)
                backward(x, y)
        torch.cuda.current_stream(x.device).wait_stream(side)
        model.zero_grad(set_to_none=True)
        # threads that decode images may allocate meanwhile
        with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            loss = backward(x, y)
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]

    def replay(new_x: Tensor, new_y: Tensor) -> Tensor:
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()
        for parameter, gradient in gradients:  # another graph's may be there
            parameter.grad = gradient
        return loss

    return replay


@contextmanager
def stop_between_steps() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether Ctrl-C was pressed, so the current step can be finished and saved.

    So do ``wsnas.stopping.SIGNALS``. A second Ctrl-C stops at once. Outside the main thread, which receives no signals,
    it always returns False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed: list[int] = []  # no Event: a second signal that interrupts its set() would wait for the first for ever
    ctrl_c = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: Any) -> None:
        pressed.append(number)
        if number == signal.SIGINT:  # the others may come twice, from Slurm and from the parent process
            signal.signal(number, ctrl_c)

    with handling((signal.SIGINT, *heard()), press):
        yield lambda: bool(pressed)


@contextmanager
def tensorboard(run: Run | None) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yields a function that adds a line of metrics to TensorBoard, if installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        run = None
    if run is None:
        yield lambda line: None
        return
    with SummaryWriter(str(run.path / "tensorboard")) as writer:

        def add(line: dict[str, float]) -> None:
            for name in ("loss", "lr"):
                writer.add_scalar(name, line[name], line["step"])

        yield add
