"""`cnnbench reproduce`: from the runs of its sweep to what they say, as Markdown and as a page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnbench import config, models
from cnnbench.analysis.format import align, printable
from cnnbench.analysis.memory import compute_dtype, estimate_memory
from cnnbench.commands.reproduce.computations import compute
from cnnbench.data import sources
from cnnbench.errors import CnnbenchError, explain_write_error
from cnnbench.reports.reproduction.arms import experiments
from cnnbench.reports.reproduction.computed import Computed
from cnnbench.reports.reproduction.markdown import as_markdown
from cnnbench.reports.reproduction.page import render
from cnnbench.reports.reproduction.results import Results, results
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import Record
from cnnbench.training.build import on_meta

__all__ = ["compute", "write"]

MARKDOWN, PAGE = "results.md", "results.html"


def write(
    runs: Sequence[Record],
    output: Path,
    scale: str,
    command: str,
    varied: Mapping[str, Mapping[str, str]],
    computed: Computed,
) -> None:
    """Judge the runs, print the verdicts and write the results into `output`.

    `varied` is what each experiment varies, by its name.

    Raises:
        ConfigError: the results cannot be written there.
    """
    judged = results(scale, command, runs, experiments(runs, varied, _memory), computed)
    _print(judged)
    try:
        folder = RunDirectory(output)
        folder.write_text(MARKDOWN, as_markdown(judged))
        folder.write_text(PAGE, render(judged))
    except OSError as error:
        raise explain_write_error(error.filename or output, error, "--output DIR") from error
    for name in (MARKDOWN, PAGE):
        print(printable(os.path.relpath(output / name)))


def _print(judged: Results) -> None:
    """The verdicts, without what was measured."""
    at = judged.book.header.index("verdict")
    rows = [[row[0], row[1], row[at]] for row in judged.book.rows if row[1]]
    rows += [[f"claim {claim.name}", "", claim.verdict] for claim in judged.claims]
    print(printable(align(rows)))
    print(printable(judged.facts["trained"]))


def _memory(run: Record) -> int | None:
    """The bytes of the tensors that training took, in the precision that it had; None if they cannot be worked out."""
    try:
        settings = config.load(run.config)
        if settings.model.name not in models.REGISTRY or settings.data.name == config.FOLDER:
            return None  # code to run, or files to read, that are anyone's
        network, images = on_meta(settings, sources.facts(settings.data), settings.train.batch_size)
        dtype = compute_dtype(str(run.result.get("precision")))
        return estimate_memory(network, images, settings.optimizer, dtype).total
    except CnnbenchError:
        return None
