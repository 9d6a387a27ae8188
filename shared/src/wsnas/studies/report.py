"""One static page of all study results: figures, claims, verdicts, provenance. It works offline, without scripts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from wsnas.errors import WsnasError
from wsnas.files import atomic_write, read_file
from wsnas.metrics import sign_of
from wsnas.studies.verdicts import Verdict
from wsnas.words import counted

PAPER = ("spaces", "epochs", "density", "consistency", "operators", "capacity", "standalone", "tricks", "convergence")
ORDER = (*PAPER, "worth", "scoring")
FIRST = {"paper": 0, "desk": 1}  # the strongest evidence leads
OTHER = "other"  # results of single commands, which belong to no study
MARKS = {"holds": ("holds", "✓"), "does not hold": ("not", "✗"), "inconclusive": ("open", "?")}  # class, sign


@dataclass(frozen=True)
class Picture:
    """A PNG for the page."""

    name: str
    data: str  # base64
    width: int  # pixels


@dataclass(frozen=True)
class TrickRow:
    """A row of Table 3, with formatted numbers."""

    label: str
    corr_baseline: str
    corr_truth: str
    top: str
    difference: str = ""  # to the baseline; "" in the baseline's own row
    beyond: str = ""
    top_difference: str = ""
    top_beyond: str = ""


@dataclass(frozen=True)
class TrickTable:
    space: str
    unit: str
    rows: list[TrickRow]


MEASURES = {  # the columns beside Spearman: heading, decimals
    "kendall": ("Kendall's tau-b", 3),
    "sparse_kendall": ("sparse tau", 3),
    "precision_5": ("precision, top 5 %", 2),
    "precision_10": ("top 10 %", 2),
    "best_rank": ("best rank of top-10", 1),
    "ndcg": ("NDCG of top-10", 3),
    "regret": ("regret of top-10", 2),
}


@dataclass(frozen=True)
class RankingTable:
    """How the supernets of a study rank the architectures of one space, by every measure."""

    space: str
    rows: list[tuple[str, list[str]]]  # setting, and numbers with their intervals


Truth = tuple[str, str | None, int | None]  # a ground truth: the networks' data, the table's, and its trainings' epochs
# space, data and scale, epochs, architectures ranked, and compared with what
Supernets = tuple[str, str, int, int, Truth]
# Table 3, at full size; nb201's on CIFAR-100
PAPER_SPEARMAN = {"nb101": "0.62, of 1,000 epochs", "nb201": "0.70, of 2,000 epochs"}


@dataclass(frozen=True)
class Headline:
    """How well the longest-trained supernets of one space and data set rank, and what else there is; "" is unknown."""

    space: str
    about: str  # data set and scale
    architectures: int
    supernets: str  # Spearman, with its interval
    epochs: int
    parameters: str
    ceiling: str
    paper: str
    regret: str  # with its unit
    truth: Truth
    alone: bool  # a single supernet: its interval is only over architectures
    score: str = ""  # the best zero-cost score's, of study worth
    with_size: str = ""  # Spearman of supernets and parameter count together, of study worth
    cost: str = ""  # of ranking these architectures, in trainings, of study worth
    predictor: str = ""  # the trainings after which a predictor ranks as well, of study worth


@dataclass(frozen=True)
class Judged:
    """What the strongest results say of a claim on one space and data set."""

    verdict: Verdict
    scale: str  # "" where something is counted, not trained
    anchor: str  # of the results


@dataclass(frozen=True)
class Claim:
    """A row of the table of claims. ``cells``: its verdict by column, None if the study does not test it."""

    claim: str
    study: str
    cells: list[Judged | None]


@dataclass(frozen=True)
class Rule:
    """Of a verdict. ``judged``: the results that it judged; "" where a claim has only one rule."""

    claim: str
    source: str
    rule: str
    judged: str


@dataclass(frozen=True)
class StudyResult:
    """The results of one study's folder."""

    name: str  # or ``OTHER``
    title: str
    source: str
    command: str | None  # None: not recorded
    folder: Path
    pictures: list[Picture]
    data: dict[str, str]  # by space: what its networks were trained on
    trainings: list[str]  # sentences
    tables: list[TrickTable]
    rankings: list[RankingTable]
    verdicts: list[Verdict]
    settings: str  # JSON, as ``environment``
    environment: str
    scale: str
    headlines: list[Headline]
    # by space and ground truth: the best zero-cost score of study worth, and on how many architectures
    scores: dict[tuple[str, Truth], tuple[str, int | None]]
    exchanges: dict[Supernets, dict[str, Any]]  # the exchange rates of study worth
    answer: str = ""  # the title of its figure; "" in results from before there were any
    heading: str = ""
    anchor: str = ""  # on the page
    size: int = 0  # architectures

    @property
    def about(self) -> str:
        """Spaces and their data, and the scale."""
        by_data: dict[str, list[str]] = {}
        for space, data in self.data.items():
            by_data.setdefault(data, []).append(space)
        said = "; ".join(f"{', '.join(spaces)} on {data}" for data, spaces in by_data.items())
        return at_scale(said, self.scale) if said else "counted, not trained"


def study_folders(folders: Sequence[Path]) -> list[Path]:
    """The given folders, and their direct subfolders, that hold study results."""
    with_results = [
        folder for each in folders for folder in (each, *sorted(each.glob("*"))) if (folder / "results.json").exists()
    ]
    if not with_results:
        where = ", ".join(map(str, folders))
        raise WsnasError(f"there are no study results in {where}: run one first, e.g. wsnas study capacity")
    return list(dict.fromkeys(with_results))


def read_study(folder: Path) -> StudyResult:
    """The results in a folder, ready for the page. Raises WsnasError if something is missing.

    Results of single commands (without ``study``) are included, with their figures and numbers.
    """
    try:
        stored: dict[str, Any] = json.loads(read_file(folder / "results.json", 1 << 28))
        if not isinstance(stored, dict) or not stored:
            raise ValueError("its results.json is empty")
        name, settings = stored.get("study"), stored.get("settings", {})
        verdicts = [Verdict(**verdict) for verdict in stored["verdicts"]] if name else []
        texts = [stored.get(key) or "" for key in ("study", "title", "answer", "source", "command")]
        texts += [text for verdict in verdicts for key, text in vars(verdict).items() if key != "numbers"]
        texts += [of.get("truth") or "" for of in settings.values() if isinstance(of, dict)]
        lengths = [of.get("truth_epochs") or 0 for of in settings.values() if isinstance(of, dict)]
        if not (all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in lengths)):
            raise TypeError("a text or the length of the ground truth's trainings is none")
        if unknown := {verdict.verdict for verdict in verdicts} - set(MARKS):
            raise ValueError(f"a verdict is {min(unknown)!r}")
        if name is None:
            settings, pictures = {}, sorted(folder.glob("*.png"))
        else:
            pictures = [folder / f"{name}.png", *sorted(folder.glob(f"{name}-*.png"))]
        data = {space: Path(of["dataset"]).stem for space, of in settings.items() if isinstance(of, dict)}
        return StudyResult(
            name=name or OTHER,
            title=stored.get("title") or name or folder.name,
            source=stored.get("source", ""),
            command=stored.get("command"),
            folder=folder,
            pictures=[picture(path) for path in pictures],
            data=data,
            trainings=trainings(stored) if name else [],
            tables=tricks_tables(stored["results"]) if name == "tricks" else [],
            rankings=ranking_tables(stored.get("results", {})) if name else [],
            verdicts=verdicts,
            settings=json.dumps(stored["settings"] if name else stored, indent=1),
            environment=json.dumps(stored["environment"], indent=1) if name else "",
            scale=str(settings.get("scale", "")),
            headlines=headlines(stored, data) if name == "epochs" and "results" in stored else [],
            scores=zero_cost_scores(stored) if name == "worth" else {},
            exchanges=exchanges(stored, data) if name == "worth" else {},
            answer=stored.get("answer", ""),
            size=max((of.get("evaluated") or 0 for of in settings.values() if isinstance(of, dict)), default=0),
        )
    except Exception as error:  # whatever stands in the file may be of another form
        raise WsnasError(
            f"{folder} does not hold a finished study ({type(error).__name__}: {error}); run it again"
        ) from error


def picture(path: Path) -> Picture:
    data = read_file(path, 1 << 28)
    return Picture(path.stem, base64.b64encode(data).decode(), int.from_bytes(data[16:20], "big"))


def trainings(stored: dict[str, Any]) -> list[str]:
    """One line per space: trainings, scores and failures, as far as the results record them."""
    lines = []
    for space, of in stored["settings"].items():
        if not isinstance(of, dict):
            continue
        result = stored.get("results", {}).get(space)
        said = []
        if isinstance(result, dict) and "status" in result:  # the study trained them itself
            said += [f"trainings: {with_failed(result['status'])}"]
            said += [f"architectures without a result: {result.get('without_result', 'not recorded')}"]
        if "without_ground_truth" in of:
            if of.get("truth_trainings"):
                said.append(f"trainings of the ground truth: {with_failed(of['truth_trainings'])}")
            said.append(f"architectures without ground truth: {of['without_ground_truth']}")
            broken = [count for count in named(result, "not_finite") if isinstance(count, int)]
            if broken:
                said.append(f"scores that are not finite: {sum(broken)}")
        if said:
            lines.append(f"{space}: {'; '.join(said)}.")
    return lines


def with_failed(status: str) -> str:
    """A table's counts ("24 ok, 1 crash"), with "0 failed" added if nothing failed."""
    return status if not status.endswith(" ok") or "," in status else f"{status}, 0 failed"


def named(value: Any, name: str) -> Iterator[Any]:
    """Everything of that name within results."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from [item] if key == name else named(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from named(item, name)


def tricks_tables(results: dict[str, Any]) -> list[TrickTable]:
    """The paper's Table 3, one per space, the baseline first."""
    tables = []
    for space, of in results.items():
        sign = sign_of(of.get("metric", "accuracy"))
        seen = {True: "yes", False: "no", None: "–"}
        rows = []
        for stored in of["rows"]:
            agreement = "–" if stored["corr_baseline"] is None else f"{stored['corr_baseline']:.3f}"
            row = TrickRow(stored["label"], agreement, f"{stored['corr_truth']:.3f}", f"{sign * stored['top10']:.2f}")
            if "difference" in stored:
                several = of["seed_noise"] is not None
                low, high = stored["difference_low"], stored["difference_high"]
                row = replace(
                    row,
                    difference=f"{stored['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
                    beyond=seen[stored["beyond_seeds"] if several else None],
                    top_difference=f"{sign * stored['top_difference']:+.2f}",
                    top_beyond=seen[stored.get("top_beyond_seeds") if several else None],
                )
            rows.append(row)
        tables.append(TrickTable(space, "perplexity" if sign < 0 else "%", rows))
    return tables


def ranking_tables(results: dict[str, Any]) -> list[RankingTable]:
    """One per space whose results have rankings with all measures: of every setting, or row of Table 3."""
    tables = []
    for space, of in results.items():
        rows = []
        for stored in of if isinstance(of, list) else of.get("rows", []):
            if "measures" not in stored:
                continue
            label = stored.get("label") or (
                f"{stored['factor']}x" if "factor" in stored else counted(stored["epochs"], "epoch")
            )
            spearman = {"value": stored.get("correlation", stored.get("corr_truth"))}
            if "correlation_low" in stored:
                spearman |= {"low": stored["correlation_low"], "high": stored["correlation_high"]}
            cells = [estimate(spearman, 3)]
            cells += [estimate(stored["measures"][name], digits) for name, (_, digits) in MEASURES.items()]
            rows.append((label, cells))
        if rows:
            tables.append(RankingTable(space, rows))
    return tables


def estimate(stored: dict[str, float], digits: int) -> str:
    """A number with its interval, if it has one."""
    text = rounded(stored["value"], digits)
    return text + (f" [{stored['low']:.{digits}f}, {stored['high']:.{digits}f}]" if "low" in stored else "")


def between(rate: dict[str, str]) -> str:
    """An exchange rate with its interval: trainings, or that they are more or fewer than were tried."""
    return rate["value"] + (f" [{rate['low']}, {rate['high']}]" if "low" in rate else "")


def rounded(value: float, digits: int) -> str:
    """Without the sign of a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def decided(study: StudyResult) -> bool:
    """Whether its answer says more than the question, and where it is undecided."""
    return bool(study.answer) and not study.answer.startswith(study.title)


def superseded(study: StudyResult, studies: Sequence[StudyResult]) -> bool:
    """Whether stronger results of the same study answer for every one of its spaces and data sets."""
    stronger = (s for s in studies if s.name == study.name and strength(s.scale) < strength(study.scale))
    return bool(study.data) and study.data.items() <= {pair for s in stronger for pair in s.data.items()}


def rules(results: Sequence[StudyResult]) -> list[Rule]:
    """Every rule by which verdicts of one study were found, those of one claim together."""
    judged: dict[tuple[str, str, str], dict[str, None]] = {}  # the headings, each once and in their order
    for study in results:
        for verdict in study.verdicts:
            judged.setdefault((verdict.claim, verdict.source, verdict.rule), {})[study.heading] = None
    often = Counter(claim for claim, *_ in judged)
    order = list(dict.fromkeys(claim for claim, *_ in judged))
    found = [Rule(*rule, "; ".join(where) if often[rule[0]] > 1 else "") for rule, where in judged.items()]
    return sorted(found, key=lambda rule: order.index(rule.claim))


def strength(scale: str) -> int:
    """The lower, the stronger the evidence of a scale."""
    return FIRST.get(scale, len(FIRST))


def at_scale(data: str, scale: str | None) -> str:
    """E.g. ``digits, desk``; results of counting have no scale."""
    return f"{data}, {scale}" if scale else data


def headlines(stored: dict[str, Any], data: dict[str, str]) -> list[Headline]:
    """A row for each space of study ``epochs``."""
    rows = []
    for space, points in stored["results"].items():
        last = points[-1]
        spearman = {"value": last["correlation"], "low": last["correlation_low"], "high": last["correlation_high"]}
        size, ceiling = last["parameters_correlation"], last.get("ceiling")
        unit = "of perplexity" if last.get("top", 0) < 0 else "points"  # a perplexity is stored with its sign flipped
        rows.append(
            Headline(
                space,
                at_scale(data[space], stored["settings"].get("scale")),
                last["evaluated"],
                estimate(spearman, 2),
                last["epochs"],
                "all equal" if size is None else f"{size:.2f}",
                "" if ceiling is None else f"{ceiling:.2f}",
                PAPER_SPEARMAN.get(space, ""),
                f"{estimate(last['measures']['regret'], 2)} {unit}" if last.get("measures") else "",
                truth(stored["settings"][space]),
                len(last.get("correlation_seeds", ())) == 1,
            )
        )
    return rows


def truth(settings: dict[str, Any]) -> Truth:
    """What a study compared one space with, from its settings."""
    return Path(settings["dataset"]).stem, settings.get("truth"), settings.get("truth_epochs")


def zero_cost_scores(stored: dict[str, Any]) -> dict[tuple[str, Truth], tuple[str, int | None]]:
    """The best of study ``worth``, by space and ground truth: they need no training, so no scale of one either."""
    found = {}
    for space, of in stored["results"].items():
        scores = {row["label"]: float(row["correlation"]) for row in of["rows"] if row["kind"] == "zero-cost score"}
        if scores:
            best = max(scores, key=scores.__getitem__)
            about = stored["settings"][space]
            found[space, truth(about)] = f"{rounded(scores[best], 2)} ({best})", about.get("evaluated")
    return found


def exchanges(stored: dict[str, Any], data: dict[str, str]) -> dict[Supernets, dict[str, Any]]:
    """The exchange rates of study ``worth``: each is of the supernets that trained longest, the last of its rows."""
    scale, found = stored["settings"].get("scale"), {}
    for space, of in stored["results"].items():
        if rate := of.get("exchange"):
            epochs = [row["setting"] for row in of["rows"] if row["kind"] == "supernet"][-1]
            compared = truth(stored["settings"][space])
            found[space, at_scale(data[space], scale), epochs, rate["correlation"]["n"], compared] = rate
    return found


def first_screen(studies: Sequence[StudyResult]) -> list[Headline]:
    """What ``epochs`` found on each space and data set at the strongest scale, and what ``worth`` adds to it."""
    weakest_first = sorted(studies, key=lambda study: -strength(study.scale))  # where two say something, the stronger
    scores = {key: said for study in weakest_first for key, said in study.scores.items()}
    rates = {key: rate for study in weakest_first for key, rate in study.exchanges.items()}
    rows, scales = list[Headline](), dict[tuple[str, str], str]()
    for study in sorted(studies, key=lambda study: strength(study.scale)):
        for row in study.headlines:
            rate = rates.get((row.space, row.about, row.epochs, row.architectures, row.truth), {})
            cost, predictor = rate.get("cost"), rate.get("rates", {}).get("predictor")
            score, scored = scores.get((row.space, row.truth), ("", None))
            if scales.setdefault((row.space, row.truth[0]), study.scale) == study.scale:
                found = replace(
                    row,
                    score=score + (f", of {scored}" if scored not in (None, row.architectures) else ""),
                    with_size=estimate(rate["with_size"], 2) if rate.get("with_size") else "",
                    cost="" if cost is None else f"{cost:.2g}",
                    predictor="" if predictor is None else between(predictor),
                )
                rows.append(found)
    return rows


def claims_table(studies: Sequence[StudyResult]) -> tuple[list[tuple[str, str]], list[Claim]]:
    """Columns (space, data) and one row per claim. Of several scales the strongest answers."""
    often = Counter((study.name, study.scale, *pair) for study in studies for pair in study.data.items())
    columns: dict[tuple[str, str], None] = {}
    data_of = []
    for study in studies:  # two results of one study, scale and data set are told apart by their folders
        data_of.append(
            {
                space: data + (f", {study.folder.name}" if often[study.name, study.scale, space, data] > 1 else "")
                for space, data in study.data.items()
            }
        )
        columns |= dict.fromkeys(data_of[-1].items())
    rows: dict[str, tuple[str, dict[tuple[str, str], Judged]]] = {}
    for study, data in zip(studies, data_of, strict=True):
        for verdict in study.verdicts:
            space = verdict.space
            of_space = next((column for column in columns if column[0] == space), (space, ""))
            column = (space, data[space]) if space in data else of_space  # counts need no data
            columns.setdefault(column)
            answers = rows.setdefault(verdict.claim, (study.name, {}))[1]
            if column not in answers or strength(study.scale) < strength(answers[column].scale):
                answers[column] = Judged(verdict, study.scale, study.anchor)
    order = [column for column in columns if any(column in answers for _, answers in rows.values())]
    return order, [
        Claim(claim, study, [answers.get(column) for column in order]) for claim, (study, answers) in rows.items()
    ]


def write_report(folders: Sequence[Path], out: Path, explorer: Path | None = None) -> list[str]:
    """Writes the page of every study in ``study_folders(folders)`` and returns the studies' names.

    One section per study with all its results, at the micro scale and on real data; results of single commands last.
    ``explorer``: the explorer page to link to (``wsnas.studies.explorer``).
    """
    studies = [read_study(folder) for folder in study_folders(folders)]
    order = {name: i for i, name in enumerate(ORDER)}
    studies.sort(key=lambda study: (strength(study.scale), -study.size))  # within a study, what says most comes first
    studies.sort(key=lambda study: order.get(study.name, len(order) + (study.name == OTHER)))
    often = Counter((study.name, study.about) for study in studies)
    sections: dict[str, list[StudyResult]] = {}
    for study in studies:  # two of one study, space, data set and scale are told apart by their folders
        several = often[study.name, study.about] > 1
        heading = study.about + (f" ({study.folder.name})" if several else "")
        results = sections.setdefault(study.name, [])
        results.append(replace(study, heading=heading, anchor=f"{study.name}-{len(results) + 1}"))
    studies = [study for results in sections.values() for study in results]
    strongest = sorted(studies, key=lambda study: strength(study.scale))
    columns, claims = claims_table(studies)
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(
        files("wsnas.studies").joinpath("report.html").read_text()
    )
    page = template.render(
        measures=[heading for heading, _ in MEASURES.values()],
        sections=sections,
        other=OTHER,
        headlines=first_screen(studies),
        answers=[
            (each.anchor, each.answer, each.about)
            for each in strongest
            if decided(each) and not superseded(each, studies)
        ],
        rules={name: rules(results) for name, results in sections.items()},
        columns=columns,
        claims=claims,
        marks=MARKS,
        named=FIRST,
        explorer=explorer and explorer.name,
    )
    atomic_write(out, page.encode())
    return [name for name in sections if name != OTHER]
