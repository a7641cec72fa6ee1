"""Pages of `cnnbench report`, on disk and opened in a browser."""

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.fake_runs import FakeTraining, make_grid, make_run
from helpers.report_page import HOSTILE, settle, write_page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of a grid of 8 runs and two other runs, one of them evaluated.

    Two runs of the grid failed and one was interrupted.
    """
    folder = tmp_path_factory.mktemp("report")
    make_grid(folder / "runs", ["lenet"], [0.1, 0.2], [64, 128], [0, 1], 4)
    low, high = FakeTraining(accuracy=0.5), FakeTraining(accuracy=0.99)
    make_run(folder / "runs" / "mlp", "mlp", lr=0.01, batch_size=32, training=low)
    classes = [{"name": "Bag", "recall": 0.25}, {"name": "Coat", "recall": 0.75}]
    files = {"evaluation": {"classes": classes}}
    make_run(folder / "runs" / "nin", "nin", lr=0.02, batch_size=32, training=high, **files)
    return write_page(folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of runs whose names, errors and classes are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    make_grid(folder / "runs", [HOSTILE], [0.1, 0.2], [64, 128], [0], 4)
    failed = {"state": "failed", "error": HOSTILE}
    name = HOSTILE.replace("/", "")
    make_run(folder / "runs" / name, "long" * 100, state="failed", status=failed)
    evaluation = {"classes": [{"name": HOSTILE, "recall": 0.5}]}
    config = make_run(folder / "runs" / "evaluated", evaluation=evaluation) / "config.yaml"
    config.write_text(config.read_text() + f"? {HOSTILE!r}\n: 1\n__proto__: {{polluted: 1}}\n")
    return write_page(folder)


@pytest.fixture(scope="module")
def shared(browser: Any, report: str) -> Iterator[Any]:
    """Open one window for most tests, since opening takes time."""
    from helpers.browser import DESKTOP, Window

    window = Window(browser, report, viewport=DESKTOP)
    yield window
    window.context.close()


@pytest.fixture
def opened(shared: Any) -> Iterator[Any]:
    """Return the page without filters and without chosen runs."""
    page = shared.page
    page.get_by_label("Filter").fill("")
    page.get_by_label("Status").select_option("")
    page.get_by_role("button", name="Choose none").click()
    settle(page)
    yield page
    assert shared.complaints == []
