"""Small made-up data sets, and mirrors of them on 127.0.0.1."""

import dataclasses
import gzip
import hashlib
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.public_datasets import encode_idx

from cnnbench.data import download
from cnnbench.data.catalog import CATALOG, FILES, PublicDataset, get
from cnnbench.data.public_files import Found, find_files
from cnnbench.errors import DataError

ByFile = dict[str, npt.NDArray[np.uint8]]
IMAGES = FILES[0]
NOWHERE = "http://127.0.0.1:9/"  # refuses every connection
PACKED = [f"{name}.gz" for name in FILES]


def make_arrays(seed: int) -> ByFile:
    generator = np.random.default_rng(seed)
    shapes = ((30, 4, 4), (30,), (10, 4, 4), (10,))
    return {
        name: generator.integers(0, 10, shape, np.uint8)
        for name, shape in zip(FILES, shapes, strict=True)
    }


def replace_content(name: str, arrays: ByFile) -> PublicDataset:
    """Return the data set `name` with these arrays as its content."""
    digests = {
        file: hashlib.sha256(encode_idx(array)).hexdigest() for file, array in arrays.items()
    }
    sizes = {"train_examples": 30, "test_examples": 10, "image_size": 4}
    return dataclasses.replace(get(name), sha256=digests, system_folders=(), **sizes)


def make_packed_files(arrays: ByFile) -> dict[str, bytes]:
    return {
        f"{name}.gz": gzip.compress(encode_idx(array), mtime=0) for name, array in arrays.items()
    }


def write_files(folder: Path, arrays: ByFile, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: encode_idx(array) for name, array in arrays.items()}
    for name, content in (make_packed_files(arrays) if packed else plain).items():
        (folder / name).write_bytes(content)


def torchvision_class(dataset: PublicDataset) -> Any:
    from torchvision import datasets

    return getattr(datasets, dataset.source)


def patch_torchvision(
    name: str,
    files: Mapping[str, bytes],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Make torchvision's class of the data set expect these files at `url`."""
    source = torchvision_class(get(name))
    digests = {file: hashlib.md5(content).hexdigest() for file, content in files.items()}
    first = next(iter(files))
    values: dict[str, Any] = {"mirrors": [url], "resources": list(digests.items())}
    if name == "qmnist":
        resources = [(url + file, digest) for file, digest in digests.items()]
        values = {"resources": {"train": resources[:2], "test": resources[2:]}}
    elif name.startswith("emnist"):
        values = {"url": url + first, "md5": digests[first]}
    elif name.startswith("cifar"):
        batches, test = [f"data_batch_{number}" for number in range(1, 6)], "test_batch"
        if name == "cifar100":
            batches, test = ["train"], "test"
        values = {
            "base_folder": "folder",
            "url": url + first,
            "tgz_md5": digests[first],
            "train_list": [(batch, None) for batch in batches],
            "test_list": [(test, None)],
            "meta": {"filename": "meta", "key": "label_names", "md5": None},
        }
    for attribute, value in values.items():
        monkeypatch.setattr(source, attribute, value)


class Site:
    """A cache, and a small public data set that can be put into folders, served and loaded."""

    def __init__(self, name: str, seed: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrays = make_arrays(seed)
        self.dataset = replace_content(name, self.arrays)
        self.cache = cache
        self.monkeypatch = monkeypatch
        monkeypatch.setitem(CATALOG, name, self.dataset)

    def put(self, folder: Path, packed: bool = True) -> None:
        write_files(folder, self.arrays, packed)

    def look_into(self, *folders: Path | str) -> None:
        self.monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join(map(str, folders)))

    def mirrors(self, *urls: str) -> None:
        """Make torchvision fetch the data set from these mirrors."""
        files = make_packed_files(self.arrays)
        patch_torchvision(self.dataset.name, files, "", self.monkeypatch)
        self.monkeypatch.setattr(torchvision_class(self.dataset), "mirrors", list(urls))

    def find(self) -> Found:
        return find_files(self.dataset, str(self.cache))

    def prefetch(self) -> None:
        download.prefetch_public_dataset(self.dataset, str(self.cache))

    def loads(self) -> bool:
        """Load the data set; return whether it and its arrays are those that were put."""
        dataset, arrays = download.load_public_dataset(self.dataset, str(self.cache))
        pairs = zip(arrays[:4], FILES, strict=True)
        is_same = all(np.array_equal(array, self.arrays[file]) for array, file in pairs)
        return dataset == self.dataset and is_same

    def error(self) -> str:
        with pytest.raises(DataError) as caught:
            download.load_public_dataset(self.dataset, str(self.cache))
        return str(caught.value)


class Mirror(ThreadingHTTPServer):
    """A server of `files` by name, which records the requests and misbehaves according to `fault`.

    It does not record torchvision's first request, which only finds the place of a file. It sends
    half of each of the first `cut_short` files.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.files = files
        self.requests: list[str] = []
        self.cut_short = 0
        self.fault = ""
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name, fault = self.path.rpartition("/")[2], self.server.fault
        is_file_wanted = self.headers["Method"] != "HEAD"
        if is_file_wanted:
            self.server.requests.append(name)
        if fault == "silent":
            self.server.closing.wait()
            return  # the client may be gone
        if fault == "no HTTP":
            self.wfile.write(b"hello\r\n\r\n")
            return
        if fault == "endless":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # the client closes the connection
                while True:
                    self.wfile.write(bytes(1 << 16))
            return
        if name not in self.server.files:
            self.send_error(404)
            return
        body = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if is_file_wanted and self.server.cut_short > 0:
            self.server.cut_short -= 1
            body = body[: len(body) // 2]
        with suppress(OSError):  # a request for the place alone does not read the body
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
