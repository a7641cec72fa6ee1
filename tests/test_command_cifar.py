"""CIFAR through the command: the data sets, and the papers' own configurations, on made-up archives."""

import json
from pathlib import Path

import pytest
from cifar_archives import made_up_cifar, made_up_images
from installed import Command, only_run

from cnnbench import config
from cnnbench.data.catalog import CATALOG
from cnnbench.training.schedules import lr_factor

EXPERIMENTS = {
    "preact_resnet_cifar10": ("model.depth=8",),
    "densenet_cifar10": ("model.depth=7", "model.growth_rate=2"),
    "densenet_cifar10_plus": ("model.depth=7", "model.growth_rate=2"),
}
SMALL = ("device=cpu", "device.threads=1", "train.epochs=1", "train.batch_size=16")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both data sets, made up."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("cifar10", "cifar100"):
        dataset, archives = made_up_cifar(name, made_up_images(name))
        monkeypatch.setitem(CATALOG, name, dataset)
        for file, content in archives.items():
            (folder / file).write_bytes(content)
    monkeypatch.setenv("CNNBENCH_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_a_network_is_trained_on_three_channels(name: str, classes: int, within: Command, tmp_path: Path) -> None:
    done = within(f"data={name}", "model=lenet_relu", "data.resize=32", "data.validation=10", *SMALL)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    known = json.loads((run / "dataset.json").read_text())
    assert run.parent.name == f"lenet_relu-{name}-32px"
    assert (len(known["classes"]), len(known["mean"]), known["image_size"]) == (classes, 3, 32)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_data_verb_says_where_the_archive_is(name: str, within: Command, root: Path) -> None:
    done = within("data", name)
    assert f"verified in {root}" in done.stdout


@pytest.mark.parametrize(("experiment", "smaller"), EXPERIMENTS.items(), ids=EXPERIMENTS.keys())
def test_a_papers_configuration_trains(
    experiment: str, smaller: tuple[str, ...], within: Command, tmp_path: Path
) -> None:
    done = within(f"experiment={experiment}", *smaller, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "50 training, 0 validation and 20 test examples" in done.stdout


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_another_network_and_data_set_take_their_place_in_it(experiment: str, within: Command) -> None:
    done = within(f"experiment={experiment}", "model=densenet_bc100", "data=cifar100", "--cfg", "job")
    assert "name: densenet_bc100" in done.stdout
    assert "name: cifar100" in done.stdout


def rates(experiment: str, steps: list[int], steps_per_epoch: int, within: Command, folder: Path) -> list[float]:
    """The learning rates of these steps, as the experiment is printed."""
    shown = within(f"experiment={experiment}", "--cfg", "job", "--resolve").stdout
    settings = config.load(config.parse(shown))
    total = settings.train.epochs * steps_per_epoch
    factors = [lr_factor(settings.scheduler, step, steps_per_epoch, total) for step in steps]
    return [settings.optimizer.lr * factor for factor in factors]


def test_preact_resnets_rates_are_the_papers_by_images_seen(within: Command, tmp_path: Path) -> None:
    # 391 steps in an epoch: the last one has 80 images of 128, so that 32,000 of the paper's steps take 32,031
    steps = [0, 399, 401, 32_030, 32_031, 48_045, 48_047, 64_123]
    expected = [0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert rates("preact_resnet_cifar10", steps, 391, within, tmp_path) == pytest.approx(expected)


@pytest.mark.parametrize("experiment", ["densenet_cifar10", "densenet_cifar10_plus"])
def test_densenets_rates_are_the_papers(experiment: str, within: Command, tmp_path: Path) -> None:
    steps = [0, 150 * 782 - 1, 150 * 782, 225 * 782 - 1, 225 * 782, 300 * 782 - 1]
    assert rates(experiment, steps, 782, within, tmp_path) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
