"""Text as it is cut for training and scoring, against the references' rules worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from wsnas.data.tokens import LONGEST, Tokens
from wsnas.errors import WsnasError
from wsnas.recipe import SGD, Sequences, Training

CPU = torch.device("cpu")
TRAINING = Training(1, 4, SGD(1.0), inputs=Sequences(35))


def counting(n: int, streams: int = 1) -> Tokens:
    return Tokens(np.arange(n), CPU, streams)


def test_columns_are_parts_of_the_text_in_order() -> None:
    text = counting(23).fold(4)
    assert text.tolist() == [[0, 5, 10, 15], [1, 6, 11, 16], [2, 7, 12, 17], [3, 8, 13, 18], [4, 9, 14, 19]]


def test_targets_are_the_words_that_follow() -> None:
    for x, y in counting(4000).epoch(TRAINING, 0, 0):
        assert x.dtype == y.dtype == torch.int64
        assert x.shape[1] == 4
        assert (x + 1).flatten().tolist() == y.tolist()


def test_an_epoch_reads_every_stream_once_from_the_top() -> None:
    """Sequences follow each other without a gap; at most one word per stream is left, as in the references' loop."""
    for rows in (3, 4, 7, 40, 1000, 1001, 1002):
        parts = [x for x, _ in counting(4 * rows).epoch(TRAINING, 0, 3)]
        read = torch.cat(parts)
        assert torch.equal(read, counting(4 * rows).fold(4)[: len(read)])
        assert rows - 2 <= len(read) <= rows - 1
        assert all(len(part) >= 2 for part in parts)


def test_lengths_are_jittered_as_the_references_jitter() -> None:
    """0.95 N(35, 5) + 0.05 N(17.5, 5), truncated to whole rows, from 5 to 55: mean and shares within 5 errors."""
    text = counting(4 * 2_000_000)
    lengths = text.lengths(TRAINING, 0, 0)[:-1]
    assert lengths.min() >= 5
    assert lengths.max() <= 35 + LONGEST == 55
    n = len(lengths)
    mean = 0.95 * 35 + 0.05 * 17.5 - 0.5  # truncation takes half a row
    assert lengths.mean() == pytest.approx(mean, abs=5 * 7 / math.sqrt(n))
    below = 0.05 * stats.norm.cdf(26, 17.5, 5) + 0.95 * stats.norm.cdf(26, 35, 5)
    assert (lengths <= 25).mean() == pytest.approx(below, abs=5 * math.sqrt(below / n))
    other = counting(4000).lengths(Training(1, 4, SGD(1.0), inputs=Sequences(8)), 0, 0)
    assert other.min() >= 2
    assert other.max() <= 28


def test_lengths_depend_on_seed_and_epoch_alone() -> None:
    text = counting(8000)
    assert text.lengths(TRAINING, 0, 0).tolist() == text.lengths(TRAINING, 0, 0).tolist()
    assert text.lengths(TRAINING, 0, 0).tolist() != text.lengths(TRAINING, 0, 1).tolist()
    assert text.lengths(TRAINING, 0, 0).tolist() != text.lengths(TRAINING, 1, 0).tolist()
    assert text.steps(TRAINING, 0, 0) == len(list(text.epoch(TRAINING, 0, 0)))


def test_an_epoch_resumes_in_the_middle_and_is_split_among_ranks() -> None:
    text = counting(4000)
    whole = list(text.epoch(TRAINING, 5, 2))
    rest = list(text.epoch(TRAINING, 5, 2, start=7))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(whole[7:], rest, strict=True))
    ranks = [list(text.epoch(TRAINING, 5, 2, rank=r, world=2)) for r in (0, 1)]
    for (x, _), (even, _), (odd, _) in zip(whole, *ranks, strict=True):
        assert torch.equal(x[:, ::2], even)
        assert torch.equal(x[:, 1::2], odd)


class Bigrams(nn.Module):
    """A fixed table of logits by the word before; its hidden state counts the rows it has seen."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.table = torch.randn(words, words, generator=torch.Generator().manual_seed(0))
        self.rows = 0

    def carry(self, x: Tensor, path: Any, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden = torch.zeros(x.shape[1], 1) if hidden is None else hidden
        self.rows = int(hidden[0, 0]) + len(x)
        return self.table[x.flatten()], hidden + len(x)


@pytest.mark.parametrize("streams", [1, 10])
def test_perplexity_by_hand(streams: int) -> None:
    """It is exp of the mean of -log p over the words that follow another in their stream, whatever the pass's size."""
    ids = np.random.default_rng(0).integers(0, 7, 503)
    data, model = Tokens(ids, CPU, streams), Bigrams(7)
    log_p = torch.log_softmax(model.table.double(), -1).numpy()
    parts = ids[: len(ids) // streams * streams].reshape(streams, -1)
    losses = [-log_p[a, b] for part in parts for a, b in pairwise(part)]
    for batch in (1, 37, 100, 10_000):
        perplexity, loss = data.score(model, None, batch)
        assert loss == pytest.approx(np.mean(losses), rel=1e-6)
        assert perplexity == pytest.approx(math.exp(np.mean(losses)), rel=1e-6)
        assert model.rows == parts.shape[1] - 1  # the state was carried through
    limited = [-log_p[a, b] for part in parts for a, b in pairwise(part[:21])]
    assert data.score(model, None, 50, limit=20 * streams)[1] == pytest.approx(np.mean(limited), rel=1e-6)


def test_a_hopeless_model_has_infinite_perplexity() -> None:
    model = Bigrams(3)
    model.table = torch.tensor([[0.0, 5000.0, 0.0]]).expand(3, 3)
    perplexity, loss = Tokens(np.array([0, 2] * 50), CPU).score(model, None, 10)
    assert perplexity == math.inf
    assert math.isfinite(loss)


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(WsnasError, match="11 tokens is too short for 4 parallel sequences"):
        counting(11).fold(4)
    with pytest.raises(WsnasError, match="11 tokens is too short for a batch of 4"):
        counting(11).steps(TRAINING, 0, 0)
    with pytest.raises(WsnasError, match="Sequences"):
        counting(100).steps(Training(1, 4, SGD(1.0)), 0, 0)
