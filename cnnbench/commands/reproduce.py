"""`cnnbench reproduce`: judge the book and the claims by the runs of its sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from cnnbench import config, models
from cnnbench.analysis.claims import Computed, Convolutions, compute_claims
from cnnbench.analysis.format import align, printable
from cnnbench.analysis.memory import compute_dtype, estimate_memory
from cnnbench.commands import write_results
from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.errors import CnnbenchError
from cnnbench.reference.convolution import CrossCorrelation, pointwise
from cnnbench.reports.reproduction.arms import experiments
from cnnbench.reports.reproduction.markdown import as_markdown
from cnnbench.reports.reproduction.page import render
from cnnbench.reports.reproduction.results import results
from cnnbench.runs.records import Record
from cnnbench.training.build import on_meta

__all__ = ["compare_convolutions", "compute", "judge"]

MARKDOWN, PAGE = "results.md", "results.html"


def compute(data: DataConfig) -> Computed:
    """Compute the figures that need no training, on the test images of `data`.

    Raises:
        DataError: the data cannot be found or fetched.
    """
    dtypes = {"float32": torch.float32, "float64": torch.float64}
    return compute_claims(data, {name: compare_convolutions(dtypes[name]) for name in dtypes})


@torch.no_grad()
def compare_convolutions(dtype: torch.dtype) -> Convolutions:
    """Compare convolutions of PyTorch with a matrix product, and 1 x 1 with a linear layer.

    Images are random (8, 6, 28, 28), kernels 16 of 5 x 5, and of 1 x 1. Sums of 150 products may
    differ by the rounding of each: 150 times the machine epsilon.
    """
    generator = torch.Generator().manual_seed(0)
    images, kernels, points = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((8, 6, 28, 28), (16, 6, 5, 5), (16, 6, 1, 1))
    )
    product = CrossCorrelation.apply(images, kernels, None, (1, 1), 1)
    linear = pointwise(images, points.flatten(1), torch.zeros(16, dtype=dtype))
    return Convolutions(
        _largest_difference(product, functional.conv2d(images, kernels)),
        _largest_difference(linear, functional.conv2d(images, points)),
        kernels[0].numel() * torch.finfo(dtype).eps,
    )


def _largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def judge(
    runs: Sequence[Record],
    output: Path,
    scale: str,
    command: str,
    varied: Mapping[str, Mapping[str, str]],
    computed: Computed,
) -> None:
    """Judge the runs, print the verdicts and write the results into `output`.

    `varied` is what each experiment varies, by its name.

    Raises:
        ConfigError: the results cannot be written there.
    """
    judged = results(scale, command, runs, experiments(runs, varied, _memory), computed)
    at = judged.book.header.index("verdict")
    rows = [[row[0], row[1], row[at]] for row in judged.book.rows if row[1]]
    rows += [[f"claim {claim.name}", "", claim.verdict] for claim in judged.claims]
    print(printable(align(rows)))
    print(printable(judged.facts["trained"]))
    with write_results(output, MARKDOWN, PAGE) as folder:
        folder.write_text(MARKDOWN, as_markdown(judged))
        folder.write_text(PAGE, render(judged))


def _memory(run: Record) -> int | None:
    """Return the bytes of the tensors that training took; None if they cannot be worked out."""
    try:
        settings = config.load(run.config)
        if settings.model.name not in models.REGISTRY or settings.data.name == config.FOLDER:
            return None  # code to run, or files to read, that are anyone's
        network, images = on_meta(settings, datasets.dataset_info(settings.data), settings.train.batch_size)
        dtype = compute_dtype(str(run.result.get("precision")))
        return estimate_memory(network, images, settings.optimizer, dtype).total
    except CnnbenchError:
        return None
