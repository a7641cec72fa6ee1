"""`cnnbench reproduce`: judge the book and the claims by the runs of its sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnbench.analysis.format import align, printable
from cnnbench.commands import write_results
from cnnbench.reports.reproduction.arms import sort_runs
from cnnbench.reports.reproduction.findings import judge_claim
from cnnbench.reports.reproduction.results import as_markdown, book_rows, describe_runs
from cnnbench.reports.reproduction.statements import Statements
from cnnbench.runs.records import Record

__all__ = ["judge"]

FILE = "results.md"


def judge(
    statements: Statements,
    runs: Sequence[Record],
    reduced: Mapping[str, str],
    heading: Mapping[str, str],
    output: Path,
) -> None:
    """Judge the runs, print the verdicts and write results.md into `output`.

    `reduced` has what makes each experiment smaller, `heading` the command and its scale.

    Raises:
        ConfigError: the results cannot be written there.
    """
    experiments = {}
    for name, varied in statements.varied.items():
        own = [run for run in runs if run.value("experiment") == name]
        experiments[name] = sort_runs(own, varied, reduced[name])
    book = book_rows(statements.book, experiments)
    claims = {}
    trained = [row for row in book if row["test accuracy"]]
    lines = [[row["network"], row["test accuracy"], row["verdict"]] for row in trained]
    for number, claim in statements.claims.items():
        claims[number] = judge_claim(claim, experiments, statements.computed)
        lines.append([f"claim {number}", "", claims[number].verdict])
    facts = {**heading, **describe_runs(runs)}
    print(printable(f"\n{align(lines)}\n{facts['trained']}"))
    with write_results(output, FILE) as folder:
        folder.write_text(FILE, as_markdown(facts, book, claims, experiments))
