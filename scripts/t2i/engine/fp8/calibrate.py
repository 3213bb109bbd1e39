"""Calibration: the largest magnitudes of what becomes fp8, over captions and steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from t2i.engine.fp8.parts import observing_parts
from t2i.engine.loop import Loop
from t2i.engine.networks import Networks
from t2i.engine.operations import Operations
from t2i.prompts.tokens import PromptTokens


def calibrate(
    networks: Networks,
    manifest: dict[str, Any],
    tokens: PromptTokens,
    latent: np.ndarray,
    batch_size: int,
    ops: Operations,
) -> dict[str, float]:
    """The largest magnitude of each place, over all captions and all steps without fp8 or cache.

    `manifest` is that of the engine to be, with its `fp8` settings; the networks cannot be used
    afterwards.
    """
    parts, observer = observing_parts(manifest["fp8"], ops)
    loop = Loop(networks, {**manifest, "cache": None}, ops, parts)
    number = len(tokens.first)
    for first in range(0, number, batch_size):
        rows = [min(row, number - 1) for row in range(first, first + batch_size)]
        loop.final_latents(tokens, rows, latent)
    return observer.magnitudes
