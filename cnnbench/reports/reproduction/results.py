"""What `cnnbench reproduce` found, as rows of tables and as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import resources

from jinja2 import Environment, StrictUndefined

from cnnbench.analysis.format import format_duration, mean_and_std
from cnnbench.reports.comparison import how_many
from cnnbench.reports.reproduction.arms import Arm, Experiments
from cnnbench.reports.reproduction.findings import JudgedClaim, judge_network
from cnnbench.reports.reproduction.statements import Network
from cnnbench.reports.table import Cell, Column, as_text, escaped, markdown
from cnnbench.runs.records import Record

__all__ = ["as_markdown", "book_rows", "describe_runs"]

Row = Mapping[str, str]  # cells by heading
ENVIRONMENT = ("device", "chip", "precision", "cnnbench", "torch", "commit")


def as_markdown(
    facts: Mapping[str, str],
    book: Sequence[Row],
    claims: Mapping[str, JudgedClaim],
    experiments: Experiments,
) -> str:
    """Return the whole document; `facts` say how it was made."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"escaped": escaped, "table": _table, "as_row": _arm_row}
    source = resources.files("cnnbench.reports.reproduction") / "results.md.jinja"
    template = environment.from_string(source.read_text(encoding="utf-8"))
    page = template.render(facts=facts, book=book, claims=claims, experiments=experiments)
    return f"{page}\n"


def _table(rows: Sequence[Row]) -> str:
    """Return the rows as a table, without the columns that are empty."""
    columns = []
    for heading in rows[0]:
        columns.append(Column(heading, heading, [Cell(row[heading]) for row in rows]))
    return markdown(columns).rstrip("\n")


def book_rows(book: Mapping[str, Network], experiments: Experiments) -> list[dict[str, str]]:
    """Return our accuracy, the book's and the verdict, for each network."""
    rows = []
    for name, network in book.items():
        experiment = experiments[name]
        arm = experiment.arms[0] if experiment.arms else Arm({}, [])
        theirs = [f"{accuracy:.3f}" for accuracy in network.accuracies or []]
        verdict = judge_network(network, experiment)
        row = {
            "network": network.title,
            "test accuracy": mean_and_std(arm.samples("accuracy")),
            "seeds": str(len(arm.finished)),
            "the book's two runs": ", ".join(theirs) or "not known",
            "verdict": verdict if arm.runs else "not run",
            "s per epoch": mean_and_std(arm.samples("epoch_s"), ".3g"),
            "in all": _spent(arm.finished),
            "others": arm.unfinished,
            "reduced by": experiment.reduced,
        }
        rows.append(row)
    return rows


def _arm_row(arm: Arm) -> Row:
    peaks = arm.samples("peak_gib")
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


def _spent(finished: Sequence[Record]) -> str:
    """Return the time from the start of each run to its end, added up."""
    seconds = sum(filter(None, (run.figure("wall_s", "total") for run in finished)))
    return format_duration(seconds) if finished else ""


def describe_runs(runs: Sequence[Record]) -> dict[str, str]:
    """Return how the runs were made."""
    finished = [run for run in runs if run.state == "finished"]
    made = [{key: str(run.environment.get(key)) for key in ENVIRONMENT} for run in finished]
    return {
        "made": datetime.now().astimezone().isoformat(" ", timespec="minutes"),
        "trained": f"{how_many(runs)}; {_spent(finished)} in all" if runs else "none yet",
        "machine": _list("{device} ({chip}), {precision}".format(**each) for each in made),
        "versions": _list("cnnbench {cnnbench}, torch {torch}".format(**each) for each in made),
        "commit": _list("{commit:.12}".format(**each) for each in made),
    }


def _list(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(map(as_text, words)))
