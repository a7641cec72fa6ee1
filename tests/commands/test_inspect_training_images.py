"""The section of `cnnbench inspect` on training images, and when it is left out."""

from pathlib import Path

import pytest
from helpers.command import Command
from helpers.image_folders import fill
from helpers.small_runs import rewrite_checkpoint
from matplotlib.figure import Figure

from cnnbench.reports.batch_sheet import TrainingBatch


def test_page_shows_training_images_as_the_run_augments_them(
    within: Command, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda *arguments, **keywords: None)
    for path in (finished_run / "checkpoints").glob("*.pt"):
        rewrite_checkpoint(path, lambda state: state["config"]["augment"].update(cutmix=1.0))
    done = within("inspect", "run")
    assert done.returncode == 0, done.stderr
    assert "run/inspect/training_images.png\n" in done.stdout
    caption = (
        "16 training images from the start of epoch 1: 28 × 28 pixels; normalized by mean 0.29 and "
        "std 0.35; cutmix=1.0."
    )
    page = (finished_run / "inspect" / "index.html").read_text()
    assert f"<figcaption>{caption}</figcaption>" in page
    assert f'alt="Training images as the network sees them: {caption}"' in page
    assert '<a href="#training_images">Training images as the network sees them</a>' in page


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[TrainingBatch | None]:
    """Return the list of the batches that `cnnbench inspect` is to show. Nothing is drawn."""
    given: list[TrainingBatch | None] = []
    monkeypatch.setattr(
        "cnnbench.commands.inspect.inspect_network", lambda *arguments: given.append(arguments[-1])
    )
    return given


@pytest.mark.parametrize(
    ("override", "number"),
    [
        ("data=sample", None),
        ("data.train_examples=9", None),
        ("data.test_examples=7", 16),
        ("train.batch_size=4", 4),
        ("device.precision=fp64", 16),
    ],
)
def test_training_images_are_those_of_the_run_or_none(
    override: str,
    number: int | None,
    within: Command,
    finished_run: Path,
    batches: list[TrainingBatch | None],
) -> None:
    assert within("inspect", "run", override).returncode == 0
    (batch,) = batches
    assert (None if batch is None else len(batch.examples)) == number


def test_training_images_of_a_folder_are_shown_as_long_as_they_are_the_same(
    within: Command, tmp_path: Path, batches: list[TrainingBatch | None]
) -> None:
    fill(tmp_path / "photos", {"cat": 8, "dog": 8})
    small = ("model=mlp", "model.widths=[4]", "data.image_size=8", "data.validation=2")
    words = ("data=folder", "data.path=photos", *small, "train.epochs=1", "hydra.run.dir=run")
    assert within(*words, "device=cpu", "device.precision=fp32").returncode == 0
    assert within("inspect", "run").returncode == 0
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert within("inspect", "run", "data.path=moved").returncode == 0
    fill(tmp_path / "others", {"cat": 2, "dog": 3})
    assert within("inspect", "run", "data.path=others").returncode == 0
    first, moved, other = batches
    assert first is not None
    assert moved is not None
    assert len(first.examples) == 12  # of 16, less 2 for the test set and 2 for the validation set
    assert moved.examples.images.equal(first.examples.images)
    assert other is None
