"""Log a run that Hydra does not start as one that it does: on the terminal, and in train.log."""

import logging.config
from pathlib import Path

import yaml

__all__ = ["log_to"]


def log_to(directory: Path, conf: Path) -> None:
    """Set logging up by plain.yaml in the folder `conf`, with the train.log of a run directory.

    Raises:
        OSError: train.log cannot be written.
    """
    path = conf / "hydra" / "job_logging" / "plain.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["handlers"]["file"]["filename"] = str(directory / "train.log")
    settings["filters"]["own"]["verbose"] = False  # Hydra's switch, which is not at hand here
    try:
        logging.config.dictConfig(settings)
    except ValueError as error:  # which is what becomes of a train.log that cannot be opened
        raise error.__cause__ or error from None
