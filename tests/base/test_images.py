"""Images as PNG: what is written is what Pillow reads."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from t2i.base.images import decode_png, encode_png

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))


@given(arrays(np.uint8, SIZES))
def test_pillow_reads_what_is_written(pixels: np.ndarray) -> None:
    png = encode_png(pixels)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        image.verify()  # checks every chunk's sum
    assert np.array_equal(decode_png(png), pixels)


def test_any_layout_in_memory_is_written() -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (3, 8, 6), dtype=np.uint8).transpose(1, 2, 0)[:, ::-1]
    assert np.array_equal(decode_png(encode_png(pixels)), pixels)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (2, 4, 4, 3)])
def test_anything_but_rgb_is_refused(shape) -> None:
    with pytest.raises(ValueError, match="expected"):
        encode_png(np.zeros(shape, dtype=np.uint8))
    with pytest.raises(ValueError, match="float"):
        encode_png(np.zeros((4, 4, 3)))
