"""Run directories made to harm: they run no code, lead nowhere, take no memory, and are refused in plain words."""

import io
import math
import os
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forking import ForkServer
from same_run import differences
from small_runs import SMALL, Runs, checkpoints, contents

from cnnbench.training import checkpoint

STATE = "in_second_epoch"
State = dict[str, Any]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    """A run to be gone on with, with no checkpoint to fall back on."""
    run = runs.copy(STATE, tmp_path / "run")
    (run / "checkpoints" / "previous.pt").unlink()
    return run


def refused(forks: ForkServer, run: Path, *changes: str, **environment: str) -> tuple[int, str]:
    """Resume, and see that it ends in plain words with the checkpoints as they were: the code and the words."""
    before = checkpoints(run)
    running = forks.start("resume", run.name, *changes, folder=run.parent, **environment)
    done = running.wait(timeout_s=60)
    assert "Traceback" not in done.stderr, done.stderr
    assert checkpoints(run) == before
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(
    name: str, forks: ForkServer, run: Path, tmp_path: Path
) -> None:
    path = run / "checkpoints" / name
    torch.save({**checkpoint.load(path), "format": checkpoint.FORMAT, "more": Evil(tmp_path / "evil")}, path)
    code, words = refused(forks, run)
    assert (code, (tmp_path / "evil").exists()) == (5, False), words


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(64 << 20))


def packed(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save({"content": content, "format": checkpoint.FORMAT, "sha256": ""}, path)


def pickled(content: bytes) -> Callable[[Path], None]:
    """An archive as PyTorch writes it, with a pickle of one's own."""

    def write(path: Path) -> None:
        torch.save({}, packed := io.BytesIO())
        with zipfile.ZipFile(packed) as theirs, zipfile.ZipFile(path, "w") as archive:
            for part in theirs.infolist():
                archive.writestr(part, content if part.filename.endswith("/data.pkl") else theirs.read(part))

    return write


def doubled(times: int) -> list[Any]:
    """A list of 2 ** `times` values that takes the memory of `times` lists."""
    values: list[Any] = [0]
    for _ in range(times):
        values = [values, values]
    return values


def endless() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


BOMBS = {
    "compressed": (compressed, "it is compressed"),
    "terabytes by a stride of 0": (packed(torch.zeros(1).expand(1 << 40)), "values are larger than the file"),
    "lists that are shared": (packed(doubled(60)), "values are larger than the file"),
    "a list that holds itself": (packed(endless()), "values are larger than the file"),
    "lists in lists": (pickled(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "last.pt is"),
    "a number of many digits": (packed(1 << 100_000), "last.pt is"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_checkpoint_that_grows_as_it_is_read_is_refused(bomb: str, forks: ForkServer, run: Path) -> None:
    write, told = BOMBS[bomb]
    write(run / "checkpoints" / "last.pt")
    code, words = refused(forks, run)
    assert (code, told in words) == (5, True), words


def row(**values: Any) -> Callable[[State], None]:
    return lambda state: state["rows"][-1].update(values)


def top(**values: Any) -> Callable[[State], None]:
    return lambda state: state.update(values)


def without(key: str) -> Callable[[State], None]:
    return lambda state: state.pop(key)


def measured_elsewhere(row: State) -> State:
    return {key.replace("validation", "test"): value for key, value in row.items()}


def reshape_momentum(state: State) -> None:
    state["optimizers"][0][0]["momentum_buffer"] = torch.zeros(3, 5)


def rename_momentum(state: State) -> None:
    state["optimizers"][0][0] = {"momentum": torch.zeros(3)}


ABSURD: dict[str, Callable[[State], None]] = {
    "step negative": top(step=-1),
    "step huge": top(step=10**30),
    "step beyond the epoch": top(step=5),
    "step not that of the examples": top(step=3),
    "step in words": top(step="two"),
    "step NaN": top(step=math.nan),
    "step is a list": top(step=[1]),
    "examples negative": top(examples=-16),
    "examples huge": top(examples=10**30),
    "rows no list": top(rows=7),
    "rows of no dict": top(rows=[7]),
    "rows empty dict": top(rows=[{}]),
    "rows missing": without("rows"),
    "rows from 2 on": row(epoch=2),
    "rows epoch NaN": row(epoch=math.nan),
    "rows loss in words": row(train_loss="low"),
    "rows loss missing": lambda state: state["rows"][-1].pop("train_loss"),
    "rows other columns": row(evil=1.0),
    "rows of the test set": lambda state: state["rows"].__setitem__(0, measured_elsewhere(state["rows"][0])),
    "rows accuracy NaN": row(validation_accuracy=math.nan),
    "train_s negative": top(train_s=-1e9),
    "train_s NaN": top(train_s=math.nan),
    "wall_s in words": top(wall_s={"train": "long"}),
    "wall_s negative": top(wall_s={"train": -1e9}),
    "wall_s endless": top(wall_s={"train": math.inf}),
    "config missing": without("config"),
    "config a list": top(config=[1]),
    "config empty": top(config={}),
    "model missing": without("model"),
    "model of another shape": lambda state: state["model"].update({next(iter(state["model"])): torch.zeros(3)}),
    "model no tensors": lambda state: state.update(model=dict.fromkeys(state["model"], 1)),
    "sums of another shape": top(sums=torch.zeros(7)),
    "momentum of another shape": reshape_momentum,
    "momentum by another name": rename_momentum,
    "generator too short": lambda state: state["generators"].update(cpu=torch.zeros(3, dtype=torch.uint8)),
}


def forge(path: Path, change: Callable[[State], Any]) -> None:
    """Change a checkpoint, and give it the checksum of what it now holds."""
    state = checkpoint.load(path)
    change(state)
    checkpoint.save(path, state)


@pytest.mark.parametrize("absurd", ABSURD)
def test_a_checkpoint_with_a_checksum_and_absurd_values_is_refused(absurd: str, forks: ForkServer, run: Path) -> None:
    forge(run / "checkpoints" / "last.pt", ABSURD[absurd])
    code, words = refused(forks, run, "train.epochs=3")
    assert code == (2 if absurd == "config empty" else 5), words


ABSURD_BEST: dict[str, Callable[[State], Any]] = {
    "row missing": without("row"),
    "row in words": top(row="best"),
    "accuracy in words": lambda state: state["row"].update(validation_accuracy="high"),
    "accuracy NaN": lambda state: state["row"].update(validation_accuracy=math.nan),
    "model of another shape": ABSURD["model of another shape"],
    "model missing": without("model"),
}


@pytest.mark.parametrize("absurd", ABSURD_BEST)
def test_a_best_checkpoint_with_a_checksum_and_absurd_values_is_refused(
    absurd: str, forks: ForkServer, run: Path
) -> None:
    forge(run / "checkpoints" / "best.pt", ABSURD_BEST[absurd])
    code, words = refused(forks, run)
    assert code == 5, words


def configured(run: Path, group: str, **values: Any) -> None:
    """Change the configuration in the checkpoint and in config.yaml."""
    forge(run / "checkpoints" / "last.pt", lambda state: state["config"][group].update(values))
    path = run / "config.yaml"
    for key, value in values.items():
        lines = path.read_text().splitlines()
        index = lines.index(f"{group}:") + 1
        index += next(i for i, line in enumerate(lines[index:]) if line.startswith(f"  {key}:"))
        path.write_text("\n".join([*lines[:index], f"  {key}: {value}", *lines[index + 1 :]]))


def test_data_outside_are_used_with_consent_alone(forks: ForkServer, run: Path) -> None:
    configured(run, "data", root="../../outside")
    code, words = refused(forks, run)
    assert (code, "data.root=../../outside" in words) == (2, True), words


def test_a_function_of_the_system_is_no_network(forks: ForkServer, run: Path) -> None:
    configured(run, "model", name="os:system")
    code, words = refused(forks, run)
    assert (code, "--allow-custom-model" in words) == (2, True), words


NETWORK = """
import os
from cnnbench.models.mlp import MLP
if os.environ.get("MARK"):
    open(os.environ["MARK"], "w").close()
class Net(MLP): pass
"""


@pytest.mark.parametrize("allowed", [False, True])
def test_a_network_of_ones_own_is_imported_with_consent_alone(
    allowed: bool, forks: ForkServer, runs: Runs, tmp_path: Path
) -> None:
    (tmp_path / "my.py").write_text(NETWORK)
    strikes = [(int(signal.SIGINT), "step", 6)]
    forks.run(*SMALL, "model.name=my:Net", "hydra.run.dir=run", folder=tmp_path, strikes=strikes)
    flags = ["--allow-custom-model"] if allowed else []
    done = forks.run("resume", "run", *flags, folder=tmp_path, MARK=str(tmp_path / "mark"))
    assert (done.returncode, (tmp_path / "mark").exists()) == ((0, True) if allowed else (2, False)), done.stderr


LAUGHS = "a: &a [lol, lol]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)
CONFIGS = {
    "aliases": LAUGHS,
    "environment": "sweep: ${oc.env:SECRET}\n",
    "python tag": "sweep: !!python/object/apply:os.mkdir [evil]\n",
    "deep": "[" * 100_000,
    "deep lines": "".join(f"{' ' * depth}a:\n" for depth in range(1000)),
    "no YAML": "a: [",
    "no UTF-8": b"\xff\xfe",
    "a list": "[1, 2]",
    "empty": "",
    "100 MB": None,
}


@pytest.mark.parametrize("with_checkpoint", [True, False], ids=["checkpoint", ""])
@pytest.mark.parametrize("hostile", CONFIGS)
def test_a_hostile_configuration_counts_for_nothing(
    hostile: str, with_checkpoint: bool, forks: ForkServer, runs: Runs, run: Path
) -> None:
    content = CONFIGS[hostile]
    with (run / "config.yaml").open("wb") as file:
        if content is None:
            file.truncate(100 << 20)
        else:
            file.write(content.encode() if isinstance(content, str) else content)
    if not with_checkpoint:
        (run / "checkpoints" / "last.pt").unlink()
    running = forks.start("resume", "run", folder=run.parent, SECRET="xyzzy")
    done = running.wait(timeout_s=60)
    assert not (run.parent / "evil").exists()
    assert "xyzzy" not in done.stdout + done.stderr + repr(contents(run))
    assert (done.returncode, "config.yaml is" in done.stdout) == ((0, True) if with_checkpoint else (2, False)), done
    assert not with_checkpoint or differences(run, runs.uninterrupted(STATE)) == []


def test_the_configuration_in_a_checkpoint_does_not_look_into_the_environment(forks: ForkServer, run: Path) -> None:
    forge(run / "checkpoints" / "last.pt", lambda state: state["config"].update(sweep="${oc.env:SECRET}"))
    _, words = refused(forks, run, SECRET="xyzzy")
    assert "xyzzy" not in words + repr(contents(run))


@pytest.mark.parametrize(
    "name", ["checkpoints", "checkpoints/last.pt", "train.log", "status.json", ".lock", "config.yaml", "metrics.csv"]
)
def test_a_link_that_leads_out_is_refused_and_what_is_there_unharmed(
    name: str, forks: ForkServer, run: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / name).rename(outside / "it")
    (run / name).symlink_to(outside / "it")
    before = contents(outside)
    code, words = refused(forks, run)
    assert (code, "leads out" in words, contents(outside) == before) == (2, True, True), words


def test_a_link_to_what_is_not_there_yet_creates_nothing(forks: ForkServer, run: Path, tmp_path: Path) -> None:
    (run / "train.log").unlink()
    (run / "train.log").symlink_to("../new")
    code, words = refused(forks, run)
    assert (code, (tmp_path / "new").exists()) == (2, False), words


def test_a_job_of_a_sweep_that_is_a_link_out_of_it_is_left_alone(forks: ForkServer, runs: Runs, tmp_path: Path) -> None:
    outside = runs.copy(STATE, tmp_path / "outside")
    before = contents(outside)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "job").symlink_to(outside)
    done = forks.run("resume", "sweep", folder=tmp_path)
    assert (done.returncode, contents(outside) == before) == (2, True), done.stderr


def test_links_within_the_directory_are_followed(forks: ForkServer, runs: Runs, run: Path) -> None:
    for name, kept in (("checkpoints", "kept"), ("train.log", "log"), ("status.json", "status")):
        (run / name).rename(run / kept)
        (run / name).symlink_to(kept)
    done = forks.run("resume", "run", folder=run.parent)
    assert done.returncode == 0, done.stderr
    assert differences(run, runs.uninterrupted(STATE)) == []


@pytest.mark.parametrize("name", ["train.log", ".lock", "checkpoints/last.pt", "config.yaml"])
@pytest.mark.parametrize("target", ["itself", "the directory", "a file"])
def test_odd_links_within_the_directory_end_in_plain_words(
    name: str, target: str, forks: ForkServer, run: Path
) -> None:
    path = run / name
    path.unlink()
    path.symlink_to({"itself": path, "the directory": run, "a file": run / "metrics.csv"}[target])
    done = forks.run("resume", "run", folder=run.parent)
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "status.json", ".lock", "config.yaml", "train.log"])
def test_a_pipe_is_refused_without_waiting_for_its_other_end(name: str, forks: ForkServer, run: Path) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    running = forks.start("resume", "run", folder=run.parent)
    done = running.wait(timeout_s=60)
    assert (done.returncode, "neither a file nor a folder" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "status.json", ".lock", "config.yaml", "train.log"])
def test_a_folder_in_the_place_of_a_file_ends_in_plain_words(name: str, forks: ForkServer, run: Path) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    done = forks.run("resume", "run", folder=run.parent)
    assert "Traceback" not in done.stderr, done.stderr


def test_a_directory_of_a_benchmark_is_no_training_run(forks: ForkServer, tmp_path: Path) -> None:
    options = ("--rounds", "1", "--epoch-limit", "0", "hydra.run.dir=run")
    small = [each for each in SMALL if "epoch" not in each and "checkpoint" not in each]
    forks.run("benchmark", *small, *options, folder=tmp_path)
    before = contents(tmp_path / "run")
    done = forks.run("resume", "run", folder=tmp_path)
    assert (done.returncode, "benchmark" in done.stderr) == (2, True), done.stderr
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("name", ["empty", "file", "nothing"])
def test_what_is_no_run_directory_is_refused(name: str, forks: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    done = forks.run("resume", name, folder=tmp_path)
    assert (done.returncode, "Give a run or sweep directory" in done.stderr) == (2, True), done.stderr
