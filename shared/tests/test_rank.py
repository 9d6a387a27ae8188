"""``wsnas rank`` with the core alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from toy_space import ALL, TOY

from wsnas.cli import main

NAMES = [TOY.encode(arch) for arch in ALL[::4]]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def scored(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supernet, ``net``, with the scores of seven architectures, and their ground truth, ``truth.csv``."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{name},{50 + 3 * i % 7},{50 + i}" for i, name in enumerate(NAMES)]
    Path("truth.csv").write_text("\n".join(["architecture,toy_valid_2,toy_test_2", *rows]) + "\n")
    run("train-supernet", "toy", "--out", "net", "--device", "cpu")
    run("evaluate", "net", "--table", "truth.csv", "--device", "cpu")


def test_an_architecture_without_a_result_is_left_out(scored: None) -> None:
    """One whose training failed and one that is not in the table, as ``wsnas correlate`` does."""
    head, *rows = Path("truth.csv").read_text().splitlines()
    Path("part.csv").write_text("\n".join([head, f"{NAMES[0]},,", *rows[2:]]) + "\n")
    correlated, ranked = (run(command, "net", "--table", "part.csv") for command in ("correlate", "rank"))
    assert "over 5 of 7 evaluated architectures" in correlated
    assert "over 5 of 7 evaluated architectures" in ranked
    assert ranked.split()[2] == correlated.split()[1].rstrip(",")  # the same correlation
    Path("one.csv").write_text(f"{head}\n{rows[0]}\n")
    refused = CliRunner().invoke(main, ["rank", "net", "--table", "one.csv"])
    assert refused.exit_code == 2
    assert "1 of 7 scores in net are finite and have a toy ground truth" in refused.output
