"""All that `cnnbench reproduce` tells, as plain data that Markdown and the page are made of."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cnnbench.analysis.claims import Computed
from cnnbench.analysis.format import format_duration
from cnnbench.analysis.verdicts import RULE, Finding, together
from cnnbench.reports.comparison import how_many
from cnnbench.reports.reproduction import book
from cnnbench.reports.reproduction.arms import Arm, Experiment
from cnnbench.reports.reproduction.book import BOOK, only_arm
from cnnbench.reports.reproduction.claims import CLAIMS, Experiments
from cnnbench.reports.reproduction.words import accuracy, memory, points, seconds
from cnnbench.reports.table import as_text
from cnnbench.runs.records import Record

__all__ = ["Curve", "Judged", "Part", "Results", "Table", "results"]

NOTES = (
    "Test accuracies are those after the last epoch; nothing is selected on the test set. After ± is the standard "
    "deviation over seeds; of a difference and of a ratio it is half of the 95 % confidence interval.",
    "Times are of an epoch with its evaluation: the median of each run, and their mean. Memory is that of the tensors "
    "which training needs, worked out; what a GPU held at most is in brackets.",
    "Train accuracy is that of the last epoch as it went, with dropout where there is any: it is lower than the "
    "network's own, and so is its distance from the test accuracy.",
)


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Curve:
    """The test accuracy after each epoch, of each run."""

    label: str
    runs: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Part:
    """An experiment of a claim: its runs in groups; `remarks` are what is not as its YAML has it, and its time."""

    name: str
    table: Table
    curves: Sequence[Curve]
    remarks: Sequence[str]


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict."""

    name: str
    text: str
    verdict: str
    findings: Sequence[Finding]
    parts: Sequence[Part]


@dataclass(frozen=True)
class Results:
    """`facts` say how it was made, by name."""

    scale: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    book: Table
    book_curves: Sequence[Curve]
    claims: Sequence[Judged]


def results(scale: str, command: str, runs: Sequence[Record], found: Experiments, computed: Computed) -> Results:
    """Judge whatever runs there are; `found` are the experiments that they belong to, `command` made them."""
    whole = {
        name: found.get(name, Experiment(name)) for name in (*BOOK, *(each for c in CLAIMS for each in c.experiments))
    }
    claims = []
    for claim in CLAIMS:
        findings = claim.judge(whole, computed)
        parts = [_part(whole[name]) for name in claim.experiments]
        claims.append(Judged(claim.name, claim.text, together(findings), findings, parts))
    curves = [curve for name, network in BOOK.items() for curve in _curves([only_arm(whole[name])], network.title)]
    return Results(scale, _facts(command, runs), (*NOTES, RULE, book.RULE), _of_the_book(whole), curves, claims)


def _of_the_book(found: Experiments) -> Table:
    header = [
        "network",
        "test accuracy",
        "seeds",
        "the book's two runs",
        "verdict",
        "s per epoch",
        "in all",
        "reductions",
    ]
    rows = []
    for name, network in BOOK.items():
        experiment, arm = found[name], only_arm(found[name])
        theirs = "not known" if network.book is None else ", ".join(f"{each:.3f}" for each in network.book)
        verdict = book.judge(network, experiment) or (
            "" if arm.accuracies else arm.unfinished or ("no figures" if arm.runs else "not run")
        )
        rows.append(
            [
                network.title,
                accuracy(arm.accuracies) if arm.accuracies else "",
                str(len(arm.accuracies)),
                theirs,
                "; ".join(filter(None, [verdict, arm.unfinished if arm.accuracies else ""])),
                seconds(arm.epoch_times_s).removesuffix(" s") if arm.epoch_times_s else "",
                format_duration(_spent(arm.finished)) if arm.finished else "",
                ", ".join(experiment.reductions),
            ]
        )
    return Table(header, rows)


def _part(experiment: Experiment) -> Part:
    header = [
        *experiment.keys,
        "test accuracy",
        "seeds",
        "train less test",
        "s per epoch",
        "memory",
        "precision",
        "others",
    ]
    precisions = [as_text(", ".join(sorted(arm.precisions))) for arm in experiment.arms]
    differ = len(set(filter(None, precisions))) > 1  # times of several are not of the same arithmetic
    rows = [
        [
            *arm.values,
            accuracy(arm.accuracies) if arm.accuracies else "",
            str(len(arm.accuracies)),
            "" if arm.gap is None else points(arm.gap).removesuffix(" points"),
            seconds(arm.epoch_times_s).removesuffix(" s") if arm.epoch_times_s else "",
            "" if arm.memory_bytes is None else memory(arm),
            precision if differ else "",
            arm.unfinished,
        ]
        for arm, precision in zip(experiment.arms, precisions, strict=True)
    ]
    remarks = [f"reduced to {', '.join(experiment.reductions)}"] if experiment.reductions else []
    finished = [run for arm in experiment.arms for run in arm.finished]
    if finished:
        remarks.append(f"{format_duration(_spent(finished))} in all")
    return Part(experiment.name, _without_empty(Table(header, rows)), _curves(experiment.arms), remarks)


def _spent(finished: Iterable[Record]) -> float:
    """Seconds from the start of each run to its end."""
    return sum(run.figure("wall_s", "total") or 0.0 for run in finished)


def _without_empty(table: Table) -> Table:
    """Without the columns that have nothing in any row."""
    kept = [place for place in range(len(table.header)) if any(row[place] for row in table.rows)]
    return Table([table.header[place] for place in kept], [[row[place] for place in kept] for row in table.rows])


def _curves(arms: Iterable[Arm], title: str = "") -> list[Curve]:
    """Of the arms that have any."""
    curves = [Curve(title or arm.label, [run.column("test_accuracy") for run in arm.finished]) for arm in arms]
    return [Curve(each.label, [run for run in each.runs if run]) for each in curves if any(each.runs)]


def _facts(command: str, runs: Sequence[Record]) -> dict[str, str]:
    """How the results were made; where runs differ in that, with the number of runs of each."""
    finished = [run for run in runs if run.state == "finished"]
    return {
        "command": command,
        "made": datetime.now().astimezone().isoformat(" ", timespec="minutes"),
        "trained": f"{how_many(runs)}; {format_duration(_spent(finished))} of training, evaluation and the rest"
        if runs
        else "none yet",
        "machine": _counted(_machine(run) for run in finished),
        "versions": _counted(_versions(run) for run in finished),
        "commit": _counted(str(run.environment.get("commit") or "not known")[:12] for run in finished),
    }


def _machine(run: Record) -> str:
    where = run.environment
    return f"{where.get('device', '?')} ({where.get('chip', '?')}), {where.get('precision', '?')}"


def _versions(run: Record) -> str:
    return f"cnnbench {run.environment.get('cnnbench', '?')}, torch {run.environment.get('torch', '?')}"


def _counted(words: Iterable[str]) -> str:
    """All that there are, the most frequent first, such as ``cpu (AMD EPYC), fp32: 10 runs; ..., bf16: 2 runs``."""
    counts = Counter(map(as_text, words)).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return "; ".join(f"{word}: {number} run{'' if number == 1 else 's'}" for word, number in counts)
