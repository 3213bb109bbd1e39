"""Scales of the features that enter fp8 products: found once by calibration, the same for all.

A *place* is where features become fp8, named by the checkpoint's names. Its scale is the largest
magnitude that was seen there, over all calibration captions and steps, divided by e4m3's largest
number: nothing that was seen is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2i.base.files import read_json, write_json
from t2i.engine.manifest import EngineError

FORMAT = torch.float8_e4m3fn
LARGEST = 448.0


def as_fp8(values: Tensor, scale: float) -> Tensor:
    """Values divided by a scale and rounded to e4m3; what is too large becomes the largest."""
    return (values.float() * (1 / scale)).clamp(-LARGEST, LARGEST).to(FORMAT)


def weight_as_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (outputs, ...) in e4m3 and one scale for each output, fp32.

    The largest magnitude of an output's weights becomes e4m3's largest number.
    """
    wide = weight.float()
    scale = wide.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / LARGEST
    return (wide / scale.view(-1, *[1] * (wide.ndim - 1))).to(FORMAT), scale


def write_scales(path: Path, magnitudes: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    """Write the largest magnitude of each place, with what was calibrated.

    Raises EngineError for a place whose features were not finite.
    """
    broken = sorted(name for name, value in magnitudes.items() if not math.isfinite(value))
    if broken:
        raise EngineError(
            f"calibration: features at {broken[0]} and {len(broken) - 1} other places are not "
            "finite; the model cannot be calibrated in this number format"
        )
    scales = {name: max(value, 1e-6) / LARGEST for name, value in sorted(magnitudes.items())}
    write_json(path, {"schema": 1, **facts, "scales": scales})


def read_scales(path: Path) -> dict[str, float]:
    """The scale of each place; raises EngineError for a file without any."""
    content = read_json(path)
    scales: Any = content.get("scales") if isinstance(content, dict) else None
    if not isinstance(scales, dict) or not scales or not all(map(_is_scale, scales.values())):
        raise EngineError(f"{path} has no scales; delete it, it is then calibrated again")
    return dict(scales)


def _is_scale(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf
