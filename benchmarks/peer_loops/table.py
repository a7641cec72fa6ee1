"""The table that benchmarks/peers.py prints, and its place in a page."""

import platform
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from task import Task

BEGIN, END = "<!-- Made by benchmarks/peers.py. -->", "<!-- The end of this table. -->"
PLAIN = ("pytorch", "pytorch_memory", "pytorch_tuned", "pytorch_tuned_bf16")


@dataclass(frozen=True)
class Measurement:
    """The counted epochs of a process. `beside` is the number of busy processes beside it."""

    tool: str
    beside: int
    epoch_s: list[float]
    test_accuracy: float
    parameters: int
    versions: dict[str, str]
    details: str = ""  # precision, engine and threads of cnnbench


def describe_load(beside: int) -> str:
    if beside == 0:
        return "idle"
    return "beside 1 busy process" if beside == 1 else f"beside {beside} busy processes"


def format_table(measured: list[Measurement]) -> list[str]:
    """Return the lines of a Markdown table: medians and ranges of all counted epochs."""
    tools = list(dict.fromkeys(measurement.tool for measurement in measured))
    heading, rows = ["tool"], {tool: [f"`{tool}`"] for tool in tools}
    for beside in sorted({measurement.beside for measurement in measured}):
        heading += [f"{describe_load(beside)}: s an epoch", "x d2l", "x best plain loop"]
        epoch_s: dict[str, list[float]] = {tool: [] for tool in tools}
        for measurement in measured:
            if measurement.beside == beside:
                epoch_s[measurement.tool] += measurement.epoch_s
        median_s = {tool: statistics.median(times) for tool, times in epoch_s.items() if times}
        best_plain_s = min((median_s[tool] for tool in PLAIN if tool in median_s), default=None)
        for tool in tools:
            if tool not in median_s:  # it failed before
                rows[tool] += ["-", "-", "-"]
                continue
            low, high = min(epoch_s[tool]), max(epoch_s[tool])
            rows[tool].append(f"{median_s[tool]:.2f} ({low:.2f}-{high:.2f})")
            for other_s in (median_s.get("d2l"), best_plain_s):
                rows[tool].append("-" if other_s is None else f"{other_s / median_s[tool]:.2f}")
    heading.append("test accuracy")
    for tool in tools:
        accuracies = [each.test_accuracy for each in measured if each.tool == tool]
        rows[tool].append(f"{min(accuracies):.3f}-{max(accuracies):.3f}")
    lines = [heading, ["---"] * len(heading), *rows.values()]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def describe(
    measured: list[Measurement], skipped: dict[str, str], task: Task, machine: str
) -> Iterator[str]:
    """Yield the lines below the table: the training, the machine, versions, what is missing."""
    first = measured[0]
    alike = [each for each in measured if (each.tool, each.beside) == (first.tool, first.beside)]
    epochs = sum(len(measurement.epoch_s) for measurement in alike)
    yield (
        f"`{task.model}` at {task.image_size} px, {first.parameters:,} parameters, batch "
        f"{task.batch_size}, {task.num_train:,} training and {task.num_test:,} test images. "
        f"Seconds: median and range of {epochs}. x: times as fast, by the medians. "
        f"Test accuracy: range after {task.epochs} epochs."
    )
    versions = {"Python": platform.python_version()}
    for measurement in measured:
        versions |= measurement.versions
    names = ", ".join(f"{name} {version}" for name, version in versions.items())
    details = sorted({f"; cnnbench: {each.details}" for each in measured if each.details})
    yield f"{machine}{''.join(details)}; {names}; {date.today()}."
    for tool, reason in skipped.items():
        yield f"Not measured: `{tool}` ({reason})."


def replace_block(page: str, lines: list[str]) -> str:
    """Return the page with the lines between the comments BEGIN and END."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"The page needs two lines, between which the table comes:\n{BEGIN}\n{END}")
    return "\n".join([before + begin, "", *lines, "", end + after])
