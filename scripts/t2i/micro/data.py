"""The picture set on a device: drawn from signed distances, with its captions' token ids."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import math
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2i.micro.pictures import (
    BACKGROUNDS,
    COLOURS,
    COUNT,
    INNER_STAR,
    PLACES,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    captions,
    scenes,
)
from t2i.mlperf import NEGATIVE_PROMPT
from t2i.prompts.tokenizer import tokenize


@dataclass(frozen=True)
class Objects:
    """What n pictures show, as numbers on one device.

    shape (n,) int64, an index into SHAPES; centre (n, 2), x and y, and radius (n,), both by the
    picture's side; colour and background (n, 3) in [0, 1].
    """

    shape: Tensor
    centre: Tensor
    radius: Tensor
    colour: Tensor
    background: Tensor

    def rows(self, chosen: Tensor) -> Objects:
        """The objects of some rows."""
        return Objects(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.shape)


def training_scenes() -> list[Scene]:
    """The scenes that are not in the validation part."""
    return list(scenes()[COUNT:])


def validation_scenes() -> list[Scene]:
    """The scenes of the embedded data set."""
    return list(scenes()[:COUNT])


def training_captions(shown: list[Scene]) -> list[str]:
    """All captions of the scenes, those of one scene side by side."""
    return [text for picture in shown for text in captions(picture)]


def shown_captions(shown: list[Scene]) -> list[str]:
    """One caption for each scene, the phrasings in turn."""
    texts = [captions(picture) for picture in shown]
    return [row[number % len(row)] for number, row in enumerate(texts)]


def objects_of(shown: list[Scene], device: str) -> Objects:
    """Scenes as numbers."""

    def table(rows: list[tuple[float, ...]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.float32, device=device)

    names = list(SHAPES)
    return Objects(
        torch.tensor([names.index(picture.shape) for picture in shown], device=device),
        table([PLACES[picture.place] for picture in shown]),
        table([(SIZES[picture.size],) for picture in shown])[:, 0],
        table([COLOURS[picture.colour] for picture in shown]) / 255,
        table([BACKGROUNDS[picture.background] for picture in shown]) / 255,
    )


@cache
def constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """A table on a device, copied there once: a recorded step cannot copy from the CPU."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def _uniform(like: Tensor) -> Tensor:
    """Uniform numbers in [-1, 1)."""
    return 2 * torch.rand_like(like) - 1


def jittered(objects: Objects, pixels: float, size: float, levels: float) -> Objects:
    """Objects moved by up to `pixels`, scaled by up to `size`, recoloured by up to `levels`."""
    return Objects(
        objects.shape,
        objects.centre + _uniform(objects.centre) * pixels / SIDE,
        objects.radius * (1 + _uniform(objects.radius) * size),
        (objects.colour + _uniform(objects.colour) * levels / 255).clamp(0, 1),
        (objects.background + _uniform(objects.background) * levels / 255).clamp(0, 1),
    )


def random_objects(count: int, device: str, free: float, levels: float) -> Objects:
    """Objects of any place and size in the picture set's colours, recoloured by up to `levels`.

    A share `free` of the colours, of objects and backgrounds alike, is any at all.
    """

    def colours(table: dict[str, tuple[int, int, int]]) -> Tensor:
        palette = constant(tuple(table.values()), torch.device(device))
        known = palette[torch.randint(len(palette), (count,), device=device)]
        known = ((known + _uniform(known) * levels) / 255).clamp(0, 1)
        chosen = torch.rand(count, 1, device=device) < free
        return torch.where(chosen, torch.rand(count, 3, device=device), known)

    return Objects(
        torch.randint(len(SHAPES), (count,), device=device),
        0.2 + 0.6 * torch.rand(count, 2, device=device),
        0.09 + 0.16 * torch.rand(count, device=device),
        colours(COLOURS),
        colours(BACKGROUNDS),
    )


def draw(objects: Objects, side: int = SIDE) -> Tensor:
    """Pictures (n, 3, side, side) float32 in [0, 1], edges smoothed over one pixel.

    The share of a pixel that an object covers is half a pixel less the signed distance of the
    pixel's middle from the outline, within [0, 1].
    """
    grid = (torch.arange(side, device=objects.radius.device) + 0.5) / side
    x = grid[None, None, :] - objects.centre[:, 0, None, None]
    y = grid[None, :, None] - objects.centre[:, 1, None, None]
    factors = constant(tuple(SHAPES.values()), x.device)[objects.shape]
    radius = (objects.radius * factors)[:, None, None]
    distance = torch.zeros(len(objects), side, side, device=x.device)
    # Every distance for every picture: how many rows there are of a shape, the CPU does not know.
    for number, function in enumerate((_circle, _square, _triangle, _star)):
        chosen = (objects.shape == number)[:, None, None]
        distance = torch.where(chosen, function(x, y, radius), distance)
    covered = (0.5 - distance * side).clamp(0, 1)[:, None]
    colour, background = objects.colour[:, :, None, None], objects.background[:, :, None, None]
    return background + covered * (colour - background)


def _circle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    return torch.hypot(x, y) - radius


def _square(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - radius / math.sqrt(2)


def _triangle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    slanted = math.cos(math.pi / 6) * x.abs() - 0.5 * y
    return torch.maximum(slanted, y) - radius / 2


def _star(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    # Folded into the sector between a tip, straight up, and the corner to its right.
    angle = torch.atan2(x, -y)
    sector = 2 * math.pi / 5
    folded = (torch.remainder(angle + sector / 2, sector) - sector / 2).abs()
    across, up = torch.hypot(x, y) * folded.sin(), torch.hypot(x, y) * folded.cos()
    edge = (INNER_STAR * math.sin(sector / 2), INNER_STAR * math.cos(sector / 2) - 1)
    length = math.hypot(*edge)
    return (across * -edge[1] + (up - radius) * edge[0]) / length


@dataclass(frozen=True)
class CaptionTokens:
    """Token ids on a device: of captions (scenes, phrasings, 77), and of the two empty prompts.

    `without` (2, 77) holds the benchmark's negative prompt and the empty one. `first` and
    `second` are those of SDXL's two tokenizers.
    """

    first: Tensor
    second: Tensor
    without_first: Tensor
    without_second: Tensor


def caption_tokens(shown: list[Scene], model: Path, device: str) -> CaptionTokens:
    """Token ids of all captions of the scenes, by the tokenizers in a model's folder."""
    texts = training_captions(shown)
    folders = model / "tokenizer", model / "tokenizer_2"
    ids = tokenize([*texts, NEGATIVE_PROMPT, ""], *folders)
    first, second = (torch.from_numpy(values).to(device) for values in (ids.first, ids.second))
    length = first.shape[1]
    return CaptionTokens(
        first[:-2].view(len(shown), -1, length),
        second[:-2].view(len(shown), -1, length),
        first[-2:],
        second[-2:],
    )
