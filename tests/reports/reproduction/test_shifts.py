"""Changes of maps by shifts of images, before and after pooling."""

from pathlib import Path

import pytest
import torch
from helpers.command import Command
from torch import nn

from cnnbench.cli.hydra_app import conf_folder
from cnnbench.reports.reproduction.shifts import compare_shifts, measure_shift_ratio


class Trained:
    """A network that sees the bytes of images as they are."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images.double())
        return logits


@pytest.fixture
def pixel() -> torch.Tensor:
    """Return an image with one bright pixel, in the left column of a 2 x 2 window."""
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[..., 2, 2] = 255
    return images


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        # A shift by 1 stays in the window: no change. Shifts by 2 and 3 change all.
        (nn.MaxPool2d(2), 2 / 3),
        (nn.AvgPool2d(2), 2 / 3),
        (nn.MaxPool2d(1), 1.0),
        (nn.MaxPool2d(8), 0.0),
    ],
)
def test_ratio_is_the_change_after_pooling_by_that_before(
    pixel: torch.Tensor, pooling: nn.Module, expected: float
) -> None:
    trained = Trained(nn.Sequential(nn.Identity(), pooling, nn.MaxPool2d(1)))
    ratio = compare_shifts(trained, pixel)  # type: ignore[arg-type]
    assert ratio == pytest.approx(expected)


def test_ratio_is_relative_to_the_maps(pixel: torch.Tensor) -> None:
    """A brighter background makes the same change smaller, before and after pooling."""
    trained = Trained(nn.Sequential(nn.ConstantPad2d((0, 0, 8, 0), 255.0), nn.MaxPool2d(2)))
    # 64 bright pixels of the background and 1 of the image before; 16 and 1 after pooling
    before, after = (2 / 65) ** 0.5, (2 / 17) ** 0.5 * 2 / 3
    ratio = compare_shifts(trained, pixel)  # type: ignore[arg-type]
    assert ratio == pytest.approx(after / before)


def test_network_without_pooling_has_no_ratio(pixel: torch.Tensor) -> None:
    trained = Trained(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    assert compare_shifts(trained, pixel) is None  # type: ignore[arg-type]


def test_images_without_change_have_no_ratio() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    trained = Trained(nn.Sequential(nn.Identity(), nn.MaxPool2d(2)))
    assert compare_shifts(trained, images) is None  # type: ignore[arg-type]


def test_ratio_of_a_run_is_that_of_its_test_images(within: Command, tmp_path: Path) -> None:
    little = ("data.train_examples=20", "data.test_examples=10", "train.epochs=1", "device=cpu")
    words = ("data=sample", "data.validation=0", "train.batch_size=10", *little)
    done = within("model=lenet_relu", *words, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    ratio = measure_shift_ratio(tmp_path / "run", conf_folder())
    assert ratio is not None
    assert 0.1 < ratio < 1.5
    assert measure_shift_ratio(tmp_path / "run", conf_folder()) == ratio
