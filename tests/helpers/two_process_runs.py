"""Runs in several processes, forked with the environment variables that torchrun sets.

A fork saves the imports of a new process.
"""

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.fault_injection import Fault
from helpers.fork_server import ForkServer, Running

__all__ = ["Done", "rank_environments", "run_ranks", "start_ranks"]

Done = subprocess.CompletedProcess[str]


def rank_environments(world_size: int) -> list[dict[str, str]]:
    """Return the environment variables of each process."""
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
    """Start all processes; `faults` are for the process `faulty_rank`."""
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
    forks: ForkServer, *arguments: str, folder: Path, processes: int = 2, **options: Any
) -> list[Done]:
    running = start_ranks(forks, *arguments, folder=folder, processes=processes, **options)
    return [process.wait() for process in running]
