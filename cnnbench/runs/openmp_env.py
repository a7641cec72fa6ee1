"""How long OpenMP's threads, which torch computes with, spin while they wait for each other, before they sleep."""

import logging
import os
import sys

__all__ = ["limit_spinning", "recorded_variables", "replaced_wait_policy"]

log = logging.getLogger("cnnbench")

SPIN_COUNT = 20_000  # GNU's default is 300,000; see benchmarks/NOTES.md, "Beside busy processes"
WAIT_POLICIES = ("ACTIVE", "PASSIVE")
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

replaced_wait_policy: str | None = None  # the user's OMP_WAIT_POLICY, if it was neither of WAIT_POLICIES


def limit_spinning() -> None:
    """Set GOMP_SPINCOUNT, unless the user has decided how threads wait.

    Threads that spin for long keep busy cores from the very threads they wait for. Threads that
    sleep at once made an epoch on an idle machine 1.4 times as long. Call this before torch is
    imported, when the variable is read. It is that of GNU's OpenMP, which torch has on Linux;
    another OpenMP stays as it is.
    """
    global replaced_wait_policy
    if "torch" in sys.modules:
        log.debug("torch was imported before cnnbench: how long its threads spin stays as it was.")
        return
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if policy and policy.upper() not in WAIT_POLICIES:
        replaced_wait_policy = os.environ.pop("OMP_WAIT_POLICY")
    if not recorded_variables():
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def recorded_variables() -> dict[str, str]:
    """Return the variables that are set and decide how threads wait."""
    return {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
