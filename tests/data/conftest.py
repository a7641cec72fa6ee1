"""What the tests of the data layer share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from mirrors import NOWHERE, ByFile, Mirror, made_up, made_up_arrays, packed_files

from cnnbench import config
from cnnbench.config import DataConfig
from cnnbench.data import cache as cached
from cnnbench.data import download
from cnnbench.data.catalog import CATALOG, FILES, PublicDataset, get
from cnnbench.data.idx import parse_idx

SAMPLE_YAML = Path(__file__).parents[2] / "conf" / "data" / "sample.yaml"


@pytest.fixture(scope="session")
def sample() -> ByFile:
    return dict(zip(FILES, download.load(get("sample"))[1][:4], strict=True))


@pytest.fixture(scope="session")
def full_set() -> ByFile:
    """Fashion-MNIST as it lies on this machine; never downloaded."""
    found = download.find_files(get("fashion_mnist"))
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
    monkeypatch.setattr(download, "user_cache", lambda: tmp_path / "user-cache" / "cnnbench")
    monkeypatch.setattr(download, "_prefetched", {})
    cached.clear()
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        monkeypatch.setattr(getattr(datasets, name), "mirrors", [NOWHERE])


@pytest.fixture
def arrays() -> ByFile:
    return made_up_arrays(0)


@pytest.fixture
def fashion(arrays: ByFile, monkeypatch: pytest.MonkeyPatch) -> PublicDataset:
    """Fashion-MNIST made of `arrays`."""
    dataset = made_up("fashion_mnist", arrays)
    monkeypatch.setitem(CATALOG, dataset.name, dataset)
    return dataset


@pytest.fixture
def digit_arrays() -> ByFile:
    return made_up_arrays(1)


@pytest.fixture
def mnist(digit_arrays: ByFile, monkeypatch: pytest.MonkeyPatch) -> PublicDataset:
    """MNIST made of `digit_arrays`."""
    dataset = made_up("mnist", digit_arrays)
    monkeypatch.setitem(CATALOG, dataset.name, dataset)
    return dataset


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def start_mirror() -> Iterator[Callable[[dict[str, bytes]], Mirror]]:
    """Starts a mirror of these files."""
    with ExitStack() as stack:

        def start(files: dict[str, bytes]) -> Mirror:
            mirror = Mirror(files)
            stack.callback(mirror.close)
            return mirror

        yield start


@pytest.fixture
def mirror(
    nothing_on_this_machine: None,
    start_mirror: Callable[[dict[str, bytes]], Mirror],
    arrays: ByFile,
    monkeypatch: pytest.MonkeyPatch,
) -> Mirror:
    """The mirror of Fashion-MNIST that torchvision knows."""
    from torchvision import datasets

    mirror = start_mirror(packed_files(arrays))
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [mirror.url])
    return mirror
