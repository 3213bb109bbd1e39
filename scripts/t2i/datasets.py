"""Sizes of the known data sets; kept apart so that checking a configuration needs no imaging."""

from __future__ import annotations

CAPTIONS = {"pictures": 128, "coco2014": 5000}
