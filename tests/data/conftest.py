"""What the tests of the data layer share."""

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from helpers.data_mirrors import NOWHERE, ByFile, Mirror, Site, make_packed_files
from helpers.paths import CONF

from cnnbench import config
from cnnbench.config import DataConfig
from cnnbench.data import cache, download, public_files
from cnnbench.data.catalog import FILES, get
from cnnbench.data.idx import parse_idx
from cnnbench.data.public_files import find_files

SAMPLE_YAML = CONF / "data" / "sample.yaml"


@pytest.fixture(scope="session")
def sample() -> ByFile:
    return dict(zip(FILES, download.load(get("sample"))[1][:4], strict=True))


@pytest.fixture(scope="session")
def full_set() -> ByFile:
    """Fashion-MNIST as it lies on this machine; never downloaded."""
    found = find_files(get("fashion_mnist"))
    if found.missing:
        pytest.skip("Fashion-MNIST is not on this machine; CNNBENCH_DATA may name its folder")
    return {name: parse_idx(content) for name, content in found.contents.items()}


@pytest.fixture
def data_config() -> Callable[..., DataConfig]:
    """Makes a configuration of which only the given keys differ from the sample's."""

    def make(**changes: object) -> DataConfig:
        values = yaml.safe_load(SAMPLE_YAML.read_text())
        return config.from_dict(DataConfig, {**values, "resize": 28, **changes}, "data")

    return make


@pytest.fixture
def nothing_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data sets, nothing kept in memory, and no network."""
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
    """Starts a mirror that has these files."""
    with ExitStack() as stack:

        def start(files: Mapping[str, bytes]) -> Mirror:
            mirror = Mirror(dict(files))
            stack.callback(mirror.close)
            return mirror

        yield start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # connections that failed, which torchvision leaves open


@pytest.fixture
def mirror(fashion: Site, start_mirror: Callable[[Mapping[str, bytes]], Mirror]) -> Mirror:
    """The mirror of Fashion-MNIST that torchvision knows."""
    mirror = start_mirror(make_packed_files(fashion.arrays))
    fashion.mirrors(mirror.url)
    return mirror
