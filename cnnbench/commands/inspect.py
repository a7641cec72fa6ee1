"""`cnnbench inspect`: draw the mistakes, saliency, feature maps and filters of a network."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from msgspec.structs import replace
from tqdm import tqdm

from cnnbench.analysis.activations import pick_evenly
from cnnbench.analysis.format import format_count, printable
from cnnbench.analysis.layers import measure_layers, sum_layers
from cnnbench.analysis.receptive_field import trace
from cnnbench.data import datasets
from cnnbench.data.device_data import Examples
from cnnbench.data.eval_set import load_eval_set
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.reports.batch_sheet import TrainingBatch, draw_training_batch, make_training_batch
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.gradients import draw_gradients
from cnnbench.reports.inspection.layers import choose_layers, find_main_layers, find_named_layers
from cnnbench.reports.inspection.pictures import ClassifiedImage
from cnnbench.reports.inspection.receptive_fields import draw_receptive_fields
from cnnbench.reports.inspection.sections import Section, Subject
from cnnbench.reports.page import render_page
from cnnbench.runs.atomic_files import write_atomically
from cnnbench.training.build import on_meta
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["inspect_network", "run"]

FOLDER = "inspect"
LEFT_OVERS = (
    *("feature_maps_*.png", "mistakes.png", "filters.png", "receptive_field.png"),
    "training_images.png",
)
# overrides that leave the training images of a run as they were
SAME_IMAGES = {"data.root", "data.path", "data.test_examples"}
MAX_IMAGES = 24
NUM_CLASSES = 4  # shown with an image each, besides the worst mistake


def run(options: argparse.Namespace, conf: Path) -> None:
    """Write pictures and a page into the folder `inspect` of a run directory.

    `conf` is the folder with the YAMLs.

    Raises:
        CnnbenchError: as for `load_trained_model`, or the data cannot be found or downloaded, or
            there is no such image or layer.
    """
    options.layers, options.images = _split(options.layers), _split(options.images)
    if len(options.images) > MAX_IMAGES:
        count = f"{len(options.images)} are too many to look at"
        raise ConfigError(f"--images: {count}. Give at most {MAX_IMAGES}.")
    # PyTorch's layers in float32, whatever the run was trained with, unless an override differs
    overrides = ["reference=none", "device.precision=fp32", *options.words]
    run, trust, by_order = options.directory, options.allow_custom_model, options.match_by_order
    trained = load_trained_model(run, overrides, conf, "inspect", trust, options.rest)
    config, dataset, changes = trained.config, trained.dataset, trained.overrides
    device = trained.engine.device.torch_device
    test = load_eval_set(config, dataset, trained.directory, changes, device, by_order)
    inspect_network(trained, test.examples, options, test.notes, _load_training_batch(trained))


def inspect_network(
    trained: TrainedModel,
    test: Examples,
    options: argparse.Namespace,
    notes: Sequence[str] = (),
    batch: TrainingBatch | None = None,
) -> None:
    """Draw the pictures, write the page, and print the findings.

    `options.images` are numbers of images and `options.layers` names of layers; if one is empty,
    some are chosen. `options.mistakes` is the number of mistakes to show. `notes` on the test set
    are shown with the findings. `batch` are training images to show.

    Raises:
        ConfigError: there is no such image or layer.
        CheckpointError: the logits are not finite.
    """
    network, image = on_meta(trained.config, trained.dataset, 1)
    traced = trace(network, image)
    layers = find_main_layers(traced)
    rows = find_named_layers(traced, options.layers) if options.layers else choose_layers(layers)
    _check_images(options.images, len(test))
    title = f"{trained.config.model.name} on {trained.dataset.title}"
    print(printable(title), flush=True)
    predictions = _predict(trained, test)
    wrong = [prediction for prediction in predictions if not prediction.is_right]
    wrong.sort(key=lambda prediction: prediction.probability, reverse=True)
    shown = [predictions[int(word)] for word in options.images]
    shown = shown or [*_pick_right(predictions, trained.classes), *wrong[:1]]
    folder = _prepare_folder(trained.directory)
    cost = sum_layers(measure_layers(network, image)).multiplications
    subject = Subject(folder, title, trained.engine, layers, cost, *image.shape[1:3])
    facts = _describe(trained, len(test), len(wrong))
    if notes:
        facts["note"] = " ".join(notes)
    lines = (f"{name}: {value}" for name, value in facts.items() if name != "run")
    print(printable("\n".join(lines)), end="\n\n", flush=True)

    def report(section: Section) -> Section:
        for file, _ in section.pictures:
            print(folder / file, flush=True)
        return section

    page = {
        "mistakes": report(sections.draw_mistakes(subject, wrong, options.mistakes)),
        "saliency": report(sections.draw_saliency(subject, shown)),
        "feature_maps": report(sections.draw_feature_maps(subject, shown, rows)),
        "kernels": report(sections.draw_kernels(subject)),
        "activations": report(sections.draw_activations(subject, test.images)),
        "weights": report(sections.draw_weights(subject)),
        "gradients": report(draw_gradients(subject, test)),
        "receptive_fields": report(draw_receptive_fields(subject, shown[0])),
        "training_images": report(_draw_training_images(subject, batch)),
    }
    text = render_page("inspection.html.jinja", title=title, facts=facts, sections=page)
    index = folder / "index.html"
    write_atomically(index, lambda file: file.write(text.encode()))
    findings = [line for section in page.values() for line in section.findings]
    print(printable("\n".join(["", *findings, ""])))
    print(index)


def _split(listed: str | None) -> list[str]:
    words = [word.strip() for word in (listed or "").split(",")]
    return list(dict.fromkeys(filter(None, words)))


def _check_images(words: Sequence[str], number: int) -> None:
    """Check that each word is the number of one of `number` test images."""
    for word in words:
        if not word.isdecimal() or int(word) >= number:
            count = f"There are {number:,}, 0 to {number - 1:,}."
            raise ConfigError(f"--images: there is no test image {word}. {count}")


def _prepare_folder(run: Path) -> Path:
    """Return the folder for the pictures, without those that an earlier inspection left."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    for pattern in LEFT_OVERS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    return folder


def _predict(trained: TrainedModel, test: Examples) -> list[ClassifiedImage]:
    logits = []
    with tqdm(total=len(test), unit=" images", unit_scale=True, disable=None, leave=False) as bar:
        for images, _ in test.batches_in_order(trained.config.train.batch_size):
            logits.append(trained.engine.classify(images).cpu())
            bar.update(len(images))
    all_logits = torch.cat(logits)
    if not all_logits.isfinite().all():
        damage = "are damaged: they give logits that are not finite"
        raise CheckpointError(f"The weights of {trained.directory} {damage}.")
    probabilities, predicted = all_logits.softmax(dim=1).max(dim=1)
    classes = trained.dataset.classes
    true_names = [classes[label] for label in test.labels.tolist()]
    names = [classes[label] for label in predicted.tolist()]
    columns = zip(
        range(len(test)), test.images, true_names, names, probabilities.tolist(), strict=True
    )
    return [ClassifiedImage(*values) for values in columns]


def _pick_right(
    predictions: Sequence[ClassifiedImage], classes: Sequence[str]
) -> list[ClassifiedImage]:
    """Return the first image that is classified correctly, of some of the classes."""
    right = [prediction for prediction in predictions if prediction.is_right]
    firsts = {prediction.true: prediction for prediction in reversed(right)}
    return pick_evenly([firsts[name] for name in classes if name in firsts], NUM_CLASSES)


def _load_training_batch(trained: TrainedModel) -> TrainingBatch | None:
    """Return training images of the run, or None if the data are others today."""
    config = trained.config
    if any(key.startswith("data") for key in trained.overrides.keys() - SAME_IMAGES):
        return None
    path = config.data.path
    if path and "data.path" not in trained.overrides:  # it may be relative to another folder
        path = trained.dataset.path or path
    data = replace(config.data, path=path, validation=0)  # as the test set: from the cache
    dataset, arrays = datasets.load_dataset(data)
    if dataset.sha256 != trained.dataset.sha256:
        return None
    return make_training_batch(config, dataset, arrays)


def _draw_training_images(subject: Subject, batch: TrainingBatch | None) -> Section:
    if batch is None:
        return Section(note="They are not shown: the data are not those of the run.")
    file = "training_images.png"
    caption = draw_training_batch(subject.folder / file, subject.title, batch)
    return Section([(file, caption)])


def _describe(trained: TrainedModel, images: int, mistakes: int) -> dict[str, str]:
    data, device = trained.config.data, trained.engine.device
    accuracy = (images - mistakes) / images
    computed = f"on {device.describe()} in {device.precision}"
    if trained.config.train.tta == "hflip":
        computed += "; logits are the mean over the image and its mirror image"
    return {
        "run": str(trained.directory.resolve()),
        "weights": trained.weights,
        "test images": f"{images:,} of {data.path or data.name}",
        "accuracy": f"{accuracy:.4f}, {format_count(mistakes, 'mistake')}",
        "computed": computed,
    }
