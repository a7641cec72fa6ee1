"""The page of `cnnbench report` in a real browser, opened from disk."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import DESKTOP, MARKS, PHONE, Window, open_window, sync_api
from helpers.fake_runs import FakeTraining, make_grid, make_run
from PIL import Image

from cnnbench.reports.inspection.sections import Section
from cnnbench.reports.page import render_page
from cnnbench.reports.page.report import render
from cnnbench.runs.records import read_records

expect = sync_api.expect
pytestmark = MARKS

HOSTILE = "</script><img src=x onerror=document.title='run'><b>%{x}</b>&lt;i&gt;"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a grid of 8 runs with two failed and one interrupted, and of two others, one of them evaluated."""
    folder = tmp_path_factory.mktemp("report")
    make_grid(folder / "runs", ["lenet"], [0.1, 0.2], [64, 128], [0, 1], 4)
    low, high = FakeTraining(accuracy=0.5), FakeTraining(accuracy=0.99)
    make_run(folder / "runs" / "mlp", "mlp", lr=0.01, batch_size=32, training=low)
    classes = [{"name": "Bag", "recall": 0.25}, {"name": "Coat", "recall": 0.75}]
    make_run(
        folder / "runs" / "nin",
        "nin",
        lr=0.02,
        batch_size=32,
        training=high,
        evaluation={"classes": classes},
    )
    return write(folder)


def write(folder: Path) -> str:
    """The address of a page over the runs in `folder`."""
    page = folder / "report.html"
    page.write_text(render(read_records(folder), "runs"))
    return page.as_uri()


@pytest.fixture(scope="module")
def shared(browser: Any, report: str) -> Iterator[Window]:
    """One window for most tests: it is the opening that takes time."""
    open_window = Window(browser, report, viewport=DESKTOP)
    yield open_window
    open_window.context.close()


@pytest.fixture
def opened(shared: Window) -> Iterator[Any]:
    """The page with nothing filtered and nothing chosen."""
    page = shared.page
    page.get_by_label("Filter").fill("")
    page.get_by_label("Status").select_option("")
    page.get_by_role("button", name="Choose none").click()
    settle(page)
    yield page
    assert shared.complaints == []


def column(page: Any, name: str, table: str = "runs") -> list[str]:
    """The cells of a column that are shown, from the top."""
    at = page.locator(f"#{table} thead th").evaluate_all(
        "(all, name) => all.findIndex((th) => th.dataset.name === name)", name
    )
    assert at >= 0
    texts = page.locator(f"#{table} tbody tr:visible > :nth-child({at + 1})").all_inner_texts()
    return [text.strip() for text in texts]


def settle(page: Any) -> None:
    """Wait until all is drawn."""
    page.evaluate(
        "new Promise((done) => (function look() { isWaiting ? setTimeout(look) : done(); })())"
    )


def drawn(page: Any, chart: str = "curves") -> Any:
    return page.locator(f"#{chart} .scatterlayer .trace")


def box(page: Any, run: int) -> Any:
    return page.get_by_role("checkbox", name=f"choose run {run}:")


def test_heading_sorts_in_both_directions_with_empty_cells_last(opened: Any) -> None:
    numbers = sorted(filter(None, column(opened, "test_accuracy")))
    assert len(numbers) == 7
    header = opened.locator("#runs th[data-name='test_accuracy']")
    for order, values in (("descending", numbers[::-1]), ("ascending", numbers)):
        header.get_by_role("button").click()
        expect(header).to_have_attribute("aria-sort", order)
        assert column(opened, "test_accuracy") == [*values, "", "", ""]


def test_numbers_sort_numerically_and_text_alphabetically(opened: Any) -> None:
    opened.locator("#runs th[data-name='train.batch_size'] button").click()
    assert column(opened, "train.batch_size") == ["32"] * 2 + ["64"] * 4 + ["128"] * 4
    opened.locator("#runs th[data-name='model'] button").click()
    assert column(opened, "model") == ["lenet"] * 8 + ["mlp", "nin"]
    assert opened.locator("#runs th[aria-sort]").count() == 1
    before = column(opened, "train.batch_size", "groups")
    opened.locator("#groups th[data-name='train.batch_size'] button").click()
    assert column(opened, "train.batch_size", "groups") == sorted(before, key=int) != before


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
    assert sorted(column(opened, "model")) == sorted(networks)
    expect(opened.locator("#count")).to_contain_text(f"{len(networks)} of 10 shown")


def test_filters_apply_to_table_and_cost_chart(opened: Any) -> None:
    points = opened.locator("#cost-chart .point")
    expect(points).to_have_count(7)
    opened.get_by_label("Filter").fill("lenet")
    expect(points).to_have_count(5)
    opened.get_by_label("Status").select_option("failed")
    assert column(opened, "status") == ["failed", "failed"]
    opened.get_by_label("Filter").fill("seed=1")
    assert column(opened, "status") == ["failed"]
    expect(points).to_have_count(0)


def test_choosing_runs_updates_curves_and_differences(opened: Any) -> None:
    expect(drawn(opened)).to_have_count(0)
    expect(opened.locator("#differences-note")).to_have_text(
        "Choose runs that differ in more than seed or fold."
    )
    box(opened, 1).check()
    expect(drawn(opened)).to_have_count(2)  # validation and training
    box(opened, 2).check()
    expect(drawn(opened)).to_have_count(4)
    expect(opened.locator("#curves-legend li")).to_have_text(
        [re.compile("1: nin.*lr 0.02"), re.compile("2: lenet.*lr 0.1")]
    )
    keys = opened.locator("#differences tbody th")
    expect(keys).to_have_text(["model.name", "optimizer.lr", "train.batch_size", "train.epochs"])
    opened.get_by_label("training too").uncheck()
    expect(drawn(opened)).to_have_count(2)
    opened.get_by_label("training too").check()


def test_chosen_run_keeps_its_color(opened: Any) -> None:
    for run in (1, 2):
        box(opened, run).check()
    look = "(mark) => mark.textContent + mark.style.color"
    second = opened.locator("#runs .mark").nth(1)
    before = second.evaluate(look)
    box(opened, 1).uncheck()
    for run in (3, 4):
        box(opened, run).check()
    looks = opened.locator("#runs .mark:not(:empty)").evaluate_all(f"(marks) => marks.map({look})")
    assert second.evaluate(look) == before
    assert len(set(looks)) == 3


def test_group_has_same_color_in_table_charts_and_legends(
    opened: Any,
) -> None:
    opened.get_by_label("Filter").fill("lenet finished lr=0.1")
    opened.get_by_role("button", name="Choose all shown").click()
    opened.get_by_label("Filter").fill("")
    settle(opened)
    look = "(marks) => marks.map((mark) => [mark.parentElement.textContent.slice(1), mark.style.color])"
    of_curves = opened.locator("#curves-legend .mark").evaluate_all(look)
    of_cost = opened.locator("#cost-legend .mark").evaluate_all(look)
    assert (len(of_curves), of_cost[:-1]) == (2, of_curves)
    assert of_cost[-1][0] == "not chosen"
    colors = {color for _, color in of_curves}
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


def test_unknown_column_in_filter_lists_known_columns(opened: Any) -> None:
    opened.get_by_label("Filter").fill("lenet foo=3")
    told = opened.locator("#unknown-column")
    expect(told).to_have_text(
        re.compile("^There is no column 'foo'. Columns: model, data, .*test_accuracy")
    )
    opened.get_by_label("Filter").fill("lr=0.1")
    expect(told).to_have_text("")


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
    expect(drawn(opened)).to_have_count(8)  # of each group both curves, and two bands


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
    box(opened, 1).check()
    expect(opened.locator("#recall tbody tr")).to_have_text(
        [re.compile("Bag.*0.2500"), re.compile("Coat.*0.7500")]
    )
    box(opened, 1).uncheck()
    expect(opened.locator("#recall-section")).to_be_hidden()


def test_page_works_with_keyboard_only(opened: Any) -> None:
    def tab_to(what: str) -> None:
        for _ in range(60):
            opened.keyboard.press("Tab")
            if opened.evaluate(f"document.activeElement.matches({what!r})"):
                return
        raise AssertionError(f"Tab does not lead to {what}")

    opened.get_by_role("button", name="Dark").focus()
    tab_to("#filter")
    opened.keyboard.type("lenet")
    assert column(opened, "model") == ["lenet"] * 8
    tab_to("th[data-name='optimizer.lr'] button")
    opened.keyboard.press("Enter")
    opened.keyboard.press("Enter")
    assert column(opened, "optimizer.lr") == ["0.2"] * 4 + ["0.1"] * 4
    tab_to("#runs input:not(:checked)")
    opened.keyboard.press("Space")
    expect(opened.locator("#count")).to_have_text("8 of 10 shown, 1 chosen")
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


LUMINANCE = """(selector) => {
    const element = document.querySelector(selector);
    const style = getComputedStyle(element);
    const paint = selector === "body" ? style.backgroundColor : style.fill;
    return paint.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
}"""


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


def test_inspect_page_has_pictures_and_dark_mode(browser: Any, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "filters.png")
    names = ("mistakes", "saliency", "feature_maps", "kernels")
    sections = dict.fromkeys((*names, "activations", "weights", "receptive_fields"), Section())
    sections["kernels"] = Section([("filters.png", HOSTILE)])
    text = render_page("inspection.html.jinja", title=HOSTILE, facts={}, sections=sections)
    (tmp_path / "index.html").write_text(text)
    with open_window(browser, (tmp_path / "index.html").as_uri(), viewport=PHONE) as page:
        assert page.evaluate("document.querySelector('img').naturalWidth") == 30
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.title() == f"{HOSTILE} (cnnbench)"
        before = page.evaluate(LUMINANCE, "body")
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate(LUMINANCE, "body") < 50 < 200 < before


@pytest.mark.slow
def test_tables_scroll_on_a_phone_and_the_page_does_not(browser: Any, report: str) -> None:
    with open_window(browser, report, viewport=PHONE, is_mobile=True, has_touch=True) as page:
        expect(drawn(page).first).to_be_visible()
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
    with open_window(browser, write(tmp_path), viewport=DESKTOP) as page:
        page.get_by_role("button", name="Choose all shown").click()
        settle(page)
        assert column(page, "status") == ["not begun", "not begun"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    make_grid(folder / "runs", [HOSTILE], [0.1, 0.2], [64, 128], [0], 4)
    failed = {"state": "failed", "error": HOSTILE}
    name = HOSTILE.replace("/", "")
    make_run(folder / "runs" / name, "long" * 100, state="failed", status=failed)
    evaluation = {"classes": [{"name": HOSTILE, "recall": 0.5}]}
    config = make_run(folder / "runs" / "evaluated", evaluation=evaluation) / "config.yaml"
    config.write_text(config.read_text() + f"? {HOSTILE!r}\n: 1\n__proto__: {{polluted: 1}}\n")
    return write(folder)


def test_hostile_names_of_runs_are_shown_as_text(browser: Any, hostile: str) -> None:
    with open_window(browser, hostile, viewport=DESKTOP) as page:
        page.get_by_role("button", name="Choose all shown").click()
        expect(page.locator("#curves-legend li")).to_have_count(4)
        page.locator("#cost-chart .point").first.hover(force=True)
        expect(page.locator("#cost-chart .hovertext")).to_contain_text(HOSTILE)
        assert page.title() == "6 runs: 3 finished, 1 interrupted, 2 failed (cnnbench)"
        assert page.locator("img, b, i").count() == 0
        assert HOSTILE in column(page, "model")
        assert HOSTILE in column(page, "error")
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
