"""Facts of the known data sets; kept apart so that checking a configuration needs no imaging."""

from __future__ import annotations

CAPTIONS = {"pictures": 512, "coco2014": 5000}
NEGATIVE_PROMPT = "normal quality, low quality, worst quality, low res, blurry, nsfw, nude"
