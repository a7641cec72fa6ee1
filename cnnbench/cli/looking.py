"""The verbs that compose a configuration and look at its network, without training it."""

import argparse
from typing import Any, NoReturn

from omegaconf import DictConfig

from cnnbench import config
from cnnbench.cli.composing import (
    RunDirectoryCallback,
    check,
    compose,
    output_directory,
    overrides_of_the_job,
    sweeps,
)
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import claim_exactly
from cnnbench.runs.processes import processes

__all__ = ["Flags", "benchmark", "gradcheck", "summary"]


class Flags(argparse.ArgumentParser):
    """The flags of a verb that are not Hydra's."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}.")


def summary(arguments: list[str]) -> int:
    """Look at the network of a composed configuration. Flags that are not summary's own are Hydra's."""
    parser = Flags()
    parser.add_argument("--depth", type=int)
    parser.add_argument("--layer")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options, rest = parser.parse_known_args(arguments)
    if options.depth is not None and options.depth < 1:
        raise ConfigError(f"--depth {options.depth} is out of range. It must be at least 1.")
    if options.layer is not None and options.depth is not None:
        raise ConfigError("--layer looks at one convolution and --depth folds all layers: choose one.")
    _refuse_sweep("summary", rest)

    def job(composed: DictConfig) -> None:
        settings = config.load(config.to_plain(composed))
        from cnnbench.commands import summary  # torch, which a mistake need not wait for

        summary.run(settings, **vars(options))

    return compose("summary", rest, job)


def gradcheck(arguments: list[str]) -> int:
    """Compare a network by hand with the library's. Flags that are not gradcheck's own are Hydra's."""
    parser = Flags()
    parser.add_argument("--batch", type=int, default=2, dest="batch_size")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options, rest = parser.parse_known_args(arguments)
    if options.batch_size < 2:
        raise ConfigError(f"--batch {options.batch_size} is out of range. It must be at least 2, to be normalised.")
    _refuse_sweep("gradcheck", rest)
    codes = []

    def job(composed: DictConfig) -> None:
        settings = config.load(config.to_plain(composed))
        from cnnbench.commands import gradcheck

        codes.append(gradcheck.run(settings, **vars(options)))

    return compose("gradcheck", rest, job) or max(codes, default=0)


def _refuse_sweep(verb: str, arguments: list[str]) -> None:
    if {"-m", "--multirun"}.intersection(arguments):
        raise ConfigError(f"cnnbench {verb} looks at one network: -m is for cnnbench train.")


def benchmark(arguments: list[str]) -> int:
    """Measure networks. Flags that are not benchmark's own are Hydra's."""
    if processes().several:
        raise ConfigError("cnnbench benchmark measures one process. Start it without torchrun.")
    parser = Flags()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epoch-limit", type=float, default=60.0, dest="epoch_limit_s")
    options, rest = parser.parse_known_args(arguments)
    if options.rounds < 1:
        raise ConfigError(f"--rounds {options.rounds} is out of range. It must be at least 1.")
    if not options.epoch_limit_s >= 0:
        raise ConfigError(f"--epoch-limit {options.epoch_limit_s:g} is out of range. It must be at least 0.")
    results: list[dict[str, Any]] = []

    def job(composed: DictConfig) -> None:
        directory = output_directory()
        run = claim_exactly(directory, "benchmark") if sweeps() else RunDirectoryCallback.claimed
        assert run is not None  # torchrun, which may start it again, is refused
        with run.recorded_status():
            settings = config.load(config.to_plain(composed))
            check(settings)
            from cnnbench.commands import benchmark

            overrides = overrides_of_the_job()
            results.append(benchmark.run(settings, run, overrides, **vars(options)))

    try:
        return compose("benchmark", rest, job)
    finally:  # what was measured before an interruption, too
        if results:
            from cnnbench.commands.benchmark import print_table

            print_table(results)
