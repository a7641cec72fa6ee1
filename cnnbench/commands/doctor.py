"""`cnnbench doctor`: describe this machine, report what is unusual, and advise."""

import argparse
import json
import math
import re
import textwrap
from dataclasses import asdict
from typing import Any

from cnnbench.analysis.format import format_bytes, printable
from cnnbench.analysis.machine import PROBES, Diagnosis, Facts
from cnnbench.config import DeviceConfig

__all__ = ["run"]

WIDTH = 80


def run(options: argparse.Namespace) -> int:
    """Print the diagnosis; return 2 if a run cannot work on this machine, otherwise 0."""
    diagnosis = Diagnosis()
    for name, probe in PROBES.items():
        try:
            diagnosis.facts[name] = probe(diagnosis)
            if name == "pytorch":
                diagnosis.facts[name] |= _describe_cpu_defaults()
        except Exception as error:  # a probe may fail in any way on an odd machine
            reason = " ".join(str(error).split())
            diagnosis.facts[name] = {"error": f"{type(error).__name__}: {reason}"}
            if not diagnosis.obstacles:
                diagnosis.note(f"The probe {name} failed: {reason}.", "Please report it.")
    if options.as_json:
        print(json.dumps({**asdict(diagnosis), "works": not diagnosis.obstacles}, indent=2))
    else:
        print(_format_diagnosis(diagnosis))
    return 2 if diagnosis.obstacles else 0


def _describe_cpu_defaults() -> Facts:
    """Return the threads and the precision that `auto` selects on the CPU."""
    from cnnbench.training.device import MIN_BF16_INTENSITY, describe_threads, resolve_device

    config = DeviceConfig(
        name="cpu",
        precision="auto",
        channels_last="auto",
        threads="auto",
        compile=False,
        cuda_graphs="auto",
        deterministic=False,
        sync_batchnorm=False,
    )
    precision = resolve_device(config, lambda: math.inf).precision
    if precision != "fp32":
        few = f"fewer than {MIN_BF16_INTENSITY:g} multiply-adds per parameter"
        precision = f"{precision}, or fp32 for networks of {few}"
    return {"cpu_threads": describe_threads("auto"), "cpu_precision": precision}


def _format_diagnosis(diagnosis: Diagnosis) -> str:
    labels = [_label(section, key) for section, facts in diagnosis.facts.items() for key in facts]
    width = 2 + max(map(len, labels))
    lines: list[str] = []
    for section, facts in diagnosis.facts.items():
        if facts:
            lines.append("PyTorch" if section == "pytorch" else section.capitalize())
        for key, value in facts.items():
            lines += _wrap(f"  {_label(section, key).ljust(width)}", _format_value(key, value))
    lines += ["", "Unusual" if diagnosis.unusual else "Nothing is unusual."]
    for note in diagnosis.unusual:
        lines += _wrap("- ", note)
    lines += ["", "A run cannot work here"] if diagnosis.obstacles else []
    for note in diagnosis.obstacles:
        lines += _wrap("- ", note)
    return printable("\n".join(lines))


def _wrap(label: str, text: str) -> list[str]:
    """Return lines of at most WIDTH characters, the first with the label. Paths are not broken."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _label(section: str, key: str) -> str:
    if section in ("data", "environment"):
        return key
    return re.sub("_(bytes|s)$", "", key).replace("_", " ")


def _format_value(key: str, value: Any) -> str:
    """Format a value. The suffix of its key names its unit."""
    if value in (None, [], ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_bytes"):
        return format_bytes(value)
    if key.endswith("_s"):
        return f"{value * 1000:.1f} ms"
    return ", ".join(value) if isinstance(value, list) else str(value)
