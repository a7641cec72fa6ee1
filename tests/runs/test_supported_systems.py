"""Systems without file locks, such as Windows."""

import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT

HIDE_MODULES = (
    "import sys; sys.modules.update(dict.fromkeys(('fcntl', 'resource', 'pwd', 'termios')));"
)


def run_without_fcntl(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "ignore", "-c", HIDE_MODULES + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "code",
    ["import runpy; runpy.run_module('cnnbench', run_name='__main__')", "import cnnbench.cli.main"],
    ids=["module", "command"],
)
def test_system_without_file_locks_gets_one_line_with_supported_systems(code: str) -> None:
    done = run_without_fcntl(code)
    assert (done.returncode, done.stdout) == (2, "")
    message = r"cnnbench: \S+ is not supported\. Use Linux, macOS, .*\(WSL\)\.\n"
    assert re.fullmatch(message, done.stderr)


def test_configuration_and_data_are_imported_without_file_locks() -> None:
    done = run_without_fcntl("import cnnbench, cnnbench.config, cnnbench.data.datasets")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_networks_and_reference_are_imported_without_file_locks() -> None:
    done = run_without_fcntl("import cnnbench.models, cnnbench.reference.swap")
    assert (done.returncode, done.stderr) == (0, "")


def test_package_metadata_lists_supported_systems() -> None:
    listed = re.findall(r'"Operating System :: (.*)"', (ROOT / "pyproject.toml").read_text())
    assert listed == ["MacOS", "POSIX :: Linux"]
