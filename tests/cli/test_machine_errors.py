"""Errors of the machine in any command are reported in a message, never as a bug."""

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.command import Command
from helpers.fake_runs import make_run
from helpers.small_runs import SMALL, Runs
from PIL import Image

from cnnbench.errors import ConfigError, from_machine

REFUSALS = (
    *(errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EFBIG, errno.ENOTDIR, errno.ELOOP),
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENOMEM),
)


def refusal(number: int, *name: object) -> OSError:
    return OSError(number, os.strerror(number), *name)


@pytest.mark.parametrize("name", [(), ("run/file",)], ids=["unnamed", "named"])
@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_refusals_of_the_system_are_configuration_errors(
    number: int, name: tuple[str, ...]
) -> None:
    known = from_machine(refusal(number, *name))
    assert isinstance(known, ConfigError)
    place = "The run directory or the output"
    if number == errno.ENOMEM:  # without a file name it is the memory of the process
        place = "Out of memory in this process"
    assert str(known).startswith(name or place)
    assert os.strerror(number) in str(known)
    assert "hydra.run.dir" not in str(known)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        *((refusal(number), None) for number in (errno.EINVAL, errno.ESRCH, errno.EBADF)),
        *((error, None) for error in (OSError("not an image"), KeyError("x"))),
        (refusal(errno.EINVAL, "run/file"), "run/file: Invalid argument. "),
        (refusal(errno.EBADF, "run/file"), "run/file: Bad file descriptor. "),
        (
            refusal(errno.EIO, 7),
            "The run directory or the output: ",
        ),  # a descriptor is not a file name
        (refusal(errno.ENOSPC, "run/file"), "run/file cannot be written: "),
        (refusal(errno.EROFS, "run/file"), "run/file cannot be written: "),
        (refusal(errno.EACCES, "run/file"), "run/file: "),
    ],
    ids=repr,
)
def test_system_errors_are_bugs_unless_they_name_a_file(
    error: Exception, message: str | None
) -> None:
    known = from_machine(error)
    assert known is None if message is None else str(known).startswith(message)


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    """Return the directory of a run in its second epoch; write an image beside it."""
    Image.new("L", (28, 28)).save(tmp_path / "image.png")
    return runs.copy("in_second_epoch", tmp_path / "run")


def fail(
    patch: pytest.MonkeyPatch, owner: Any, method: str, number: int, name: str, place: int = 0
) -> None:
    """Make `owner.method` fail if its argument at `place` is a path that ends in `name`."""
    real: Callable[..., Any] = getattr(owner, method)

    def failing(*arguments: Any, **more: Any) -> Any:
        if str(arguments[place]).endswith(name):
            raise refusal(number, *([arguments[place]] if place == 0 else []))
        return real(*arguments, **more)

    patch.setattr(owner, method, failing)


@pytest.mark.parametrize(
    ("command", "name", "number"),
    [
        ((*SMALL, "hydra.run.dir=new"), "new/metrics.csv", errno.ESTALE),
        ((*SMALL, "hydra.run.dir=new"), "new/checkpoints/.new.pt", errno.ENOTCONN),
        (("-m", *SMALL, "sweep=x"), "outputs/sweeps/x/sweep.json", errno.EIO),
        (("resume", "run"), "run/environment.json", errno.ETIMEDOUT),
        (("evaluate", "run"), "run/evaluation.json", errno.EMFILE),
        (("inspect", "run"), "run/inspect/mistakes.png", errno.ENODEV),
        (("export", "run", "--format=safetensors"), "run/export/mlp.safetensors", errno.EBUSY),
        (("report", "run"), "run/report.html", errno.EBADF),
    ],
)
def test_unwritable_file_is_reported_without_traceback(
    command: tuple[str, ...],
    name: str,
    number: int,
    run: Path,
    within: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail(monkeypatch, Path, "replace", number, name, place=1)
    done = within(*command)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "hydra.run.dir" not in done.stderr
    heading = ""
    if command[0] == "export":
        heading = "Exporting mlp (best.pt, epoch 1) as safetensors ...\n"
    assert done.stderr.startswith(f"{heading}cnnbench: {name}")
    assert os.strerror(number) in done.stderr


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("command", ["evaluate", "inspect", "export", "predict"])
def test_unreadable_file_is_reported_without_traceback(
    command: str, number: int, run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, os, "open", number, "dataset.json")
    done = within(command, "run", *(["image.png"] if command == "predict" else []))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"cnnbench: run/dataset.json: {os.strerror(number)}. ")


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_unreachable_checkpoint_is_not_reported_as_damaged(
    command: str, run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_files(path: Path) -> None:
        raise refusal(errno.EMFILE)

    monkeypatch.setattr(zipfile, "ZipFile", out_of_files)
    done = within(command, "run")
    assert (done.returncode, "damaged" in done.stderr + done.stdout) == (2, False), done.stderr
    assert f"pt: {os.strerror(errno.EMFILE)}. " in done.stderr


def test_bad_sector_is_reported_as_damaged_checkpoint(
    run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, zipfile, "ZipFile", errno.EIO, "last.pt")
    monkeypatch.setattr(
        "cnnbench.training.run.train",
        lambda config, run_directory, resume, **_: print(resume.problems),
    )
    done = within("resume", "run")
    assert "last.pt is damaged or is no checkpoint: Input/output error" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["run/config.yaml", "sweep/sweep.json"])
def test_unreadable_record_error_does_not_advise_deleting_it(
    name: str, run: Path, within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text('{"jobs": {}}')
    fail(monkeypatch, os, "open", errno.EACCES, name)
    done = within("resume", name.partition("/")[0])
    assert (done.returncode, "Delete" in done.stderr) == (2, False)
    assert f"{name}: Permission denied" in done.stderr


@pytest.fixture
def locked_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a job directory without read permission, even for root, beside a readable one."""
    for name in ("sound", "theirs"):
        make_run(tmp_path / "runs" / name)
    theirs = tmp_path / "runs" / "theirs"
    for owner, method in ((Path, "stat"), (os, "open"), (os, "scandir")):
        real = getattr(owner, method)

        def refuse(
            path: Any, *arguments: Any, _real: Callable[..., Any] = real, **more: Any
        ) -> Any:
            if "runs/theirs/" in f"{path}/" and Path(path).name != "theirs":
                raise refusal(errno.EACCES, str(path))
            return _real(path, *arguments, **more)

        monkeypatch.setattr(owner, method, refuse)
    return theirs


def test_report_lists_a_run_without_read_permission(within: Command, locked_away: Path) -> None:
    done = within("report", "runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 runs: 1 finished, 1 refused\n")
    assert "runs/theirs/status.json: Permission denied" in done.stdout
    assert "Permission denied" in (locked_away.parent / "report.html").read_text()


def test_report_on_an_unwritable_sweep_uses_the_output_folder(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "sweep" / "job")
    (tmp_path / "sweep" / "sweep.json").write_text('{"jobs": {"job": ["seed=0"]}}')
    fail(monkeypatch, Path, "replace", errno.EACCES, "sweep/sweep.csv", place=1)
    done = within("report", "sweep", "--output", "mine")
    assert (done.returncode, (tmp_path / "mine" / "report.html").exists()) == (0, True)
    assert done.stderr == (
        "cnnbench: sweep/sweep.csv cannot be written: Permission denied. "
        "To try again: cnnbench report sweep\n"
    )
