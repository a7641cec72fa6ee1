"""Probes of the machine: the facts they return and the problems they note."""

import errno
import os
import resource
from pathlib import Path

import pytest

import cnnbench
from cnnbench.analysis import machine
from cnnbench.analysis.machine import PACKAGES, Diagnosis


@pytest.fixture
def diagnosis() -> Diagnosis:
    return Diagnosis()


def test_note_joins_problem_and_advice(diagnosis: Diagnosis) -> None:
    diagnosis.note("The disk is slow.", "Use another disk.")
    diagnosis.note("There is no disk.", "Add one.", is_obstacle=True)
    assert diagnosis.unusual == ["The disk is slow. Use another disk."]
    assert diagnosis.obstacles == ["There is no disk. Add one."]


def test_versions_name_missing_packages(
    diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "PACKAGES", (*PACKAGES, "no-such-package"))
    versions = machine.examine_versions(diagnosis)
    assert versions["cnnbench"] == cnnbench.__version__
    assert versions["no-such-package"] == "missing"
    assert "missing" not in [versions[package] for package in PACKAGES]


@pytest.mark.parametrize(
    ("limit", "num_obstacles"), [(None, 0), (machine.MIN_MEMORY, 0), (machine.MIN_MEMORY - 1, 1)]
)
def test_memory_below_minimum_is_an_obstacle(
    limit: int | None, num_obstacles: int, diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory_limit", lambda: limit)
    facts = machine.examine_memory(diagnosis)
    assert (facts["limit_bytes"], len(diagnosis.obstacles)) == (limit, num_obstacles)


def test_memory_limit_above_total_is_not_a_limit(
    diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory_limit", lambda: 2**60)
    assert machine.examine_memory(diagnosis)["limit_bytes"] is None


def test_address_limit_is_noted(diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**33, 2**33))
    assert machine.examine_memory(diagnosis)["address_limit_bytes"] == 2**33
    assert any("8.0 GiB of addresses" in note for note in diagnosis.unusual)


def test_outputs_leave_no_file(
    diagnosis: Diagnosis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    facts = machine.examine_outputs(diagnosis)
    assert facts["path"] == str(tmp_path / "outputs")
    assert (facts["writable"], facts["locks"], facts["fsync"]) == (True, "work", "work")
    assert (list(tmp_path.iterdir()), diagnosis.obstacles) == ([], [])


def test_outputs_behind_a_broken_link_are_an_obstacle(
    diagnosis: Diagnosis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").symlink_to("missing")
    assert machine.examine_outputs(diagnosis)["writable"] == "it is a broken link"
    assert len(diagnosis.obstacles) == 1


def test_folder_without_locks_is_noted(
    diagnosis: Diagnosis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.fcntl, "flock", fail)
    facts = machine.examine_outputs(diagnosis)
    assert facts["locks"] == os.strerror(errno.ENOLCK)
    assert any("cannot be locked" in note for note in diagnosis.unusual)


def test_extras_list_installed_packages(
    diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "EXTRAS", {"some": ("torch", "no-such-package"), "none": ()})
    found = machine.examine_extras(diagnosis)
    assert [len(found["some"]), found["none"]] == [1, []]
    assert found["some"][0].startswith("torch ")


def test_environment_lists_variables_that_affect_runs(
    diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(filter(machine.VARIABLES.match, os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CNNBENCH_DATA", "data")
    monkeypatch.setenv("EDITOR", "vi")
    expected = {"CNNBENCH_DATA": "data", "OMP_NUM_THREADS": "3"}
    assert machine.examine_environment(diagnosis) == expected
