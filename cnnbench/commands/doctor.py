"""`cnnbench doctor`: this machine as a run finds it, what is unusual about it, and what to do about that."""

import argparse
import json
import re
import textwrap
from dataclasses import asdict
from typing import Any

from cnnbench.commands.doctor_probes import PROBES, Diagnosis
from cnnbench.reports.text import in_bytes

__all__ = ["run"]

WIDTH = 80


def run(arguments: list[str]) -> int:
    """Print what is found; return 0, or 2 if a run could not work on this machine and in this folder."""
    parser = argparse.ArgumentParser(
        prog="cnnbench doctor",
        description="Look at this machine as a run finds it: chip, memory, GPU, folders, data sets, packages. "
        "Say what is unusual and what to do. Exit code 2: a run could not work here.",
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="one object, for programs")
    as_json = parser.parse_args(arguments).as_json
    diagnosis = Diagnosis()
    for name, probe in PROBES.items():
        try:
            diagnosis.facts[name] = probe(diagnosis)
        except Exception as error:  # on an odd machine any probe may fail, and the others still tell
            reason = " ".join(str(error).split())
            diagnosis.facts[name] = {"error": f"{type(error).__name__}: {reason}"}
    if as_json:
        print(json.dumps({**asdict(diagnosis), "works": not diagnosis.obstacles}, indent=2))
    else:
        print(_as_text(diagnosis))
    return 2 if diagnosis.obstacles else 0


def _as_text(diagnosis: Diagnosis) -> str:
    lines: list[str] = []
    rows = {section: [_row(section, *fact) for fact in facts.items()] for section, facts in diagnosis.facts.items()}
    width = 2 + max(len(label) for section in rows.values() for label, _ in section)
    for section, facts in rows.items():
        lines += [{"pytorch": "PyTorch"}.get(section, section.capitalize())] if facts else []
        for label, value in facts:
            lines += _wrapped(f"  {label.ljust(width)}{value}", 2 + width)
    for title, notes in (("Unusual", diagnosis.unusual), ("A run cannot work here", diagnosis.obstacles)):
        lines += ["", title] if notes else []
        for note in notes:
            lines += _wrapped(f"- {note}", 2)
    return "\n".join(lines if diagnosis.unusual or diagnosis.obstacles else [*lines, "", "Nothing is unusual."])


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _row(section: str, key: str, value: Any) -> tuple[str, str]:
    """Return the label and the value in words; the end of a key says the unit."""
    label = key if section in ("data", "environment") else re.sub("_(bytes|s)$", "", key).replace("_", " ")
    if value in (None, [], ""):
        return label, "none"
    if isinstance(value, bool):
        return label, "yes" if value else "no"
    if key.endswith("_bytes"):
        return label, in_bytes(value)
    if key.endswith("_s"):
        return label, f"{value * 1000:.1f} ms"
    return label, ", ".join(value) if isinstance(value, list) else f"{value}"
