"""Which of the processes of a run this one is, as torchrun tells each of them in its environment."""

import os
import socket
from dataclasses import dataclass

__all__ = ["Processes", "processes"]

_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """`world_size` processes, of which this is number `rank`; on this machine it is `local_rank` of `local_size`.

    `restarts` counts how often torchrun has begun again; `launch` names the torchrun, the same after a restart.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0
    launch: str | None = None

    @property
    def several(self) -> bool:
        return self.world_size > 1

    def program(self) -> list[str]:
        """The words that a command line of cnnbench begins with."""
        if self.launch is None:
            return ["cnnbench"]
        machines = self.world_size // self.local_size
        where = [f"--nnodes={machines}", "--rdzv-backend=c10d", f"--rdzv-endpoint={os.environ['MASTER_ADDR']}"]
        return ["torchrun", *(where if machines > 1 else []), f"--nproc-per-node={self.local_size}", "-m", "cnnbench"]


def processes() -> Processes:
    """What the environment says now: one process, unless something like torchrun has started this one."""
    environment = os.environ
    if any(name not in environment for name in _TOLD):
        return Processes()
    rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    run_id = environment.get("TORCHELASTIC_RUN_ID", "none")
    return Processes(
        rank,
        world_size,
        int(environment.get("LOCAL_RANK", rank)),
        int(environment.get("LOCAL_WORLD_SIZE", world_size)),
        int(environment.get("TORCHELASTIC_RESTART_COUNT", 0)),
        run_id if run_id != "none" else f"process {os.getppid()} on {socket.gethostname()}",
    )


class RankLostError(Exception):
    """Rank 0 is gone. It reports why."""


def broadcast(value):
    assert not processes().several
    return value
