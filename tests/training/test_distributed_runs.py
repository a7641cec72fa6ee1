"""One run over several processes: the numbers, the files, the interruptions and the checkpoints of one process."""

import csv
import json
import signal
import sys
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.two_process_runs import Done, run_ranks

from cnnbench.cli.hydra_app import HydraJob, run_hydra_app
from cnnbench.training import checkpoint

# The last batch has 1 example (of 101 in batches of 20), so that the second process has no share in it.
JOB = (
    *(
        "model=lenet_relu",
        "data=sample",
        "data.train_examples=101",
        "data.validation=30",
        "data.test_examples=31",
    ),
    *(
        "train.batch_size=20",
        "train.epochs=2",
        "optimizer=momentum",
        "optimizer.lr=0.02",
        "device=cpu",
    ),
    *("device.precision=fp32", "hydra.run.dir=run"),
)
# A network with a dropout of its own in every process, augmentation, an average and a smaller last batch.
RANDOM = (
    *(
        "model=densenet40",
        "model.depth=7",
        "model.growth_rate=4",
        "model.dropout=0.3",
        "augment=hflip_translate",
    ),
    *(
        "train.ema_decay=0.5",
        "data=sample",
        "data.train_examples=22",
        "data.validation=10",
        "data.test_examples=10",
        "train.batch_size=8",
    ),
    *(
        "train.epochs=2",
        "optimizer=momentum",
        "optimizer.lr=0.01",
        "device=cpu",
        "device.precision=fp32",
    ),
    "hydra.run.dir=run",
)
SYNCHRONISED = (
    *(
        "model=bn_lenet",
        "data.train_examples=102",
        "train.grad_clip_norm=1",
        "train.l1=1e-5",
        "device.sync_batchnorm=true",
    ),
    "optimizer.lr=0.01",
)


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def metrics(run: Path) -> dict[str, float]:
    """All losses and accuracies of a run, by name and epoch."""
    result = json.loads((run / "result.json").read_text())
    columns = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    by_epoch = {f"{key} {row['epoch']:g}": row[key] for row in rows(run) for key in columns}
    return {**by_epoch, **{key: result[key] for key in ("test_loss", "test_accuracy")}}


def succeeded(done: list[Done]) -> None:
    assert [each.returncode for each in done] == [0] * len(done), [each.stderr for each in done]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def alone(forks: ForkServer, folder: Path) -> Path:
    """The run of one process."""
    (folder / "alone").mkdir()
    succeeded([forks.run(*JOB, folder=folder / "alone")])
    return folder / "alone" / "run"


@pytest.fixture(scope="module")
def pair(forks: ForkServer, folder: Path) -> tuple[list[Done], Path]:
    """What each of two processes said, and their run."""
    done = run_ranks(forks, *JOB, folder=folder / "pair")
    succeeded(done)
    return done, folder / "pair" / "run"


@pytest.fixture(scope="module")
def random_pair(forks: ForkServer, folder: Path) -> Path:
    """A run of two processes with dropout and augmentation, which nothing interrupts."""
    succeeded(run_ranks(forks, *RANDOM, folder=folder / "random"))
    return folder / "random" / "run"


def test_two_processes_have_the_metrics_of_one(alone: Path, pair: tuple[list[Done], Path]) -> None:
    assert metrics(pair[1]) == pytest.approx(metrics(alone), rel=1e-4)


@pytest.mark.slow
def test_three_processes_have_the_metrics_of_one(
    forks: ForkServer, tmp_path: Path, alone: Path
) -> None:
    succeeded(run_ranks(forks, *JOB, folder=tmp_path, processes=3))
    assert metrics(tmp_path / "run") == pytest.approx(metrics(alone), rel=1e-4)


def test_only_the_first_process_speaks(pair: tuple[list[Done], Path]) -> None:
    first, second = pair[0]
    assert first.stdout.count("Test accuracy") == 1
    assert second.stdout + second.stderr == ""


def test_only_one_run_directory_is_made_with_the_files_of_any_run(
    alone: Path, pair: tuple[list[Done], Path]
) -> None:
    def names(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    assert names(pair[1].parent) == names(alone.parent)


def test_the_records_say_how_many_processes_there_were(pair: tuple[list[Done], Path]) -> None:
    environment = json.loads((pair[1] / "environment.json").read_text())
    assert (environment["world_size"], environment["backend"]) == (2, "gloo")
    assert json.loads((pair[1] / "result.json").read_text())["world_size"] == 2
    assert "2 processes (gloo)" in pair[0][0].stdout


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_with_sync_batchnorm_the_metrics_are_those_of_one_process(
    forks: ForkServer, tmp_path: Path, processes: int
) -> None:
    (tmp_path / "alone").mkdir()
    succeeded([forks.run(*JOB, *SYNCHRONISED, folder=tmp_path / "alone")])
    succeeded(
        run_ranks(forks, *JOB, *SYNCHRONISED, folder=tmp_path / "several", processes=processes)
    )
    assert metrics(tmp_path / "several" / "run") == pytest.approx(
        metrics(tmp_path / "alone" / "run"), rel=1e-4
    )


@pytest.mark.parametrize(
    ("faulty_rank", "number", "moment", "code"),
    [
        pytest.param(1, signal.SIGTERM, ("step", 4), 143, id="second"),
        pytest.param(0, signal.SIGINT, ("step", 4), 130, id="first", marks=pytest.mark.slow),
        pytest.param(
            1, signal.SIGINT, ("save", 1), 130, id="second_while_saving", marks=pytest.mark.slow
        ),
        pytest.param(
            1,
            signal.SIGINT,
            ("evaluation", 2),
            130,
            id="second_in_evaluation",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_signal_to_any_process_stops_all_and_the_run_goes_on_to_the_same_bits(
    forks: ForkServer,
    tmp_path: Path,
    random_pair: Path,
    faulty_rank: int,
    number: int,
    moment: tuple[str, int],
    code: int,
) -> None:
    faults = [(int(number), *moment)]
    first, second = run_ranks(
        forks, *RANDOM, folder=tmp_path, faults=faults, faulty_rank=faulty_rank
    )
    assert (first.returncode, second.returncode) == (code, 0), first.stderr + second.stderr
    assert "To resume: " in first.stderr
    succeeded(run_ranks(forks, "resume", "run", folder=tmp_path))
    assert find_differences(tmp_path / "run", random_pair) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 1), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, 2), (2, 3)))],
)
def test_checkpoints_go_on_with_another_number_of_processes(
    forks: ForkServer, tmp_path: Path, alone: Path, before: int, after: int
) -> None:
    def command(processes: int, *arguments: str) -> list[Done]:
        if processes == 1:
            return [forks.run(*arguments, folder=tmp_path, faults=faults)]
        return run_ranks(forks, *arguments, folder=tmp_path, processes=processes, faults=faults)

    faults = [(int(signal.SIGINT), "step", 8)]
    assert command(before, *JOB)[0].returncode == 130
    faults = []
    succeeded(command(after, "resume", "run"))
    assert metrics(tmp_path / "run") == pytest.approx(metrics(alone), rel=1e-4)


def test_processes_without_a_generator_to_go_on_with_get_one_of_their_own(
    forks: ForkServer, tmp_path: Path, random_pair: Path
) -> None:
    last = checkpoint.load(random_pair / "checkpoints" / "last.pt")
    generators = [part["generators"]["cpu"].tolist() for part in last["processes"]]
    assert generators[0] == last["generators"]["cpu"].tolist() != generators[1]


@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_ends_the_run_with_the_last_good_checkpoint(
    forks: ForkServer, tmp_path: Path, random_pair: Path, killed: int
) -> None:
    faults = [(int(signal.SIGKILL), "step", 5)]
    job = [word for word in RANDOM if not word.startswith("hydra.run.dir")]
    launch = {"folder": tmp_path, "TORCHELASTIC_RUN_ID": "launch"}
    done = run_ranks(forks, *job, faults=faults, faulty_rank=killed, **launch)
    (run,) = (status.parent for status in tmp_path.glob("outputs/*/*/status.json"))
    assert done[killed].returncode == -signal.SIGKILL
    assert "Traceback" not in done[1].stderr
    if killed == 1:
        assert done[0].returncode == 143
        assert done[0].stderr.startswith(
            "cnnbench: Another process of this run ended, or cannot be reached: "
        )
        assert "Traceback" not in done[0].stderr
        assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    assert checkpoint.load(run / "checkpoints" / "last.pt")["step"] == 0
    again = (
        ["resume", str(run)] if killed == 0 else job
    )  # which torchrun starts again, and which resumes by itself
    succeeded(run_ranks(forks, *again, **launch, TORCHELASTIC_RESTART_COUNT=str(killed)))
    assert json.loads((run / "environment.json").read_text())["continued"][0]["epoch"] == 1
    assert find_differences(run, random_pair) == []


@pytest.mark.slow
def test_a_sweep_trains_all_its_jobs_with_the_same_processes(
    forks: ForkServer, tmp_path: Path, alone: Path
) -> None:
    job = [each for each in JOB if not each.startswith("hydra.run.dir")]
    succeeded(run_ranks(forks, "-m", *job, "seed=0,1", "sweep=s", folder=tmp_path))
    first, second = sorted((tmp_path / "outputs" / "sweeps" / "s").glob("*seed*"))
    assert metrics(first) == pytest.approx(metrics(alone), rel=1e-4)
    assert json.loads((second / "result.json").read_text())["world_size"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("sweeper", ["cnnbench", "basic"])
def test_a_sweep_goes_on_after_a_job_whose_training_diverged(
    forks: ForkServer, tmp_path: Path, sweeper: str
) -> None:
    job = [each for each in JOB if not each.startswith(("hydra.run.dir", "optimizer.lr"))]
    job += ["optimizer.lr=1e30,0.02", "sweep=s", f"hydra/sweeper={sweeper}"]
    first, second = run_ranks(forks, "-m", *job, folder=tmp_path)
    assert (first.returncode, second.returncode) == (4, 0), first.stderr + second.stderr
    assert len(list((tmp_path / "outputs" / "sweeps" / "s").glob("*lr=0.02*/result.json"))) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.batch_size=1", "has no example for each of 2 processes"),
        ("model=bn_lenet", "cannot train on a batch of 1"),
        ("device.cuda_graphs=true", "device.cuda_graphs=true is for one process"),
        ("train.epochs=0", "train.epochs=0 is out of range"),
        ("hydra/launcher=joblib", "leave hydra/launcher out"),
        ("hydra/sweeper=optuna", "cannot search under torchrun"),
    ],
)
def test_what_cannot_be_is_told_once(
    forks: ForkServer, tmp_path: Path, change: str, words: str
) -> None:
    first, second = run_ranks(forks, *JOB, change, folder=tmp_path)
    assert (first.returncode, second.returncode) == (2, 0)
    assert first.stderr.count(words) == 1
    assert second.stdout + second.stderr == ""
    assert not (tmp_path / "run").exists()


def test_benchmark_measures_one_process(forks: ForkServer, tmp_path: Path) -> None:
    first, second = run_ranks(forks, "benchmark", *JOB, folder=tmp_path)
    assert (first.returncode, second.returncode) == (2, 0)
    assert first.stderr.startswith("cnnbench: cnnbench benchmark measures one process.")


def test_other_verbs_are_done_by_the_first_process(forks: ForkServer, tmp_path: Path) -> None:
    first, second = run_ranks(forks, "models", folder=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "lenet" in first.stdout
    assert second.stdout + second.stderr == ""


def test_every_process_has_the_sweeper_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in {**launch, "HYDRA_FULL_ERROR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["cnnbench"])
    monkeypatch.setattr("hydra.main", lambda **_: lambda job: lambda: None)
    words = ["-m", "hydra/sweeper=basic", "hydra/job_logging=default"]
    run_hydra_app("train", words, HydraJob(lambda composed, claimed: None))
    assert "hydra/sweeper=basic" in sys.argv
    assert "hydra/job_logging=default" not in sys.argv
