"""`cnnbench doctor`: what a run finds on this machine, what is unusual, and what to do."""

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
    """Print what is found; return 0, or 2 if a run could not work in this place."""
    diagnosis = Diagnosis()
    for name, probe in PROBES.items():
        try:
            diagnosis.facts[name] = probe(diagnosis)
            if name == "pytorch":
                diagnosis.facts[name] |= _describe_cpu_defaults()
        except Exception as error:  # any probe may fail on an odd machine
            reason = " ".join(str(error).split())
            diagnosis.facts[name] = {"error": f"{type(error).__name__}: {reason}"}
            if not diagnosis.obstacles:
                diagnosis.note(f"The probe {name} failed: {reason}.", "Please report it.")
    if options.as_json:
        print(json.dumps({**asdict(diagnosis), "works": not diagnosis.obstacles}, indent=2))
    else:
        print(_as_text(diagnosis))
    return 2 if diagnosis.obstacles else 0


def _describe_cpu_defaults() -> Facts:
    """Return what `auto` means on the CPU."""
    from cnnbench.training.device import describe_threads, resolve_device

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
        precision = f"fp32, for large networks {precision}"
    return {"cpu_threads": describe_threads("auto"), "cpu_precision": precision}


def _as_text(diagnosis: Diagnosis) -> str:
    labels = [_label(section, key) for section, facts in diagnosis.facts.items() for key in facts]
    width = 2 + max(map(len, labels))
    lines: list[str] = []
    for section, facts in diagnosis.facts.items():
        if facts:
            lines.append("PyTorch" if section == "pytorch" else section.capitalize())
        for key, value in facts.items():
            lines += _wrap(f"  {_label(section, key).ljust(width)}", _in_words(key, value))
    lines += ["", "Unusual" if diagnosis.unusual else "Nothing is unusual."]
    for note in diagnosis.unusual:
        lines += _wrap("- ", note)
    lines += ["", "A run cannot work here"] if diagnosis.obstacles else []
    for note in diagnosis.obstacles:
        lines += _wrap("- ", note)
    return printable("\n".join(lines))


def _wrap(label: str, text: str) -> list[str]:
    """Return lines of at most WIDTH characters, the first with the label; a path is not broken."""
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


def _in_words(key: str, value: Any) -> str:
    """Return a value for people; the end of its key says the unit."""
    if value in (None, [], ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_bytes"):
        return format_bytes(value)
    if key.endswith("_s"):
        return f"{value * 1000:.1f} ms"
    return ", ".join(value) if isinstance(value, list) else str(value)
