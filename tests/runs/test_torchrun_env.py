"""What torchrun says in the environment, and the command line that goes on under it."""

import pytest

from cnnbench.runs.torchrun_env import Processes, processes

TOLD = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "gauss", "MASTER_PORT": "29500"}
LOCAL = {
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_RUN_ID": "job7",
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for key, value in {**TOLD, **LOCAL}.items():
        monkeypatch.setenv(key, value)
    return monkeypatch


def test_torchrun_tells_a_process_which_it_is(told: pytest.MonkeyPatch) -> None:
    assert processes() == Processes(3, 4, 1, 2, 2, "job7")


@pytest.mark.parametrize("missing", TOLD)
def test_without_all_that_torchrun_tells_there_is_one_process(
    told: pytest.MonkeyPatch, missing: str
) -> None:
    told.delenv(missing)
    assert processes() == Processes()


def test_a_torchrun_without_a_name_is_known_by_its_process(told: pytest.MonkeyPatch) -> None:
    told.setenv("TORCHELASTIC_RUN_ID", "none")
    assert str(processes().launch).startswith("process ")


def test_one_process_is_started_by_the_plain_command() -> None:
    assert Processes().program() == ["cnnbench"]


def test_several_on_one_machine_are_started_by_torchrun(told: pytest.MonkeyPatch) -> None:
    program = Processes(0, 2, 0, 2, launch="x").program()
    assert program == ["torchrun", "--nproc-per-node=2", "-m", "cnnbench"]


def test_several_machines_are_told_where_to_meet(told: pytest.MonkeyPatch) -> None:
    assert {"--nnodes=2", "--rdzv-endpoint=gauss", "--nproc-per-node=2"} <= set(
        processes().program()
    )
