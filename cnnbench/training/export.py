"""A trained network as a file for other programs: ONNX, torch.export and safetensors.

What is in the file computes in fp32 what `EagerEngine.classify` does; `differences` measures how nearly.
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

BATCHES = (1, 2, 7)  # what an exported batch that was not dynamic would fail on


class Preprocessing(nn.Module):
    """uint8 images (N, C, side, side) to the network's input, as `Preprocess` makes it but for rounding.

    Resizing with antialiasing is linear: a product with a matrix from each side. Every runtime can multiply, and it is
    more exact than ONNX's own Resize (benchmarks/NOTES.md).
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
    """Images (N, C, H, W), as the network takes them or before `preprocessing`, to logits (N, K)."""

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
    form: str, classifier: Classifier, images: torch.Tensor, metadata: Mapping[str, str]
) -> bytes:
    """The content of a file in one of `FORMATS`. `images` is a batch of at least two, of the shape and type it takes.

    Raises:
        ConfigError: the network has what the format has not.
    """
    refusal = f"--format {form}: PyTorch cannot export this network"
    with _explained(refusal), _as_torch_export_wants_it():
        return FORMATS[form].pack(classifier, images, metadata)


def differences(
    form: str, content: bytes, engine: EagerEngine, images: torch.Tensor, preprocessed: bool
) -> tuple[float, float]:
    """Run such a file on the CPU, by the program it is for: the largest difference of a logit from the engine's.

    Also gives the largest logit; NaN if any is. The uint8 `images` (N, C, H, W), N above 10, go in
    as batches of several sizes; if the file has no preprocessing, `preprocessed`.

    Raises:
        ConfigError: it does not run.
    """
    largest = difference = torch.zeros(())
    with _explained(f"--format {form}: what was exported does not run"):
        classifier = Classifier(copy.deepcopy(engine.eval_model), engine.config.tta)
        run = FORMATS[form].unpack(content, classifier)
        for batch in torch.split(images, [*BATCHES, len(images) - sum(BATCHES)]):
            expected = engine.classify(batch)
            given = run(engine.preprocess(batch) if preprocessed else batch)
            difference = torch.maximum(difference, (given - expected).abs().max())
            largest = torch.maximum(largest, expected.abs().max())
    return difference.item(), largest.item()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Make what other programs raise of a network, which may be anyone's, an error for people."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise ConfigError(f"{what}: {reason}.") from error


@contextmanager
def _as_torch_export_wants_it() -> Iterator[None]:
    """Let PyTorch capture a network and, if it cannot, not print the graph so far beside the error that says why.

    It reads a setting of cuDNN by its old name, which fails once `device.select` has set it by the new one.
    """
    logger, cudnn = logging.getLogger("torch.fx.experimental.symbolic_shapes"), torch.backends.cudnn
    disabled, convolution = logger.disabled, cudnn.conv.fp32_precision  # type: ignore[attr-defined]  # as in device.py
    logger.disabled, cudnn.allow_tf32 = True, False
    try:
        with redirect_stderr(io.StringIO()) as told:
            yield
        sys.stderr.write(told.getvalue())
    finally:
        logger.disabled, cudnn.conv.fp32_precision = disabled, convolution  # type: ignore[attr-defined]  # no stub


def _capture(classifier: Classifier, images: torch.Tensor) -> torch.export.ExportedProgram:
    """The operations, for batches of any size."""
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(classifier, (images,), dynamic_shapes=shapes)
    for part in program.graph_module.modules():
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
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
    options.log_severity_level = 3  # errors; not what it makes of the machine's devices
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

    # copies, as the format has no place for weights that are shared
    weights = {
        name: each.clone(memory_format=torch.contiguous_format)
        for name, each in classifier.network.state_dict().items()
    }
    return save(weights, dict(metadata))


def _unpack_safetensors(content: bytes, classifier: Classifier) -> Run:
    from safetensors.torch import load

    for weight in classifier.network.state_dict().values():
        weight.zero_()  # only the weights of the file count
    classifier.network.load_state_dict(load(content))
    return classifier


@dataclass(frozen=True)
class Format:
    """`runtime` is what runs such a file, `packages` what must be installed for it.

    `unpack` may put the weights of the file into a classifier of the same kind.
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
