"""What the paper costs, computed from measurements on one GPU. Prints the tables of docs/gpu.md and docs/cluster.md.

    python benchmarks/paper_cost.py

Steps are exact; milliseconds are those in docs/results/gpu/h100 (one NVIDIA H100), of float32 only, in which the
recipes train. What was not measured is estimated from the space's own supernet step and marked ~:

- A stand-alone step takes as long as the supernet's where launching kernels, whose number does not depend on the
  batch, determines the time; on darts_cnn between its batch's share of that and as long.
- Scoring passes images (rows of text) forward only, which takes a third of a step of as many. Where a training's
  best weights are kept, it validates after every epoch.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsnas import load_space
from wsnas.data.images import steps_of
from wsnas.data.tokens import Tokens
from wsnas.recipe import Sequences, Training

RATES = Path(__file__).parents[1] / "docs/results/gpu/h100"
MEASURED = ("nb101", "nb201", "darts_cnn", "darts_rnn")  # proxyless is not
PUBLISHED = ("nb101", "nb201")  # their ground truth, and so all studies; the others: those of budgets
SAMPLES = {"darts_cnn": 377, "darts_rnn": 137}  # architectures that the paper trained alone (Appendix B)
TRAIN, TOKENS = 50_000, 929_589  # CIFAR's training images, Penn Treebank's training words
TO_SCORE = {"nb101": 10_000, "nb201": 5_000, "darts_cnn": 10_000, "darts_rnn": 73_760}  # validation images, or words
SCORED = 1000  # architectures at most, by a supernet of one of these studies; of the other spaces, as in the paper, 100
BUDGETS, SEEDS, MULTI = 7, 3, 4
FAIR = {"nb101": 3, "nb201": 5}  # paths per step of strict fairness
OTHERS = {"nb201": (25_000, 151_700)}  # images of the other data sets that tricks trains on
GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Job:
    """A supernet: its steps, counted in supernets of 1,000 epochs, and how many submodels it scores at most."""

    length: float
    scored: int


def rates() -> Iterator[tuple[str, Any]]:
    for file in ("gpu_check.json", "gpu_check-2.json"):
        yield from json.loads((RATES / file).read_text())["rates"].items()


def supernet_ms(space: str) -> float:
    """Of a step in float32, the fastest way measured."""
    fp32 = (v for k, v in rates() if k.startswith(f"{space} supernet") and k.endswith("fp32") and isinstance(v, dict))
    return float(min(v["ms a step"] for v in fp32))


def alone_ms(space: str) -> tuple[float, float]:
    """Of a step of a stand-alone training, at least and at most; measured on nb201 only."""
    if space == "nb201":
        return (float(dict(rates())["nb201 alone, captured fp32, ms a step"]),) * 2
    recipe, most = load_space(space).recipes["paper"], supernet_ms(space)
    # nb101 and darts_rnn take longer in bfloat16, with more but faster kernels: launching them is what takes the time
    return most * (recipe.standalone.batch / recipe.supernet.batch if space == "darts_cnn" else 1), most


def steps(space: str, training: Training) -> int:
    if isinstance(training.inputs, Sequences):
        text = Tokens(np.zeros(TOKENS, np.int64), torch.device("cpu"))
        return sum(text.steps(training, 0, epoch) for epoch in range(training.epochs))
    images = load_space(space).recipes["paper"].train_size or TRAIN
    return sum(steps_of(images, training, epoch) for epoch in range(training.epochs))


def scoring_seconds(space: str) -> float:
    """Of one submodel: calibrate and validate."""
    if space == "nb201":
        return float(dict(rates())["scoring, s a submodel, batches of 1000, fp32"])
    recipe = load_space(space).recipes["paper"]
    training, seconds = recipe.supernet, supernet_ms(space) / 1000
    if isinstance(training.inputs, Sequences):  # a row of the text takes as long in each of its few streams as in many
        return float(TO_SCORE[space] / recipe.valid_streams / training.inputs.bptt * seconds / 3)
    return float((recipe.calibration_images + TO_SCORE[space]) / training.batch * seconds / 3)


def jobs(space: str) -> list[Job]:
    """The supernets of all studies of the paper, those they share once."""
    epochs = load_space(space).recipes["paper"].supernet.epochs
    budgets = [round(epochs / 2**halvings) / epochs for halvings in range(BUDGETS)]
    if space not in PUBLISHED:
        return SEEDS * [Job(length, 100) for length in budgets]
    size, factors = load_space(space).size, [2, 4, 8, 16, 32, 64, 128]
    left = [min(SCORED, round(size / factor)) for factor in factors]
    density, capacity = [Job(1, n) for n in left[:-1]], [Job(1, n) for n in left]
    # at 1x the study density also scores what the supernets of its sub-spaces score
    shared = [Job(1, SCORED + sum(left[:-1])), *(Job(length, SCORED) for length in budgets[1:])]
    return SEEDS * [*shared, *density, *capacity, *tricks(space)] + [Job(1, SCORED)]  # the last: another seed


def tricks(space: str) -> list[Job]:
    """Of each seed beside the baseline: strict fairness, multi-path, another learning rate, other data sets."""
    training = load_space(space).recipes["paper"].supernet
    others = [steps_of(images, training, 0) / steps_of(TRAIN, training, 0) for images in OTHERS.get(space, ())]
    return [Job(length, SCORED) for length in (FAIR[space], MULTI, 1, *others)]


def days(hours: Iterable[float], gpus: int) -> float:
    """If a GPU takes the longest job that is left as soon as it is free."""
    busy = [0.0] * gpus
    for one in sorted(hours, reverse=True):
        heapq.heappush(busy, heapq.heappop(busy) + one)
    return max(busy) / 24


def spread(low: float, high: float, digits: int = 2) -> str:
    """With so many significant digits."""
    ends = [f"{float(f'{end:.{digits}g}'):,g}" for end in (low, high)]
    return " to ".join(dict.fromkeys(ends))


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


def supernet_hours(space: str) -> float:
    return steps(space, load_space(space).recipes["paper"].supernet) * supernet_ms(space) / 3.6e6


def one_of_each() -> None:
    columns = ["a supernet: steps", "ms a step", "hours", "a training alone: steps", "ms a step", "hours"]
    row("space", *columns, "the paper's sample", "hours")
    print("|" + "---|" * 9)
    for space in MEASURED:
        recipe, about = load_space(space).recipes["paper"], "" if space == "nb201" else "~"
        least, most = alone_ms(space)
        alone = steps(space, recipe.standalone)
        more = recipe.standalone.epochs * scoring_seconds(space) / 3600 if recipe.standalone.patience else 0.0
        low, high = alone * least / 3.6e6 + more, alone * most / 3.6e6 + more
        count = SAMPLES.get(space)
        row(
            space,
            f"{steps(space, recipe.supernet):,}",
            f"{supernet_ms(space):.1f}",
            f"{supernet_hours(space):.1f}",
            f"{alone:,}",
            about + spread(least, most, 3),
            about + spread(low, high),
            "published" if count is None else count,
            "" if count is None else about + spread(count * low, count * high),
        )


def all_studies() -> None:
    columns = ["hours a supernet", "supernets", "hours to train", "submodels scored", "s each", "hours to score"]
    row("space", *columns, *(f"days on {gpus}" for gpus in GPUS))
    print("|" + "---|" * (7 + len(GPUS)))
    for space in MEASURED:
        each, seconds, about = supernet_hours(space), scoring_seconds(space), "" if space == "nb201" else "~"
        supernets = jobs(space)
        length, scored = sum(job.length for job in supernets), sum(job.scored for job in supernets)
        hours = [job.length * each + job.scored * seconds / 3600 for job in supernets]
        row(
            space,
            f"{each:.1f}",
            f"{length:.0f}",
            f"{length * each:.0f}",
            f"{scored:,}",
            f"{about}{seconds:.2g}",
            f"{about}{scored * seconds / 3600:.0f}",
            *(f"{days(hours, gpus):.2f}" for gpus in GPUS),
        )


def main() -> None:
    one_of_each()
    print()
    all_studies()
    print()
    for space in PUBLISHED:  # Table 3 also has supernets of 2,000 epochs; their baseline is none of the other studies'
        length = 2 * (SEEDS * (1 + sum(job.length for job in tricks(space))) + 1)
        hours = length * supernet_hours(space)
        print(f"tricks on {space} with 2,000 epochs: {length:.0f} supernets more, {hours:.0f} hours without scoring")


if __name__ == "__main__":
    main()
