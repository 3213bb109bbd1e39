"""A variant: how a model is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Variant:
    """How a model is run. `patch` is `path.py:function` or None; the rest is as in the config.

    `backend` is one of `t2i.base.backends`, `cache` says
    which steps are deep (`t2i.engine.cache`; None: all), `vae` is the decoder's number format
    (None: as diffusers decodes), `unet` names another UNet than the model's, `fp8` says what of the
    UNet is computed in fp8 (None: nothing). With
    `stand_in` (`side` in pixels, `images_per_second`) no model is run (`t2i.engine.stand_in`).
    """

    dtype: str
    batch_size: int
    threads: int
    device: str
    steps: int
    guidance: float
    patch: str | None = None
    stand_in: dict[str, Any] | None = None
    backend: str = "reference"
    cache: dict[str, Any] | None = None
    vae: str | None = None
    unet: str | None = None
    fp8: dict[str, Any] | None = None
