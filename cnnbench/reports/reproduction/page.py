"""The results as a page: one HTML file that needs no network and runs no script."""

from importlib import resources

from cnnbench.analysis.format import printable
from cnnbench.reports.reproduction.markdown import lead
from cnnbench.reports.reproduction.pictures import learning_curves
from cnnbench.reports.reproduction.results import Curve, Results

__all__ = ["render"]


def render(results: Results) -> str:
    """The page as HTML; whatever words a run brings are text in it."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def picture(curves: list[Curve]) -> Markup:
        return Markup(learning_curves(curves))  # Matplotlib escapes what is in it

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["printable"] = printable
    environment.filters["picture"] = picture
    source = (resources.files("cnnbench.reports.reproduction") / "page.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(results=results, lead=lead(results))
