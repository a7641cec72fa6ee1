"""`cnnbench benchmark`: measure the speed and memory of networks on this machine.

Training, inference and an epoch are timed. The speed of training is compared with the chip's peak.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from cnnbench.analysis.format import align, format_count, three_digits
from cnnbench.analysis.layers import count_parameters
from cnnbench.analysis.timing import count_flops, measure_matrix_peak, time_calls, time_rounds
from cnnbench.config import Config, to_yaml
from cnnbench.data import datasets
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset
from cnnbench.data.device_data import ResidentData, epoch_order
from cnnbench.data.splits import check_sizes
from cnnbench.errors import ConfigError, is_out_of_memory
from cnnbench.runs import environment
from cnnbench.runs.directory import RunDirectory
from cnnbench.training.build import build_engine, describe_engine, on_meta
from cnnbench.training.device import cleaned_up
from cnnbench.training.engine import EagerEngine, endless_steps

__all__ = ["print_table", "run"]

Result = dict[str, Any]

SHOWN = (
    *("model=", "data.resize=", "train.batch_size="),
    *("device.precision=", "device.cuda_graphs=", "device.compile="),
)
HEADER = (
    *("network", "px", "batch", "how"),
    *("step ms", "range", "ex./s", "infer ms", "ex./s", "epoch s", "ex./s"),
    *("GiB", "GFLOP", "of peak"),
)


@cleaned_up()
def run(
    config: Config, run: RunDirectory, overrides: list[str], rounds: int, epoch_limit_s: float
) -> Result:
    """Measure one network and write benchmark.json.

    Running out of memory is a result, not an error: the batch is never made smaller.

    Raises:
        CnnbenchError: there are too few examples for a batch, the data cannot be loaded, or the
            network cannot be compiled.
    """
    dataset = datasets.dataset_info(config.data)
    num_train = check_sizes(config.data, dataset)
    if config.train.batch_size > num_train:
        size = f"the training set has {format_count(num_train, 'example')}"
        raise ConfigError(f"train.batch_size={config.train.batch_size}: {size}.")
    run.write_text("config.yaml", to_yaml(config))
    dataset, arrays = datasets.load_dataset(config.data)
    engine = build_engine(config, dataset)
    result: Result = {
        "model": config.model.name,
        "data": config.data.name,
        "image_size": config.data.resize,
        "batch_size": config.train.batch_size,
        "parameters": count_parameters(engine.model.parameters()),
        "overrides": overrides,
    }
    try:
        result |= _measure(config, dataset, arrays, engine, rounds, epoch_limit_s)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        result["out_of_memory"] = str(error).partition("\n")[0]
    result |= describe_engine(engine)
    run.write_json("benchmark.json", {**result, **environment.describe()})
    return result


def _measure(
    config: Config,
    dataset: Dataset,
    arrays: Arrays,
    engine: EagerEngine,
    rounds: int,
    epoch_limit_s: float,
) -> Result:
    device = engine.device
    data = ResidentData.from_arrays(config.data, arrays, config.seed, device.torch_device)
    batch_size, num_train = config.train.batch_size, len(data.train)
    engine.prepare(data.train, batch_size)
    images, labels = data.train.take(torch.arange(batch_size, device=device.torch_device))
    steps = endless_steps(engine, data.train, batch_size)
    training = time_rounds(lambda: next(steps), device.synchronize, rounds)
    engine.eval_model.eval()
    evaluate = partial(engine.evaluate_step, images, labels)
    with torch.inference_mode():
        inference = time_rounds(evaluate, device.synchronize, rounds)
    peak_gib = device.peak_memory_gib()

    def run_epoch() -> None:
        lr_factors = [1.0] * -(-num_train // batch_size)
        order = epoch_order(num_train, config.seed, 1)
        for _ in engine.steps(data.train, order, batch_size, lr_factors):
            pass
        engine.train_metrics.compute()
        engine.evaluate(data.test, batch_size)

    expected_s = (num_train * training.median_s + len(data.test) * inference.median_s) / batch_size
    epoch_s = time_calls(run_epoch, device.synchronize) if expected_s <= epoch_limit_s else None
    training_flops, inference_flops = count_flops(*on_meta(config, dataset, batch_size))
    dtype = device.autocast_dtype or device.dtype
    peak = measure_matrix_peak(device.torch_device, dtype, device.synchronize, rounds)
    return {
        "training": training.as_dict(batch_size),
        "inference": inference.as_dict(batch_size),
        "epoch": {
            "train_examples": num_train,
            "test_examples": len(data.test),
            "seconds": epoch_s,
            "examples_per_s": epoch_s and num_train / epoch_s,
        },
        "peak_gib": peak_gib,
        "flops": {
            "training_step": training_flops,
            "inference_batch": inference_flops,
            "matrix_peak_per_s": peak,
        },
        "share_of_peak": training_flops / training.median_s / peak,
    }


def print_table(results: Sequence[Result]) -> None:
    """Print a row for each network, with the overrides in which they differ, and the chips."""
    shared = set.intersection(*(set(result["overrides"]) for result in results))
    rows = [_format_row(result, shared) for result in results]
    print(align([HEADER, *rows], right=[1, 2, *range(4, len(HEADER))]))
    chips = []
    for result in results:
        threads = format_count(result["threads"], "thread")
        chips.append(f"{result['device']} ({result['chip']}), {threads}")
    print(*dict.fromkeys(chips), sep="\n")
    print(
        f"torch {torch.__version__}; step and infer: medians of rounds; epoch: with evaluation; "
        "GFLOP: of a step; GiB: the most of a run, on a CPU of the whole process"
    )


def _format_row(result: Result, shared: set[str]) -> tuple[str, ...]:
    how = [result["precision"], result["engine"], *(["compiled"] if result["compile"] else [])]
    differing = [override for override in result["overrides"] if override not in shared]
    how += [override for override in differing if not override.startswith(SHOWN)]
    start = (result["model"], str(result["image_size"]), str(result["batch_size"]), " ".join(how))
    if "out_of_memory" in result:
        return (*start, "out of memory", *[""] * (len(HEADER) - 5))
    training, inference, epoch = result["training"], result["inference"], result["epoch"]
    times = (training["median_s"], training["min_s"], training["max_s"])
    median, fastest, slowest = (three_digits(1e3 * time) for time in times)
    epoch_cells = ("not run", "")
    if epoch["seconds"] is not None:
        epoch_cells = (f"{epoch['seconds']:.2f}", f"{epoch['examples_per_s']:,.0f}")
    return (
        *start,
        *(median, f"{fastest}-{slowest}", f"{training['examples_per_s']:,.0f}"),
        *(three_digits(1e3 * inference["median_s"]), f"{inference['examples_per_s']:,.0f}"),
        *epoch_cells,
        "" if result["peak_gib"] is None else f"{result['peak_gib']:.2f}",
        three_digits(result["flops"]["training_step"] / 1e9),
        f"{100 * result['share_of_peak']:.1f} %",
    )
