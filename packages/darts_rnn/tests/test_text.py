"""Reading text: Penn Treebank's known numbers where it is at hand, small files everywhere, and bad files."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from darts_rnn import SPACE
from darts_rnn.recipes import MICRO, PAPER
from darts_rnn.text import PTB_MD5, TRAGEDIES, load_text, number_words, vocabulary_size
from wsnas import WsnasError

CPU = torch.device("cpu")
SHARED = [parent / "shared" / "data" / "ptb.zip" for parent in Path(__file__).resolve().parents]
SHARED += [parent / "data" / "ptb.zip" for parent in Path(__file__).resolve().parents]
PTB = next((path for path in SHARED if path.exists()), None)

LINES = [f"the cat number{i} sat on the mat" for i in range(1000)]


def three(folder: Path, names: str = "{}.txt") -> Path:
    folder.mkdir(exist_ok=True)
    for part, lines in (("train", LINES[:800]), ("valid", LINES[800:900]), ("test", LINES[900:])):
        (folder / names.format(part)).write_text("\n".join(lines) + "\n")
    return folder


def test_words_are_numbered_by_frequency() -> None:
    tokens = ["b", "a", "a", "c", "c", "<unk>", "d"]
    assert number_words(tokens) == ("a", "c", "<unk>", "b", "d")
    assert number_words(tokens, 3) == ("a", "c", "<unk>")
    assert number_words(["a", "a", "b", "b", "c"], 3) == ("a", "b", "<unk>")
    assert number_words(["a", "b"]) == ("a", "b", "<unk>")
    with pytest.raises(WsnasError, match="leaves none"):
        number_words(tokens, 2)


def test_three_files_are_read_from_a_folder_or_a_zip(tmp_path: Path) -> None:
    folder = three(tmp_path / "text")
    text = load_text(str(folder))
    assert len(text.train) == 800 * 8
    assert [text.words[i] for i in text.train[:8]] == ["the", "cat", "number0", "sat", "on", "the", "mat", "<eos>"]
    assert text.words[:3] == ("the", "<eos>", "cat")
    assert len(text.words) == 800 + 6 + 1  # numbers, the/cat/sat/on/mat/<eos>, <unk>
    assert (text.valid == text.words.index("<unk>")).sum() == 100  # numbers that training text lacks
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as stored:
        for path in folder.iterdir():
            stored.write(path, f"inside/{path.name}")
    zipped = load_text(str(tmp_path / "text.zip"))
    assert zipped.words == text.words
    assert (zipped.test == text.test).all()


@pytest.mark.parametrize("packed", [False, True])
def test_one_plain_file_is_cut_into_three(tmp_path: Path, packed: bool) -> None:
    """Every line in one part, 80/10/10, pieces in order: of every ten hundredths the ninth and tenth are held out."""
    content = "".join(line + "\n" for line in LINES).encode()
    path = tmp_path / ("text.txt.gz" if packed else "text.txt")
    path.write_bytes(gzip.compress(content) if packed else content)
    text = load_text(str(path), 5)
    assert (len(text.train), len(text.valid), len(text.test)) == (6400, 800, 800)
    whole = load_text(str(path))
    held_out = {f"number{i}" for i in range(1000) if i // 10 % 10 >= 8}
    assert not held_out & set(whole.words)
    assert len(text.words) == 5
    assert set(text.words) == {"the", "<eos>", "cat", "mat", "<unk>"}


def test_vocabulary_size_needs_no_files_where_it_is_known(tmp_path: Path) -> None:
    assert vocabulary_size(PAPER) == 10_000
    assert vocabulary_size(dataclasses.replace(PAPER, vocabulary=700)) == 700
    assert vocabulary_size(MICRO) == MICRO.vocabulary == 500
    recipe = dataclasses.replace(MICRO, dataset=str(three(tmp_path / "t")), vocabulary=10_000)
    assert vocabulary_size(recipe) == 807 == SPACE.load_data(dataclasses.replace(recipe, train_size=None), CPU).classes


def test_micro_text_is_the_one_the_ground_truth_was_trained_on() -> None:
    assert hashlib.md5(gzip.decompress(TRAGEDIES.read_bytes())).hexdigest() == "c454b1c389b80df4190214fda5edaa53"
    splits = SPACE.load_data(MICRO, CPU)
    assert len(splits.train) == 130_058  # all of it
    assert min(len(splits.valid), len(splits.test)) > 16_000
    text = load_text(MICRO.dataset, MICRO.vocabulary)
    share = {word: (text.train == i).mean() for i, word in enumerate(text.words)}
    assert share["<unk>"] < 0.2
    assert {"the", "and", "<eos>", ",", "thou", "hamlet"} <= set(text.words)


def test_training_tokens_can_be_fewer(tmp_path: Path) -> None:
    recipe = dataclasses.replace(MICRO, dataset=str(three(tmp_path / "t")), train_size=500)
    assert len(SPACE.load_data(recipe, CPU).train) == 500
    with pytest.raises(WsnasError, match="6400 training tokens, not 6401"):
        SPACE.load_data(dataclasses.replace(recipe, train_size=6401), CPU)


@pytest.mark.skipif(PTB is None, reason="needs shared/data/ptb.zip")
def test_penn_treebank_has_its_known_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PTB is not None
    monkeypatch.setenv("WSNAS_DATA", str(PTB.parent))
    text = load_text("ptb")
    assert (len(text.train), len(text.valid), len(text.test)) == (929_589, 73_760, 82_430)
    assert len(text.words) == 10_000
    assert text.words[:3] == ("the", "<unk>", "<eos>")
    splits = SPACE.load_data(PAPER, CPU)
    assert splits.classes == 10_000
    assert next(splits.valid.ordered(1000))[0].shape == (100, 10)
    assert next(splits.test.ordered(1000))[0].shape == (1000, 1)


@pytest.mark.parametrize("between", ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_only_line_feeds_and_carriage_returns_end_a_line(tmp_path: Path, between: str) -> None:
    """600 lines became 1,200; what is between their words only separates them."""
    lines = [f"one two{between}three{between} four{i}" for i in range(600)]
    plain = tmp_path / "plain.txt"
    plain.write_bytes("\n".join(line.replace(between, " ") for line in lines).encode())
    expected = load_text(str(plain))
    for i, end in enumerate(("\n", "\r\n", "\r")):
        path = tmp_path / f"{i}.txt"
        path.write_bytes(end.join(lines).encode("utf-8-sig"))
        found = load_text(str(path))
        assert found.words == expected.words
        assert sum((part == found.words.index("<eos>")).sum() for part in (found.train, found.valid, found.test)) == 600
        assert (found.train == expected.train).all()


@pytest.mark.parametrize("second", ["old/train.txt", "ptb.train.txt"])
def test_two_texts_for_a_part_are_refused(tmp_path: Path, second: str) -> None:
    folder = three(tmp_path / "text")
    (folder / "old").mkdir()
    (folder / second).write_text("another text\n" * 500)
    (folder / "readme.txt").write_text("no part\n")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as stored:
        for path in sorted(folder.rglob("*.txt")):
            stored.write(path, path.relative_to(folder))
    for place in (folder, tmp_path / "text.zip"):
        with pytest.raises(WsnasError, match=rf"holds two train texts, .*{second}.*: keep one"):
            load_text(str(place))


# bad files ---------------------------------------------------------------------------------------------------


def test_missing_penn_treebank_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchtext", None)  # as where it is not installed
    monkeypatch.setitem(sys.modules, "torchtext.datasets", None)
    with pytest.raises(WsnasError, match=r"put ptb\.train\.txt, ptb\.valid\.txt and ptb\.test\.txt into"):
        load_text("ptb")
    three(tmp_path / "ptb", "ptb.{}.txt")
    with pytest.raises(WsnasError, match=r"ptb\.train\.txt differs from the known copy"):
        load_text("ptb")
    assert len(set(PTB_MD5.values())) == 3


def test_bad_text_is_refused_in_one_sentence(tmp_path: Path) -> None:
    cases: list[tuple[str, str]] = [
        (str(tmp_path / "nowhere.txt"), "no text"),
        ("tragedy", "did you mean 'tragedies'"),
        (str(tmp_path / "no.zip"), "cannot read"),
    ]
    folder = three(tmp_path / "two")
    (folder / "test.txt").unlink()
    cases.append((str(folder), r"lacks ptb\.test\.txt \(or test\.txt\)"))
    short = three(tmp_path / "short")
    (short / "valid.txt").write_text("two words\n")
    cases.append((str(short), "the valid text of .* has 3 tokens"))
    for name, content, why in (
        ("binary.txt", b"\xff\xfe\x00" * 1000, "not a plain text"),
        ("cut.gz", gzip.compress(b"word\n" * 1000)[:-20], "truncated"),
        ("wrong.gz", b"\x1f\x8b" + b"x" * 100, "truncated"),
        ("cut.zip", b"PK\x03\x04" + b"x" * 100, "cannot read"),
        ("few.txt", b"a line\n" * 99, "has 99 lines"),
        ("empty.txt", b"", "has 0 lines"),
        ("blank.txt", b"\n" * 200, "valid text of .* has 20 tokens"),
    ):
        (tmp_path / name).write_bytes(content)
        cases.append((str(tmp_path / name), why))
    for dataset, why in cases:
        with pytest.raises(WsnasError, match=why) as refusal:
            load_text(dataset)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("form", ["CRLF", "no last newline", "BOM", "gzip"])
def test_the_form_of_a_text_does_not_change_its_tokens(tmp_path: Path, form: str) -> None:
    """As editors, Windows and downloads leave Penn Treebank and other texts."""
    lines = [f" the <unk> cat {i % 7} sat on N mats " for i in range(200)]
    plain = "\n".join(lines).encode() + b"\n"
    other = {
        "CRLF": plain.replace(b"\n", b"\r\n"),
        "no last newline": plain[:-1],
        "BOM": b"\xef\xbb\xbf" + plain,
        "gzip": gzip.compress(plain),
    }[form]
    for name, content in (("plain", plain), ("other", other)):
        (tmp_path / name).mkdir()
        for part in ("train", "valid", "test"):
            (tmp_path / name / f"{part}.txt").write_bytes(content)
    one, two = (load_text(str(tmp_path / name)) for name in ("plain", "other"))
    assert one.words == two.words
    for part in ("train", "valid", "test"):
        assert np.array_equal(getattr(one, part), getattr(two, part))
    if form in ("CRLF", "no last newline"):  # under Penn Treebank's names it is refused, and how to use it is said
        (tmp_path / "other/train.txt").rename(tmp_path / "other/ptb.train.txt")
        with pytest.raises(WsnasError, match=r"differs from the known copy of Penn Treebank.*rename it to train\.txt"):
            load_text(str(tmp_path / "other"))


def test_penn_treebank_is_the_known_copy_by_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path))
    three(tmp_path / "ptb")
    with pytest.raises(WsnasError, match=r"ptb: train\.txt differs from the known copy.* in a folder of its own"):
        load_text("ptb")
    load_text(str(tmp_path / "ptb"))


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_a_bomb_of_text_is_refused(tmp_path: Path, kind: str) -> None:
    content = b"the cat sat\n" * 5_000_000
    path = tmp_path / f"text.{kind}"
    if kind == "gzip":
        path.write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in ("train", "valid", "test"):
                archive.writestr(f"{part}.txt", content)
    with pytest.raises(WsnasError, match=r"holds more than 1\d MB"):
        load_text(str(path))


def test_a_device_is_no_text() -> None:
    with pytest.raises(WsnasError, match="not a regular file"):
        load_text("/dev/zero")
