"""`cnnbench inspect`: what a trained network gets wrong, what it looks at and what it has learnt, as pictures."""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from cnnbench.analysis.activations import LayerOutputs, pick_evenly
from cnnbench.analysis.format import align, printable, truncate
from cnnbench.analysis.layers import measure_layers, sum_layers
from cnnbench.analysis.receptive_field import Traced, trace
from cnnbench.commands import parse_run_arguments, run_parser
from cnnbench.data.eval_set import load_eval_set
from cnnbench.data.resident import Examples
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.layers import choose_layers, in_words, named_layers, side_of_field
from cnnbench.reports.inspection.page import write_page
from cnnbench.reports.inspection.pictures import Shown
from cnnbench.reports.inspection.sections import BATCH_SIZE, MOST_MULTIPLY_ADDS, Section, Subject
from cnnbench.training.build import on_meta
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["look", "run"]

FOLDER = "inspect"
ONLY_OF_SOME = ("feature_maps_*.png", "mistakes.png", "filters.png", "receptive_field.png")  # may be left from before
MOST_IMAGES = 24
MOST_MISTAKES = 200
CLASSES = 4  # of which an image each is looked at, and the worst mistake
IMAGES = (32, 256)  # the least and the most whose activations are looked at: fewer where an image is much work


def run(arguments: list[str], conf: Path) -> None:
    """Write pictures and a page into the folder `inspect` of a run directory; `conf` is the folder with the YAMLs.

    Raises:
        CnnbenchError: as `load_trained_model`, the data cannot be found or fetched, or there is no
            such image or layer.
    """
    options = _parse(arguments)
    # by torch in full precision, whatever the run was trained in, unless another is asked for
    overrides = ["reference=none", "device.precision=fp32", *options.overrides]
    trained = load_trained_model(options.directory, overrides, conf, "inspect", options.allow_custom_model)
    config, dataset, device = trained.config, trained.dataset, trained.engine.device.torch_device
    by_order = options.match_by_order
    test = load_eval_set(config, dataset, trained.directory, trained.overrides, device, by_order)
    look(trained, test.examples, options.images, options.layers, options.mistakes, test.notes)


def look(
    trained: TrainedModel,
    test: Examples,
    images: list[int],
    layers: list[str],
    most_mistakes: int,
    notes: Sequence[str] = (),
) -> None:
    """Make the pictures and the page, of the `images` and `layers` that are named or, without, of some that are chosen.

    `notes` on the test set are shown with the findings.

    Raises:
        ConfigError: there is no such image or layer.
        CheckpointError: the weights give no finite logits.
    """
    network, image = on_meta(trained.config, trained.dataset, 1)
    traced = trace(network, image)
    watched = named_layers(traced, network, layers) if layers else choose_layers(traced)
    beyond = [index for index in images if index >= len(test)]
    if beyond:
        there = f"There are {len(test):,}, 0 to {len(test) - 1:,}."
        raise ConfigError(f"--images: there is no test image {beyond[0]:,}. {there}")
    predictions = _predict(trained, test)
    subject = _subject(trained, network, image, traced)
    page, outputs = _draw(subject, trained, predictions, images or _choose(predictions), watched, most_mistakes)
    facts = _facts(trained, predictions)
    if notes:
        facts["note"] = " ".join(notes)
    path = subject.folder / "index.html"
    write_page(path, subject.title, facts, page)
    print(_summary(subject, facts, predictions, outputs))
    print("", *subject.written, path, sep="\n")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = run_parser(
        "inspect",
        "Make pictures of what a trained network gets wrong, what it looks at and what it has learnt: its "
        "most confident mistakes, saliency, feature maps, first-layer filters, activations, weights and receptive "
        f"fields. They are written into the folder {FOLDER} of the run directory, with a page that shows them.",
        "--images 3,17",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="other data or device, such as device=cpu")
    parser.add_argument("--images", metavar="I,J,...", help="the test images to look at, counted from 0")
    parser.add_argument("--layers", metavar="NAME,...", help="the layers whose feature maps are shown")
    parser.add_argument("--mistakes", type=int, default=25, metavar="N", help="how many mistakes are shown (25)")
    options = parse_run_arguments(parser, arguments, takes_data=True)
    if not 1 <= options.mistakes <= MOST_MISTAKES:
        raise ConfigError(f"--mistakes {options.mistakes} is out of range. It must be from 1 to {MOST_MISTAKES}.")
    options.layers, images = _words(options.layers), _words(options.images)
    odd = [word for word in images if not word.isdecimal()]
    if odd:
        raise ConfigError(f"--images: '{odd[0]}' is no test image. Give their numbers, counted from 0, as in 3,17.")
    if len(images) > MOST_IMAGES:
        raise ConfigError(f"--images: {len(images)} are too many to look at. Give at most {MOST_IMAGES}.")
    options.images = [int(word) for word in images]
    return options


def _words(given: str | None) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in (given or "").split(",") if word.strip()))


@dataclass(frozen=True)
class Predictions:
    """What the network makes of the test set: of each image the true and the predicted class, and its probability."""

    examples: Examples
    classes: Sequence[str]
    labels: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32]

    @property
    def accuracy(self) -> float:
        return float((self.labels == self.predicted).mean())

    @property
    def mistakes(self) -> list[int]:
        """The images it gets wrong, those first of which it is surest."""
        order = np.argsort(-self.probability, kind="stable")
        wrong: list[int] = order[self.labels[order] != self.predicted[order]].tolist()
        return wrong

    @property
    def pairs(self) -> Counter[tuple[str, str]]:
        """How often one class was taken for another: (true, predicted)."""
        return Counter((self.classes[self.labels[i]], self.classes[self.predicted[i]]) for i in self.mistakes)

    def show(self, index: int, image: npt.NDArray[np.float32]) -> Shown:
        true, predicted = (self.classes[each[index]] for each in (self.labels, self.predicted))
        return Shown(index, image, true, predicted, float(self.probability[index]))


def _predict(trained: TrainedModel, test: Examples) -> Predictions:
    with tqdm(total=len(test), unit=" images", unit_scale=True, disable=None, leave=False) as bar:
        logits = []
        for images, _ in test.batches_in_order(trained.config.train.batch_size):
            logits.append(trained.engine.classify(images).cpu())
            bar.update(len(images))
    together = torch.cat(logits)
    if not together.isfinite().all():
        raise CheckpointError(f"The weights of {trained.directory} are damaged: they give logits that are not finite.")
    probability, predicted = together.softmax(dim=1).max(dim=1)
    labels = test.labels.cpu().numpy()
    return Predictions(test, trained.dataset.classes, labels, predicted.numpy(), probability.numpy())


def _choose(predictions: Predictions) -> list[int]:
    """An image each of some classes, the first that is classified correctly, and the worst mistake."""
    right = np.flatnonzero(predictions.labels == predictions.predicted)
    firsts = {int(predictions.labels[index]): int(index) for index in right[::-1]}
    return [*(firsts[each] for each in pick_evenly(sorted(firsts), CLASSES)), *predictions.mistakes[:1]]


def _subject(trained: TrainedModel, network: nn.Module, image: torch.Tensor, traced: Sequence[Traced]) -> Subject:
    """Return the network as the pictures need it, and make the folder. `network` is on the meta device."""
    folder = trained.directory / FOLDER
    folder.mkdir(exist_ok=True)
    for pattern in ONLY_OF_SOME:
        for left in folder.glob(pattern):
            left.unlink(missing_ok=True)
    engine = trained.engine

    def forward(inputs: torch.Tensor) -> object:
        with engine.autocast:
            return engine.eval_model(inputs)

    title = f"{trained.config.model.name} on {trained.dataset.title}"
    cost = sum_layers(measure_layers(network, image)).multiplications
    _, channels, height, width = image.shape
    shape = (channels, height, width)
    return Subject(folder, title, engine.eval_model, forward, engine.logits, traced, cost, shape)


def _draw(
    subject: Subject,
    trained: TrainedModel,
    predictions: Predictions,
    chosen: Sequence[int],
    layers: Sequence[Traced],
    most_mistakes: int,
) -> tuple[dict[str, Section], list[LayerOutputs]]:
    """The sections of the page by name, and the statistics of the layers' outputs."""
    engine, examples = trained.engine, predictions.examples
    inputs = [engine.inputs(examples.images[index : index + 1]) for index in chosen]
    shown = [predictions.show(index, _as_seen(trained, each)) for index, each in zip(chosen, inputs, strict=True)]
    wrong = predictions.mistakes
    gallery = [predictions.show(i, examples.images[i].cpu().numpy() / np.float32(255)) for i in wrong[:most_mistakes]]
    fewest, most = IMAGES
    affordable = int(MOST_MULTIPLY_ADDS / max(1, subject.multiply_adds))
    some = pick_evenly(range(len(examples)), max(fewest, min(most, affordable)))

    def batches() -> Iterator[torch.Tensor]:
        for indices in torch.split(torch.tensor(some, device=examples.images.device), BATCH_SIZE):
            yield engine.inputs(examples.images[indices])

    activations, outputs = sections.activations(subject, batches, len(some))
    return {
        "mistakes": sections.mistakes(subject, gallery, len(wrong), predictions.pairs),
        "saliency": sections.saliency(subject, shown, inputs, [int(predictions.predicted[index]) for index in chosen]),
        "feature_maps": sections.feature_maps(subject, shown, inputs, layers),
        "kernels": sections.kernels(subject),
        "activations": activations,
        "weights": sections.weights(subject),
        "receptive_fields": sections.receptive_fields(subject, shown[0]),
    }, outputs


def _as_seen(trained: TrainedModel, inputs: torch.Tensor) -> npt.NDArray[np.float32]:
    """An input (1, C, S, S) as an image (C, S, S) of values from 0 to 1."""
    done = trained.engine.preprocess
    mean, std = (np.array(each, np.float32).reshape(-1, 1, 1) for each in (done.mean, done.std))
    image: npt.NDArray[np.float32] = np.clip(inputs[0].float().cpu().numpy() * std + mean, 0, 1)
    return image


def _facts(trained: TrainedModel, predictions: Predictions) -> dict[str, str]:
    wrong, train, device = len(predictions.mistakes), trained.config.train, trained.engine.device
    mirrored = "; logits are the mean over the image and its mirror image" if train.tta == "hflip" else ""
    return {
        "run": str(trained.directory.resolve()),
        "weights": trained.weights,
        "test images": f"{len(predictions.labels):,} of {trained.config.data.path or trained.config.data.name}",
        "accuracy": f"{predictions.accuracy:.4f}, {wrong:,} {'mistake' if wrong == 1 else 'mistakes'}",
        "computed": f"on {device.describe()} in {device.precision}{mirrored}",
    }


def _summary(
    subject: Subject, facts: Mapping[str, str], predictions: Predictions, outputs: Sequence[LayerOutputs]
) -> str:
    """The main findings as plain text."""
    lines = [subject.title, *(f"{name}: {value}" for name, value in facts.items() if name != "run")]
    pairs = [
        (f"  {truncate(true, 40)}", f"taken for {truncate(taken, 40)}", f"{times:,}")
        for (true, taken), times in predictions.pairs.most_common(5)
    ]
    if pairs:
        lines += ["most often:", align(pairs, right=[2])]
    dead = {each.layer.label: each.dead_units for each in outputs if each.dead_units is not None}
    saturated = {each.layer.label: each.saturated for each in outputs if each.saturated is not None}
    for what, shares in (("dead units of ReLU", dead), ("saturated outputs of sigmoid and tanh", saturated)):
        if shares:
            most = max(shares, key=lambda name: shares[name])
            lines.append(f"{what}: at most {100 * shares[most]:.1f} %, in {most}")
    convolutions = [each for each in subject.traced if isinstance(each.module, nn.Conv2d)]
    if convolutions:
        last = max(reversed(convolutions), key=side_of_field)
        field = in_words(last, subject.size).replace("×", "x")
        lines.append(f"largest receptive field of a convolution: {field}, in {last.label}")
    return printable("\n".join(lines))
