"""Commands in processes that can be killed, without the seconds that importing PyTorch takes.

Run as a script, this is the server: it imports all that training needs, and forks for each line of
stdin. It runs no operation of PyTorch, since that would start threads and a fork could hang.
"""

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from helpers.command import clean_environment
from helpers.fault_injection import Fault, inject_faults

__all__ = ["ForkServer", "Running"]

TIMEOUT_S = 120.0


class Running:
    """A command that was started. `pid` is its process until `wait` has returned."""

    def __init__(
        self, server: "ForkServer", arguments: Sequence[str], pid: int, output: Path, errors: Path
    ) -> None:
        self.pid = pid
        self._server = server
        self._arguments = arguments
        self._output = output
        self._errors = errors
        self._code: int | None = None

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def is_running(self) -> bool:
        if self._code is None:
            self._code = self._server.ask({"ended": self.pid})
        return self._code is None

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.is_running():
            os.kill(self.pid, number)

    def kill(self) -> "subprocess.CompletedProcess[str]":
        """Send SIGKILL. The exit code is -9 unless the process ended before."""
        self.send(signal.SIGKILL)
        return self.wait()

    def wait(self, timeout_s: float = TIMEOUT_S) -> "subprocess.CompletedProcess[str]":
        """Return the result as subprocess.run does.

        Raises:
            AssertionError: the command did not end in time. It is killed.
        """
        give_up_at = time.monotonic() + timeout_s
        while self.is_running():
            if time.monotonic() > give_up_at:
                self.kill()
                printed = f"{self.output}{self.errors}"
                raise AssertionError(f"{self._arguments} ran over {timeout_s:g} s:\n{printed}")
            time.sleep(0.002)
        assert self._code is not None
        return subprocess.CompletedProcess(self._arguments, self._code, self.output, self.errors)


class ForkServer:
    """A server that starts commands. `folder` gets the files of their stdout and stderr."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._commands = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.fork_server"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(folder),
        )

    def start(
        self,
        *arguments: str,
        folder: Path,
        faults: Sequence[Fault] = (),
        ignored_signals: Sequence[int] = (),
        unwritable: str = "",
        **changes: str,
    ) -> Running:
        """Start a command in `folder`, with `clean_environment` and `changes` to it.

        `unwritable` makes stdout and stderr a "full" disk, or a "pipe" without a reader.
        """
        self._commands += 1
        output, errors = (self.folder / f"{self._commands}.{name}" for name in ("out", "err"))
        for path in (output, errors):
            path.touch()
        environment = clean_environment(folder) | changes
        order = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "faults": faults,
        }
        order |= {"ignored_signals": ignored_signals, "unwritable": unwritable}
        pid = self.ask({**order, "output": str(output), "errors": str(errors)})
        assert pid is not None
        return Running(self, arguments, pid, output, errors)

    def run(
        self, *arguments: str, folder: Path, faults: Sequence[Fault] = (), **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        return self.start(*arguments, folder=folder, faults=faults, **options).wait()

    def ask(self, order: dict[str, Any]) -> int | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


def _serve() -> int:
    """Answer each line on stdin with the id of a forked process, or with the exit code of one."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    from helpers.in_process import main
    from helpers.shortcuts import SHORTCUTS

    import cnnbench
    from cnnbench.cli import main as command_line
    from cnnbench.commands import resume  # noqa: F401
    from cnnbench.training import distributed, run  # noqa: F401

    for (owner, name), value in SHORTCUTS.items():
        setattr(owner, name, value)

    main(["--cfg", "job"])  # finds plugins and builds parsers, which the forks share
    gc.freeze()  # a collection in a fork skips all that was imported
    for line in sys.stdin:
        order = json.loads(line)
        if "ended" in order:
            pid, status = os.waitpid(order["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _set_up_process(order)
                cnnbench.STARTED = time.perf_counter()
                _exit_quickly(command_line.main)
        print(json.dumps(answer), flush=True)
    return 0


def _exit_quickly(main: Callable[[], int]) -> NoReturn:
    """End this process with the code of `main`, without freeing all that was imported.

    Freeing would copy most pages of the fork, which takes longer than a small run.
    """
    try:
        code = main()
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set_up_process(order: dict[str, Any]) -> None:
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for descriptor, path in ((0, os.devnull), (1, order["output"]), (2, order["errors"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    if order["unwritable"] == "full":
        for descriptor in (1, 2):
            os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
    if order["unwritable"] == "pipe":
        read_end, write_end = os.pipe()
        for descriptor in (1, 2):
            os.dup2(write_end, descriptor)
        os.close(read_end)
    # the tests may run in a shell that ignores these
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    for number in order["ignored_signals"]:
        signal.signal(number, signal.SIG_IGN)
    sys.argv[1:] = order["arguments"]
    sys.orig_argv[:] = ["cnnbench", *order["arguments"]]
    if order["faults"]:
        inject_faults([tuple(fault) for fault in order["faults"]])


if __name__ == "__main__":
    sys.exit(_serve())
