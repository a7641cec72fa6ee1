"""Trackers of a run: their start and end, and failures that do not change the run."""

import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
from helpers.command import Command
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, Runs
from helpers.tracker_contents import READERS, read_recorded
from helpers.two_process_runs import run_ranks

from cnnbench import config
from cnnbench.cli.hydra_app import compose_config
from cnnbench.config.schema import TensorboardConfig
from cnnbench.runs.signals import SignalGuard
from cnnbench.runs.sweep import JOBS
from cnnbench.trackers import base, tensorboard
from cnnbench.trackers.base import Tracker, Trackers

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

ROWS = [{"epoch_s": seconds} for seconds in (1.0, 2.0, 0.5)]
TRACKED = (*SMALL, "tracker=tensorboard", "hydra.run.dir=outputs/run")


def client(log_rows: Any = None) -> Mock:
    """Return a client whose method `log_rows` raises or does as the argument says."""
    return Mock(spec=Tracker, **{"log_rows.side_effect": log_rows})


@pytest.mark.slow
@pytest.mark.parametrize("tracker", READERS)
def test_tracker_has_each_epoch_and_figure_once(tracker: str, tracked_by_all: Path) -> None:
    found, recorded = sorted(READERS[tracker](tracked_by_all)), read_recorded(tracked_by_all)
    assert [point[:2] for point in found] == [point[:2] for point in recorded]
    values = [value for *_, value in recorded]  # TensorBoard has them in single precision
    assert [value for *_, value in found] == pytest.approx(values, rel=1e-6)


@pytest.mark.slow
def test_tracking_does_not_change_results(tracked_by_all: Path, runs: Runs) -> None:
    differ = find_differences(tracked_by_all, runs.folder / "extended")
    assert [name for name in differ if ".config." not in name] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tracker=x", "tracker=x is not known. Allowed: mlflow, none, tensorboard, wandb."),
        ("tracker=[mlflow,tensorbord]", "Did you mean 'tensorboard'?"),
        ("tracker.mlflow.uri=x", "no key 'tracker.mlflow'. It comes with tracker=mlflow."),
        ("tracker=tensorboard tracker.wandb.mode=online", "It comes with tracker=wandb."),
        ("tracker.mlfow.uri=x", "There is no key 'tracker.mlfow'. Did you mean 'tracker.mlflow'?"),
        (
            "tracker=mlflow tracker.mlflow.url=x",
            "'tracker.mlflow.url'. Did you mean 'tracker.mlflow.uri'?",
        ),
        ("tracker=tensorboard tracker.tensorboard.x=1", "'tracker.tensorboard.x'. There are none."),
        ("tracker=mlflow tracker.mlflow.uri=", "tracker.mlflow.uri is empty."),
        ("tracker=wandb tracker.wandb.mode=x", "mode=x is not known. Allowed: offline, online"),
        ("tracker=wandb tracker.wandb.project=null", "tracker.wandb.project"),
        ("-m tracker=mlflow,tensorboard", "tracker=[tensorboard,mlflow]"),
    ],
)
def test_invalid_tracker_override_is_rejected(words: str, message: str, within: Command) -> None:
    done = within("data=sample", *words.split())
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("method", "moment"),
    [
        ("start", "the start"),
        ("log_rows", "epoch 1"),
        ("log_result", "the final figures"),
        ("end", "the end"),
    ],
)
def test_failing_tracker_gives_one_warning_and_does_not_change_results(
    method: str, moment: str, within: Command, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "log_rows":  # start calls it as well
        monkeypatch.setattr(tensorboard.Client, "start", lambda client: "there")
    fail = Mock(side_effect=ZeroDivisionError("no room"))
    monkeypatch.setattr(tensorboard.Client, method, fail)
    done = within(*TRACKED)
    assert (done.returncode, done.stderr) == (0, "")
    messages = [line for line in done.stdout.splitlines() if line.startswith("The tracker ")]
    failed = f"The tracker tensorboard failed at {moment}, and the run continues without it"
    assert messages == [f"{failed}: ZeroDivisionError: no room"]
    differ = find_differences(Path("outputs/run"), runs.folder / "finished")
    assert [name for name in differ if ".config." not in name] == []


def test_failed_tracker_is_not_called_again() -> None:
    failing, other = client(OSError()), client()
    trackers = Trackers({"a": failing, "b": other})
    for epoch in (1, 2):
        trackers.log_epoch({"epoch": epoch})
    assert (failing.log_rows.call_count, other.log_rows.call_count) == (1, 2)


def test_tracker_warning_has_root_cause_without_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cause = OSError("http://me:secret@host/x\x1b[2J\n refused " + "x" * 400)
    error = RuntimeError(f"Request failed: {cause} (5 times)")
    error.__cause__ = cause
    Trackers({"a": client(error)}).log_epoch({"epoch": 3})
    (warning,) = caplog.messages
    begin = "The tracker a failed at epoch 3, and the run continues without it: "
    assert warning.startswith(f"{begin}OSError: http://host/x?[2J refused xx")
    assert len(warning) == len(begin) + base.MAX_REASON


def test_error_with_unrelated_context_is_reported_itself(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("no such run")
    error.__context__ = KeyError("x")
    Trackers({"a": client(error)}).log_epoch({"epoch": 1})
    assert caplog.messages[0].endswith("without it: ValueError: no such run")


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_signal_during_tracker_call_ends_the_run(signal: Any) -> None:
    with pytest.raises(signal):
        Trackers({"a": client(signal)}).log_epoch({"epoch": 1})


def test_client_warnings_are_ignored_and_filters_restored() -> None:
    def warn(rows: base.Rows) -> None:
        warnings.warn("a warning of the client", stacklevel=1)
        warnings.simplefilter("always")

    trackers, before = Trackers({"a": client(warn)}), list(warnings.filters)
    trackers.log_epoch({"epoch": 1})
    assert (list(trackers.clients), list(warnings.filters)) == (["a"], before)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that starts the trackers of a run.

    The client of TensorBoard is a mock, and the function returns the arguments of its constructor.
    """

    def start(*overrides: str) -> Any:
        settings = config.load_config(config.to_plain(compose_config(overrides)))
        environment = dict.fromkeys(base.TAGS) | {"host": "here", "world_size": 1}
        monkeypatch.setattr(tensorboard, "Client", Mock())
        tensorboard.Client.return_value.start.return_value = "http://me:secret@host/x"
        monkeypatch.setattr("time.time", lambda: 7.0)
        base.start_trackers(settings, tmp_path / "run", environment, ROWS)
        return tensorboard.Client.call_args

    return start


def test_client_gets_configuration_tags_and_rows(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    words = ("tracker=tensorboard", "sweep=mine", "model=mlp", "data=sample")
    settings, directory, parameters, tags, rows, *steps = start(*words).args
    assert steps == [[], None]
    assert (settings, directory) == (TensorboardConfig(), tmp_path / "run")
    assert rows == list(zip(ROWS, (4.5, 6.5, 7.0), strict=True))  # when the epochs ended
    assert caplog.messages == ["Tracked by tensorboard: http://host/x"]
    chosen = {
        "model.widths": "[512, 256, 128, 64]",
        "data.root": "null",
        "data.normalize": "true",
        "seed": 0,
    }
    assert parameters.items() > chosen.items()
    assert not any(key.startswith(("tracker", "sweep")) for key in parameters)
    assert tags == {"host": "here", "world_size": "1", "run_directory": str(directory)}
    (tmp_path / JOBS).touch()
    assert start(*words).args[3] == tags | {"sweep": "mine"}


def test_client_variables_do_not_override_user_variables(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_by_user = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "77", "HOME": str(tmp_path)}
    for name in base.VARIABLES | set_by_user:
        monkeypatch.setenv(name, set_by_user.get(name, ""))  # so that the test's end restores it
        if name not in set_by_user:
            monkeypatch.delenv(name)
    start()
    assert not os.environ.keys() & (base.VARIABLES.keys() - set_by_user)
    start("tracker=tensorboard")
    assert os.environ.items() > (base.VARIABLES | set_by_user).items()
    monkeypatch.setattr(base, "expand_user", Path)  # a user without a home directory
    start("tracker=tensorboard")
    assert os.environ["HOME"] == "/nonexistent"


@pytest.mark.parametrize(
    ("content", "run_id"),
    [
        ("", ""),
        ("[]", ""),
        ("{}", ""),
        ('{"run_id": "../x"}', ""),
        ('{"run_id": "\'"}', ""),
        ('{"run_id": "a-0"}', "a-0"),
    ],
)
def test_read_id_accepts_only_valid_ids(content: str, run_id: str, tmp_path: Path) -> None:
    tracker = tensorboard.Client(None, tmp_path, {}, {}, [])
    assert tracker.read_id("x.json") == ""
    (tmp_path / "x.json").write_text(content)
    assert tracker.read_id("x.json") == run_id


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "finished"),
        (ValueError(), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
    ],
    ids=repr,
)
def test_trackers_end_with_the_state_of_the_run(error: BaseException | None, state: str) -> None:
    for at_once in (False, True):
        tracker, signals = client(), SignalGuard()
        signals.at_once = at_once
        expected = nullcontext() if error is None else pytest.raises(type(error))
        with expected, Trackers({"a": tracker}).ended_after(signals):
            if error is not None:
                raise error
        assert tracker.method_calls == ([] if at_once else [call.end(state)])


def test_resume_without_trackers(tracked: Path, tmp_path: Path) -> None:
    shutil.copytree(tracked, tmp_path / "run")
    before = set(tmp_path.rglob("*"))
    done = run_in_process("resume", "run", "tracker=none", "train.epochs=4", folder=tmp_path)
    assert (done.returncode, "Tracked by" in done.stdout) == (0, False), done.stderr
    assert set(tmp_path.rglob("*")) - before == set()


@pytest.mark.slow
def test_only_rank_0_tracks(forks: ForkServer, tmp_path: Path) -> None:
    done = run_ranks(forks, *TRACKED, folder=tmp_path, PYTHONWARNINGS="default")
    assert [process.returncode for process in done] == [0, 0], done
    process_ids = {path.suffixes[-2] for path in tmp_path.rglob("*tfevents*")}
    assert len(process_ids) == 1


def test_steps_are_sent_together_and_before_their_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.0, 101.0, 102.0, 103.0, 103.0])
    monkeypatch.setattr(base.time, "time", lambda: next(times))
    tracker = client()
    trackers = Trackers({"fake": tracker})
    for step in (1, 2, 3):
        trackers.log_step({"step": step})
    trackers.log_epoch({"epoch": 1})
    names = [name for name, *_ in tracker.method_calls]
    assert names == ["log_steps", "log_steps", "log_rows"]
    sent = [
        [row["step"] for row, _ in logged.args[0]] for logged in tracker.log_steps.call_args_list
    ]
    assert sent == [[1], [2, 3]]
