"""Text on the device, cut into sequences for training by truncated backpropagation through time.

A whole split is one int64 tensor of word ids. For ``streams`` parallel sequences it is folded into
``[rows, streams]``: every stream reads its own part of the text from top to bottom, so the hidden state can be
carried from one sequence to the next. A step's sequence has a random length (Merity et al., 2018, section 5); an
epoch's lengths are drawn at once from (seed, epoch), so a run can resume in the middle of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsnas.errors import WsnasError
from wsnas.randomness import numpy_rng
from wsnas.recipe import Sequences, Training

LONGEST = 20  # rows a sequence may exceed ``Sequences.bptt`` by


class LanguageModel(Protocol):
    """The interface scoring needs: a forward pass that also returns its hidden state."""

    def carry(self, x: Tensor, path: Any, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Words x int64 [T, B], hidden [B, H] (None: zero) -> logits [T * B, words], the hidden state after x."""
        ...


class Tokens:
    """One split on one device. ``ids`` [N] int64; ``streams``: number of parts read in parallel when scoring.

    The references score validation text in 10 streams and test text in 1. A stream's first words have no context,
    so the number affects the result.
    """

    def __init__(self, ids: NDArray[np.int64], device: torch.device, streams: int = 1) -> None:
        self.ids = torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64)).to(device)
        self.device, self.streams = device, streams

    def __len__(self) -> int:
        return len(self.ids)

    def fold(self, streams: int) -> Tensor:
        """[rows, streams]: column s is the s-th of ``streams`` equal parts of the text; the remainder is dropped."""
        rows = len(self) // streams
        if rows < 3:
            raise WsnasError(f"a text of {len(self)} tokens is too short for {streams} parallel sequences")
        return self.ids[: rows * streams].view(streams, rows).T

    def lengths(self, training: Training, seed: int, epoch: int) -> NDArray[np.int64]:
        """[steps] rows per step of the epoch: N(bptt, 5), one in twenty N(bptt / 2, 5), from 5 to bptt + 20.

        As in the references, an epoch ends when at most one word per stream is left to predict.
        """
        if not isinstance(training.inputs, Sequences):
            raise WsnasError("training on text needs a sequence length: give it Sequences (the references use 35)")
        bptt = training.inputs.bptt
        rows = len(self) // training.batch
        if rows < 3:
            raise WsnasError(f"a text of {len(self)} tokens is too short for a batch of {training.batch} sequences")
        rng = numpy_rng(seed, "tokens", epoch)
        draws = rows // 5 + 1
        centres = np.where(rng.random(draws) < 0.95, bptt, bptt / 2)
        drawn = np.trunc(rng.normal(centres, 5.0)).astype(np.int64)
        lengths = drawn.clip(5, bptt + LONGEST)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        steps = int(np.searchsorted(starts, rows - 2))
        found: NDArray[np.int64] = np.minimum(lengths, rows - 1 - starts[:-1])[:steps]
        return found

    def steps(self, training: Training, seed: int, epoch: int) -> int:
        return len(self.lengths(training, seed, epoch))

    def epoch(
        self, training: Training, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's sequences from step ``start``: x [T, B] and the next words, y [T * B], int64.

        There are ``training.batch`` streams; rank ``r`` of ``world`` reads r, r + world, ...
        """
        lengths = self.lengths(training, seed, epoch)
        text = self.fold(training.batch)[:, rank::world].contiguous()
        first = int(lengths[:start].sum())
        for length in lengths[start:].tolist():
            yield text[first : first + length], text[first + 1 : first + 1 + length].reshape(-1)
            first += length

    def ordered(self, batch: int, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``limit`` tokens in order, about ``batch`` at a time: x [T, streams] and y [T * streams]."""
        text = self.fold(self.streams)
        end = len(text) - 1 if limit is None else min(len(text) - 1, max(1, limit // self.streams))
        rows = max(1, batch // self.streams)
        for first in range(0, end, rows):
            last = min(first + rows, end)
            yield text[first:last], text[first + 1 : last + 1].reshape(-1)

    @torch.inference_mode()
    def score(self, model: nn.Module, path: Any, batch: int, limit: int | None = None) -> tuple[float, float]:
        """(perplexity, mean cross-entropy in nats) of the first ``limit`` tokens; fp32, eval mode.

        The hidden state is carried through the text; ``batch``, the tokens per forward pass, does not affect the
        result. The mean is over the predicted words: the references divide by one row more, which lowers their
        validation perplexity on Penn Treebank by less than 0.06 %.
        """
        model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        hidden: Tensor | None = None
        count = 0
        for x, y in self.ordered(batch, limit):
            logits, hidden = model.carry(x, path, hidden)  # type: ignore[operator]  # a LanguageModel
            loss += F.cross_entropy(logits, y, reduction="sum")
            count += len(y)
        mean = loss.item() / count
        return (math.exp(mean) if mean < 700 else math.inf), mean
