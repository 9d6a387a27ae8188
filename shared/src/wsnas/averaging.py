"""The weights a training returns: the last, their mean over the last steps, or the best by validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsnas.recipe import Training


class Averages:
    """The mean of the weights over the last steps, and the best weights by validation.

    The mean covers the last ``Training.average_last`` of the steps or, with ``Training.patience``, all steps after the
    first epoch whose validation is worse than the best before the last ``patience`` (Merity et al., 2018, algorithm 1).
    Batch norm's running statistics stay those of the last step: ``validate``, and who uses the result, recalibrates.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], training: Training, total: int) -> None:
        self.weights = [p.detach() for p in parameters]
        self.patience = training.patience
        self.start = total if training.patience else total - round(training.average_last * total)
        self.mean: list[Tensor] = []
        self.best: list[Tensor] = []
        self.validations: list[float] = []  # cross-entropy, one per epoch

    def add(self, step: int) -> None:
        """Adds the weights after this many steps."""
        if step > self.start:
            if not self.mean:
                self.mean = [weight.clone() for weight in self.weights]
            else:
                torch._foreach_lerp_(self.mean, self.weights, 1 / (step - self.start))

    def validate(self, validate: Callable[[], float], step: int) -> float:
        """Validates the mean, or the weights if there is none yet; keeps the best; may start averaging."""
        current = [weight.clone() for weight in self.weights]
        if self.mean:
            torch._foreach_copy_(self.weights, self.mean)
        loss = validate()
        if loss < min(self.validations, default=math.inf):
            self.best = [weight.clone() for weight in self.weights]
        torch._foreach_copy_(self.weights, current)
        earlier = self.validations[: -self.patience]
        if earlier and loss > min(earlier) and step <= self.start:
            self.start = step
        self.validations.append(loss)
        return loss

    def become_the_weights(self) -> None:
        """Copies the best weights, else the mean, into the model, if there is either."""
        if self.best or self.mean:
            torch._foreach_copy_(self.weights, self.best or self.mean)

    def state_dict(self) -> dict[str, Any]:
        state = {"average": self.mean, "average_from": self.start}
        return {**state, "best": self.best, "validations": self.validations}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.mean, self.start = saved["average"], saved["average_from"]
        self.best, self.validations = saved["best"], saved["validations"]
