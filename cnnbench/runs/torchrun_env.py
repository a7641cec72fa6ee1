"""The rank of this process under torchrun, and broadcasts from rank 0 to the worker ranks."""

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
TIMEOUT = timedelta(minutes=30)  # ranks wait for the slowest, which may download data


@dataclass(frozen=True)
class Processes:
    """The `world_size` processes of a run. This one is `rank`, and `local_rank` on its machine.

    `local_size` is the number of processes on this machine. `restarts` counts the restarts by
    torchrun. `launch` identifies the torchrun, and a restart does not change it.
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
        """Return the first words of a command line that starts cnnbench in the same way.

        `local_size` replaces the number of processes on each machine.
        """
        if self.launch is None:
            return ["cnnbench"]
        machines = self.world_size // self.local_size
        options = [f"--nproc-per-node={local_size or self.local_size}"]
        if machines > 1:
            endpoint = f"--rdzv-endpoint={os.environ['MASTER_ADDR']}"
            options = [f"--nnodes={machines}", "--rdzv-backend=c10d", endpoint, *options]
        return ["torchrun", *options, "-m", "cnnbench"]


def processes() -> Processes:
    """Return the processes of this run, from the environment variables that torchrun sets."""
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
    """The key-value store of torchrun, and the number of broadcasts of this process."""

    def __init__(self) -> None:
        # imported here, as a single process does not need torch yet
        from torch._C._distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        current = processes()
        store, _, _ = next(
            iter(rendezvous("env://", current.rank, current.world_size, timeout=TIMEOUT))
        )
        self.store = PrefixStore(f"cnnbench/{current.restarts}", store)
        self.broadcasts = 0


shared_store = cache(SharedStore)


def broadcast(value: Any = None) -> Any:
    """Return the value of rank 0 on every rank; in a single process, return `value`.

    The value must fit into JSON. All ranks must call this the same number of times. Rank 0 does not
    wait for the worker ranks. They wait for rank 0 as long as it takes.

    Raises:
        torch.distributed.DistError: rank 0 has ended.
    """
    current = processes()
    if not current.several:
        return value
    shared = shared_store()
    shared.broadcasts += 1
    key = f"broadcast {shared.broadcasts}"
    if current.rank == 0:
        shared.store.set(key, json.dumps(value))
        return value
    shared.store.wait([key], BROADCAST_TIMEOUT)
    return json.loads(shared.store.get(key))


@contextmanager
def one_broadcast() -> Iterator[None]:
    """Broadcast None at the end of the block, unless the block has broadcast a value."""
    if not processes().several:
        yield
        return
    before = shared_store().broadcasts
    try:
        yield
    finally:
        if shared_store().broadcasts == before:
            broadcast(None)
