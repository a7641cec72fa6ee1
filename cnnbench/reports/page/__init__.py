"""The pages that cnnbench writes: HTML files that need no network, from one base template.

A run directory is untrusted, so that no text from it may become HTML. The templates escape text,
and the scripts set text only. If either failed, the page's policy would still run no other scripts:
it lists the digests of the page's scripts.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from cnnbench.analysis.format import printable

__all__ = ["render_page"]


def render_page(template: str, scripts: Sequence[str] = (), **values: Any) -> str:
    """Return the page as HTML.

    `scripts` are names of files in this folder, or whole scripts such as a library. A page without
    scripts may show pictures from its own folder.
    """
    import jinja2
    from markupsafe import Markup

    files = resources.files(__name__)
    sources = [*scripts, "theme.js"]
    for place, script in enumerate(sources):
        if script.endswith(".js"):
            sources[place] = (files / script).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__name__, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    images = "data: blob:" if scripts else "'self' file:"
    return environment.get_template(template).render(
        policy=_policy(sources, images),
        scripts=[Markup(script) for script in sources],
        style=Markup((files / "page.css").read_text(encoding="utf-8")),
        **values,
    )


def _policy(scripts: Sequence[str], images: str) -> str:
    """Return the Content-Security-Policy: only these scripts, only these images, no network."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"img-src {images}; base-uri 'none'; form-action 'none'"
    )
