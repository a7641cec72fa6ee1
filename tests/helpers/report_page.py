"""The page of `cnnbench report`: how tests write it, and find its parts in a browser."""

from pathlib import Path
from typing import Any

from cnnbench.reports.page.report import render_report
from cnnbench.runs.records import read_records

__all__ = [
    "HOSTILE",
    "LUMINANCE",
    "find_checkbox",
    "find_curves",
    "read_column",
    "settle",
    "write_page",
]

HOSTILE = "</script><img src=x onerror=document.title='run'><b>%{x}</b>&lt;i&gt;"
LUMINANCE = """(selector) => {
    const element = document.querySelector(selector);
    const style = getComputedStyle(element);
    const paint = selector === "body" ? style.backgroundColor : style.fill;
    return paint.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
}"""


def write_page(folder: Path) -> str:
    """Write the page of the runs in `folder`, and return its address."""
    page = folder / "report.html"
    page.write_text(render_report(read_records(folder), "runs"))
    return page.as_uri()


def read_column(page: Any, name: str, table: str = "runs") -> list[str]:
    """Return the visible cells of a column, from the top."""
    script = "(all, name) => all.findIndex((th) => th.dataset.name === name)"
    index = page.locator(f"#{table} thead th").evaluate_all(script, name)
    assert index >= 0
    texts = page.locator(f"#{table} tbody tr:visible > :nth-child({index + 1})").all_inner_texts()
    return [text.strip() for text in texts]


def settle(page: Any) -> None:
    """Wait until all charts are drawn."""
    wait = "(function wait() { isWaiting ? setTimeout(wait) : done(); })()"
    page.evaluate(f"new Promise((done) => {wait})")


def find_curves(page: Any, chart: str = "curves") -> Any:
    return page.locator(f"#{chart} .scatterlayer .trace")


def find_checkbox(page: Any, run: int) -> Any:
    return page.get_by_role("checkbox", name=f"choose run {run}:")
