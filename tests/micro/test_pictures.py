"""The drawn data set: the same everywhere, in COCO's format, and truly captioned."""

import hashlib
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from t2i.micro import pictures
from t2i.micro.pictures import (
    BACKGROUNDS,
    COLOURS,
    COUNT,
    PLACES,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    coco_annotations,
    compliance_ids,
    paint,
    scene,
)
from t2i.prompts.captions import format_captions, read_captions, sample_captions

INDICES = range(COUNT)
SCENES = "772e7e0920179df55ffa6e1d218dac262b438087496d85f84ef898e9f3f02538"


def centre(picture, side):
    """Row and column of a picture's object."""
    x, y = PLACES[picture.place]
    return round(y * side), round(x * side)


def test_scene_is_a_function_of_its_index():
    forward = [scene(index) for index in INDICES]
    assert [scene(index) for index in reversed(INDICES)] == forward[::-1]
    assert len(set(forward)) == COUNT


def test_pixels_are_a_function_of_the_scene():
    first = paint(scene(5)).tobytes()
    paint(scene(6))
    assert paint(scene(5)).tobytes() == first


def test_scenes_are_the_same_on_every_machine():
    scenes = json.dumps([vars(scene(index)) for index in INDICES]).encode()
    assert hashlib.sha256(scenes).hexdigest() == SCENES


@pytest.mark.parametrize("index", INDICES[:48])
def test_object_has_its_colour_in_its_place_on_its_background(index):
    picture = scene(index)
    pixels = np.asarray(paint(picture)).astype(int)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert tuple(pixels[centre(picture, SIDE)]) == COLOURS[picture.colour]
    for corner in (pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1]):
        assert tuple(corner) == BACKGROUNDS[picture.background]


@pytest.mark.parametrize("place", PLACES)
def test_every_object_lies_inside_its_picture(place):
    pixels = np.asarray(paint(Scene("circle", "red", "large", place, "grey")))
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edge == BACKGROUNDS["grey"]).all()


def covered(shape, size):
    """Share of the picture that an object covers."""
    pixels = np.asarray(paint(Scene(shape, "red", size, "in the middle", "grey")))
    return (pixels != BACKGROUNDS["grey"]).any(axis=-1).mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_large_objects_are_larger(shape):
    assert covered(shape, "large") > 2 * covered(shape, "small")
    ratio = (SIZES["large"] / SIZES["small"]) ** 2
    assert covered(shape, "large") / covered(shape, "small") == pytest.approx(ratio, rel=0.35)


def test_shapes_differ():
    assert len({round(covered(shape, "large"), 3) for shape in SHAPES}) == len(SHAPES)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """The captions as COCO's own reader gives them."""
    path = tmp_path_factory.mktemp("coco") / "annotations.json"
    path.write_text(json.dumps(coco_annotations()))
    return COCO(path)


def test_cocos_reader_finds_two_captions_for_each_picture(coco):
    assert len(coco.getImgIds()) == COUNT
    for index in INDICES:
        (image,) = coco.loadImgs(index + 1)
        assert image["file_name"] == pictures.file_name(index)
        assert (image["height"], image["width"]) == (SIDE, SIDE)
        captions = coco.loadAnns(coco.getAnnIds(imgIds=index + 1))
        assert len({entry["caption"] for entry in captions}) == 2
        for entry in captions:
            assert all(word in entry["caption"] for word in vars(scene(index)).values())


def test_caption_ids_are_distinct_and_not_in_order(coco):
    ids = [entry["id"] for entry in coco_annotations()["annotations"]]
    assert sorted(ids) == list(range(1, 2 * COUNT + 1))
    assert ids != sorted(ids)
    assert coco_annotations() == coco_annotations()


def test_sampled_captions_pair_with_the_drawn_scene(coco, tmp_path):
    chosen = sample_captions(coco.dataset["annotations"], coco.dataset["images"])
    assert len(chosen) == COUNT
    assert len({caption.image_id for caption in chosen}) == COUNT
    (tmp_path / "captions.tsv").write_text(format_captions(chosen))
    for caption in read_captions(tmp_path / "captions.tsv"):
        index = caption.image_id - 1
        assert caption.file_name == pictures.file_name(index)
        shown = scene(index)
        assert all(word in caption.caption for word in vars(shown).values())
        assert not caption.caption.endswith("\n")
        pixels = np.asarray(paint(shown))
        named = [name for name in COLOURS if f" {name} " in caption.caption]
        assert COLOURS[shown.colour] in [COLOURS[name] for name in named]
        assert tuple(pixels[centre(shown, SIDE)]) == COLOURS[shown.colour]


def test_compliance_samples_are_ten_of_the_embedded_default():
    ids = compliance_ids()
    assert len(set(ids)) == len(ids) == 10
    assert all(0 <= index < 64 for index in ids)
    assert ids == compliance_ids()
