"""`cnnbench doctor`: facts, unusual findings, obstacles, and odd machines."""

import errno
import io
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.command import Command
from helpers.paths import ROOT

from cnnbench.analysis import machine
from cnnbench.analysis.machine import EXTRAS, PROBES, Diagnosis


@pytest.fixture(autouse=True)
def _ordinary_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide unusual properties of the machine that runs the tests."""
    for name in [name for name in os.environ if machine.VARIABLES.match(name)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setattr(machine, "usable_cpus", lambda: 4)
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.setattr(machine, "memory_limit", lambda: None)
    monkeypatch.setattr(machine, "MIN_FREE_MEMORY", 0)
    monkeypatch.setattr(machine, "MIN_FREE_DISK", 0)
    monkeypatch.setattr(machine, "SLOW_FSYNC_S", 3600.0)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(machine, "is_writable", lambda _: True)


def examined(within: Command) -> Any:
    done = within("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_ordinary_machine_has_nothing_unusual(within: Command, tmp_path: Path) -> None:
    done = within("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\nNothing is unusual.\n")
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 80  # paths are not broken
    titles = " ".join(line for line in lines[:-2] if not line.startswith(" "))
    assert titles == "Versions Processor Memory PyTorch Outputs Cache Data Extras User"
    assert f"{tmp_path}/outputs" in done.stdout.split()
    assert list(tmp_path.iterdir()) == []


def test_json_has_every_probe(within: Command) -> None:
    found = examined(within)
    assert list(found) == ["facts", "unusual", "obstacles", "works"]
    assert list(found["facts"]) == list(PROBES)
    assert found["facts"]["outputs"]["locks"] == found["facts"]["outputs"]["fsync"] == "work"
    assert found["facts"]["outputs"]["free_bytes"] > 0
    if sys.platform == "linux":
        assert found["facts"]["outputs"]["filesystem"] in Path("/proc/mounts").read_text()
    assert found["facts"]["data"]["sample"].endswith("cnnbench/data/sample")
    assert found["facts"]["processor"]["usable_cpus"] == 4
    assert (found["unusual"], found["works"]) == ([], True)


def refuse(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def fail_to_find_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def answer(file: str, text: str) -> Callable[[str, str], str | None]:
    """Return a search that finds `text` in `file` and nothing in other files."""
    return lambda path, _: text if path == file else None


class AsciiOutput(io.StringIO):
    encoding = "ascii"


MACHINE = "cnnbench.analysis.machine"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {f"{MACHINE}.usable_cpus": lambda: 1, f"{MACHINE}.cpu_quota": lambda: 1.5},
            "Only 1 of 4 CPUs may be used. For more, raise their quota.",
        ),
        (
            {"os.getloadavg": lambda: (9.0, 9.0, 9.0)},
            "The machine is busy: load 9.0 on 4 CPUs. Wait",
        ),
        (
            {"OMP_NUM_THREADS": "1"},
            "OMP_NUM_THREADS=1 keeps training to fewer threads than CPUs. Unset it",
        ),
        (
            {
                "platform.machine": lambda: "x86_64",
                f"{MACHINE}._search": answer("/proc/cpuinfo", "fpu sse2"),
            },
            "The chip has no AVX2: training is several times slower.",
        ),
        (
            {f"{MACHINE}.MIN_FREE_MEMORY": 2**31, f"{MACHINE}.memory_limit": lambda: 2**30},
            "Only 1.0 GiB of memory is available.",
        ),
        (
            {
                "resource.getrlimit": lambda _: (2**33, 2**33),
                f"{MACHINE}._import_torch": lambda: None,
            },
            "ulimit -v allows 8.0 GiB of addresses.",
        ),
        (
            {
                "torch.cuda.is_available": lambda: False,
                "torch.cuda.device_count": lambda: 0,
                f"{MACHINE}._search": answer("/proc/driver/nvidia/version", "570.86.10"),
                "CUDA_VISIBLE_DEVICES": "",
            },
            "but no GPU is used. CUDA_VISIBLE_DEVICES hides all GPUs.",
        ),
        (
            {"fcntl.flock": refuse(errno.ENOTSUP)},
            "cannot be locked (Operation not supported): two runs could",
        ),
        (
            {"os.fsync": refuse(errno.EINVAL)},
            "cannot be synced (Invalid argument): a power failure may",
        ),
        (
            {f"{MACHINE}.SLOW_FSYNC_S": -1.0},
            "is slow: fsync took 0.0 s. Use another disk: hydra.run.dir=DIR.",
        ),
        ({f"{MACHINE}.MIN_FREE_DISK": 2**70}, "Free some. Use another disk: hydra.run.dir=DIR."),
        (
            {"CNNBENCH_DATA": "/no/such/folder"},
            "CNNBENCH_DATA names /no/such/folder, which is not a folder.",
        ),
        (
            {"pathlib.Path.home": fail_to_find_home, "XDG_CACHE_HOME": ""},
            "There is no home folder: caches are in the temporary folder. Set HOME",
        ),
        (
            {"helpers.in_process.io.StringIO": AsciiOutput},
            "encoding is ascii: some characters are replaced. Set LC_ALL",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusual_findings_are_reported_with_advice(
    within: Command, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    pretend(monkeypatch, changes)
    found = examined(within)
    assert any(words in note for note in found["unusual"]), found["unusual"]
    assert found["works"] is True


def pretend(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """Replace attributes with dotted names, set environment variables, and hide modules."""
    for name, value in changes.items():
        if "." in name:
            monkeypatch.setattr(name, value)
        elif value is None:
            monkeypatch.setitem(sys.modules, name, None)
        else:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", PROBES)
def test_failed_probe_is_reported_and_the_others_run(
    within: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(_: Diagnosis) -> dict[str, Any]:
        raise RuntimeError("no such thing\nhere")

    monkeypatch.setitem(PROBES, name, fail)
    found = examined(within)
    assert found["facts"][name] == {"error": "RuntimeError: no such thing here"}
    assert list(found["facts"]) == list(PROBES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"tempfile.NamedTemporaryFile": refuse(errno.EACCES)},
            "outputs cannot be written: Permission denied. Change to another folder",
        ),
        ({"torch": None}, "PyTorch cannot be imported: import of torch halted"),
        (
            {f"{MACHINE}.memory_limit": lambda: 2**28},
            "There are 256.0 MiB of memory. Training takes at least",
        ),
    ],
    ids=["no place", "no torch", "no memory"],
)
def test_machine_without_a_working_run_exits_with_2(
    within: Command, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    pretend(monkeypatch, changes)
    done = within("doctor")
    assert (done.returncode, done.stderr) == (2, "")
    assert words in " ".join(done.stdout.partition("A run cannot work here\n- ")[2].split())


def test_address_limit_is_tested_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**33, 2**33))
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    diagnosis = Diagnosis()
    with pytest.raises(ImportError, match="exit code 1"):
        PROBES["pytorch"](diagnosis)
    assert "PyTorch cannot be imported: exit code 1. Raise ulimit -v" in diagnosis.obstacles[0]


def test_extras_are_those_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]\n")[2].partition("test = [")[0]
    lines = [line.partition(" = ") for line in section.splitlines()]
    assert {extra: tuple(re.findall(r'"([\w-]+)', listed)) for extra, _, listed in lines} == EXTRAS


@pytest.mark.parametrize("argument", ["x", "--plain", "data=sample"])
def test_other_arguments_are_refused(within: Command, argument: str) -> None:
    assert within("doctor", argument).returncode == 2
