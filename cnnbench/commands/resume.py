"""`cnnbench resume`: resume a training run from its last checkpoint, even within an epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.runs.directory import log_to

__all__ = ["resume_run"]


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
