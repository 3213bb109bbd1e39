"""Features of FID's reference images: computed part by part, gathered in the order of the list."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from t2i.base.arrays import read_arrays, write_arrays
from t2i.base.images import MAX_PIXELS
from t2i.fetch.image_sets import Listed
from t2i.metrics.features import check_coverage

WIDE_MODES = ("I", "F")  # Pillow's, of 16 and 32 bits and of floating point
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class Part:
    """Features of some images of a list.

    index (n,) int64, rows of the list; inception (n, 2048) float32; sha256 (n,) of the images'
    files.
    """

    index: np.ndarray
    inception: np.ndarray
    sha256: np.ndarray


def decode_image(name: str, data: bytes) -> np.ndarray:
    """Pixels (height, width, 3) uint8 of an image's file, in RGB by Pillow's conversion.

    Raises ValueError, which names the image, for a broken one, for more than `MAX_PIXELS` pixels,
    and for more than 8 bits a value, which Pillow would cut off: the image would be white or black.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}")
            if image.mode.startswith(WIDE_MODES):
                raise ValueError(
                    f"mode {image.mode} has more than 8 bits a value; convert it to 8-bit RGB"
                )
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises almost anything on damaged files
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{name}: not an image that can be scored ({reason})") from error


def decoded(files: Iterable[tuple[str, bytes]], ahead: int, threads: int) -> Iterator[np.ndarray]:
    """Pixels of images by name and content, in order, decoded by `threads` threads.

    At most `ahead` images wait in memory while the caller works on one.
    """
    waiting: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for name, data in files:
            if len(waiting) == ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(decode_image, name, data))
        while waiting:
            yield waiting.popleft().result()


def write_part(path: Path, part: Part) -> None:
    """Publish features of a part as an npz without pickles."""
    write_arrays(path, vars(part))


def read_part(path: Path) -> Part:
    """Read features of a part; raises ValueError, which names the file, when it is damaged."""
    part = Part(**read_arrays(path, [field.name for field in fields(Part)]))
    if not part.index.shape == part.sha256.shape == part.inception.shape[:1]:
        raise ValueError(f"{path}: arrays of unequal lengths; delete it and run again")
    return part


def gather(parts: Iterable[Part], listed: Sequence[Listed]) -> np.ndarray:
    """Features (n, 2048) float64 of all listed images in the list's order, for any cut.

    Raises ValueError that names images which are missing, duplicate, not those of the list,
    or have features that are not finite.
    """
    parts = list(parts)
    index = np.concatenate([part.index for part in parts])
    check_coverage(index, len(listed))
    rows = np.empty((len(listed), parts[0].inception.shape[1]))
    for part in parts:
        rows[part.index] = part.inception
        pairs = zip(part.index.tolist(), part.sha256.tolist(), strict=True)
        stale = [listed[row].name for row, digest in pairs if listed[row].sha256 != digest]
        if stale:
            raise ValueError(
                f"features of {', '.join(stale[:10])} do not match the images of the list; "
                "delete the feature files of the set and run again"
            )
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        names = ", ".join(listed[row].name for row in bad[:10])
        raise ValueError(f"features of {names} are not finite")
    return rows
