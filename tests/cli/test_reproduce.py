"""`cnnbench reproduce`: its jobs, its arguments, and a whole reproduction at smoke scale."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.command import Command
from helpers.fake_records import make_record
from helpers.fake_stored_runs import make_run
from helpers.in_process import run_in_process
from helpers.reproduced_statements import STATEMENTS

from cnnbench import config
from cnnbench.cli import reproduce
from cnnbench.cli.hydra_app import compose_config, conf_folder
from cnnbench.cli.reproduce import _store_runs, jobs_of, read_scale, select_runs
from cnnbench.errors import CheckpointError
from cnnbench.reports.reproduction import shifts
from cnnbench.reports.reproduction.stored_runs import (
    merge_runs,
    read_stored_runs,
    write_stored_runs,
)
from cnnbench.runs.directory import RunDirectory
from cnnbench.training.engine import EagerEngine
from cnnbench.training.preflight import check

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
SCALES = ("full", "pixels", "smoke")
EXPERIMENTS = {
    part: {f"{part}/{path.stem}" for path in (conf_folder() / "experiment" / part).glob("*")}
    for part in ("book", "claims", "course")
}
EXPERIMENTS["all"] = set().union(*EXPERIMENTS.values())
PIXELS = jobs_of("all", "pixels")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("part", EXPERIMENTS)
def test_part_has_all_its_experiments_at_each_scale(part: str, scale: str) -> None:
    assert set(jobs_of(part, scale)) == EXPERIMENTS[part]
    changes = yaml.safe_load((conf_folder() / "reproduce.yaml").read_text())[scale]
    assert set(changes) - {"all"} <= EXPERIMENTS["all"]


def test_values_of_the_scale_replace_those_of_the_experiment() -> None:
    full = jobs_of("all", "full")["claims/padding"]
    assert len(full) == 2 * 3
    assert set(full[0]) == {"experiment=claims/padding", "model.padding_mode=zeros", "seed=0"}
    rates = jobs_of("all", "smoke", ["device=cpu"])["claims/batch_norm_rate"]
    jobs = [job for job in rates if "optimizer.lr=3" in job]
    assert [job for job in jobs if {"seed=0", "device=cpu", "train.epochs=1"} <= set(job)] == jobs
    assert len(jobs) == 2  # one for each network; the experiment has four rates and three seeds


def test_pixels_scale_changes_nothing_but_the_size_of_images_and_the_seeds() -> None:
    for name, change in read_scale("pixels").items():
        keys = {word.partition("=")[0] for word in (change or "").split()}
        assert keys <= {"data.resize", "seed"}, name
    left_out = [name for name, jobs in PIXELS.items() if not jobs]
    assert left_out == ["claims/vgg_alexnet"]


def test_part_may_be_one_experiment() -> None:
    assert list(jobs_of("book/alexnet", "full")) == ["book/alexnet"]
    assert jobs_of("book/alexnet", "pixels")["book/alexnet"] == PIXELS["book/alexnet"]
    assert len(PIXELS["book/alexnet"]) == 1


@pytest.mark.parametrize("name", sorted(name for name, jobs in PIXELS.items() if jobs))
def test_last_job_of_each_experiment_passes_preflight_at_pixels_scale(name: str) -> None:
    job = PIXELS[name][-1]
    check(config.load_config(config.to_plain(compose_config([*job, "device=cpu"]))))


def test_select_runs_omits_runs_that_are_not_jobs_of_the_scale() -> None:
    job, run = PIXELS["book/alexnet"][0], make_record("book/alexnet", {})
    asked = replace(run, overrides=[*job[::-1], "device=cpu", "device.precision=bf16"])
    left = [replace(run, overrides=[*job[:-1], "seed=9"]), run]
    assert select_runs([*left, asked], "pixels") == [(job, asked)]


def test_run_that_began_last_replaces_those_of_the_same_job() -> None:
    (job,) = PIXELS["book/alexnet"]
    runs = []
    for accuracy, day in ((0.9, 2), (0.8, 1)):
        began = {"began": f"2026-11-0{day}T12:00:00.000+00:00"}
        run = make_record("book/alexnet", {}, accuracy=accuracy, status=began)
        runs.append(replace(run, overrides=job))
    rows = _store_runs(select_runs(runs, "pixels"), STATEMENTS, [])
    assert [run.accuracy for run in merge_runs([], rows)] == [0.9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["boo"], "knows no part 'boo'. Did you mean 'book'? Allowed: all, book, claims, course"),
        (
            ["book/alexnt"],
            "knows no part 'book/alexnt'. Did you mean 'book/alexnet'? Allowed: book/",
        ),
        (
            ["--scale", "reduced"],
            "--scale reduced is not known. Did you mean 'pixels'? Allowed: full",
        ),
        (
            ["claims/vgg_alexnet", "--scale", "pixels"],
            "--scale pixels leaves out claims/vgg_alexnet, which needs a GPU. Use --scale full.",
        ),
        (["--scale", "smok"], "--scale smok is not known. Did you mean 'smoke'? Allowed: full, "),
        (["book", "claims"], "knows no part 'book claims'. Did you mean 'claims'? Allowed: all, "),
        (["train.epochs=3"], "train.epochs would change what is measured"),
        (["hydra/launcher=joblib"], "hydra/launcher would change what is measured"),
        (["seed=0"], "Other values: cnnbench -m experiment=claims/relu_lenet seed=0"),
    ],
)
def test_wrong_arguments_are_reported_with_allowed_values(
    within: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = within("reproduce", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environment", "code", "message"),
    [({}, 3, "Fashion-MNIST"), (TORCHRUN, 2, "Start it without torchrun")],
)
def test_reproduce_starts_nothing_without_data_or_under_torchrun(
    tmp_path: Path, environment: dict[str, str], code: int, message: str
) -> None:
    done = run_in_process("reproduce", "book", folder=tmp_path, **environment)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_help_says_how_long_each_scale_takes(within: Command) -> None:
    done = within("reproduce", "--help")
    assert (done.returncode, "on two CPU cores" in done.stdout) == (0, True)
    assert all(f"\n  {scale} " in done.stdout for scale in SCALES)


SWEEP = Path("outputs") / "sweeps" / "reproduce-smoke"
SMOKE = ("reproduce", "all", "--scale", "smoke", "device=cpu", "device.precision=fp32")
CUSTOM_CLAIMS = """
book:
  book/lenet: {title: LeNet, accuracies: [0.776, 0.779]}
claims:
  11:
    text: A claim of a teacher's own.
    findings:
      - figure: accuracy
        experiment: claims/relu_lenet
        arms: [model=lenet_relu, model=lenet]
        high: 1
        stated: at most all
"""


@pytest.fixture
def custom_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a custom claim and two experiments on small networks: three jobs."""
    conf = tmp_path / "conf"
    experiments = ("experiment/book/lenet.yaml", "experiment/claims/relu_lenet.yaml")
    for name in ("reproduce.yaml", *experiments):
        (conf / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(conf_folder() / name, conf / name)
    (conf / "claims.yaml").write_text(CUSTOM_CLAIMS)
    monkeypatch.setattr(reproduce, "conf_folder", lambda: conf)
    return conf


@pytest.mark.usefixtures("custom_conf")
def test_interrupted_reproduction_resumes_and_judges_a_custom_claim(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step, steps = EagerEngine.train_step, 0

    def interrupt_in_third_job(*values: Any, **more: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 5:  # each job has two steps
            raise KeyboardInterrupt
        return train_step(*values, **more)

    monkeypatch.setattr(EagerEngine, "train_step", interrupt_in_third_job)
    struck = within(*SMOKE)
    assert struck.returncode == 130, struck.stderr
    assert f"To resume: cnnbench {' '.join(SMOKE)}" in struck.stderr
    assert "\n3 runs: 2 finished, 1 interrupted; " in struck.stdout
    assert "- runs: 2 runs, " in (tmp_path / SWEEP / "results.md").read_text()
    assert len((tmp_path / SWEEP / "results.csv").read_text().splitlines()) == 3
    done = within(*SMOKE)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 jobs finished already." in done.stdout, struck.stdout + done.stdout
    assert re.search(r"\n\nLeNet .*\nclaim 11 +undecided\n", done.stdout)
    assert done.stdout.splitlines()[-2:] == [f"{SWEEP}/results.csv", f"{SWEEP}/results.md"]
    assert not (tmp_path / "docs").exists()
    text = (tmp_path / SWEEP / "results.md").read_text()
    (lenet,) = (line for line in text.splitlines() if line.startswith("| LeNet |"))
    assert float(lenet.split("|")[2]) >= 0
    assert "train.epochs=1 train.batch_size=10 |" in lenet
    assert "### 11. A claim of a teacher's own.\n\nVerdict: **undecided**." in text
    assert "Stated: at most all. **undecided**." in text
    rows = (tmp_path / SWEEP / "results.csv").read_text()
    words = ("reproduce", "claims", *SMOKE[2:], "--output", "elsewhere")
    again = within(*words)
    assert (again.returncode, "2 of 2 jobs finished" in again.stdout) == (0, True), again
    assert "epoch" not in again.stdout
    for name, before in (("results.csv", rows), ("results.md", text)):
        assert (tmp_path / "elsewhere" / name).read_text() == before


@pytest.mark.usefixtures("custom_conf")
def test_results_of_other_machines_are_kept_and_damage_is_reported_before_training(
    within: Command, tmp_path: Path
) -> None:
    stored = tmp_path / "kept" / "results.csv"
    other = make_run("book/lenet", {}, accuracy=0.5, chip="another", commit="0123abcd")
    write_stored_runs(RunDirectory(stored.parent), stored.name, [other])
    done = within("reproduce", "book", *SMOKE[2:], "--output", "kept")
    assert done.returncode == 0, done.stderr
    runs = read_stored_runs(stored)
    assert (len(runs), other in runs) == (2, True)
    stored.write_text(stored.read_text().replace(",finished,", ",ended,", 1))
    done = within(*SMOKE, "--output", "kept")
    message = "cnnbench: kept/results.csv is damaged. Line 2: state=ended is not known."
    assert (done.returncode, done.stderr.startswith(message)) == (2, True), done.stderr
    assert "epoch" not in done.stdout


@pytest.mark.usefixtures("custom_conf")
def test_a_dry_run_lists_experiments_and_starts_nothing(within: Command, tmp_path: Path) -> None:
    done = within(*SMOKE, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    listed = (
        "Checking 3 jobs ...\n"
        "experiment         jobs   time\n"
        r"book/lenet            1  \d\.\d s  1 to run\n"
        r"claims/relu_lenet     2  \d\.\d s  2 to run\n"
        rf"3 jobs in {SWEEP}\. Nothing was started\.\n"
    )
    assert re.match(listed, done.stdout), done.stdout
    assert not (tmp_path / "outputs").exists()


def test_error_in_claims_is_reported_before_training(
    within: Command, tmp_path: Path, custom_conf: Path
) -> None:
    path = custom_conf / "claims.yaml"
    path.write_text(CUSTOM_CLAIMS.replace("figure: accuracy", "figure: accurcy"))
    done = within(*SMOKE)
    message = (
        f"cnnbench: {path}: claims.11.figure: 'accurcy' is not known. Did you mean 'accuracy'?"
    )
    assert (done.returncode, done.stderr.startswith(message)) == (2, True), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_shift_ratio_is_measured_once_and_only_where_a_claim_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[Path] = []

    def measure(directory: Path, conf: Path) -> float:
        measured.append(directory)
        if "seed=1" in directory.name:
            raise CheckpointError("The checkpoint is gone.")
        return 0.875

    monkeypatch.setattr(shifts, "measure_shift_ratio", measure)
    selected = []
    for name in ("claims/pooling_relu", "claims/pooling"):
        for seed in (0, 1):
            run = make_record(name, {"model.pooling": "max"}, seed)
            selected.append((list(run.overrides), run))
    rows = _store_runs(selected, STATEMENTS, [])
    assert [row.shift_ratio for row in rows] == [0.875, None, None, None]
    assert len(measured) == 2
    assert _store_runs(selected, STATEMENTS, rows) == rows
    assert [directory.name[-6:] for directory in measured[2:]] == ["seed=1"]
    trained_again = make_record("claims/pooling_relu", {"model.pooling": "max"})
    trained_again.result["wall_s"] = {"total": 11.0}
    _store_runs([(list(trained_again.overrides), trained_again)], STATEMENTS, rows)
    assert len(measured) == 4


@pytest.mark.slow
def test_smoke_scale_runs_all_jobs_and_keeps_results_after_a_failure(tmp_path: Path) -> None:
    jobs = sum(map(len, jobs_of("all", "smoke").values()))
    done = run_in_process(*SMOKE, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{jobs} runs: {jobs} finished" in done.stdout
    stored = read_stored_runs(tmp_path / SWEEP / "results.csv")
    assert len(stored) == jobs
    measured = {run.overrides.split()[0] for run in stored if run.shift_ratio is not None}
    assert measured == {f"model.pooling={pooling}" for pooling in ("avg", "max", "min")}
    text = (tmp_path / SWEEP / "results.md").read_text()
    book = text.partition("## The book's networks")[2].partition("## The course's networks")[0]
    rows = [line.split("|") for line in book.strip().splitlines()[2:]]
    assert len(rows) == 9
    # Each judged arm was found. Two steps are too few to learn enough at any rate or size.
    assert "reproduce book/lenet" not in book
    missing = set(re.findall(r"Not measured \(.*?\): ", text))
    assert not any("pooling" in arms for arms in missing), missing
    for number in (9, 10):  # their figures are computed without training
        assert re.search(rf"### {number}[.] .*\n\nVerdict: [*]{{2}}repeated[*]{{2}}", text)
    (nin,) = (path for path in (tmp_path / SWEEP).iterdir() if "experiment=book_nin" in path.name)
    failed = {"state": "failed", "verb": "train", "error": "Out of memory.", "exit_code": 2}
    (nin / "status.json").write_text(json.dumps(failed))
    (nin / "metrics.csv").unlink()
    for checkpoint in (nin / "checkpoints").iterdir():
        checkpoint.write_bytes(b"no checkpoint")
    done = run_in_process("reproduce", "book", *SMOKE[2:], folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(rf"\n{jobs} runs: {jobs - 1} finished, 1 failed \(.*\); ", done.stdout)
    assert (tmp_path / SWEEP / "results.md").read_text() == text
    shutil.rmtree(tmp_path / "outputs")  # a gigabyte of checkpoints
