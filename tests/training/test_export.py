"""Networks as files for other programs: each computes what the network does, for batches of any size."""

import copy
import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import onnx
import pytest
import torch
from helpers.config_changes import change
from helpers.devices import MakeEngine
from torch import nn

from cnnbench import models
from cnnbench.config import Config
from cnnbench.data.preprocess import Preprocess
from cnnbench.errors import ConfigError
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine
from cnnbench.training.export import FORMATS, Classifier, Preprocessing, differences, pack

RELATIVE = 2e-6  # of the largest logit; single precision has made up to 1e-6

QUICK = ("bn_lenet", "residual_net")

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("lenet", {"pooling": "min", "activation": "tanh"}),
    ("lenet", {"padding_mode": "circular"}),
    ("resnet20", {"depth": 8, "padding_mode": "reflect"}),
    ("preact_resnet110", {"depth": 8, "shortcut": "exclusive_gating"}),
]
MORE_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("wide_resnet16_8", {"depth": 10, "width": 1, "dropout": 0.3}),
    ("densenet_bc100", {"depth": 10, "dropout": 0.2}),
    ("googlenet", {"auxiliary": True}),
    *(("lenet", {"padding_mode": mode}) for mode in ("reflect", "replicate")),
    *(
        ("preact_resnet110", {"depth": 8, "shortcut": shortcut})
        for shortcut in ("constant_scaling", "shortcut_only_gating", "dropout")
    ),
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def network_of(name: str, size: int, in_channels: int = 1, **arguments: Any) -> nn.Module:
    """With statistics of batch normalisation that are not those it begins with."""
    network = models.build(name, in_channels, 10, size, **arguments)
    with torch.no_grad():
        network.train()(torch.randn(4, in_channels, size, size))
    return network


def size_of(name: str, **arguments: Any) -> int:
    return 65 if arguments.get("auxiliary") else max(32, models.REGISTRY[name].min_image_size)


def relative_difference(form: str, network: nn.Module, size: int, in_channels: int = 1) -> float:
    """The largest difference of a logit, in parts of the largest."""
    classifier = Classifier(network, tta="none")
    content = pack(form, classifier, torch.zeros(2, in_channels, size, size), {})
    run = FORMATS[form].unpack(content, copy.deepcopy(classifier))
    difference = largest = 0.0
    for batch in (1, 2, 7):
        images = torch.randn(batch, in_channels, size, size)
        expected = classifier(images)
        difference = max(difference, float((run(images) - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    return difference / largest


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in models.REGISTRY
    ],
)
def test_every_network_is_the_same_in_onnx(name: str) -> None:
    size = size_of(name)
    assert relative_difference("onnx", network_of(name, size), size) < RELATIVE


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*OPTIONS, *(pytest.param(*option, marks=pytest.mark.slow) for option in MORE_OPTIONS)],
    ids=str,
)
def test_the_options_of_networks_are_the_same_in_onnx(name: str, arguments: dict[str, Any]) -> None:
    size = size_of(name, **arguments)
    assert relative_difference("onnx", network_of(name, size, **arguments), size) < RELATIVE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("in_channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_all_formats_take_grey_and_colour(in_channels: int, form: str) -> None:
    assert (
        relative_difference(form, network_of("bn_lenet", 16, in_channels), 16, in_channels)
        < RELATIVE
    )


# preprocessing and flips


@pytest.mark.parametrize(
    ("side", "size"), [(28, 28), (28, 96), (28, 224), (64, 32), (37, 29), (1, 3)]
)
@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.286,), (0.353,)), ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))],
    ids=["grey", "rgb"],
)
def test_preprocessing_is_that_of_training(
    side: int, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    images = torch.randint(0, 256, (5, len(mean), side, side), dtype=torch.uint8)
    training = Preprocess(size, mean, std)
    torch.testing.assert_close(
        Preprocessing(training, side)(images), training(images), rtol=0, atol=2e-6
    )


@pytest.fixture
def engine(make_engine: MakeEngine, config: Config, device: Device) -> EagerEngine:
    """Of a network that is not the same for a mirrored image, on images that are enlarged and flipped."""
    change(config, data__resize=12, train__tta="hflip")
    return make_engine(network_of("lenet", 12, activation="relu"), config, device)


@pytest.mark.parametrize("preprocessing", [True, False])
@pytest.mark.parametrize("form", ["onnx", "torch_export"])
def test_what_is_exported_computes_what_the_engine_does(
    form: str, preprocessing: bool, engine: EagerEngine
) -> None:
    inside = Preprocessing(engine.preprocess, 8) if preprocessing else None
    classifier = Classifier(engine.eval_model, engine.config.tta, inside)
    takes = (
        torch.zeros(2, 1, 8, 8, dtype=torch.uint8) if preprocessing else torch.zeros(2, 1, 12, 12)
    )
    content = pack(form, classifier, takes, {})
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    difference, largest = differences(form, content, engine, images, preprocessed=not preprocessing)
    assert largest == pytest.approx(float(engine.classify(images).abs().max()))
    assert difference < RELATIVE * largest


@pytest.mark.parametrize(
    ("size", "change"), [(1, 0.5), (2, -0.25), (7, 0.125), (10, 1.0), (1, math.nan)]
)
def test_a_difference_in_any_batch_is_seen(
    size: int, change: float, engine: EagerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(batch: torch.Tensor) -> torch.Tensor:
        logits = engine.classify(batch).clone()
        if len(batch) == size:
            logits[-1, -1] += change
        return logits

    changed = dataclasses.replace(FORMATS["onnx"], unpack=lambda *_: wrong)
    monkeypatch.setitem(FORMATS, "onnx", changed)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    difference, _ = differences("onnx", b"", engine, images, preprocessed=False)
    assert difference == pytest.approx(abs(change), rel=1e-5, nan_ok=True)


def test_a_file_that_does_not_run_is_told(engine: EagerEngine) -> None:
    images = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"^--format onnx: what was exported does not run: .+\.$"):
        differences("onnx", b"no model", engine, images, preprocessed=False)


# the files


@pytest.fixture(scope="module")
def twice() -> Callable[[str], list[bytes]]:
    """Of each form what the same network gives, packed twice."""

    @functools.cache
    def made(form: str) -> list[bytes]:
        torch.manual_seed(0)
        network = network_of("lenet", 28)
        return [
            pack(form, Classifier(network, False), torch.zeros(2, 1, 28, 28), {"classes": "[1]"})
            for _ in range(2)
        ]

    return made


def test_onnx_has_names_a_dynamic_batch_and_metadata(twice: Callable[[str], list[bytes]]) -> None:
    content = twice("onnx")[0]
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    (taken,), (given,) = model.graph.input, model.graph.output
    shapes = [
        [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (taken, given)
    ]
    assert (taken.name, given.name, shapes) == (
        "images",
        "logits",
        [["batch", 1, 28, 28], ["batch", 10]],
    )
    assert {each.key: each.value for each in model.metadata_props} == {"classes": "[1]"}


def test_safetensors_holds_weights_that_are_shared_or_not_contiguous() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten()).to(
        memory_format=torch.channels_last
    )
    network[1].weight = network[0].weight
    assert relative_difference("safetensors", network, 8, 3) == 0


@pytest.mark.parametrize("form", ["onnx", "torch_export"])
def test_no_path_of_this_machine_is_in_the_file(
    form: str, twice: Callable[[str], list[bytes]]
) -> None:
    content = twice(form)[0]
    assert b"lenet.py" not in content
    assert b"site-packages" not in content


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_network_gives_the_same_file(
    form: str, twice: Callable[[str], list[bytes]]
) -> None:
    first, second = twice(form)
    assert first == second


# networks of one's own


class Undecided(nn.Module):
    """Does one thing or another, by the values of the images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :10] if images.sum() > 0 else images.flatten(1)[:, 10:20]


class OfTwo(nn.Module):
    """Takes two images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.view(2, -1)[:, :10]


class Foreign(nn.Module):
    """Leaves PyTorch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(images.numpy())


@pytest.mark.parametrize(
    "network", [Undecided(), OfTwo(), Foreign()], ids=lambda network: type(network).__name__
)
@pytest.mark.parametrize("form", ["onnx", "torch_export"])
def test_what_cannot_be_exported_is_told_in_one_line(
    form: str,
    network: nn.Module,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        ConfigError, match=rf"^--format {form}: PyTorch cannot export this network: .+\.$"
    ):
        pack(form, Classifier(network, False), torch.zeros(2, 1, 8, 8), {})
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_first_of_several_outputs_are_the_logits() -> None:
    class Watched(nn.Linear):
        def forward(self, images: torch.Tensor) -> Any:
            return super().forward(images.flatten(1)), images

    assert relative_difference("onnx", Watched(64, 10), 8) < RELATIVE
