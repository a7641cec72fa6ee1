"""Run directories made to harm: they run no code, lead nowhere, and are refused in plain words."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from in_process import run_in_process
from same_run import differences
from small_runs import BETWEEN, SMALL, Runs, contents, forge, refused

from cnnbench.runs.directory import claim_exactly


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    return runs.last_chance(tmp_path / "run")


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


@pytest.mark.parametrize(
    ("tracker", "key", "value"), [("mlflow", "uri", "http://127.0.0.1:9"), ("wandb", "entity", "theirs")]
)
def test_a_server_is_told_of_the_run_with_consent_alone(
    tracker: str, key: str, value: str, forks: ForkServer, run: Path
) -> None:
    forge(run / "checkpoints" / "last.pt", lambda state: state["config"].update(tracker={tracker: {key: value}}))
    code, words = refused(forks, run)
    assert (code, f"cnnbench resume run tracker.{tracker}.{key}={value}\n" in words) == (2, True), words
    assert "tracker=none" in words


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
    done = run_in_process("resume", "run", *flags, folder=tmp_path, MARK=str(tmp_path / "mark"))
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
    assert not with_checkpoint or differences(run, runs.uninterrupted(BETWEEN)) == []


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


def test_a_job_of_a_sweep_that_is_a_link_out_of_it_is_left_alone(runs: Runs, tmp_path: Path) -> None:
    outside = runs.copy(BETWEEN, tmp_path / "outside")
    before = contents(outside)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "job").symlink_to(outside)
    done = run_in_process("resume", "sweep", folder=tmp_path)
    assert (done.returncode, contents(outside) == before) == (2, True), done.stderr


def test_links_within_the_directory_are_followed(runs: Runs, run: Path) -> None:
    for name, kept in (("checkpoints", "kept"), ("train.log", "log"), ("status.json", "status")):
        (run / name).rename(run / kept)
        (run / name).symlink_to(kept)
    done = run_in_process("resume", "run", folder=run.parent)
    assert done.returncode == 0, done.stderr
    assert differences(run, runs.uninterrupted(BETWEEN)) == []


@pytest.mark.parametrize("name", ["train.log", ".lock", "checkpoints/last.pt", "config.yaml"])
@pytest.mark.parametrize("target", ["itself", "the directory", "a file"])
def test_odd_links_within_the_directory_end_in_plain_words(name: str, target: str, run: Path) -> None:
    path = run / name
    path.unlink()
    path.symlink_to({"itself": path, "the directory": run, "a file": run / "metrics.csv"}[target])
    done = run_in_process("resume", "run", folder=run.parent)
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "status.json", ".lock", "config.yaml", "train.log"])
def test_a_pipe_is_refused_without_waiting_for_its_other_end(name: str, forks: ForkServer, run: Path) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    running = forks.start("resume", "run", folder=run.parent)
    done = running.wait(timeout_s=60)
    assert (done.returncode, "neither a file nor a folder" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "status.json", ".lock", "config.yaml", "train.log"])
def test_a_folder_in_the_place_of_a_file_ends_in_plain_words(name: str, run: Path) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    done = run_in_process("resume", "run", folder=run.parent)
    assert "Traceback" not in done.stderr, done.stderr


def test_a_directory_of_a_benchmark_is_no_training_run(tmp_path: Path) -> None:
    benchmark = claim_exactly(tmp_path / "run", "benchmark")
    with benchmark.recorded_status():
        benchmark.write_json("benchmark.json", {})
    before = contents(tmp_path / "run")
    done = run_in_process("resume", "run", folder=tmp_path)
    assert (done.returncode, "benchmark" in done.stderr) == (2, True), done.stderr
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("name", ["empty", "file", "nothing"])
def test_what_is_no_run_directory_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    done = run_in_process("resume", name, folder=tmp_path)
    assert (done.returncode, "Give a run or sweep directory" in done.stderr) == (2, True), done.stderr
