"""Out of memory, on the device or in the process: the messages name the settings to lower."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.command import TINY, Command, clean_environment

from cnnbench.errors import from_machine


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB.\nProcess 1 has 70 GiB in use."
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] "
            "DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
    ids=["gpu", "cpu"],
)
def test_out_of_memory_error_names_the_settings_to_lower(
    error: RuntimeError, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cnnbench.training.engine.EagerEngine.train_step", fail)
    done = within(*TINY)
    assert done.returncode == 2
    assert str(error).partition("\n")[0] in done.stderr
    assert "a batch of 32 images of 28 x 28 pixels" in done.stderr
    assert "This process has held up to" in done.stderr
    assert (
        "Lower train.batch_size=32 or data.resize=28, or split the batch by train.accumulate=2 "
        "into micro-batches of 16 images. " in done.stderr
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("numpy failed.\n\nlibblas.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=repr,
)
def test_out_of_process_memory_is_not_reported_as_a_bug(
    error: Exception, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cnnbench.training.preflight.check_sizes", fail)
    done = within(*TINY)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2), done.stderr
    assert "Out of memory in this process: " in done.stderr
    assert (str(error).splitlines() or ["no more can be had"])[-1] in done.stderr
    assert "ulimit -v" in done.stderr


def test_tensor_allocation_failure_is_out_of_device_memory() -> None:
    text = "DefaultCPUAllocator: can't allocate memory. Error code 12 (Cannot allocate memory)"
    error = from_machine(RuntimeError(text))
    assert "Lower train.batch_size or data.resize" in str(error)


def test_too_few_addresses_to_load_pytorch_are_reported(tmp_path: Path) -> None:
    limit = 2**30
    done = subprocess.run(
        [sys.executable, "-m", "cnnbench", *TINY],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("cnnbench: Out of memory in this process: ")
    assert "Traceback" not in done.stderr
