"""The variables that torchrun sets, and the command line that starts torchrun again."""

import pytest

from cnnbench.runs.torchrun_env import Processes, processes

RANK_VARIABLES = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "gauss", "MASTER_PORT": "29500"}
LOCAL = {
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_RUN_ID": "job7",
}


@pytest.fixture
def under_torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set the variables of torchrun."""
    for key, value in {**RANK_VARIABLES, **LOCAL}.items():
        monkeypatch.setenv(key, value)
    return monkeypatch


def test_ranks_are_read_from_the_environment(under_torchrun: pytest.MonkeyPatch) -> None:
    assert processes() == Processes(3, 4, 1, 2, 2, "job7")


@pytest.mark.parametrize("missing", RANK_VARIABLES)
def test_missing_variable_means_a_single_process(
    under_torchrun: pytest.MonkeyPatch, missing: str
) -> None:
    under_torchrun.delenv(missing)
    assert processes() == Processes()


def test_launch_without_a_name_is_the_process_of_torchrun(
    under_torchrun: pytest.MonkeyPatch,
) -> None:
    under_torchrun.setenv("TORCHELASTIC_RUN_ID", "none")
    assert str(processes().launch).startswith("process ")


def test_single_process_is_started_by_the_plain_command() -> None:
    assert Processes().program() == ["cnnbench"]


def test_processes_on_one_machine_are_started_by_torchrun(
    under_torchrun: pytest.MonkeyPatch,
) -> None:
    program = Processes(0, 2, 0, 2, launch="x").program()
    assert program == ["torchrun", "--nproc-per-node=2", "-m", "cnnbench"]


def test_command_for_several_machines_has_the_rendezvous_endpoint(
    under_torchrun: pytest.MonkeyPatch,
) -> None:
    assert {"--nnodes=2", "--rdzv-endpoint=gauss", "--nproc-per-node=2"} <= set(
        processes().program()
    )
