"""The commands from Python: their numbers, files and words; the process stays as it was."""

import csv
import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from helpers.command import TINY, Command, clean_environment, find_only_run
from helpers.compare_runs import find_differences
from helpers.paths import ROOT
from helpers.sample_images import load_sample_images
from helpers.small_runs import SMALL, Runs, read_files
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import cnnbench
from cnnbench.api import Result, Row, evaluate, load, predict, train
from cnnbench.data.catalog import CATALOG
from cnnbench.errors import ConfigError, DivergedError

ONE_EPOCH = (*TINY, "train.epochs=1", "train.fail_if_not_learning=false")
LOG = logging.getLogger("cnnbench")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def status(directory: Path) -> dict[str, str]:
    return json.loads((directory / "status.json").read_text())


def test_has_the_numbers_of_the_command_line(within: Command, tmp_path: Path) -> None:
    within(*TINY, "hydra.run.dir=typed")
    assert find_differences(train(*TINY).directory, tmp_path / "typed") == []


def test_leaves_the_files_of_the_command_line(within: Command, tmp_path: Path) -> None:
    within(*TINY, "hydra.run.dir=typed")
    ours, typed = (
        {path.relative_to(run) for path in run.rglob("*")}
        for run in (train(*TINY).directory, tmp_path / "typed")
    )
    assert ours == typed


@pytest.mark.parametrize("name", ["config.yaml", ".hydra/config.yaml", ".hydra/overrides.yaml"])
def test_records_the_configuration_as_the_command_line_does(
    name: str, within: Command, tmp_path: Path
) -> None:
    overrides = (*TINY, "sweep=one")
    within(*overrides, "hydra.run.dir=typed")
    ours, typed = (
        (run / name).read_text() for run in (train(*overrides).directory, tmp_path / "typed")
    )
    assert ours == typed


def test_the_result_says_what_the_records_say() -> None:
    result = train(*TINY)
    with (result.directory / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    recorded = json.loads((result.directory / "result.json").read_text())
    best = recorded["best"]
    assert result == Result(
        result.directory,
        rows,
        best,
        best["validation_accuracy"],
        test_accuracy=recorded["test_accuracy"],
    )


def test_without_a_validation_set_runs_are_compared_by_the_last_test_accuracy() -> None:
    result = train(*TINY, "data.validation=0")
    assert (result.best, result.value) == (None, result.rows[-1]["test_accuracy"])


def test_the_directory_is_named_as_the_command_names_it(tmp_path: Path) -> None:
    directory = train(*ONE_EPOCH).directory
    assert directory == find_only_run(tmp_path)
    assert directory.parent == tmp_path / "outputs" / "lenet_relu-sample-28px"


@pytest.mark.parametrize("kind", [str, Path])
def test_takes_the_directory_it_is_given(tmp_path: Path, kind: type) -> None:
    assert train(*ONE_EPOCH, directory=kind("here")).directory == tmp_path / "here"


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(ConfigError, match=r"'.' already exists and is not an empty folder"):
        train(*TINY, directory=".")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_directory_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    train(*ONE_EPOCH, directory=tmp_path / "here")
    with pytest.raises(ConfigError, match="here already holds a run"):
        train(*TINY, directory=tmp_path / "here")


def test_on_epoch_is_given_each_row() -> None:
    given: list[Row] = []
    assert train(*TINY, on_epoch=given.append).rows == given


def test_what_on_epoch_does_to_its_row_stays_its_own() -> None:
    assert "mine" not in train(*TINY, on_epoch=lambda row: row.update(mine=1.0)).rows[0]


def test_on_epoch_stops_a_run_by_returning_false() -> None:
    result = train(*TINY, on_epoch=lambda row: False)
    assert result.stopped
    assert len(result.rows) == 1
    assert result.value == result.rows[0]["validation_accuracy"]
    assert result.test_accuracy is None


def test_a_stopped_run_is_recorded_as_interrupted() -> None:
    directory = train(*TINY, on_epoch=lambda row: False).directory
    assert (status(directory)["state"], status(directory)["error"]) == (
        "interrupted",
        "StoppedByOnEpoch",
    )


def test_the_test_set_of_a_stopped_run_is_not_measured() -> None:
    directory = train(*TINY, on_epoch=lambda row: row["epoch"] < 2).directory
    assert not (directory / "result.json").exists()


def test_a_stopped_run_goes_on_to_the_numbers_of_one_never_stopped(
    within: Command, tmp_path: Path
) -> None:
    stopped = train(
        *TINY, "train.checkpoint_every.epochs=null", on_epoch=lambda row: False
    ).directory
    assert within("resume", str(stopped)).returncode == 0
    assert (
        find_differences(stopped, train(*TINY, "train.checkpoint_every.epochs=null").directory)
        == []
    )


class PrunedError(Exception):
    """As searches have one."""


def test_an_exception_of_on_epoch_is_passed_on_and_recorded(tmp_path: Path) -> None:
    def prune(row: Row) -> None:
        raise PrunedError("worse than others")

    with pytest.raises(PrunedError):
        train(*TINY, on_epoch=prune)
    recorded = status(find_only_run(tmp_path))
    assert (recorded["state"], recorded["error"]) == ("failed", "PrunedError: worse than others")


@pytest.mark.parametrize(
    "override",
    ["lr=0.1", "model=lenett", "+model=alexnet", "data.resize=3", "train.epochs=some", "a b",
     "+nothing=1", "device.precision=fp8"],
)  # fmt: skip
def test_a_mistake_is_told_in_the_words_of_the_command_line(override: str, within: Command) -> None:
    typed = within("data=sample", "device=cpu", override)
    assert typed.returncode == 2
    with pytest.raises(ConfigError) as told:
        train("data=sample", "device=cpu", override)
    assert f"cnnbench: {told.value}\n" == typed.stderr


@pytest.mark.parametrize("override", ["optimizer.lr=0.1,0.2", "-m", "--help"])
def test_what_is_for_the_command_line_alone_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override):
        train(override)


def test_divergence_is_raised(tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        train(*TINY, "optimizer.lr=1e30")
    assert status(find_only_run(tmp_path))["state"] == "failed"


@pytest.mark.filterwarnings("default")
def test_a_sigint_is_raised_once_the_run_is_saved(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(*TINY, on_epoch=lambda row: os.kill(os.getpid(), signal.SIGINT))
    run = find_only_run(tmp_path)
    assert status(run)["state"] == "interrupted"
    assert (run / "checkpoints" / "last.pt").exists()


def test_a_schedulers_signal_reaches_its_handler_once_the_run_is_saved() -> None:
    states = []

    def handle(number: int, frame: object) -> None:
        states.append(json.loads((find_only_run(Path()) / "status.json").read_text())["state"])

    before = signal.signal(signal.SIGUSR2, handle)
    try:
        with pytest.raises(SystemExit):
            train(*TINY, on_epoch=lambda row: os.kill(os.getpid(), signal.SIGUSR2))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert states == ["interrupted"]


def test_the_callers_signal_handlers_are_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(*ONE_EPOCH)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_callers_logging_is_as_before() -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        return [
            root.level,
            LOG.level,
            LOG.propagate,
            *root.handlers,
            *LOG.handlers,
            *root.filters,
            *LOG.filters,
        ]

    before = state()
    train(*ONE_EPOCH)
    assert state() == before


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(
    ("level", "hears"), [(logging.WARNING, False), (logging.INFO, True)], ids=["warning", "info"]
)
def test_the_caller_hears_what_its_level_lets_through(
    level: int, hears: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    monkeypatch.setattr(LOG, "handlers", [heard])
    monkeypatch.setattr(LOG, "level", level)
    logging.getLogger().manager._clear_cache()
    train(*ONE_EPOCH)
    assert any("Test accuracy" in line for line in heard.lines) == hears


def test_the_log_of_the_run_does_not_depend_on_the_callers_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    logging.getLogger().manager._clear_cache()
    logged = (train(*ONE_EPOCH).directory / "train.log").read_text()
    assert " INFO lenet_relu on part of Fashion-MNIST at " in logged.partition("\n")[0]
    assert "INFO Test accuracy" in logged


def test_prints_nothing(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        logging.getLogger(), "handlers", []
    )  # those of a command that ran before in this process
    train(*ONE_EPOCH)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [False, True])
def test_progress_alone_prints_the_lines_of_the_log_and_a_bar(
    progress: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    directory = train(*TINY, progress=progress).directory
    log = (directory / "train.log").read_text()
    logged = re.findall(r"^\S+ \S+ [A-Z]+ (.*)$", log, re.MULTILINE)
    printed = capsys.readouterr()
    assert os.path.relpath(directory) in logged
    assert printed.out.splitlines() == (logged if progress else [])
    assert ("examples/s" in printed.err) is progress
    assert "TQDM_DISABLE" not in os.environ


def test_leaves_hydra_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "application.yaml").write_text("defaults: [schema, _self_]\nkey: 1\n")
    store = ConfigStore.instance()
    kept = dict(store.repo)
    store.store("schema", {"theirs": True})
    try:
        with hydra.initialize_config_dir(str(tmp_path / "theirs"), version_base="1.2"):
            application = GlobalHydra.instance().hydra
            train(*ONE_EPOCH)
            assert GlobalHydra.instance().hydra is application
            assert str(version.getbase()) == "1.2"
            assert hydra.compose("application") == {"theirs": True, "key": 1}
    finally:
        store.repo = kept


def test_leaves_no_hydra_where_there_was_none() -> None:
    GlobalHydra.instance().clear()
    train(*ONE_EPOCH)
    assert not GlobalHydra.instance().is_initialized()


def test_a_second_run_at_the_same_time_is_refused() -> None:
    def again(row: Row) -> None:
        with pytest.raises(ConfigError, match="A run is under way in this process"):
            train(*TINY)

    train(*ONE_EPOCH, on_epoch=again)


def test_after_a_run_that_failed_there_can_be_another() -> None:
    with pytest.raises(ConfigError):
        train("lr=0.1")
    assert train(*ONE_EPOCH).test_accuracy is not None


def test_has_the_same_numbers_in_another_thread(tmp_path: Path) -> None:
    thread = threading.Thread(
        target=train, args=TINY, kwargs={"directory": tmp_path / "in_a_thread"}
    )
    thread.start()
    thread.join()
    assert find_differences(train(*TINY).directory, tmp_path / "in_a_thread") == []


def test_results_are_shown_in_a_line() -> None:
    result = train(*ONE_EPOCH, directory="run")
    figures = f"value={result.value:.4f}, test_accuracy={result.test_accuracy:.4f}"
    assert repr(result) == f"Result('run', epochs=1, {figures})"
    figures = "model='lenet_relu', classes=10, weights='best.pt, epoch 1'"
    assert repr(load("run")) == f"TrainedModel('run', {figures})"
    assert len(repr(evaluate("run"))) < 300


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    return runs.copy("finished", tmp_path / "run")


@pytest.mark.parametrize("kind", [str, Path])
def test_evaluate_has_the_figures_of_the_command(run: Path, within: Command, kind: type) -> None:
    assert within("evaluate", "run", "data.test_examples=10").returncode == 0
    recorded = json.loads((run / "evaluation_data.test_examples=10.json").read_text())
    before = read_files(run)
    evaluation = evaluate(kind("run"), "data.test_examples=10")
    measured = json.loads(json.dumps(dataclasses.asdict(evaluation)))
    assert measured == {key: recorded[key] for key in measured}
    assert read_files(run) == before  # it writes nothing


@pytest.mark.usefixtures("run")
def test_evaluate_compares_classes_of_other_names_by_order_if_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = dataclasses.replace(CATALOG["sample"], name="mnist", classes=tuple("0123456789"))
    monkeypatch.setitem(CATALOG, "mnist", other)
    with pytest.raises(ConfigError, match="add: --match-by-order"):
        evaluate("run", "data=mnist")
    assert evaluate("run", "data=mnist", match_by_order=True).examples == 1000


@pytest.mark.usefixtures("run")
def test_load_gives_the_network_its_classes_and_what_its_images_are() -> None:
    network = load("run", "device=cpu")
    images = torch.tensor(load_sample_images()[:3]).view(3, 1, 28, 28)
    assert (len(network.classes), network.classes[0]) == (10, "T-shirt/top")
    assert (network.config.model.name, network.model.training) == ("mlp", False)
    with torch.no_grad():
        logits = network.model(network.preprocess(images))
    assert torch.equal(network(images.numpy()), logits)


@pytest.mark.parametrize("shape", [(28, 28), (2, 3, 28, 28), (2, 1, 28, 28)])
@pytest.mark.usefixtures("run")
def test_images_of_another_type_or_shape_are_refused(shape: tuple[int, ...]) -> None:
    kind = np.float32 if shape == (2, 1, 28, 28) else np.uint8
    with pytest.raises(ConfigError, match=r"They must be uint8 \(N, 1, H, W\)\."):
        load("run")(np.zeros(shape, kind))


@pytest.mark.usefixtures("run")
def test_predict_has_the_classes_of_the_command(within: Command, tmp_path: Path) -> None:
    Image.fromarray(load_sample_images()[0]).save("shirt.png")
    Path("notes.png").write_text("these are notes")
    (told,) = json.loads(within("predict", "run", "shirt.png", "--json", "--topk", "4").stdout)
    for images in ("shirt.png", Path("shirt.png"), ["shirt.png"]):
        (predicted,) = predict("run", images, "device=cpu", topk=4)
        assert (predicted.image, dict(predicted.classes)) == ("shirt.png", told["classes"])
    first, second = predict("run", ["notes.png", "shirt.png"])
    assert ("notes.png is not" in first.error, first.classes) == (True, [])
    assert len(second.classes) == 3
    with pytest.raises(ConfigError, match="topk=0 is out of range"):
        predict("run", "shirt.png", topk=0)


@pytest.mark.parametrize("call", [load, evaluate, lambda run, **more: predict(run, [], **more)])
def test_code_of_an_untrusted_run_is_run_with_consent_alone(
    call: Callable[..., object], within: Command, tmp_path: Path
) -> None:
    marks = "from pathlib import Path\nPath('mark').touch()\n"
    Path("own.py").write_text(f"{marks}from cnnbench.models.mlp import MLP\nclass Net(MLP): pass\n")
    assert within(*SMALL, "model.name=own:Net", "hydra.run.dir=run").returncode == 0
    Path("mark").unlink()
    with pytest.raises(ConfigError, match=r"If you trust it: allow_custom_model=True$"):
        call("run")
    assert not Path("mark").exists()
    call("run", allow_custom_model=True)
    assert Path("mark").exists()
    del sys.modules["own"]


IMPORTS = """
import os, sys
import cnnbench
print("torch" in sys.modules, cnnbench.errors.ConfigError.exit_code, hasattr(cnnbench, "nothing"))
try:
    cnnbench.api
except ImportError:
    print(os.environ["GOMP_SPINCOUNT"])
"""


def test_pytorch_is_imported_by_the_api_alone_once_threads_are_set(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")
    command = [sys.executable, "-c", IMPORTS]
    environment = clean_environment(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False 2 False\n20000\n", "")


def test_the_api_is_an_attribute_of_the_package() -> None:
    assert cnnbench.__getattr__("api").train is train


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"## From Python\n.*?```python\n(.*?)```", page, re.DOTALL)
    Image.fromarray(load_sample_images()[0]).save("shirt.png")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    exec(code.replace('"data=sample"', f"*{TINY}"), {})
    assert (tmp_path / "rates.png").stat().st_size > 0
