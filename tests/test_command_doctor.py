"""`cnnbench doctor`: what it finds, what it calls unusual, and that it works on odd machines."""

import errno
import fcntl
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
import torch
from installed import Command

from cnnbench.analysis import machine
from cnnbench.analysis.machine import EXTRAS, PROBES, Diagnosis

Pretend = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _ordinary_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is unusual about the machine of the tests out of them."""
    for name in [name for name in os.environ if machine.VARIABLES.match(name)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setattr(machine, "usable_cpus", lambda: 4)
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.setattr(machine, "memory_limit", lambda: None)
    monkeypatch.setattr(machine, "LITTLE_MEMORY", 0)
    monkeypatch.setattr(machine, "LITTLE_DISK", 0)
    monkeypatch.setattr(machine, "SLOW_FSYNC_S", 3600.0)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(machine, "is_writable", lambda _: True)


def examined(within: Command) -> Any:
    done = within("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_nothing_is_unusual_about_an_ordinary_machine(within: Command, tmp_path: Path) -> None:
    done = within("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\nNothing is unusual.\n")
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 80  # a path is not broken
    titles = " ".join(line for line in lines[:-2] if not line.startswith(" "))
    assert titles == "Versions Processor Memory PyTorch Outputs Cache Data Extras User"
    assert f"{tmp_path}/outputs" in done.stdout.split()


def test_it_leaves_nothing_behind(within: Command, tmp_path: Path) -> None:
    within("doctor")
    assert list(tmp_path.iterdir()) == []


def test_json_holds_every_probe_in_plain_values(within: Command) -> None:
    found = examined(within)
    assert list(found) == ["facts", "unusual", "obstacles", "works"]
    assert list(found["facts"]) == list(PROBES)
    assert found["facts"]["outputs"]["locks"] == found["facts"]["outputs"]["fsync"] == "work"
    assert found["facts"]["outputs"]["free_bytes"] > 0
    assert found["facts"]["data"]["sample"].endswith("cnnbench/data/sample")
    assert found["facts"]["processor"]["usable_cpus"] == 4
    assert (found["unusual"], found["works"]) == ([], True)


def answer(monkeypatch: pytest.MonkeyPatch, file: str, text: str) -> None:
    """Let `text` be what is found in `file`, and nothing in others."""
    monkeypatch.setattr(machine, "_search", lambda path, _: text if path == file else None)


def limit_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 1)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 1.5)


def keep_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 9.0, 9.0))


def set_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def have_no_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    answer(monkeypatch, "/proc/cpuinfo", "fpu sse2")


def have_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LITTLE_MEMORY", 2**31)
    monkeypatch.setattr(machine, "memory_limit", lambda: 2**30)


def limit_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**33, 2**33))
    monkeypatch.setattr(machine, "_import_torch", lambda: None)


def hide_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    answer(monkeypatch, "/proc/driver/nvidia/version", "570.86.10")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def have_no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)


def have_no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)


def have_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SLOW_FSYNC_S", -1.0)


def have_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LITTLE_DISK", 2**70)


def name_missing_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNBENCH_DATA", "/no/such/folder")


def have_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)


def have_ascii_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class AsciiOutput(io.StringIO):
        encoding = "ascii"

    monkeypatch.setattr("in_process.io.StringIO", AsciiOutput)


@pytest.mark.parametrize(
    ("pretend", "words"),
    [
        (limit_cpus, "Only 1 of 4 CPUs may be used. For more, raise their quota."),
        (keep_busy, "The machine is busy: load 9.0 on 4 CPUs. Wait"),
        (set_threads, "OMP_NUM_THREADS=1 keeps training to fewer threads than CPUs. Unset it"),
        (have_no_avx2, "The chip has no AVX2: training is several times slower."),
        (have_little_memory, "Only 1.0 GiB of memory can be had."),
        (limit_addresses, "ulimit -v allows 8.0 GiB of addresses."),
        (hide_gpu, "but no GPU is used. CUDA_VISIBLE_DEVICES hides all GPUs."),
        (have_no_locks, "cannot be locked (Operation not supported): two runs could"),
        (have_no_fsync, "cannot be synced (Invalid argument): a power failure may"),
        (have_slow_disk, "is slow: fsync took 0.0 s. Use another disk: hydra.run.dir=DIR."),
        (have_full_disk, "Free some. Use another disk: hydra.run.dir=DIR."),
        (name_missing_data, "CNNBENCH_DATA names /no/such/folder, which is no folder."),
        (have_no_home, "There is no home folder: caches are in the temporary folder. Set HOME"),
        (have_ascii_terminal, "encoding is ascii: some signs are replaced. Set LC_ALL"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_unusual_is_told_with_what_to_do(
    within: Command, monkeypatch: pytest.MonkeyPatch, pretend: Pretend, words: str
) -> None:
    pretend(monkeypatch)
    found = examined(within)
    assert any(words in note for note in found["unusual"]), found["unusual"]
    assert found["works"] is True


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_that_fails_is_told_and_the_others_go_on(
    within: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(_: Diagnosis) -> dict[str, Any]:
        raise RuntimeError("no such thing\nhere")

    monkeypatch.setitem(PROBES, name, fail)
    found = examined(within)
    assert found["facts"][name] == {"error": "RuntimeError: no such thing here"}
    assert list(found["facts"]) == list(PROBES)


def forbid_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(machine.tempfile, "NamedTemporaryFile", refuse)


def break_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


def have_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_limit", lambda: 2**28)


@pytest.mark.parametrize(
    ("pretend", "words"),
    [
        (forbid_writing, "outputs cannot be written: Permission denied. Change to another folder"),
        (break_torch, "PyTorch cannot be imported: import of torch halted"),
        (have_too_little_memory, "There are 256.0 MiB of memory. Training takes at least"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_machine_on_which_no_run_works_ends_with_exit_code_2(
    within: Command, monkeypatch: pytest.MonkeyPatch, pretend: Pretend, words: str
) -> None:
    pretend(monkeypatch)
    done = within("doctor")
    assert (done.returncode, done.stderr) == (2, "")
    assert words in " ".join(done.stdout.partition("A run cannot work here\n- ")[2].split())


def test_a_limit_of_addresses_is_tried_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**33, 2**33))
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    diagnosis = Diagnosis()
    with pytest.raises(ImportError, match="exit code 1"):
        PROBES["pytorch"](diagnosis)
    assert "PyTorch cannot be imported: exit code 1. Raise ulimit -v" in diagnosis.obstacles[0]


def test_extras_are_those_of_the_package() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]\n")[2].partition("test = [")[0]
    lines = [line.partition(" = ") for line in section.splitlines()]
    assert {extra: tuple(re.findall(r'"([\w-]+)', listed)) for extra, _, listed in lines} == EXTRAS


@pytest.mark.parametrize("argument", ["x", "--plain", "data=sample"])
def test_other_arguments_are_refused(within: Command, argument: str) -> None:
    assert within("doctor", argument).returncode == 2
