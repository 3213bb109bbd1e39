"""What a rule on a submission finds, and how it becomes a check."""

from __future__ import annotations

import math
import re
from pathlib import Path

from t2i.base import files

# A round's digits may be read in full; thousands of digits are not a number of ours.
NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?", re.ASCII)


def number(text: str) -> float:
    """A finite decimal number. Raises ValueError with the text."""
    if not NUMBER.fullmatch(text.strip()) or not math.isfinite(float(text)):
        raise ValueError(f"{text[:40]!r} is not a finite number")
    return float(text)


def read_text(path: Path, limit: int = 1 << 20) -> str:
    """A small text file. Raises ValueError for one of more than `limit` bytes, or not UTF-8."""
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path}: {size} bytes; expected at most {limit}")
    return files.read_text(path)
