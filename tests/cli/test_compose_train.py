"""`cnnbench train` through the installed command: what it prints, what it leaves, how it composes."""

import csv
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.command import TINY, Command, clean_environment, find_only_run, run_command
from helpers.fork_server import ForkServer
from helpers.image_folders import fill
from helpers.shortcuts import SHORTCUTS
from helpers.small_runs import SMALL
from omegaconf import OmegaConf

from cnnbench import config
from cnnbench.runs import machine
from cnnbench.trackers import curves
from cnnbench.training import checkpoint

TIMES = {"epoch_s", "examples_per_s", "peak_gib"}


def metrics(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv but for the columns that no two runs share."""
    with (run / "metrics.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key not in TIMES}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def smoke(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple["subprocess.CompletedProcess[str]", Path]:
    """The smoke run, once for all tests that look at it: the finished process and the run directory."""
    folder = tmp_path_factory.mktemp("smoke")
    done = run_command(["experiment=smoke"], folder)
    assert done.returncode == 0, done.stderr
    return done, find_only_run(folder)


Smoke = tuple["subprocess.CompletedProcess[str]", Path]


def test_the_run_directory_says_model_data_and_size(smoke: Smoke) -> None:
    assert smoke[1].parent.name == "lenet_relu-sample-28px"


def test_a_log_gets_one_line_per_epoch_and_no_progress_bar(smoke: Smoke) -> None:
    done, _ = smoke
    assert done.stderr == ""
    assert "\r" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if "/2 " in line] == ["1/2", "2/2"]


def test_the_end_says_accuracy_time_and_directory(smoke: Smoke) -> None:
    done, run = smoke
    accuracy, wall, directory = done.stdout.splitlines()[-3:]
    assert accuracy.startswith("Test accuracy 0.")
    assert "s in all: start" in wall
    assert directory == str(run.relative_to(run.parents[2]))


@pytest.mark.parametrize(
    "name",
    [".hydra/overrides.yaml", "config.yaml", "environment.json", "status.json", "metrics.csv", "result.json",
     "curves.png", "train.log", "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt"],
)  # fmt: skip
def test_the_run_directory_holds(smoke: Smoke, name: str) -> None:
    assert (smoke[1] / name).stat().st_size > 0


def test_no_temporary_file_is_left(smoke: Smoke) -> None:
    assert not list(smoke[1].rglob("*.tmp"))


def test_the_configuration_loads_back(smoke: Smoke) -> None:
    loaded = config.load(config.to_plain(OmegaConf.load(smoke[1] / "config.yaml")))
    assert (loaded.model.name, loaded.train.epochs, loaded.optimizer.lr) == ("lenet_relu", 2, 0.95)


def test_the_environment_says_device_precision_versions_and_split(smoke: Smoke) -> None:
    environment = json.loads((smoke[1] / "environment.json").read_text())
    assert (
        environment["torch"] == torch.__version__
        or environment["torch"] == torch.__version__.partition("+")[0]
    )
    assert environment["device"] == "cpu"
    assert environment["precision"] in ("fp32", "bf16")  # as the chip multiplies
    assert (environment["data"]["train"], environment["data"]["validation"]) == (1024, 500)
    assert "experiment=smoke" in environment["command"]


def test_threads_spin_briefly_and_that_is_recorded(smoke: Smoke) -> None:
    environment = json.loads((smoke[1] / "environment.json").read_text())
    assert environment["openmp"] == {"GOMP_SPINCOUNT": "20000"}


@pytest.mark.skipif(shutil.which("taskset") is None, reason="sets the affinity by taskset")
def test_threads_are_no_more_than_the_affinity_allows(tmp_path: Path) -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    environment = clean_environment(tmp_path) | {"OMP_WAIT_POLICY": "nonsense"}
    del environment["OMP_NUM_THREADS"]
    command = ["taskset", "--cpu-list", cpu, sys.executable, "-m", "cnnbench", *TINY]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # nor does libgomp say anything of the policy
    _, _, device, policy, *_ = done.stdout.splitlines()
    assert device.endswith(", 1 thread")
    assert policy == "OMP_WAIT_POLICY=nonsense is neither ACTIVE nor PASSIVE: it is ignored."


def test_more_threads_than_cpus_are_allowed_and_logged_once(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 1)
    done = within(*TINY, "device.threads=2")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("device.threads=2 is more than the CPUs that this process may use (1).\n")
        == 1
    )


@pytest.mark.parametrize("arguments", [SMALL, ("-m", *SMALL, "seed=0,1")], ids=["run", "sweep"])
def test_lines_of_other_libraries_stay_out_of_the_output(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def draw(*_: object) -> None:
        logging.getLogger("matplotlib.font_manager").warning(
            "Matplotlib is building the font cache"
        )
        logging.getLogger("another").info("generated something")

    monkeypatch.setitem(SHORTCUTS, (curves, "draw"), draw)
    done = within(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (log, *_) = (path.read_text() for path in tmp_path.rglob("train.log"))
    assert "Test accuracy" in log
    assert not re.search("font cache|generated something", done.stdout + log)


@pytest.mark.slow
def test_a_machine_without_matplotlibs_cache_of_fonts_prints_nothing_of_it(tmp_path: Path) -> None:
    commands = [
        (*TINY, "hydra.run.dir=run"),
        ("inspect", "run"),
        ("evaluate", "run"),
        ("report", "run"),
    ]
    for number, command in enumerate(commands):
        fonts = tmp_path / f"fonts{number}"
        done = run_command(command, tmp_path, {"MPLCONFIGDIR": str(fonts)})
        assert (done.returncode, done.stderr) == (0, "")
        assert "font" not in done.stdout.replace(str(fonts), "").lower()
    assert list((tmp_path / "fonts0").glob("fontlist*"))


def test_the_wall_time_is_split_into_parts_that_sum_up(smoke: Smoke) -> None:
    wall = json.loads((smoke[1] / "result.json").read_text())["wall_s"]
    total = wall.pop("total")
    assert set(wall) == {
        "start",
        "data",
        "preparation",
        "train",
        "evaluation",
        "records",
        "checkpoints",
    }
    assert sum(wall.values()) <= total


def test_the_status_is_finished(smoke: Smoke) -> None:
    assert json.loads((smoke[1] / "status.json").read_text())["state"] == "finished"


def test_the_test_accuracy_is_of_the_best_epoch_on_validation(smoke: Smoke) -> None:
    _, run = smoke
    result = json.loads((run / "result.json").read_text())
    best = max(metrics(run), key=lambda row: float(row["validation_accuracy"]))
    assert result["best"]["epoch"] == int(best["epoch"])
    assert checkpoint.load(run / "checkpoints" / "best.pt")["epoch"] == int(best["epoch"])


def test_the_result_has_what_the_network_costs(smoke: Smoke) -> None:
    result = json.loads((smoke[1] / "result.json").read_text())
    assert (result["model"], result["parameters"], result["multiply_adds"]) == (
        "lenet_relu",
        32_000,
        212_520,
    )


def test_the_log_file_repeats_the_terminal(smoke: Smoke) -> None:
    done, run = smoke
    logged = (run / "train.log").read_text()
    assert all(line in logged for line in done.stdout.splitlines())


def test_the_same_command_twice_gives_the_same_bits(
    smoke: Smoke, cnnbench: Command, tmp_path: Path
) -> None:
    assert cnnbench("experiment=smoke").returncode == 0
    again = find_only_run(tmp_path)
    assert metrics(again) == metrics(smoke[1])
    ours, theirs = (
        checkpoint.load(run / "checkpoints" / "last.pt")["model"] for run in (again, smoke[1])
    )
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_another_seed_gives_another_run(smoke: Smoke, cnnbench: Command, tmp_path: Path) -> None:
    assert cnnbench("experiment=smoke", "seed=1").returncode == 0
    assert metrics(find_only_run(tmp_path)) != metrics(smoke[1])


def test_without_validation_the_test_set_is_measured_each_epoch(
    cnnbench: Command, tmp_path: Path
) -> None:
    assert cnnbench(*TINY, "data.validation=0").returncode == 0
    run = find_only_run(tmp_path)
    rows = metrics(run)
    assert (
        float(rows[-1]["test_accuracy"])
        == json.loads((run / "result.json").read_text())["test_accuracy"]
    )
    assert not (run / "checkpoints" / "best.pt").exists()


def test_the_last_picture_has_the_test_accuracy_of_the_result(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setitem(SHORTCUTS, (curves, "draw"), lambda rows, title, file: titles.append(title))
    assert within(*SMALL, "hydra.run.dir=run", "train.tta=hflip").returncode == 0
    accuracy = json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"]
    title = "mlp on part of Fashion-MNIST, 28 px, TTA hflip"
    assert titles == [title, f"{title}: test accuracy {accuracy:.4f}"]


def test_a_sweep_makes_a_directory_for_each_combination(cnnbench: Command, tmp_path: Path) -> None:
    done = cnnbench(
        "-m",
        "optimizer.lr=0.1,0.5",
        "train.batch_size=64,256",
        *TINY,
        "train.epochs=2",
        "sweep=mine",
    )
    assert done.returncode == 0, done.stderr
    jobs = [
        path.parent.name
        for path in (tmp_path / "outputs" / "sweeps" / "mine").glob("*/result.json")
    ]
    assert len(jobs) == 4
    assert all("optimizer.lr=0." in job and "train.batch_size=" in job for job in jobs)


def test_a_failed_job_does_not_stop_a_sweep_and_gives_its_exit_code(
    cnnbench: Command, tmp_path: Path
) -> None:
    done = cnnbench("-m", "optimizer.lr=1e30,0.5", *TINY, "sweep=mine")
    assert done.returncode == 4
    assert "The training loss became" in done.stderr
    assert len(list((tmp_path / "outputs" / "sweeps" / "mine").glob("*/result.json"))) == 1


def test_a_network_and_a_group_of_ones_own(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(
        "from torch import nn\n"
        "class MyNet(nn.Sequential):\n"
        "    def __init__(self, in_channels, num_classes, image_size, width=8):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(in_channels * image_size**2, width), nn.ReLU(),\n"
        "                         nn.Linear(width, num_classes))\n"
    )
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    (tmp_path / "mine" / "optimizer" / "careful.yaml").write_text(
        "name: adam\nlr: 0.0005\nbetas: [0.9, 0.99]\neps: 1.0e-8\nweight_decay: 0.0\n"
    )
    arguments = [
        "model=simple_cnn",
        "model.name=my_module:MyNet",
        "+model.width=16",
        "--config-dir",
        "mine",
        "optimizer=careful",
    ]
    done = cnnbench(*TINY, *arguments)
    assert done.returncode == 0, done.stderr
    assert "12,730 parameters" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_as_interrupted(
    forks: ForkServer, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    running = forks.start(*TINY, "train.epochs=100000", folder=tmp_path)
    while running.is_running() and not list(tmp_path.rglob("metrics.csv")):
        time.sleep(0.01)
    running.send(number)
    done = running.wait()
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (
        json.loads((find_only_run(tmp_path) / "status.json").read_text())["state"] == "interrupted"
    )


@pytest.mark.slow
def test_five_runs_started_at_once_get_five_directories(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cnnbench", *TINY], cwd=tmp_path, env=clean_environment(tmp_path)
        )
        for _ in range(5)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0] * 5
    assert len(list(tmp_path.rglob("result.json"))) == 5


def test_cfg_job_prints_a_configuration_that_follows_the_recipe(cnnbench: Command) -> None:
    done = cnnbench("model=alexnet", "data.resize=96", "--cfg", "job", "--resolve")
    composed = OmegaConf.create(done.stdout)
    assert (composed.data.resize, composed.train.batch_size, composed.optimizer.lr) == (
        96,
        128,
        0.01,
    )


def test_version(cnnbench: Command) -> None:
    assert cnnbench("--version").stdout.startswith("cnnbench 0.")


def test_data_lists_what_is_here_and_what_is_not(cnnbench: Command) -> None:
    done = cnnbench("data")
    assert done.returncode == 0
    assert "sample: part of Fashion-MNIST, licence MIT" in done.stdout
    assert "mnist: MNIST, licence CC BY-SA 3.0" in done.stdout
    assert "not on this machine: train-images-idx3-ubyte" in done.stdout


CHDIR = "hydra.job.chdir=true"


def test_a_run_with_chdir_takes_and_prints_paths_as_typed(within: Command, tmp_path: Path) -> None:
    fill(tmp_path / "photos", {"Bag": 12, "Sandal": 12})
    data = ("data=folder", "data.path=photos", "data.image_size=8")
    small = [word for word in SMALL if not word.startswith("data")]
    done = within(*small, *data, CHDIR, "hydra.run.dir=run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "run" in done.stdout.splitlines()
    assert (tmp_path / "run" / "result.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "run"]


def test_interrupted_with_chdir_a_run_prints_how_to_resume(
    forks: ForkServer, tmp_path: Path
) -> None:
    faults = [(int(signal.SIGINT), "step", 3)]
    done = forks.run(*SMALL, CHDIR, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    hint = "To resume: cnnbench resume run\n"
    assert (done.returncode, hint in done.stderr) == (130, True), done.stderr


def test_a_sweep_with_chdir_is_stopped_by_a_job_that_fails(within: Command, tmp_path: Path) -> None:
    rates = ("optimizer.lr=1e30,0.01", "sweep_on_error=stop", "sweep=mine")
    done = within("-m", *SMALL, *rates, CHDIR)
    assert (done.returncode, "Not begun: the sweep was stopped." in done.stdout) == (4, True), done
    (again,) = re.findall(r"To resume from there: cnnbench (.*)", done.stderr)
    _, job, _ = shlex.split(again)
    assert (tmp_path / job / "status.json").exists()


OTHERS = "'.' already exists and is not an empty folder. Name another directory"


@pytest.mark.parametrize(
    "arguments",
    [("hydra.run.dir=.",), ("benchmark", "hydra.run.dir=."),
     ("-m", "seed=0,1", "hydra.sweep.dir=."),
     ("-m", "seed=0,1", "hydra.sweep.dir=.", "hydra/sweeper=basic"),
     ("benchmark", "-m", "seed=0,1", "hydra.sweep.dir=.")],
    ids=" ".join,
)  # fmt: skip
def test_a_folder_with_other_files_is_refused_and_left_alone(
    within: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "notes").touch()
    done = within(*arguments, *SMALL)
    assert (done.returncode, OTHERS in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_an_empty_folder_is_taken_for_a_run_or_a_sweep(within: Command, tmp_path: Path) -> None:
    for name in ("run", "sweep"):
        (tmp_path / name).mkdir()
    assert within(*SMALL, "hydra.run.dir=run").returncode == 0
    sweep = ("-m", *SMALL, "seed=0", "hydra.sweep.dir=sweep")
    assert within(*sweep).returncode == 0
    assert "1 of 1 job finished already." in within(*sweep).stdout
