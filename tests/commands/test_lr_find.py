"""`cnnbench lr-find`: its output, its files, and that it leaves no trace in later runs."""

import csv
from pathlib import Path

import pytest
from helpers.command import TINY, Command, find_only_run
from helpers.compare_runs import find_differences
from PIL import Image

from cnnbench.runs.reading import read_accuracy, read_status
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import Row

JOB = (*TINY, "device.threads=1", "device.precision=fp32", "model=mlp", "model.widths=[32]")


def read_rows(directory: Path) -> list[dict[str, float]]:
    with (directory / "lr_find.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_suggestion_is_printed_and_drawn_and_no_weights_are_kept(
    within: Command, tmp_path: Path
) -> None:
    done = within("lr-find", *JOB, "--steps", "100", "scheduler=cosine")
    assert (done.returncode, done.stderr) == (0, "")
    directory = find_only_run(tmp_path)
    assert directory.parent.parent == tmp_path / "outputs" / "lr-find"
    names = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    assert names == {"config.yaml", "lr_find.csv", "lr_find.png", "status.json"}
    status = read_status(directory)
    assert (status["state"], status["verb"]) == ("finished", "lr-find")
    rows = read_rows(directory)
    assert (rows[0]["lr"], rows[1]["lr"]) == pytest.approx((1e-5, 1e-5 * 1e6 ** (1 / 99)))
    lowest = min(rows[5:], key=lambda row: row["smoothed_loss"])
    assert lowest["smoothed_loss"] < 0.8 * rows[0]["loss"]
    lines = done.stdout.splitlines()
    suggested = f"{lowest['lr'] / 10:.2g}"
    assert lines[-1] == f"optimizer.lr={float(suggested):g}"
    assert f"The smoothed loss is lowest at {lowest['lr']:.2g} and falls fastest at" in lines[-3]
    assert "; scheduler=cosine is not applied" in lines[2]
    table = [line.split() for line in lines if line.split()[0].isdecimal() and "steps" not in line]
    assert len(table) == 12
    for row, cells in ((rows[0], table[0]), (rows[-1], table[-1])):
        values = (f"{row['lr']:.2g}", f"{row['loss']:.4f}", f"{row['smoothed_loss']:.4f}")
        assert cells == [f"{row['step']:.0f}", *values]
    with Image.open(directory / "lr_find.png") as picture:
        assert picture.width > 2 * len(rows)
        assert len(picture.convert("RGB").getcolors(100_000)) > 50  # curves, not an empty picture


def test_sweep_ends_where_the_loss_explodes(within: Command, tmp_path: Path) -> None:
    done = within("lr-find", *JOB, "--steps", "60", "--to", "1000")
    rows = read_rows(find_only_run(tmp_path))
    assert 20 < len(rows) < 60
    assert f"Ended at a rate of {rows[-1]['lr']:.2g}, where the loss explodes." in done.stdout


def test_no_suggestion_if_the_loss_does_not_fall(within: Command, tmp_path: Path) -> None:
    done = within("lr-find", *JOB, "--steps", "20", "--from", "1e-9", "--to", "1e-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "No suggestion: the smoothed loss did not fall 1 % below its beginning" in done.stdout
    assert "optimizer.lr=" not in done.stdout
    assert len(read_rows(find_only_run(tmp_path))) == 20


def test_loss_that_falls_to_the_last_rate_asks_for_a_higher_one(within: Command) -> None:
    done = within("lr-find", *JOB, "--steps", "60", "--from", "1e-3", "--to", "1e-2")
    assert done.stdout.splitlines()[-3:] == [
        "It still falls at the last rate: try a higher one (--to).",
        "Suggested, a tenth of the rate of the lowest loss:",
        "optimizer.lr=0.001",
    ]


def test_muon_gets_both_of_its_rates(within: Command) -> None:
    overrides = ("optimizer=muon", "optimizer.lr=0.2", "optimizer.fallback_lr=0.1")
    done = within("lr-find", *JOB, *overrides, "--steps", "60", "--from", "1e-4", "--to", "1e-2")
    assert done.stdout.splitlines()[-1] == "optimizer.lr=0.001 optimizer.fallback_lr=0.0005"


def test_later_run_in_the_same_process_is_the_same_to_the_bit(
    within: Command, tmp_path: Path
) -> None:
    job = (*JOB, "optimizer=adam", "augment.hflip=true", "train.ema_decay=0.9")
    assert within(*job, "hydra.run.dir=before").returncode == 0
    assert within("lr-find", *job, "--steps", "20").returncode == 0
    assert within(*job, "hydra.run.dir=after").returncode == 0
    assert find_differences(tmp_path / "before", tmp_path / "after") == []


def test_weights_of_a_trained_run_are_the_start(within: Command, tmp_path: Path) -> None:
    assert within(*JOB, "optimizer.lr=0.1", "hydra.run.dir=trained").returncode == 0
    for name, overrides in (("fresh", ()), ("started", ("model.weights=trained",))):
        words = ("--steps", "20", "--to", "1e-4", f"hydra.run.dir={name}")
        assert within("lr-find", *JOB, *overrides, *words).returncode == 0
    fresh, started = (read_rows(tmp_path / name)[0]["loss"] for name in ("fresh", "started"))
    assert started < fresh - 0.3


def test_only_what_is_not_frozen_is_trained(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert within(*JOB, "hydra.run.dir=trained").returncode == 0
    trained: list[int] = []

    def count(engine: EagerEngine, *_: object) -> list[Row]:
        groups = [group for optimizer in engine.optimizers for group in optimizer.param_groups]
        trained.append(sum(len(group["params"]) for group in groups))
        return [{"step": n, "lr": 0.1 * n, "loss": n, "smoothed_loss": n} for n in (1, 2)]

    monkeypatch.setattr("cnnbench.commands.lr_find.sweep_rates", count)
    job = ("lr-find", *JOB, "model.weights=trained", "--steps", "20")
    for overrides in ((), ("train.freeze=backbone",)):
        assert within(*job, *overrides).returncode == 0
    assert trained[0] > trained[1] == 2  # weight and bias of the last layer


def test_other_commands_do_not_take_its_directory_for_a_run(within: Command) -> None:
    assert within("lr-find", *JOB, "--steps", "20", "hydra.run.dir=found").returncode == 0
    done = within("evaluate", "found")
    assert (done.returncode, done.stderr) == (
        2,
        "cnnbench: found is not a training run: cnnbench lr-find created it.\n",
    )


@pytest.mark.slow
def test_suggested_rate_trains_better_than_much_lower_and_higher_ones(
    within: Command, tmp_path: Path
) -> None:
    job = ("data=sample", "model=mlp", "device=cpu", "device.threads=1", "device.precision=fp32")
    done = within("lr-find", *job)
    rate = float(done.stdout.splitlines()[-1].removeprefix("optimizer.lr="))
    accuracies = []
    for factor in (1 / 30, 1, 30):
        name = f"run_{factor:.2f}"
        words = (f"optimizer.lr={factor * rate}", "train.epochs=2", f"hydra.run.dir={name}")
        code = within(*job, *words).returncode
        accuracies.append(read_accuracy(tmp_path / name) if code == 0 else 0.0)
    assert accuracies[1] > max(accuracies[0], accuracies[2]) + 0.2
