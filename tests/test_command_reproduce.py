"""`cnnbench reproduce`: its jobs, its words, and the whole of it at smoke scale."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from forking import ForkServer
from in_process import run_in_process
from installed import Command
from made_records import made_record

from cnnbench import config
from cnnbench.cli import reproduce
from cnnbench.cli.hydra_app import compose_config, conf_folder
from cnnbench.cli.reproduce import jobs_of, of_the_scale, proposed
from cnnbench.errors import ConfigError
from cnnbench.reports.reproduction.book import BOOK
from cnnbench.reports.reproduction.claims import CLAIMS
from cnnbench.training.engine import EagerEngine
from cnnbench.training.preflight import check

Done = subprocess.CompletedProcess[str]

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
SCALES = ("full", "reduced", "smoke")
EXPERIMENTS = {
    f"{path.parent.name}/{path.stem}"
    for part in ("book", "claims")
    for path in (conf_folder() / "experiment" / part).glob("*")
}


def experiment_of(job: list[str]) -> str:
    (name,) = (word.removeprefix("experiment=") for word in job if word.startswith("experiment="))
    return name


@pytest.mark.parametrize("scale", SCALES)
def test_every_experiment_of_book_and_claims_has_jobs(scale: str) -> None:
    assert {experiment_of(job) for job in jobs_of("all", scale)} == EXPERIMENTS


def test_every_experiment_is_in_the_results() -> None:
    assert {*BOOK, *(name for claim in CLAIMS for name in claim.experiments)} == EXPERIMENTS == set(proposed())


@pytest.mark.parametrize("part", ["book", "claims"])
def test_a_part_has_its_jobs_alone(part: str) -> None:
    assert {experiment_of(job).partition("/")[0] for job in jobs_of(part, "full")} == {part}


def test_at_full_scale_a_job_has_what_its_experiment_varies_and_nothing_else() -> None:
    jobs = [job for job in jobs_of("claims", "full") if "experiment=claims/alexnet_batch" in job]
    assert [sorted(job) for job in jobs] == [
        ["experiment=claims/alexnet_batch", f"seed={seed}", f"train.batch_size={size}"]
        for size in (128, 256)
        for seed in (0, 1, 2)
    ]


def test_a_scale_varies_its_own_values_in_place_of_those_of_the_experiment() -> None:
    jobs = [job for job in jobs_of("claims", "smoke") if "experiment=claims/vgg_size" in job]
    sizes = [word for job in jobs for word in job if word.startswith("data.resize=")]
    assert (sizes, {"seed=0" in job for job in jobs}) == (["data.resize=32", "data.resize=40"], {True})


def test_what_is_given_for_the_machine_is_in_every_job() -> None:
    jobs = jobs_of("all", "smoke", ["device=cpu"])
    assert all("device=cpu" in job for job in jobs)
    assert len(jobs) == len(jobs_of("all", "smoke"))


@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_names_no_experiment_that_is_not_there(scale: str) -> None:
    changes = yaml.safe_load((conf_folder() / "reproduce.yaml").read_text())[scale]
    assert set(changes) - {"all"} <= EXPERIMENTS


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_the_last_job_of_each_experiment_can_be_run_at_reduced_scale(name: str) -> None:
    job = [job for job in jobs_of("all", "reduced") if experiment_of(job) == name][-1]
    check(config.load(config.to_plain(compose_config([*job, "device=cpu"]))))


def test_what_the_scale_does_not_ask_for_today_is_no_result_of_it() -> None:
    job, run = jobs_of("book", "reduced")[0], made_record("book/alexnet", {})
    asked = [
        replace(run, overrides=[*job[::-1], "device=cpu"]),
        replace(run, overrides=[*job, "device.precision=bf16"]),
    ]
    left = [replace(run, overrides=[word.replace("seed=0", "seed=9") for word in job]), run]
    assert of_the_scale("reduced", [*left, *asked]) == asked


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["boo"], "knows no part 'boo'. Did you mean 'book'? Allowed: all, book, claims."),
        (["--scale", "smok"], "--scale smok is not known. Did you mean 'smoke'? Allowed: full, reduced, smoke."),
        (["book", "claims"], "takes one part, not book and claims. Both are: all."),
        (["train.epochs=3"], "train.epochs would change what is measured"),
        (["hydra/launcher=joblib"], "hydra/launcher would change what is measured"),
        (["seed=0"], "cnnbench -m experiment=NAME seed=0"),
    ],
)
def test_what_cannot_be_is_told_with_what_can(within: Command, tmp_path: Path, arguments: list[str], told: str) -> None:
    done = within("reproduce", *arguments)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert not any(tmp_path.iterdir())


def test_an_unknown_part_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="knows no part"):
        jobs_of("neither", "full")


def test_help_says_how_long_each_scale_takes(within: Command) -> None:
    done = within("reproduce", "--help")
    assert done.returncode == 0
    for scale in SCALES:
        assert f"\n  {scale} " in done.stdout
    assert "a good hour on two CPU cores" in done.stdout


def test_without_data_nothing_is_begun(tmp_path: Path) -> None:
    done = run_in_process("reproduce", "book", folder=tmp_path)
    assert (done.returncode, "Fashion-MNIST" in done.stderr) == (3, True), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_of_several_processes_it_is_refused(tmp_path: Path) -> None:
    done = run_in_process("reproduce", folder=tmp_path, **TORCHRUN)
    assert (done.returncode, "Start it without torchrun" in done.stderr) == (2, True), done.stderr


SWEEP = Path("outputs") / "sweeps" / "reproduce-smoke"
SMOKE = ("reproduce", "all", "--scale", "smoke", "device=cpu", "device.precision=fp32")


@pytest.fixture
def few_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave two experiments with small networks, three jobs in all."""
    few = {name: varied for name, varied in proposed().items() if name in ("book/lenet", "claims/relu_lenet")}
    monkeypatch.setattr(reproduce, "proposed", lambda: few)


@pytest.mark.usefixtures("few_experiments")
def test_interrupted_reproduction_resumes_and_writes_results(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step, steps = EagerEngine.train_step, 0

    def interrupt_in_third_job(*values: Any, **more: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 5:  # each job has two
            raise KeyboardInterrupt
        return train_step(*values, **more)

    monkeypatch.setattr(EagerEngine, "train_step", interrupt_in_third_job)
    struck = within(*SMOKE)
    assert struck.returncode == 130, struck.stderr
    assert f"To go on: cnnbench {' '.join(SMOKE)}" in struck.stderr
    done = within(*SMOKE)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 jobs are finished already." in done.stdout, struck.stdout + done.stdout
    assert done.stdout.splitlines()[-2:] == [f"{SWEEP}/results.{kind}" for kind in ("md", "html")]
    assert not (tmp_path / "docs").exists()
    lines = (tmp_path / SWEEP / "results.md").read_text().splitlines()
    (lenet,) = (line for line in lines if line.startswith(f"| {BOOK['book/lenet'].title} |"))
    assert float(lenet.split("|")[2]) >= 0
    again = within("reproduce", "claims", *SMOKE[2:], "--output", "elsewhere")
    assert (again.returncode, "2 of 2 jobs are finished already." in again.stdout) == (0, True), again.stderr
    assert "epoch" not in again.stdout
    assert (tmp_path / "elsewhere" / "results.md").exists()


@pytest.fixture(scope="module")
def smoke(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Done]]]:
    """The folder, and what was said: struck in the first epoch of the third job, gone on with, the claims once more."""
    folder = tmp_path_factory.mktemp("smoke")
    struck = forks.run(*SMOKE, folder=folder, strikes=[(int(signal.SIGINT), "step", 5)])
    done = run_in_process(*SMOKE, folder=folder)
    again = run_in_process("reproduce", "claims", *SMOKE[2:], "--output", "elsewhere", folder=folder)
    yield folder, [struck, done, again]
    shutil.rmtree(folder)  # checkpoints of a gigabyte


@pytest.mark.slow
def test_an_interruption_says_how_to_go_on(smoke: tuple[Path, list[Done]]) -> None:
    struck = smoke[1][0]
    assert struck.returncode == 130, struck.stderr
    assert f"To go on: cnnbench {' '.join(SMOKE)}" in struck.stderr


@pytest.mark.slow
def test_the_same_command_goes_on_with_what_is_left(smoke: tuple[Path, list[Done]]) -> None:
    done = smoke[1][1]
    jobs = len(jobs_of("all", "smoke"))
    assert done.returncode == 0, done.stderr
    assert f"of {jobs} jobs are finished already." in done.stdout
    assert f"{jobs} runs: {jobs} finished" in done.stdout


@pytest.mark.slow
def test_once_all_is_finished_nothing_is_trained_again(smoke: tuple[Path, list[Done]]) -> None:
    again, jobs = smoke[1][2], len(jobs_of("claims", "smoke"))
    assert (again.returncode, f"{jobs} of {jobs} jobs are finished already." in again.stdout) == (0, True), again.stderr
    assert "epoch" not in again.stdout


@pytest.mark.slow
def test_the_results_of_a_smoke_run_are_in_its_sweep_alone(smoke: tuple[Path, list[Done]]) -> None:
    folder, calls = smoke
    assert not (folder / "docs").exists()
    assert calls[1].stdout.splitlines()[-2:] == [f"{SWEEP}/results.{kind}" for kind in ("md", "html")]


@pytest.mark.slow
def test_the_results_have_a_figure_for_each_network_and_a_verdict_for_each_claim(
    smoke: tuple[Path, list[Done]],
) -> None:
    text = (smoke[0] / SWEEP / "results.md").read_text()
    for network in BOOK.values():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {network.title} |"))
        assert f"{float(line.split('|')[2]):.4f}" in line
    assert not re.search("not run|no figures|Not measured", text)  # each arm that is judged was found
    assert text.count("Verdict: **repeated**") >= 2  # of what is computed, whatever was trained
    assert "## The notes' claims" in text


@pytest.mark.slow
def test_results_are_made_of_all_that_was_found(smoke: tuple[Path, list[Done]]) -> None:
    first, again = (
        (smoke[0] / folder / "results.md").read_text().splitlines() for folder in (SWEEP, Path("elsewhere"))
    )
    assert (
        "- command: cnnbench reproduce claims --scale smoke device=cpu device.precision=fp32 --output elsewhere"
        in again
    )
    differ = ("- made:", "- command:")
    assert [line for line in first if not line.startswith(differ)] == [
        line for line in again if not line.startswith(differ)
    ]


@pytest.mark.slow
def test_a_job_that_failed_leaves_the_others_and_shows_in_the_results(
    smoke: tuple[Path, list[Done]], tmp_path: Path
) -> None:
    shutil.copytree(smoke[0] / SWEEP, tmp_path / SWEEP, ignore=shutil.ignore_patterns("checkpoints"))
    (nin,) = (path for path in (tmp_path / SWEEP).iterdir() if "experiment=book_nin" in path.name)
    failed = {"state": "failed", "verb": "train", "error": "The memory does not suffice.", "exit_code": 2}
    (nin / "status.json").write_text(json.dumps(failed))
    (nin / "metrics.csv").unlink()
    (nin / "checkpoints").mkdir()
    (nin / "checkpoints" / "last.pt").write_bytes(b"no checkpoint")
    done = run_in_process("reproduce", "book", *SMOKE[2:], folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    text = (tmp_path / SWEEP / "results.md").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| NiN |"))
    assert "1 failed (" in line
