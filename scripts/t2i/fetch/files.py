"""Bringing an input of the table here: from a mirror, or from where it is published.

Nothing is trusted by name: however a file arrives, its size and digest are checked before
it gets its name.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from t2i.base.addresses import MIRROR_LOGIN, shown
from t2i.base.files import CHUNK, settle
from t2i.fetch.http import HttpClient, TransferError
from t2i.fetch.table import Source
from t2i.fetch.transfer import Expected, Limits, Part, transfer
from t2i.job.disk import format_bytes, freed_bytes, require_space

logger = logging.getLogger(__name__)

LARGEST = 20 * 10**9  # bytes of an input; of those without a published size val2014.zip has 6.6e9


class FetchError(RuntimeError):
    """An input could not be fetched, or is not what the table says."""


def part_path(destination: Path, source: Source) -> Path:
    """Where the beginning of an input waits for its rest."""
    return destination.with_name(f".{destination.name}.{source.digest[:12]}.part")


def fetch(
    source: Source,
    destination: Path,
    mirror: str | None,
    offline: bool,
    limits: Limits | None = None,
    token: str | None = None,
) -> str:
    """Bring one input to `destination` and return the address it came from.

    The mirror (a folder, or an address prefix) is asked first under the input's name; what it
    lacks, or has wrong, comes from the published address, whose host alone gets the `token`. What
    an earlier try fetched is resumed. Raises FetchError with what was wrong, where, and
    what to do, and DiskFullError before the first byte; `destination` then does not exist.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(destination, source)
    if source.size is not None:
        missing = source.size - freed_bytes(part)
        require_space(destination.parent, missing, f"fetching {source.name}")
    tried = []
    for address in _addresses(source, mirror):
        if offline and is_remote(address):
            tried.append(f"{shown(address)}: not contacted: the configuration says offline")
            continue
        try:
            _bring(
                source,
                address,
                part,
                limits or Limits(),
                token if address == source.address else None,
            )
        except TransferError as error:
            tried.append(f"{shown(address)}: {error}")
            logger.info("%s from %s", source.name, tried[-1])
            continue
        _publish(part, destination)
        return shown(address)
    if not tried:
        tried.append("the table gives no address, the configuration no mirror")
    raise FetchError(
        "\n".join(
            [
                f"{source.name} could not be fetched:",
                *(f"  {line}" for line in tried),
                f"Put the file ({source.algorithm} {source.digest}) into a folder as {source.name} "
                "and name the folder as `mirror` in the configuration.",
            ]
        )
    )


def is_remote(address: str) -> bool:
    """Whether an address is reached over the network."""
    return address.lower().startswith(("http:", "https:"))


def mirror_address(mirror: str, name: str) -> str:
    """Where a mirror (a folder, or an address prefix) has a file.

    The login of a mirror on the web is that of the environment (T2I_MIRROR_LOGIN, user:password).
    """
    if "://" in mirror or mirror.startswith("file:"):
        login = os.environ.get(MIRROR_LOGIN)
        if login and is_remote(mirror):
            scheme, rest = mirror.split("://", 1)
            user, _, password = login.partition(":")
            mirror = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"
        return f"{mirror.rstrip('/')}/{quote(name)}"
    return f"file:{quote(str(Path(mirror, name)))}"


def local_path(address: str) -> Path:
    """The path that a file: address names."""
    return Path(unquote(urlsplit(address).path))


def _addresses(source: Source, mirror: str | None) -> Iterator[str]:
    if mirror:
        yield mirror_address(mirror, source.name)
    if source.address:
        yield source.address


def missing_offline(sources: Iterable[Source], folder: Path, mirror: str | None) -> list[Source]:
    """The inputs that are neither below `folder` nor in a place that needs no network."""
    return [
        source
        for source in sources
        if not (folder / source.name).exists()
        and not any(
            local_path(address).is_file()
            for address in _addresses(source, mirror)
            if not is_remote(address)
        )
    ]


def how_to_get(missing: list[Source], command: str) -> str:
    """What to tell someone who works offline: each missing input, and commands that bring it.

    `command` makes a mirror of everything that the configuration uses.
    """
    lines = [f"offline, and {len(missing)} of the inputs cannot be fetched without a network:"]
    for source in missing:
        size = "" if source.size is None else f"{format_bytes(source.size)}, "
        lines.append(f"  {source.name} ({size}{source.algorithm} {source.digest})")
        if source.address:
            words = ["curl", "--fail", "--location", "--create-dirs", "--output"]
            lines.append(f"    {shlex.join([*words, f'mirror/{source.name}', source.address])}")
    return "\n".join(
        [
            *lines,
            "Run these commands, or this one for all inputs, where there is a network:",
            f"  {command}",
            "and name the folder here: --config mirror=PATH/mirror",
        ]
    )


def _bring(source: Source, address: str, part: Path, limits: Limits, token: str | None) -> None:
    expected = Expected(source.size, source.algorithm, source.digest, LARGEST)
    if address.startswith("file:"):
        _copy(local_path(address), part, expected)
    elif is_remote(address):
        with HttpClient(limits.silence) as client:
            transfer(client, address, part, expected, limits, token)
    else:
        raise TransferError("expected an address that begins with file:, http: or https:")


def _copy(original: Path, path: Path, expected: Expected) -> None:
    """Copy a file that needs no network, hashed on the way."""
    if original.is_fifo():  # whose other end would be waited for
        raise TransferError("no regular file")
    try:
        handle = original.open("rb")
    except OSError as error:
        raise TransferError(error.strerror or str(error)) from error
    with handle, Part(path, expected) as part:
        part.restart()
        try:
            while chunk := handle.read(CHUNK):
                part.write(chunk)
            wrong = part.mismatch()
        except TransferError as error:
            wrong = str(error)
        if wrong is not None:
            part.restart()
            raise TransferError(f"{wrong}; the file is damaged or is a different file")


def _publish(part: Path, destination: Path) -> None:
    """Give a whole part its name."""
    try:
        settle(part, destination)
    except FileNotFoundError:
        if not destination.exists():  # else another process was faster with the same file
            raise
