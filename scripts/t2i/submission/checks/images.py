"""Rules on the ten images that a submission shows of each scenario.

The submission checker looks at the names of the images alone, and not at all in round v6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from t2i.base.check import CHECKER, OURS, RULES, Finding, Rule, listed
from t2i.base.files import sha256_bytes
from t2i.prompts.captions import shown_line
from t2i.submission.checks.findings import read_text

LARGEST_SIDE = 4096
CAPTIONS = "captions.txt"
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Shown:
    """The folder of images, and what it must show: sample indices, their captions by sample index,
    the side in pixels (None: any single size) and sha256 of the raw pixels by index, if known."""

    folder: Path
    ids: Sequence[int]
    captions: Sequence[str] | None
    side: int | None
    digests: Mapping[str, str] | None

    @cached_property
    def images(self) -> dict[int, np.ndarray]:
        """The images that are there and can be read, (height, width, 3) uint8 by index."""
        read = ((index, self._read(index)) for index in self.ids)
        return {index: image for index, image in read if isinstance(image, np.ndarray)}

    @cached_property
    def broken(self) -> list[str]:
        """Why the other images cannot be read."""
        read = ((index, self._read(index)) for index in self.ids)
        return [f"{index}.png: {problem}" for index, problem in read if isinstance(problem, str)]

    def _read(self, index: int) -> np.ndarray | str:
        path = self.folder / f"{index}.png"
        try:
            with Image.open(path) as image:
                if image.format != "PNG" or image.mode != "RGB":
                    return f"{image.format} of mode {image.mode}; expected PNG of mode RGB"
                if max(image.size) > LARGEST_SIDE:
                    return f"{image.width}x{image.height} pixels; too large to be looked at"
                return np.asarray(image)
        except FileNotFoundError:
            return "missing"
        except Exception as error:  # Pillow raises many kinds for a damaged file
            return f"cannot be read ({type(error).__name__}: {error})"


def _ids(shown: Shown) -> Finding:
    names = sorted(path.name for path in shown.folder.iterdir() if path.name != CAPTIONS)
    wanted = {f"{index}.png" for index in shown.ids}
    problems = [f"{name}: missing" for name in sorted(wanted - set(names))]
    problems += [f"{name}: not asked for" for name in names if name not in wanted]
    return listed(problems, ", ".join(map(str, shown.ids)))


def _readable(shown: Shown) -> Finding:
    return listed(shown.broken, f"{len(shown.images)} images")


def _ends(shown: Shown) -> Finding:
    problems = []
    for index in shown.images:
        content = (shown.folder / f"{index}.png").read_bytes()
        rest = len(content) - _length(content)
        if rest:
            problems.append(f"{index}.png: {rest} bytes behind the image's end")
    return _of_images(shown, problems, "none has more than its image")


def _length(content: bytes) -> int:
    """Bytes up to the end of a PNG's last chunk."""
    place = len(PNG)
    while place + 8 <= len(content):
        size, kind = (
            int.from_bytes(content[place : place + 4], "big"),
            content[place + 4 : place + 8],
        )
        place += 12 + size
        if kind == b"IEND":
            return place
    raise ValueError("a PNG without an end")


def _size(shown: Shown) -> Finding:
    sizes = {index: image.shape[:2] for index, image in shown.images.items()}
    if not sizes:
        return Finding("no image can be read", False)
    side = shown.side
    wanted = (side, side) if side else next(iter(sizes.values()))
    text = f"{wanted[1]}x{wanted[0]}"
    problems = (
        f"{index}.png: {width}x{height} pixels; expected {text}"
        for index, (height, width) in sizes.items()
        if (height, width) != wanted
    )
    return listed(problems, text)


def _constant(shown: Shown) -> Finding:
    problems = (
        f"{index}.png: every pixel is {tuple(image[0, 0].tolist())}"
        for index, image in shown.images.items()
        if (image == image[0, 0]).all()
    )
    return _of_images(shown, problems, "none")


def _distinct(shown: Shown) -> Finding:
    first: dict[bytes, int] = {}
    problems = [
        f"{index}.png is the image of sample {first[image.tobytes()]} too"
        for index, image in shown.images.items()
        if first.setdefault(image.tobytes(), index) != index
    ]
    return _of_images(shown, problems, "all differ")


def _pixels(shown: Shown) -> Finding:
    if shown.digests is None:
        return Finding("no digests of the accuracy log's images were given", None)
    problems = []
    for index, image in shown.images.items():
        wanted, actual = shown.digests.get(str(index)), sha256_bytes(image.tobytes())
        if actual != wanted:
            problems.append(f"{index}.png: sha256 {actual}; the accuracy log's image has {wanted}")
    return _of_images(shown, problems, f"{len(shown.images)} images")


def _of_images(shown: Shown, problems: Iterable[str], otherwise: str) -> Finding:
    """As `listed`, but nothing passes where there is no image."""
    return listed(problems if shown.images else ["no image can be read"], otherwise)


def _captions(shown: Shown) -> Finding:
    if shown.captions is None:
        return Finding("the captions of the data set are not available", None)
    lines = read_text(shown.folder / CAPTIONS).removesuffix("\n").split("\n")
    wanted = [shown_line(index, shown.captions[index]).rstrip("\n") for index in shown.ids]
    problems = [f"missing: {line!r}" for line in wanted if line not in lines]
    problems += [f"not asked for: {line!r}" for line in lines if line not in wanted]
    problems += [f"twice: {line!r}" for line in wanted if lines.count(line) > 1]
    return listed(problems, f"{len(lines)} captions")


IMAGE_RULES = (
    Rule("images.ids", "the images are those of the round, as PNG", CHECKER, _ids),
    Rule("images.readable", "every image is a PNG of three channels that decodes", OURS, _readable),
    Rule("images.ends", "no image file holds more than its image", OURS, _ends),
    Rule("images.size", "every image has the benchmark's size", RULES, _size),
    Rule("images.constant", "no image is a single colour", OURS, _constant),
    Rule("images.distinct", "no image is there twice", OURS, _distinct),
    Rule("images.pixels", "every image is the accuracy log's, pixel by pixel", OURS, _pixels),
    Rule("images.captions", "captions.txt has each image's own caption", RULES, _captions),
)
