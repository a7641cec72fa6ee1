"""Commands on made-up public data sets, and the papers' configurations of CIFAR."""

import json
from pathlib import Path

import pytest
from helpers.command import Command, find_only_run
from helpers.public_datasets import make_published

from cnnbench import config
from cnnbench.data.catalog import CATALOG
from cnnbench.training.schedules import lr_factor

EXPERIMENTS = {
    "preact_resnet_cifar10": ("model.depth=8",),
    "densenet_cifar10": ("model.depth=7", "model.growth_rate=2"),
    "densenet_cifar10_plus": ("model.depth=7", "model.growth_rate=2"),
}
SMALL = ("device=cpu", "device.threads=1", "train.epochs=1", "train.batch_size=16")


PUBLIC = [name for name in CATALOG if name != "sample"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the folder of public data sets, which is empty at first."""
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


def place(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the files of a data set into a folder; return it."""
    dataset, files = make_published(name)
    monkeypatch.setitem(CATALOG, name, dataset)
    folder = root / dataset.folders[-1]
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", ["kmnist", "qmnist", "emnist_letters", "cifar10", "cifar100"])
def test_train_on_a_public_data_set(
    name: str, within: Command, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(name, root, monkeypatch)
    done = within(
        f"data={name}", "model=lenet_relu", "data.resize=32", "data.validation=10", *SMALL
    )
    assert done.returncode == 0, done.stderr
    run = find_only_run(tmp_path)
    assert run.parent.name == f"lenet_relu-{name}-32px"
    record, dataset = json.loads((run / "dataset.json").read_text()), CATALOG[name]
    assert (tuple(record["classes"]), record["sha256"]) == (dataset.classes, dataset.sha256)
    assert (len(record["mean"]), record["image_size"]) == (dataset.in_channels, dataset.image_size)
    assert (tuple(record["mean"]) == dataset.mean) == dataset.is_measured
    if not dataset.is_measured:
        (run / "dataset.json").unlink()
        done = within("evaluate", str(run))
        assert (done.returncode, "dataset.json is gone" in done.stderr) == (5, True)


@pytest.mark.parametrize("name", PUBLIC)
def test_data_command_describes_a_data_set_and_its_folder(
    name: str, within: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place(name, root, monkeypatch)
    lines = within("data", name).stdout.splitlines()
    dataset = CATALOG[name]
    assert lines[0] == f"{name}: {dataset.title}, license {dataset.licence}"
    size = f"{dataset.image_size} x {dataset.image_size}, {len(dataset.classes)} classes:"
    assert lines[1] == f"  50 training and 20 test images of {size}"
    assert " ".join(line.strip() for line in lines[2:-1]) == ", ".join(dataset.classes)
    assert lines[-1] == f"  verified in {folder}"


def test_data_command_lists_all_data_sets_and_rejected_files(within: Command, root: Path) -> None:
    root.mkdir()
    (root / "gzip.zip").write_bytes(b"<html>")
    lines = within("data").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if line[0] != " "][:-1] == list(CATALOG)
    rejected = [line for line in lines if line.startswith("  passed over")]
    expected = [f"  passed over {root / 'gzip.zip'}"] * 3
    assert [line.partition(": ")[0] for line in rejected] == expected
    assert "  not on this machine: cifar-10-python.tar.gz or cifar-10-binary.tar.gz" in lines
    assert lines[-1] == "Your own images are a data set too: data=folder data.path=DIR"


@pytest.mark.parametrize(("experiment", "smaller"), EXPERIMENTS.items(), ids=EXPERIMENTS.keys())
def test_train_with_the_configuration_of_a_paper(
    experiment: str,
    smaller: tuple[str, ...],
    within: Command,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place("cifar10", root, monkeypatch)
    done = within(f"experiment={experiment}", *smaller, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "50 training, 0 validation and 20 test examples" in done.stdout


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_configuration_of_a_paper_with_another_network_and_data_set(
    experiment: str, within: Command
) -> None:
    overrides = (f"experiment={experiment}", "model=densenet_bc100", "data=cifar100")
    done = within(*overrides, "--cfg", "job")
    assert "name: densenet_bc100" in done.stdout
    assert "name: cifar100" in done.stdout


def compute_rates(
    experiment: str, steps: list[int], steps_per_epoch: int, within: Command
) -> list[float]:
    """Return the learning rates of an experiment at the given steps."""
    printed = within(f"experiment={experiment}", "--cfg", "job", "--resolve").stdout
    settings = config.load_config(config.parse(printed))
    total = settings.train.epochs * steps_per_epoch
    factors = [lr_factor(settings.scheduler, step, steps_per_epoch, total) for step in steps]
    return [settings.optimizer.lr * factor for factor in factors]


def test_learning_rates_of_preact_resnet_are_those_of_the_paper(within: Command) -> None:
    # An epoch has 391 steps, the last with 80 images instead of 128. So 32,000 full batches of the
    # paper correspond to 32,031 steps.
    steps = [0, 399, 401, 32_030, 32_031, 48_045, 48_047, 64_123]
    expected = [0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert compute_rates("preact_resnet_cifar10", steps, 391, within) == pytest.approx(expected)


@pytest.mark.parametrize("experiment", ["densenet_cifar10", "densenet_cifar10_plus"])
def test_learning_rates_of_densenet_are_those_of_the_paper(
    experiment: str, within: Command
) -> None:
    steps = [0, 150 * 782 - 1, 150 * 782, 225 * 782 - 1, 225 * 782, 300 * 782 - 1]
    expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert compute_rates(experiment, steps, 782, within) == pytest.approx(expected)
