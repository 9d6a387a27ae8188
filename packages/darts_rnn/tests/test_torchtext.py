"""torchtext's Penn Treebank and vocabulary give the same ids as the built-in reader (``nox -s torchtext``)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

pytest.importorskip("torchtext", reason="needs torchtext, which works with torch 2.3", exc_type=ImportError)

from torchtext.datasets import PennTreebank
from torchtext.vocab import build_vocab_from_iterator

from darts_rnn.text import load_text

SHARED = [
    folder / name for folder in Path(__file__).resolve().parents for name in ("shared/data/ptb.zip", "data/ptb.zip")
]
PTB = next((path for path in SHARED if path.exists()), None)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that has the files where torchtext looks for them; it would download them otherwise."""
    if PTB is None:
        pytest.skip("needs shared/data/ptb.zip")
    with zipfile.ZipFile(PTB) as stored:
        stored.extractall(tmp_path / "datasets" / "PennTreebank")
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    return tmp_path


def test_ids_are_the_same(root: Path) -> None:
    ours, parts = load_text("ptb"), ("train", "valid", "test")
    lines = {part: PennTreebank(root=str(root), split=part) for part in parts}
    tokens = {part: [word for line in lines[part] for word in (*line.split(), "<eos>")] for part in parts}
    vocabulary = build_vocab_from_iterator([tokens["train"]])
    assert len(ours.words) == 10_000
    assert list(ours.words) == vocabulary.get_itos()
    assert [len(tokens[part]) for part in parts] == [929_589, 73_760, 82_430]
    for part in parts:
        assert getattr(ours, part).tolist() == vocabulary(tokens[part])
