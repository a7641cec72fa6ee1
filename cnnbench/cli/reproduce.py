"""`cnnbench reproduce`: run the experiments of the book and of the claims as one sweep."""

import argparse
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import import_module
from itertools import chain
from pathlib import Path

import yaml

from cnnbench import config
from cnnbench.cli.compose import run_sweep_command
from cnnbench.cli.hydra_app import compose_config, conf_folder
from cnnbench.cli.options import PARSERS
from cnnbench.commands import write_results
from cnnbench.errors import ConfigError, did_you_mean
from cnnbench.runs.records import Record, read_records
from cnnbench.runs.torchrun_env import processes
from cnnbench.sweeps.jobs import Overrides, SweepRequest, list_jobs, quote_path

__all__ = ["jobs_of", "read_scale", "run", "select_runs"]

FILE = "results.md"
PARTS = ("all", "book", "claims")
MACHINE_KEYS = ("device*", "data.root", "train.checkpoint_every.*", "tracker*")


def run(arguments: list[str]) -> int:
    """Run the unfinished jobs of the sweep and write the results; return the exit code."""
    options = _parse(arguments)
    if processes().several:
        raise ConfigError(
            "cnnbench reproduce measures times, in one process. Start it without torchrun."
        )
    jobs = list(chain(*jobs_of(options.part, options.scale, options.overrides).values()))
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
    from cnnbench.reports.reproduction.results import judge_runs
    from cnnbench.reports.reproduction.statements import load_statements

    computed = compute_figures(config.load_config(config.to_plain(compose_config(jobs[0]))).data)
    full = jobs_of("all", "full")
    statements = load_statements(conf_folder() / "claims.yaml", full, FIGURES, computed)
    try:
        return run_sweep_command(words, request)
    finally:  # an interrupted sweep has results, too
        if request.launched:
            runs = select_runs(read_records(directory), options.scale)
            experiments = sort_runs(runs, full, read_scale(options.scale))
            command = config.join_words(["cnnbench", *request.command])
            heading = {"command": command, "scale": options.scale}
            verdicts, page = judge_runs(statements, computed, experiments, runs, heading)
            print(f"\n{verdicts}")
            output = options.output or (directory if options.scale == "smoke" else Path("docs"))
            with write_results(output, FILE) as folder:
                folder.write_text(FILE, page)


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


def select_runs(runs: Sequence[Record], scale: str) -> list[Record]:
    """Return the runs that are jobs of the scale, without those of an earlier version of it."""
    jobs = {_without_machine(job) for job in chain(*jobs_of("all", scale).values())}
    return [run for run in runs if _without_machine(run.overrides) in jobs]


def _without_machine(overrides: Sequence[str]) -> frozenset[str]:
    return frozenset(override for override in overrides if not _is_of_machine(override))


def read_scale(scale: str) -> dict[str, str]:
    """Return the overrides with which a scale reduces each experiment, by its name.

    Raises:
        ConfigError: there is no such scale.
    """
    scales = yaml.safe_load((conf_folder() / "reproduce.yaml").read_text(encoding="utf-8"))
    if scale not in scales:
        raise ConfigError(f"--scale {scale} is not known. {did_you_mean(scale, scales)}")
    changes, reduced = scales[scale], {}
    folder = conf_folder() / "experiment"
    for path in [*sorted(folder.glob("book/*.yaml")), *sorted(folder.glob("claims/*.yaml"))]:
        name = f"{path.parent.name}/{path.stem}"
        reduced[name] = f"{changes['all']} {changes.get(name, '')}".strip()
    return reduced


def jobs_of(part: str, scale: str, overrides: Sequence[str] = ()) -> dict[str, list[Overrides]]:
    """Return the jobs of each experiment of a part: the overrides of each job.

    They are the values of the experiment, then those of the scale, then `overrides`.

    Raises:
        ConfigError: there is no such part or scale.
    """
    if part not in PARTS:
        raise ConfigError(f"cnnbench reproduce knows no part '{part}'. {did_you_mean(part, PARTS)}")
    jobs = {}
    for name, changes in read_scale(scale).items():
        if part in ("all", name.partition("/")[0]):
            experiment = (conf_folder() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
            params = yaml.safe_load(experiment)["hydra"]["sweeper"]["params"]
            swept = [f"{key}={values}" for key, values in params.items()]
            jobs[name] = list_jobs([f"experiment={name}", *swept, *changes.split(), *overrides])
    return jobs
