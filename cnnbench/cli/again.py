"""`cnnbench again`: a new run with the configuration that a run has recorded, and changes to it."""

from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from cnnbench import config
from cnnbench.analysis.format import printable
from cnnbench.cli.claimed_run import claim_run, find_earlier_attempt
from cnnbench.cli.compose import train_job
from cnnbench.cli.hydra_app import compose_config, conf_folder, write_hydra_files
from cnnbench.cli.options import PARSERS
from cnnbench.cli.run_argument import locate_run, remove_run_argument
from cnnbench.config import Config
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import log_to
from cnnbench.runs.reading import check_is_run, check_training_run, read_config
from cnnbench.runs.records import read_records
from cnnbench.runs.torchrun_env import processes

__all__ = ["AGAIN_OVERRIDES", "again"]

# keys and choices that may change in the new run
AGAIN_OVERRIDES = (
    *(name for group in sorted(config.GROUPS - {"experiment"}) for name in (group, f"{group}.*")),
    *("train.*", "seed", "hydra.run.dir"),
)
NEW = ("sweep", "sweep_on_error")  # the new run is no job of a sweep, even if RUN is


def again(arguments: list[str]) -> int:
    """Train a new run with the configuration of a recorded one, which may be untrusted."""
    options, (run, *words) = PARSERS["again"]().read(arguments)
    if processes().rank > 0:
        train_job(OmegaConf.create(), None, plot=False)
        return 0
    options.rest, directory = remove_run_argument(run, arguments), locate_run(run)
    composed = _compose(directory, words, options)
    claimed = find_earlier_attempt(composed) or claim_run(composed)
    if claimed.finished:
        print(printable(claimed.finished))
        return 0
    if claimed.run is not None and claimed.resume is None:
        print(printable(f"A new run with the configuration of {directory} ..."), flush=True)
    log_to(claimed.directory, conf_folder())
    write_hydra_files(composed, claimed.directory)
    train_job(composed, claimed, options.plot)
    return 0


def _compose(directory: Path, words: Sequence[str], options: Namespace) -> DictConfig:
    """Compose the configuration of the new run, with Hydra's settings.

    A choice, such as optimizer=adam, replaces all values of its group. Any other value stays as it
    was recorded, even if a network's recipe had set it.

    Raises:
        ConfigError: `directory` is not a training run or has links to outside, its configuration is
            damaged, a change is wrong, or the user has not confirmed what the run asks for.
    """
    recorded = _read_recorded(directory)
    changes = config.parse_changes(words, AGAIN_OVERRIDES, "in a recorded configuration")
    chosen = [key for key in changes if key in config.GROUPS]
    composed = compose_config([word for word in words if _is_of(word, [*chosen, "hydra"])])
    unresolved: Any = OmegaConf.to_container(config.without_hydra(composed))
    with read_write(composed), open_dict(composed):
        for key, value in config.as_dict(recorded).items():
            if key not in (*chosen, *NEW):
                composed[key] = value
        others = {k: v for k, v in changes.items() if not _is_of(k, [*chosen, "hydra"])}
        settings = config.apply_overrides(config.to_plain(composed), others)
        _check_trust(directory, settings, recorded, changes, options)
        for key, value in config.as_dict(settings).items():
            composed[key] = value
        overrides = [
            word
            for word in read_records(directory)[0].overrides
            if not _is_of(word, (*changes, *NEW)) and "${" not in word
        ]
        overrides += [word for word in words if not _is_of(word, ["hydra"])]
        if "model" in chosen:
            overrides += _pin_recipe(unresolved, settings, overrides)
        composed.hydra.overrides.task = overrides
    return composed


def _read_recorded(directory: Path) -> Config:
    """Return the configuration in the config.yaml of a training run."""
    check_is_run(directory, "again")
    check_training_run(directory)
    try:
        return config.load_config(read_config(directory))
    except (OSError, ConfigError) as error:
        reason = f"{directory / 'config.yaml'} cannot be used: {error}"
        raise ConfigError(reason) from error


def _is_of(word: str, keys: Collection[str]) -> bool:
    """Return whether the key of an override is among these keys, or below one of them."""
    return config.is_below(word.partition("=")[0].lstrip("+~"), keys)


def _check_trust(
    directory: Path,
    settings: Config,
    recorded: Config,
    changes: Mapping[str, Any],
    options: Namespace,
) -> None:
    """Check that the user has confirmed what the recorded configuration asks for.

    Values that the command line gives, or that a choice in it brings, need no confirmation.
    """
    confirmed = {(key, str(value)) for key, value in changes.items()}
    asked = config.external_targets(recorded).items()
    confirmed |= config.external_targets(settings).items() - asked
    allows_model = options.allow_custom_model or "model.name" in changes
    command = [*processes().program(), "again", str(directory)]
    config.check_trust(directory, settings, confirmed, allows_model, command, options.rest)


def _pin_recipe(
    unresolved: Mapping[str, Any], settings: Config, overrides: Sequence[str]
) -> list[str]:
    """Return overrides of the values that the recipe of another network would set otherwise."""
    values, taken = config.flatten(config.as_dict(settings)), config.flatten(unresolved)
    keys = [key for key, value in taken.items() if "${model.recipe." in str(value)]
    given = {word.partition("=")[0] for word in overrides}
    return [f"{key}={values[key]}" for key in keys if key in values and key not in given]
