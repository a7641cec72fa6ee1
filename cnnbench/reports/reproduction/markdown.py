"""The results as Markdown."""

from collections.abc import Iterable, Iterator

from cnnbench.reports.reproduction.results import Judged, Results, Table
from cnnbench.reports.table import escaped

__all__ = ["as_markdown", "lead"]


def lead(results: Results) -> str:
    """What the results are, in a sentence or two."""
    reduced = {
        "full": "",
        "reduced": " It is of the reduced scale: what was made smaller stands beside each figure, and figures of what "
        "was made smaller are not those of the book.",
        "smoke": " It is of the smoke scale, which only shows that everything runs: no figure of a training says "
        "anything.",
    }
    return (
        "The networks of Dive into Deep Learning and the claims of the course notes, trained again, measured and "
        f"judged by rules. All of this page is generated.{reduced.get(results.scale, '')}"
    )


def as_markdown(results: Results) -> str:
    """The whole document."""
    parts = [
        "# Results",
        lead(results),
        "\n".join(f"- {name}: {escaped(value)}" for name, value in results.facts.items()),
        "## The book's networks",
        _table(results.book),
        "## The notes' claims",
        _table(_of_claims(results.claims)),
        *(part for claim in results.claims for part in _claim(claim)),
        "## How it is judged",
        *map(escaped, results.notes),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _of_claims(claims: Iterable[Judged]) -> Table:
    rows = [
        [f"{claim.name}. {claim.text}", " ".join(finding.sentence for finding in claim.findings), claim.verdict]
        for claim in claims
    ]
    return Table(["claim", "measured", "verdict"], rows)


def _claim(claim: Judged) -> Iterator[str]:
    yield f"### {claim.name}. {escaped(claim.text)}"
    yield f"Verdict: **{claim.verdict}**."
    yield "\n".join(
        f"- {escaped(finding.sentence)}"
        + (f" Stated: {escaped(finding.stated)}. **{finding.verdict}**." if finding.verdict else "")
        for finding in claim.findings
    )
    for part in claim.parts:
        yield (
            ", ".join([f"`{part.name}`", *map(escaped, part.remarks)]) + ":" + ("" if part.table.rows else " not run.")
        )
        if part.table.rows:
            yield _table(part.table)


def _table(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    escape = [[cell if number == 1 else escaped(cell) for cell in line] for number, line in enumerate(lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in escape)
