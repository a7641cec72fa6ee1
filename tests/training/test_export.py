"""Exported networks compute the logits of the original network, for batches of any size."""

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

# The difference of logits divided by the largest logit. Single precision gave up to 1e-6.
MAX_RELATIVE_DIFFERENCE = 2e-6

FAST_NETWORKS = ("bn_lenet", "residual_net")

FAST_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("lenet", {"pooling": "min", "activation": "tanh"}),
    ("lenet", {"padding_mode": "circular"}),
    ("resnet20", {"depth": 8, "padding_mode": "reflect"}),
    ("preact_resnet110", {"depth": 8, "shortcut": "exclusive_gating"}),
]
SLOW_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("wide_resnet16_8", {"depth": 10, "width": 1, "dropout": 0.3}),
    ("densenet_bc100", {"depth": 10, "dropout": 0.2}),
    ("googlenet", {"auxiliary": True}),
    ("lenet", {"padding_mode": "reflect"}),
    ("lenet", {"padding_mode": "replicate"}),
    ("preact_resnet110", {"depth": 8, "shortcut": "constant_scaling"}),
    ("preact_resnet110", {"depth": 8, "shortcut": "shortcut_only_gating"}),
    ("preact_resnet110", {"depth": 8, "shortcut": "dropout"}),
]


@pytest.fixture(autouse=True)
def _set_seed() -> None:
    torch.manual_seed(0)


def build_network(name: str, size: int, in_channels: int = 1, **arguments: Any) -> nn.Module:
    """Build a network and train it on one batch, so that batch norm's statistics change."""
    network = models.build(name, in_channels, 10, size, **arguments)
    with torch.no_grad():
        network.train()(torch.randn(4, in_channels, size, size))
    return network


def choose_image_size(name: str, **arguments: Any) -> int:
    if arguments.get("auxiliary"):
        return 65
    return max(32, models.REGISTRY[name].min_image_size)


def compute_relative_difference(
    export_format: str, network: nn.Module, size: int, in_channels: int = 1
) -> float:
    """Export and load the network; return the largest difference by the largest logit."""
    classifier = Classifier(network, tta="none")
    content = pack(export_format, classifier, torch.zeros(2, in_channels, size, size), {})
    run = FORMATS[export_format].unpack(content, copy.deepcopy(classifier))
    difference = largest = 0.0
    for batch_size in (1, 2, 7):
        images = torch.randn(batch_size, in_channels, size, size)
        expected = classifier(images)
        difference = max(difference, float((run(images) - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    return difference / largest


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST_NETWORKS else pytest.mark.slow)
        for name in models.REGISTRY
    ],
)
def test_onnx_file_of_every_network_has_the_same_logits(name: str) -> None:
    size = choose_image_size(name)
    assert (
        compute_relative_difference("onnx", build_network(name, size), size)
        < MAX_RELATIVE_DIFFERENCE
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*FAST_OPTIONS, *(pytest.param(*option, marks=pytest.mark.slow) for option in SLOW_OPTIONS)],
    ids=str,
)
def test_onnx_files_of_network_options_have_the_same_logits(
    name: str, arguments: dict[str, Any]
) -> None:
    size = choose_image_size(name, **arguments)
    assert (
        compute_relative_difference("onnx", build_network(name, size, **arguments), size)
        < MAX_RELATIVE_DIFFERENCE
    )


@pytest.mark.parametrize("export_format", FORMATS)
@pytest.mark.parametrize("in_channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_all_formats_accept_gray_and_color_images(in_channels: int, export_format: str) -> None:
    network = build_network("bn_lenet", 16, in_channels)
    difference = compute_relative_difference(export_format, network, 16, in_channels)
    assert difference < MAX_RELATIVE_DIFFERENCE


@pytest.mark.parametrize(
    ("side", "size"), [(28, 28), (28, 96), (28, 224), (64, 32), (37, 29), (1, 3)]
)
@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.286,), (0.353,)), ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))],
    ids=["gray", "rgb"],
)
def test_exported_preprocessing_equals_that_of_training(
    side: int, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    images = torch.randint(0, 256, (5, len(mean), side, side), dtype=torch.uint8)
    training = Preprocess(size, mean, std)
    torch.testing.assert_close(
        Preprocessing(training, side)(images), training(images), rtol=0, atol=2e-6
    )


@pytest.fixture
def engine(make_engine: MakeEngine, config: Config, device: Device) -> EagerEngine:
    """Return an engine that enlarges and mirrors images; its network distinguishes the mirror."""
    change(config, data__resize=12, train__tta="hflip")
    return make_engine(build_network("lenet", 12, activation="relu"), config, device)


@pytest.mark.parametrize("has_preprocessing", [True, False])
@pytest.mark.parametrize("export_format", ["onnx", "torch_export"])
def test_exported_file_computes_the_logits_of_the_engine(
    export_format: str, has_preprocessing: bool, engine: EagerEngine
) -> None:
    included, inputs = None, torch.zeros(2, 1, 12, 12)
    if has_preprocessing:
        included = Preprocessing(engine.preprocess, 8)
        inputs = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    classifier = Classifier(engine.eval_model, engine.config.tta, included)
    content = pack(export_format, classifier, inputs, {})
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    difference, largest = differences(
        export_format, content, engine, images, preprocessed=not has_preprocessing
    )
    assert largest == pytest.approx(float(engine.classify(images).abs().max()))
    assert difference < MAX_RELATIVE_DIFFERENCE * largest


@pytest.mark.parametrize(
    ("batch_size", "change"), [(1, 0.5), (2, -0.25), (7, 0.125), (10, 1.0), (1, math.nan)]
)
def test_differences_finds_a_difference_in_any_batch(
    batch_size: int, change: float, engine: EagerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def classify_wrongly(batch: torch.Tensor) -> torch.Tensor:
        logits = engine.classify(batch).clone()
        if len(batch) == batch_size:
            logits[-1, -1] += change
        return logits

    wrong = dataclasses.replace(FORMATS["onnx"], unpack=lambda *_: classify_wrongly)
    monkeypatch.setitem(FORMATS, "onnx", wrong)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    difference, _ = differences("onnx", b"", engine, images, preprocessed=False)
    assert difference == pytest.approx(abs(change), rel=1e-5, nan_ok=True)


def test_file_that_does_not_run_raises_config_error(engine: EagerEngine) -> None:
    images = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"^--format onnx: what was exported does not run: .+\.$"):
        differences("onnx", b"no model", engine, images, preprocessed=False)


@pytest.fixture(scope="module")
def pack_twice() -> Callable[[str], list[bytes]]:
    """Return a function that packs the same network twice in a format."""

    @functools.cache
    def pack_both(export_format: str) -> list[bytes]:
        torch.manual_seed(0)
        network = build_network("lenet", 28)
        return [
            pack(
                export_format,
                Classifier(network, False),
                torch.zeros(2, 1, 28, 28),
                {"classes": "[1]"},
            )
            for _ in range(2)
        ]

    return pack_both


def get_shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_onnx_file_has_names_a_dynamic_batch_and_metadata(
    pack_twice: Callable[[str], list[bytes]],
) -> None:
    content = pack_twice("onnx")[0]
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, get_shape(images)) == ("images", ["batch", 1, 28, 28])
    assert (logits.name, get_shape(logits)) == ("logits", ["batch", 10])
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {"classes": "[1]"}


def test_safetensors_file_has_shared_and_noncontiguous_weights() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten())
    network.to(memory_format=torch.channels_last)
    network[1].weight = network[0].weight
    assert compute_relative_difference("safetensors", network, 8, 3) == 0


@pytest.mark.parametrize("export_format", ["onnx", "torch_export"])
def test_exported_file_contains_no_local_paths(
    export_format: str, pack_twice: Callable[[str], list[bytes]]
) -> None:
    content = pack_twice(export_format)[0]
    assert b"lenet.py" not in content
    assert b"site-packages" not in content


@pytest.mark.parametrize("export_format", FORMATS)
def test_same_network_gives_the_same_file(
    export_format: str, pack_twice: Callable[[str], list[bytes]]
) -> None:
    first, second = pack_twice(export_format)
    assert first == second


class DependsOnValues(nn.Module):
    """A network that branches on the values of the images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.sum() > 0:
            return images.flatten(1)[:, :10]
        return images.flatten(1)[:, 10:20]


class FixedBatchSize(nn.Module):
    """A network that only accepts two images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.view(2, -1)[:, :10]


class UsesNumpy(nn.Module):
    """A network that computes outside PyTorch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(images.numpy())


@pytest.mark.parametrize(
    "network",
    [DependsOnValues(), FixedBatchSize(), UsesNumpy()],
    ids=["DependsOnValues", "FixedBatchSize", "UsesNumpy"],
)
@pytest.mark.parametrize("export_format", ["onnx", "torch_export"])
def test_failed_export_raises_config_error_of_one_line(
    export_format: str,
    network: nn.Module,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        ConfigError, match=rf"^--format {export_format}: PyTorch cannot export this network: .+\.$"
    ):
        pack(export_format, Classifier(network, False), torch.zeros(2, 1, 8, 8), {})
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_first_of_several_outputs_is_exported_as_logits() -> None:
    class TwoOutputs(nn.Linear):
        def forward(self, images: torch.Tensor) -> Any:
            return super().forward(images.flatten(1)), images

    assert compute_relative_difference("onnx", TwoOutputs(64, 10), 8) < MAX_RELATIVE_DIFFERENCE
