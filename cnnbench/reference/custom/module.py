"""Custom layers, loss and optimizers: classes in a Python file of the user.

A file defines any of the classes in `SIGNATURES`. Each class has the methods of the book "Deep
Learning from Scratch": a layer is made from its weights, `forward` returns its outputs, `backward`
takes the gradient of the outputs and returns that of the inputs. The arrays are NumPy's, or tensors
if the file sets ``ARRAYS = "torch"``. docs/exercises.md has the signatures.
"""

import faulthandler
import functools
import importlib.util
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from cnnbench.data.user_folders import expand_user
from cnnbench.errors import ConfigError, find_similar

__all__ = ["OPTIMIZERS", "SIGNATURES", "CustomCodeError", "CustomModule", "load_custom"]

# the parameters of __init__, without self
SIGNATURES = {
    "Conv2d": "W, b, stride, pad",
    "Linear": "W, b",
    "MaxPool2d": "size, stride, pad",
    "AvgPool2d": "size, stride, pad",
    "BatchNorm2d": "gamma, beta, running_mean, running_var, momentum, eps",
    "Dropout": "p",
    "ReLU": "",
    "Sigmoid": "",
    "Tanh": "",
    "CrossEntropyLoss": "",
    "SGD": "lr",
    "Momentum": "lr, momentum",
    "AdaGrad": "lr, eps",
    "Adam": "lr, beta1, beta2, eps",
}
OPTIMIZERS = ("SGD", "Momentum", "AdaGrad", "Adam")
METHODS = {
    "forward": "x",
    "backward": "dout",
    **{"BatchNorm2d.forward": "x, training", "Dropout.forward": "x, training"},
    **{"CrossEntropyLoss.forward": "x, t", "CrossEntropyLoss.backward": ""},
    "update": "params, grads",
}
GRACE_S = 5.0  # after the time limit, until the process ends: the code may catch the exception


class CustomCodeError(ConfigError):
    """An error in the user's classes. The message names the method and the line."""


class _TimeUp(BaseException):
    """Raised in the user's code at the time limit. `except Exception` does not catch it."""


@dataclass(frozen=True)
class CustomModule:
    """The classes of the user's file.

    Attributes:
        path: the file.
        classes: those of `SIGNATURES` that the file has, by name.
        uses_torch: whether the classes take tensors in place of NumPy arrays.
        time_limit_s: how long a call may take (None: without limit).
    """

    path: Path
    classes: dict[str, type]
    uses_torch: bool
    time_limit_s: float | None = None

    def make(self, kind: str, *arguments: Any) -> Any:
        """Return an instance of a class, made from arguments in the order of its signature.

        Raises:
            CustomCodeError: its `__init__` fails or has other parameters.
        """
        return self._call(f"{kind}.__init__", SIGNATURES[kind], self.classes[kind], arguments)

    def call(self, kind: str, instance: Any, method: str, *arguments: Any) -> Any:
        """Return what a method of an instance of a class returns.

        Raises:
            CustomCodeError: the method is missing, is not written yet, fails or has other
                parameters.
            ConfigError: it took longer than the time limit.
        """
        name = f"{kind}.{method}"
        parameters = METHODS.get(name, METHODS[method])
        function = getattr(instance, method, None)
        if function is None:
            raise CustomCodeError(f"{kind} has no method {_signature(method, parameters)}.")
        return self._call(name, parameters, function, arguments)

    def _call(
        self, name: str, parameters: str, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        try:
            inspect.signature(function).bind(*arguments)
        except TypeError as error:
            kind, method = name.split(".")
            expected = f"{kind}.{_signature(method, parameters)}"
            raise CustomCodeError(f"{expected} is needed, but {name}: {error}.") from error
        except ValueError:
            pass  # a class without a signature takes what it takes
        try:
            with _limit_time(self.time_limit_s):
                return function(*arguments)
        except NotImplementedError as error:
            raise CustomCodeError(f"{name} is not written yet ({self._place(error)}).") from error
        except _TimeUp as error:
            raise ConfigError(
                f"{name} did not end within {self.time_limit_s:g} s ({self._place(error)}). "
                "Does its loop end? If it is only slow, raise --time-limit."
            ) from error
        except (Exception, SystemExit) as error:
            reason = ": ".join(filter(None, (type(error).__name__, str(error))))
            hint = ""
            if not self.uses_torch and "torch" in sys.modules and "must be Tensor" in reason:
                hint = ' Its arrays are NumPy\'s. Write ARRAYS = "torch" in the file for tensors.'
            raise CustomCodeError(f"{name}: {reason} ({self._place(error)}).{hint}") from error

    def _place(self, error: BaseException) -> str:
        """Return the file and the last line of the user's code in the traceback of an error."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == self.path]
        return f"{self.path.name}, line {lines[-1]}" if lines else self.path.name


def load_custom(name: str, time_limit_s: float | None = None) -> CustomModule:
    """Run the user's file and return its classes. A file that did not change runs once.

    Args:
        name: a path that ends with .py, or the name of a module in the working folder or installed.
        time_limit_s: how long the file and each call may take (None: without limit).

    Raises:
        ConfigError: the file is missing, fails, takes too long, or has none of the classes.
    """
    key = f"reference.module={name}"
    path = _find_file(name, key)
    module = _execute(path, path.stat().st_mtime_ns, key, time_limit_s)
    arrays = getattr(module, "ARRAYS", "numpy")
    if arrays not in ("numpy", "torch"):
        raise ConfigError(f"{key}: ARRAYS = {arrays!r} is not known. Allowed: 'numpy', 'torch'.")
    found = {kind: value for kind, value in vars(module).items() if _is_custom(value)}
    classes = {kind: value for kind, value in found.items() if kind in SIGNATURES}
    if not classes:
        others = {other: find_similar(other, SIGNATURES) for other in found}
        meant = [f"Did you mean '{near}' by {other}?" for other, near in others.items() if near]
        allowed = ", ".join(SIGNATURES)
        raise ConfigError(" ".join([f"{key} has no class to use.", *meant, f"Allowed: {allowed}."]))
    return CustomModule(path, classes, arrays == "torch", time_limit_s)


def _find_file(name: str, key: str) -> Path:
    """Return the Python file that reference.module names."""
    if name.endswith(".py") or "/" in name:
        path = expand_user(name)
        if not path.is_file():
            raise ConfigError(f"{key}: there is no such file in {Path.cwd()}.")
        return path.resolve()
    path = Path.cwd() / f"{name.replace('.', '/')}.py"
    if path.is_file():
        return path.resolve()
    try:
        spec = importlib.util.find_spec(name)
    except (Exception, SystemExit) as error:  # a package of the user's that fails
        raise ConfigError(f"{key}: {type(error).__name__}: {error}.") from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(
            f"{key}: there is no {path.name} in {Path.cwd()}, and no module of this name. "
            "Name the file: reference.module=DIR/FILE.py"
        )
    return Path(spec.origin)


@functools.lru_cache(maxsize=8)
def _execute(path: Path, mtime_ns: int, key: str, time_limit_s: float | None) -> ModuleType:
    """Run a file as a module. `mtime_ns` is its time of change, so that a changed file runs anew.

    Raises:
        ConfigError: it fails or takes too long. The message has the line.
    """
    folder = str(path.parent)
    if folder not in sys.path:  # the file may import others beside it
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"cnnbench_custom_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{key} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with _limit_time(time_limit_s):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        text = (error.text or "").strip()
        place = f"{Path(error.filename or path).name}, line {error.lineno}"
        raise ConfigError(f"{key}: {place}: {error.msg}: {text}") from error
    except _TimeUp as error:
        place = CustomModule(path, {}, uses_torch=False)._place(error)
        raise ConfigError(f"{key}: {place}: not ended within {time_limit_s:g} s.") from error
    except (Exception, SystemExit) as error:
        place = CustomModule(path, {}, uses_torch=False)._place(error)
        raise ConfigError(f"{key}: {place}: {type(error).__name__}: {error}.") from error
    return module


def _is_custom(value: object) -> bool:
    """Return whether a value is a class that is not PyTorch's or cnnbench's."""
    if not isinstance(value, type):
        return False
    return value.__module__.partition(".")[0] not in ("torch", "cnnbench", "builtins")


def _signature(method: str, parameters: str) -> str:
    return f"{method}({', '.join(filter(None, ('self', parameters)))})"


@contextmanager
def _limit_time(seconds: float | None) -> Iterator[None]:
    """Raise `_TimeUp` in the block after some seconds.

    Code that catches it, and a library that does not return to Python, end the process after
    GRACE_S more. Only the main thread has a time limit.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TimeUp

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
