"""CPU and memory limits from fake control groups, and the variables of OpenMP."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnbench.runs import machine
from cnnbench.runs.machine import (
    VARIABLES,
    cpu_quota,
    limit_spinning,
    memory_limit,
    openmp_variables,
    spin_count,
    usable_cpus,
)

LIMITED = {"GOMP_SPINCOUNT": str(spin_count())}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the fake of /sys/fs/cgroup. The affinity of the process has 8 CPUs."""
    monkeypatch.setattr(machine, "CGROUP_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "CGROUP_OF_PROCESS", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path / "cgroup"


def put_process_in(root: Path, *lines: str) -> None:
    (root.parent / "self").write_text("\n".join(lines) + "\n")


def limit(group: Path, quota: str) -> None:
    """Write the quota of a group in version 2 or, below the folder cpu, in version 1."""
    group.mkdir(parents=True, exist_ok=True)
    if "cpu" not in group.parts:
        (group / "cpu.max").write_text(quota + "\n")
        return
    quota_us, _, period_us = quota.partition(" ")
    (group / "cpu.cfs_quota_us").write_text(quota_us + "\n")
    (group / "cpu.cfs_period_us").write_text(period_us + "\n")


HALF = "0::/user/session"
V1 = "4:cpu,cpuacct:/docker/1234"
LIMITS: dict[str, tuple[list[str], dict[str, str], float | None, int]] = {
    "version 2": ([HALF], {"user/session": "300000 100000"}, 3.0, 3),
    "version 1": (["5:memory:/x", V1, "0::/"], {"cpu/docker/1234": "50000 25000"}, 2.0, 2),
    "another controller": (
        ["5:cpuset:/small", "4:cpu:/large"],
        {"cpu/small": "100000 100000", "cpu/large": "400000 100000"},
        4.0,
        4,
    ),
    "ancestor": ([HALF], {"user/session": "max 100000", "user": "250000 100000"}, 2.5, 2),
    "smallest": ([HALF], {"user/session": "600000 100000", "user": "200000 100000"}, 2.0, 2),
    "container": ([V1], {"cpu": "200000 100000"}, 2.0, 2),
    "half a CPU": (["0::/"], {"": "50000 100000"}, 0.5, 1),
    "above the affinity": (["0::/"], {"": "1600000 100000"}, 16.0, 8),
    "damaged file below a limit": ([HALF], {"user/session": "x", "user": "100000 100000"}, 1.0, 1),
}


@pytest.mark.parametrize(("lines", "groups", "quota", "cpus"), LIMITS.values(), ids=LIMITS)
def test_quotas_limit_cpus(
    root: Path, lines: list[str], groups: dict[str, str], quota: float, cpus: int
) -> None:
    put_process_in(root, *lines)
    for group, text in groups.items():
        limit(root / group, text)
    assert (cpu_quota(), usable_cpus()) == (quota, cpus)


ODD_V2 = ["", "max", "100000", "many 100000", "100000 0", "100000 often", "-1 100000", "1 2 3"]
ODD_V1 = ["", "-1 100000", "1e5 100000", "100000 0"]


@pytest.mark.parametrize(
    ("group", "text"), [*(("", text) for text in ODD_V2), *(("cpu", text) for text in ODD_V1)]
)
def test_unparsable_file_is_no_limit(root: Path, group: str, text: str) -> None:
    put_process_in(root, "0::/", "2:cpu:/")
    limit(root / group, text)
    assert (cpu_quota(), usable_cpus()) == (None, 8)


@pytest.mark.parametrize("lines", [[], ["nonsense"], ["0:"], ["0::/../../etc"], ["::"]])
def test_odd_list_of_groups_is_no_limit(root: Path, lines: list[str]) -> None:
    put_process_in(root, *lines)
    assert (cpu_quota(), usable_cpus()) == (None, 8)


def test_undecodable_file_is_no_limit(root: Path) -> None:
    (root.parent / "self").write_bytes(b"0::/\xff\xfe\n")
    limit(root, "max 100000")
    (root / "cpu.max").write_bytes(b"\xff\xfe")
    assert cpu_quota() is None


def test_system_without_control_groups_has_no_limit(root: Path) -> None:
    assert (cpu_quota(), usable_cpus(), memory_limit()) == (None, 8, None)


def put_memory_limit(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_version_2_memory_limit_is_the_smallest_of_all_groups_above(root: Path) -> None:
    put_process_in(root, "0::/slice/service")
    put_memory_limit(root / "slice" / "service" / "memory.max", "max")
    put_memory_limit(root / "slice" / "memory.max", "1073741824")
    assert memory_limit() == 2**30


def test_version_1_memory_limit_is_that_of_the_memory_controller(root: Path) -> None:
    put_process_in(root, "5:memory:/docker/1", "4:cpu:/elsewhere", "0::/")
    put_memory_limit(root / "memory" / "docker" / "1" / "memory.limit_in_bytes", "2147483648")
    assert memory_limit() == 2**31


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no affinity to set"
)
def test_affinity_limits_cpus() -> None:
    code = "from cnnbench.runs.machine import usable_cpus; print(usable_cpus())"
    done = subprocess.run(
        ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that torch is not imported and that no variable is set."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(machine, "replaced_wait_policy", None)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored after the test
        monkeypatch.delenv(name)


def test_spinning_is_limited_by_default() -> None:
    limit_spinning()
    assert openmp_variables() == LIMITED


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\n", 4_000),
        ("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n", 20_000),
        (None, 20_000),  # there is no such file
    ],
)
def test_spin_count_is_that_of_the_vendor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, expected: int
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        machine.CPUINFO.write_text(cpuinfo)
    limit_spinning()
    assert openmp_variables() == {"GOMP_SPINCOUNT": str(expected)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OMP_WAIT_POLICY", "ACTIVE"),
        ("OMP_WAIT_POLICY", "passive"),
        ("GOMP_SPINCOUNT", "100"),
        ("KMP_BLOCKTIME", "0"),
    ],
)
def test_variables_of_the_user_stay(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    limit_spinning()
    assert openmp_variables() == {name: value}
    assert machine.replaced_wait_policy is None


@pytest.mark.parametrize("policy", ["", "nonsense", " "])
def test_invalid_wait_policy_is_replaced(monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    limit_spinning()
    assert (machine.replaced_wait_policy, openmp_variables()) == (policy or None, LIMITED)


def test_spinning_is_not_limited_after_torch_is_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch", object())
    with caplog.at_level(logging.DEBUG, "cnnbench"):
        limit_spinning()
    assert openmp_variables() == {}
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
