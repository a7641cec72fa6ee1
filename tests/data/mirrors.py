"""Small made-up data sets, and mirrors of them on 127.0.0.1."""

import dataclasses
import gzip
import hashlib
import struct
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import FILES, Dataset, get

ByFile = dict[str, npt.NDArray[np.uint8]]
Contents = dict[str, bytes]
IMAGES = FILES[0]
ENDLESS = 1 << 28
NOWHERE = "http://127.0.0.1:9/"  # refuses every connection


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def made_up_arrays(seed: int) -> ByFile:
    generator = np.random.default_rng(seed)
    shapes = ((30, 4, 4), (30,), (10, 4, 4), (10,))
    return {name: generator.integers(0, 10, shape, np.uint8) for name, shape in zip(FILES, shapes, strict=True)}


def made_up(name: str, arrays: ByFile) -> Dataset:
    """The data set `name` with this content instead of its own, to be had nowhere."""
    digests = {file: hashlib.sha256(idx(array)).hexdigest() for file, array in arrays.items()}
    facts = {"train_examples": 30, "test_examples": 10, "image_size": 4}
    return dataclasses.replace(get(name), sha256=digests, places=(), mirrors=(NOWHERE,), **facts)


def put(folder: Path, arrays: ByFile, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


def same(loaded: Arrays, expected: ByFile) -> bool:
    return all(np.array_equal(array, expected[file]) for array, file in zip(loaded[:4], FILES, strict=True))


class Mirror(ThreadingHTTPServer):
    """Serves `files` by name and notes what it was asked for.

    Of the first `cut_short` answers, only half is sent.
    """

    def __init__(self, files: Contents) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.files = files
        self.requests: list[str] = []
        self.num_bytes_sent = 0  # by an endless answer
        self.cut_short = 0
        self.names_length = True
        self.delay_s = 0.0
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
        name = self.path.removeprefix("/")
        self.server.requests.append(name)
        if self.server.closing.wait(self.server.delay_s):
            return  # who asked may be gone
        if name not in self.server.files:
            self.send_error(404)
            return
        body = self.server.files[name]
        self.send_response(200)
        if self.server.names_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cut_short > 0:
            self.server.cut_short -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class SilentAnswer(Answer):
    """Nothing at all; the first time, not even the end of the connection."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if len(self.server.requests) == 1:
            self.server.closing.wait()


class RudeAnswer(Answer):
    """Something that is not HTTP."""

    def do_GET(self) -> None:
        self.wfile.write(b"hello\r\n\r\n")


class ChunkedAnswer(Answer):
    """A chunk that ends before the length it gives."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"64\r\nshort")
        self.close_connection = True


class EndlessAnswer(Answer):
    """As good as without end: ENDLESS bytes, unless the other side hangs up."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(ConnectionError):
            while self.server.num_bytes_sent < ENDLESS:
                self.wfile.write(bytes(1 << 16))
                self.server.num_bytes_sent += 1 << 16


class BoastfulAnswer(Answer):
    """Announces a petabyte and keeps one waiting for it."""

    announced = str(10**15)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", self.announced)
        self.end_headers()
        self.server.closing.wait()


class UncountableAnswer(BoastfulAnswer):
    """Announces a length that is no number."""

    announced = "much"
