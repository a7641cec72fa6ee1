"""Fixtures of the tests of the data package."""

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.data_mirrors import NOWHERE, ByFile, Mirror, Site, make_packed_files
from helpers.image_files import Save
from helpers.paths import CONF
from PIL import Image

from cnnbench import config
from cnnbench.config import DataConfig
from cnnbench.data import cache, download, public_files
from cnnbench.data.catalog import FILES, get
from cnnbench.data.idx import parse_idx
from cnnbench.data.public_files import find_files

SAMPLE_YAML = CONF / "data" / "sample.yaml"


@pytest.fixture
def seeded_torch() -> Iterator[None]:
    """Seed the generator of the CPU, and restore its state after the test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def sample() -> ByFile:
    return dict(zip(FILES, download.load_public_dataset(get("sample"))[1][:4], strict=True))


@pytest.fixture(scope="session")
def full_set() -> ByFile:
    """Return Fashion-MNIST if it is on this machine; do not download it."""
    found = find_files(get("fashion_mnist"))
    if found.missing:
        pytest.skip("Fashion-MNIST is not on this machine; CNNBENCH_DATA may name its folder")
    return {name: parse_idx(content) for name, content in found.contents.items()}


@pytest.fixture
def data_config() -> Callable[..., DataConfig]:
    """Make a configuration of the sample data set with the given changes."""

    def make(**changes: object) -> DataConfig:
        values = yaml.safe_load(SAMPLE_YAML.read_text())
        return config.from_dict(DataConfig, {**values, "resize": 28, **changes}, "data")

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the path of a folder dataset, which is not created."""
    return tmp_path / "photos"


@pytest.fixture
def folder_config(
    folder: Path, data_config: Callable[..., DataConfig]
) -> Callable[..., DataConfig]:
    """Make a configuration of data=folder, with images of 6 pixels by default."""

    def make(**changes: object) -> DataConfig:
        values = {"name": "folder", "path": str(folder), "image_size": 6, "resize": 6}
        return data_config(**values | changes)

    return make


@pytest.fixture
def empty_cache() -> None:
    cache.clear()


@pytest.fixture
def save_image(tmp_path: Path) -> Save:
    """Save an image or an array under a name, and return its path."""

    def save(image: Any, name: str = "image.png", **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(path, **options)
        return path

    return save


@pytest.fixture
def nothing_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide all data sets on this machine, clear the cache and replace the mirrors."""
    from torchvision import datasets

    monkeypatch.delenv("CNNBENCH_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(public_files, "user_cache", lambda: tmp_path / "user-cache" / "cnnbench")
    monkeypatch.setattr(download, "_prefetched", {})
    cache.clear()
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        monkeypatch.setattr(getattr(datasets, name), "mirrors", [NOWHERE])


@pytest.fixture
def fashion(nothing_on_this_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site("fashion_mnist", 0, tmp_path / "cache", monkeypatch)


@pytest.fixture
def mnist(nothing_on_this_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site("mnist", 1, tmp_path / "cache", monkeypatch)


@pytest.fixture
def start_mirror() -> Iterator[Callable[[Mapping[str, bytes]], Mirror]]:
    """Start a mirror that serves the given files."""
    with ExitStack() as stack:

        def start(files: Mapping[str, bytes]) -> Mirror:
            mirror = Mirror(dict(files))
            stack.callback(mirror.close)
            return mirror

        yield start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # closes failed connections, which torchvision leaves open


@pytest.fixture
def mirror(fashion: Site, start_mirror: Callable[[Mapping[str, bytes]], Mirror]) -> Mirror:
    """Start the only mirror of Fashion-MNIST that torchvision knows."""
    mirror = start_mirror(make_packed_files(fashion.arrays))
    fashion.mirrors(mirror.url)
    return mirror
