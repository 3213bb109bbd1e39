"""The pixel judge's opinion of a variant: what its images show, beside what their captions say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from t2i.base.stats import wilson_interval
from t2i.compliance.variant import CAPTIONED
from t2i.micro.judge import ATTRIBUTES, judge
from t2i.micro.pictures import Scene, scene
from t2i.prompts.captions import Caption


def captioned_scene(caption: Caption) -> Scene:
    """The scene that a caption of the project's own pictures describes."""
    return scene(caption.image_id - 1)


def judge_images(
    images: Iterable[tuple[int, np.ndarray]], captions: list[Caption]
) -> dict[str, Any]:
    """Shares of images in which each attribute is as captioned, and every image that is wrong.

    `images` are pairs of sample index and pixels (side, side, 3) uint8. An attribute of the result
    has `share`, `count`, `n` and the 95 % `interval` of the share; `all` asks for colour, size,
    place and background together. Of each sample with anything wrong, the shape too, `wrong` lists
    the index and, by attribute, what was captioned and what was found (None where no object is).
    """
    counts = dict.fromkeys([*ATTRIBUTES, "all"], 0)
    total = 0
    wrong = []
    for index, pixels in images:
        shown, seen = vars(captioned_scene(captions[index])), vars(judge(pixels))
        missed = [name for name in ATTRIBUTES if seen[name] != shown[name]]
        total += 1
        for name in ATTRIBUTES:
            counts[name] += name not in missed
        counts["all"] += not set(CAPTIONED) & {*missed}
        if missed:
            differing = {name: {"captioned": shown[name], "found": seen[name]} for name in missed}
            wrong.append({"index": index, "attributes": differing})
    return {
        "samples": total,
        "attributes": {
            name: {
                "share": count / total,
                "count": count,
                "n": total,
                "interval": list(wilson_interval(count, total)),
            }
            for name, count in counts.items()
        },
        "wrong": wrong,
    }
