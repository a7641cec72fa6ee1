"""`--plot`: the curves that are plotted on the terminal when a run has ended."""

import csv
import io
import re
import signal
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.fake_metrics import Row, make_epochs
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import BETWEEN, SMALL, Runs

from cnnbench.cli.compose import plot_and_hint_on_exit
from cnnbench.errors import ConfigError, DivergedError
from cnnbench.reports.terminal_plot import plot

ROWS = make_epochs([0.1, 0.5, 0.7], [0.2, 0.5, 0.6])


def write_rows(run: Path, rows: list[Row]) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    with (run / "metrics.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return run


def read_rows(run: Path) -> list[Row]:
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def plotted(run: Path, in_sweep: bool = False) -> AbstractContextManager[None]:
    return plot_and_hint_on_exit(run, lambda: "cnnbench resume", True, in_sweep)


def test_plot_flag_prints_curves_at_the_end_but_not_to_the_log(
    within: Command, tmp_path: Path
) -> None:
    done = within(*SMALL, "--plot", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"\nrun\n\n{plot(read_rows(tmp_path / 'run'), 80, unicode=True)}\n")
    assert (tmp_path / "run" / "train.log").read_text().splitlines()[-1].endswith(" INFO run")


def test_no_curves_without_plot_flag(within: Command) -> None:
    assert within(*SMALL, "hydra.run.dir=run").stdout.endswith("\nrun\n")


def test_the_plot_fits_the_terminal(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    done = within(*SMALL, "--plot", "hydra.run.dir=run")
    assert done.stdout.endswith(f"\n\n{plot(read_rows(tmp_path / 'run'), 50, unicode=True)}\n")


def test_interrupted_run_plots_its_finished_epochs(forks: ForkServer, tmp_path: Path) -> None:
    faults = [(int(signal.SIGINT), "step", 6)]  # an epoch has 4 steps
    done = forks.run(*SMALL, "--plot", "hydra.run.dir=run", folder=tmp_path, faults=faults)
    assert done.returncode == 130
    assert done.stdout.endswith(f"\n{plot(read_rows(tmp_path / 'run'), 80, unicode=True)}\n")


@pytest.mark.parametrize("state", [BETWEEN, "finished"])
def test_resume_plots_a_run_whether_or_not_it_was_finished(
    state: str, runs: Runs, within: Command, tmp_path: Path
) -> None:
    run = runs.copy(state, tmp_path / "run")
    done = within("resume", "run", "--plot")
    assert (done.returncode, len(read_rows(run))) == (0, 2), done.stderr
    assert done.stdout.endswith(f"\n\n{plot(read_rows(run), 80, unicode=True)}\n")


@pytest.mark.parametrize(
    "text",
    ["", "epoch,train_loss\n1,2\n", "\x00\xff", "train_accuracy,train_accuracy\n\x1b[2J,1,2\n"],
)
def test_invalid_metrics_file_is_not_plotted(
    runs: Runs, within: Command, tmp_path: Path, text: str
) -> None:
    run = runs.copy("finished", tmp_path / "run")
    (run / "metrics.csv").write_text(text)
    done = within("resume", "run", "--plot")
    assert (done.returncode, done.stdout.count("\n")) == (0, 2), done


def test_each_job_of_a_sweep_plots_its_curves_under_its_name(tmp_path: Path) -> None:
    done = run_in_process("-m", *SMALL, "--plot", "seed=0,1", "sweep=mine", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "outputs" / "sweeps" / "mine"
    for run in (status.parent for status in sweep.glob("*/status.json")):
        assert f"\n\n{run.name}\n{plot(read_rows(run), 80, unicode=True)}\n" in done.stdout
    # Each of two pairs of charts has a first and a last line.
    assert len(re.findall("┤.*┤", done.stdout)) == 4


def test_resume_plots_the_jobs_that_it_starts(forks: ForkServer, tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "seed=0,1", "sweep=mine")
    faults = [(int(signal.SIGINT), "step", 3)]
    assert forks.run(*sweep, folder=tmp_path, faults=faults).returncode == 130
    done = run_in_process("resume", "outputs/sweeps/mine", "--plot", folder=tmp_path)
    output = done.stdout + done.stderr
    assert (done.returncode, len(re.findall("┤.*┤", done.stdout))) == (0, 4), output


def test_plot_flag_takes_no_value(within: Command) -> None:
    done = within(*SMALL, "--plot=yes")
    assert (done.returncode, done.stderr) == (2, "cnnbench: --plot takes no value.\n")


@pytest.mark.parametrize(
    ("encoding", "unicode"), [("ascii", False), ("iso-8859-1", False), ("utf-8", True)]
)
def test_plot_uses_ascii_where_the_encoding_lacks_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, unicode: bool
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding))
    with plotted(write_rows(tmp_path / "größe=ℵ\x1b", ROWS), in_sweep=True):
        pass
    heading, _, text = output.getvalue().decode(encoding).lstrip("\n").partition("\n")
    assert text == plot(ROWS, 80, unicode) + "\n"
    assert heading == {"ascii": "gr??e=??", "iso-8859-1": "größe=??", "utf-8": "größe=ℵ?"}[encoding]


ENDINGS = [KeyboardInterrupt(), SystemExit(143), DivergedError("It became nan.")]


@pytest.mark.parametrize(
    ("ending", "shown"),
    [
        *((ending, f"\n{plot(ROWS, 80, unicode=True)}\n") for ending in ENDINGS),
        (ConfigError("Not that."), ""),
    ],
)
def test_curves_are_plotted_unless_the_run_ended_with_a_configuration_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: BaseException, shown: str
) -> None:
    with suppress(type(ending)), plotted(write_rows(tmp_path, ROWS)):
        raise ending
    assert capsys.readouterr().out == shown
