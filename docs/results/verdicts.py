"""Writes ``verdicts.md``: every claim with its verdicts on each space, at the micro scale and on real data.

Run ``python docs/results/verdicts.py`` after results change. The page of ``wsnas report`` has the same table, with the
measurements and the rules.
"""

from __future__ import annotations

from pathlib import Path

from wsnas.studies.report import ORDER, claims_table, read_study, study_folders

HERE = Path(__file__).parent
SIGNS = {"holds": "holds", "does not hold": "**no**", "inconclusive": "?"}


def verdicts() -> str:
    """The page, in Markdown."""
    studies = [read_study(folder) for folder in study_folders([HERE / "micro", HERE / "real"])]
    studies = [study for study in studies if study.name in ORDER]
    columns, rows = claims_table(sorted(studies, key=lambda study: ORDER.index(study.name)))
    names = [f"{space}<br>{data}" for space, data in columns]
    lines = [
        "# Verdicts so far",
        "",
        "*holds*, **no** (does not hold) or ? (inconclusive), by the rules of [the claims](../claims.md) as they were",
        "when a study ran: older ones here. Empty: not asked. Digits and tragedies are the micro scale. Written by",
        "`python docs/results/verdicts.py`.",
        "",
        "| claim | " + " | ".join(names) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for row in rows:
        cells = ["" if cell is None else SIGNS[cell.verdict] for cell in row.cells]
        lines.append(f"| {row.claim} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "verdicts.md").write_text(verdicts())
