"""The page of a training: what it says of a real one and of a miniature."""

import pytest

from t2i.training.bands import BANDS, band
from t2i.training.page import change_in_words
from t2i.training.settings import MICRO_UNET, SD2_UNET
from training_page import page, scores


def test_a_real_training_stands_beside_the_references_runs() -> None:
    html = page(SD2_UNET, scores((250.0, 0.05), (150.0, 0.10)))
    assert "reference" in html
    assert "216.6" in html and "187.3" in html
    assert "miniature" not in html
    assert "train longer." in html
    assert "&lt;b&gt;a caption" in html
    assert "1.50" in html  # minutes


def test_a_miniature_is_labelled_and_has_no_band() -> None:
    html = page(MICRO_UNET, scores((250.0, 0.05), (150.0, 0.10)))
    assert "A miniature with the structure of Stable Diffusion v2" in html
    assert "216.6" not in html


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([(30.0, 0.1), (20.0, 0.2)], "FID fell and CLIP rose"),
        ([(30.0, 0.1), (40.0, 0.2)], "only CLIP became better"),
        ([(30.0, 0.1), (20.0, 0.05)], "only FID became better"),
        ([(30.0, 0.1), (40.0, 0.05)], "neither FID nor CLIP became better"),
        ([(30.0, 0.1)], "not known"),
    ],
)
def test_the_page_says_whether_pictures_became_better(pairs, words: str) -> None:
    assert words in change_in_words(scores(*pairs))


def test_the_references_bands_are_whole() -> None:
    for batch, rows in BANDS.items():
        assert list(rows) == [512_000 * n for n in range(1, 11)]
        for samples, row in rows.items():
            assert row.fid[0] < row.fid[1]
            assert row.clip[0] < row.clip[1] < 1
            assert band(batch, samples) == row
            # A run can have passed only where the band reaches both targets.
            assert (row.passed > 0) <= (row.fid[0] <= 90 and row.clip[1] >= 0.15)
    assert band(64, 512_000) is None
