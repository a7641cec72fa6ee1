"""Weights & Biases: offline runs of the real package, and calls of a mock."""

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
from helpers.command import NOWHERE
from helpers.fork_server import ForkServer
from helpers.small_runs import SMALL
from helpers.tracker_contents import read_wandb

from cnnbench.config import WandbConfig
from cnnbench.runs.reading import reject_escaping_links
from cnnbench.trackers.wandb import Client


@pytest.mark.slow
def test_offline_files_belong_to_one_run(tracked_by_all: Path) -> None:
    begun, resumed = read_wandb(tracked_by_all)
    runs = [record.run for record in (*begun, *resumed) if record.HasField("run")]
    recorded = json.loads((tracked_by_all / "wandb.json").read_text())
    assert {run.run_id for run in runs} == {recorded["run_id"]}
    assert (runs[0].project, runs[0].display_name) == ("cnnbench", "run")
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert (config["optimizer.lr"], config["environment"]["device"]) == (0.01, "cpu")
    ends = [record.exit.exit_code for record in (*begun, *resumed) if record.HasField("exit")]
    assert ends == [1, 0]
    steps = [record.history.step.num for record in resumed if record.HasField("history")]
    assert steps == [2, 3]
    assert "image-file" in str(resumed)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="the extra wandb is not installed")
def test_warning_without_api_key_names_the_next_step(forks: ForkServer, tmp_path: Path) -> None:
    variables = {"WANDB_BASE_URL": NOWHERE, "WANDB_API_KEY": "", "WANDB_MODE": "online"}
    words = (*SMALL, "tracker=wandb", "train.epochs=1")
    done = forks.run(*words, folder=tmp_path, HOME=str(tmp_path), **variables)
    assert (done.returncode, done.stderr) == (0, "")
    (warning,) = (line for line in done.stdout.splitlines() if line.startswith("The tracker wandb"))
    assert "`wandb login`" in warning
    assert "tracker.wandb.mode=offline" in warning


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Replace the package by a mock, in which a run is `wandb.init.return_value`."""
    fake = Mock()
    fake.errors.UsageError = KeyError
    fake.init.return_value.url = "https://there"
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def make_client(directory: Path, **config: Any) -> Client:
    rows = [({"epoch": epoch, "lr": 0.1}, 0.0) for epoch in (1, 2)]
    return Client(WandbConfig(**config), directory, {"seed": 0}, {"sweep": "s"}, rows)


def start(directory: Path, **config: Any) -> str:
    return make_client(directory, **config).start()


def ids_of(wandb: Mock) -> set[str]:
    return {started.kwargs["id"] for started in wandb.init.call_args_list}


def test_error_without_api_key_names_the_next_step(wandb: Mock, tmp_path: Path) -> None:
    wandb.init.side_effect = KeyError("no key")
    with pytest.raises(KeyError, match=r"no key.* Or set tracker\.wandb\.mode=offline\."):
        start(tmp_path)


def test_run_with_failed_start_has_no_escaping_links(wandb: Mock, tmp_path: Path) -> None:
    def fail(**arguments: Any) -> None:
        (tmp_path / "wandb" / "run-1" / "logs").mkdir(parents=True)
        (tmp_path / "wandb" / "run-1" / "logs" / "debug-core.log").symlink_to("/tmp/core.log")
        raise OSError

    wandb.init.side_effect = fail
    with pytest.raises(OSError):  # noqa: PT011
        start(tmp_path)
    reject_escaping_links(tmp_path)


def test_client_is_silent_and_has_short_timeouts(wandb: Mock, tmp_path: Path) -> None:
    assert start(tmp_path, entity="us", project="ours") == "https://there"
    settings = {"silent": True, "console": "off", "symlink": False, "finish_timeout_raises": True}
    settings |= {"init_timeout": 10.0, "finish_timeout": 10.0}
    wandb.Settings.assert_called_once_with(**settings)
    wandb.setup.assert_called_once_with(wandb.Settings.return_value)
    arguments = {"entity": "us", "project": "ours", "mode": None, "group": "s", "resume": "allow"}
    arguments |= {"config": {"seed": 0, "environment": {"sweep": "s"}}, "name": tmp_path.name}
    arguments |= {"allow_val_change": True, "reinit": "create_new"}
    assert wandb.init.call_args.kwargs.items() > (arguments | {"dir": tmp_path}).items()
    wandb.init.return_value.url = None
    assert start(tmp_path) == f"wandb sync {os.path.relpath(tmp_path)}/wandb/offline-run-*"


def test_run_ends_with_figures_curves_and_exit_code(wandb: Mock, tmp_path: Path) -> None:
    client = make_client(tmp_path)
    client.start()
    client.log_result({"test_loss": 0.25}, {"epoch": 2})
    wandb.Image.assert_called_once_with(str(tmp_path / "curves.png"))
    summary = {"test_loss": 0.25, "curves": wandb.Image.return_value}
    wandb.init.return_value.summary.update.assert_called_once_with(summary)
    for state in ("finished", "interrupted", "failed"):
        client.end(state)
    codes = [ended.kwargs for ended in wandb.init.return_value.finish.call_args_list]
    assert codes == [{"exit_code": code} for code in (0, 1, 1)]


@pytest.mark.parametrize(("mode", "steps"), [("online", [1, 2, 1, 2]), ("offline", [1, 2])])
def test_resumed_run_logs_earlier_epochs_only_online(
    mode: Any, steps: list[int], wandb: Mock, tmp_path: Path
) -> None:
    wandb.init.return_value.offline = mode == "offline"
    for _ in range(2):
        start(tmp_path, mode=mode)
    assert len(ids_of(wandb)) == 1
    logged = wandb.init.return_value.log.call_args_list
    assert logged == [call({"lr": 0.1}, step=step, commit=True) for step in steps]


def test_rows_are_logged_in_the_order_of_their_steps(wandb: Mock, tmp_path: Path) -> None:
    rows = [({"epoch": epoch, "lr": 0.1}, 0.0) for epoch in (1, 2)]
    steps = [({"step": step, "epoch": step / 3, "lr": 0.1}, 0.0) for step in (2, 4, 6, 8)]
    client = Client(WandbConfig(), tmp_path, {}, {}, rows, steps, steps_per_epoch=3)
    client.start()
    logged = [logged.args[0] for logged in wandb.init.return_value.log.call_args_list]
    axes = [logged.kwargs["step"] for logged in wandb.init.return_value.log.call_args_list]
    assert axes == [2, 3, 4, 6, 6, 8]
    assert logged[0] == {"steps/step": 2, "steps/lr": 0.1}
    assert logged[1] == {"lr": 0.1, "epoch": 1}
    defined = wandb.init.return_value.define_metric.call_args_list
    assert defined == [
        call("*", step_metric="epoch"),
        call("steps/*", step_metric="steps/step"),
    ]


def test_copied_directory_begins_another_run(wandb: Mock, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    start(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    start(tmp_path / "copy")
    assert len(ids_of(wandb)) == 2
