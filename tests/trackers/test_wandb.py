"""Weights & Biases: its package writes offline runs, and a fake one shows what it is asked."""

import json
import shutil
import signal
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forking import ForkServer
from installed import NOWHERE
from small_runs import SMALL

from cnnbench.config import WandbConfig
from cnnbench.runs.reading import reject_escaping_links
from cnnbench.trackers.base import Row
from cnnbench.trackers.wandb import Client

WORDS = (*SMALL, "tracker=wandb", "hydra.run.dir=run")
BLOCK = 32768
needs_wandb = pytest.mark.skipif(
    find_spec("wandb") is None,
    reason="the extra wandb is not installed",
)


def read_records(path: Path) -> Iterator[Any]:
    """Yield the protobuf records of a .wandb file, whose format is that of LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # no header fits: the block is padded
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(record)
            record = b""


def read_items(items: Any) -> dict[str, Any]:
    return {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in items}


def read_run(path: Path) -> SimpleNamespace:
    """Return what an offline run has: its metrics by step, config, summary and exit code."""
    found = SimpleNamespace(history={}, config={}, summary={}, exit_code=None, run=None)
    for record in read_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config |= read_items(record.run.config.update)
        elif kind == "history":
            items = read_items(record.history.item)
            found.history[items["_step"]] = items
        elif kind == "summary":
            found.summary |= read_items(record.summary.update)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


@needs_wandb
def test_an_offline_run_is_interrupted_and_resumed(forks: ForkServer, tmp_path: Path) -> None:
    words = (*WORDS, "tracker.wandb.mode=offline")
    done = forks.run(*words, folder=tmp_path, strikes=[(int(signal.SIGINT), "step", 6)])
    assert (done.returncode, "Traceback" in done.stderr, "wandb: " in done.stderr) == (
        130,
        False,
        False,
    ), done.stderr
    assert "Tracked by wandb: wandb sync run/wandb/offline-run-*\n" in done.stdout
    done = forks.run("resume", "run", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = (read_run(path) for path in sorted(tmp_path.glob("run/wandb/*/*.wandb")))
    assert first.run.run_id == second.run.run_id
    assert first.run.run_id in (tmp_path / "run" / "wandb.json").read_text()
    assert (first.run.project, first.run.display_name) == ("cnnbench", "run")
    assert (first.config["optimizer.lr"], first.config["environment"]["device"]) == (0.01, "cpu")
    assert ([*first.history], [*second.history]) == ([1], [2])
    assert (first.exit_code, second.exit_code) == (1, 0)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert second.history[2]["train_loss"] == result["final"]["train_loss"]
    assert second.summary["test_accuracy"] == result["test_accuracy"]
    assert second.summary["curves"]["_type"] == "image-file"


@needs_wandb
def test_a_user_without_a_key_is_told_what_to_do(forks: ForkServer, tmp_path: Path) -> None:
    variables = {
        "WANDB_BASE_URL": NOWHERE,
        "HOME": str(tmp_path),
        "WANDB_API_KEY": "",
        "WANDB_MODE": "online",
    }
    done = forks.run(*WORDS, "train.epochs=1", folder=tmp_path, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    (warning,) = (line for line in done.stdout.splitlines() if line.startswith("The tracker wandb"))
    assert "`wandb login`" in warning
    assert "tracker.wandb.mode=offline" in warning


class FakeWandb:
    """The part of the package that is used; `started` has the arguments of each wandb.init."""

    Settings = staticmethod(dict)
    Image = staticmethod(Path)
    errors = SimpleNamespace(UsageError=KeyError)

    def __init__(self) -> None:
        self.set_up: dict[str, Any] = {}
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[int, Row]] = []

    def setup(self, settings: dict[str, Any]) -> None:
        self.set_up = settings

    def init(self, **arguments: Any) -> Any:
        self.started.append(arguments)
        offline = arguments["mode"] == "offline"
        url = None if offline else "https://there"
        return SimpleNamespace(offline=offline, url=url, log=self.log)

    def log(self, metrics: Row, step: int, commit: bool) -> None:
        assert commit
        self.logged.append((step, metrics))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    return fake


def start(directory: Path, **config: Any) -> str:
    rows = [({"epoch": epoch, "lr": 0.1}, 0.0) for epoch in (1, 2)]
    return Client(WandbConfig(**config), directory, {"seed": 0}, {"sweep": "s"}, rows).start()


def test_a_run_whose_start_failed_can_be_resumed(wandb: FakeWandb, tmp_path: Path) -> None:
    def fail(**arguments: Any) -> None:
        (tmp_path / "wandb" / "run-1" / "logs").mkdir(parents=True)
        (tmp_path / "wandb" / "run-1" / "logs" / "debug-core.log").symlink_to("/tmp/core.log")
        raise OSError

    wandb.init = fail  # type: ignore[method-assign]
    with pytest.raises(OSError):  # noqa: PT011
        start(tmp_path)
    reject_escaping_links(tmp_path)


def test_it_neither_asks_nor_prints_nor_waits_for_long(wandb: FakeWandb, tmp_path: Path) -> None:
    assert start(tmp_path, entity="us", project="ours") == "https://there"
    settings = {"silent": True, "console": "off", "init_timeout": 10.0, "finish_timeout": 10.0}
    assert wandb.set_up.items() > settings.items()
    arguments = {
        "entity": "us",
        "project": "ours",
        "mode": None,
        "group": "s",
        "dir": tmp_path,
        "resume": "allow",
    }
    assert wandb.started[0].items() > arguments.items()


@pytest.mark.parametrize(("mode", "steps"), [("online", [1, 2, 1, 2]), ("offline", [1, 2])])
def test_a_resumed_run_logs_earlier_epochs_where_the_server_drops_known_ones(
    mode: Any, steps: list[int], wandb: FakeWandb, tmp_path: Path
) -> None:
    start(tmp_path, mode=mode)
    start(tmp_path, mode=mode)
    assert wandb.started[0]["id"] == wandb.started[1]["id"]
    assert wandb.logged == [(step, {"lr": 0.1}) for step in steps]


def test_a_copied_directory_begins_a_run_of_its_own(wandb: FakeWandb, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    start(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    start(tmp_path / "copy")
    assert wandb.started[0]["id"] != wandb.started[1]["id"]
