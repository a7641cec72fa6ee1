"""Export a trained network to a file for other programs: ONNX, torch.export or safetensors.

The exported network computes in fp32 the same as `EagerEngine.classify`. `differences` measures
the error.
"""

import copy
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional

from cnnbench.data.preprocess import Preprocess
from cnnbench.errors import ConfigError, is_out_of_memory
from cnnbench.training.engine import EagerEngine

__all__ = ["FORMATS", "Classifier", "Preprocessing", "differences", "pack"]

Run = Callable[[torch.Tensor], torch.Tensor]  # images (N, C, H, W) to logits (N, K)

BATCHES = (1, 2, 7)  # batch sizes on which an export with a fixed batch size fails


class Preprocessing(nn.Module):
    """Preprocesses uint8 images (N, C, side, side) like `Preprocess`, except for rounding.

    Resizing with antialiasing is linear: a product with a matrix from each side. Every runtime can
    multiply matrices, and the result is more exact than ONNX's Resize (benchmarks/NOTES.md).
    """

    weights: torch.Tensor | None
    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, preprocess: Preprocess, side: int) -> None:
        super().__init__()
        identity = torch.eye(side).view(1, 1, side, side)
        shape = (preprocess.size, side)
        weights = functional.interpolate(identity, shape, mode="bilinear", antialias=True)
        self.register_buffer("weights", None if side == preprocess.size else weights[0, 0])
        shift = [255 * mean for mean in preprocess.mean]
        scale = [1 / (255 * std) for std in preprocess.std]
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images.float()
        if self.weights is not None:
            values = self.weights @ values @ self.weights.T
        return (values - self.shift) * self.scale


class Classifier(nn.Module):
    """Computes logits (N, K) from images (N, C, H, W).

    With `preprocessing` the images are uint8. Without it they are inputs of the network.
    """

    def __init__(
        self, network: nn.Module, tta: str, preprocessing: Preprocessing | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.tta = tta
        self.preprocessing = preprocessing
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inputs = images if self.preprocessing is None else self.preprocessing(images)
        logits = self._logits(inputs)
        return (logits + self._logits(inputs.flip(-1))) / 2 if self.tta == "hflip" else logits

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.network(inputs)
        logits: torch.Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return logits.float()


def pack(
    format_name: str, classifier: Classifier, images: torch.Tensor, metadata: Mapping[str, str]
) -> bytes:
    """Return the content of a file in one of `FORMATS`.

    `images` is an example input of `classifier`: a batch of at least two.

    Raises:
        ConfigError: the format does not support an operation of the network.
    """
    problem = f"--format {format_name}: PyTorch cannot export this network"
    with _raise_config_error(problem), _prepare_torch_export():
        return FORMATS[format_name].pack(classifier, images, metadata)


def differences(
    format_name: str, content: bytes, engine: EagerEngine, images: torch.Tensor, preprocessed: bool
) -> tuple[float, float]:
    """Run an exported file on the CPU in its runtime, and compare its logits with the engine's.

    Return the largest absolute difference and the largest absolute logit of the engine. They are
    NaN if a logit is NaN. The uint8 `images` (N, C, H, W), N above 10, run in batches of several
    sizes. `preprocessed` is true if the file expects preprocessed images.

    Raises:
        ConfigError: the file does not run.
    """
    max_logit = max_difference = torch.zeros(())
    with _raise_config_error(f"--format {format_name}: what was exported does not run"):
        classifier = Classifier(copy.deepcopy(engine.eval_model), engine.config.tta)
        run = FORMATS[format_name].unpack(content, classifier)
        for batch in torch.split(images, [*BATCHES, len(images) - sum(BATCHES)]):
            expected = engine.classify(batch)
            logits = run(engine.preprocess(batch) if preprocessed else batch)
            max_difference = torch.maximum(max_difference, (logits - expected).abs().max())
            max_logit = torch.maximum(max_logit, expected.abs().max())
    return max_difference.item(), max_logit.item()


@contextmanager
def _raise_config_error(problem: str) -> Iterator[None]:
    """Turn any error of the block into a ConfigError: a custom network can raise anything."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise ConfigError(f"{problem}: {reason}.") from error


@contextmanager
def _prepare_torch_export() -> Iterator[None]:
    """Set cuDNN up for torch.export, and print its messages only if the block succeeds.

    torch.export reads cuDNN's precision by its old name. That fails after `setup_device` has set
    the precision by its new name. If the export fails, torch.export prints the graph so far, which
    would hide the error.
    """
    logger, cudnn = logging.getLogger("torch.fx.experimental.symbolic_shapes"), torch.backends.cudnn
    was_disabled = logger.disabled
    precision = cudnn.conv.fp32_precision  # type: ignore[attr-defined]  # no stub
    logger.disabled, cudnn.allow_tf32 = True, False
    try:
        with redirect_stderr(io.StringIO()) as stderr:
            yield
        sys.stderr.write(stderr.getvalue())
    finally:
        logger.disabled = was_disabled
        cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]  # no stub


def _capture(classifier: Classifier, images: torch.Tensor) -> torch.export.ExportedProgram:
    """Return the operations of the classifier, for batches of any size."""
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(classifier, (images,), dynamic_shapes=shapes)
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # it names paths of this machine
    return program


def _pack_onnx(classifier: Classifier, images: torch.Tensor, metadata: Mapping[str, str]) -> bytes:
    program = torch.onnx.export(
        _capture(classifier, images),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: "batch"}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def _unpack_onnx(content: bytes, _: Classifier) -> Run:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, but no warnings about the machine's devices
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _pack_torch_export(
    classifier: Classifier, images: torch.Tensor, metadata: Mapping[str, str]
) -> bytes:
    packed = io.BytesIO()
    files = {"metadata.json": json.dumps(metadata)}
    torch.export.save(_capture(classifier, images), packed, extra_files=files)
    return packed.getvalue()


def _unpack_torch_export(content: bytes, _: Classifier) -> Run:
    return torch.export.load(io.BytesIO(content)).module()


def _pack_safetensors(
    classifier: Classifier, _: torch.Tensor, metadata: Mapping[str, str]
) -> bytes:
    from safetensors.torch import save

    # Copies, as the format does not support shared weights.
    weights = {
        name: weight.clone(memory_format=torch.contiguous_format)
        for name, weight in classifier.network.state_dict().items()
    }
    return save(weights, dict(metadata))


def _unpack_safetensors(content: bytes, classifier: Classifier) -> Run:
    from safetensors.torch import load

    for weight in classifier.network.state_dict().values():
        weight.zero_()  # a weight that the file lacks must not go unnoticed
    classifier.network.load_state_dict(load(content))
    return classifier


@dataclass(frozen=True)
class Format:
    """A file format: its suffix, the runtime of its files, and the packages that it needs.

    `pack` returns the content of a file. `unpack` returns a function that runs the content. It may
    load the weights into the given classifier, which has the same network.
    """

    suffix: str
    runtime: str
    packages: tuple[str, ...]
    pack: Callable[[Classifier, torch.Tensor, Mapping[str, str]], bytes]
    unpack: Callable[[bytes, Classifier], Run]


ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMATS = {
    "onnx": Format(".onnx", "ONNX Runtime", ONNX, _pack_onnx, _unpack_onnx),
    "torch_export": Format(".pt2", "torch.export", (), _pack_torch_export, _unpack_torch_export),
    "safetensors": Format(
        ".safetensors", "safetensors", ("safetensors",), _pack_safetensors, _unpack_safetensors
    ),
}
