"""The user's file: how it is found and run, and the messages of its mistakes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.custom_files import load_solution

from cnnbench.errors import ConfigError
from cnnbench.reference.custom.module import CustomCodeError, CustomModule, load_custom

Write = Callable[[str], CustomModule]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that loads a text as mine.py, in the working folder."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(text: str) -> CustomModule:
        path = tmp_path / "mine.py"
        path.write_text(text)
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
        return load_custom("mine")

    return write_and_load


RELU = """
class ReLU:
    def forward(self, x):
        {body}
"""


def call(custom: CustomModule, method: str = "forward", *arguments: object) -> object:
    return custom.call("ReLU", custom.make("ReLU"), method, *(arguments or (torch.ones(2),)))


@pytest.mark.parametrize("name", ["mine", "mine.py", "./mine.py", "folder/mine.py", "folder.mine"])
def test_file_is_found_by_path_and_by_name(write: Write, tmp_path: Path, name: str) -> None:
    custom = write(RELU.format(body="return x"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.py").write_bytes((tmp_path / "mine.py").read_bytes())
    assert load_custom(name).classes.keys() == custom.classes.keys() == {"ReLU"}


def test_installed_module_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "my_course_layers.py").write_text(RELU.format(body="return x"))
    monkeypatch.syspath_prepend(tmp_path / "library")
    assert load_custom("my_course_layers").path.parent == tmp_path / "library"


def test_file_may_import_a_file_beside_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text(RELU.format(body="return 2 * x"))
    assert torch.equal(call(write("from beside_mine import ReLU")), torch.full((2,), 2.0))


def test_classes_of_pytorch_are_not_taken_for_the_users(write: Write) -> None:
    custom = write("from torch.nn import Linear, Sigmoid\n" + RELU.format(body="return x"))
    assert list(custom.classes) == ["ReLU"]


def test_unchanged_file_runs_once_and_a_changed_one_again(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"print('ran')\n{RELU.format(body='return x')}"
    write(text)
    load_custom("mine")
    assert capsys.readouterr().out == "ran\n"
    write(text)
    assert capsys.readouterr().out == "ran\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "reference.module=absent: there is no absent.py in {folder}, and no module"),
        ("absent.py", "reference.module=absent.py: there is no such file in {folder}."),
        ("math", "there is no math.py in {folder}, and no module of this name. Name the file"),
        ("a..b", "reference.module=a..b: "),
    ],
)
def test_missing_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_custom(name)
    assert message.format(folder=tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (1\n", "reference.module=mine: mine.py, line 1: '(' was never closed: x = (1"),
        ("\nimport absent_package", "mine.py, line 2: ModuleNotFoundError: No module named"),
        ("exit(3)", "reference.module=mine: mine.py, line 1: SystemExit: 3."),
        ("x = 1\n1 / 0", "mine.py, line 2: ZeroDivisionError: division by zero."),
        ("ARRAYS = 'jax'", "ARRAYS = 'jax' is not known. Allowed: 'numpy', 'torch'."),
        ("x = 1", "reference.module=mine has no class to use. Allowed: Conv2d, Linear, MaxPool2d"),
        ("class conv2D: pass", "has no class to use. Did you mean 'Conv2d' by conv2D? Allowed:"),
        ("def ReLU(x): return x", "reference.module=mine has no class to use."),
    ],
)
def test_file_that_cannot_be_used_is_an_error(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        write(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise NotImplementedError", "ReLU.forward is not written yet (mine.py, line 4)."),
        ("return x.nothing", "ReLU.forward: AttributeError: 'Tensor' object has no attribute"),
        ("y = 1\n        return 1 / 0", "ZeroDivisionError: division by zero (mine.py, line 5)."),
        ("exit()", "ReLU.forward: SystemExit: None (mine.py, line 4)."),
    ],
)
def test_error_in_a_method_has_its_line(write: Write, body: str, message: str) -> None:
    with pytest.raises(CustomCodeError) as error:
        call(write(RELU.format(body=body)))
    assert message in str(error.value)


def test_wrong_parameters_are_an_error_with_the_right_ones(write: Write) -> None:
    custom = write("class ReLU:\n    def forward(self):\n        pass")
    with pytest.raises(CustomCodeError, match=r"^ReLU.forward\(self, x\) is needed, but ReLU.forw"):
        call(custom)
    custom = write("class Conv2d:\n    def __init__(self, W):\n        pass")
    needed = r"^Conv2d.__init__\(self, W, b, stride, pad\) is needed, but Conv2d.__init__: too many"
    with pytest.raises(CustomCodeError, match=needed):
        custom.make("Conv2d", 1, 2, 3, 4)
    custom = write("class Dropout:\n    def forward(self, x):\n        pass")
    with pytest.raises(CustomCodeError, match=r"^Dropout.forward\(self, x, training\) is needed"):
        custom.call("Dropout", custom.make("Dropout"), "forward", 1, True)


def test_missing_method_is_an_error(write: Write) -> None:
    with pytest.raises(CustomCodeError, match=r"^ReLU has no method backward\(self, dout\).$"):
        call(write(RELU.format(body="return x")), "backward")


def test_numpy_arrays_in_functions_of_torch_get_a_hint(write: Write) -> None:
    custom = write("import torch\n" + RELU.format(body="return torch.relu(x)"))
    with pytest.raises(CustomCodeError, match=r'Write ARRAYS = "torch" in the file for tensors.$'):
        custom.call("ReLU", custom.make("ReLU"), "forward", torch.ones(2).numpy())


@pytest.mark.parametrize("body", ["while True: pass", "exec('while True: pass')"])
def test_method_that_never_ends_is_stopped(write: Write, body: str) -> None:
    write(RELU.format(body=body))
    with pytest.raises(ConfigError) as error:
        call(load_custom("mine", time_limit_s=0.05))
    assert str(error.value) == (
        "ReLU.forward did not end within 0.05 s (mine.py, line 4). "
        "Does its loop end? If it is only slow, raise --time-limit."
    )
    assert not isinstance(error.value, CustomCodeError)  # it ends the whole check


def test_except_exception_does_not_catch_the_time_limit(write: Write) -> None:
    body = "while True:\n            try: x + 1\n            except Exception: pass"
    write(RELU.format(body=body))
    with pytest.raises(ConfigError, match="did not end within"):
        call(load_custom("mine", time_limit_s=0.05))


def test_file_that_never_ends_is_stopped(write: Write, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("while True: pass")
    with pytest.raises(
        ConfigError, match=r"=endless: endless.py, line 1: not ended within 0.05 s.$"
    ):
        load_custom("endless", time_limit_s=0.05)


def test_time_limit_is_off_after_a_call() -> None:
    custom = load_custom(str(load_solution("ReLU").path), time_limit_s=0.05)
    call(custom, "forward", torch.ones(2))
    time.sleep(0.1)
