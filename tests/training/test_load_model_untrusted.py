"""Untrusted run directories run no code, lead nowhere, and are refused without a traceback."""

import os
import signal
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import BETWEEN, SMALL, Runs, read_files, resume_refused, rewrite_checkpoint

from cnnbench.runs.directory import claim_exactly

COMMANDS = ["evaluate", "resume"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("group", "values", "arguments"),
    [
        ("data", {"root": "../outside"}, "data.root=../outside\n"),
        ("model", {"name": "os:system"}, "--allow-custom-model\n"),
        ("tracker", {"mlflow": {"uri": "http://h:9"}}, "tracker.mlflow.uri=http://h:9\n"),
        ("tracker", {"wandb": {"entity": "theirs"}}, "tracker.wandb.entity=theirs\n"),
    ],
    ids=["data", "network", "server", "account"],
)
def test_settings_outside_the_run_directory_need_confirmation(
    command: str, group: str, values: dict[str, object], arguments: str, last_chance_run: Path
) -> None:
    for name in ("last", "best"):
        path = last_chance_run / "checkpoints" / f"{name}.pt"
        rewrite_checkpoint(path, lambda state: state["config"][group].update(values))
    before = read_files(last_chance_run)
    done = run_in_process(command, "run", folder=last_chance_run.parent)
    hint = f"If you trust it: cnnbench {command} run {arguments}"
    assert (done.returncode, hint in done.stderr) == (2, True), done.stderr
    assert read_files(last_chance_run) == before


CUSTOM_MODEL = """
import os
from cnnbench.models.mlp import MLP
if os.environ.get("MARK"):
    open(os.environ["MARK"], "w").close()
class Net(MLP): pass
"""


@pytest.mark.parametrize("is_allowed", [False, True])
def test_custom_model_is_imported_only_with_its_flag(
    is_allowed: bool, forks: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "my.py").write_text(CUSTOM_MODEL)
    faults = [(int(signal.SIGINT), "step", 6)]
    job = (*SMALL, "model.name=my:Net", "hydra.run.dir=run")
    forks.run(*job, folder=tmp_path, faults=faults)
    flags = ["--allow-custom-model"] if is_allowed else []
    for command in COMMANDS:
        mark = tmp_path / command
        done = run_in_process(command, "run", *flags, folder=tmp_path, MARK=str(mark))
        assert mark.exists() == is_allowed, done
        assert done.returncode == (0 if is_allowed else 2), done


def test_folder_dataset_of_a_run_without_checkpoint_needs_confirmation(
    last_chance_run: Path,
) -> None:
    for path in (last_chance_run / "checkpoints").iterdir():
        path.unlink()
    text = (last_chance_run / "config.yaml").read_text().replace("name: sample", "name: folder")
    (last_chance_run / "config.yaml").write_text(text.replace("path: null", "path: /photos, mine"))
    done = run_in_process("resume", "run", folder=last_chance_run.parent)
    hint = "If you trust it: cnnbench resume run \"data.path='/photos, mine'\"\n"
    assert (done.returncode, hint in done.stderr) == (2, True), done.stderr


ALIASES = "a: &a [lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, name in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)
CONFIGS = {
    "aliases": ALIASES,
    "environment": "sweep: ${oc.env:SECRET}\n",
    "python tag": "sweep: !!python/object/apply:os.mkdir [evil]\n",
    "deep": "[" * 100_000,
    "deep lines": "".join(f"{' ' * depth}a:\n" for depth in range(1000)),
    "not YAML": "a: [",
    "not UTF-8": b"\xff\xfe",
    "a list": "[1, 2]",
    "100 MB": None,
}


@pytest.mark.parametrize("has_checkpoint", [True, False], ids=["checkpoint", ""])
@pytest.mark.parametrize("hostile", CONFIGS)
def test_hostile_configuration_is_ignored(
    hostile: str, has_checkpoint: bool, forks: ForkServer, runs: Runs, last_chance_run: Path
) -> None:
    content = CONFIGS[hostile]
    with (last_chance_run / "config.yaml").open("wb") as file:
        if content is None:
            file.truncate(100 << 20)
        else:
            file.write(content.encode() if isinstance(content, str) else content)
    if not has_checkpoint:
        (last_chance_run / "checkpoints" / "last.pt").unlink()
    running = forks.start("resume", "run", folder=last_chance_run.parent, SECRET="xyzzy")
    done = running.wait(timeout_s=60)
    assert not (last_chance_run.parent / "evil").exists()
    assert "xyzzy" not in done.stdout + done.stderr + repr(read_files(last_chance_run))
    assert done.returncode == (0 if has_checkpoint else 2), done
    assert ("config.yaml is damaged" in done.stdout) == has_checkpoint, done
    if has_checkpoint:
        assert find_differences(last_chance_run, runs.uninterrupted(BETWEEN)) == []


@pytest.mark.parametrize("name", ["checkpoints", "train.log", ".lock"])
@pytest.mark.parametrize("command", COMMANDS)
def test_link_out_of_the_run_is_refused_and_its_target_unchanged(
    command: str, name: str, last_chance_run: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (last_chance_run / name).rename(outside / "target")
    (last_chance_run / name).symlink_to(outside / "target")
    before = read_files(outside)
    done = run_in_process(command, "run", folder=tmp_path)
    assert (done.returncode, "leads out" in done.stderr) == (2, True), done.stderr
    assert read_files(outside) == before


def test_links_within_the_run_are_followed(runs: Runs, last_chance_run: Path) -> None:
    targets = {"checkpoints": "kept", "train.log": "log", "status.json": "status"}
    for name, target in targets.items():
        (last_chance_run / name).rename(last_chance_run / target)
        (last_chance_run / name).symlink_to(target)
    done = run_in_process("resume", "run", folder=last_chance_run.parent)
    assert done.returncode == 0, done.stderr
    assert find_differences(last_chance_run, runs.uninterrupted(BETWEEN)) == []


@pytest.mark.parametrize(
    "name", ["checkpoints/last.pt", "status.json", ".lock", "config.yaml", "train.log"]
)
@pytest.mark.parametrize("kind", ["fifo", "folder", "link to itself", "link to a folder"])
def test_fifos_folders_and_links_in_place_of_files_print_no_traceback(
    kind: str, name: str, forks: ForkServer, last_chance_run: Path
) -> None:
    path = last_chance_run / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "link to itself" else last_chance_run)
    done = forks.start("resume", "run", folder=last_chance_run.parent).wait(timeout_s=60)
    assert "Traceback" not in done.stderr, done.stderr
    if kind == "fifo":
        assert done.returncode == 2, done.stderr
        assert "neither a file nor a folder" in done.stderr


def test_benchmark_directory_is_refused(tmp_path: Path) -> None:
    benchmark = claim_exactly(tmp_path / "run", "benchmark")
    with benchmark.recorded_status():
        benchmark.write_json("benchmark.json", {})
    before = read_files(tmp_path / "run")
    for command in COMMANDS:
        done = run_in_process(command, "run", folder=tmp_path)
        message = "run is not a training run: cnnbench benchmark created it."
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert read_files(tmp_path / "run") == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["empty", "file", "nothing"])
def test_directory_that_is_not_a_run_is_refused(name: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    done = run_in_process(command, name, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Give a run or sweep directory" in done.stderr


def test_configuration_in_a_checkpoint_does_not_read_the_environment(
    forks: ForkServer, last_chance_run: Path
) -> None:
    secret = "${oc.env:SECRET}"
    rewrite_checkpoint(
        last_chance_run / "checkpoints" / "last.pt",
        lambda state: state["config"].update(sweep=secret),
    )
    code, output = resume_refused(forks, last_chance_run, SECRET="xyzzy")
    assert (code, "no checkpoint: it holds an interpolation" in output) == (5, True), output
    assert "xyzzy" not in output + repr(read_files(last_chance_run))
