"""The configuration: typed, converted and checked.

`load` turns what was composed, or what a run directory's config.yaml holds, into a `Config`.
Nothing here imports torch, so a mistake in a value is reported at once.
"""

# ruff: noqa: F403  # each module lists what it offers
from cnnbench.config.load import *
from cnnbench.config.overrides import *
from cnnbench.config.resume_rules import *
from cnnbench.config.schema import *
