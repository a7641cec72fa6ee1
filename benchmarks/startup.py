"""Time the start of commands: help, errors, the first training step; and a whole run by its parts.

    python benchmarks/startup.py [--rounds 7] [--against CHECKOUT]

Measured is the wall time of whole processes, with the start of Python, each case in turn. With
--against, another checkout runs in turn with this one. Prints the medians, and the median of the
ratios of the rounds. Fashion-MNIST must be on this machine. The parts of the whole run are those
of its result.json. The rest is the start of Python, the import of cnnbench and the process's end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The command, which ends after the first step. It imports nothing earlier than usual, and works
# with earlier versions, which --against may name.
TO_THE_FIRST_STEP = """
import importlib.abc, importlib.machinery, os, sys

class EndAfterFirstStep(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "cnnbench.training.engine":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            step = module.EagerEngine.train_step
            def stop(*args, **kwargs):
                step(*args, **kwargs)
                os._exit(0)
            module.EagerEngine.train_step = stop
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, EndAfterFirstStep())
try:
    from cnnbench.cli.main import main
except ImportError:
    from cnnbench.cli import main
raise SystemExit(main())
"""

COMMAND = ["-m", "cnnbench"]
CASES = {
    "--help": ([*COMMAND, "--help"], 0),
    "lr=0.1": ([*COMMAND, "lr=0.1"], 2),
    "model=lenett": ([*COMMAND, "model=lenett"], 2),
    "optimizer.lr=-1": ([*COMMAND, "optimizer.lr=-1"], 2),
    "data.resize=3, which needs the network": ([*COMMAND, "data.resize=3"], 2),
    "LeNet to the end of its first step": (["-c", TO_THE_FIRST_STEP, "device=cpu"], 0),
    "import torch, to compare": (["-c", "import torch"], 0),
    "the demo": ([*COMMAND, "experiment=demo"], 0),
}


def time_process(checkout: Path, arguments: list[str], expected: int) -> dict[str, float]:
    """Return the wall time of one process in a new folder, which must end with `expected`.

    If it leaves a run, return the seconds of its parts as well.
    """
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        wall_s = time.perf_counter() - began
        results = [json.loads(path.read_text()) for path in Path(folder).rglob("result.json")]
    if done.returncode != expected:
        ended = f"{' '.join(arguments)} ended with {done.returncode}, not {expected}"
        sys.exit(f"{ended}:\n{done.stderr}")
    parts = dict(results[0]["wall_s"]) if results else {}
    rest = {"rest": wall_s - parts.pop("total")} if results else {}
    return {"": wall_s, **parts, **rest}


def print_medians(name: str, rounds: list[list[float]]) -> None:
    """Print the median of each checkout, and that of the ratios of two."""
    columns = [f"{statistics.median(column):.2f} s" for column in zip(*rounds, strict=True)]
    if len(columns) == 2:
        columns.append(f"{statistics.median(after / before for before, after in rounds):.2f}")
    print(f"| {name} | {' | '.join(columns)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parsed = parser.parse_args()
    checkouts = [ROOT] if parsed.against is None else [parsed.against.resolve(), ROOT]
    for case in CASES.values():
        time_process(ROOT, *case)  # reads the files into memory and compiles them
    print("| case | before | after | ratio |" if parsed.against else "| case | wall |")
    for name, case in CASES.items():
        rounds = [
            [time_process(checkout, *case) for checkout in checkouts] for _ in range(parsed.rounds)
        ]
        for part in rounds[0][-1]:
            walls = [[process[part] for process in processes] for processes in rounds]
            print_medians(f"{name}: {part}" if part else name, walls)
    print(f"Medians of {parsed.rounds} rounds, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
