"""Untrusted run directories: they run no code, lead nowhere, and are refused in plain words."""

import os
import signal
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import BETWEEN, SMALL, Runs, read_files, resume_refused, rewrite_checkpoint

from cnnbench.runs.directory import claim_exactly

COMMANDS = ["resume", "evaluate"]


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    return runs.last_chance(tmp_path / "run")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("group", "values", "told"),
    [
        ("data", {"root": "../outside"}, "data.root=../outside\n"),
        ("model", {"name": "os:system"}, "--allow-custom-model\n"),
        ("tracker", {"mlflow": {"uri": "http://h:9"}}, "tracker.mlflow.uri=http://h:9\n"),
        ("tracker", {"wandb": {"entity": "theirs"}}, "tracker.wandb.entity=theirs\n"),
    ],
    ids=["data", "network", "server", "account"],
)
def test_a_run_reaches_outside_its_directory_with_consent_alone(
    command: str, group: str, values: dict[str, object], told: str, run: Path
) -> None:
    for name in ("last", "best"):
        path = run / "checkpoints" / f"{name}.pt"
        rewrite_checkpoint(path, lambda state: state["config"][group].update(values))
    before = read_files(run)
    done = run_in_process(command, "run", folder=run.parent)
    again = f"If you trust it: cnnbench {command} run {told}"
    assert (done.returncode, again in done.stderr) == (2, True), done.stderr
    assert read_files(run) == before


NETWORK = """
import os
from cnnbench.models.mlp import MLP
if os.environ.get("MARK"):
    open(os.environ["MARK"], "w").close()
class Net(MLP): pass
"""


@pytest.mark.parametrize("allowed", [False, True])
def test_a_custom_model_is_imported_with_consent_alone(
    allowed: bool, forks: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "my.py").write_text(NETWORK)
    faults = [(int(signal.SIGINT), "step", 6)]
    words = (*SMALL, "model.name=my:Net", "hydra.run.dir=run")
    forks.run(*words, folder=tmp_path, faults=faults)
    flags = ["--allow-custom-model"] if allowed else []
    for command in ("evaluate", "resume"):
        mark = tmp_path / command
        done = run_in_process(command, "run", *flags, folder=tmp_path, MARK=str(mark))
        assert (done.returncode, mark.exists()) == ((0, True) if allowed else (2, False)), done


def test_images_elsewhere_are_read_without_a_checkpoint_with_consent_alone(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    text = (run / "config.yaml").read_text().replace("name: sample", "name: folder")
    (run / "config.yaml").write_text(text.replace("path: null", "path: /photos, mine"))
    done = run_in_process("resume", "run", folder=run.parent)
    again = "cnnbench resume run \"data.path='/photos, mine'\"\n"
    assert (done.returncode, f"If you trust it: {again}" in done.stderr) == (2, True), done.stderr


LAUGHS = "a: &a [lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
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
    assert "xyzzy" not in done.stdout + done.stderr + repr(read_files(run))
    expected = (0, True) if with_checkpoint else (2, False)
    assert (done.returncode, "config.yaml is damaged" in done.stdout) == expected, done
    assert not with_checkpoint or find_differences(run, runs.uninterrupted(BETWEEN)) == []


@pytest.mark.parametrize("name", ["checkpoints", "train.log", ".lock"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_that_leads_out_is_refused_and_its_target_unharmed(
    command: str, name: str, run: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / name).rename(outside / "it")
    (run / name).symlink_to(outside / "it")
    before = read_files(outside)
    done = run_in_process(command, "run", folder=tmp_path)
    assert (done.returncode, "leads out" in done.stderr) == (2, True), done.stderr
    assert read_files(outside) == before


def test_links_within_the_directory_are_followed(runs: Runs, run: Path) -> None:
    for name, kept in (("checkpoints", "kept"), ("train.log", "log"), ("status.json", "status")):
        (run / name).rename(run / kept)
        (run / name).symlink_to(kept)
    done = run_in_process("resume", "run", folder=run.parent)
    assert done.returncode == 0, done.stderr
    assert find_differences(run, runs.uninterrupted(BETWEEN)) == []


@pytest.mark.parametrize(
    "name", ["checkpoints/last.pt", "status.json", ".lock", "config.yaml", "train.log"]
)
@pytest.mark.parametrize("odd", ["a pipe", "a folder", "a link to itself", "a link to a folder"])
def test_no_file_in_the_place_of_one_ends_in_plain_words(
    odd: str, name: str, forks: ForkServer, run: Path
) -> None:
    path = run / name
    path.unlink()
    if odd == "a pipe":
        os.mkfifo(path)
    elif odd == "a folder":
        path.mkdir()
    else:
        path.symlink_to(path if odd == "a link to itself" else run)
    done = forks.start("resume", "run", folder=run.parent).wait(timeout_s=60)
    assert "Traceback" not in done.stderr, done.stderr
    if odd == "a pipe":
        words = "neither a file nor a folder"
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_a_directory_of_a_benchmark_is_no_training_run(tmp_path: Path) -> None:
    benchmark = claim_exactly(tmp_path / "run", "benchmark")
    with benchmark.recorded_status():
        benchmark.write_json("benchmark.json", {})
    before = read_files(tmp_path / "run")
    for command in COMMANDS:
        done = run_in_process(command, "run", folder=tmp_path)
        told = "run is not a training run: cnnbench benchmark created it."
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert read_files(tmp_path / "run") == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["empty", "file", "nothing"])
def test_no_run_directory_is_refused(name: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    done = run_in_process(command, name, folder=tmp_path)
    told = "Give a run or sweep directory"
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_the_configuration_in_a_checkpoint_does_not_look_into_the_environment(
    forks: ForkServer, run: Path
) -> None:
    secret = "${oc.env:SECRET}"
    rewrite_checkpoint(
        run / "checkpoints" / "last.pt", lambda state: state["config"].update(sweep=secret)
    )
    code, words = resume_refused(forks, run, SECRET="xyzzy")
    assert (code, "no checkpoint: it holds an interpolation" in words) == (5, True), words
    assert "xyzzy" not in words + repr(read_files(run))
