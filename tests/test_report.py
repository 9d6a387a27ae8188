"""The report of several studies: what it says first, and how their results are set side by side."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner

from wsnas import installed_spaces
from wsnas.cli import main
from wsnas.metrics import Interval
from wsnas.studies.report import write_report
from wsnas.studies.verdicts import Numbers

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

STUDIES = Path(__file__).resolve().parents[1] / "studies"


def test_the_report_sets_data_sets_side_by_side(tmp_path: Path) -> None:
    """A claim is one row of verdicts by space and data set, empty where not tested; one section per study.

    Where two scales ask, the desk's verdict is in the row, whichever is read first.
    """
    wanted = {
        "a claim": {
            ("digits", "micro"): "inconclusive",
            ("digits", "desk"): "holds",
            ("cifar10", "micro"): "does not hold",
        },
        "another": {("cifar10", "micro"): "inconclusive", ("cifar10", "desk"): "holds"},
        "a third": {("cifar10", "micro"): "inconclusive"},
    }
    for data, scale in (("digits", "micro"), ("digits", "desk"), ("cifar10", "desk"), ("cifar10", "micro")):
        verdicts = [
            {"claim": claim, "source": "", "space": "nb201", "rule": "r", "measured": "m", "verdict": of[data, scale]}
            for claim, of in wanted.items()
            if (data, scale) in of
        ]
        settings = {"scale": scale, "nb201": {"dataset": f"folder/{data}.npz"}}
        folder = tmp_path / data / scale / "study"
        folder.mkdir(parents=True)
        (folder / "epochs.png").write_bytes(b"")
        written = {"study": "epochs", "settings": settings, "environment": {}, "verdicts": verdicts}
        (folder / "results.json").write_text(json.dumps(written))
    read = ("digits/micro", "digits/desk", "cifar10/desk", "cifar10/micro/study")  # a study, or a folder of some
    write_report([tmp_path / folder for folder in read], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    matrix = html[html.index('<table class="claims">') : html.index("</table>")]
    assert re.findall(r"<span>nb201<br><small>(\w+)</small>", matrix) == ["digits", "cifar10"]
    assert matrix.count("<small>desk</small>") == 2
    rows = re.findall(r'<th scope="row">.*?>([^<]+)</a></th>(.*?)</tr>', matrix, re.DOTALL)
    found = {
        name: [re.findall(r'aria-label="([^"]+)"', cell) for cell in row.split("</td>")[:-1]] for name, row in rows
    }
    assert found == {
        "a claim": [["holds"], ["does not hold"]],
        "another": [[], ["holds"]],
        "a third": [[], ["inconclusive"]],
    }
    assert html.count("<section") == 1
    assert html.count("<figure") == 4


def test_the_report_begins_with_the_answer(tmp_path: Path) -> None:
    """A row a space from the longest budget of the strongest scale, with what ``worth`` found; then decided answers."""
    for scale, correlation, truth_epochs in (("micro", 0.25, 2), ("desk", 0.75, 20)):
        settings = {"scale": scale, "nb101": {"dataset": "digits", "truth": "digits", "truth_epochs": truth_epochs}}
        point = {"epochs": 9, "correlation": correlation, "correlation_low": correlation - 0.125, "evaluated": 60}
        point |= {"correlation_high": correlation + 0.125, "parameters_correlation": 0.5, "ceiling": None}
        answer = "Longer is better on nb101." if scale == "desk" else "Is longer better? Undecided on nb101."
        epochs = {"study": "epochs", "title": "Is longer better?", "answer": answer, "results": {"nb101": [{}, point]}}
        rows = [
            {"kind": "zero-cost score", "label": label, "correlation": c}
            for label, c in (("A", 0.1), (scale, correlation))
        ]
        rows += [{"kind": "supernet", "setting": epochs, "correlation": 0.5} for epochs in (3, 9)]
        exchange = {"sentence": f"a {scale} supernet ranks as well as nine trainings", "cost": 20.96}
        exchange |= {"correlation": {"n": 60}, "with_size": {"value": 0.875, "low": 0.75, "high": 1.0}}
        exchange |= {"rates": {"predictor": {"value": "more than 20", "low": "9", "high": "more than 20"}}}
        worth = {"study": "worth", "results": {"nb101": {"rows": rows, "exchange": exchange}}}
        for stored in (epochs, worth):
            folder = tmp_path / scale / str(stored["study"])
            folder.mkdir(parents=True)
            (folder / f"{stored['study']}.png").write_bytes(b"")
            if stored is worth and scale == "micro":
                settings = {**settings, "scale": "paper"}  # its scores are of the micro ground truth all the same
            written = {**stored, "settings": settings, "environment": {}, "verdicts": []}
            (folder / "results.json").write_text(json.dumps(written))
    write_report([tmp_path / "micro", tmp_path / "desk"], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()

    def headlines(html: str) -> list[list[str]]:
        table = html[html.index('<table class="headline">') : html.index("</table>")].replace("\u00a0", " ")
        return [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in table.split("<tr>")[2:]]

    (found,) = headlines(html)
    assert found[:9] == ["0.75 [0.62, 0.88]", "9", "0.50", "0.75 (desk)", "–", "0.62, of 1,000 epochs", "–", "60", "21"]
    assert found[9:] == ["0.88 [0.75, 1.00]", "more than 20 [9, more than 20]"]
    assert html.count("a desk supernet ranks as well as nine trainings") == 1
    answers = html[html.index('<ul class="answers">') : html.index("</ul>")]
    assert re.findall(r"<a [^>]*>(.*?)</a>", answers) == ["Longer is better on nb101."]

    weaker = shutil.copytree(tmp_path / "desk/worth", tmp_path / "weaker/worth") / "results.json"
    weaker.write_text(weaker.read_text().replace('"scale": "desk"', '"scale": "micro"').replace('"desk"', '"weaker"'))
    write_report([tmp_path / "desk", tmp_path / "weaker"], tmp_path / "report.html")  # of the same ground truth
    assert headlines((tmp_path / "report.html").read_text()) == [found]

    other = tmp_path / "desk/worth/results.json"  # of supernets that trained for fewer epochs
    other.write_text(other.read_text().replace('"setting": 9', '"setting": 5'))
    shutil.copytree(tmp_path / "desk/worth", tmp_path / "desk/worth-other")  # of another ground truth
    another = tmp_path / "desk/worth-other/results.json"
    another.write_text(other.read_text().replace('"setting": 5', '"setting": 9').replace('epochs": 20', 'epochs": 2'))
    shutil.copytree(tmp_path / "desk/epochs", tmp_path / "desk/repeated")  # of one scale, all are shown
    write_report([tmp_path / "desk"], tmp_path / "report.html")
    assert [row[-2:] for row in headlines((tmp_path / "report.html").read_text())] == [["–", "–"]] * 2


def test_the_report_says_which_rule_judged_and_which_answer_counts(tmp_path: Path) -> None:
    """Every rule of a claim, with whose it was if there are several; no answer that a stronger scale has, too."""
    for name, scale, rule in (("a", "micro", "the old rule"), ("b", "desk", "the new rule"), ("c", "desk", "new")):
        claim = "a claim" if name != "c" else "another"
        verdict = {"claim": claim, "source": "s", "space": "nb201", "rule": rule, "measured": "m", "verdict": "holds"}
        written = {"study": "epochs", "title": "Is it so?", "answer": f"So says {name}.", "environment": {}}
        data = "digits" if name != "c" else "cifar10"
        written |= {"settings": {"scale": scale, "nb201": {"dataset": data}}, "verdicts": [verdict]}
        (tmp_path / name).mkdir()
        (tmp_path / name / "epochs.png").write_bytes(b"")
        (tmp_path / name / "results.json").write_text(json.dumps(written))
    write_report([tmp_path], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    said = html[html.index("The rule of each verdict") :]
    assert re.findall(r"<strong>(.*?)</strong> \(s\)(.*?).</li>", said) == [
        ("a claim", ", of nb201 on digits, desk: the new rule"),
        ("a claim", ", of nb201 on digits, micro: the old rule"),
        ("another", ": new"),
    ]
    headings = dict(re.findall(r'<h3 id="(.*?)">(.*?)</h3>', html))  # the strongest first, and each can be linked to
    assert [*headings.values()] == ["nb201 on digits, desk", "nb201 on cifar10, desk", "nb201 on digits, micro"]
    answers = html[html.index('<ul class="answers">') : html.index("</ul>")]
    linked = {headings[anchor]: answer for anchor, answer in re.findall(r'<a href="#(.*?)">(.*?)</a>', answers)}
    assert linked == {"nb201 on digits, desk": "So says b.", "nb201 on cifar10, desk": "So says c."}
    cells = html[html.index('<table class="claims">') : html.index("</table>")]
    assert [headings[one] for one in re.findall(r'<td><a href="#(.*?)">', cells)] == [*headings.values()][:2]


def test_the_report_shows_results_of_single_commands(tmp_path: Path) -> None:
    """Their figure and numbers are in the last section, without an invented command."""
    folder = tmp_path / "darts-cifar10"
    folder.mkdir()
    (folder / "rank.png").write_bytes(b"")
    (folder / "results.json").write_text(json.dumps({"results": {"spearman": 0.1875}}))
    assert write_report([folder], tmp_path / "report.html") == []
    html = (tmp_path / "report.html").read_text()
    assert re.search("<h3[^>]*>darts-cifar10</h3>", html)
    assert html.count("<img") == 1
    assert "0.1875" in html
    assert "(the command was not recorded)" in html
    assert "nox -s" not in html


def test_a_sentence_keeps_its_numbers_by_name() -> None:
    numbers = Numbers()
    text = f"{numbers.estimate('change', Interval(0.104, -0.206, 0.414, 9))} at {numbers.say('factor', 8, 'd')}x"
    assert text == "+0.10 [-0.21, +0.41] at 8x"
    assert list(numbers.items()) == [("change", 0.104), ("change, low", -0.206), ("change, high", 0.414), ("factor", 8)]
    with pytest.raises(KeyError):
        numbers.say("factor", 32, "d")


def test_the_report_shows_each_measure_under_its_name(tmp_path: Path) -> None:
    """A number and an interval of its own for each; results without measures, as older ones, have no such table."""
    names = ("kendall", "sparse_kendall", "precision_5", "precision_10", "best_rank", "ndcg", "regret")
    measures = {name: {"value": i + 0.5, "low": i + 0.25, "high": i + 0.75} for i, name in enumerate(names, 1)}
    point = {"factor": 8, "correlation": 0.5, "correlation_low": 0.25, "correlation_high": 0.75}
    for folder, row in (("new", {**point, "measures": measures}), ("old", point)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "capacity.png").write_bytes(b"")
        written = {"study": "capacity", "settings": {"nb201": {"dataset": "digits"}}, "environment": {}, "verdicts": []}
        (tmp_path / folder / "results.json").write_text(json.dumps({**written, "results": {"nb201": [row]}}))
    write_report([tmp_path / "new"], tmp_path / "new.html")
    html = unescape((tmp_path / "new.html").read_text())
    table = html[html.index('<table class="trick rankings">') :]
    headings, cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:3])
    assert dict(zip(headings, cells, strict=True)) == {
        "ranked by": "8x",
        "Spearman": "0.500 [0.250, 0.750]",
        "Kendall's tau-b": "1.500 [1.250, 1.750]",
        "sparse tau": "2.500 [2.250, 2.750]",
        "precision, top 5 %": "3.50 [3.25, 3.75]",
        "top 10 %": "4.50 [4.25, 4.75]",
        "best rank of top-10": "5.5 [5.2, 5.8]",
        "NDCG of top-10": "6.500 [6.250, 6.750]",
        "regret of top-10": "7.50 [7.25, 7.75]",
    }
    write_report([tmp_path / "old"], tmp_path / "old.html")
    assert "rankings" not in re.sub(r"(?s)<style.*?</style>", "", (tmp_path / "old.html").read_text())


def test_the_report_counts_failed_trainings(tmp_path: Path) -> None:
    """Even if none failed; two spaces of one study and data set have separate headings."""
    for space, status in (("nb101", "24 ok"), ("nb201", "1 crash, 23 ok")):
        folder = tmp_path / space
        folder.mkdir()
        (folder / "standalone.png").write_bytes(b"")
        results = {space: {"status": status, "without_result": 1 if "crash" in status else 0}}
        written = {"study": "standalone", "settings": {space: {"dataset": "cifar10.npz"}}, "environment": {}}
        (folder / "results.json").write_text(json.dumps({**written, "results": results, "verdicts": []}))
    write_report([tmp_path], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "nb101: trainings: 24 ok, 0 failed; architectures without a result: 0." in html
    assert "nb201: trainings: 1 crash, 23 ok; architectures without a result: 1." in html
    assert re.findall("<h3.*?>(.*?)</h3>", html) == ["nb101 on cifar10", "nb201 on cifar10"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A typing error would leave its verdicts out without a word."""
    there, out = str(STUDIES.parent / "docs/results/micro/spaces"), str(tmp_path / "r.html")
    done = CliRunner().invoke(main, ["report", there, str(tmp_path / "spacse"), "--out", out])
    assert done.exit_code == 0, done.output
    assert f"left out: {tmp_path / 'spacse'}, which does not exist\n1 study (spaces)" in done.output
