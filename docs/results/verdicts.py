"""Writes ``verdicts.md``, every claim with its verdicts on each space, and the verdicts on the page of each study.

Run ``python docs/results/verdicts.py`` after results change. The page of ``wsnas report`` has the same table, with the
measurements and the rules.
"""

from __future__ import annotations

from pathlib import Path

from wsnas.studies.report import ORDER, claims_table, read_study, study_folders

HERE = Path(__file__).parent
PAGES = HERE.parent / "studies"
BEGIN, END = "<!-- verdicts: written by docs/results/verdicts.py -->\n", "<!-- end -->"
SIGNS = {"holds": "holds", "does not hold": "**no**", "inconclusive": "?"}


def verdicts() -> str:
    """The page, in Markdown."""
    studies = [read_study(folder) for folder in study_folders([HERE / scale for scale in ("micro", "desk", "real")])]
    studies = [study for study in studies if study.name in ORDER]
    columns, rows = claims_table(sorted(studies, key=lambda study: ORDER.index(study.name)))
    names = [f"{space}<br>{data}" for space, data in columns]
    judged = [cell.verdict.verdict for row in rows for cell in row.cells if cell is not None]
    open_ = [verdict for verdict in judged if verdict == "inconclusive"]
    lines = [
        "# Verdicts so far",
        "",
        "*holds*, **no** (does not hold) or ? (inconclusive), by the rules of [the claims](../claims.md)",
        "(on CIFAR-10, some by earlier ones).",
        "Empty: not asked. *desk*: of the desk scale, which overrides micro; the pages of the studies have both.",
        f"{len(open_)} of {len(judged)} are inconclusive. Written by `python docs/results/verdicts.py`.",
        "",
        "| claim | " + " | ".join(names) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for row in rows:
        cells = [
            "" if cell is None else SIGNS[cell.verdict.verdict] + (" *desk*" if cell.scale == "desk" else "")
            for cell in row.cells
        ]
        lines.append(f"| {row.claim} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def measured(name: str) -> str:
    """The verdicts of one study with what was measured, in Markdown, by scale or real data."""
    lines = ["| claim | space, [data](../scales.md), scale | verdict | measured |", "|---|---|---|---|"]
    for scale in ("desk", "micro", "real"):
        for study in map(read_study, study_folders([HERE / scale])):
            for found in study.verdicts if study.name == name else ():
                data = f"{found.space}, {study.data[found.space]}" if study.data else f"{found.space}, counted"
                data += f", {scale}" if study.data and scale != "real" else ""
                lines.append(f"| {found.claim} | {data} | {SIGNS[found.verdict]} | {found.measured} |")
    return "\n".join(lines) + "\n"


def with_verdicts(page: str, name: str) -> str:
    """The page of a study with its verdicts as they are now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{measured(name)}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    (HERE / "verdicts.md").write_text(verdicts())
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(with_verdicts(path.read_text(), path.stem))
