"""Errors of the installed command: the exit code, the message, and no traceback."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import TINY, Command, clean_environment, find_only_run


@pytest.mark.parametrize(
    "argument", ["model=lenett", "train.epochs=0", "data.validation=60001", "+foo=1"]
)
def test_configuration_errors_do_not_import_torch(tmp_path: Path, argument: str) -> None:
    code = (
        f"import sys; sys.argv[1:] = [{argument!r}]\n"
        "from cnnbench.cli.main import main\n"
        "try:\n    code = main()\nexcept SystemExit as end:\n    code = end.code\n"
        "sys.exit(9 if 'torch' in sys.modules else code)"
    )
    environment = clean_environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2


def test_missing_data_without_network_reports_attempts_and_alternatives(
    cnnbench: Command, tmp_path: Path
) -> None:
    done = cnnbench("data=mnist", "model=mlp")
    assert done.returncode == 3
    tried = "train-images-idx3-ubyte.gz: Tried https://ossci-datasets.s3.amazonaws.com/mnist/"
    assert tried in done.stderr
    assert "data=sample" in done.stderr
    assert "CNNBENCH_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((find_only_run(tmp_path) / "status.json").read_text())["state"] == "failed"


@pytest.mark.slow
def test_full_disk_ends_the_run_without_a_checkpoint(tmp_path: Path) -> None:
    limit = 100_000  # bytes of a file: too few for a checkpoint, with the error of a full disk
    done = subprocess.run(
        [sys.executable, "-m", "cnnbench", *TINY],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    run = find_only_run(tmp_path)
    assert done.returncode == 2
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((run / "checkpoints").iterdir()) == []
    assert json.loads((run / "status.json").read_text())["state"] == "failed"


def test_divergence_exits_with_4_and_names_epoch_and_steps(
    cnnbench: Command, tmp_path: Path
) -> None:
    done = cnnbench(*TINY, "optimizer.lr=1e30")
    assert done.returncode == 4
    assert re.search(r"in epoch 1, steps [1-8] to [1-8]\.", done.stderr)
    assert "optimizer.lr=1e+30" in done.stderr
    assert list((find_only_run(tmp_path) / "checkpoints").iterdir()) == []


def test_run_that_fails_to_learn_exits_with_4(cnnbench: Command) -> None:
    done = cnnbench(*TINY, "optimizer.lr=1e-30")
    assert done.returncode == 4
    assert "The training loss did not fall" in done.stderr
    assert "The network learned nothing" in done.stdout


def test_no_learned_nothing_warning_after_a_single_step(
    within: Command,
) -> None:
    # Training accuracy is a mean over the epoch. With one step it is measured before the update.
    one_step = (
        "data.train_examples=1000",
        "train.batch_size=1000",
        "train.epochs=1",
        "train.fail_if_not_learning=false",
    )
    done = within(
        *TINY, *one_step, "data.validation=0", "model=simple_cnn", "optimizer.lr=0.2", "seed=2"
    )
    assert done.returncode == 0, done.stderr
    assert "The network learned nothing" not in done.stdout


@pytest.mark.parametrize("variable", ["CNNBENCH_DEBUG", "HYDRA_FULL_ERROR"])
def test_debug_variable_shows_the_traceback(cnnbench: Command, variable: str) -> None:
    done = cnnbench("train.epochs=0", **{variable: "1"})
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_debugging_does_not_leak_into_the_next_command(within: Command) -> None:
    within("train.epochs=0")
    assert "Traceback" not in within("train.epochs=0").stderr
