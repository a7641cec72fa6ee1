"""The page that holds the pictures: it opens from disk and needs no network."""

from collections.abc import Mapping
from pathlib import Path

from cnnbench.analysis.format import printable
from cnnbench.reports.inspection.sections import Section
from cnnbench.runs.directory import write_atomically

__all__ = ["write_page"]


def write_page(path: Path, title: str, facts: Mapping[str, str], sections: Mapping[str, Section]) -> None:
    """Write the page beside its pictures, which it links to; whatever words a run brings are text in it.

    `sections` are those that page.html has, by name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cnnbench.reports.inspection", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["printable"] = printable
    words = environment.get_template("page.html").render(title=title, facts=facts, sections=sections)
    write_atomically(path, lambda file: file.write(words.encode()))
