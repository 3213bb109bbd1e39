"""Sets of images as FID's reference: a folder, a .zip or a .tar, listed by name and digest.

Nothing is unpacked: images are read where they lie, and what is read is what was listed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from t2i.base import embedded
from t2i.base.files import read_json, sha256_bytes, sha256_json, write_json

SCHEMA = 1
ARCHIVES = (".zip", ".tar")
# Those that pytorch-fid takes from a folder.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_BYTES = 1 << 28  # of an image's file: it is held in memory
PART_PATTERN = r"[0-9]{3}-of-[0-9]{3}"
DAMAGES = (
    OSError,
    EOFError,
    RuntimeError,  # an encrypted member, or a compression that Python cannot undo
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


T = TypeVar("T")


class ImageSetError(ValueError):
    """A set of images cannot be used, or has changed since it was listed."""


@dataclass(frozen=True)
class ImageSet:
    """Where a set lies (a folder, .zip or .tar) and the label that its results are filed under."""

    label: str
    path: Path


@dataclass(frozen=True)
class Listed:
    """One image of a set: its name in the folder or archive, its file's bytes and their sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Member:
    """A file of a folder or archive. `plain` is False for links, devices and sparse files."""

    name: str
    size: int
    plain: bool
    open: Callable[[], IO[bytes]]


def known_sets(dataset: str, inputs: Iterable[str]) -> list[str]:
    """Names of the sets that need no path: data sets with pictures, and archives of the table.

    Pictures are drawn for the embedded data set and can be fetched for the run's own.
    """
    datasets = dict.fromkeys((embedded.DATASET, dataset))
    return [*datasets, *(name for name in inputs if _is_archive(Path(name)))]


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() in ARCHIVES


def find_set(name: str, known: Collection[str]) -> ImageSet | None:
    """The set that the configuration calls `name`, None where there is none.

    A name of `known` (see `known_sets`) comes before a path of a folder, .zip or .tar.
    """
    if name in known:
        inside = name if "/" in name else f"{name}/images.tar"
        return ImageSet(name.replace("/", "-"), Path("resources", inside))
    path = Path(os.path.normpath(name))
    try:
        there = name and (path.is_dir() or (_is_archive(path) and path.is_file()))
    except OSError:  # the name is too long, or a folder on the way is closed
        there = False
    if not there:
        return None
    words = re.sub(r"[^A-Za-z0-9._]+", "-", path.name).strip("-.") or "images"
    return ImageSet(f"{words}-{sha256_bytes(os.fsencode(path))[:8]}", path)


def folder_state(path: Path) -> str | None:
    """A digest of the names, sizes and times in a folder, None for an archive.

    An archive has its own time; a folder's own does not show changes deep inside.
    """
    if not path.is_dir():
        return None
    entries = []
    for folder, _, names in os.walk(path):
        for file in (Path(folder, name) for name in names):
            status = file.lstat()
            name = os.fsencode(file.relative_to(path)).hex()
            entries.append([name, status.st_size, status.st_mtime_ns])
    return sha256_json(sorted(entries))


def _folder_members(root: Path) -> Iterator[Member]:
    def give_up(error: OSError) -> None:
        raise error

    def opened(path: Path) -> IO[bytes]:
        return path.open("rb")

    for folder, folders, names in os.walk(root, onerror=give_up):
        for name in folders:
            if Path(folder, name).is_symlink():
                raise ImageSetError(f"{root}: {name} is a link to a folder; links are not followed")
        for path in (Path(folder, name) for name in names):
            status = path.lstat()
            name = path.relative_to(root).as_posix()
            plain = stat.S_ISREG(status.st_mode)
            yield Member(name, status.st_size, plain, partial(opened, path))


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for entry in archive.infolist():
        if not entry.is_dir():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG)  # 0 comes from systems that have only plain files
            yield Member(entry.filename, entry.file_size, plain, partial(archive.open, entry))


def _tar_members(archive: tarfile.TarFile, file: IO[bytes]) -> Iterator[Member]:
    def opened(entry: tarfile.TarInfo) -> IO[bytes]:
        handle = archive.extractfile(entry)
        assert handle is not None  # it is a plain file
        return handle

    for entry in archive:
        if not entry.isdir():
            plain = entry.isreg() and not entry.issparse()
            yield Member(entry.name, entry.size, plain, partial(opened, entry))
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        # Python takes a damaged header, or a file that is cut off between members, for the end.
        raise tarfile.ReadError(f"damaged or cut off at byte {archive.offset}")


def _chosen(path: Path, members: Iterator[Member]) -> tuple[dict[str, Member], int]:
    """The images among the members by name, in the set's order, and the number of other files."""
    images: dict[str, Member] = {}
    others = 0
    for member in members:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise ImageSetError(f"{path}: {member.name!r} leads out of the set; refused")
        if name.suffix.lower() not in SUFFIXES or any(part[0] == "." for part in name.parts):
            others += 1
            continue
        if not member.plain:
            raise ImageSetError(f"{path}: {member.name!r} is a link or no plain file; refused")
        if str(name) in images:
            raise ImageSetError(f"{path}: {str(name)!r} is there twice; refused")
        if member.size > MAX_BYTES:
            raise ImageSetError(
                f"{path}: {member.name!r} has {member.size} bytes, more than {MAX_BYTES}; refused"
            )
        try:
            str(name).encode()
        except UnicodeEncodeError:
            raise ImageSetError(f"{path}: the name {member.name!r} is not valid UTF-8") from None
        images[str(name)] = member
    return images, others


@contextmanager
def _open_set(path: Path) -> Iterator[tuple[dict[str, Member], int]]:
    """The images of a set by name and the number of its other files.

    Any error while they are read becomes an ImageSetError that names the set.
    """
    try:
        with ExitStack() as stack:
            if path.is_dir():
                members = _folder_members(path)
            elif path.suffix.lower() == ".zip":
                members = _zip_members(stack.enter_context(zipfile.ZipFile(path)))
            else:
                file = stack.enter_context(path.open("rb"))
                archive = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))
                members = _tar_members(archive, file)
            yield _chosen(path, members)
    except ImageSetError:
        raise
    except DAMAGES as error:
        raise ImageSetError(f"{path}: cannot be read as a set of images ({error})") from error


def _used(path: Path, member: Member, use: Callable[[IO[bytes]], T]) -> T:
    """What `use` makes of a member's content; damage becomes an ImageSetError that names it."""
    try:
        with member.open() as handle:
            return use(handle)
    except DAMAGES as error:
        raise ImageSetError(f"{path}: {member.name} cannot be read ({error})") from error


def _digest(handle: IO[bytes]) -> str:
    return hashlib.file_digest(handle, "sha256").hexdigest()  # type: ignore[arg-type]


def list_images(path: Path) -> tuple[list[Listed], int]:
    """All images of a folder (searched to any depth), .zip or .tar by name, and the other files.

    Images are known by their names' endings (`SUFFIXES`); hidden files count as others. Files are
    hashed while they are read. Raises ImageSetError, which names set and file, for links and what
    is not a plain file, names that lead out of the set, duplicate names, files above
    `MAX_BYTES`, damage, and fewer than two images.
    """
    listed = []
    with _open_set(path) as (members, others):
        for name, member in members.items():
            listed.append(Listed(name, member.size, _used(path, member, _digest)))
    if len(listed) < 2:
        raise ImageSetError(
            f"{path}: {len(listed)} images among {len(listed) + others} files, and statistics need "
            f"two; images end in {', '.join(SUFFIXES)}"
        )
    return sorted(listed, key=attrgetter("name")), others


def read_files(path: Path, listed: Sequence[Listed]) -> Iterator[tuple[str, bytes]]:
    """Name and content of listed images, one at a time, each with the digest that was listed.

    Raises ImageSetError, which names set and image, for one that is gone or has changed.
    """
    with _open_set(path) as (members, _):
        for image in listed:
            if image.name not in members:
                raise ImageSetError(
                    f"{path}: {image.name} is gone; run again to list the set again"
                )
            data = _used(path, members[image.name], lambda handle: handle.read(MAX_BYTES))
            if sha256_bytes(data) != image.sha256:
                raise ImageSetError(
                    f"{path}: {image.name} has changed since the set was listed: expected sha256 "
                    f"{image.sha256}; put it back, or list the set again with --forcerun "
                    "list_reference_images"
                )
            yield image.name, data


def write_list(path: Path, listed: list[Listed], others: int) -> None:
    """Publish the list of a set's images, and how many other files it has."""
    images = [asdict(image) for image in listed]
    write_json(path, {"schema": SCHEMA, "others": others, "images": images})


def read_list(path: Path) -> list[Listed]:
    """The images that a list names; raises ValueError, which names the file, for anything else."""
    content = read_json(path)
    try:
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}, this version reads {SCHEMA}")
        return [Listed(**image) for image in content["images"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not a list of images ({error}); delete it and run again"
        ) from error


def part_names(count: int) -> list[str]:
    """Names of the parts into which a list of images is cut, such as 000-of-008.

    They do not say which rows: how many images a set has is not known before it is listed.
    """
    return [f"{part:03d}-of-{count:03d}" for part in range(count)]


def part_rows(part: str, images: int) -> range:
    """Rows of a list of `images` images that belong to a part.

    Raises ValueError for another name, and where there are fewer images than parts.
    """
    if not re.fullmatch(PART_PATTERN, part):
        raise ValueError(f"part {part!r}: expected a name such as 000-of-008")
    number, count = (int(word) for word in part.split("-of-"))
    if number >= count:
        raise ValueError(f"part {part!r}: the first of {count} parts is 000")
    if count > images:
        raise ValueError(
            f"{images} images cannot be cut into {count} parts; set scores.reference.shards to "
            f"{images} or less"
        )
    return range(number * images // count, (number + 1) * images // count)
