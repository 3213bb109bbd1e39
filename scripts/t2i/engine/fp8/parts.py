"""The parts of a UNet with fp8 products: by own kernels on Hopper, in bf16 on another GPU."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from t2i.engine.blocks import Parts
from t2i.engine.fp8.blocks import Fp8Parts
from t2i.engine.fp8.half import HalfLayers
from t2i.engine.fp8.layers import Layers, Observer
from t2i.engine.fp8.scales import read_scales
from t2i.engine.operations import PLAIN, Operations

LOG = logging.getLogger(__name__)


def is_hopper() -> bool:
    """Whether the GPU has what the own kernels use."""
    return torch.cuda.get_device_capability()[0] == 9


def fp8_parts(
    settings: Mapping[str, Any], scales: Mapping[str, float], device: str, ops: Operations
) -> Parts:
    """The parts that an engine's `fp8` settings ask for; `ops` are those of everything else.

    A CPU computes the layers' definition.
    """
    kind = Layers
    if device == "cuda" and is_hopper():
        from t2i.engine.kernels.hopper.layers import HopperLayers

        kind = HopperLayers
    elif device == "cuda":
        kind = HalfLayers
        LOG.warning(
            "%s is no Hopper GPU: what is fp8 is multiplied in bf16, which is no faster than a "
            "variant without fp8",
            torch.cuda.get_device_name(),
        )
    return Fp8Parts(
        ops,
        kind(scales, ops, settings["attention"]),
        settings["convolutions"],
        settings["keep"],
    )


def engine_parts(
    settings: Mapping[str, Any], scales: Path, device: str, ops: Operations = PLAIN
) -> Parts:
    """The same of an engine whose scales, in a file, were verified before."""
    return fp8_parts(settings, read_scales(scales), device, ops)


def observing_parts(settings: Mapping[str, Any], ops: Operations) -> tuple[Parts, Observer]:
    """The same without fp8, and what remembers the magnitudes."""
    observer = Observer(ops, settings["percentile"])
    return Fp8Parts(ops, observer, settings["convolutions"], settings["keep"]), observer
