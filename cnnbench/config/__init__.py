"""The configuration: typed, converted and checked.

`load_config` makes a `Config` of plain values: those of Hydra or of a config.yaml.
Nothing here imports torch, so that errors in values are reported at once.
"""

# ruff: noqa: F403  # each module has its own list of public names
from cnnbench.config.composed import *
from cnnbench.config.load import *
from cnnbench.config.optimizers import *
from cnnbench.config.overrides import *
from cnnbench.config.resume_rules import *
from cnnbench.config.schema import *
