"""The diagram of a network: what is drawn, that it is legible, and its file."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.network_names import EVERY_NETWORK
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import nn

from cnnbench import models
from cnnbench.analysis.network_blocks import list_parts
from cnnbench.analysis.network_graph import Graph, trace_graph
from cnnbench.reports.diagram import draw_diagram, lay_out

OF_THE_COURSE = {
    **{"lenet": 28, "alexnet": 224, "vgg11": 224, "nin": 224, "googlenet": 96},
    **{"d2l_resnet18": 96, "d2l_densenet": 96, "residual_net": 28, "inception_net": 28},
}


def trace_network(name: str, size: int | None = None, **arguments: Any) -> Graph:
    size = size or max(32, models.REGISTRY[name].min_image_size)
    with torch.device("meta"):
        network = models.build(name, image_size=size, **arguments)
        return trace_graph(network, torch.empty(1, 1, size, size))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the list of figures that the test draws. No files are written."""
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    return drawn


def draw(graph: Graph, figures: list[Figure], folder: Path) -> Figure:
    draw_diagram(folder / "it.svg", graph, "a network")
    return figures[-1]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


@pytest.mark.parametrize(
    ("name", "boxes", "frames", "circles", "concatenations"),
    [
        ("lenet", 1 + 8, 0, 0, 0),
        ("alexnet", 1 + 10, 0, 0, 0),
        ("vgg11", 1 + 13, 0, 0, 0),
        ("nin", 1 + 13, 0, 0, 0),
        ("googlenet", 1 + 19 + 8, 1, 0, 1),  # image, main row, panel
        ("d2l_resnet18", 1 + 12 + 3 + 4, 2, 2, 0),
        ("d2l_densenet", 1 + 16 + 2, 1, 0, 1),
        ("residual_net", 1 + 8 + 3, 1, 1, 0),
        ("inception_net", 1 + 8 + 8, 1, 0, 1),
    ],
)
def test_boxes_frames_and_joins_of_the_networks_of_the_course(
    name: str,
    boxes: int,
    frames: int,
    circles: int,
    concatenations: int,
    figures: list[Figure],
    tmp_path: Path,
) -> None:
    figure = draw(trace_network(name, OF_THE_COURSE[name]), figures, tmp_path)
    patches = figure.axes[0].patches
    dashed = [patch for patch in patches if patch.get_linestyle() != "solid"]
    assert len([patch for patch in patches if isinstance(patch, Circle)]) == circles
    assert (len([*filter(is_box, patches)]) - len(dashed), len(dashed)) == (boxes, frames)
    assert texts(figure).count("concatenation") == concatenations
    assert texts(figure).count("+") == circles


def is_box(patch: Any) -> bool:
    return isinstance(patch, Rectangle)


def overlap(first: Any, second: Any) -> bool:
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width > 1 and height > 1  # pixels


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("lenet", "d2l_resnet18") else pytest.param(name, marks=pytest.mark.slow)
        for name in (*OF_THE_COURSE, "resnet50", "preact_resnet164", "d2l_regnetx", "densenet121")
    ],
)
def test_no_text_overlaps_another_or_leaves_its_box(
    name: str, figures: list[Figure], tmp_path: Path
) -> None:
    figure = draw(trace_network(name, OF_THE_COURSE.get(name)), figures, tmp_path)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    shown = [text for text in figure.axes[0].texts if text.get_text()]
    shown += [text for text in figure.texts if text.get_text()]
    extents = [text.get_window_extent(renderer) for text in shown]
    for first, second in combinations(extents, 2):
        assert not overlap(first, second)
    frames = [patch.get_window_extent(renderer) for patch in filter(is_box, figure.axes[0].patches)]
    for text, extent in zip(shown, extents, strict=True):
        assert figure.bbox.x0 <= extent.x0 < extent.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= extent.y0 < extent.y1 <= figure.bbox.y1, text
        for frame in frames:  # wholly inside or wholly outside
            if overlap(extent, frame):
                assert frame.x0 <= extent.x0 < extent.x1 <= frame.x1, text
                assert frame.y0 <= extent.y0 < extent.y1 <= frame.y1, text


@pytest.mark.parametrize("name", OF_THE_COURSE)
def test_text_is_legible_on_a_page(name: str) -> None:
    """Scaled to a page of 11 x 7.6 inches, text of 7 points has at least 6."""
    graph = trace_network(name, OF_THE_COURSE[name])
    sheet = lay_out(list_parts(graph), graph.nodes[0].shape)
    assert 7 / max(1, sheet.width / 11, (sheet.height + 1) / 7.6) >= 6


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_network_has_a_sheet(name: str) -> None:
    graph = trace_network(name)
    sheet = lay_out(list_parts(graph), graph.nodes[0].shape)
    assert max(sheet.width / 11, sheet.height / 7.6) < 2


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_network_is_written(name: str, tmp_path: Path) -> None:
    draw_diagram(tmp_path / "it.svg", trace_network(name), name)
    assert (tmp_path / "it.svg").read_text().count("<path") > 20


def boxes_with(figure: Figure, title: str) -> list[list[str]]:
    """Return the lines of text from each `title` on to the next line of a shape."""
    lines, found = texts(figure), []
    for place, text in enumerate(lines):
        if text == title:
            end = next(i for i in range(place, len(lines)) if re.match(r"\d+ × \d+ × ", lines[i]))
            found.append(lines[place : end + 1])
    return found


def test_blocks_of_googlenet_list_the_channels_of_their_branches(
    figures: list[Figure], tmp_path: Path
) -> None:
    figure = draw(trace_network("googlenet", 96), figures, tmp_path)
    *blocks, panel = boxes_with(figure, "Inception")
    assert blocks[0] == ["Inception", "64 + 128 + 32 + 32", "256 × 12 × 12"]
    assert blocks[-1] == ["Inception", "384 + 384 + 128 + 128", "1024 × 3 × 3"]
    assert len(blocks) == 9
    assert panel[1] == "example: inception_3a"


def test_dense_layers_list_how_channels_grow(figures: list[Figure], tmp_path: Path) -> None:
    figure = draw(trace_network("d2l_densenet", 96), figures, tmp_path)
    first = boxes_with(figure, "DenseLayer")[0]
    assert first == ["DenseLayer", "64 + 4 × 32", "192 × 24 × 24"]
    assert texts(figure).count("× 4") == 4


def test_blocks_of_several_patterns_have_letters(figures: list[Figure], tmp_path: Path) -> None:
    figure = draw(trace_network("d2l_resnet18", 96), figures, tmp_path)
    counts = Counter(texts(figure))
    assert (counts["Residual A"], counts["Residual B"]) == (4 + 1, 3 + 1)
    assert counts["example: stages.0.0"] == counts["example: stages.1.0"] == 1


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("mlp", ""),
        ("lenet", "/2: stride 2; pad 1: padding of 1"),
        ("bn_lenet", "/2: stride 2; BN: batch normalization"),
        (
            "resnet9",
            "/2: stride 2; pad 1: padding of 1; BN: batch normalization; × 2: twice in a row",
        ),
    ],
)
def test_note_explains_the_signs_that_are_drawn(
    name: str, note: str, figures: list[Figure], tmp_path: Path
) -> None:
    assert draw(trace_network(name, 32), figures, tmp_path).get_supxlabel() == note


class Wired(nn.Module):
    """A network that joins branches itself."""

    def __init__(self, join: str) -> None:
        super().__init__()
        self.a, self.b, self.join = nn.Linear(4, 4), nn.Linear(4, 4), join

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = getattr(torch, self.join)(self.a(features), self.b(features))
        return output


@pytest.mark.parametrize(("join", "sign"), [("add", "+"), ("mul", "×"), ("maximum", "maximum")])
def test_branches_of_the_network_itself_are_drawn(
    join: str, sign: str, figures: list[Figure], tmp_path: Path
) -> None:
    graph = trace_graph(Wired(join).to("meta"), torch.empty(1, 4, device="meta"))
    assert texts(draw(graph, figures, tmp_path)) == ["image", "4", "Linear 4", "Linear 4", sign] + (
        ["4"] if sign == "maximum" else []
    )


def test_hostile_names_are_drawn(figures: list[Figure], tmp_path: Path) -> None:
    odd = type("$\\frac{" + "W" * 99, (nn.ReLU,), {})
    network = nn.Sequential(nn.Linear(4, 4), nn.Flatten(), odd())
    graph = trace_graph(network.to("meta"), torch.empty(1, 4, device="meta"))
    assert max(len(text) for text in texts(draw(graph, figures, tmp_path))) <= 64


@pytest.mark.parametrize("suffix", ["svg", "png", "SVG"])
def test_file_has_the_format_of_its_suffix_and_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    graph, contents = trace_network("simple_cnn"), []
    for name in ("first", "second"):
        draw_diagram(tmp_path / f"{name}.{suffix}", graph, "a network")
        contents.append((tmp_path / f"{name}.{suffix}").read_bytes())
    start = b"\x89PNG" if suffix == "png" else b"<?xml"
    assert contents[0].startswith(start)
    assert contents[0] == contents[1]
    assert len(list(tmp_path.iterdir())) == 2


def colors(drawings: Sequence[Any]) -> set[str]:
    return {drawing.color for drawing in drawings}


def test_kinds_of_layers_have_colors() -> None:
    graph = trace_network("lenet", 28)
    sheet = lay_out(list_parts(graph), graph.nodes[0].shape)
    assert len(colors([item for column in sheet.columns for item in column.items])) == 5
