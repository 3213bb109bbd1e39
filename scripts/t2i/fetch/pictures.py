"""The pictures that captions belong to, fetched one by one and packed into a tar.

No digest is published for a single picture. What can be checked is: it comes over TLS or from a
mirror, and it is a whole JPEG of the size that the captions name. Its sha256 is recorded.
"""

from __future__ import annotations

import io
import logging
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from t2i.base.addresses import shown
from t2i.base.files import publish, sha256_bytes, write_text
from t2i.fetch.files import is_remote, local_path, mirror_address
from t2i.fetch.http import LOOPBACK, HttpClient, TransferError
from t2i.fetch.transfer import Expected, Limits, transfer
from t2i.job.disk import require_space
from t2i.prompts.captions import Caption

logger = logging.getLogger(__name__)

PUBLISHED = "http://images.cocodataset.org/"
OVER_TLS = "https://s3.amazonaws.com/images.cocodataset.org/"
CONNECTIONS = 32
MAX_BYTES = 64 << 20  # of a picture's file; COCO's have 0.16 MB on average
MAX_FAILURES = 100  # after so many the rest is not asked for
SHOWN = 10  # failures in the message


class PictureError(ValueError):
    """A file is not the picture that the captions name."""


class ImageFetchError(RuntimeError):
    """Pictures could not be fetched; those that could are kept for the next try."""


@dataclass(frozen=True)
class Origin:
    """Where pictures come from: the mirror (a folder or an address prefix) first.

    `prefix` is the folder of the pictures in the mirror. `offline` asks nothing over the network.
    """

    prefix: str
    mirror: str | None = None
    offline: bool = False

    def addresses(self, row: Caption) -> Iterator[str]:
        """Addresses of a picture in the order in which they are asked."""
        if self.mirror:
            yield mirror_address(self.mirror, f"{self.prefix}/{row.file_name}")
        yield address_over_tls(row.coco_url)


def address_over_tls(address: str) -> str:
    """COCO's published address of a picture, at the host that serves the same over TLS."""
    if address.startswith(PUBLISHED):
        return OVER_TLS + address.removeprefix(PUBLISHED)
    return address


def pictures(captions: list[Caption]) -> list[Caption]:
    """One row for each picture, in the order of the captions.

    Raises PictureError for a file name that could leave its folder, and for one that stands for
    two pictures.
    """
    rows: dict[str, Caption] = {}
    for row in captions:
        name = row.file_name
        if not name.isprintable() or name[:1] in ("", ".") or "/" in name or "\\" in name:
            raise PictureError(f"caption {row.id}: {name!r} is not a plain file name")
        first = rows.setdefault(name, row)
        if (first.image_id, first.coco_url) != (row.image_id, row.coco_url):
            raise PictureError(f"captions {first.id} and {row.id}: two pictures called {name!r}")
    return list(rows.values())


def check_picture(path: Path, row: Caption) -> None:
    """Raise PictureError unless a file is a whole JPEG of the size that its caption names."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise PictureError(f"{size} bytes exceed the limit of {MAX_BYTES}")
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            if image.size != (row.width, row.height):
                wanted = f"{row.width}x{row.height}"
                raise PictureError(f"{image.width}x{image.height} pixels, expected {wanted}")
            image.load()
    except PictureError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"not a whole JPEG ({error})") from error


def fetch_pictures(
    rows: list[Caption],
    folder: Path,
    origin: Origin,
    limits: Limits,
    on_picture: Callable[[], None],
) -> None:
    """Bring every picture of `rows` into `folder` under its name, many at a time.

    Sound pictures that are there already are kept; `on_picture` is called for each that is or
    comes. Raises ImageFetchError, which names the first failures and counts them, and gives up
    after `MAX_FAILURES`; OSError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    with HttpClient(limits.silence, CONNECTIONS) as client:
        pool = ThreadPoolExecutor(CONNECTIONS)
        try:
            futures: list[Future[str | None]] = [
                pool.submit(_bring, row, folder, origin, client, limits) for row in rows
            ]
            for future in as_completed(futures):
                if failure := future.result():
                    failures.append(failure)
                    logger.warning("%s", failure)
                    if len(failures) >= MAX_FAILURES:
                        break
                else:
                    on_picture()
        finally:
            pool.shutdown(cancel_futures=True)
    if failures:
        raise ImageFetchError(_summary(failures, len(rows), folder))


def _summary(failures: list[str], total: int, folder: Path) -> str:
    count = f"{len(failures)} of {total}"
    if len(failures) >= MAX_FAILURES:
        count = f"at least {count}"
    shown = failures[:SHOWN]
    if len(failures) > SHOWN:
        shown.append(f"and {len(failures) - SHOWN} more, which the log names")
    return "\n".join(
        [
            f"{count} pictures could not be fetched:",
            *(f"  {line}" for line in shown),
            f"The others wait in {folder}; run again, and only the missing ones are fetched.",
        ]
    )


def _bring(
    row: Caption, folder: Path, origin: Origin, client: HttpClient, limits: Limits
) -> str | None:
    """Bring one picture; what was wrong everywhere, or None."""
    path = folder / row.file_name
    if path.exists():
        try:
            check_picture(path, row)
            return None
        except PictureError as error:
            logger.warning("%s: %s; fetched again", path, error)
            path.unlink()
    part = folder / f".{row.file_name}.part"
    tried = []
    for address in origin.addresses(row):
        part.unlink(missing_ok=True)  # without a digest nobody knows whether it is a good beginning
        try:
            if address == row.coco_url:
                _check_published(address)
            _copy(address, part, origin.offline, client, limits)
            check_picture(part, row)
        except (TransferError, PictureError) as error:
            tried.append(f"{shown(address)}: {error}")
            continue
        part.replace(path)
        return None
    part.unlink(missing_ok=True)
    return f"{row.file_name}: {'; '.join(tried)}"


def _check_published(address: str) -> None:
    """Refuse what the captions name unless it comes over TLS: no digest would tell a forgery."""
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise TransferError("not an https address; put the pictures into the mirror")


def _copy(address: str, part: Path, offline: bool, client: HttpClient, limits: Limits) -> None:
    if is_remote(address):
        if offline:
            raise TransferError("not contacted: the configuration says offline")
        transfer(client, address, part, Expected(largest=MAX_BYTES), limits)
        return
    try:
        with local_path(address).open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise TransferError(error.strerror or str(error)) from error
    part.write_bytes(data)


def pack_pictures(rows: list[Caption], folder: Path, tar: Path, digests: Path) -> None:
    """Publish the pictures of `rows` as a tar without times or owners, and their sha256.

    `digests` has the form of sha256sum, in the order of the tar. Raises DiskFullError before the
    first byte.
    """
    size = sum((folder / row.file_name).stat().st_size for row in rows)
    require_space(tar.parent, size, f"packing {tar}")
    lines = []
    with publish(tar) as part, tarfile.open(part, "w") as archive:
        for row in rows:
            data = (folder / row.file_name).read_bytes()
            member = tarfile.TarInfo(row.file_name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
            lines.append(f"{sha256_bytes(data)}  {row.file_name}\n")
    write_text(digests, "".join(lines))
