"""A run ends as it would without trackers, whatever becomes of them."""

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
from cnnbench.runs.signals import Stopping
from cnnbench.runs.sweep import JOBS
from cnnbench.trackers import base, tensorboard
from cnnbench.trackers.base import Tracker, Trackers

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

ROWS = [{"epoch_s": seconds} for seconds in (1.0, 2.0, 0.5)]
TRACKED = (*SMALL, "tracker=tensorboard", "hydra.run.dir=outputs/run")


def client(log_rows: Any = None) -> Mock:
    """Return a client; `log_rows` is what that method raises or does."""
    return Mock(spec=Tracker, **{"log_rows.side_effect": log_rows})


@pytest.mark.slow
@pytest.mark.parametrize("tracker", READERS)
def test_a_tracker_has_each_epoch_and_figure_once(tracker: str, tracked_by_all: Path) -> None:
    found, recorded = sorted(READERS[tracker](tracked_by_all)), read_recorded(tracked_by_all)
    assert [point[:2] for point in found] == [point[:2] for point in recorded]
    values = [value for *_, value in recorded]  # TensorBoard has them in single precision
    assert [value for *_, value in found] == pytest.approx(values, rel=1e-6)


@pytest.mark.slow
def test_tracking_changes_no_number(tracked_by_all: Path, runs: Runs) -> None:
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
def test_a_wrong_tracker_says_what_is_allowed(words: str, message: str, within: Command) -> None:
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
def test_a_run_whose_tracker_fails_ends_as_without_it_after_one_warning(
    method: str, moment: str, within: Command, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "log_rows":  # which the start calls, too
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


def test_a_tracker_that_failed_is_not_called_again_and_the_others_are() -> None:
    failing, other = client(OSError()), client()
    trackers = Trackers({"a": failing, "b": other})
    for epoch in (1, 2):
        trackers.log_epoch({"epoch": epoch})
    assert (failing.log_rows.call_count, other.log_rows.call_count) == (1, 2)


def test_a_warning_has_the_first_cause_on_a_short_line_without_passwords(
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


def test_an_error_with_another_cause_is_reported_itself(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("no such run")
    error.__context__ = KeyError("x")
    Trackers({"a": client(error)}).log_epoch({"epoch": 1})
    assert caplog.messages[0].endswith("without it: ValueError: no such run")


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_a_signal_while_a_tracker_is_called_ends_the_run(signal: Any) -> None:
    with pytest.raises(signal):
        Trackers({"a": client(signal)}).log_epoch({"epoch": 1})


def test_warnings_of_a_client_are_ignored_and_its_filters_end_with_its_call() -> None:
    def warn(rows: base.Rows) -> None:
        warnings.warn("nobody need see this", stacklevel=1)
        warnings.simplefilter("always")

    trackers, before = Trackers({"a": client(warn)}), list(warnings.filters)
    trackers.log_epoch({"epoch": 1})
    assert (list(trackers.clients), list(warnings.filters)) == (["a"], before)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts trackers of a run; gives what the client of TensorBoard, which is replaced, got."""

    def start(*overrides: str) -> Any:
        settings = config.load(config.to_plain(compose_config(overrides)))
        environment = dict.fromkeys(base.TAGS) | {"host": "here", "world_size": 1}
        monkeypatch.setattr(tensorboard, "Client", Mock())
        tensorboard.Client.return_value.start.return_value = "http://me:secret@host/x"
        monkeypatch.setattr("time.time", lambda: 7.0)
        base.start_trackers(settings, tmp_path / "run", environment, ROWS)
        return tensorboard.Client.call_args

    return start


def test_a_client_has_the_configuration_tags_and_rows_of_its_run(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    words = ("tracker=tensorboard", "sweep=mine", "model=mlp", "data=sample")
    settings, directory, parameters, tags, rows = start(*words).args
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


def test_variables_of_the_clients_are_set_where_the_user_has_not(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "77", "HOME": str(tmp_path)}
    for name in base.VARIABLES | theirs:
        monkeypatch.setenv(name, theirs.get(name, ""))  # to be restored
        if name not in theirs:
            monkeypatch.delenv(name)
    start()
    assert not os.environ.keys() & (base.VARIABLES.keys() - theirs)
    start("tracker=tensorboard")
    assert os.environ.items() > (base.VARIABLES | theirs).items()
    monkeypatch.setattr(base, "expand_user", Path)  # as for a user without a home
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
def test_an_id_is_read_only_if_it_is_one(content: str, run_id: str, tmp_path: Path) -> None:
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
def test_trackers_end_as_their_run_unless_at_once(error: BaseException | None, state: str) -> None:
    for at_once in (False, True):
        tracker, signals = client(), Stopping()
        signals.at_once = at_once
        expected = nullcontext() if error is None else pytest.raises(type(error))
        with expected, Trackers({"a": tracker}).ended_after(signals):
            if error is not None:
                raise error
        assert tracker.method_calls == ([] if at_once else [call.end(state)])


def test_a_run_is_resumed_without_its_trackers_when_asked(tracked: Path, tmp_path: Path) -> None:
    shutil.copytree(tracked, tmp_path / "run")
    before = set(tmp_path.rglob("*"))
    done = run_in_process("resume", "run", "tracker=none", "train.epochs=4", folder=tmp_path)
    assert (done.returncode, "Tracked by" in done.stdout) == (0, False), done.stderr
    assert set(tmp_path.rglob("*")) - before == set()


@pytest.mark.slow
def test_of_several_processes_one_tracks(forks: ForkServer, tmp_path: Path) -> None:
    done = run_ranks(forks, *TRACKED, folder=tmp_path, PYTHONWARNINGS="default")
    assert [each.returncode for each in done] == [0, 0], done
    assert len({path.suffixes[-2] for path in tmp_path.rglob("*tfevents*")}) == 1  # of a process
