"""The verdicts of `cnnbench reproduce` for the terminal, and results.md."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnnbench.analysis.format import align, format_duration, mean_and_std
from cnnbench.analysis.judge import Estimate, combine
from cnnbench.reports.reproduction.arms import Arm, Experiment
from cnnbench.reports.reproduction.findings import judge_finding, judge_network
from cnnbench.reports.reproduction.statements import Network, Statements
from cnnbench.reports.tables import Cell, Column, as_text, escape_markdown, format_markdown
from cnnbench.reports.terminal_table import count_by_state
from cnnbench.runs.records import Record

__all__ = ["judge_runs"]

ENVIRONMENT = ("device", "chip", "precision", "cnnbench", "torch", "commit")


def judge_runs(
    statements: Statements,
    computed: Mapping[str, Estimate],
    experiments: Mapping[str, Experiment],
    runs: Sequence[Record],
    heading: Mapping[str, str],
) -> tuple[str, str]:
    """Return the verdicts as lines for the terminal, and the text of results.md.

    `computed` has the figures that need no runs, `heading` the command and the scale.
    """
    facts = {**heading, **_describe(runs)}
    book = [_book_row(network, experiments[name]) for name, network in statements.book.items()]
    trained = [row for row in book if row["test accuracy"]]
    lines = [[row["network"], row["test accuracy"], row["verdict"]] for row in trained]
    findings, verdicts = {}, {}
    for number, claim in statements.claims.items():
        judged = [judge_finding(finding, experiments, computed) for finding in claim.findings]
        findings[number] = judged
        verdicts[number] = combine(finding.verdict for finding in judged if finding.stated)
        lines.append([f"claim {number}", "", verdicts[number]])
    environment = Environment(
        loader=PackageLoader("cnnbench.reports.reproduction", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"escaped": escape_markdown, "table": _table, "as_row": _arm_row}
    page = environment.get_template("results.md.jinja").render(
        facts=facts,
        book=book,
        claims=statements.claims,
        findings=findings,
        verdicts=verdicts,
        experiments=experiments,
    )
    return f"{align(lines)}\n{facts['trained']}", page


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows, which map headings to texts, as a table in Markdown without empty columns."""
    columns = []
    for heading in rows[0]:
        columns.append(Column(heading, heading, [Cell(row[heading]) for row in rows]))
    return format_markdown(columns).rstrip("\n")


def _book_row(network: Network, experiment: Experiment) -> dict[str, str]:
    """Return a row with our accuracy, the book's accuracies and the verdict."""
    arm = experiment.arms[0] if experiment.arms else Arm([], [])
    theirs = [f"{accuracy:.3f}" for accuracy in network.accuracies or []]
    verdict = judge_network(network, experiment)
    return {
        "network": network.title,
        "test accuracy": mean_and_std(arm.samples("accuracy")),
        "seeds": str(len(arm.finished)),
        "the book's two runs": ", ".join(theirs) or "not known",
        "verdict": verdict if arm.runs else "not run",
        "s per epoch": mean_and_std(arm.samples("epoch_s"), ".3g"),
        "in all": _total_time(arm.finished),
        "others": arm.unfinished,
        "reduced by": experiment.reduced,
    }


def _arm_row(arm: Arm) -> dict[str, str]:
    on_gpu = [run for run in arm.finished if run.result.get("device") == "cuda"]
    peaks = [peak for run in on_gpu for peak in run.column("peak_gib")]
    peak = f" (measured at most {max(peaks):.2f} GiB)" if peaks else ""
    return {
        **arm.values,
        "test accuracy": mean_and_std(arm.samples("accuracy")),
        "seeds": str(len(arm.finished)),
        "train less test": mean_and_std(arm.samples("train_less_test")),
        "s per epoch": mean_and_std(arm.samples("epoch_s"), ".3g"),
        "MiB of tensors": mean_and_std(arm.samples("memory"), ".1f") + peak,
        "others": arm.unfinished,
    }


def _total_time(finished: Sequence[Record]) -> str:
    """Return the sum of the times from the start of each run to its end."""
    seconds = sum(filter(None, (run.figure("wall_s", "total") for run in finished)))
    return format_duration(seconds) if finished else ""


def _describe(runs: Sequence[Record]) -> dict[str, str]:
    """Return the time, the machines, the versions and the commits of the runs."""
    finished = [run for run in runs if run.state == "finished"]
    trained = f"{count_by_state(runs)}; {_total_time(finished)} in all" if runs else "none yet"
    machines, versions, commits = [], [], []
    for run in finished:
        environment = {key: str(run.environment.get(key)) for key in ENVIRONMENT}
        machines.append("{device} ({chip}), {precision}".format(**environment))
        versions.append("cnnbench {cnnbench}, torch {torch}".format(**environment))
        commits.append("{commit:.12}".format(**environment))
    return {
        "made": datetime.now().astimezone().isoformat(" ", timespec="minutes"),
        "trained": trained,
        "machine": _join_distinct(machines),
        "versions": _join_distinct(versions),
        "commit": _join_distinct(commits),
    }


def _join_distinct(texts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(map(as_text, texts)))
