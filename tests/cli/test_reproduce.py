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
from helpers.in_process import run_in_process

from cnnbench import config
from cnnbench.cli import reproduce
from cnnbench.cli.hydra_app import compose_config, conf_folder
from cnnbench.cli.reproduce import jobs_of, select_runs
from cnnbench.training.engine import EagerEngine
from cnnbench.training.preflight import check

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
SCALES = ("full", "reduced", "smoke")
EXPERIMENTS = {
    part: {f"{part}/{path.stem}" for path in (conf_folder() / "experiment" / part).glob("*")}
    for part in ("book", "claims")
}
EXPERIMENTS["all"] = EXPERIMENTS["book"] | EXPERIMENTS["claims"]


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


@pytest.mark.parametrize("name", sorted(EXPERIMENTS["all"]))
def test_last_job_of_each_experiment_passes_preflight_at_reduced_scale(name: str) -> None:
    job = jobs_of("all", "reduced")[name][-1]
    check(config.load_config(config.to_plain(compose_config([*job, "device=cpu"]))))


def test_select_runs_omits_runs_that_are_not_jobs_of_the_scale() -> None:
    job, run = jobs_of("book", "reduced")["book/alexnet"][0], make_record("book/alexnet", {})
    asked = [replace(run, overrides=[*job[::-1], "device=cpu", "device.precision=bf16"])]
    left = [replace(run, overrides=[*job[:-1], "seed=9"]), run]
    assert select_runs([*left, *asked], "reduced") == asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["boo"], "knows no part 'boo'. Did you mean 'book'? Allowed: all, book, claims."),
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
    assert (done.returncode, "a good hour on two CPU cores" in done.stdout) == (0, True)
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
    assert "2 finished, 1 interrupted" in (tmp_path / SWEEP / "results.md").read_text()
    done = within(*SMOKE)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 jobs finished already." in done.stdout, struck.stdout + done.stdout
    assert re.search(r"\n\nLeNet .*\nclaim 11 +undecided\n", done.stdout)
    assert done.stdout.splitlines()[-1] == f"{SWEEP}/results.md"
    assert not (tmp_path / "docs").exists()
    text = (tmp_path / SWEEP / "results.md").read_text()
    (lenet,) = (line for line in text.splitlines() if line.startswith("| LeNet |"))
    assert float(lenet.split("|")[2]) >= 0
    assert lenet.rstrip(" |").endswith("train.epochs=1 train.batch_size=10 seed=0")
    assert "### 11. A claim of a teacher's own.\n\nVerdict: **undecided**." in text
    assert "Stated: at most all. **undecided**." in text
    words = ("reproduce", "claims", *SMOKE[2:], "--output", "elsewhere")
    again = within(*words)
    assert (again.returncode, "2 of 2 jobs finished" in again.stdout) == (0, True), again
    assert "epoch" not in again.stdout
    anew = (tmp_path / "elsewhere" / "results.md").read_text()
    assert f"\n- command: cnnbench {' '.join(words)}\n" in anew
    of_each = ("- command:", "- made:")
    for line, before in zip(anew.splitlines(), text.splitlines(), strict=True):
        assert line == before or line.startswith(of_each)


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


@pytest.mark.slow
def test_smoke_scale_runs_all_jobs_and_keeps_results_after_a_failure(tmp_path: Path) -> None:
    jobs = sum(map(len, jobs_of("all", "smoke").values()))
    done = run_in_process(*SMOKE, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{jobs} runs: {jobs} finished" in done.stdout
    text = (tmp_path / SWEEP / "results.md").read_text()
    book = text.partition("## The book's networks")[2].partition("## The notes' claims")[0]
    rows = [line.split("|") for line in book.strip().splitlines()[2:]]
    assert len(rows) == 9
    assert all(float(row[2]) >= 0 for row in rows)
    assert "not run" not in text
    # Each judged arm was found. Two steps are too few to learn at any rate.
    missing = set(re.findall("Not measured: .*?[.] ", text))
    assert missing <= {"Not measured: model=bn_lenet, model=lenet. "}
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
    text = (tmp_path / SWEEP / "results.md").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| NiN |"))
    assert "1 failed (" in line
    shutil.rmtree(tmp_path / "outputs")  # a gigabyte of checkpoints
