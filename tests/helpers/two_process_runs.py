"""Two processes of one run, told who they are as torchrun tells it, but forked: nobody waits for imports."""

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from helpers.fault_injection import Fault
from helpers.fork_server import ForkServer, Running

__all__ = ["Done", "run_ranks", "start_ranks", "rank_environments"]

Done = subprocess.CompletedProcess[str]


def rank_environments(world_size: int) -> list[dict[str, str]]:
    """What the environment of each process says."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**shared, "RANK": str(rank)} for rank in range(world_size)]


def start_ranks(
    forks: ForkServer,
    *arguments: str,
    folder: Path,
    processes: int = 2,
    faults: Sequence[Fault] = (),
    faulty_rank: int = 0,
    **changes: str,
) -> list[Running]:
    """Start them all; `faults` are for process number `faulty_rank`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        forks.start(
            *arguments,
            folder=folder,
            faults=faults if rank == faulty_rank else (),
            **changes,
            **environment,
        )
        for rank, environment in enumerate(rank_environments(processes))
    ]


def run_ranks(
    forks: ForkServer, *arguments: str, folder: Path, processes: int = 2, **more: object
) -> list[Done]:
    running = start_ranks(forks, *arguments, folder=folder, processes=processes, **more)  # type: ignore[arg-type]
    return [each.wait() for each in running]
