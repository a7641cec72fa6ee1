"""The pictures: whatever the images and names, they can be drawn, and are the same each time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnbench.analysis.activations import Histogram
from cnnbench.reports.inspection.canvas import WIDTH, Canvas, as_picture
from cnnbench.reports.inspection.diagrams import Diagram, draw_diagrams
from cnnbench.reports.inspection.pictures import (
    LayerMaps,
    Shown,
    draw_feature_maps,
    draw_kernels,
    draw_mistakes,
    draw_saliency,
    strongest,
)

NAMES = {
    **{"formula": "$\\frac{", "steering": "a\nb\x1b[31m", "Chinese": "名" * 3, "long": "W" * 5000, "empty": ""},
    "half": "\ud800",  # a letter that no file can hold
}
RANDOM = np.random.default_rng(0)


def shown(true: str = "Shirt", predicted: str = "Coat", channels: int = 1) -> Shown:
    return Shown(7, RANDOM.random((channels, 6, 6), np.float32), true, predicted, 0.97)


def pixels(canvas: Canvas, folder: Path) -> np.ndarray:
    canvas.save(folder / "it.png")
    with Image.open(folder / "it.png") as picture:
        return np.asarray(picture.convert("RGB"))


def overflows(picture: np.ndarray) -> bool:
    """Whether anything but the white of the sheet lies at its edges."""
    edges = (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:])
    return any(bool((edge != 255).any()) for edge in edges)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_name_may_be_anything(name: str, tmp_path: Path) -> None:
    image = shown(name, name[::-1] + "x")
    drop = np.zeros((4, 4))
    for canvas in (
        draw_mistakes(name, [image] * 3),
        draw_saliency(name, [image] * 2, [drop] * 2, [drop] * 2),
        draw_feature_maps(name, image, [LayerMaps(name, name, RANDOM.random((4, 3, 3)))]),
        draw_diagrams(name, name, [Diagram(name, "", Histogram(np.ones(3), np.arange(4), 0.0, 1.0))], "red", log=True),
    ):
        assert not overflows(pixels(canvas, tmp_path))


@pytest.mark.parametrize("number", [1, 25, 60])
def test_a_gallery_of_any_size_fits(number: int, tmp_path: Path) -> None:
    assert not overflows(pixels(draw_mistakes("a gallery", [shown()] * number), tmp_path))


@pytest.mark.parametrize("number", [1, 7])
def test_saliency_of_any_number_of_images_fits(number: int, tmp_path: Path) -> None:
    maps = [RANDOM.random((6, 6)) - 0.5] * number
    assert not overflows(pixels(draw_saliency("saliency", [shown()] * number, maps, maps), tmp_path))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (64, 1, 11, 11), (6, 3, 5, 5), (9, 2, 3, 5), (2, 1, 28, 28)])
def test_kernels_of_any_shape_fit(shape: tuple[int, ...], tmp_path: Path) -> None:
    canvas = draw_kernels("kernels", RANDOM.standard_normal(shape), range(shape[0]))
    assert not overflows(pixels(canvas, tmp_path))


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 7, 7), (3, 60, 1), (2, 200, 200), (4096,), (1,)])
def test_maps_of_any_shape_fit(shape: tuple[int, ...], tmp_path: Path) -> None:
    layers = [LayerMaps("features.0", "Conv2d", RANDOM.random(shape))] * 3
    assert not overflows(pixels(draw_feature_maps("maps", shown(), layers), tmp_path))


def test_all_maps_of_a_layer_share_one_scale(tmp_path: Path) -> None:
    maps = np.array([0.0, 1.0, 0.5]).reshape(3, 1, 1)
    picture = pixels(draw_feature_maps("maps", shown(), [LayerMaps("it", "", maps)]), tmp_path)
    seen = [list(picture[int(1.5 * 150), int((2.5 + 0.86 * place) * 150)]) for place in range(3)]
    assert seen == [[68, 1, 84], [253, 231, 36], [32, 144, 140]]  # the lowest, highest and middle colour of viridis


def test_a_kernel_of_zero_is_white_or_grey(tmp_path: Path) -> None:
    middle = (int(1.5 * 150), int(0.9 * 150))
    in_one_scale = pixels(draw_kernels("", np.zeros((1, 1, 3, 3)), [0]), tmp_path)
    in_colour = pixels(draw_kernels("", np.zeros((1, 3, 3, 3)), [0]), tmp_path)
    assert 240 < min(in_one_scale[middle]) <= max(in_one_scale[middle]) < 250
    assert list(in_colour[middle]) == [127, 127, 127]


def test_a_red_weight_is_red(tmp_path: Path) -> None:
    kernel = np.zeros((1, 3, 3, 3))
    kernel[0, 0] = 0.3
    assert list(pixels(draw_kernels("", kernel, [0]), tmp_path)[int(1.5 * 150), int(0.9 * 150)]) == [255, 127, 127]


def test_the_maps_shown_are_those_that_vary_most() -> None:
    maps = np.ones((40, 2, 2)) * np.arange(40)[:, None, None]
    maps[[3, 30, *range(5, 19)], 0, 0] += 100
    assert strongest(maps) == [3, *range(5, 19), 30]
    assert strongest(maps[:5]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("channels", "shape"), [(1, (6, 6)), (2, (6, 6)), (3, (6, 6, 3)), (4, (6, 6))])
def test_an_image_of_three_channels_alone_is_in_colour(channels: int, shape: tuple[int, ...]) -> None:
    assert as_picture(shown(channels=channels).image).shape == shape


def test_words_are_cut_to_the_room_there_is() -> None:
    canvas = Canvas("", "", 1.0)
    canvas.text(0, 0.5, "W" * 100, room=1.0)
    canvas.text(0, 0.8, "fits", room=1.0)
    long, short = (text for text in canvas.figure.axes[0].texts[-2:])
    width = long.get_window_extent(canvas.figure.canvas.get_renderer()).width
    assert 0.8 * 150 < width <= 150 < WIDTH * 150
    assert (long.get_text()[-1], short.get_text()) == ("…", "fits")


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    image = shown()
    for name in ("first.png", "second.png"):
        draw_mistakes("mistakes", [image] * 4).save(tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_verdict_names_the_true_class_where_it_is_another() -> None:
    assert (shown().verdict(20), shown("Coat").verdict(20)) == ("Shirt → Coat, 0.97", "Coat, 0.97")
