"""The sweeper of cnnbench as a plugin of Hydra, and other sweepers in its place."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL
from hydra.core.plugins import Plugins

from cnnbench.runs.reading import read_status
from cnnbench.runs.sweep import recorded_jobs

SEARCH = '''
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

class Search(Sweeper):
    """Try two rates, of which the second diverges, and record the results."""

    def setup(self, *, hydra_context, task_function, config):
        instantiate = Plugins.instance().instantiate_launcher
        self.launcher = instantiate(hydra_context, task_function, config)

    def sweep(self, arguments):
        jobs = [[*arguments, "optimizer.lr=0.01"], [*arguments, "optimizer.lr=1e30"]]
        finished, failed = self.launcher.launch(jobs, 0)
        try:
            failed.return_value
        except Exception as error:
            name, cause = type(error).__name__, error.__context__ or error.__cause__
        with open("values", "w") as file:
            print(finished.return_value, name, cause, file=file)
'''


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """Install another sweeper; return the words that choose it."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "search.py").write_text(SEARCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    Plugins.instance().register(importlib.import_module("hydra_plugins.search").Search)
    (tmp_path / "mine" / "hydra" / "sweeper").mkdir(parents=True)
    (tmp_path / "mine" / "hydra" / "sweeper" / "search.yaml").write_text(
        "_target_: hydra_plugins.search.Search\n"
    )
    yield ("--config-dir", "mine", "hydra/sweeper=search")
    del sys.modules["hydra_plugins.search"]


def test_another_sweeper_gets_the_value_or_the_error_of_a_job(
    search: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_in_process("-m", *SMALL, *search, "sweep=mine", folder=tmp_path)
    assert done.returncode == 4, done.stderr
    value, error, cause = (tmp_path / "values").read_text().split()
    (result,) = (tmp_path / "outputs" / "sweeps" / "mine").glob("*/result.json")
    best = json.loads(result.read_text())["best"]["validation_accuracy"]
    assert (float(value), error) == (best, "JobFailedError")
    assert cause == "None"  # a cause would keep the memory of its job
    assert done.stderr.count("The training loss became") == 1


@pytest.mark.parametrize("flag", [("--dry-run",), ("--jobs-file", "jobs")])
def test_flags_of_the_sweeper_are_refused_with_another(
    search: tuple[str, ...], tmp_path: Path, flag: tuple[str, ...]
) -> None:
    done = run_in_process("-m", *SMALL, *search, *flag, folder=tmp_path)
    assert (done.returncode, f"{flag[0]} needs the sweeper of cnnbench" in done.stderr) == (2, True)
    assert not (tmp_path / "outputs").exists()


def test_basic_sweeper_runs_every_job(tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "seed=0,1", "sweep=mine", "hydra/sweeper=basic")
    done = run_in_process(*sweep, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = list((tmp_path / "outputs" / "sweeps" / "mine").glob("*/result.json"))
    assert len(jobs) == 2
    assert not (tmp_path / "outputs" / "sweeps" / "mine" / "sweep.json").exists()
    again = run_in_process(*sweep, folder=tmp_path)
    assert again.stdout.count("is finished with a test accuracy of") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra/sweeper=nope"], "hydra/sweeper=nope is not known. Allowed: basic, cnnbench."),
        (["hydra/sweeper=ax"], "hydra/sweeper=ax is not installed: pip install hydra-ax-sweeper"),
        (["lr=0.1,0.2"], "There is no key 'lr'. Did you mean 'optimizer.lr'?"),
        (["model=glob(nothing*)"], "model=glob(nothing*) has no values"),
        (["seed=0", "hydra.sweep.subdir=a/b"], "hydra.sweep.subdir=a/b must name one folder"),
        (["seed=0,1", "hydra.sweep.subdir=same"], "Two jobs would share the directory same"),
        (
            ["seed=0,1", "hydra.job.config.override_dirname.exclude_keys=[seed]"],
            "Two jobs would share the directory",
        ),
    ],
)
def test_invalid_sweep_starts_no_job(
    cnnbench: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    done = cnnbench("-m", *SMALL, *words)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert "Launching" not in done.stdout
    assert not (tmp_path / "outputs").exists()


def test_errors_of_all_jobs_are_reported_before_the_first_begins(
    cnnbench: Command, tmp_path: Path
) -> None:
    done = cnnbench("-m", *SMALL, "optimizer.lr=0.1,-1", "seed=0,1,x")
    assert done.returncode == 2
    assert "optimizer.lr=-1 is out of range" in done.stderr
    assert "3 of 6 jobs, such as " in done.stderr
    assert "seed=x is not a whole number." in done.stderr
    assert done.stderr.endswith("No job was started.\n")
    assert not (tmp_path / "outputs").exists()


def test_images_too_small_for_one_network_are_reported_before_the_first_job_begins(
    cnnbench: Command, tmp_path: Path
) -> None:
    small = [word for word in SMALL if not word.startswith("model")]
    done = cnnbench("-m", *small, "model=lenet,alexnet", "data.resize=28")
    assert (done.returncode, "alexnet cannot take images of 28 pixels" in done.stderr) == (2, True)
    assert not (tmp_path / "outputs").exists()


def test_sweep_with_other_names_of_jobs_is_found_but_not_resumed(
    cnnbench: Command, tmp_path: Path
) -> None:
    words = (
        "seed=0,1",
        "sweep=mine",
        "hydra.job.config.override_dirname.exclude_keys=[sweep,data]",
    )
    assert cnnbench("-m", *SMALL, *words).returncode == 0
    sweep = tmp_path / "outputs" / "sweeps" / "mine"
    assert all((sweep / name).is_dir() for name in recorded_jobs(sweep))
    done = cnnbench("-m", *SMALL, *words)
    assert "2 of 2 jobs finished already." in done.stdout, done.stdout
    done = cnnbench("resume", "outputs/sweeps/mine")
    assert (done.returncode, "are not named by their overrides" in done.stderr) == (2, True), (
        done.stderr
    )


def test_sweeps_of_the_same_second_have_separate_folders(forks: ForkServer, tmp_path: Path) -> None:
    now = "sweep=${now:%Y}"  # like the default, but with a year in place of the second
    experiment = tmp_path / "experiment" / "mine.yaml"
    experiment.parent.mkdir()
    experiment.write_text(f"# @package _global_\n{now.replace('=', ': ')}\n")
    words = ("-m", "--config-dir", str(tmp_path), *SMALL, "experiment=mine", "seed=0,1")
    running = [forks.start(*words, folder=tmp_path) for _ in range(2)]
    for command in running:
        done = command.wait()
        assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), done
    first, second = sorted((tmp_path / "outputs" / "sweeps").iterdir())
    assert second.name == f"{first.name}_2"
    assert [len(recorded_jobs(sweep)) for sweep in (first, second)] == [2, 2]
    (resumed,) = {override for job in recorded_jobs(second).values() for override in job[-1:]}
    assert resumed == f"sweep='{second.name}'"


def test_sweep_may_be_outside_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    place = tmp_path / "outside"
    done = run_in_process("-m", *SMALL, f"hydra.sweep.dir={place}", folder=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    assert [read_status(place / name)["state"] for name in recorded_jobs(place)] == ["finished"]


def test_resume_with_changes_refuses_waiting_jobs(cnnbench: Command, tmp_path: Path) -> None:
    sweep = tmp_path / "outputs" / "sweeps" / "mine"
    assert cnnbench("-m", *SMALL, "sweep=mine", "seed=0").returncode == 0
    record = json.loads((sweep / "sweep.json").read_text())
    record["jobs"]["waiting"] = [*SMALL, "seed=1"]
    (sweep / "sweep.json").write_text(json.dumps(record))
    done = cnnbench("resume", "outputs/sweeps/mine", "train.epochs=3")
    assert (done.returncode, "1 of 2 jobs" in done.stderr) == (2, True), done.stderr
    assert "Begin them first: cnnbench resume outputs/sweeps/mine" in done.stderr


def test_another_sweeper_cannot_resume_a_sweep(cnnbench: Command, tmp_path: Path) -> None:
    assert cnnbench("-m", *SMALL, "sweep=mine", "seed=0").returncode == 0
    done = cnnbench("resume", "outputs/sweeps/mine", "hydra/sweeper=basic")
    assert (
        done.returncode,
        "hydra/sweeper cannot be changed in a run that is resumed." in done.stderr,
    ) == (2, True)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sweep=a,b", "sweep=a,b is not the name of a folder"),
        ("sweep=[x]", "sweep=[x] is not the name of a folder"),
        ("sweep=null", "sweep=null is not the name of a folder"),
        ("sweep=", "sweep= is not the name of a folder"),
        ("sweep=../up", "sweep=../up is not the name of a folder"),
        ("--jobs-file=", "The jobs file . cannot be read"),
    ],
)
def test_invalid_name_or_file_is_reported_as_typed(
    cnnbench: Command, word: str, message: str
) -> None:
    done = cnnbench("-m", *SMALL, "seed=0", word)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_time_in_the_names_of_jobs_is_recorded(cnnbench: Command, tmp_path: Path) -> None:
    exclude = "hydra.job.config.override_dirname.exclude_keys=[data]"
    assert cnnbench("-m", *SMALL, "seed=0", exclude).returncode == 0
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    (name,) = recorded_jobs(sweep)
    assert read_status(sweep / name)["state"] == "finished"
