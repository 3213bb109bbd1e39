"""The picture set on a device: drawn like PIL's, moved within bounds, with its captions' tokens."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from micro_model import SHIPPED, TOKENIZERS
from t2i.micro.data import (
    Objects,
    caption_tokens,
    draw,
    jittered,
    objects_of,
    random_objects,
    shown_captions,
    training_captions,
    training_scenes,
    validation_scenes,
)
from t2i.micro.grids import to_pixels
from t2i.micro.judge import shares_right
from t2i.micro.pictures import (
    BACKGROUNDS,
    COLOURS,
    COUNT,
    PHRASES,
    PLACES,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    captions,
    coco_annotations,
    paint,
    scenes,
)
from t2i.micro.unet import write_model_frame
from t2i.mlperf import NEGATIVE_PROMPT

MANY = 4000  # draws, so that their extremes come close to the bounds


def every_kind() -> list[Scene]:
    """Every shape, size and place together, colours and backgrounds in turn."""
    kinds = [(shape, size, place) for shape in SHAPES for size in SIZES for place in PLACES]
    colours, backgrounds = list(COLOURS), list(BACKGROUNDS)
    return [
        Scene(shape, colours[n % 8], size, place, backgrounds[n % 4])
        for n, (shape, size, place) in enumerate(kinds)
    ]


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Scene], np.ndarray]:
    shown = every_kind()
    return shown, to_pixels(draw(objects_of(shown, "cpu"))).numpy()


def test_drawn_scenes_are_those_that_pil_paints(drawn) -> None:
    shown, images = drawn
    painted = np.stack([np.asarray(paint(picture)) for picture in shown]).astype(np.int16)
    difference = np.abs(painted - images)
    assert difference.mean(axis=(1, 2, 3)).max() < 0.45, "grey levels"
    assert (difference > 0).any(axis=3).mean(axis=(1, 2)).max() < 0.025, "along the outline alone"
    for shape in SHAPES:  # PIL's polygons reach a quarter of its oversampled pixels too far
        rows = [n for n, picture in enumerate(shown) if picture.shape == shape]
        theirs, ours = (
            np.abs(values[rows] - values[rows][:, :1, :1]).sum()
            for values in (painted, images.astype(np.int16))
        )
        assert 1 < theirs / ours < 1.03, shape


def test_the_judge_finds_everything_in_drawn_scenes(drawn) -> None:
    shown, images = drawn
    assert set(shares_right(images, shown).values()) == {1.0}


def test_edges_are_a_pixel_wide_at_any_side() -> None:
    shown, side = every_kind()[::9], 3 * SIDE
    images = to_pixels(draw(objects_of(shown, "cpu"), side)).numpy()
    painted = np.stack([np.asarray(paint(picture, side)) for picture in shown])
    assert np.abs(painted.astype(np.int16) - images).mean(axis=(1, 2, 3)).max() < 0.15


def values(objects: Objects) -> dict[str, Tensor]:
    return {field.name: getattr(objects, field.name) for field in fields(objects)}


def repeated(count: int) -> Objects:
    """One large mint scene's object, `count` times, far enough from all bounds."""
    objects = objects_of([Scene("star", "green", "large", "on the left", "mint")], "cpu")
    return objects.rows(torch.zeros(count, dtype=torch.int64))


def test_rows_are_the_chosen_objects() -> None:
    shown = every_kind()
    objects = objects_of(shown, "cpu").rows(torch.tensor([5, 2, 5]))
    expected = objects_of([shown[5], shown[2], shown[5]], "cpu")
    assert len(objects) == 3
    for name, value in values(objects).items():
        assert torch.equal(value, values(expected)[name]), name


@pytest.mark.parametrize(
    ("pixels", "size", "levels"), [(2.0, 0.0, 0.0), (0.0, 0.06, 0.0), (0.0, 0.0, 8.0)]
)
def test_jittered_objects_stay_within_bounds_and_use_them(pixels, size, levels) -> None:
    torch.manual_seed(0)
    before = repeated(MANY)
    after = jittered(before, pixels, size, levels)
    assert torch.equal(after.shape, before.shape)
    moved = {
        "centre": ((after.centre - before.centre) * SIDE, pixels),
        "radius": ((after.radius / before.radius - 1)[:, None], size),
        "colour": ((after.colour - before.colour) * 255, levels),
        "background": ((after.background - before.background) * 255, levels),
    }
    for name, (change, bound) in moved.items():
        assert float(change.abs().max()) <= bound * 1.001 + 1e-5, name
        assert torch.all(change.amax(dim=0) >= 0.98 * bound - 1e-5), name
        assert torch.all(change.amin(dim=0) <= -0.98 * bound + 1e-5), name
        assert torch.all(change.mean(dim=0).abs() <= 0.05 * bound + 1e-5), name
    if levels:
        channels = torch.cat([moved["colour"][0], moved["background"][0]], dim=1)
        alike = torch.corrcoef(channels.T) - torch.eye(6)
        assert float(alike.abs().max()) < 0.1, "every channel by itself"


def test_recoloured_objects_keep_to_what_a_picture_can_show() -> None:
    torch.manual_seed(0)
    objects = objects_of([Scene("circle", "white", "small", "at the top", "lilac")] * 200, "cpu")
    colour = jittered(objects, 0.0, 0.0, 200.0).colour
    assert float(colour.max()) == 1.0
    assert float(colour.min()) >= 0.0


def distance(colours: Tensor, table: dict[str, tuple[int, int, int]]) -> Tensor:
    """Largest difference of a channel, in grey levels, from the nearest colour of a table."""
    palette = torch.tensor(list(table.values()))
    return (colours[:, None] * 255 - palette).abs().amax(dim=2).amin(dim=1)


def test_random_objects_are_of_all_kinds_and_within_the_picture() -> None:
    torch.manual_seed(0)
    objects = random_objects(MANY, "cpu", free=0.0, levels=8.0)
    counts = torch.bincount(objects.shape)
    assert len(counts) == len(SHAPES)
    assert int(counts.min()) > 0.8 * MANY / len(SHAPES)
    for found, least, most in ((objects.centre, 0.2, 0.8), (objects.radius[:, None], 0.09, 0.25)):
        assert torch.all((found >= least - 1e-6) & (found <= most + 1e-6))
        assert torch.all(found.amin(dim=0) < least + 0.02)
        assert torch.all(found.amax(dim=0) > most - 0.02)
    assert torch.corrcoef(objects.centre.T)[0, 1].abs() < 0.1
    for found, table in ((objects.colour, COLOURS), (objects.background, BACKGROUNDS)):
        away = distance(found, table)
        assert 7.5 < float(away.max()) <= 8.001
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        nearest = (found[:, None] * 255 - torch.tensor(list(table.values()))).norm(dim=2)
        assert len(torch.bincount(nearest.argmin(dim=1)).nonzero()) == len(table)


def test_a_share_of_the_random_colours_is_free() -> None:
    torch.manual_seed(0)
    objects = random_objects(MANY, "cpu", free=0.3, levels=2.0)
    colour = distance(objects.colour, COLOURS) > 2.001
    background = distance(objects.background, BACKGROUNDS) > 2.001
    for away in (colour, background):
        assert 0.27 < float(away.float().mean()) < 0.33
    both = float((colour & background).float().mean())
    assert 0.07 < both < 0.11, "one does not depend on the other"
    free = objects.colour[colour]
    assert torch.all((free.mean(dim=0) - 0.5).abs() < 0.05)
    assert float(free.min()) < 0.01
    assert float(free.max()) > 0.99


def test_no_validation_scene_is_trained_with() -> None:
    training, validation = training_scenes(), validation_scenes()
    assert len(validation) == COUNT
    assert not set(training) & set(validation)
    assert {*training, *validation} == set(scenes())
    texts = training_captions(validation)
    assert not set(training_captions(training)) & set(texts)
    embedded = {row["caption"].strip() for row in coco_annotations(COUNT)["annotations"]}
    assert embedded <= set(texts)


def test_captions_are_in_the_order_of_their_scenes() -> None:
    shown = every_kind()[:19]
    one_each = shown_captions(shown)
    assert len(one_each) == 19
    for n, (picture, text) in enumerate(zip(shown, one_each, strict=True)):
        assert text == captions(picture)[n % len(PHRASES)]
    every = training_captions(shown)
    for n, picture in enumerate(shown):
        assert every[len(PHRASES) * n : len(PHRASES) * (n + 1)] == captions(picture)


def test_token_ids_are_those_of_transformers(tmp_path: Path) -> None:
    write_model_frame(tmp_path, SHIPPED)
    shown = every_kind()[::9]
    found = caption_tokens(shown, tmp_path, "cpu")
    both = ((found.first, found.without_first), (found.second, found.without_second))
    for name, (ids, without) in zip(TOKENIZERS, both, strict=True):
        tokenizer = CLIPTokenizer.from_pretrained(tmp_path / name)

        def encoded(text: str, tokenizer: CLIPTokenizer = tokenizer) -> list[int]:
            return tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids

        assert ids.shape == (len(shown), len(PHRASES), 77)
        for picture, rows in zip(shown, ids.tolist(), strict=True):
            assert rows == [encoded(text) for text in captions(picture)]
        assert without.tolist() == [encoded(NEGATIVE_PROMPT), encoded("")]
    assert not torch.equal(found.first, found.second), "the tokenizers pad differently"
