"""Runs of several ranks have the metrics, files, interruptions and checkpoints of one process."""

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

# The last batch has 1 example (of 101 in batches of 20), so that rank 1 gets none.
JOB = (
    "model=lenet_relu",
    "data=sample",
    "data.train_examples=101",
    "data.validation=30",
    "data.test_examples=31",
    "train.batch_size=20",
    "train.epochs=2",
    "optimizer=momentum",
    "optimizer.lr=0.02",
    "device=cpu",
    "device.precision=fp32",
    "hydra.run.dir=run",
)
# Dropout that differs by rank, augmentation, averaged weights and a smaller last batch.
RANDOM = (
    "model=densenet40",
    "model.depth=7",
    "model.growth_rate=4",
    "model.dropout=0.3",
    "augment=hflip_translate",
    "train.ema_decay=0.5",
    "data=sample",
    "data.train_examples=22",
    "data.validation=10",
    "data.test_examples=10",
    "train.batch_size=8",
    "train.epochs=2",
    "optimizer=momentum",
    "optimizer.lr=0.01",
    "device=cpu",
    "device.precision=fp32",
    "hydra.run.dir=run",
)
SYNC_BATCHNORM = (
    "model=bn_lenet",
    "data.train_examples=102",
    "train.grad_clip_norm=1",
    "train.l1=1e-5",
    "train.last_batch=full",
    "train.log_every=4",
    "device.sync_batchnorm=true",
    "optimizer.lr=0.01",
)


def load_metrics(run: Path) -> dict[str, float]:
    """Return all losses and accuracies of a run, by name and epoch."""
    result = json.loads((run / "result.json").read_text())
    metrics = {key: result[key] for key in ("test_loss", "test_accuracy")}
    columns = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for key in columns:
                metrics[f"{key} {row['epoch']}"] = float(row[key])
    if (run / "steps.csv").exists():
        with (run / "steps.csv").open() as file:
            for row in csv.DictReader(file):
                metrics |= {f"{key} at step {row['step']}": float(row[key]) for key in columns[:2]}
    return metrics


def assert_success(processes: list[Done]) -> None:
    for process in processes:
        assert process.returncode == 0, [process.stderr for process in processes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def single_run(forks: ForkServer, folder: Path) -> Path:
    """Return the directory of a run of one process."""
    (folder / "single").mkdir()
    assert_success([forks.run(*JOB, folder=folder / "single")])
    return folder / "single" / "run"


@pytest.fixture(scope="module")
def two_rank_run(forks: ForkServer, folder: Path) -> tuple[list[Done], Path]:
    """Return the finished processes of two ranks, and the directory of their run."""
    ranks = run_ranks(forks, *JOB, folder=folder / "two_ranks")
    assert_success(ranks)
    return ranks, folder / "two_ranks" / "run"


@pytest.fixture(scope="module")
def random_two_rank_run(forks: ForkServer, folder: Path) -> Path:
    """Return the directory of an uninterrupted run of two ranks, with dropout and augmentation."""
    assert_success(run_ranks(forks, *RANDOM, folder=folder / "random"))
    return folder / "random" / "run"


def test_two_ranks_have_the_metrics_of_one_process(
    single_run: Path, two_rank_run: tuple[list[Done], Path]
) -> None:
    _, run = two_rank_run
    assert load_metrics(run) == pytest.approx(load_metrics(single_run), rel=1e-4)


@pytest.mark.slow
def test_three_ranks_have_the_metrics_of_one_process(
    forks: ForkServer, tmp_path: Path, single_run: Path
) -> None:
    assert_success(run_ranks(forks, *JOB, folder=tmp_path, processes=3))
    assert load_metrics(tmp_path / "run") == pytest.approx(load_metrics(single_run), rel=1e-4)


def test_only_rank_0_prints(two_rank_run: tuple[list[Done], Path]) -> None:
    (rank_0, rank_1), _ = two_rank_run
    assert rank_0.stdout.count("Test accuracy") == 1
    assert rank_1.stdout + rank_1.stderr == ""


def test_two_ranks_write_one_run_directory_with_the_same_files(
    single_run: Path, two_rank_run: tuple[list[Done], Path]
) -> None:
    def list_files(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    _, run = two_rank_run
    assert list_files(run.parent) == list_files(single_run.parent)


def test_records_contain_world_size_and_backend(two_rank_run: tuple[list[Done], Path]) -> None:
    (rank_0, _), run = two_rank_run
    environment = json.loads((run / "environment.json").read_text())
    assert (environment["world_size"], environment["backend"]) == (2, "gloo")
    assert json.loads((run / "result.json").read_text())["world_size"] == 2
    assert "2 processes (gloo)" in rank_0.stdout


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_sync_batchnorm_gives_the_metrics_of_one_process(
    forks: ForkServer, tmp_path: Path, processes: int
) -> None:
    (tmp_path / "single").mkdir()
    assert_success([forks.run(*JOB, *SYNC_BATCHNORM, folder=tmp_path / "single")])
    assert_success(
        run_ranks(forks, *JOB, *SYNC_BATCHNORM, folder=tmp_path / "several", processes=processes)
    )
    assert load_metrics(tmp_path / "several" / "run") == pytest.approx(
        load_metrics(tmp_path / "single" / "run"), rel=1e-4
    )


@pytest.mark.parametrize(
    ("rank", "number", "moment", "code"),
    [
        pytest.param(1, signal.SIGTERM, ("step", 4), 143, id="rank_1"),
        pytest.param(0, signal.SIGINT, ("step", 4), 130, id="rank_0", marks=pytest.mark.slow),
        pytest.param(
            1, signal.SIGINT, ("save", 1), 130, id="rank_1_while_saving", marks=pytest.mark.slow
        ),
        pytest.param(
            1,
            signal.SIGINT,
            ("evaluation", 2),
            130,
            id="rank_1_in_evaluation",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_signal_to_any_rank_interrupts_all_and_resume_gives_the_same_bits(
    forks: ForkServer,
    tmp_path: Path,
    random_two_rank_run: Path,
    rank: int,
    number: int,
    moment: tuple[str, int],
    code: int,
) -> None:
    faults = [(int(number), *moment)]
    rank_0, rank_1 = run_ranks(forks, *RANDOM, folder=tmp_path, faults=faults, faulty_rank=rank)
    assert (rank_0.returncode, rank_1.returncode) == (code, 0), rank_0.stderr + rank_1.stderr
    assert "To resume: " in rank_0.stderr
    assert_success(run_ranks(forks, "resume", "run", folder=tmp_path))
    assert find_differences(tmp_path / "run", random_two_rank_run) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (2, 1),
        pytest.param(1, 2, marks=pytest.mark.slow),
        pytest.param(2, 3, marks=pytest.mark.slow),
    ],
)
def test_resume_with_another_number_of_ranks(
    forks: ForkServer, tmp_path: Path, single_run: Path, before: int, after: int
) -> None:
    def run_command(processes: int, *arguments: str) -> list[Done]:
        if processes == 1:
            return [forks.run(*arguments, folder=tmp_path, faults=faults)]
        return run_ranks(forks, *arguments, folder=tmp_path, processes=processes, faults=faults)

    faults = [(int(signal.SIGINT), "step", 8)]
    assert run_command(before, *JOB)[0].returncode == 130
    faults = []
    assert_success(run_command(after, "resume", "run"))
    assert load_metrics(tmp_path / "run") == pytest.approx(load_metrics(single_run), rel=1e-4)


def test_each_rank_saves_a_different_generator_state(
    forks: ForkServer, tmp_path: Path, random_two_rank_run: Path
) -> None:
    last = checkpoint.load_checkpoint(random_two_rank_run / "checkpoints" / "last.pt")
    rank_0, rank_1 = (state["generators"]["cpu"].tolist() for state in last["processes"])
    assert rank_0 == last["generators"]["cpu"].tolist()
    assert rank_0 != rank_1


@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_killed_rank_interrupts_the_run_at_its_last_checkpoint(
    forks: ForkServer, tmp_path: Path, random_two_rank_run: Path, killed: int
) -> None:
    faults = [(int(signal.SIGKILL), "step", 5)]
    job = [override for override in RANDOM if not override.startswith("hydra.run.dir")]
    launch = {"folder": tmp_path, "TORCHELASTIC_RUN_ID": "launch"}
    ranks = run_ranks(forks, *job, faults=faults, faulty_rank=killed, **launch)
    (run,) = (status.parent for status in tmp_path.glob("outputs/*/*/status.json"))
    assert ranks[killed].returncode == -signal.SIGKILL
    assert "Traceback" not in ranks[1].stderr
    if killed == 1:
        assert ranks[0].returncode == 143
        assert ranks[0].stderr.startswith(
            "cnnbench: Another process of this run ended, or cannot be reached: "
        )
        assert "Traceback" not in ranks[0].stderr
        assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    assert checkpoint.load_checkpoint(run / "checkpoints" / "last.pt")["step"] == 0
    # torchrun starts the same job again, which resumes by itself.
    arguments = ["resume", str(run)] if killed == 0 else job
    restart = {**launch, "TORCHELASTIC_RESTART_COUNT": str(killed)}
    assert_success(run_ranks(forks, *arguments, **restart))
    assert json.loads((run / "environment.json").read_text())["continued"][0]["epoch"] == 1
    assert find_differences(run, random_two_rank_run) == []


@pytest.mark.slow
def test_sweep_trains_all_jobs_with_the_same_ranks(
    forks: ForkServer, tmp_path: Path, single_run: Path
) -> None:
    job = [override for override in JOB if not override.startswith("hydra.run.dir")]
    assert_success(run_ranks(forks, "-m", *job, "seed=0,1", "sweep=s", folder=tmp_path))
    first, second = sorted((tmp_path / "outputs" / "sweeps" / "s").glob("*seed*"))
    assert load_metrics(first) == pytest.approx(load_metrics(single_run), rel=1e-4)
    assert json.loads((second / "result.json").read_text())["world_size"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("sweeper", ["cnnbench", "basic"])
def test_sweep_continues_after_a_diverged_job(
    forks: ForkServer, tmp_path: Path, sweeper: str
) -> None:
    replaced = ("hydra.run.dir", "optimizer.lr")
    job = [override for override in JOB if not override.startswith(replaced)]
    job += ["optimizer.lr=1e30,0.02", "sweep=s", f"hydra/sweeper={sweeper}"]
    rank_0, rank_1 = run_ranks(forks, "-m", *job, folder=tmp_path)
    assert (rank_0.returncode, rank_1.returncode) == (4, 0), rank_0.stderr + rank_1.stderr
    assert len(list((tmp_path / "outputs" / "sweeps" / "s").glob("*lr=0.02*/result.json"))) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch_size=1", "has no example for each of 2 processes"),
        ("model=bn_lenet", "cannot train on a batch of 1"),
        ("device.cuda_graphs=true", "device.cuda_graphs=true is for one process"),
        ("train.epochs=0", "train.epochs=0 is out of range"),
        ("hydra/launcher=joblib", "leave hydra/launcher out"),
        ("hydra/sweeper=optuna", "cannot search under torchrun"),
    ],
)
def test_configuration_error_is_printed_once(
    forks: ForkServer, tmp_path: Path, override: str, message: str
) -> None:
    rank_0, rank_1 = run_ranks(forks, *JOB, override, folder=tmp_path)
    assert (rank_0.returncode, rank_1.returncode) == (2, 0)
    assert rank_0.stderr.count(message) == 1
    assert rank_1.stdout + rank_1.stderr == ""
    assert not (tmp_path / "run").exists()


def test_benchmark_refuses_several_ranks(forks: ForkServer, tmp_path: Path) -> None:
    rank_0, rank_1 = run_ranks(forks, "benchmark", *JOB, folder=tmp_path)
    assert (rank_0.returncode, rank_1.returncode) == (2, 0)
    assert rank_0.stderr.startswith("cnnbench: cnnbench benchmark measures one process.")


def test_other_commands_run_on_rank_0(forks: ForkServer, tmp_path: Path) -> None:
    rank_0, rank_1 = run_ranks(forks, "models", folder=tmp_path)
    assert (rank_0.returncode, rank_1.returncode) == (0, 0)
    assert "lenet" in rank_0.stdout
    assert rank_1.stdout + rank_1.stderr == ""


def test_worker_ranks_use_the_sweeper_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in {**launch, "HYDRA_FULL_ERROR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["cnnbench"])
    monkeypatch.setattr("hydra.main", lambda **_: lambda job: lambda: None)
    arguments = ["-m", "hydra/sweeper=basic", "hydra/job_logging=default"]
    run_hydra_app("train", arguments, HydraJob(lambda composed, claimed: None))
    assert "hydra/sweeper=basic" in sys.argv
    assert "hydra/job_logging=default" not in sys.argv
