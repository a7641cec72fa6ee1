"""The variable that decides how long OpenMP's waiting threads spin."""

import logging
import sys

import pytest

from cnnbench.runs import openmp_env
from cnnbench.runs.openmp_env import SPIN_COUNT, VARIABLES, limit_spinning, recorded_variables

LIMITED = {"GOMP_SPINCOUNT": str(SPIN_COUNT)}


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that torch is not imported yet, and that nobody has chosen."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(openmp_env, "replaced_wait_policy", None)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored in any case
        monkeypatch.delenv(name)


def test_spinning_is_limited_by_default() -> None:
    limit_spinning()
    assert recorded_variables() == LIMITED


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_WAIT_POLICY", "ACTIVE"), ("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "100"), ("KMP_BLOCKTIME", "0")],
)
def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    limit_spinning()
    assert recorded_variables() == {name: value}
    assert openmp_env.replaced_wait_policy is None


def test_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    limit_spinning()
    assert (openmp_env.replaced_wait_policy, recorded_variables()) == (None, LIMITED)


@pytest.mark.parametrize("policy", ["nonsense", "1", " "])
def test_policy_that_does_not_exist_is_ignored(monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    limit_spinning()
    assert (openmp_env.replaced_wait_policy, recorded_variables()) == (policy, LIMITED)


def test_too_late_after_torch_is_imported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "torch", object())
    with caplog.at_level(logging.DEBUG, "cnnbench"):
        limit_spinning()
    assert recorded_variables() == {}
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
