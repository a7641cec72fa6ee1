"""Report errors as one block on stderr and an exit code."""

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

__all__ = ["EXPLAINED", "as_cnnbench_error", "explain_hydra", "report"]

# The package to install for a plugin of Hydra.
PACKAGES = {
    "hydra/launcher=joblib": "'cnnbench[joblib]'",
    "hydra/launcher=submitit_local": "'cnnbench[slurm]'",
    "hydra/launcher=submitit_slurm": "'cnnbench[slurm]'",
    "hydra/sweeper=optuna": "hydra-optuna-sweeper",
    "hydra/sweeper=ax": "hydra-ax-sweeper",
    "hydra/sweeper=nevergrad": "hydra-nevergrad-sweeper",
}
SWEEPER_FLAGS = {"dry_run": "--dry-run", "jobs_file": "--jobs-file"}

SEVERAL = "{0} gives several values. Add -m for a run of each, or quote a text, or bracket a list."
ONE_CHOICE = "{0} has a choice already. Change it without the +: {0}=NAME."
NO_GROUP = "There is no group '{0}'. cnnbench train --help lists the groups."
# Patterns in messages of Hydra, and the message to print instead. The first match counts.
HYDRA_REFUSALS = {
    r"Ambiguous value for argument '(.*)'\n": SEVERAL,
    r"Sweep parameters '(.*)' requires": SEVERAL,
    r"Sweeping over Hydra's .*: '(.*)'": "{0} gives several values. A key of hydra takes one.",
    r"does not support sweep type": "This sweeper takes no intervals. Leave hydra/sweeper out.",
    r"Multiple values for (\S+?)\.": ONE_CHOICE,
    r"^(\S+) appears more than once": ONE_CHOICE,
    r"force-add .*'\+\+(.*)'": "A choice takes no ++. Write {0}",
    r"^Could not append .*\n.*'(.*)'\n": "The key is there already. Change it without the +: {0}",
    r"^Could not delete from config\. '(.*)'": "There is no key '{0}' to delete.",
    r"^Could not delete .* '(.*)' is (.*) and not (.*)\.": "~{0}={2}: its value is {1}.",
    r"^Could not delete '(.*)'": "There is no choice {0} to delete.",
    r"^Could not override 'experiment/(\S+)'": (
        "Experiments in folders are chosen by their whole name: experiment={0}/NAME."
    ),
    r"Could not override '(.*)'": NO_GROUP,
    r"but config group '(.*)' does not": NO_GROUP,
    r"group override(?: deletion value)? must be": "A choice is a name, such as model=lenet.",
    r"^You must specify '(.*)'": "{0} has no choice. Set {0}=NAME.",
    r"^hydra\.searchpath must be .*: (.*)": "hydra.searchpath={0} is not a list of folders.",
    r"config directory '(.*)' not found": "--config-dir {0} is not a folder.",
    r"^Only one of --run": "--run, -m, --cfg, --info and --shell-completion exclude each other.",
    r"^The --resolve flag": "--resolve is for --cfg and --help.",
    r"completion plugin for '(.*)'": "-sc {0} is not known. Such as -sc install=bash.",
    r"^Expecting one subcommand": "-sc needs install=SHELL, uninstall=SHELL or query=SHELL.",
    r"^(?:Error merging|In) '(.*)'.*(?:raised while|with schema)": (
        "{0}.yaml has a key of hydra that is not there, or that takes another kind of value."
    ),
    r"^In '?(.*?)'?: Override .* is defined before": "{0}.yaml: the overrides end a defaults list.",
    r"^In '(.*)': Overriding hydra.searchpath": "{0}.yaml may not set hydra.searchpath.",
    r"^Duplicate _self_ defined in (.*)": "The defaults list of {0} has _self_ twice.",
    r"^In '?([^\s:']+)'?: ": "The defaults list of {0} is wrong. Each item is - GROUP: CHOICE.",
    r"defaults": "A defaults list is wrong. Each item is - GROUP: CHOICE, such as - model: lenet.",
}
OTHERWISE = "These overrides make no configuration. CNNBENCH_DEBUG=1 shows why."

# Errors that `as_cnnbench_error` explains wherever they are raised.
EXPLAINED = (CnnbenchError, HydraException, OmegaConfBaseException, YAMLError, OSError)


def report(error: Exception, who: str = "cnnbench") -> int:
    """Print an error as one block on stderr and return its exit code.

    A traceback is printed only for a bug, or with CNNBENCH_DEBUG=1.
    """
    known = as_cnnbench_error(error)
    if known is None or os.environ.get("CNNBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    if known is None:
        print(f"{who}: this is a bug in cnnbench; the lines above say where.", file=sys.stderr)
        return 1
    print(f"{who}: {printable(str(known))}", file=sys.stderr)
    return known.exit_code


def as_cnnbench_error(error: Exception) -> CnnbenchError | None:
    """Return the error as one that the user can fix, or None if it is a bug."""
    match error:
        case CnnbenchError():
            return error
        case HydraException():
            return ConfigError(_explain_hydra_error(error))
        case OmegaConfBaseException():
            return ConfigError(config.explain_omegaconf(error))
        case YAMLError():
            return ConfigError(f"A configuration file is not YAML: {error}")
        case OSError() if str(error).startswith("Invalid loaded object type"):
            return ConfigError("A configuration file is one value. It must be keys and values.")
    return from_machine(error)


def _explain_hydra_error(error: HydraException) -> str:
    cause = error.__cause__
    if isinstance(error, MissingConfigException):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if not group:
            return f"There is no primary configuration '{name}'."
        package = PACKAGES.get(f"{group}={name}")
        if package is not None:
            return f"{group}={name} is not installed: pip install {package}"
        if group.split("/")[0] == "experiment":
            return _explain_experiment(
                str(error.missing_cfg_file).partition("/")[2], error.options or ()
            )
        # Hydra gives no options for a group of which several can be chosen.
        trackers = (*config.TRACKERS, "none") if group == "tracker" else ()
        if group == "model" and ":" in name:
            return f"A custom model is set by model.name: model=simple_cnn model.name={name}"
        state = "is not known" if name else "has no value"
        return f"{group}={name} {state}. {did_you_mean(name, error.options or trackers)}"
    if isinstance(error, OverrideParseException):
        return config.explain_syntax(str(error.override))
    flag = re.match(r"Could not override 'hydra\.sweeper\.(\w+)'", str(error))
    if flag and flag[1] in SWEEPER_FLAGS:
        return f"{SWEEPER_FLAGS[flag[1]]} needs the sweeper of cnnbench: leave hydra/sweeper out."
    added = re.search(r"use \+(model\.\S+)", str(error))
    if isinstance(cause, OmegaConfBaseException):
        advice = f" An argument of a custom model is added: +{added[1]}" if added else ""
        return config.explain_omegaconf(cause) + advice
    return explain_hydra(str(error))


def explain_hydra(message: str) -> str:
    """Return a message for the user in place of a message of Hydra."""
    for pattern, words in HYDRA_REFUSALS.items():
        refused = re.search(pattern, message.strip())
        if refused:
            return words.format(*refused.groups())
    return OTHERWISE


def _explain_experiment(name: str, listed: Iterable[str]) -> str:
    """Suggest experiments in place of an unknown one, with those in folders, which Hydra omits."""
    from cnnbench.cli.hydra_app import conf_folder  # that module imports this one

    folder = conf_folder() / "experiment"
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    known = {*(path.as_posix() for path in paths), *listed}
    inside = sorted(known_name for known_name in known if known_name.startswith(f"{name}/"))
    if inside:
        return f"experiment={name} is a folder of experiments. Name one: {', '.join(inside)}."
    return f"experiment={name} is not known. {did_you_mean(name, known)}"
