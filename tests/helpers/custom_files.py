"""The solutions of the exercises as files of a user, perhaps with a mistake."""

from pathlib import Path

from helpers.paths import EXAMPLES

from cnnbench.reference.custom.module import CustomModule, load_custom

EXERCISES = EXAMPLES / "exercises"
SOLUTIONS = EXERCISES / "solutions"
CHAPTERS = sorted(path.stem for path in SOLUTIONS.glob("*.py"))
SOLVED = {
    "Conv2d": "convolution",
    "Linear": "linear",
    **dict.fromkeys(("MaxPool2d", "AvgPool2d"), "pooling"),
    **dict.fromkeys(("ReLU", "Sigmoid", "Tanh"), "activations"),
    "BatchNorm2d": "batch_norm",
    "Dropout": "dropout",
    "CrossEntropyLoss": "losses",
    **dict.fromkeys(("SGD", "Momentum", "AdaGrad", "Adam"), "optimizers"),
}


def load_solution(kind: str) -> CustomModule:
    """Return the solution of the exercise that has a class."""
    return load_custom(str(SOLUTIONS / f"{SOLVED[kind]}.py"))


def write_changed(folder: Path, kind: str, old: str, new: str) -> CustomModule:
    """Write the solution with a change of the text of one class into a folder; return it."""
    text = (SOLUTIONS / f"{SOLVED[kind]}.py").read_text()
    start = text.index(f"class {kind}:")
    before, found, after = text[start:].partition(old)
    assert found, f"{old!r} is not in the solution of {kind}"
    path = folder / "changed.py"
    path.write_text(text[:start] + before + new + after)
    return load_custom(str(path))


def write_all_solutions(path: Path) -> None:
    """Write a file with the classes of all solutions."""
    path.write_text("\n".join((SOLUTIONS / f"{name}.py").read_text() for name in CHAPTERS))
