"""The page of `cnnbench report` in a real browser, opened from disk."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import DESKTOP, MARKS, PHONE, Window, open_window, sync_api
from helpers.report_page import HOSTILE, find_curves, read_column, settle, write_page

expect = sync_api.expect
pytestmark = MARKS


def test_heading_sorts_in_both_directions_with_empty_cells_last(opened: Any) -> None:
    numbers = sorted(filter(None, read_column(opened, "test_accuracy")))
    assert len(numbers) == 7
    header = opened.locator("#runs th[data-name='test_accuracy']")
    for order, values in (("descending", numbers[::-1]), ("ascending", numbers)):
        header.get_by_role("button").click()
        expect(header).to_have_attribute("aria-sort", order)
        assert read_column(opened, "test_accuracy") == [*values, "", "", ""]


def test_numbers_sort_numerically_and_text_alphabetically(opened: Any) -> None:
    opened.locator("#runs th[data-name='train.batch_size'] button").click()
    assert read_column(opened, "train.batch_size") == ["32"] * 2 + ["64"] * 4 + ["128"] * 4
    opened.locator("#runs th[data-name='model'] button").click()
    assert read_column(opened, "model") == ["lenet"] * 8 + ["mlp", "nin"]
    assert opened.locator("#runs th[aria-sort]").count() == 1
    before = read_column(opened, "train.batch_size", "groups")
    opened.locator("#groups th[data-name='train.batch_size'] button").click()
    assert read_column(opened, "train.batch_size", "groups") == sorted(before, key=int) != before


@pytest.mark.parametrize(
    ("typed", "networks"),
    [
        ("mlp", ["mlp"]),
        ("MLP", ["mlp"]),
        ("lenet seed=1 failed", ["lenet"]),
        ("optimizer.lr=0.010", ["mlp"]),
        ("lr<0.1 batch=32", ["nin", "mlp"]),
        ("parameters>1000000", ["nin"]),
        ("network=len", []),
        ("device=cuda mlp", ["mlp"]),
        ("parameters=61706 0.2 status=finished", ["lenet", "lenet"]),
        ("became nan", ["lenet", "lenet"]),
        ("test_accuracy<1 mlp", ["mlp"]),
    ],
)
def test_filter_shows_rows_that_match_all_words(
    opened: Any, typed: str, networks: list[str]
) -> None:
    opened.get_by_label("Filter").fill(typed)
    assert sorted(read_column(opened, "model")) == sorted(networks)
    expect(opened.locator("#count")).to_contain_text(f"{len(networks)} of 10 shown")


def test_filters_apply_to_table_and_cost_chart(opened: Any) -> None:
    points = opened.locator("#cost-chart .point")
    expect(points).to_have_count(7)
    opened.get_by_label("Filter").fill("lenet")
    expect(points).to_have_count(5)
    opened.get_by_label("Status").select_option("failed")
    assert read_column(opened, "status") == ["failed", "failed"]
    opened.get_by_label("Filter").fill("seed=1")
    assert read_column(opened, "status") == ["failed"]
    expect(points).to_have_count(0)


def test_unknown_column_in_filter_lists_known_columns(opened: Any) -> None:
    opened.get_by_label("Filter").fill("lenet foo=3")
    message = opened.locator("#unknown-column")
    expect(message).to_have_text(
        re.compile("^There is no column 'foo'. Columns: model, data, .*test_accuracy")
    )
    opened.get_by_label("Filter").fill("lr=0.1")
    expect(message).to_have_text("")


def test_constant_columns_stand_above_table_and_can_be_filtered(
    opened: Any,
) -> None:
    expect(opened.locator("#constant")).to_contain_text("data fashion_mnist")
    expect(opened.locator("#runs th[data-name='data']")).to_be_hidden()
    expect(opened.locator("#runs tbody tr").first.locator("td:visible").first).to_have_text(
        re.compile("nin|lenet|mlp")
    )
    opened.get_by_label("Filter").fill("data=fashion_mnist")
    expect(opened.locator("#count")).to_contain_text("10 of 10 shown")


def test_choose_all_shown(opened: Any) -> None:
    opened.get_by_label("Filter").fill("lenet finished")
    opened.get_by_role("button", name="Choose all shown").click()
    expect(opened.locator("#count")).to_have_text("5 of 10 shown, 5 chosen")
    expect(opened.locator("#curves-legend li")).to_have_count(
        3
    )  # two groups of two seeds, and one alone
    expect(find_curves(opened)).to_have_count(8)  # three groups with two curves each, and two bands


def test_page_works_with_keyboard_only(opened: Any) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(60):
            opened.keyboard.press("Tab")
            if opened.evaluate(f"document.activeElement.matches({selector!r})"):
                return
        raise AssertionError(f"Tab does not lead to {selector}")

    opened.get_by_role("button", name="Dark").focus()
    tab_to("#filter")
    opened.keyboard.type("lenet")
    assert read_column(opened, "model") == ["lenet"] * 8
    tab_to("th[data-name='optimizer.lr'] button")
    opened.keyboard.press("Enter")
    opened.keyboard.press("Enter")
    assert read_column(opened, "optimizer.lr") == ["0.2"] * 4 + ["0.1"] * 4
    tab_to("#runs input:not(:checked)")
    opened.keyboard.press("Space")
    expect(opened.locator("#count")).to_have_text("8 of 10 shown, 1 chosen")
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.slow
def test_tables_scroll_on_a_phone_and_the_page_does_not(browser: Any, report: str) -> None:
    with open_window(browser, report, viewport=PHONE, is_mobile=True, has_touch=True) as page:
        expect(find_curves(page).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        first = page.locator("#runs tbody th.first").first
        before = first.bounding_box()["x"]
        page.evaluate("document.querySelector('.scroll').scrollLeft = 300")
        assert page.evaluate("document.querySelector('.scroll').scrollLeft") == 300
        assert first.bounding_box()["x"] == before
        for chart in page.locator(".chart").all():
            assert chart.bounding_box()["width"] <= 360


@pytest.mark.slow
def test_page_of_runs_without_files_opens(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    jobs = {"one": ["seed=1"], "two": ["seed=2"]}
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    with open_window(browser, write_page(tmp_path), viewport=DESKTOP) as page:
        page.get_by_role("button", name="Choose all shown").click()
        settle(page)
        assert read_column(page, "status") == ["not begun", "not begun"]


def test_hostile_names_of_runs_are_shown_as_text(browser: Any, hostile: str) -> None:
    with open_window(browser, hostile, viewport=DESKTOP) as page:
        page.get_by_role("button", name="Choose all shown").click()
        expect(page.locator("#curves-legend li")).to_have_count(4)
        page.locator("#cost-chart .point").first.hover(force=True)
        expect(page.locator("#cost-chart .hovertext")).to_contain_text(HOSTILE)
        assert page.title() == "6 runs: 3 finished, 1 interrupted, 2 failed (cnnbench)"
        assert page.locator("img, b, i").count() == 0
        assert HOSTILE in read_column(page, "model")
        assert HOSTILE in read_column(page, "error")
        expect(page.locator("#curves-legend li").first).to_contain_text(HOSTILE)
        assert HOSTILE in page.locator("#differences tbody th").all_inner_texts()
        assert page.locator("#recall tbody th").all_inner_texts() == [HOSTILE]
        assert page.evaluate("({}).polluted") is None


def test_content_security_policy_blocks_injected_scripts(browser: Any, hostile: str) -> None:
    opened = Window(browser, hostile)
    page = opened.page
    for markup in (
        "insertAdjacentHTML('beforeend', `<img src='x' onerror='document.title = 1'>`)",
        "append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))",
    ):
        page.evaluate(f"document.body.{markup}")
    page.wait_for_timeout(100)
    assert page.title().startswith("6 runs")
    opened.context.close()
    assert any("Content Security Policy" in line for line in opened.complaints)
