"""`cnnbench lr-find`: its options, and the composition of its configuration."""

from functools import partial

from omegaconf import DictConfig

from cnnbench.cli.claimed_run import ClaimedRun
from cnnbench.cli.hydra_app import HydraJob, run_hydra_app
from cnnbench.cli.hydra_options import VALUES_HELP, build_hydra_options, refuse_multirun
from cnnbench.cli.parser import Parser, number
from cnnbench.errors import ConfigError
from cnnbench.runs.torchrun_env import processes

__all__ = ["build_parser", "run"]

MIN_RATE, MAX_RATE = 1e-12, 1000
MIN_STEPS, MAX_STEPS = 20, 100_000


def build_parser() -> Parser:
    """Return the options and words of the command."""
    parser = Parser(
        "lr-find",
        "Train briefly at rising learning rates, and suggest a rate",
        "cnnbench lr-find model=lenet",
        "cnnbench lr-find model=alexnet optimizer=adam --steps 100 --to 0.1",
    )
    parser.hydra = build_hydra_options()
    parser.details = (
        "The rate grows from step to step, until the loss does. No weights are kept, and "
        "scheduler= is not applied. Leaves a picture, lr_find.png, and each step in lr_find.csv. "
        "If the loss does not fall there is no suggestion; the exit code is 0 either way."
    )
    parser.word("KEY=VALUE ...", VALUES_HELP)
    rate = partial(number, minimum=MIN_RATE, maximum=MAX_RATE, kind=float)
    parser.option("--from LR", "the first rate", default=1e-5, type=rate("--from"), dest="min_rate")
    parser.option("--to LR", "the last rate", default=10.0, type=rate("--to"), dest="max_rate")
    steps = number("--steps", MIN_STEPS, MAX_STEPS)
    parser.option("--steps N", "training steps, one at each rate", default=400, type=steps)
    return parser


def run(arguments: list[str]) -> int:
    """Train briefly at rising learning rates, and suggest a rate."""
    if processes().several:
        raise ConfigError("cnnbench lr-find trains in one process. Start it without torchrun.")
    options, words = build_parser().read(arguments)
    refuse_multirun("lr-find", words)
    low, high = options.min_rate, options.max_rate
    if low >= high:
        raise ConfigError(f"--from {low:g} must be less than --to {high:g}.")

    def job(composed: DictConfig, claimed: ClaimedRun | None) -> None:
        assert claimed is not None
        run, checked = claimed.run, claimed.checked
        assert run is not None  # only torchrun resumes an earlier attempt
        assert checked is not None
        with run.recorded_status():
            from cnnbench.commands import lr_find  # imports PyTorch, after the heading

            lr_find.run(claimed.settings, run, checked, **vars(options))

    return run_hydra_app("lr-find", words, HydraJob(job))
