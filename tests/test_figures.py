"""The figures: what they show can be read without colour, and no label lies on another."""

from __future__ import annotations

import json
import runpy
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from wsnas import installed_spaces
from wsnas.studies.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    axes_grid,
    caption,
    head,
    legend_below,
    ranking_figure,
    say_at_the_top,
)
from wsnas.studies.results import desk_rows, save_figure, write_results
from wsnas.studies.verdicts import Answer

if "nb201" not in installed_spaces():
    pytest.skip("needs the space nb201", allow_module_level=True)

STUDIES = Path(__file__).resolve().parents[1] / "studies"


def test_figures_need_no_colour() -> None:
    """Better, worse and within noise have a marker each in tricks, and so has every kind of judge in worth."""
    tricks = runpy.run_path(str(STUDIES / "tricks.py"))

    def row(label: str, difference: float | None, beyond: bool = False) -> Any:
        ends = {f"{top}difference{end}": difference for top in ("", "top_") for end in ("", "_low", "_high")}
        change = None if difference is None else SimpleNamespace(**ends, beyond_seeds=beyond, top_beyond_seeds=beyond)
        return SimpleNamespace(label=label, corr_baseline=0.5, corr_truth=0.5, top10=80.0, change=change)

    rows = [row("baseline", None), row("same", 0.1), row("better", 0.2, True), row("worse", -0.2, True)]
    sample = SimpleNamespace(title="nb201", space=SimpleNamespace(metric="accuracy"))
    table = SimpleNamespace(sample=sample, rows=rows, seed_noise=0.1, top_noise=0.1)
    for axes in tricks["tricks_figure"]([table], "note").axes[:2]:
        drawn = {tuple(line.get_ydata()): line.get_marker() for line in axes.lines if line.get_marker() != "None"}
        assert [drawn[3 - i,] for i in range(4)] == ["o", ".", ">", "<"]
    looks = runpy.run_path(str(STUDIES / "worth.py"))["LOOKS"].values()
    assert len({marker for _, marker, _ in looks}) == len(looks)


def test_captions_begin_with_the_question(tmp_path: Path) -> None:
    """Of every figure; an SVG has it as text, and is the same file each time."""
    import matplotlib.pyplot as plt

    question, captions = "Do supernets whose training was longer rank better than those of short ones?", []
    for folder in ("one", "two"):
        figures = [plt.figure(figsize=(4, 3), layout="constrained") for _ in range(2)]
        for figure, said in zip(figures, ("Three supernets.", ""), strict=True):
            figure.subplots().plot([1, 2], gid="line")
            if said:
                caption(figure, said)
            plt.close(figure)
        write_results(
            "epochs",
            tmp_path / folder,
            settings={},
            rows=[{"a": 1}],
            verdicts=[],
            results={},
            figure=figures[0],
            more={"matrix": figures[1]},
            title=question,
            answer=Answer("", "", ""),
            source="",
            svg=True,
        )
        captions = [" ".join(figure.get_supxlabel().split()) for figure in figures]
    assert captions == [f"{question} Three supernets.", question]
    for name in ("epochs.svg", "epochs-matrix.svg", "epochs.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = "".join(ET.parse(tmp_path / "one/epochs-matrix.svg").getroot().itertext())
    assert "rank better than those of" in text


def drawn(settings: list[int], desk: list[int], ticks: list[str], **changed: float) -> Any:
    """Three panels of a study's ``settings``, ``desk`` results behind them; ``changed``: of the rankings in front."""
    numbers = {"correlation": 0.5, "correlation_low": 0.4, "correlation_high": 0.6}
    row = {**numbers, "correlation_seeds": [0.5, 0.6], "parameters_correlation": 0.3, "evaluated": 50}
    row |= {"top_seeds": [70, 71], "random_top": 69, "random_top_low": 66, "random_top_high": 70, "best": 72}
    none = {"ceiling": 0.9, "any_judge": None, "whole_correlation": None, "top1": None, "reporting_seeds": None}
    points: Any = [
        SimpleNamespace(setting=one, tick=tick, ranking=SimpleNamespace(**row | changed), **none)
        for one, tick in zip(settings, ticks, strict=True)
    ]
    sample: Any = SimpleNamespace(name="nb201", title="nb201", space=SimpleNamespace(metric="accuracy"))
    return ranking_figure([(sample, points)] * 3, "x", "note", {"nb201": [{"x": x, **numbers} for x in desk]})


@pytest.mark.parametrize("desk", [[], [20, 40]])
@pytest.mark.parametrize("lowest", ["correlation_low", "parameters_correlation"])
def test_a_figure_shows_its_lowest_correlation(desk: list[int], lowest: str) -> None:
    figure = drawn([5, 10], desk, ["5", "10"], **{lowest: -0.7})
    assert all(upper.get_ylim()[0] < -0.7 for upper in figure.axes[:3])


def contrast(colour: Any) -> float:
    """Of a text on white: WCAG 2.1, which asks for 4.5 of small letters."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_small_letters_are_dark_enough() -> None:
    figure = drawn([5, 10], [20], ["5", "10"])
    head(figure.axes[0], "title", "in green", GREEN)
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert {"noise ceiling", "parameter count", "in green"} <= {text.get_text() for text in texts}
    assert min(contrast(text.get_color()) for text in texts) >= 4.5
    assert all(contrast(colour) >= 4.5 for colour in (*INK.values(), BLUE, GREY))


@pytest.mark.parametrize("near", [{"parameters_correlation": 0.85, "correlation": 0.86}, {"best": 70.3}])
def test_labels_at_the_ends_of_lines_do_not_touch(near: dict[str, float], tmp_path: Path) -> None:
    """Neither when an answer of several lines above the figure has made its axes lower."""
    figure = drawn([5, 10], [], ["5", "10"], **near)
    say_at_the_top(figure, "An answer that takes more than a line. " * 12)
    save_figure(figure, tmp_path / "figure.png")
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text() and text.get_position()[0] == 7]
        heights = sorted((box.y0 + box.y1) / 2 * 72 / figure.dpi for box in boxes)
        assert len(heights) >= 3
        assert all(above - below > 9 for below, above in pairwise(heights))  # points; letters are 8 high


@pytest.mark.parametrize(
    ("settings", "desk"),
    [([5, 10, 20], [12, 21, 50, 100]), ([2**i for i in range(10)], []), ([1], [])],
    ids=["desk", "many", "one"],
)
def test_tick_labels_do_not_touch(settings: list[int], desk: list[int]) -> None:
    """At budgets next to those of the desk scale, and at many factors with the sizes of their sub-spaces."""
    ticks = [str(one) if desk else f"{one}x\n{15284 // one:,}" for one in settings]
    figure = drawn(settings, desk, ticks)
    figure.draw_without_rendering()
    for lower in figure.axes[3:]:
        shown = [label for label in lower.get_xticklabels() if label.get_text()]
        boxes = sorted((label.get_window_extent().x0, label.get_window_extent().x1) for label in shown)
        assert all(left[1] < right[0] for left, right in pairwise(boxes))
        texts = [label.get_text() for label in shown]
        assert texts[0] == ticks[0]
        assert set(texts) <= {*ticks, *(str(one) for one in desk)}
        if desk:
            assert texts == ["5", "10", "20", "50", "100"]
        assert len(texts) >= min(3, len(ticks))


def test_legends_are_off_the_points() -> None:
    """Of operators, scoring and standalone, at the sizes of their figures, and of worth: outside of all axes."""
    for width, height, columns in ((4.5, 5, 3), (6.4, 3.4, 2), (3.5, 3.5, 2)):
        figure, grid = axes_grid(4, width, height)
        for axes in grid:
            for i in range(7):
                axes.plot([0, 1], [i, i + 1], "o", label=f"a choice, {i}")
            axes.set_xlabel("accuracy")
            legend_below(axes, columns, "edge")
        figure.draw_without_rendering()
        inside = [axes.get_window_extent() for axes in grid] + [axes.xaxis.label.get_window_extent() for axes in grid]
        legends = [axes.get_legend() for axes in grid]
        assert all(legend is not None for legend in legends)
        shown = [legend.get_window_extent() for legend in legends if legend is not None]
        assert not any(legend.overlaps(other) for legend in shown for other in inside)
        assert all(legend.x0 >= 0 and legend.y0 >= 0 for legend in shown)
    scripts = {path.stem: path.read_text() for path in STUDIES.glob("*.py")}
    assert not [name for name, script in scripts.items() if 'loc="best"' in script]


def test_micro_figures_show_the_desk_results_of_the_same_ground_truth(tmp_path: Path) -> None:
    script = tmp_path / "studies" / "epochs.py"
    about = {"dataset": "digits", "truth": "digits", "truth_epochs": 10, "train_size": 6000}
    options = SimpleNamespace(scale="micro", recipe={}, table=None)
    samples = [SimpleNamespace(name=name, settings=lambda: about | {"train_size": 4000}) for name in ("nb101", "nb201")]

    def store(name: str, space: str, rows: list[dict[str, float]], **other: object) -> None:
        path = tmp_path / "docs/results/desk" / name / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": {"scale": "desk", space: about | other}, "results": {space: rows}}))

    assert desk_rows(script, options, samples) == {}
    one, two = [{"x": 100, "correlation": 0.6}], [{"x": 400, "correlation": 0.8}]
    store("epochs", "nb201", one)
    store("nb101-epochs", "nb101", two)
    store("proxyless-epochs", "proxyless", two)
    assert desk_rows(script, options, samples) == {"nb201": one, "nb101": two}
    assert desk_rows(script, options, samples[:1]) == {"nb101": two}
    for other in ({"scale": "desk"}, {"recipe": {"epochs": 3}}, {"table": "mine.parquet"}):
        assert desk_rows(script, SimpleNamespace(**{**vars(options), **other}), samples) == {}
    for other in ({"truth_epochs": 2}, {"truth": "cifar10"}, {"dataset": "more-digits"}):
        store("epochs", "nb201", one, **other)
        assert desk_rows(script, options, samples) == {"nb101": two}
