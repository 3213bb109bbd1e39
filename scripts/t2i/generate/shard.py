"""A shard of images: a tar of PNGs, and a manifest that is written last and names every sample."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2i.base.files import (
    publish,
    read_json,
    sha256_file,
    sha256_json,
    write_json,
)
from t2i.base.images import decode_png, encode_png, pixel_digest
from t2i.base.parallel import mapped

SCHEMA = 1


class DamagedShard(ValueError):
    """A shard's files do not hold what its manifest says."""


@dataclass(frozen=True)
class Sample:
    """One image of a shard. `sha256` is of its raw uint8 pixels (height, width, 3).

    `finite` is False when the decoder gave NaN or infinite values before rounding.
    """

    index: int
    caption_id: int
    file: str
    sha256: str
    finite: bool


def _add_file(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file to a tar; members carry no times or owners."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def add_sample(
    archive: tarfile.TarFile, index: int, caption_id: int, image: np.ndarray, finite: bool
) -> Sample:
    """Append one sample's image to a shard's tar and return its entry for the manifest."""
    return add_samples(archive, [(index, caption_id, image, finite)])[0]


def add_samples(
    archive: tarfile.TarFile, rows: Iterable[tuple[int, int, np.ndarray, bool]], threads: int = 1
) -> list[Sample]:
    """The same for several samples, each as `add_sample` takes it; `threads` compress and hash."""

    def encoded(row: tuple[int, int, np.ndarray, bool]) -> tuple[Sample, bytes]:
        index, caption_id, image, finite = row
        name = f"{index:05d}.png"
        return Sample(index, caption_id, name, pixel_digest(image), finite), encode_png(image)

    samples = []
    for sample, png in mapped(encoded, rows, threads):
        _add_file(archive, sample.file, png)
        samples.append(sample)
    return samples


def archive_facts(path: Path) -> dict[str, Any]:
    """Size in bytes and sha256 of a shard's tar, for its manifest."""
    return {"size": path.stat().st_size, "sha256": sha256_file(path)}


def write_manifest(
    path: Path, archive: dict[str, Any], samples: list[Sample], facts: dict[str, Any]
) -> None:
    """Publish a shard's manifest, after its tar: schema, `facts`, samples, and digests.

    `archive` is what `archive_facts` says of the tar. The manifest's own `digest` is over
    everything else in it.
    """
    manifest = {
        "schema": SCHEMA,
        **facts,
        "samples": [asdict(sample) for sample in samples],
        "archive": archive,
    }
    write_json(path, {**manifest, "digest": sha256_json(manifest)})


def read_manifest(path: Path) -> dict[str, Any]:
    """A whole manifest, its samples as `Sample`; raises DamagedShard for anything else."""
    try:
        manifest: dict[str, Any] = read_json(path)
        schema, digest = manifest["schema"], manifest.pop("digest")
        if schema != SCHEMA:
            raise DamagedShard(f"{path}: schema {schema}, this version reads {SCHEMA}")
        if digest != sha256_json(manifest):
            raise DamagedShard(f"{path}: the manifest has changed since it was written")
        manifest["samples"] = [Sample(**sample) for sample in manifest["samples"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DamagedShard):
            raise
        raise DamagedShard(f"{path}: not a whole manifest ({error})") from error
    return manifest


def read_shard(
    tar: Path, manifest: Path, wanted: Collection[int] | None = None, threads: int = 1
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Each sample of a shard with its pixels (height, width, 3) uint8, in index order, verified.

    With `wanted`, only samples of these indices are read. `threads` decompress and verify. Raises
    DamagedShard, which names file and sample, when anything differs from the manifest.
    """
    samples: list[Sample] = read_manifest(manifest)["samples"]
    if wanted is not None:
        samples = [sample for sample in samples if sample.index in wanted]
    try:
        with tarfile.open(tar, "r:") as archive:
            files = ((sample, _member(archive, tar, sample.file)) for sample in samples)
            yield from mapped(lambda entry: _verified(tar, *entry), files, threads)
    except (OSError, KeyError, ValueError, tarfile.TarError, SyntaxError) as error:
        if isinstance(error, DamagedShard):
            raise
        raise DamagedShard(
            f"{tar}: damaged ({error}); delete it and run again to regenerate this shard"
        ) from error


def _member(archive: tarfile.TarFile, tar: Path, name: str) -> bytes:
    member = archive.getmember(name)
    handle = archive.extractfile(member)
    if handle is None or not member.isreg() or member.issparse():
        raise DamagedShard(f"{tar}: {name} is not a plain file")
    return handle.read()


def _verified(tar: Path, sample: Sample, png: bytes) -> tuple[Sample, np.ndarray]:
    pixels = decode_png(png)
    if pixel_digest(pixels) != sample.sha256:
        raise DamagedShard(f"{tar}: the pixels of sample {sample.index} have changed")
    return sample, pixels


def find_damage(tar: Path, manifest: Path, verified: dict[str, Any]) -> str | None:
    """What is wrong with a shard; None if it is sound or missing.

    `verified` remembers the size, inode and times of tars that were hashed before: the change time
    cannot be set by hand, so an unchanged record needs no second hashing. It is updated in place.
    """
    if not (tar.exists() and manifest.exists()):
        return None
    status = tar.stat()
    times = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
    try:
        facts = read_manifest(manifest)["archive"]
        signature = [*times, facts["sha256"]]
        if verified.get(str(tar)) == signature:
            return None
        actual = archive_facts(tar)
        if facts == actual:
            verified[str(tar)] = signature
            return None
        return f"{tar}: sha256 {actual['sha256']}, its manifest says {facts['sha256']}"
    except DamagedShard as error:
        return str(error)


def set_aside_damaged(tar: Path, manifest: Path, verified: dict[str, Any]) -> str | None:
    """Rename a damaged shard, so that it counts as missing; returns what was wrong."""
    problem = find_damage(tar, manifest, verified)
    if problem is not None:
        for path in (tar, manifest):
            path.replace(path.with_name(f"{path.name}.damaged"))
    return problem


def write_files(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Publish a tar of files (name, content) without times or owners."""
    with publish(path) as part, tarfile.open(part, "w") as archive:
        for name, content in files:
            _add_file(archive, name, content)


def write_images(path: Path, images: Iterator[tuple[str, Image.Image]]) -> None:
    """Publish a tar of PNGs without times or owners."""
    write_files(path, ((name, encode_png(np.asarray(image))) for name, image in images))
