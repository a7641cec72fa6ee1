"""Pages from disk in a real browser. Without Playwright, modules that import this are skipped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["CHROMIUM", "DESKTOP", "MARKS", "PHONE", "Window", "open_window", "sync_api"]

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
    """An open page, and the complaints: errors, and requests to places outside its folder."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        folder = address.rpartition("/")[0]  # pictures are in the same folder
        self.page.on("request", lambda request: self.complain_unless_in(folder, request.url))
        self.page.goto(address)

    def complain_unless_in(self, folder: str, url: str) -> None:
        if not url.startswith(folder):
            self.complaints.append(url)


@contextmanager
def open_window(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """Open the page in a new window, and check after the block that there are no complaints."""
    window = Window(browser, address, **options)
    yield window.page
    window.context.close()
    assert window.complaints == []
