"""Which keys may differ from a recorded configuration, and what two runs must have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnbench.config.load import as_dict, load
from cnnbench.errors import ConfigError

__all__ = [
    "BOOKKEEPING_KEYS",
    "INFERENCE_OVERRIDES",
    "KEYS_NEEDING_CONFIRMATION",
    "RESUME_OVERRIDES",
    "job_identity",
    "require_same",
]

# what may change when a run is resumed
RESUME_OVERRIDES = (
    *("train.epochs", "train.checkpoint_every.*", "train.on_nonfinite_loss"),
    *("train.grad_clip_norm", "optimizer.lr", "device.*", "data.root", "data.path"),
    *("tracker", "tracker.*"),
)

# what may change when a trained network is used
INFERENCE_OVERRIDES = (
    *("data", "data.*", "device", "device.*", "reference", "reference.*"),
    *("train.batch_size", "train.tta"),
)

# what an untrusted run directory may not decide by itself
KEYS_NEEDING_CONFIRMATION = {
    "data.root": "keeps its data in a folder of its own",
    "tracker.mlflow.uri": "is tracked by a server that it names (tracker=none goes on without)",
    "tracker.wandb.entity": "is tracked in an account that it names (tracker=none goes on without)",
}

# keys that say nothing about what a run computes
BOOKKEEPING_KEYS = (
    "sweep",
    "sweep_on_error",
    "tracker",
    "tracker.mlflow.uri",
    "tracker.mlflow.experiment",
    "tracker.wandb.project",
    "tracker.wandb.entity",
    "tracker.wandb.mode",
)


def job_identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a configuration that say what a run computes, and on what."""
    return {key: value for key, value in values.items() if key not in BOOKKEEPING_KEYS}


def require_same(place: Path, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that the run in `place` was made with the values that are wanted.

    Raises:
        ConfigError: it has others.
    """
    differences = _differences(job_identity(as_dict(load(recorded))), job_identity(wanted))
    if differences:
        raise ConfigError(
            f"{place} holds a run with other values: {', '.join(differences)}. "
            "Name another sweep=NAME, change what the run goes on with (cnnbench resume), "
            "or delete it to run it anew."
        )


def _differences(recorded: Any, wanted: Any, key: str = "") -> list[str]:
    """Return the keys whose values are not the same, such as ``train.epochs=5 instead of 10``."""
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        differences = []
        for name in {**recorded, **wanted}:
            differences += _differences(recorded.get(name), wanted.get(name), f"{key}{name}.")
        return differences
    return [] if recorded == wanted else [f"{key[:-1]}={recorded} instead of {wanted}"]
