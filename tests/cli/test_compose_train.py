"""`cnnbench train`: its output, the files of a run, and reproducibility."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.command import TINY, Command, find_only_run, run_command
from helpers.shortcuts import SHORTCUTS
from helpers.small_runs import SMALL
from omegaconf import OmegaConf

from cnnbench import config
from cnnbench.runs.machine import spin_count
from cnnbench.trackers import curves
from cnnbench.training import checkpoint

TIMES = {"epoch_s", "examples_per_s", "peak_gib"}


def metrics(run: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv without columns of times and memory."""
    with (run / "metrics.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key not in TIMES}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def smoke(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple["subprocess.CompletedProcess[str]", Path]:
    """Run the smoke experiment once for all tests; return the process and the run directory."""
    folder = tmp_path_factory.mktemp("smoke")
    done = run_command(["experiment=smoke"], folder)
    assert done.returncode == 0, done.stderr
    return done, find_only_run(folder)


Smoke = tuple["subprocess.CompletedProcess[str]", Path]


def test_run_directory_is_named_after_model_data_and_size(smoke: Smoke) -> None:
    assert smoke[1].parent.name == "lenet_relu-sample-28px"


def test_piped_output_has_a_line_per_epoch_and_no_progress_bar(smoke: Smoke) -> None:
    done, _ = smoke
    assert done.stderr == ""
    assert "\r" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if "/2 " in line] == ["1/2", "2/2"]


def test_last_lines_are_accuracy_time_and_directory(smoke: Smoke) -> None:
    done, run = smoke
    accuracy, wall, directory = done.stdout.splitlines()[-3:]
    assert accuracy.startswith("Test accuracy 0.")
    assert "s in all: start" in wall
    assert directory == str(run.relative_to(run.parents[2]))


@pytest.mark.parametrize(
    "name",
    [".hydra/overrides.yaml", "config.yaml", "environment.json", "status.json", "metrics.csv",
     "result.json", "curves.png", "train.log",
     "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt"],
)  # fmt: skip
def test_run_directory_has_file(smoke: Smoke, name: str) -> None:
    assert (smoke[1] / name).stat().st_size > 0


def test_run_leaves_no_temporary_files(smoke: Smoke) -> None:
    assert not list(smoke[1].rglob("*.tmp"))


def test_recorded_configuration_can_be_loaded(smoke: Smoke) -> None:
    loaded = config.load_config(config.to_plain(OmegaConf.load(smoke[1] / "config.yaml")))
    assert (loaded.model.name, loaded.train.epochs, loaded.optimizer.lr) == ("lenet_relu", 2, 0.95)


def test_environment_records_device_precision_versions_and_split(smoke: Smoke) -> None:
    environment = json.loads((smoke[1] / "environment.json").read_text())
    assert environment["torch"] in (torch.__version__, torch.__version__.partition("+")[0])
    assert environment["device"] == "cpu"
    assert environment["precision"] in ("fp32", "bf16")  # it depends on the chip
    assert (environment["data"]["train"], environment["data"]["validation"]) == (1024, 500)
    assert "experiment=smoke" in environment["command"]


def test_environment_records_short_spinning_of_threads(smoke: Smoke) -> None:
    environment = json.loads((smoke[1] / "environment.json").read_text())
    assert environment["openmp"] == {"GOMP_SPINCOUNT": str(spin_count())}


def test_wall_time_is_split_into_parts(smoke: Smoke) -> None:
    wall = json.loads((smoke[1] / "result.json").read_text())["wall_s"]
    total = wall.pop("total")
    parts = ("start", "data", "preparation", "train", "evaluation", "records", "checkpoints")
    assert set(wall) == set(parts)
    assert sum(wall.values()) <= total


def test_status_is_finished(smoke: Smoke) -> None:
    assert json.loads((smoke[1] / "status.json").read_text())["state"] == "finished"


def test_best_checkpoint_is_of_the_epoch_with_best_validation_accuracy(smoke: Smoke) -> None:
    _, run = smoke
    result = json.loads((run / "result.json").read_text())
    best = max(metrics(run), key=lambda row: float(row["validation_accuracy"]))
    assert result["best"]["epoch"] == int(best["epoch"])
    assert checkpoint.load_checkpoint(run / "checkpoints" / "best.pt")["epoch"] == int(
        best["epoch"]
    )


def test_result_records_parameters_and_multiply_adds(smoke: Smoke) -> None:
    result = json.loads((smoke[1] / "result.json").read_text())
    costs = (result["parameters"], result["multiply_adds"])
    assert (result["model"], *costs) == ("lenet_relu", 32_000, 212_520)


def test_train_log_has_all_printed_lines(smoke: Smoke) -> None:
    done, run = smoke
    logged = (run / "train.log").read_text()
    assert all(line in logged for line in done.stdout.splitlines())


def test_same_command_gives_bit_identical_runs(
    smoke: Smoke, cnnbench: Command, tmp_path: Path
) -> None:
    assert cnnbench("experiment=smoke").returncode == 0
    again = find_only_run(tmp_path)
    assert metrics(again) == metrics(smoke[1])
    ours, theirs = (
        checkpoint.load_checkpoint(run / "checkpoints" / "last.pt")["model"]
        for run in (again, smoke[1])
    )
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_other_seed_gives_other_metrics(smoke: Smoke, cnnbench: Command, tmp_path: Path) -> None:
    assert cnnbench("experiment=smoke", "seed=1").returncode == 0
    assert metrics(find_only_run(tmp_path)) != metrics(smoke[1])


def test_without_validation_the_test_set_is_measured_each_epoch(
    cnnbench: Command, tmp_path: Path
) -> None:
    assert cnnbench(*TINY, "data.validation=0").returncode == 0
    run = find_only_run(tmp_path)
    rows = metrics(run)
    result = json.loads((run / "result.json").read_text())
    assert float(rows[-1]["test_accuracy"]) == result["test_accuracy"]
    assert not (run / "checkpoints" / "best.pt").exists()


def test_title_of_the_last_curves_has_the_test_accuracy(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setitem(
        SHORTCUTS, (curves, "write_curves"), lambda rows, title, *_: titles.append(title)
    )
    assert within(*SMALL, "hydra.run.dir=run", "train.tta=hflip").returncode == 0
    accuracy = json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"]
    title = "mlp on part of Fashion-MNIST, 28 px, TTA hflip"
    assert titles == [title, f"{title}: test accuracy {accuracy:.4f}"]


def test_custom_model_and_custom_group_train(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(
        "from torch import nn\n"
        "class MyNet(nn.Sequential):\n"
        "    def __init__(self, in_channels, num_classes, image_size, width=8):\n"
        "        first = nn.Linear(in_channels * image_size**2, width)\n"
        "        last = nn.Linear(width, num_classes)\n"
        "        super().__init__(nn.Flatten(), first, nn.ReLU(), last)\n"
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
