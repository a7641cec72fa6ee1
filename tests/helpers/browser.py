"""A page in a real browser, opened from disk; without Playwright the module that imports this is skipped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["CHROMIUM", "DESKTOP", "MARKS", "PHONE", "Window", "sync_api", "open_window"]

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install playwright"
)
CHROMIUM = Path("/usr/bin/chromium")
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: apt-get install chromium"),
]
DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 360, "height": 740}


class Window:
    """A page that is open, and what the browser had to complain of; that it asked for other addresses, too."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        folder = address.rpartition("/")[0]  # where pictures lie, too
        self.page.on("request", lambda request: self.complain_unless_in(folder, request.url))
        self.page.goto(address)

    def complain_unless_in(self, folder: str, url: str) -> None:
        if not url.startswith(folder):
            self.complaints.append(url)


@contextmanager
def open_window(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page in a window of its own."""
    open_window = Window(browser, address, **options)
    yield open_window.page
    open_window.context.close()
    assert open_window.complaints == []
