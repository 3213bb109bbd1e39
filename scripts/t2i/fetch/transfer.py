"""Resumable HTTP download; a file is complete only when its digest matches.

What has come so far lies in a part file. Its bytes are hashed again before anything is added to
them, so a part that was damaged, or belongs to another version of the file, is found out: at the
latest by the digest of the whole, and then the file is fetched once more from the start.
"""

from __future__ import annotations

import email.utils
import fcntl
import logging
import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import urllib3
from urllib3 import exceptions

from t2i.base.addresses import shown
from t2i.base.files import CHUNK, file_digest, new_digest
from t2i.fetch.http import HttpClient, TransferError

logger = logging.getLogger(__name__)

READ = 1 << 18  # bytes asked of a connection at once; what has come is taken at once
DIGITS = "[0-9]{1,18}"  # of a size; int() raises an error for thousands of them
HINTS = {
    401: "it wants a token, or another one (docs/inputs.md)",
    403: "it wants a token, or its licence to be accepted on its page (docs/inputs.md)",
    404: "there is no such file",
    410: "there is no such file",
}


@dataclass(frozen=True)
class Limits:
    """When a transfer is given up.

    `silence`: seconds without a byte. `window` and `minimum_speed`: seconds over which the speed
    is judged, and the bytes a second it must reach. `attempts`: tries in a row that brought
    nothing on. `pause`: seconds before the second try, doubled from one to the next.
    `longest_wait`: seconds that a server may ask to wait (Retry-After).
    """

    silence: float = 60.0
    window: float = 60.0
    minimum_speed: int = 1000
    attempts: int = 5
    pause: float = 1.0
    longest_wait: float = 900.0


@dataclass(frozen=True)
class Expected:
    """What a file must be: size in bytes and digest, each None where it is not published.

    `largest` bounds the bytes of a file whose size is not.
    """

    size: int | None = None
    algorithm: str | None = None
    digest: str | None = None
    largest: int | None = None


class _Interrupted(Exception):
    """A try ended early; another may bring the rest. `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _OtherSize(TransferError):
    """The file that a server offers cannot be the one that is wanted."""


class Part:
    """A part file, open and locked, with the running digest of what it holds.

    The lock makes a second process wait that fetches the same file. A part longer than the file
    is thrown away.
    """

    def __init__(self, path: Path, expected: Expected) -> None:
        self.path = path
        self.expected = expected
        self.size = 0
        self.resumed = False
        self.ranges = True  # whether a server can be asked for the rest alone
        self._handle = self._open()
        try:
            self._hash_existing()
        except BaseException:
            self._handle.close()
            raise

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.size == 0 and self.expected.size != 0:  # what was never begun leaves nothing behind
            self.path.unlink(missing_ok=True)
        self._handle.close()

    def _open(self) -> Any:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            handle = os.fdopen(descriptor, "r+b", buffering=0)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:  # some cluster file systems have no locks
                logger.info("%s is not locked: %s", self.path, error)
            try:
                if os.path.samestat(os.fstat(descriptor), self.path.lstat()):
                    return handle
            except FileNotFoundError:
                pass
            handle.close()  # another process has finished the file meanwhile

    def _hash_existing(self) -> None:
        self._digest = self._new_digest()
        limit = self.expected.size
        if limit is not None and os.fstat(self._handle.fileno()).st_size > limit:
            self._handle.truncate(0)
        while chunk := self._handle.read(CHUNK):
            self._add(chunk)
        self.resumed = self.size > 0

    def _new_digest(self) -> Any:
        return new_digest(self.expected.algorithm, self.expected.size)

    def _add(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)

    def write(self, chunk: bytes) -> None:
        """Append bytes; raises TransferError once there are more than the file has."""
        size, largest = self.expected.size, self.expected.largest
        if size is not None and self.size + len(chunk) > size:
            raise TransferError(f"expected {size} bytes, got more")
        if largest is not None and self.size + len(chunk) > largest:
            raise TransferError(f"expected at most {largest} bytes, got more")
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._handle.write(rest) :]
        self._add(chunk)

    def restart(self) -> None:
        """Discard the partial file."""
        self._handle.seek(0)
        self._handle.truncate(0)
        self.size = 0
        self.resumed = False
        self._digest = self._new_digest()

    def mismatch(self) -> str | None:
        """What is wrong with a part that should be the whole file; None when it is."""
        size, digest = self.expected.size, self.expected.digest
        if size is not None and size != self.size:
            return f"expected {size} bytes, got {self.size}"
        if digest is None:
            return None if self.size or size == 0 else "got no bytes"
        if self.expected.algorithm == "git_blob" and size is None:  # its hash begins with the size
            actual = file_digest(self.path, "git_blob")
        else:
            actual = self._digest.hexdigest()
        if actual != digest:
            return f"expected {self.expected.algorithm} {digest}, got {actual}"
        return None

    def is_whole(self) -> bool:
        """Whether the part is the file already, as far as its digest can tell."""
        known = self.expected.digest is not None and self.size > 0
        return (known or self.size == self.expected.size) and self.mismatch() is None


def transfer(
    client: HttpClient,
    address: str,
    path: Path,
    expected: Expected,
    limits: Limits,
    token: str | None = None,
) -> None:
    """Complete the part file `path` from an address, until it is what is expected.

    A `token` goes to the address's own host alone. Raises TransferError with the reason; what has
    come stays in the part file unless it is wrong. OSError is about the disk.
    """
    with Part(path, expected) as part:
        failures, furthest, restarted = 0, part.size, False
        step = min(CHUNK, max(1, (expected.size or CHUNK) // 100))
        while not part.is_whole():
            if part.size == expected.size:
                part.restart()
            try:
                _receive(client, address, part, limits, token)
            except _Interrupted as problem:
                failures = 0 if part.size - furthest >= step else failures + 1
                furthest = max(furthest, part.size)
                if failures >= limits.attempts:
                    kept = f"; {part.size} bytes are kept to resume from" if part.size else ""
                    raise TransferError(f"{problem}, {failures} times in a row{kept}") from None
                _wait(problem, failures, limits)
                part.resumed = part.size > 0
                continue
            if (wrong := part.mismatch()) is None:
                return
            if restarted or not part.resumed:
                part.restart()
                raise TransferError(
                    f"{wrong}; the file is damaged at the source or has changed; nothing was kept"
                )
            logger.warning("%s: %s; once more from the start", shown(address), wrong)
            part.restart()
            furthest, restarted = 0, True


def _wait(problem: _Interrupted, failures: int, limits: Limits) -> None:
    """Pause before the next try: as long as the server asks, or twice as long as the last time."""
    if problem.wait is not None and problem.wait > limits.longest_wait:
        raise TransferError(
            f"{problem} and asks for {problem.wait:.0f} s of waiting; run again later"
        )
    pause = problem.wait
    if pause is None:  # spread out, so that many clients do not come back at the same instant
        pause = limits.pause * 2 ** max(failures - 1, 0) * random.uniform(0.75, 1.25)
    logger.info("%s; again in %.1f s", problem, pause)
    time.sleep(pause)


def _receive(
    client: HttpClient, address: str, part: Part, limits: Limits, token: str | None
) -> None:
    """One request: append to the part what it brings, up to the end of the file.

    Raises _Interrupted where another try makes sense, TransferError where none does.
    """
    headers = {"Range": f"bytes={part.size}-"} if part.size and part.ranges else {}
    try:
        response = client.open(address, headers, token)
        with response:
            total = _check_answer(response, part) or part.expected.size
            _read_body(response, part, limits)
    except _OtherSize as error:
        if not headers:
            raise
        part.ranges = False  # perhaps it is the range that the server gets wrong
        raise _Interrupted(str(error)) from error
    except exceptions.SSLError as error:
        raise TransferError(f"TLS: {error}") from error
    except exceptions.HTTPError as error:
        raise _Interrupted(_in_words(error, limits)) from error
    if total is not None and part.size < total:
        raise _Interrupted(f"the connection closed after {part.size} of {total} bytes")


def _in_words(error: exceptions.HTTPError, limits: Limits) -> str:
    if isinstance(error, exceptions.NameResolutionError):
        return "the host's name is not known"
    if isinstance(error, exceptions.NewConnectionError | exceptions.ProxyError):
        return "no connection"
    if isinstance(error, exceptions.ConnectTimeoutError):
        return f"no connection within {limits.silence:g} s"
    if isinstance(error, exceptions.TimeoutError):
        return f"no byte for {limits.silence:g} s"
    return "the connection broke"


def _check_answer(response: urllib3.BaseHTTPResponse, part: Part) -> int | None:
    """The whole file's size according to this response, once the part is ready for its body.

    A part is thrown away only for an answer that can be the file from its start.
    """
    status, headers = response.status, response.headers
    if status == 416 and part.size:
        part.restart()
        raise _Interrupted("it has no bytes after those that were kept (416)")
    if status in (408, 425, 429) or status >= 500:
        raise _Interrupted(f"it answers {status}", _retry_after(headers))
    if status not in (200, 206):
        hint = HINTS.get(status)
        raise TransferError(f"it answers {status}" + (f": {hint}" if hint else ""))
    if headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError(f"it sends {headers['Content-Encoding']} data, which was not requested")
    length = headers.get("Content-Length", "")
    start, total = 0, int(length) if re.fullmatch(DIGITS, length) else None
    if status == 206:
        match = re.fullmatch(
            f"bytes ({DIGITS})-{DIGITS}/({DIGITS})", headers.get("Content-Range", "")
        )
        start, total = (int(match[1]), int(match[2])) if match else (-1, None)
    _check_size(total, headers, part)
    if start != part.size:
        part.restart()  # it ignores ranges, or sends another one
        if start != 0:
            raise _Interrupted("it sends a different range than requested")
    return total


def _check_size(total: int | None, headers: Any, part: Part) -> None:
    """Refuse a file of another size before its first byte, with what it seems to be.

    So is a page of unknown size: what is kept must not be given up for a login page.
    """
    kind = headers.get("Content-Type", "unknown content").partition(";")[0]
    if part.expected.size is None:
        return
    if total not in (None, part.expected.size) or (total is None and kind == "text/html"):
        offer = "a page" if total is None else total
        raise _OtherSize(
            f"expected {part.expected.size} bytes, it offers {offer} of {kind}; the file has "
            "changed, or a login page or a proxy answered instead"
        )


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait that a server asks for, in either form; None where it does not.

    A date is compared with the server's own clock if the response has one.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        now = email.utils.parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        now = time.time()
    return max(0.0, until - now)


def _read_body(response: Any, part: Part, limits: Limits) -> None:
    """Append the body to the part; raises _Interrupted when it comes too slowly."""
    began, size = time.monotonic(), part.size
    while chunk := response.read1(READ, decode_content=False):
        part.write(chunk)
        seconds = time.monotonic() - began
        if seconds >= limits.window:
            if part.size - size < limits.minimum_speed * seconds:
                speed = (part.size - size) / seconds
                raise _Interrupted(f"only {speed:.0f} bytes a second for {seconds:.0f} s")
            began, size = time.monotonic(), part.size
