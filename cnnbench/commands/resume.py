"""`cnnbench resume`: resume a training run from its last checkpoint, even within an epoch."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.commands import ALLOW_CUSTOM_MODEL, EXAMPLE_RUN, words_beside
from cnnbench.config import RESUME_OVERRIDES
from cnnbench.runs.directory import log_to

__all__ = ["parse_arguments", "resume_run"]


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line of `cnnbench resume`; `rest` is what it has beside the directory."""
    parser = argparse.ArgumentParser(
        prog="cnnbench resume",
        description="Go on with a training run from its last checkpoint. It ends with the numbers "
        "of a run that was never interrupted. Given the directory of a sweep, go on with every run "
        "in it that is not finished.",
        epilog=f"Example: cnnbench resume {EXAMPLE_RUN} train.epochs=20",
    )
    add = parser.add_argument
    add("directory", type=Path, help="a run or sweep directory, such as those under outputs/")
    add("changes", nargs="*", metavar="KEY=VALUE", help=f"change {', '.join(RESUME_OVERRIDES)}")
    add("--allow-custom-model", action="store_true", help=ALLOW_CUSTOM_MODEL)
    add("--config-dir", metavar="DIR", help="of groups of your own, for a sweep that was given one")
    add("--plot", action="store_true", help="at the end draw accuracy and loss on the terminal")
    options = parser.parse_intermixed_args(arguments)
    options.rest = words_beside(options.directory, arguments)
    return options


def resume_run(
    directory: Path,
    changes: Mapping[str, Any],
    allow_custom_model: bool,
    conf: Path,
    started: float,
    rest: Sequence[str],
) -> None:
    """Resume the training run in `directory`, which may be untrusted; of a finished one, say so.

    `changes` are keys of the configuration and their new values. `rest` are the words that gave
    them, and flags. `conf` is the folder of the YAMLs.

    Raises:
        ConfigError: it holds no training run, is in use, leads out of itself, or cannot be changed.
        CheckpointError: what it holds is damaged or refused. Nothing is overwritten.
        CnnbenchError: as training itself.
    """
    from cnnbench.training.resume import check_resume, describe_finished, reopen_run
    from cnnbench.training.run import train

    trust = allow_custom_model
    opened = reopen_run(directory, changes=changes, allow_custom_model=trust, rest=rest)
    with opened as (run_directory, config, resume):
        if resume.is_finished and config.train.epochs == resume.epochs:
            longer = f"train.epochs={2 * resume.epochs} would train it longer"
            print(f"{describe_finished(directory)} Nothing to do; {longer}.")
            return
        checked = check_resume(directory, config, resume)
        log_to(directory, conf)
        train(config, run_directory, resume, checked=checked, started=started)
