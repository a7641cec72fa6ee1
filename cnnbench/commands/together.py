"""What the processes of one run do together: the first leads, the others follow."""

import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist

from cnnbench import config as configuration
from cnnbench.config import Config, as_dict
from cnnbench.data import sources
from cnnbench.data.resident import ResidentData
from cnnbench.errors import DivergedError
from cnnbench.runs.stopping import SIGTERM_CODE, STOP_SIGNALS, Stopping
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training import loop
from cnnbench.training.build import build_engine
from cnnbench.training.checkpoint import State
from cnnbench.training.distributed import DistributedEngine, is_peer_lost, orders, process_group, seed_for
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import Progress, Row, restore

__all__ = ["dismiss", "follow", "leading"]


@contextmanager
def leading(engine: EagerEngine, config: Config, last: State | None, best: Row | None) -> Iterator[None]:
    """Have the other processes, if there are any, take part in the training that the block does.

    They go on from the checkpoint `last`, with `best` the row of the best epoch so far.

    Raises:
        SystemExit: another process is gone; that is told. Nothing was saved after it.
    """
    if not isinstance(engine, DistributedEngine):
        yield
        return
    try:
        orders().send({"config": as_dict(config), "backend": engine.backend})
        with process_group(engine.backend) as control:
            dist.broadcast_object_list([(last, best)], 0, group=control)
            engine.join(control, config.device.sync_batchnorm)
            yield
    except Exception as error:
        if not is_peer_lost(error):
            raise
        print(
            f"cnnbench: Another process of this run ended, or cannot be reached: {_in_words(error)}. "
            "What was done since the last checkpoint is lost.",
            file=sys.stderr,
        )
        raise SystemExit(SIGTERM_CODE) from None


def dismiss() -> None:
    """Let the other processes end: there are no more runs to take part in."""
    with suppress(Exception):  # they are gone, or nobody waits
        orders().send(None)


def follow() -> int:
    """Take part in the runs of the first process until it dismisses this one, or is gone.

    Raises:
        CnnbenchError: what is missing or refused here, such as data or memory of this machine.
    """
    for number in (signal.SIGINT, *STOP_SIGNALS):  # before an order there is nothing to save
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    while (order := orders().receive()) is not None:
        try:
            _take_part(configuration.load(order["config"]), order["backend"])
        except (DivergedError, KeyboardInterrupt, SystemExit):
            pass  # which all processes have come to alike, and the first one tells
        except Exception as error:
            if not is_peer_lost(error):
                raise
    return 0


def _take_part(config: Config, backend: str) -> None:
    """Train as the first process does in `train.run`, without a word or a file."""
    with process_group(backend) as control:
        told: list[Any] = [None]
        dist.broadcast_object_list(told, 0, group=control)
        last, best = told[0]
        dataset, arrays = sources.load(config.data)
        engine = build_engine(config, dataset)
        assert isinstance(engine, DistributedEngine)
        epoch, step = (0, 0) if last is None else (len(last["rows"]), last["step"])
        torch.manual_seed(seed_for(config.seed, engine.rank, epoch, step))
        watch = Stopwatch(0.0)
        progress = Progress(watch) if last is None else restore(engine, last, None, watch)
        progress.best = best
        data = ResidentData.from_arrays(config.data, arrays, config.seed, engine.device.kind)
        engine.join(control, config.device.sync_batchnorm)
        engine.prepare(data.train, min(config.train.batch_size, len(data.train)))
        held_out = data.validation if len(data.validation) else data.test
        with Stopping(told=False) as stopping:
            with closing(loop.fit(engine, data.train, held_out, config, None, progress, stopping)) as rows:
                for _ in rows:
                    pass
            if len(data.validation):
                with engine.stoppable(stopping):
                    engine.evaluate(data.test, config.train.batch_size)


def _in_words(error: BaseException) -> str:
    """The reason in what gloo or NCCL say, without where in their sources it was found."""
    reason = str(error).partition("\n")[0].rpartition("] ")[2].partition(". This is")[0]
    return reason.rstrip(".") or type(error).__name__
