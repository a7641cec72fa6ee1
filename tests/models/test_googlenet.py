"""GoogLeNet, stage by stage, and its auxiliary classifiers."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]

BLOCKS = ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
STAGES = [
    "stem.0", "stem.2", "stem.3", "stem.5", "stem.7",
    "inception_3a", "inception_3b", "pool_3",
    "inception_4a", "inception_4b", "inception_4c", "inception_4d", "inception_4e", "pool_4",
    "inception_5a", "inception_5b",
    "classifier.0", "classifier.1", "classifier.2",
]  # fmt: skip


def maps_at(sides: list[int]) -> Shapes:
    """Return the shapes of table 1 for the sides after the stem's convolution and each halving."""
    conv, pool, stage_3, stage_4, stage_5 = ([side, side] for side in sides)
    return [
        (64, *conv), (64, *pool), (64, *pool), (192, *pool), (192, *stage_3),
        (256, *stage_3), (480, *stage_3), (480, *stage_4),
        (512, *stage_4), (512, *stage_4), (512, *stage_4), (528, *stage_4), (832, *stage_4),
        (832, *stage_5), (832, *stage_5), (1024, *stage_5),
        (1024, 1, 1), (1024,), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "sides"), [(96, [48, 24, 12, 6, 3]), (224, [112, 56, 28, 14, 7])])
def test_map_shapes_match_paper(
    size: int, sides: list[int], stage_shapes: Callable[..., Shapes]
) -> None:
    assert stage_shapes(STAGES, "googlenet", size) == maps_at(sides)


def test_stages_run_in_order_of_table_1(meta_network: Callable[..., nn.Module]) -> None:
    network = meta_network("googlenet", 96)
    expected = [stage for stage in STAGES if "." not in stage]
    ran: list[str] = []
    for stage in expected:
        network.get_submodule(stage).register_forward_hook(
            lambda *_, stage=stage: ran.append(stage)
        )
    network(torch.empty(1, 1, 96, 96, device="meta"))
    assert ran == expected


@pytest.mark.parametrize(
    ("block", "widths"),
    [
        ("3a", [64, 96, 128, 16, 32, 32]),
        ("3b", [128, 128, 192, 32, 96, 64]),
        ("4a", [192, 96, 208, 16, 48, 64]),
        ("4b", [160, 112, 224, 24, 64, 64]),
        ("4c", [128, 128, 256, 24, 64, 64]),
        ("4d", [112, 144, 288, 32, 64, 64]),
        ("4e", [256, 160, 320, 32, 128, 128]),
        ("5a", [256, 160, 320, 32, 128, 128]),
        ("5b", [384, 192, 384, 48, 128, 128]),
    ],
)
def test_branch_widths_match_table_1(
    block: str, widths: list[int], meta_network: Callable[..., nn.Module]
) -> None:
    layers = meta_network("googlenet", 96).get_submodule(f"inception_{block}").modules()
    convs = [
        (layer.out_channels, layer.kernel_size) for layer in layers if isinstance(layer, nn.Conv2d)
    ]
    kernels = [(1, 1), (1, 1), (3, 3), (1, 1), (5, 5), (1, 1)]
    assert convs == list(zip(widths, kernels, strict=True))


@pytest.mark.parametrize("block", BLOCKS)
def test_relu_follows_each_convolution_of_inception(
    block: str, meta_network: Callable[..., nn.Module], steps: Callable[[nn.Module], list[str]]
) -> None:
    assert steps(meta_network("googlenet", 96).get_submodule(f"inception_{block}")) == [
        "Conv2d", "ReLU",
        "Conv2d", "ReLU", "Conv2d", "ReLU",
        "Conv2d", "ReLU", "Conv2d", "ReLU",
        "MaxPool2d", "Conv2d", "ReLU",
    ]  # fmt: skip


def test_branches_are_joined_in_order_1x1_3x3_5x5_pool() -> None:
    block = models.build("googlenet", image_size=32).get_submodule("inception_3a")
    values = {"branch_1x1": 1.0, "branch_3x3": 3.0, "branch_5x5": 5.0, "branch_pool": 0.5}
    for name, value in values.items():
        branch = block.get_submodule(name)
        last = [layer for layer in branch.modules() if isinstance(layer, nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.get_parameter("bias"), value)
    joined = block(torch.zeros(1, 192, 1, 1)).flatten().tolist()
    assert joined == [1.0] * 64 + [3.0] * 128 + [5.0] * 32 + [0.5] * 32


def test_layers_of_stem(
    meta_network: Callable[..., nn.Module], steps: Callable[[nn.Module], list[str]]
) -> None:
    assert steps(meta_network("googlenet", 96).get_submodule("stem")) == [
        "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d",
    ]  # fmt: skip


def test_poolings_are_3x3_and_four_halve(
    meta_network: Callable[..., nn.Module],
) -> None:
    layers = meta_network("googlenet", 96).modules()
    pools = [layer for layer in layers if isinstance(layer, nn.MaxPool2d)]
    assert sorted((pool.kernel_size, pool.stride) for pool in pools) == [(3, 1)] * 9 + [(3, 2)] * 4


def test_number_of_parameters(num_parameters: Callable[..., int]) -> None:
    assert num_parameters("googlenet", 96) == 5_977_530


def test_number_of_multiply_adds(multiply_adds: Callable[..., int]) -> None:
    assert multiply_adds("googlenet", 96) == 276_066_304


def test_bottleneck_of_first_block_saves_nine_tenths_of_multiply_adds(
    meta_network: Callable[..., nn.Module], count_multiply_adds: Callable[..., int]
) -> None:
    branch = meta_network("googlenet", 224).get_submodule("inception_3a.branch_5x5")
    direct = nn.Conv2d(192, 32, kernel_size=5, padding=2, device="meta")
    assert count_multiply_adds(direct, 28, 192) == 120_422_400
    # The sum in the notes, 12,433,648, is a slip.
    assert count_multiply_adds(branch, 28, 192) == 2_408_448 + 10_035_200 == 12_443_648


def test_training_returns_logits_without_auxiliary_classifiers() -> None:
    network = models.build("googlenet", image_size=32).train()
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("size", [65, 96, 224])
def test_training_returns_logits_and_both_auxiliary_logits(
    size: int, meta_network: Callable[..., nn.Module]
) -> None:
    network = meta_network("googlenet", size, auxiliary=True).train()
    outputs = network(torch.empty(2, 1, size, size, device="meta"))
    assert [tuple(output.shape) for output in outputs] == [(2, 10), (2, 10), (2, 10)]


def test_evaluation_returns_logits_only(meta_network: Callable[..., nn.Module]) -> None:
    network = meta_network("googlenet", 65, auxiliary=True).eval()
    assert network(torch.empty(2, 1, 65, 65, device="meta")).shape == (2, 10)


def test_auxiliary_classifiers_do_not_change_logits() -> None:
    torch.manual_seed(0)
    network = models.build("googlenet", image_size=65, auxiliary=True)
    images = torch.randn(2, 1, 65, 65)
    logits, _, _ = network.train()(images)
    torch.testing.assert_close(logits, network.eval()(images))


@pytest.mark.parametrize(
    ("name", "block"), [("auxiliary_4a", "inception_4a"), ("auxiliary_4d", "inception_4d")]
)
def test_auxiliary_classifier_reads_block_of_its_name(
    name: str, block: str, meta_network: Callable[..., nn.Module]
) -> None:
    network = meta_network("googlenet", 65, auxiliary=True).train()
    block_outputs: list[torch.Tensor] = []
    classifier_inputs: list[torch.Tensor] = []
    network.get_submodule(block).register_forward_hook(
        lambda _layer, _inputs, output: block_outputs.append(output)
    )
    network.get_submodule(name).register_forward_pre_hook(
        lambda _layer, inputs: classifier_inputs.append(inputs[0])
    )
    network(torch.empty(2, 1, 65, 65, device="meta"))
    assert classifier_inputs[0] is block_outputs[0]


@pytest.mark.parametrize(("name", "channels"), [("auxiliary_4a", 512), ("auxiliary_4d", 528)])
def test_auxiliary_classifier_map_shapes_match_paper(
    name: str, channels: int, meta_network: Callable[..., nn.Module]
) -> None:
    head = meta_network("googlenet", 224, auxiliary=True).get_submodule(name)
    maps = torch.empty(1, channels, 14, 14, device="meta")
    shapes: Shapes = []
    for layer in head.children():
        maps = layer(maps)
        shapes.append(tuple(maps.shape[1:]))
    assert shapes == [
        (channels, 4, 4), (128, 4, 4), (128, 4, 4), (2048,), (1024,), (1024,), (1024,), (10,),
    ]  # fmt: skip


def test_auxiliary_classifier_has_dropout_of_70_percent(
    meta_network: Callable[..., nn.Module],
) -> None:
    network = meta_network("googlenet", 65, auxiliary=True)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.7, 0.7]


def test_parameters_of_auxiliary_classifiers_get_gradients() -> None:
    torch.manual_seed(0)
    network = models.build("googlenet", image_size=65, auxiliary=True).train()
    logits, auxiliary_4a, auxiliary_4d = network(torch.randn(2, 1, 65, 65))
    (logits + auxiliary_4a + auxiliary_4d).square().sum().backward()
    unused = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert unused == []


def test_too_small_images_for_auxiliary_classifiers_raise(
    meta_network: Callable[..., nn.Module],
) -> None:
    with pytest.raises(ConfigError, match=r"images of 64 pixels.*data\.resize=65\b"):
        meta_network("googlenet", 64, auxiliary=True)


def test_small_images_work_without_auxiliary_classifiers(
    stage_shapes: Callable[..., Shapes],
) -> None:
    assert stage_shapes(["classifier"], "googlenet", 64) == [(10,)]
