"""Runs that start from another run: what they keep of it, and that they resume without it."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command import Command, resume_arguments
from helpers.compare_runs import find_differences
from helpers.fault_injection import Fault
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, read_files
from helpers.two_process_runs import run_ranks

from cnnbench.training import checkpoint

DATA = (
    *("data=sample", "data.train_examples=64", "data.validation=20", "data.test_examples=20"),
    *("device=cpu", "device.precision=fp32", "train.batch_size=16", "train.epochs=2"),
)
SOURCE = (*DATA, "model=bn_lenet", "optimizer.lr=0.1", "hydra.run.dir=source")
FROZEN = (
    *(*DATA, "model=bn_lenet", "model.weights=source", "train.freeze=backbone"),
    *("optimizer=nesterov", "optimizer.lr=0.1", "optimizer.weight_decay=0.1"),
    *("train.ema_decay=0.9", "augment=hflip_translate", "train.checkpoint_every.steps=1"),
)
LAST_LAYER = ("classifier.7.weight", "classifier.7.bias")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    done = run_in_process(*SOURCE, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "source"


@pytest.fixture(scope="module")
def frozen_run(source: Path) -> Path:
    """Return an uninterrupted run with a frozen backbone."""
    done = run_in_process(*FROZEN, "hydra.run.dir=frozen", folder=source.parent)
    assert done.returncode == 0, done.stderr
    return source.parent / "frozen"


def load(run: Path, name: str, weights: str = "model") -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = checkpoint.load_checkpoint(run / "checkpoints" / name)[
        weights
    ]
    return tensors


def test_frozen_backbone_keeps_the_bits_of_its_source(source: Path, frozen_run: Path) -> None:
    best = load(source, "best.pt")
    states = [load(frozen_run, name) for name in ("last.pt", "best.pt", "previous.pt")]
    for state in [*states, load(frozen_run, "last.pt", "average")]:
        for name, value in best.items():
            assert torch.equal(state[name], value) == (name not in LAST_LAYER), name


def test_record_has_what_was_taken(source: Path, frozen_run: Path) -> None:
    best = load(source, "best.pt")
    epoch = checkpoint.load_checkpoint(source / "checkpoints" / "best.pt")["epoch"]
    record = json.loads((frozen_run / "weights.json").read_text())
    assert record == {
        "weights": f"source (bn_lenet, best.pt, epoch {epoch})",
        "sha256": checkpoint.digest(best),
        "taken": list(best),
        "new": {},
        "unused": [],
        "frozen": [name for name in best if name not in LAST_LAYER],
    }
    assert "weights: source\n" in (frozen_run / "config.yaml").read_text()
    log = (frozen_run / "train.log").read_text()
    assert f"Weights of source (bn_lenet, best.pt, epoch {epoch}): 30 of 30 tensors taken." in log
    assert "44,878 parameters, 850 of them trained, on cpu" in log


@pytest.fixture
def copied(source: Path, frozen_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the frozen run in a folder that does not have the source."""
    return Path(shutil.copytree(frozen_run, tmp_path / "run"))


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "run"),
        ("resume", "run", "train.epochs=3"),
        pytest.param(("inspect", "run"), marks=pytest.mark.slow),
    ],
)
def test_command_works_without_the_source(
    words: tuple[str, ...], copied: Path, within: Command
) -> None:
    done = within(*words)
    assert done.returncode == 0, done.stderr


def test_exported_weights_start_another_run(copied: Path, within: Command) -> None:
    done = within("export", "run", "--format", "safetensors", "--output", "w.safetensors")
    assert done.returncode == 0, done.stderr
    done = within(*SOURCE, "model.weights=w.safetensors", "train.epochs=1")
    assert (done.returncode, "30 of 30 tensors taken." in done.stdout) == (0, True), done


KILL, KILL_IN_WRITE = int(signal.SIGKILL), int(signal.SIGXFSZ)


@pytest.mark.parametrize(
    "fault",
    [
        (KILL, "step", 1),
        (KILL, "step", 6),
        *(
            pytest.param((number, kind, count), marks=pytest.mark.slow)
            for number in (KILL, KILL_IN_WRITE)
            for kind, counts in (("file", range(4, 40, 3)), ("checkpoint", range(1, 9)))
            for count in counts
        ),
    ],
)
def test_killed_run_ends_with_the_same_bits_without_its_source(
    fault: Fault, forks: ForkServer, source: Path, frozen_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(source, tmp_path / "source")
    killed = forks.run(*FROZEN, "hydra.run.dir=run", folder=tmp_path, faults=[fault])
    assert killed.returncode == -fault[0], killed.stderr
    if any((run / "checkpoints").glob("*.pt")):
        shutil.rmtree(tmp_path / "source")
    done = forks.run(*resume_arguments(run, FROZEN), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(run, frozen_run) == []
    assert (run / "weights.json").read_text() == (frozen_run / "weights.json").read_text()


def test_first_checkpoint_is_saved_before_the_first_step(
    forks: ForkServer, source: Path, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path / "source")
    job = (*FROZEN, "train.checkpoint_every.steps=null", "hydra.run.dir=run")
    forks.run(*job, folder=tmp_path, faults=[(int(signal.SIGINT), "step", 1)])
    state = checkpoint.load_checkpoint(tmp_path / "run" / "checkpoints" / "previous.pt")
    assert (state["epoch"], state["step"]) == (0, 0)
    assert all(map(torch.equal, state["model"].values(), load(source, "best.pt").values()))


def test_run_with_larger_images_trains_all(source: Path, within: Command) -> None:
    shutil.copytree(source, "source")
    words = (*SOURCE[:-1], "model.weights=source", "hydra.run.dir=run", "train.epochs=1")
    done = within(*words, "data.resize=32")
    assert done.returncode == 0, done.stderr
    reason = "new: classifier.1.weight (120 x 256 -> 120 x 400), classifier.1.bias (its layer"
    assert f"28 of 30 tensors taken; {reason} is new)." in done.stdout
    own, taken = load(Path("run"), "last.pt"), load(source, "best.pt")
    assert not torch.equal(own["features.0.weight"], taken["features.0.weight"])


@pytest.mark.slow
def test_sweep_over_weights_names_a_job_for_each(source: Path, within: Command) -> None:
    for name in ("a", "b"):
        shutil.copytree(source, f"runs/{name}")
    job = (*DATA, "model=bn_lenet", "train.epochs=1", "sweep=s")
    done = within("-m", *job, "model.weights=null,runs/a,runs/b")
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent.name for path in Path("outputs/sweeps/s").glob("*/result.json"))
    assert len(folders) == 3
    records = sorted(path.parent.name for path in Path("outputs/sweeps/s").glob("*/weights.json"))
    assert records == [name for name in folders if "null" not in name]
    again = within("-m", *job, "model.weights=null,runs/a,runs/b")
    assert again.returncode == 0, again.stderr


def test_finished_sweep_is_resumed_without_the_source(source: Path, within: Command) -> None:
    shutil.copytree(source, "src")
    job = (*DATA, "model=bn_lenet", "train.epochs=1", "sweep=s", "model.weights=src")
    assert within("-m", *job, "seed=0,1").returncode == 0
    shutil.rmtree("src")
    again = within("-m", *job, "seed=0,1")
    assert (again.returncode, again.stderr) == (0, "")
    assert "2 of 2 jobs finished already." in again.stdout


def test_sweep_with_a_wrong_source_starts_no_job(within: Command) -> None:
    done = within("-m", *DATA, "model.weights=null,gone", "sweep=s")
    assert (done.returncode, "model.weights=gone is not there" in done.stderr) == (2, True)
    assert "No job was started." in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.weights=gone",), "model.weights=gone is not there. Give a run directory"),
        (("train.freeze=backbone",), "train.freeze=backbone is for weights of a trained network"),
        (("train.freeze=all",), "train.freeze=all is not known. Allowed: backbone, none."),
        (("model.weights=",), "model.weights is empty. Leave it out, or give it a value."),
        (("model.weights=source",), "none of its weights fits mlp.\nsource (bn_lenet, best.pt, "),
    ],
)
def test_wrong_value_is_reported_before_a_directory_is_made(
    words: tuple[str, ...], message: str, source: Path, within: Command
) -> None:
    shutil.copytree(source, "source")
    done = within(*DATA, "model=mlp", *words, "hydra.run.dir=run")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not Path("run").exists()


def test_damaged_source_is_reported_with_its_exit_code(source: Path, within: Command) -> None:
    shutil.copytree(source, "source")
    path = Path("source/checkpoints/best.pt")
    path.write_bytes(path.read_bytes()[:-100])
    done = within(*FROZEN, "hydra.run.dir=run")
    assert (done.returncode, f"{path} is damaged" in done.stderr) == (5, True), done.stderr
    assert not Path("run").exists()


CUSTOM_MODEL = """
import os
from cnnbench.models.mlp import MLP
open(os.environ["MARK"], "a").close()
class Net(MLP): pass
"""


def test_run_of_a_custom_model_gives_its_weights_without_running_code(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(CUSTOM_MODEL)
    job = (*SMALL, "model.name=my:Net", "hydra.run.dir=custom")
    done = run_in_process(*job, folder=tmp_path, MARK=str(tmp_path / "trained"))
    assert (done.returncode, (tmp_path / "trained").exists()) == (0, True), done.stderr
    job = (*SMALL, "model.weights=custom", "hydra.run.dir=run")
    done = run_in_process(*job, folder=tmp_path, MARK=str(tmp_path / "ran"))
    assert (done.returncode, (tmp_path / "ran").exists()) == (0, False), done.stderr
    assert "Weights of custom (my:Net, best.pt, epoch " in done.stdout


def test_weights_elsewhere_are_confirmed_until_there_is_a_checkpoint(
    source: Path, copied: Path, within: Command
) -> None:
    place = str(source)

    def rename(state: dict[str, Any]) -> None:
        state["config"]["model"]["weights"] = place

    for path in (copied / "checkpoints").iterdir():
        state = checkpoint.load_checkpoint(path)
        rename(state)
        checkpoint.save(path, state)
    text = (copied / "config.yaml").read_text().replace("weights: source", f"weights: {place}")
    (copied / "config.yaml").write_text(text)
    assert within("evaluate", "run").returncode == 0
    assert within("resume", "run").returncode == 0
    for path in (copied / "checkpoints").iterdir():
        path.unlink()
    (copied / "result.json").unlink()
    status = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    before = read_files(copied)
    done = within("resume", "run")
    hint = f"starts from weights elsewhere: model.weights={place}. If you trust it: cnnbench resume"
    assert (done.returncode, hint in done.stderr) == (2, True), done.stderr
    assert read_files(copied) == before
    done = within("resume", "run", f"model.weights={place}")
    assert (done.returncode, f"Weights of {place} (bn_lenet, " in done.stdout) == (0, True), done


def test_weights_cannot_change_once_there_is_a_checkpoint(copied: Path, within: Command) -> None:
    before = read_files(copied)
    done = within("resume", "run", "train.epochs=3", "model.weights=other")
    message = "model.weights=other: run has already started, from model.weights=source. Leave it"
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert read_files(copied) == before


@pytest.mark.parametrize("names", [None, 3, [["a"]]])
def test_checkpoint_without_the_names_of_frozen_tensors_does_not_fit(
    names: object, copied: Path, within: Command
) -> None:
    for path in (copied / "checkpoints").glob("[lp]*.pt"):
        state = checkpoint.load_checkpoint(path)
        if names is None:
            del state["frozen"]
        else:
            state["frozen"] = names
        checkpoint.save(path, state)
    done = within("resume", "run", "train.epochs=3")
    assert (done.returncode, "does not fit this run" in done.stderr) == (5, True), done.stderr


@pytest.mark.slow
def test_ranks_freeze_alike_and_resume_without_the_source(
    forks: ForkServer, source: Path, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        shutil.copytree(source, folder / "source")
    job = (*FROZEN, "hydra.run.dir=run", "device.sync_batchnorm=true")
    for done in run_ranks(forks, *job, folder=whole):
        assert done.returncode == 0, done.stderr
    run_ranks(forks, *job, folder=resumed, faults=[(int(signal.SIGINT), "step", 6)])
    shutil.rmtree(resumed / "source")
    for done in run_ranks(forks, "resume", "run", folder=resumed):
        assert done.returncode == 0, done.stderr
    assert find_differences(resumed / "run", whole / "run") == []
    last, best = load(whole / "run", "last.pt"), load(source, "best.pt")
    for name, value in best.items():
        assert torch.equal(last[name], value) == (name not in LAST_LAYER), name
