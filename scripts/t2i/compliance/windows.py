"""Accuracy windows around a reference's own scores, with the margins of MLPerf's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LABEL = "demo windows of this project, not MLPerf's"
# MLPerf's windows lie this share around the scores of its fp32 reference.
MARGINS = {"fid": 0.02, "clip": 0.002}
# Grey levels (docs/quality.md): fp32 differs by less than 0.001 between a CPU and a GPU, bf16 by
# half a level from it, and the least of the mistakes in config/faults.py by a third of one.
PIXELS = {"fp32": 0.1, "fp16": 1.0, "bf16": 1.0}


def reference_name(index: int) -> str:
    """File name of the reference image of a sample."""
    return f"{index:05d}.png"


def demo_windows(metrics: dict[str, Any], images: Path) -> str:
    """The `windows` of a configuration, as YAML, around a reference's metrics.json.

    `images` is the folder of its reference images.
    """
    lines = ["windows:", f'  label: "{LABEL}"', f"  samples: {metrics['samples']}"]
    for key, margin in MARGINS.items():
        low, high = (metrics[key] * (1 + sign * margin) for sign in (-1, 1))
        lines.append(f"  {key}: [{low:.6f}, {high:.6f}]")
    limits = ", ".join(f"{dtype}: {limit}" for dtype, limit in PIXELS.items())
    lines += [f"  images: {images.as_posix()}", f"  image_difference: {{{limits}}}"]
    return "\n".join(lines) + "\n"
