"""The examples that print figures of the notes, run as a student runs them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.sample_images import load_sample_images
from PIL import Image
from torch.nn import functional

LoadExample = Callable[[str], dict[str, Any]]
RunExample = Callable[[str], list[str]]


def test_edge_of_six_by_six_gives_0_30_30_0(run_example: RunExample) -> None:
    printed = run_example("edge_picture")
    assert printed[:6] == ["image", *["10 10 10 0 0 0"] * 5]
    assert printed[printed.index("kernel") + 1 :][:3] == ["1 0 -1"] * 3
    assert printed[printed.index("output") + 1 :] == [
        *["0 30 30 0"] * 4,
        "Written: edge_picture.png",
    ]
    with Image.open("edge_picture.png") as picture:
        assert picture.size == (1200, 600)


def test_edge_picture_has_zero_in_the_middle_of_its_gray_levels(load_example: LoadExample) -> None:
    output = torch.tensor([[0.0, 30.0, 30.0, 0.0]])
    figure = load_example("edge_picture")["draw"]({"image": output / 3, "output": output})
    axes = figure.axes[1]
    (drawn,) = axes.images
    assert drawn.get_array().tolist() == output.tolist()
    assert drawn.get_cmap().name == "gray"
    assert drawn.norm([-30.0, 0.0, 30.0]).tolist() == [0.0, 0.5, 1.0]
    assert [text.get_text() for text in axes.texts] == ["0", "30", "30", "0"]


def test_loops_matrix_product_and_torch_agree(
    load_example: LoadExample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = load_example("convolution_speed")["main"]
    monkeypatch.setitem(main.__globals__, "ROUNDS", 1)
    loops, product, library = main().values()
    assert loops.shape == (4, 6, 24, 24)
    torch.testing.assert_close(product, loops, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(library, loops, rtol=1e-4, atol=1e-4)
    rows = [line for line in capsys.readouterr().out.splitlines() if " ms " in line]
    assert len(rows) == 3


def test_toeplitz_matrix_of_a_kernel_is_printed(run_example: RunExample) -> None:
    printed = run_example("convolution_as_linear")
    start = printed.index("the weights for an image of one row of 8")
    rows = [" ".join(["."] * i + ["1", "-1"] + ["."] * (6 - i)) for i in range(7)]
    assert printed[start + 1 : start + 8] == rows
    start = printed.index("its edges by the fully connected layer")
    assert printed[start + 1 :] == [
        *[". 1 . . . -1 ."] * 6,
        "largest difference from the convolution: 0",
        "weights: 2016, of which 84 are not zero; the kernel has 2",
    ]


def test_linear_layer_equals_the_convolution(load_example: LoadExample) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(3, 2, generator=generator)
    images = torch.randn(4, 1, 5, 7, generator=generator)
    layer = load_example("convolution_as_linear")["make_linear"](kernel, 5, 7)
    expected = functional.conv2d(images, kernel[None, None])
    torch.testing.assert_close(layer(images.flatten(1)), expected.flatten(1))


def test_pooled_features_change_less_when_the_image_is_shifted(run_example: RunExample) -> None:
    printed = run_example("pooling_shift")
    changes = {}
    for line in printed[1:6]:
        name, *numbers = line.rsplit(" ", 4)
        changes[name] = [float(number) for number in numbers]
    images = torch.tensor(load_sample_images()[:100], dtype=torch.float32)[:, None] / 255
    kernel = torch.tensor([[[[1.0, 0.0, -1.0]] * 3]])
    maps = [
        functional.relu(functional.conv2d(functional.pad(images, (7 + s, 7 - s, 7, 7)), kernel))
        for s in range(4)
    ]
    poolings = {
        "none": lambda features: features,
        "average 2 x 2": lambda features: functional.avg_pool2d(features, 2),
        "maximum 2 x 2": lambda features: functional.max_pool2d(features, 2),
        "average 4 x 4": lambda features: functional.avg_pool2d(features, 4),
        "maximum 4 x 4": lambda features: functional.max_pool2d(features, 4),
    }
    assert list(changes) == list(poolings)
    for name, pool in poolings.items():
        before, *_ = pooled = [pool(features).flatten(1) for features in maps]
        expected = [((after - before).norm(dim=1) / before.norm(dim=1)).mean() for after in pooled]
        assert changes[name] == pytest.approx(torch.stack(expected).tolist(), abs=0.0051)
    for kind in ("average", "maximum"):
        by_window = [changes[name] for name in ("none", f"{kind} 2 x 2", f"{kind} 4 x 4")]
        for shift in (1, 2, 3):
            none, small, large = (numbers[shift] for numbers in by_window)
            assert none > small > large > 0
    assert printed[-1] == "Written: pooling_shift.png"
    with Image.open("pooling_shift.png") as picture:
        assert picture.size == (650, 850)


def test_minimum_pooling_after_relu_gives_most_zeros(load_example: LoadExample) -> None:
    example = load_example("min_pooling")
    shares = example["main"]()
    negative = (example["compute_maps"]() <= 0).reshape(100, 20, 12, 2, 12, 2)
    after_relu = {
        "none": negative.float().mean().item(),
        "average": negative.all(dim=5).all(dim=3).float().mean().item(),
        "maximum": negative.all(dim=5).all(dim=3).float().mean().item(),
        "minimum": negative.any(dim=5).any(dim=3).float().mean().item(),
    }
    assert {name: zeros for name, (zeros, _) in shares.items()} == pytest.approx(after_relu)
    assert after_relu["minimum"] > after_relu["none"] + 0.1 > after_relu["maximum"] + 0.2
    assert {zeros for _, zeros in shares.values()} == {0.0}


def test_order_of_relu_and_minimum_does_not_matter(run_example: RunExample) -> None:
    assert run_example("min_pooling")[-1] == "ReLU then minimum is minimum then ReLU: True"


def test_minimum_pooling_of_sigmoids_is_maximum_pooling_of_the_negative_map(
    load_example: LoadExample,
) -> None:
    example = load_example("min_pooling")
    maps = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    minimum = example["apply_pooling"](maps.sigmoid(), "minimum")
    maximum = example["apply_pooling"]((-maps).sigmoid(), "maximum")
    torch.testing.assert_close(minimum, 1 - maximum)


def test_match_is_1_for_a_full_match_and_minus_1_for_its_opposite(run_example: RunExample) -> None:
    printed = run_example("match_features")
    assert [line.rpartition(" ")[2] for line in printed[:3]] == ["1.0", "-1.0", "0.0"]
    start = printed.index("match of falling with each window")
    assert printed[start + 1 : start + 8] == [
        "0.78 -0.11 0.11 0.33 0.56 -0.11 0.33",
        "-0.11 1.00 -0.11 0.33 -0.11 0.11 -0.11",
        "0.11 -0.11 1.00 -0.33 0.11 -0.11 0.56",
        "0.33 0.33 -0.33 0.56 -0.33 0.33 0.33",
        "0.56 -0.11 0.11 -0.33 1.00 -0.11 0.11",
        "-0.11 0.11 -0.11 0.33 -0.11 1.00 -0.11",
        "0.33 -0.11 0.56 0.33 0.11 -0.11 0.78",
    ]
    start = printed.index("match of cross with each window")
    assert printed[start + 4] == "-0.11 0.33 -0.78 1.00 -0.78 0.33 -0.11"


def test_bottleneck_takes_a_tenth_of_the_multiplications(run_example: RunExample) -> None:
    assert run_example("bottleneck") == [
        "5 x 5 directly",
        "32 x 28 x 28 outputs x 192 x 5 x 5 120,422,400",
        "153,632 parameters 120,422,400 multiplications",
        "1 x 1, then 5 x 5",
        "16 x 28 x 28 outputs x 192 x 1 x 1 2,408,448",
        "32 x 28 x 28 outputs x 16 x 5 x 5 10,035,200",
        "15,920 parameters 12,443,648 multiplications",
        "9.7 times fewer multiplications",
    ]


def test_feature_map_shifts_along_with_the_image(run_example: RunExample) -> None:
    before, after, _, moved, changed = run_example("translation")
    assert before == "before the shift: largest feature 1102 in row 27, column 24"
    assert after == "after the shift: largest feature 1102 in row 29, column 27"
    assert moved.split()[-2:] == ["0", "10"]
    assert changed.split()[-2:] == ["9", "10"]


def test_derivatives_of_activations_are_those_of_autograd(
    run_example: RunExample, load_example: LoadExample
) -> None:
    differentiate = load_example("draw_activations")["differentiate"]
    points = torch.linspace(-5, 5, 100, dtype=torch.float64)
    for name, function in {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "ReLU": torch.relu,
    }.items():
        inputs = points.clone().requires_grad_()
        expected = function(inputs)
        (gradient,) = torch.autograd.grad(expected.sum(), inputs)
        values, derivatives = differentiate(name, points)
        torch.testing.assert_close(values, expected.detach())
        torch.testing.assert_close(derivatives, gradient)
    printed = run_example("draw_activations")
    assert "step derivative 0.0000 0.0000 0.0000 0.0000 0.0000" in printed
    assert "sigmoid derivative 0.1050 0.1966 0.2500 0.1966 0.1050" in printed
    assert "tanh derivative 0.0707 0.4200 1.0000 0.4200 0.0707" in printed
    assert "ReLU derivative 0.0000 0.0000 0.0000 1.0000 1.0000" in printed
    with Image.open("activations.png") as picture:
        colors = picture.convert("RGB").getcolors(picture.width * picture.height)
    assert {(0, 114, 178), (213, 94, 0)} <= {color for _, color in colors}


def test_graph_of_nodes_gives_value_and_gradient_of_the_sigmoid(run_example: RunExample) -> None:
    assert run_example("sigmoid_graph")[1:] == [
        "x 1.00000 0.19661",
        "-x -1.00000 -0.19661",
        "e^-x 0.36788 -0.53445",
        "1 + e^-x 1.36788 -0.53445",
        "y 0.73106 1.00000",
        "in one step: y = 0.73106, dy/dx = y (1 - y) = 0.19661",
    ]
