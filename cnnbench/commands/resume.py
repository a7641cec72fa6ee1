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
    """Resume the training run in `directory`, which may be untrusted; report if it is finished.

    `changes` maps keys of the configuration to their new values. `rest` has the words of the
    command line with these changes, and its flags. `conf` is the folder of the YAMLs.

    Raises:
        ConfigError: the directory is not a training run, is in use, has links that leave it, or
            the run does not allow the changes.
        CheckpointError: a checkpoint is damaged or refused. Nothing is overwritten.
        CnnbenchError: as for training.
    """
    from cnnbench.training.resume import check_resume, describe_finished, reopen_run
    from cnnbench.training.run import train

    trust = allow_custom_model
    opened = reopen_run(directory, changes=changes, allow_custom_model=trust, rest=rest)
    with opened as (run_directory, config, resume):
        ending = resume.ended_by(config.train)
        if ending is not None:
            longer = f"train.epochs={2 * resume.epochs} would train it longer"
            if ending == "patience":
                longer = "a larger train.patience, or null, would train it longer"
            print(f"{describe_finished(directory)} Nothing to do; {longer}.")
            return
        checked = check_resume(directory, config, resume)
        log_to(directory, conf)
        train(config, run_directory, resume, checked=checked, started=started)
