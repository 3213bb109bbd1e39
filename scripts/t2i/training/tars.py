"""Training data: tars of samples, as img2dataset and MLPerf write them, read at random by an index.

A sample is some files of one stem: a caption (`.txt`), facts (`.json`), and either an image or the
moments of its latent (`.npy`, float32, mean and logarithm of the variance, 8 channels). A tar is
looked through once; from then on a sample is read at its place and verified by its digest.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from t2i.base.arrays import read_arrays, write_arrays
from t2i.generate.shard import write_files

CHANNELS = 8  # of moments
DIGEST_BYTES = 16
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MOMENTS_SUFFIX = ".npy"
NO_SHAPE: tuple[int, ...] = (0, 0, 0)  # of images


class DamagedTar(ValueError):
    """A tar of training data does not hold what it should."""


@dataclass(frozen=True)
class Index:
    """Where the n samples of a tar lie, in the order of their stems.

    `data` and `caption` (n, 2) int64 are places and lengths in bytes, `digest` (n, 16) uint8 is
    blake2b of both, `shape` (3,) int64 that of moments (zeros for images), `size` (1,) int64 the
    tar's.
    """

    data: np.ndarray
    caption: np.ndarray
    digest: np.ndarray
    shape: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.data)


def write_tar(path: Path, samples: Iterable[tuple[str, dict[str, bytes]]]) -> None:
    """Publish a tar of samples (stem, bytes by suffix), without times or owners."""
    files = (
        (stem + suffix, content) for stem, given in samples for suffix, content in given.items()
    )
    write_files(path, files)


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of a tar in the order of their stems: stem, and bytes by suffix.

    Raises DamagedTar, which names the tar, where it is none.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for stem, members in _stems(path, archive).items():
                yield stem, {suffix: _content(archive, found) for suffix, found in members.items()}
    except (OSError, tarfile.TarError) as error:
        raise DamagedTar(f"{path}: {error}; fetch or make it again") from error


def npy(array: np.ndarray) -> bytes:
    """An array as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def index_tar(path: Path) -> Index:
    """Look through a whole tar. Raises DamagedTar, which names tar and sample, for anything odd.

    Every sample needs a caption and either an image or moments; all of a tar the same.
    """
    data, caption, digest = [], [], []
    shapes: set[tuple[int, ...]] = set()
    try:
        with tarfile.open(path, "r:") as archive:
            for stem, members in _stems(path, archive).items():
                suffix = _data_suffix(path, stem, members)
                whole, text = members[suffix], members[".txt"]
                content, words = _content(archive, whole), _content(archive, text)
                skipped, shape = 0, NO_SHAPE
                if suffix == MOMENTS_SUFFIX:
                    skipped, shape = _moments_header(path, stem, content)
                shapes.add(shape)
                data.append((whole.offset_data + skipped, whole.size - skipped))
                caption.append((text.offset_data, text.size))
                digest.append(_digest(content[skipped:], words))
                words.decode("utf-8")
    except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
        raise DamagedTar(f"{path}: {error}; fetch or make it again") from error
    if not data:
        raise DamagedTar(f"{path}: no samples in it")
    if len(shapes) != 1:
        raise DamagedTar(f"{path}: samples of different kinds or shapes {sorted(shapes)}")
    return Index(
        np.asarray(data, dtype=np.int64),
        np.asarray(caption, dtype=np.int64),
        np.frombuffer(b"".join(digest), dtype=np.uint8).reshape(-1, DIGEST_BYTES),
        np.asarray(shapes.pop(), dtype=np.int64),
        np.asarray([path.stat().st_size], dtype=np.int64),
    )


def write_index(path: Path, index: Index) -> None:
    """Publish an index."""
    write_arrays(path, vars(index))


def read_index(path: Path) -> Index:
    """Read an index; raises ValueError, which names the file, when it is damaged."""
    return Index(**read_arrays(path, [field.name for field in fields(Index)]))


class Samples:
    """Samples of several tars, one after the other: bytes and caption of a row, verified.

    Files are opened by the process that reads them. Raises DamagedTar when a tar is not the one
    that was looked through, or a sample has changed.
    """

    def __init__(self, tars: list[Path], indices: list[Index]) -> None:
        self.tars, self.indices = tars, indices
        self.ends = np.cumsum([len(index) for index in indices])
        self._files: dict[tuple[int, int], int] = {}
        for tar, index in zip(tars, indices, strict=True):
            if tar.stat().st_size != index.size[0]:
                raise DamagedTar(
                    f"{tar}: {tar.stat().st_size} bytes, its index is of {index.size[0]}"
                )

    def __len__(self) -> int:
        return int(self.ends[-1])

    def place(self, row: int) -> tuple[int, int]:
        """Number of the tar, and row in it."""
        tar = int(np.searchsorted(self.ends, row, side="right"))
        return tar, row - (int(self.ends[tar - 1]) if tar else 0)

    def __getitem__(self, row: int) -> tuple[bytes, str]:
        tar, own = self.place(row)
        index = self.indices[tar]
        data = self._read(tar, *index.data[own])
        caption = self._read(tar, *index.caption[own])
        if _digest(data, caption) != index.digest[own].tobytes():
            raise DamagedTar(
                f"{self.tars[tar]}: sample {own} has changed since it was looked through"
            )
        return data, caption.decode("utf-8")

    def moments(self, row: int) -> tuple[np.ndarray, str]:
        """Moments (8, h, w) float32 of a row's latent, and its caption."""
        data, caption = self[row]
        shape = self.indices[self.place(row)[0]].shape
        return np.frombuffer(data, dtype=np.float32).reshape(shape), caption

    def _read(self, tar: int, offset: int, length: int) -> bytes:
        key = os.getpid(), tar
        if key not in self._files:
            self._files[key] = os.open(self.tars[tar], os.O_RDONLY)
        return os.pread(self._files[key], int(length), int(offset))


def _digest(data: bytes, caption: bytes) -> bytes:
    return hashlib.blake2b(data + caption, digest_size=DIGEST_BYTES).digest()


def _stems(path: Path, archive: tarfile.TarFile) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Members of each sample by suffix, in the order of stems; folders are passed over."""
    stems: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in archive:
        if member.isdir():
            continue
        stem, dot, suffix = member.name.removeprefix("./").rpartition(".")
        if not member.isreg() or not dot:
            raise DamagedTar(f"{path}: {member.name!r} is not a plain file of a sample")
        if f".{suffix}" in stems.setdefault(stem, {}):
            raise DamagedTar(f"{path}: {member.name!r} is in it twice")
        stems[stem][f".{suffix}"] = member
    return dict(sorted(stems.items()))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    handle = archive.extractfile(member)
    return handle.read() if handle else b""


def _data_suffix(path: Path, stem: str, members: dict[str, tarfile.TarInfo]) -> str:
    found = [suffix for suffix in (*IMAGE_SUFFIXES, MOMENTS_SUFFIX) if suffix in members]
    if len(found) != 1 or ".txt" not in members:
        raise DamagedTar(
            f"{path}: sample {stem} has {', '.join(sorted(members))}; expected .txt and one of "
            f"{', '.join((*IMAGE_SUFFIXES, MOMENTS_SUFFIX))}"
        )
    return found[0]


def _moments_header(path: Path, stem: str, content: bytes) -> tuple[int, tuple[int, ...]]:
    """Length of the header of a .npy, and the shape without the batch's dimension."""
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of .npy")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except ValueError as error:
        raise DamagedTar(f"{path}: sample {stem}: {error}") from error
    own = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if dtype != np.float32 or fortran or len(own) != 3 or own[0] != CHANNELS:
        raise DamagedTar(
            f"{path}: sample {stem}: {dtype} {shape}; expected float32 (1, {CHANNELS}, h, w)"
        )
    if len(content) - stream.tell() != int(np.prod(own)) * dtype.itemsize:
        raise DamagedTar(f"{path}: sample {stem}: {len(content)} bytes do not fit {shape}")
    return stream.tell(), own
