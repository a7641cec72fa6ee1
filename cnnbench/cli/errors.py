"""Errors as one block on stderr and an exit code."""

import os
import re
import sys
import traceback
from collections.abc import Iterable

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cnnbench import config
from cnnbench.analysis.format import printable
from cnnbench.errors import CnnbenchError, ConfigError, did_you_mean, from_machine

__all__ = ["EXPLAINED", "as_cnnbench_error", "report"]

# What installs a plugin of Hydra's.
PACKAGES = {
    "hydra/launcher=joblib": "'cnnbench[joblib]'",
    "hydra/launcher=submitit_local": "'cnnbench[slurm]'",
    "hydra/launcher=submitit_slurm": "'cnnbench[slurm]'",
    "hydra/sweeper=optuna": "hydra-optuna-sweeper",
    "hydra/sweeper=ax": "hydra-ax-sweeper",
    "hydra/sweeper=nevergrad": "hydra-nevergrad-sweeper",
}
SWEEPER_FLAGS = {"dry_run": "--dry-run", "jobs_file": "--jobs-file"}

# What `as_cnnbench_error` has words for wherever it comes from.
EXPLAINED = (CnnbenchError, HydraException, OmegaConfBaseException, YAMLError, OSError)


def report(error: Exception, who: str = "cnnbench") -> int:
    """Print an error as one block on stderr, with a traceback only if it is a bug; returns the exit code."""
    known = as_cnnbench_error(error)
    if known is None or os.environ.get("CNNBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    if known is None:
        print(f"{who}: this is a bug in cnnbench; the lines above say where.", file=sys.stderr)
        return 1
    print(f"{who}: {printable(str(known))}", file=sys.stderr)
    return known.exit_code


def as_cnnbench_error(error: Exception) -> CnnbenchError | None:
    """The error as one for people, or None if it is a bug."""
    match error:
        case CnnbenchError():
            return error
        case HydraException():
            return ConfigError(_explain_hydra(error))
        case OmegaConfBaseException():
            return ConfigError(config.explain_omegaconf(error))
        case YAMLError():
            return ConfigError(f"A configuration file is not YAML: {error}")
    return from_machine(error)


def _explain_hydra(error: HydraException) -> str:
    cause = error.__cause__
    if isinstance(error, MissingConfigException):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if not group:
            return f"There is no primary configuration '{name}'."
        package = PACKAGES.get(f"{group}={name}")
        if package is not None:
            return f"{group}={name} is not installed: pip install {package}"
        if group.split("/")[0] == "experiment":
            return _explain_experiment(str(error.missing_cfg_file).partition("/")[2], error.options or ())
        listed = (*config.TRACKERS, "none") if group == "tracker" else ()  # Hydra gives no options for lists of choices
        return f"{group}={name} is not known. {did_you_mean(name, error.options or listed)}"
    if isinstance(error, OverrideParseException):
        return (
            f"'{error.override}' is not an override. Write KEY=VALUE, such as train.epochs=3, "
            "and quote values with special characters: \"data.root='/my folder'\"."
        )
    flag = re.match(r"Could not override 'hydra\.sweeper\.(\w+)'", str(error))
    if flag and flag[1] in SWEEPER_FLAGS:
        return f"{SWEEPER_FLAGS[flag[1]]} needs the sweeper of cnnbench: leave hydra/sweeper out."
    if isinstance(cause, OmegaConfBaseException):
        return config.explain_omegaconf(cause)
    inside = re.match(r"Could not override 'experiment/(\S+)'", str(error))
    if inside:
        return f"Experiments in folders are chosen by their whole name: experiment={inside[1]}/NAME."
    multiple = re.match(r"Multiple values for (\S+?)\.", str(error))
    if multiple:
        return f"{multiple[1]} has a choice already. Change it without the +: {multiple[1]}=NAME."
    return str(error).strip()


def _explain_experiment(name: str, listed: Iterable[str]) -> str:
    """What an experiment that is not there could have been meant to be: Hydra lists none of those in folders."""
    from cnnbench.cli.hydra_app import conf_folder  # which imports this

    folder = conf_folder() / "experiment"
    known = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")}.union(listed)
    inside = sorted(each for each in known if each.startswith(f"{name}/"))
    if inside:
        return f"experiment={name} is a folder of experiments. Name one: {', '.join(inside)}."
    return f"experiment={name} is not known. {did_you_mean(name, known)}"
