"""The report's page of single architectures, in a headless Chromium without a network; every number is the study's."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsnas import WsnasError, installed_spaces, load_space
from wsnas.sampling import sample_distinct
from wsnas.studies.explorer import write_explorer
from wsnas.table import Column, Table

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

STUDY = Path(__file__).resolve().parents[1] / "studies/operators.py"
TINY = ("--channels", "2", "--train-size", "640", "--epochs", "1", "--valid-size", "200", "--workers", "0")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
MADE_UP = [name for name in installed_spaces() if name != "nb201"]  # spaces with results that nobody measured


def made_up(name: str) -> dict[str, Any]:
    """Results as the study writes them, of 30 architectures with random scores; the first one's overflowed."""
    space, rng = load_space(name), np.random.default_rng(0)
    rows = []
    for arch in sample_distinct(space, 30, rng):
        supernet, valid, test = rng.uniform(30, 80, 3).tolist()
        row = {"arch": space.encode(arch), "supernet": supernet, "supernet_seeds": [supernet], "valid": valid}
        rows.append(row | {"test": test, "parameters": 1000, "decisions": space.decisions(arch)})
        rows[-1]["cell_graph"] = space.cell_graph(arch)
    rows[0] |= {"supernet": None, "supernet_seeds": [None]}
    decision = next(iter(rows[0]["decisions"]))
    choice = {"decision": decision, "choice": rows[0]["decisions"][decision], "architectures": 9}
    choice |= {"effect": -0.25, "low": -0.5, "high": 0.125, "p": 0.01, "p_corrected": 0.04}
    return {"metric": space.metric, "choices": [choice], "architectures": rows}


@pytest.fixture(scope="module")
def runs(forks: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the study on nb201 with two tiny supernets, and made-up results of every other installed space."""
    folder = tmp_path_factory.mktemp("explorer")
    space, rng = load_space("nb201"), np.random.default_rng(0)
    archs = tuple(space.encode(arch) for arch in sample_distinct(space, 44, rng))
    dataset = space.recipes["micro"].dataset
    columns = {Column(dataset, split, 8, 0): rng.uniform(30, 80, len(archs)) for split in ("valid", "test")}
    Table("nb201", archs, columns).save(folder / "truth.parquet")
    options = ("--space", "nb201", *TINY, "--seeds", "2", "--architectures", "44", "--table", folder / "truth.parquet")
    done = forks.start("script", STUDY, *options, cwd=folder).wait()
    assert done.code == 0, done.err
    settings = {name: {"supernet": {"epochs": 1}, "truth": "nothing"} for name in MADE_UP}
    results = {name: made_up(name) for name in MADE_UP}
    (folder / "runs/made-up").mkdir()
    (folder / "runs/made-up/results.json").write_text(
        json.dumps({"study": "operators", "settings": {"scale": "none", "seeds": 1, **settings}, "results": results})
    )
    return folder / "runs"


@pytest.fixture(scope="module")
def results(runs: Path) -> dict[str, Any]:
    """By space, what the page is made from."""
    read = [json.loads(path.read_text())["results"] for path in runs.glob("*/results.json")]
    return {name: found for each in read for name, found in each.items()}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def explorer(runs: Path) -> Path:
    pytest.importorskip("plotly", reason="needs plotly")
    out = write_explorer([runs], runs / "explorer.html", "report.html")
    assert out is not None
    return out


class Visit:
    """The page in a browser that is offline; at the end nothing was asked for and nothing went wrong."""

    def __init__(self, chromium: Any, explorer: Path, width: int = 1280, scheme: str = "light") -> None:
        self.context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(explorer.as_uri())
        self.page.wait_for_selector("#plot .point")
        self.explorer = explorer

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *failed: object) -> None:
        self.context.close()
        if failed[0] is None:
            assert self.asked == [self.explorer.as_uri()]
            assert self.wrong == []

    def space(self, name: str) -> None:
        self.page.select_option("#space", label=name)

    def points(self) -> dict[int, tuple[float, float]]:
        """Where on the screen the points are that can be hovered, by the architecture's index."""
        found: list[list[float]] = self.page.evaluate(
            """() => {
              const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
              const [x, y] = [plot._fullLayout.xaxis, plot._fullLayout.yaxis];
              const place = (trace) => trace.customdata.map((i, at) =>
                [i, box.left + x._offset + x.d2p(trace.x[at]), box.top + y._offset + y.d2p(trace.y[at])]);
              return plot.data.filter((trace) => trace.hoverinfo !== "skip").flatMap(place);
            }"""
        )
        return {int(i): (x, y) for i, x, y in found}

    def alone(self) -> tuple[int, tuple[float, float]]:
        """The point that is farthest from its nearest neighbour, so that a pointer cannot mean another."""
        places = self.points()
        far = {i: min(np.hypot(x - u, y - v) for j, (u, v) in places.items() if j != i) for i, (x, y) in places.items()}
        best = max(far, key=lambda i: far[i])
        return best, places[best]

    def hovered(self) -> str:
        return "".join(self.page.locator("#plot .hoverlayer .hovertext text.nums tspan").all_inner_texts())

    def overflow(self) -> int:
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width


def test_it_loads_without_a_network_and_plots_the_studys_numbers(
    chromium: Any, explorer: Path, results: dict[str, Any]
) -> None:
    with Visit(chromium, explorer) as visit:
        names = visit.page.locator("#space option").all_inner_texts()
        assert sorted(names) == sorted(results)
        for name in names:
            visit.space(name)
            found = visit.page.evaluate(
                """() => document.getElementById("plot").data.filter((trace) => trace.customdata).flatMap((trace) =>
                   trace.customdata.map((i, at) => [i, trace.x[at], trace.y[at]]))"""
            )
            archs = results[name]["architectures"]
            finite = [[i, one["supernet"], one["test"]] for i, one in enumerate(archs) if one["supernet"] is not None]
            assert sorted(found) == finite
            assert visit.page.locator("#plot .scatterlayer path.point").count() == len(finite)
            assert visit.page.locator("#arch option").count() == 1 + len(archs)
            first, last = visit.page.evaluate("document.getElementById('plot')._fullLayout.xaxis.range")
            assert (first > last) == (results[name]["metric"] == "perplexity")  # upper right is better
        bar = visit.page.locator("#plot .modebar-btn").evaluate_all("all => all.map((one) => one.dataset.title)")
        assert bar
        assert not any("share" in title.lower() or "cloud" in title.lower() for title in bar)
    assert 'href="report.html"' in explorer.read_text()


def test_hovering_names_the_architecture(chromium: Any, explorer: Path, results: dict[str, Any]) -> None:
    with Visit(chromium, explorer) as visit:
        for name, found in results.items():
            visit.space(name)
            index, place = visit.alone()
            visit.page.mouse.move(2, 2)
            visit.page.mouse.move(*place)
            visit.page.wait_for_selector("#plot .hovertext")
            one = found["architectures"][index]
            text = visit.page.locator("#plot .hoverlayer").text_content()
            squeezed = text.replace(" ", "").replace("\xa0", "")
            assert one["arch"].replace(" ", "") in squeezed, name
            assert f"supernet{one['supernet']:.2f}" in squeezed
            assert f"trained{one['test']:.2f}" in squeezed


def test_a_choice_keeps_the_architectures_that_made_it(chromium: Any, explorer: Path, results: dict[str, Any]) -> None:
    """All choices of two decisions against results.json; faded points do not react to the pointer."""
    with Visit(chromium, explorer) as visit:
        visit.space("nb201")
        archs, rows = results["nb201"]["architectures"], results["nb201"]["choices"]
        for decision in (rows[0]["decision"], "edge 0-3"):
            visit.page.select_option("#decision", label=decision)
            choices = sorted({one["decisions"][decision] for one in archs})
            legend = visit.page.locator("#legend tbody tr")
            assert [row.split()[0] for row in legend.all_inner_texts()] == choices
            for i, choice in enumerate(choices):
                everywhere = visit.points()
                legend.nth(i).locator("button").click()
                expected = {n for n, one in enumerate(archs) if one["decisions"][decision] == choice}
                assert set(visit.points()) == expected
                faint = visit.page.locator("#plot .scatterlayer path.point").evaluate_all(
                    "all => all.filter((one) => Number(getComputedStyle(one).opacity) < 0.5).length"
                )
                assert faint == len(archs) - len(expected)
                listed = visit.page.locator("#arch option").all_inner_texts()[1:]
                assert {text.split()[-1] for text in listed} == {archs[n]["arch"] for n in expected}
                count = f"{len(expected)} of {len(archs)} architectures"
                assert visit.page.inner_text("#count").startswith(count)
                row = next((r for r in rows if (r["decision"], r["choice"]) == (decision, choice)), None)
                shown = legend.nth(i).inner_text().split()
                assert int(shown[1]) == len(expected)
                if row is None:
                    assert shown[2] == "–"
                else:
                    assert float(shown[2].replace("−", "-")) == pytest.approx(row["effect"], abs=0.005001)
                    assert float(shown[-1]) == pytest.approx(row["p_corrected"], rel=0.05)
                assert legend.nth(i).locator("button").get_attribute("aria-pressed") == "true"
                away = [n for n in everywhere if n not in expected]
                n = max(away, key=lambda n: min(np.hypot(*np.subtract(everywhere[n], everywhere[m])) for m in expected))
                visit.page.mouse.move(*everywhere[n])
                visit.page.wait_for_timeout(150)
                assert archs[n]["arch"] not in visit.hovered().replace(" ", "")
                legend.nth(i).locator("button").click()  # and all of them are back
                assert set(visit.points()) == set(range(len(archs)))


def test_a_click_draws_the_cell(chromium: Any, explorer: Path, results: dict[str, Any]) -> None:
    """In every space: all edges with their operations, no overlapping text, an encoding that can be copied whole."""
    with Visit(chromium, explorer) as visit:
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for name, found in results.items():
            visit.space(name)
            assert visit.page.is_hidden("#drawn")
            index, place = visit.alone()
            visit.page.mouse.move(2, 2)
            visit.page.mouse.move(*place)
            visit.page.wait_for_selector("#plot .hovertext")
            visit.page.mouse.click(*place)
            visit.page.wait_for_selector("#cells svg")
            one = found["architectures"][index]
            assert visit.page.text_content("#encoding") == one["arch"]
            assert f"{one['test']:.2f}" in visit.page.inner_text("#numbers")
            assert f"{one['valid']:.2f}" in visit.page.inner_text("#numbers")
            assert f"{one['supernet']:.2f}" in visit.page.inner_text("#numbers")
            assert visit.page.locator("#cells figure h3").all_inner_texts() == list(one["cell_graph"])
            for cell, edges in zip(visit.page.locator("#cells svg").all(), one["cell_graph"].values(), strict=True):
                assert cell.locator("path.edge").count() == len(edges)
                assert cell.locator("path.tip").count() == len(edges)
                texts = sorted(cell.locator("text").all_text_contents())
                nodes = {node for edge in edges for node in edge[:2]}
                assert texts == sorted([*nodes, *(operation for *_, operation in edges if operation)])
                boxes = cell.locator("text").evaluate_all(
                    "all => all.map((one) => one.getBBox()).map((b) => [b.x, b.y, b.x + b.width, b.y + b.height])"
                )
                for i, (left, top, right, bottom) in enumerate(boxes):
                    for others in boxes[i + 1 :]:
                        assert right < others[0] or others[2] < left or bottom < others[1] or others[3] < top, texts
        visit.page.click("#copy")
        visit.page.wait_for_selector("#copy:text('Copied')")
        assert visit.page.evaluate("navigator.clipboard.readText()") == one["arch"]


def test_it_works_by_keyboard_alone(chromium: Any, explorer: Path, results: dict[str, Any]) -> None:
    """From the top, with Tab: the space, a choice, a point and its drawing, and the list; focus stays visible."""
    names = [one for one in results if results[one]["metric"] == "perplexity"] or ["nb201"]
    name = names[0]
    with Visit(chromium, explorer) as visit:
        keys = visit.page.keyboard

        def tab_to(selector: str) -> None:
            for _ in range(40):
                keys.press("Tab")
                style = "getComputedStyle(document.activeElement)"
                assert visit.page.evaluate(f"{style}.outlineStyle !== 'none' && {style}.outlineWidth !== '0px'")
                if visit.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    return
            pytest.fail(f"40 tabs do not reach {selector}")

        if len(results) > 1:
            tab_to("#space")
            keys.type(name)
        assert visit.page.inner_text("#about").startswith(f"{name},")
        archs = results[name]["architectures"]
        tab_to("#plot")
        keys.press("ArrowRight")  # to the first, which is the worst by the supernets, and on to the next
        keys.press("ArrowRight")
        sign = -1 if results[name]["metric"] == "perplexity" else 1
        order = sorted((one for one in archs if one["supernet"] is not None), key=lambda one: sign * one["supernet"])
        assert order[1]["arch"] in visit.page.inner_text("#status")
        visit.page.wait_for_selector("#plot .hovertext")
        keys.press("Enter")
        assert visit.page.text_content("#encoding") == order[1]["arch"]
        assert visit.page.locator("#cells path.edge").count() == sum(map(len, order[1]["cell_graph"].values()))
        keys.press("End")
        keys.press("Enter")
        assert visit.page.text_content("#encoding") == order[-1]["arch"]
        tab_to("#legend button")
        keys.press("Enter")
        choice = visit.page.evaluate("document.activeElement.dataset.choice")  # the focus stays where it was
        decision = visit.page.input_value("#decision")
        mine = [one for one in archs if one["decisions"][decision] == choice]
        assert visit.page.inner_text("#count").startswith(f"{len(mine)} of ")
        tab_to("#arch")
        keys.press("Home")
        keys.press("ArrowDown")
        best = max(mine, key=lambda one: sign * one["test"])
        assert visit.page.text_content("#encoding") == best["arch"]
        tab_to("#copy")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen(chromium: Any, explorer: Path, results: dict[str, Any], width: int, scheme: str) -> None:
    """Only scrollable parts are wider than the screen; text has enough contrast (WCAG: 4.5)."""
    with Visit(chromium, explorer, width, scheme) as visit:
        for name in results:
            visit.space(name)
            assert visit.overflow() == 0, name
            visit.page.select_option("#arch", index=1)
            assert visit.overflow() == 0, name
        inks = "h1, p, td, .soft, a, button, select, dt, dd, pre, #cells text"
        colours = visit.page.locator(inks).evaluate_all(
            """all => all.filter((one) => one.textContent.trim()).map((one) => {
              const style = getComputedStyle(one), ground = getComputedStyle(document.body).backgroundColor;
              const ink = one instanceof SVGElement ? style.fill : style.color;
              return [ink, ground].map((text) => text.match(/\\d+/g).map(Number));
            })"""
        )
        assert len(colours) > 20
        for ink, ground in colours:
            first, second = sorted(map(luminance, (ink, ground)))
            assert (second + 0.05) / (first + 0.05) >= 4.5
        assert (luminance(colours[0][1]) < 0.5) == (scheme == "dark")


def luminance(colour: list[int]) -> float:
    """Relative luminance of red, green, blue in 0 to 255, as WCAG 2 defines it."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_and_leads_there_and_back(
    chromium: Any, forks: Any, runs: Path, tmp_path: Path, width: int
) -> None:
    pytest.importorskip("plotly", reason="needs plotly")
    shutil.copytree(runs / "study-operators-micro", tmp_path / "runs/study-operators-micro")
    done = forks.wsnas("report", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "runs/explorer.html" in done.out
    page = chromium.new_context(viewport={"width": width, "height": 900}, offline=True).new_page()
    page.goto((tmp_path / "runs/report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    unshaded = """[...document.querySelectorAll("body *")].filter(e => e.scrollWidth > e.clientWidth + 1 &&
        getComputedStyle(e).overflowX == "auto" && !["NAV", "PRE"].includes(e.tagName) &&
        !getComputedStyle(e).backgroundAttachment.includes("local")).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(unshaded) == []  # what scrolls sideways shows that it does
    for verdict in page.locator("td.verdict").all():  # seen without scrolling
        box = verdict.bounding_box()
        assert box["x"] + box["width"] <= width
    page.click("text=Explorer")
    page.wait_for_selector("#plot .point")
    assert page.is_hidden("#space-chooser")  # there is only one
    page.click("text=All studies")
    assert page.url.endswith("report.html")
    page.context.close()


# without a browser ---------------------------------------------------------------------------------------------------


def test_without_plotly_it_is_left_out(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(WsnasError, match=r"pip install plotly"):
        write_explorer([runs], tmp_path / "explorer.html", "report.html")
    assert not (tmp_path / "explorer.html").exists()


def test_results_of_another_form_are_named(forks: Any, runs: Path, tmp_path: Path) -> None:
    """Without architectures there is a report but no explorer; other studies do not mention it."""
    folder = tmp_path / "runs/study-operators-micro"
    shutil.copytree(runs / "study-operators-micro", folder)
    stored = json.loads((folder / "results.json").read_text())
    stored["results"] = {name: found["choices"] for name, found in stored["results"].items()}
    (folder / "results.json").write_text(json.dumps(stored))
    done = forks.wsnas("report", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "no explorer.html: runs/study-operators-micro holds no architectures" in done.out
    assert "explorer.html" not in (tmp_path / "runs/report.html").read_text()
    stored["study"] = "capacity"
    (folder / "results.json").write_text(json.dumps(stored))
    assert write_explorer([tmp_path / "runs"], tmp_path / "explorer.html", "report.html") is None


def test_hostile_text_stays_text(runs: Path, tmp_path: Path) -> None:
    """Text in a results file cannot end the page's data and run as code."""
    pytest.importorskip("plotly", reason="needs plotly")
    name = MADE_UP[0] if MADE_UP else "nb201"
    stored = {
        "study": "operators",
        "settings": {"scale": "none", "seeds": 1, name: {"supernet": {"epochs": 1}, "truth": "x"}},
    }
    stored["results"] = {name: made_up(name)}
    stored["results"][name]["architectures"][0]["arch"] = "</script><script>alert(1)</script>"  # type: ignore[index]
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/results.json").write_text(json.dumps(stored))
    out = write_explorer([tmp_path / "runs"], tmp_path / "explorer.html", "report.html")
    assert out is not None
    assert "<script>alert(1)" not in out.read_text()
