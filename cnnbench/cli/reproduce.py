"""`cnnbench reproduce`: run the experiments of book, course and claims, and judge all results."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatch
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import yaml

from cnnbench import config
from cnnbench.analysis.format import printable
from cnnbench.cli.compose import run_sweep_command
from cnnbench.cli.hydra_app import compose_config, conf_folder
from cnnbench.cli.options import PARSERS
from cnnbench.commands import write_results
from cnnbench.errors import CnnbenchError, ConfigError, did_you_mean
from cnnbench.runs.records import Record, read_records
from cnnbench.runs.torchrun_env import processes
from cnnbench.sweeps.jobs import Overrides, SweepRequest, list_jobs, quote_path

if TYPE_CHECKING:
    from cnnbench.analysis.judge import Estimate
    from cnnbench.reports.reproduction.statements import Statements
    from cnnbench.reports.reproduction.stored_runs import StoredRun

__all__ = ["MACHINE_KEYS", "PARTS", "jobs_of", "read_scale", "run", "select_runs"]

RESULTS, PAGE = "results.csv", "results.md"
PARTS = ("all", "book", "claims", "course")
FULL, SMOKE = "full", "smoke"
ARCHIVED = (FULL, "pixels")  # the scales whose results are kept
FORMER_SCALES = {"reduced": "pixels"}
MACHINE_KEYS = ("device*", "data.root", "train.checkpoint_every.*", "tracker*")


def run(arguments: list[str]) -> int:
    """Run the unfinished jobs of the sweep, store the results and judge all; return the exit code.

    The results of the sweep are added to results.csv, of which results.md is made.
    """
    options = _parse(arguments)
    if processes().several:
        raise ConfigError(
            "cnnbench reproduce measures times, in one process. Start it without torchrun."
        )
    jobs = list(chain(*jobs_of(options.part, options.scale, options.overrides).values()))
    if not jobs:
        raise ConfigError(
            f"--scale {options.scale} leaves out {options.part}, which needs a GPU. "
            f"Use --scale {FULL}."
        )
    directory = Path("outputs/sweeps") / f"reproduce-{options.scale}"
    words = ["-m", f"hydra.sweep.dir={quote_path(directory)}"]
    request = SweepRequest(["reproduce", *arguments], jobs, is_reproduction=True)
    if options.dry_run:
        return run_sweep_command([*words, "hydra.sweeper.dry_run=true"], request)
    try:
        import_module("scipy.stats")
    except ImportError as error:
        command = "pip install 'cnnbench[reproduce]'"
        raise ConfigError(f"cnnbench reproduce needs scipy: {command}") from error
    # These import PyTorch, which takes seconds. Errors above are reported before.
    from cnnbench.analysis.claims import compute_figures
    from cnnbench.reports.reproduction.arms import sort_runs
    from cnnbench.reports.reproduction.findings import FIGURES
    from cnnbench.reports.reproduction.results import judge_runs, summarize
    from cnnbench.reports.reproduction.statements import load_statements
    from cnnbench.reports.reproduction.stored_runs import (
        merge_runs,
        read_stored_runs,
        write_stored_runs,
    )

    is_smoke = options.scale == SMOKE
    output = options.output or (directory if is_smoke else Path("docs"))
    read_stored_runs(output / RESULTS)  # a damaged file is reported before training
    data = config.load_config(config.to_plain(compose_config(jobs[0]))).data
    computed = compute_figures(data)
    scales = [jobs_of("all", scale) for scale in ([FULL, SMOKE] if is_smoke else ARCHIVED)]
    statements = load_statements(conf_folder() / "claims.yaml", scales[0], FIGURES, computed)
    computed |= _measure_memory(statements)
    try:
        return run_sweep_command(words, request)
    finally:  # an interrupted sweep has results, too
        if request.launched:
            selected = select_runs(read_records(directory), options.scale)
            stored = read_stored_runs(output / RESULTS)
            runs = merge_runs(stored, _store_runs(selected, statements, stored))
            minutes = statements.gpu_minutes
            experiments = sort_runs(runs, scales, minutes, is_smoke=is_smoke)
            verdicts, page = judge_runs(statements, computed, experiments, is_smoke)
            print(printable(f"\n{verdicts}\n{summarize([run for _, run in selected])}"))
            with write_results(output, RESULTS, PAGE) as folder:
                write_stored_runs(folder, RESULTS, runs)
                folder.write_text(PAGE, page)


def _measure_memory(statements: "Statements") -> "dict[str, Estimate]":
    """Return the memory of each arm that a finding compares, by its key."""
    from cnnbench.reports.reproduction.findings import MEMORY, measure_memory, memory_key

    measured = {}
    for finding in chain(*(claim.findings for claim in statements.claims.values())):
        for name, arm in finding.placed_arms if finding.figure == MEMORY else ():
            overrides = [f"experiment={name}", *arm.split(), "device=cpu"]
            settings = config.load_config(config.to_plain(compose_config(overrides)))
            measured[memory_key(name, arm)] = measure_memory(settings)
    return measured


def _store_runs(
    selected: Sequence[tuple[Overrides, Record]],
    statements: "Statements",
    stored: "Sequence[StoredRun]",
) -> "list[StoredRun]":
    """Return the rows of the runs that finished or diverged, in the order in which they began.

    So the last run of a job replaces the others, such as those with another precision.
    The runs of experiments that need it are loaded to measure their shift ratio, once.
    """
    from cnnbench.reports.reproduction.findings import SHIFT_RATIO
    from cnnbench.reports.reproduction.shifts import measure_shift_ratio
    from cnnbench.reports.reproduction.stored_runs import store_run

    findings = chain(*(claim.findings for claim in statements.claims.values()))
    compared = [finding for finding in findings if finding.figure == SHIFT_RATIO]
    shifted = {name for finding in compared for name, _ in finding.placed_arms}
    known = {(run.key, run.seconds): run.shift_ratio for run in stored}
    rows = []
    for job, record in sorted(selected, key=lambda run: str(run[1].status.get("began", ""))):
        row = store_run(record, job)
        if row is None:
            continue
        if row.experiment in shifted and row.state == "finished":
            ratio = known.get((row.key, row.seconds))
            with suppress(CnnbenchError):  # the checkpoint may be gone
                ratio = ratio or measure_shift_ratio(record.path, conf_folder())
            row = msgspec.structs.replace(row, shift_ratio=ratio)
        rows.append(row)
    return rows


def _parse(arguments: list[str]) -> argparse.Namespace:
    options, words = PARSERS["reproduce"]().read(arguments)
    options.overrides = [word for word in words if "=" in word]
    parts = [word for word in words if "=" not in word]
    options.part = " ".join(parts) or "all"
    for word in options.overrides:
        if not _is_of_machine(word):
            raise ConfigError(
                f"{word.partition('=')[0]} would change what is measured, so cnnbench reproduce "
                f"does not take it. Allowed: {', '.join(MACHINE_KEYS)}. Other values: "
                f"{config.join_words(['cnnbench', '-m', 'experiment=claims/relu_lenet', word])}"
            )
    return options


def _is_of_machine(override: str) -> bool:
    return any(fnmatch(override.partition("=")[0], pattern) for pattern in MACHINE_KEYS)


def select_runs(runs: Sequence[Record], scale: str) -> list[tuple[Overrides, Record]]:
    """Return the runs that are jobs of the scale, each after the overrides of its job.

    Runs of an earlier version of the scale are left out.
    """
    jobs = {_without_machine(job): job for job in chain(*jobs_of("all", scale).values())}
    pairs = [(jobs.get(_without_machine(run.overrides)), run) for run in runs]
    return [(job, run) for job, run in pairs if job is not None]


def _without_machine(overrides: Sequence[str]) -> frozenset[str]:
    return frozenset(override for override in overrides if not _is_of_machine(override))


def read_scale(scale: str) -> dict[str, str | None]:
    """Return the overrides with which a scale reduces each experiment, by its name.

    They are None for an experiment that the scale leaves out.

    Raises:
        ConfigError: there is no such scale.
    """
    scales = yaml.safe_load((conf_folder() / "reproduce.yaml").read_text(encoding="utf-8"))
    if scale not in scales:
        meant = FORMER_SCALES.get(scale, scale)
        raise ConfigError(f"--scale {scale} is not known. {did_you_mean(meant, scales)}")
    changes: dict[str, str | None] = {}
    for part in PARTS[1:]:
        for path in sorted((conf_folder() / "experiment" / part).glob("*.yaml")):
            name = f"{part}/{path.stem}"
            change = scales[scale].get(name, "")
            common = scales[scale]["all"]
            changes[name] = None if change is None else f"{common} {change}".strip()
    return changes


def jobs_of(part: str, scale: str, overrides: Sequence[str] = ()) -> dict[str, list[Overrides]]:
    """Return the jobs of each experiment of a part: the overrides of each job.

    They are the values of the experiment, then those of the scale, then `overrides`. A part may be
    the name of one experiment.

    Raises:
        ConfigError: there is no such part or scale.
    """
    changes = read_scale(scale)
    if part not in (*PARTS, *changes):
        known = changes if "/" in part else PARTS
        raise ConfigError(f"cnnbench reproduce knows no part '{part}'. {did_you_mean(part, known)}")
    jobs = {}
    for name, change in changes.items():
        if part in ("all", name, name.partition("/")[0]):
            experiment = (conf_folder() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
            params = yaml.safe_load(experiment)["hydra"]["sweeper"]["params"]
            swept = [f"{key}={values}" for key, values in params.items()]
            words = [f"experiment={name}", *swept, *(change or "").split(), *overrides]
            jobs[name] = [] if change is None else list_jobs(words)
    return jobs
