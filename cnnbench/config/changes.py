"""What may differ from a recorded configuration: in a run that goes on, and where a network is used."""

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.loading import as_dict, explain, load, plain
from cnnbench.config.overrides import HOW_TO_QUOTE, parse_override
from cnnbench.config.schema import TRACKERS, CommonConfig, Config
from cnnbench.config.validation import check_name
from cnnbench.errors import ConfigError

__all__ = [
    "CHANGEABLE",
    "NEED_CONSENT",
    "NOT_OF_THE_JOB",
    "OF_USE",
    "changed",
    "chosen",
    "of_the_job",
    "parse_changes",
    "require_same",
]

# what may differ in a run that goes on
CHANGEABLE = (
    *("train.epochs", "train.checkpoint_every.*", "train.on_nonfinite_loss", "train.grad_clip_norm"),
    *("optimizer.lr", "device.*", "data.root", "data.path", "tracker", "tracker.*"),
)

# what a run directory of a stranger may not decide by itself
NEED_CONSENT = {
    "data.root": "keeps its data in a folder of its own",
    "tracker.mlflow.uri": "is tracked by a server that it names (tracker=none goes on without)",
}

# what may differ where a network that was trained is used
OF_USE = ("data", "data.*", "device", "device.*", "train.batch_size", "train.tta", "reference", "reference.*")


def parse_changes(overrides: list[str], changeable: Sequence[str], where: str) -> dict[str, Any]:
    """Keys and values from KEY=VALUE, of the keys that are `changeable`; `where` ends what is said of others.

    Raises:
        ConfigError: it is not of that form, or a key that may not change.
    """
    changes = {}
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not an override. Write KEY=VALUE, such as train.epochs=20.")
        if not any(fnmatch(key, each) for each in changeable):
            raise ConfigError(f"{key} cannot be changed {where}. Allowed: {', '.join(changeable)}.")
        parsed = parse_override(override)
        if parsed.is_sweep_override():
            several = "gives several values, as for a sweep. Give one."
            raise ConfigError(f"{override} {several} {HOW_TO_QUOTE}")
        changes[key] = plain({key: parsed.value()})[key]
    return changes


def chosen(changes: Mapping[str, Any], conf: Path) -> dict[str, Any]:
    """`changes` with the keys of each group that was chosen, such as data=mnist, from its YAML in the folder `conf`.

    Raises:
        ConfigError: there is no such choice.
    """
    keys: dict[str, Any] = {}
    for group, name in changes.items():
        if "." not in group:
            check_name(group, str(name), [path.stem for path in (conf / group).glob("*.yaml")])
            values = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(conf / group / f"{name}.yaml")))
            keys |= {f"{group}.{key}": value for key, value in {**_defaults(group), **values}.items()}
    return keys | {key: value for key, value in changes.items() if "." in key}


def _defaults(group: str) -> dict[str, Any]:
    """What the keys of a group mean that its YAMLs need not have: those of a choice before are not to stay."""
    kind = next(field.type for field in dataclasses.fields(CommonConfig) if field.name == group)
    fields = dataclasses.fields(cast("Any", kind))
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """The configuration with these plain values, after changes to some keys.

    Raises:
        ConfigError: there is no such key, or as `load`.
    """
    load(values)  # in what is not a configuration, keys cannot be changed
    try:
        merged = OmegaConf.create(dict(values))
        if "tracker" in changes:  # first, whatever the order: its other keys change what was chosen
            OmegaConf.update(merged, "tracker", _trackers(changes["tracker"]), merge=False)
        for key, value in changes.items():
            if key != "tracker":
                OmegaConf.update(merged, key, value)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    return load(merged)


def _trackers(choice: Any) -> dict[str, Any]:
    """What the choice of a tracker, or of a list of them, stands for."""
    names = choice if isinstance(choice, list) else [choice]
    for name in names:
        check_name("tracker", str(name), (*TRACKERS, "none"))
    return {name: {} for name in names if name != "none"}


# keys that say nothing about what a run computes
NOT_OF_THE_JOB = ("sweep", "sweep_on_error", "tracker", "tracker.mlflow.uri", "tracker.mlflow.experiment")


def of_the_job(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a configuration that say what a run computes, and on what."""
    return {key: value for key, value in values.items() if key not in NOT_OF_THE_JOB}


def require_same(place: Path, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that the run in `place` was made with the values that are wanted.

    Raises:
        ConfigError: it has others.
    """
    differences = _differences(of_the_job(as_dict(load(recorded))), of_the_job(wanted))  # loaded, as it may be older
    if differences:
        raise ConfigError(
            f"{place} holds a run with other values: {', '.join(differences)}. "
            "Name another sweep=NAME, change what the run goes on with (cnnbench resume), or delete it to run it anew."
        )


def _differences(recorded: Any, wanted: Any, key: str = "") -> list[str]:
    """The keys whose values are not the same, such as ``train.epochs=5 instead of 10``."""
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        names = {**recorded, **wanted}
        return [each for name in names for each in _differences(recorded.get(name), wanted.get(name), f"{key}{name}.")]
    return [] if recorded == wanted else [f"{key[:-1]}={recorded} instead of {wanted}"]
