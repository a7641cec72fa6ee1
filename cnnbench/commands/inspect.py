"""`cnnbench inspect`: what a trained network gets wrong, looks at and has learnt, as pictures."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from cnnbench.analysis.activations import pick_evenly
from cnnbench.analysis.format import format_count, printable
from cnnbench.analysis.layers import measure_layers, sum_layers
from cnnbench.analysis.receptive_field import trace
from cnnbench.data.device_data import Examples
from cnnbench.data.eval_set import load_eval_set
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.layers import choose_layers, find_main_layers, find_named_layers
from cnnbench.reports.inspection.pictures import ClassifiedImage
from cnnbench.reports.inspection.receptive_fields import draw_receptive_fields
from cnnbench.reports.inspection.sections import Section, Subject
from cnnbench.reports.page import render_page
from cnnbench.runs.directory import write_atomically
from cnnbench.training.build import on_meta
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["inspect_network", "run"]

FOLDER = "inspect"
LEFT_OVERS = ("feature_maps_*.png", "mistakes.png", "filters.png", "receptive_field.png")
MAX_IMAGES = 24
CLASSES = 4  # of which an image each is looked at, and the worst mistake


def run(options: argparse.Namespace, conf: Path) -> None:
    """Write pictures and a page into the folder `inspect` of a run directory.

    `conf` is the folder with the YAMLs.

    Raises:
        CnnbenchError: as `load_trained_model`, the data cannot be found or fetched, or there is no
            such image or layer.
    """
    options.layers, options.images = _words(options.layers), _words(options.images)
    if len(options.images) > MAX_IMAGES:
        count = f"{len(options.images)} are too many to look at"
        raise ConfigError(f"--images: {count}. Give at most {MAX_IMAGES}.")
    # by torch in full precision, whatever the run was trained in, unless another is asked for
    overrides = ["reference=none", "device.precision=fp32", *options.words]
    run, trust, by_order = options.directory, options.allow_custom_model, options.match_by_order
    trained = load_trained_model(run, overrides, conf, "inspect", trust, options.rest)
    config, dataset, changes = trained.config, trained.dataset, trained.overrides
    device = trained.engine.device.torch_device
    test = load_eval_set(config, dataset, trained.directory, changes, device, by_order)
    inspect_network(trained, test.examples, options, test.notes)


def inspect_network(
    trained: TrainedModel, test: Examples, options: argparse.Namespace, notes: Sequence[str] = ()
) -> None:
    """Make the pictures and the page, and print the findings.

    `options` has `images` and `layers`, by number and name or empty to choose some, and the number
    of `mistakes`. `notes` on the test set are shown with the findings.

    Raises:
        ConfigError: there is no such image or layer.
        CheckpointError: the weights give no finite logits.
    """
    network, image = on_meta(trained.config, trained.dataset, 1)
    traced = trace(network, image)
    layers = find_main_layers(traced)
    rows = find_named_layers(traced, options.layers) if options.layers else choose_layers(layers)
    for word in options.images:
        if not word.isdecimal() or int(word) >= len(test):
            count = f"There are {len(test):,}, 0 to {len(test) - 1:,}."
            raise ConfigError(f"--images: there is no test image {word}. {count}")
    title = f"{trained.config.model.name} on {trained.dataset.title}"
    print(printable(title), flush=True)
    predictions = _predict(trained, test)
    wrong = [each for each in predictions if not each.is_right]
    wrong.sort(key=lambda each: each.probability, reverse=True)
    shown = [predictions[int(word)] for word in options.images]
    if not shown:
        firsts = {each.true: each for each in reversed(predictions) if each.is_right}
        right = [firsts[name] for name in trained.dataset.classes if name in firsts]
        shown = [*pick_evenly(right, CLASSES), *wrong[:1]]
    folder = trained.directory / FOLDER
    folder.mkdir(exist_ok=True)
    for path in (path for pattern in LEFT_OVERS for path in folder.glob(pattern)):
        path.unlink(missing_ok=True)
    cost = sum_layers(measure_layers(network, image)).multiplications
    subject = Subject(folder, title, trained.engine, layers, cost, *image.shape[1:3])
    facts = _facts(trained, len(test), len(wrong))
    if notes:
        facts["note"] = " ".join(notes)
    lines = (f"{name}: {value}" for name, value in facts.items() if name != "run")
    print(printable("\n".join(lines)), end="\n\n", flush=True)
    made = partial(_print_pictures, folder)
    page = {
        "mistakes": made(sections.draw_mistakes(subject, wrong, options.mistakes)),
        "saliency": made(sections.draw_saliency(subject, shown)),
        "feature_maps": made(sections.draw_feature_maps(subject, shown, rows)),
        "kernels": made(sections.draw_kernels(subject)),
        "activations": made(sections.draw_activations(subject, test.images)),
        "weights": made(sections.draw_weights(subject)),
        "receptive_fields": made(draw_receptive_fields(subject, shown[0])),
    }
    text = render_page("inspection.html.jinja", title=title, facts=facts, sections=page)
    index = folder / "index.html"
    write_atomically(index, lambda file: file.write(text.encode()))
    findings = [line for section in page.values() for line in section.findings]
    print(printable("\n".join(["", *findings, ""])))
    print(index)


def _print_pictures(folder: Path, section: Section) -> Section:
    """Print where the pictures of a section are; return it."""
    for file, _ in section.pictures:
        print(folder / file, flush=True)
    return section


def _words(given: str | None) -> list[str]:
    words = [word.strip() for word in (given or "").split(",")]
    return list(dict.fromkeys(filter(None, words)))


def _predict(trained: TrainedModel, test: Examples) -> list[ClassifiedImage]:
    logits = []
    with tqdm(total=len(test), unit=" images", unit_scale=True, disable=None, leave=False) as bar:
        for images, _ in test.batches_in_order(trained.config.train.batch_size):
            logits.append(trained.engine.classify(images).cpu())
            bar.update(len(images))
    together = torch.cat(logits)
    if not together.isfinite().all():
        damage = "are damaged: they give logits that are not finite"
        raise CheckpointError(f"The weights of {trained.directory} {damage}.")
    probabilities, predicted = together.softmax(dim=1).max(dim=1)
    names = [trained.dataset.classes[label] for label in test.labels.tolist()]
    taken = [trained.dataset.classes[label] for label in predicted.tolist()]
    columns = zip(range(len(test)), test.images, names, taken, probabilities.tolist(), strict=True)
    return [ClassifiedImage(*values) for values in columns]


def _facts(trained: TrainedModel, images: int, mistakes: int) -> dict[str, str]:
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
