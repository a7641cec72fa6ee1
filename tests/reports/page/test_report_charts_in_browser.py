"""The charts of the page of `cnnbench report` in a real browser, opened from disk."""

import re
from typing import Any

import pytest
from helpers.browser import DESKTOP, MARKS, open_window, sync_api
from helpers.report_page import LUMINANCE, find_checkbox, find_curves, settle

expect = sync_api.expect
pytestmark = MARKS


def test_choosing_runs_updates_curves_and_differences(opened: Any) -> None:
    expect(find_curves(opened)).to_have_count(0)
    expect(opened.locator("#differences-note")).to_have_text(
        "Choose runs that differ in more than seed or fold."
    )
    find_checkbox(opened, 1).check()
    expect(find_curves(opened)).to_have_count(2)  # validation and training
    find_checkbox(opened, 2).check()
    expect(find_curves(opened)).to_have_count(4)
    expect(opened.locator("#curves-legend li")).to_have_text(
        [re.compile("1: nin.*lr 0.02"), re.compile("2: lenet.*lr 0.1")]
    )
    keys = opened.locator("#differences tbody th")
    expect(keys).to_have_text(["model.name", "optimizer.lr", "train.batch_size", "train.epochs"])
    opened.get_by_label("training too").uncheck()
    expect(find_curves(opened)).to_have_count(2)
    opened.get_by_label("training too").check()


def test_chosen_run_keeps_its_color(opened: Any) -> None:
    for run in (1, 2):
        find_checkbox(opened, run).check()
    read_style = "(mark) => mark.textContent + mark.style.color"
    second = opened.locator("#runs .mark").nth(1)
    before = second.evaluate(read_style)
    find_checkbox(opened, 1).uncheck()
    for run in (3, 4):
        find_checkbox(opened, run).check()
    marks = opened.locator("#runs .mark:not(:empty)")
    styles = marks.evaluate_all(f"(marks) => marks.map({read_style})")
    assert second.evaluate(read_style) == before
    assert len(set(styles)) == 3


def test_group_has_same_color_in_table_charts_and_legends(
    opened: Any,
) -> None:
    opened.get_by_label("Filter").fill("lenet finished lr=0.1")
    opened.get_by_role("button", name="Choose all shown").click()
    opened.get_by_label("Filter").fill("")
    settle(opened)
    read_entry = "(mark) => [mark.parentElement.textContent.slice(1), mark.style.color]"
    read_entries = f"(marks) => marks.map({read_entry})"
    curves_legend = opened.locator("#curves-legend .mark").evaluate_all(read_entries)
    cost_legend = opened.locator("#cost-legend .mark").evaluate_all(read_entries)
    assert (len(curves_legend), cost_legend[:-1]) == (2, curves_legend)
    assert cost_legend[-1][0] == "not chosen"
    colors = {color for _, color in curves_legend}
    marks = "(marks) => marks.map((mark) => mark.style.color)"
    assert set(opened.locator("#runs .mark:not(:empty)").evaluate_all(marks)) == colors
    lines = opened.locator("#curves .js-line").evaluate_all(
        "(lines) => lines.map((line) => line.style.stroke)"
    )
    points = opened.locator("#cost-chart .point").evaluate_all(
        "(points) => points.map((point) => point.style.fill)"
    )
    assert colors <= set(lines)
    assert colors <= set(points)


@pytest.mark.parametrize(
    ("select", "title", "options"),
    [
        ("#quantity", "#curves .ytitle", ["loss", "accuracy"]),
        ("#cost", "#cost-chart .xtitle", ["parameters", "multiply-adds", "train + eval (s)"]),
        ("#accuracy", "#cost-chart .ytitle", ["best validation accuracy", "test accuracy"]),
    ],
)
def test_charts_show_selected_quantity(opened: Any, select: str, title: str, options: Any) -> None:
    for option in options:
        opened.locator(select).select_option(label=option)
        expect(opened.locator(title)).to_have_text(option)


def test_heat_map_cell_has_number_or_state(opened: Any) -> None:
    expect(opened.locator("#grid-chart .heatmaplayer image")).to_be_visible()
    cells = opened.locator("#grid-chart .annotation-text")
    expect(cells).to_have_count(4)
    assert sum(bool(re.fullmatch(r"0\.\d{4}", text)) for text in cells.all_text_contents()) == 3
    assert "failed" in cells.all_text_contents()
    expect(opened.locator("#grid")).to_be_hidden()  # a choice of one is not offered


def test_recall_is_shown_for_chosen_runs_that_have_it(opened: Any) -> None:
    find_checkbox(opened, 1).check()
    expect(opened.locator("#recall tbody tr")).to_have_text(
        [re.compile("Bag.*0.2500"), re.compile("Coat.*0.7500")]
    )
    find_checkbox(opened, 1).uncheck()
    expect(opened.locator("#recall-section")).to_be_hidden()


@pytest.mark.slow
def test_dark_mode_follows_system_until_button_is_clicked(browser: Any, report: str) -> None:
    with open_window(browser, report, viewport=DESKTOP, color_scheme="dark") as page:
        expect(page.locator("#curves .xtitle")).to_be_visible()
        assert page.evaluate(LUMINANCE, "body") < 50
        assert page.evaluate(LUMINANCE, "#curves .xtitle") > 200
        page.get_by_role("button", name="Light").click()
        settle(page)
        assert page.evaluate(LUMINANCE, "body") > 200
        assert page.evaluate(LUMINANCE, "#curves .xtitle") < 50
        expect(page.get_by_role("button", name="Dark")).to_be_visible()
