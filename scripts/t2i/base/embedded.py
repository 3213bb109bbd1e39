"""Names of the embedded default; kept apart so that naming them needs no torch."""

from __future__ import annotations

DATASET = "pictures"
MODEL = "micro-sdxl"
CLIP = "micro-clip"
STAND_IN = "stand-in"  # what paints where there is no model
TRAINED = "trained on drawn pictures"  # what is said of the weights that are shipped
