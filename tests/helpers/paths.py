"""Folders of the checkout."""

from pathlib import Path

__all__ = ["CONF", "EXAMPLES", "ROOT", "SAMPLE"]

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
EXAMPLES = ROOT / "examples"
SAMPLE = ROOT / "cnnbench" / "data" / "sample"
