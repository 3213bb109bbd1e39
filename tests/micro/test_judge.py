"""The pixel judge finds what is drawn, also through noise and blur, and nothing that is not."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from t2i.micro.judge import ATTRIBUTES, judge, shares_right
from t2i.micro.pictures import BACKGROUNDS, paint, scene

SHOWN = [scene(7 * number) for number in range(300)]
DRAWN = np.stack([np.asarray(paint(picture)) for picture in SHOWN])


def test_everything_drawn_is_found():
    assert set(shares_right(DRAWN, SHOWN).values()) == {1.0}


def test_what_is_not_shown_is_not_found():
    shares = shares_right(DRAWN, SHOWN[1:] + SHOWN[:1])
    assert all(shares[name] < 0.7 for name in ATTRIBUTES)
    assert shares["all"] < 0.05


def test_noise_and_specks_do_not_matter():
    draw = np.random.default_rng(1)
    noisy = DRAWN + draw.normal(0, 10, DRAWN.shape)
    specks = draw.random(DRAWN.shape[:3]) < 0.003
    noisy[specks] = draw.integers(0, 256, (specks.sum(), 3))
    shares = shares_right(np.clip(noisy, 0, 255).astype(np.uint8), SHOWN)
    assert shares.pop("shape") > 0.95
    assert set(shares.values()) == {1.0}


def test_a_little_blur_does_not_matter():
    blur = ImageFilter.GaussianBlur(1)
    blurred = np.stack([np.asarray(Image.fromarray(image).filter(blur)) for image in DRAWN])
    shares = shares_right(blurred, SHOWN)
    assert shares.pop("shape") > 0.9
    assert set(shares.values()) == {1.0}


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_empty_picture_has_a_background_alone(background):
    image = np.broadcast_to(np.uint8(BACKGROUNDS[background]), (128, 128, 3))
    found = vars(judge(image))
    assert found.pop("background") == background
    assert set(found.values()) == {None}
