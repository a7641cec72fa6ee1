"""Which of the ranks of torchrun this process is, and what rank 0 decides for all of them."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

__all__ = ["TIMEOUT", "Processes", "broadcast", "one_broadcast", "processes", "shared_store"]

BROADCAST_TIMEOUT = timedelta(days=365)
TIMEOUT = timedelta(minutes=30)  # for what all ranks do together: the slowest may fetch data


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

    def program(self, local_size: int | None = None) -> list[str]:
        """Return the words that a command line of cnnbench begins with.

        `local_size` is the number of processes on each machine, if it shall be another.
        """
        if self.launch is None:
            return ["cnnbench"]
        machines = self.world_size // self.local_size
        where = [
            f"--nnodes={machines}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={os.environ['MASTER_ADDR']}",
        ]
        count = f"--nproc-per-node={local_size or self.local_size}"
        return ["torchrun", *(where if machines > 1 else []), count, "-m", "cnnbench"]


def processes() -> Processes:
    """What the environment says now: one process, unless something like torchrun has started this one."""
    environment = os.environ
    if not environment.keys() >= {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}:
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


class SharedStore:
    """The store of torchrun, and how often this process has called `broadcast`."""

    def __init__(self) -> None:
        from torch._C._distributed_c10d import (
            PrefixStore,
        )  # which a single process need not wait for
        from torch.distributed.rendezvous import rendezvous

        ours = processes()
        store, _, _ = next(iter(rendezvous("env://", ours.rank, ours.world_size, timeout=TIMEOUT)))
        self.store = PrefixStore(f"cnnbench/{ours.restarts}", store)
        self.broadcasts = 0


shared_store = cache(SharedStore)


def broadcast(value: Any = None) -> Any:
    """Return the value of rank 0 on every rank; in a single process, the value.

    It is what JSON can hold. All ranks must call this the same number of times. Rank 0 does not
    wait for the others; they wait as long as rank 0 takes.

    Raises:
        torch.distributed.DistError: rank 0 is gone.
    """
    ours = processes()
    if not ours.several:
        return value
    shared = shared_store()
    shared.broadcasts += 1
    key = f"broadcast {shared.broadcasts}"
    if ours.rank == 0:
        shared.store.set(key, json.dumps(value))
        return value
    shared.store.wait([key], BROADCAST_TIMEOUT)
    return json.loads(shared.store.get(key))


@contextmanager
def one_broadcast() -> Iterator[None]:
    """On rank 0, broadcast None at the end of the block unless the block has broadcast a value."""
    if not processes().several:
        yield
        return
    before = shared_store().broadcasts
    try:
        yield
    finally:
        if shared_store().broadcasts == before:
            broadcast(None)
