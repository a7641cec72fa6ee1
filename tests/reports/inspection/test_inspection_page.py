"""The page that shows the pictures."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from cnnbench.reports.inspection.page import write_page
from cnnbench.reports.inspection.sections import Picture, Section

SECTIONS = ("mistakes", "saliency", "feature_maps", "kernels", "activations", "weights", "receptive_fields")
HOSTILE = "</td><script>alert('1')</script>\"'\x1b[2J\ud800{{ 7 * 7 }}"


class Seen(HTMLParser):
    """The tags with their attributes, and the words between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes.get(attribute) for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(tmp_path: Path) -> str:
    sections = {name: Section(note=f"nothing of {name}") for name in SECTIONS}
    sections["mistakes"] = Section([Picture("mistakes.png", HOSTILE, HOSTILE)], [("class", "times"), (HOSTILE, "3")])
    write_page(tmp_path / "index.html", HOSTILE, {"run": HOSTILE}, sections)
    return (tmp_path / "index.html").read_text()


def test_words_of_a_run_are_text(page: str) -> None:
    seen = Seen(page)
    told = "</td><script>alert('1')</script>\"'?[2J?{{ 7 * 7 }}"
    assert "script" not in {tag for tag, _ in seen.tags}
    assert seen.words.count(told) == 5  # title twice, fact, caption, cell
    assert seen.all("img", "alt") == [told]


def test_nothing_comes_from_elsewhere(page: str) -> None:
    seen = Seen(page)
    links = [*seen.all("img", "src"), *seen.all("a", "href"), *seen.all("link", "href"), *seen.all("script", "src")]
    assert {link for link in links if link and not link.startswith("#")} == {"mistakes.png"}
    assert "url(" not in page
    assert "@import" not in page


def test_every_section_can_be_jumped_to(page: str) -> None:
    seen = Seen(page)
    jumps = [link[1:] for link in seen.all("a", "href") if link and link.startswith("#")]
    assert jumps == [name for name in seen.all("section", "id") if name]
    assert sorted(jumps) == sorted(SECTIONS)


def test_a_section_without_pictures_says_why(page: str) -> None:
    assert all(f"nothing of {name}" in page for name in SECTIONS[1:])
