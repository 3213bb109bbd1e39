"""Images as PNG: what is written is what Pillow reads."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from t2i.base import images
from t2i.base.images import decode_png, encode_png

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))


@given(arrays(np.uint8, SIZES))
def test_pillow_reads_what_is_written(pixels: np.ndarray) -> None:
    png = encode_png(pixels)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        image.verify()  # checks every chunk's sum
    assert np.array_equal(decode_png(png), pixels)


@pytest.mark.parametrize("height", [1, 31, 32, 33, 64, 100])
def test_own_files_are_read_without_pillow(height: int, monkeypatch) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, 5, 3), dtype=np.uint8)
    png = encode_png(pixels)
    monkeypatch.setattr(images.Image, "open", None)
    assert np.array_equal(decode_png(png), pixels)


@given(st.data())
def test_a_changed_byte_is_never_read_as_other_pixels(data: st.DataObject) -> None:
    pixels = np.arange(4 * 40 * 3, dtype=np.uint8).reshape(40, 4, 3)
    png = bytearray(encode_png(pixels))
    place = data.draw(st.integers(0, len(png) - 1))
    png[place] ^= data.draw(st.integers(1, 255))
    assert images._decode_own(bytes(png)) is None
    assert images._decode_own(bytes(png[:place])) is None


def test_pngs_of_others_are_read_by_pillow() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    assert images._decode_own(buffer.getvalue()) is None
    assert np.array_equal(decode_png(buffer.getvalue()), pixels)


def test_a_small_file_does_not_become_a_large_one() -> None:
    """The data go on after the last row: as much as was announced is inflated and no more."""
    more = encode_png(np.zeros((500, 4, 3), dtype=np.uint8))
    announced = images._header(4, 3)
    start = len(images.PNG_SIGNATURE)
    png = more[:start] + announced + more[start + len(announced) :]
    assert images._decode_own(png) is None


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
