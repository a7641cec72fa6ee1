"""Rules for recorded configurations: keys that may change, and values that need confirmation."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.config.load import as_dict, flatten, load_config
from cnnbench.config.overrides import format_override, join_words, leads_out
from cnnbench.config.schema import Config
from cnnbench.errors import ConfigError

__all__ = [
    "BOOKKEEPING_KEYS",
    "IGNORED_KEYS",
    "INFERENCE_OVERRIDES",
    "INPUT_KEYS",
    "KEYS_NEEDING_CONFIRMATION",
    "REPEATED_KEYS",
    "RESUME_OVERRIDES",
    "check_trust",
    "external_targets",
    "is_below",
    "job_identity",
    "require_same",
]

# keys that may change when a run is resumed
RESUME_OVERRIDES = (
    *("train.epochs", "train.checkpoint_every.*", "train.on_nonfinite_loss"),
    *("train.log_every", "train.patience", "train.max_minutes"),
    *("train.grad_clip_norm", "optimizer.lr", "device.*", "data.root", "data.path"),
    *("reference.module", "tracker", "tracker.*"),
    "model.weights",  # only to confirm it, before the first checkpoint
)

# keys that may change when a trained network is used
INFERENCE_OVERRIDES = (
    *("data", "data.*", "device", "device.*", "reference", "reference.*"),
    *("train.batch_size", "train.tta"),
)

# keys that name what a run only reads
INPUT_KEYS = ("data.path", "model.weights")

# keys of an untrusted run directory that the user must confirm, and what they do
KEYS_NEEDING_CONFIRMATION = {
    "data.path": "reads images from elsewhere",
    "model.weights": "starts from weights elsewhere",
    "data.root": "keeps its data in a folder that it names",
    "reference.module": "runs code from outside cnnbench",
    "tracker.mlflow.uri": "is tracked by a server that it names (tracker=none resumes without)",
    "tracker.wandb.entity": "is tracked in an account that it names (tracker=none resumes without)",
}

# keys that do not affect the results of a run
BOOKKEEPING_KEYS = ("sweep", "sweep_on_error", "tracker", "train.max_minutes")

# keys and groups that reports ignore when they compare runs
IGNORED_KEYS = (
    *BOOKKEEPING_KEYS,
    *("data.root", "device.threads", "model.recipe"),
    *("train.checkpoint_every", "train.log_every"),
)

# runs that differ only in these keys are repetitions
REPEATED_KEYS = ("seed", "data.fold")


def is_below(key: str, groups: Iterable[str]) -> bool:
    """Return whether a key is among these keys and groups, or in one of the groups."""
    return any(f"{key}.".startswith(f"{group}.") for group in groups)


def job_identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a configuration that identify a job: all but bookkeeping."""
    identity = {key: value for key, value in values.items() if key not in BOOKKEEPING_KEYS}
    train = identity.get("train")
    if isinstance(train, Mapping):
        identity["train"] = {
            key: value for key, value in train.items() if f"train.{key}" not in BOOKKEEPING_KEYS
        }
    return identity


def require_same(place: Path, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that the recorded values of the run in `place` equal the wanted ones.

    Raises:
        ConfigError: some values differ.
    """
    recorded_values = flatten(job_identity(as_dict(load_config(recorded))))
    wanted_values = flatten(job_identity(wanted))
    differences = []
    for key in {**recorded_values, **wanted_values}:
        has, wants = (_to_yaml(values.get(key)) for values in (recorded_values, wanted_values))
        if has != wants and not is_below(key, ("model.recipe",)):
            differences.append(f"{key}={has} instead of {wants}")
    if differences:
        raise ConfigError(
            f"{place} already holds a run with other values: {', '.join(differences)}. "
            "Name another place (hydra.run.dir=DIR or sweep=NAME), or delete it to run it anew.\n"
            f"To resume with its own values: {join_words(['cnnbench', 'resume', str(place)])}"
        )


def _to_yaml(value: Any) -> str:
    """Return a plain value as it is typed: null, true or false, or its own text."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def external_targets(config: Config) -> dict[str, str]:
    """Return the values of the keys that let a run read or write outside its directory."""
    values = flatten(as_dict(config))
    targets = {key: values.get(key) for key in KEYS_NEEDING_CONFIRMATION}
    for key in INPUT_KEYS:
        if not leads_out(targets[key] or ""):
            del targets[key]
    return {key: value for key, value in targets.items() if value is not None}


def check_trust(
    directory: Path,
    config: Config,
    confirmed: Collection[tuple[str, str]],
    allow_custom_model: bool,
    command: Sequence[str],
    rest: Sequence[str] = (),
) -> None:
    """Check that the user has confirmed the code and the places that a run directory asks for.

    `confirmed` are the keys and values that the user has given. `command` and `rest` are the words
    of the command before and after the confirmation; both are empty for calls from Python.

    Raises:
        ConfigError: a confirmation is missing. The message has the command that gives it.
    """
    reasons, words = [], []
    for key, value in external_targets(config).items():
        if (key, value) not in confirmed:
            words.append(format_override(key, value))
            reasons.append(f"{KEYS_NEEDING_CONFIRMATION[key]}: {words[-1]}")
    if ":" in config.model.name and not allow_custom_model:
        words.append("--allow-custom-model" if command else "allow_custom_model=True")
        reasons.append(f"runs code from outside cnnbench: model.name={config.model.name}")
    if reasons:
        again = join_words([*command, *words, *rest])
        raise ConfigError(f"{directory} {' and '.join(reasons)}. If you trust it: {again}")
