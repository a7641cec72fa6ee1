"""The verdicts of `cnnbench reproduce` for the terminal, and results.md."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnnbench.analysis.format import align, format_count, format_duration, mean_and_std
from cnnbench.analysis.judge import Estimate, combine
from cnnbench.reports.reproduction.arms import Arm, Experiment
from cnnbench.reports.reproduction.findings import judge_finding, judge_network
from cnnbench.reports.reproduction.statements import Network, Statements
from cnnbench.reports.reproduction.stored_runs import StoredRun
from cnnbench.reports.tables import Cell, Column, as_text, escape_markdown, format_markdown
from cnnbench.runs.records import Record

__all__ = ["judge_runs", "summarize"]


def judge_runs(
    statements: Statements,
    computed: Mapping[str, Estimate],
    experiments: Mapping[str, Experiment],
    is_smoke: bool = False,
) -> tuple[str, str]:
    """Return the verdicts as lines for the terminal, and the text of results.md.

    `computed` has the figures that need no runs. The same arguments give the same text.
    """
    book, course = [], []
    for name, network in statements.book.items():
        book += _network_rows(network, experiments[name], "the book's two runs")
    for name, network in statements.course.items():
        course += _network_rows(network, experiments[name], "")
    trained = [row for row in (*book, *course) if row["test accuracy"]]
    lines = []
    for row in trained:
        title = f"{row['network']}, {row['data']}" if row["data"] else row["network"]
        lines.append([title, row["test accuracy"], row["verdict"]])
    findings, verdicts = {}, {}
    for number, claim in statements.claims.items():
        judged = [judge_finding(finding, experiments, computed) for finding in claim.findings]
        findings[number] = judged
        verdicts[number] = combine(finding.verdict for finding in judged if finding.stated)
        lines.append([f"claim {number}", "", verdicts[number]])
    papers = []
    for name, paper in statements.papers.items():
        row = {"network": paper.title, "test error in the paper": paper.figure}
        row["command"] = f"cnnbench experiment={name}"
        papers.append({**row, "minutes on an H100, estimated": f"{paper.minutes:g}"})
    environment = Environment(
        loader=PackageLoader("cnnbench.reports.reproduction", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"escaped": escape_markdown, "table": _table, "as_row": _arm_row}
    environment.filters["machines"] = _list_machines
    shown = [run for experiment in experiments.values() for run in experiment.runs]
    page = environment.get_template("results.md.jinja").render(
        facts=_describe(shown),
        is_smoke=is_smoke,
        book=book,
        course=course,
        papers=papers,
        claims=statements.claims,
        findings=findings,
        verdicts=verdicts,
        experiments=experiments,
    )
    return align(lines), page


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows, which map headings to texts, as a table in Markdown without empty columns."""
    columns = []
    for heading in rows[0]:
        columns.append(Column(heading, heading, [Cell(row[heading]) for row in rows]))
    return format_markdown(columns).rstrip("\n")


def _network_rows(network: Network, experiment: Experiment, source: str) -> list[dict[str, str]]:
    """Return a row for each arm of the experiment of a network, with our accuracy and the verdict.

    `source` is the heading of the accuracies that ours is compared with, or "".
    """
    theirs = ", ".join(f"{accuracy:.3f}" for accuracy in network.accuracies or [])
    rows = []
    for arm in experiment.arms or [Arm([], [])]:
        verdict = judge_network(network, experiment, arm)
        figures = {**_figures(arm), "reduced by": experiment.reduced}
        if verdict.startswith("not measured"):
            figures = dict.fromkeys(figures, "")
        row = {"network": network.title, "data": arm.values.get("data", ""), **figures}
        if source:
            row[source] = theirs or "not known"
        rows.append({**row, "verdict": verdict})
    return rows


def _arm_row(arm: Arm) -> dict[str, str]:
    """Return the row of an arm in the table of its experiment."""
    return {
        **arm.values,
        **_figures(arm),
        "train less test": mean_and_std(arm.samples("train_less_test")),
        "GiB": mean_and_std(arm.samples("peak_gib"), ".2f"),
    }


def _figures(arm: Arm) -> dict[str, str]:
    return {
        "test accuracy": mean_and_std(arm.samples("accuracy")),
        "seeds": str(len(arm.finished)),
        "diverged": str(len(arm.diverged) or ""),
        "s per epoch": mean_and_std(arm.samples("epoch_s"), ".3g"),
    }


def _describe(runs: Sequence[StoredRun]) -> dict[str, str]:
    """Return the number, the time, the machines, the versions and the commits of the runs."""
    seconds = sum(run.seconds or 0.0 for run in runs)
    versions = (f"cnnbench {run.cnnbench}, torch {run.torch}" for run in runs)
    commits = (f"{run.commit:.12}" for run in runs)
    return {
        "runs": f"{format_count(len(runs), 'run')}, {format_duration(seconds)} in all",
        "machine": _list_machines(runs),
        "versions": _join_distinct(versions),
        "commit": _join_distinct(commits),
    }


def _list_machines(runs: Iterable[StoredRun]) -> str:
    """Return the chips, precisions and numbers of CPU threads of runs."""
    machines = []
    for run in runs:
        machine = f"{run.device} ({run.chip}), {run.precision}"
        if run.device == "cpu" and run.threads is not None:
            machine += f", {format_count(run.threads, 'thread')}"
        machines.append(machine)
    return _join_distinct(machines)


def _join_distinct(texts: Iterable[str]) -> str:
    return "; ".join(sorted(set(map(as_text, texts)))) or "none"


def summarize(records: Sequence[Record]) -> str:
    """Return the states of runs: ``3 runs: 1 finished, 2 failed (Out of memory); 9 s in all``."""
    states = Counter((run.state, as_text(run.error).rstrip(".")) for run in records)
    parts = []
    for (state, reason), number in states.items():
        parts.append(f"{number:,} {state}" + (f" ({reason})" if reason else ""))
    seconds = sum(run.figure("wall_s", "total") or 0.0 for run in records)
    counts = f"{format_count(len(records), 'run')}: {', '.join(parts)}"
    return f"{counts}; {format_duration(seconds)} in all"
