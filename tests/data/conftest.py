"""What the tests of the data layer share."""

import dataclasses
import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from mirrors import ByFile, Mirror, idx, made_up, made_up_arrays

from cnnbench import config
from cnnbench.config import DataConfig
from cnnbench.data import storage
from cnnbench.data.catalog import CATALOG, FILES, Dataset, get
from cnnbench.data.idx import parse_idx

SAMPLE_YAML = Path(__file__).parents[2] / "conf" / "data" / "sample.yaml"


@pytest.fixture(scope="session")
def sample() -> ByFile:
    return dict(zip(FILES, storage.load(get("sample"))[:4], strict=True))


@pytest.fixture(scope="session")
def full_set() -> ByFile:
    """Fashion-MNIST as it lies on this machine; never fetched."""
    dataset = get("fashion_mnist")
    found = {name: storage.find(dataset, name, None, [])[1] for name in FILES}
    contents = {name: content for name, content in found.items() if content is not None}
    if len(contents) < len(FILES):
        pytest.skip("Fashion-MNIST is not on this machine; CNNBENCH_DATA may name its folder")
    return {name: parse_idx(content) for name, content in contents.items()}


@pytest.fixture
def data_config() -> Callable[..., DataConfig]:
    """Makes a configuration of which only the given keys differ from the sample's."""

    def make(**changes: object) -> DataConfig:
        values = yaml.safe_load(SAMPLE_YAML.read_text())
        return config.from_dict(DataConfig, {**values, "resize": 28, **changes}, "data")

    return make


@pytest.fixture
def nothing_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNNBENCH_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(storage, "user_cache", lambda: tmp_path / "user-cache" / "cnnbench")


@pytest.fixture
def arrays() -> ByFile:
    return made_up_arrays(0)


@pytest.fixture
def fashion(arrays: ByFile, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Fashion-MNIST made of `arrays`."""
    dataset = made_up("fashion_mnist", arrays)
    monkeypatch.setitem(CATALOG, dataset.name, dataset)
    return dataset


@pytest.fixture
def digit_arrays() -> ByFile:
    return made_up_arrays(1)


@pytest.fixture
def mnist(digit_arrays: ByFile, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """MNIST made of `digit_arrays`."""
    dataset = made_up("mnist", digit_arrays)
    monkeypatch.setitem(CATALOG, dataset.name, dataset)
    return dataset


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def start_server() -> Iterator[Callable[[dict[str, bytes]], Mirror]]:
    """Starts a mirror of these files."""
    with ExitStack() as stack:

        def start(files: dict[str, bytes]) -> Mirror:
            mirror = Mirror(files)
            stack.callback(mirror.close)
            return mirror

        yield start


@pytest.fixture
def start_mirror(start_server: Callable[[dict[str, bytes]], Mirror]) -> Callable[[ByFile], Mirror]:
    """Starts a mirror of these arrays."""
    return lambda arrays: start_server({f"{name}.gz": gzip.compress(idx(array)) for name, array in arrays.items()})


@pytest.fixture
def mirror(start_mirror: Callable[[ByFile], Mirror], arrays: ByFile) -> Mirror:
    return start_mirror(arrays)


@pytest.fixture
def online(fashion: Dataset, mirror: Mirror) -> Dataset:
    """Fashion-MNIST made of `arrays`, to be had at `mirror`."""
    return dataclasses.replace(fashion, mirrors=(mirror.url,))
