"""A loopback HTTP server that misbehaves on purpose, as the path asks: /BEHAVIOUR,BEHAVIOUR/KEY.

The first request for a path gets the first behaviour, the next one the second, and so on; the last
one is repeated. A behaviour may have arguments, as in `drop:1000`.
"""

import contextlib
import email.utils
import gzip
import http.client
import random
import re
import socket
import socketserver
import ssl
import struct
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CONTENT = random.Random(6).randbytes(300_007)
WRONG = bytes(byte ^ 1 for byte in CONTENT)
LIFETIME = 300.0  # seconds after which a server stops by itself
HALF = len(CONTENT) // 2
HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\n" % (b"0" * 64)


@dataclass
class Asked:
    """One request, and how many bytes of a body it was answered with."""

    path: str
    headers: http.client.HTTPMessage
    sent: int = 0


class Connection(socketserver.StreamRequestHandler):
    """One connection; `nth` counts the requests for the path, `start` is the byte asked for."""

    disable_nagle_algorithm = True
    timeout = 10
    server: "MisbehavingServer"

    def handle(self) -> None:
        """Answer requests until either side closes the connection."""
        self.keep = True
        with contextlib.suppress(OSError):
            while self.keep and self._read():
                names = urllib.parse.unquote(self.asked.path.split("/")[1]).split(",")
                name, *arguments = names[min(self.nth, len(names) - 1)].split(":")
                BEHAVIOURS[name](self, *arguments)

    def _read(self) -> bool:
        line = self.rfile.readline()
        if not line:
            return False
        path = re.sub("^http://[^/@]*", "", line.split()[1].decode())  # so a proxy is asked
        self.asked = Asked(path, http.client.parse_headers(self.rfile))
        self.start, self.nth = self.server.note(self.asked)
        return True

    def head(self, status: int, **headers: object) -> None:
        """Send a status line and headers (an underscore in a name stands for a hyphen)."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join([f"HTTP/1.1 {status} x", *lines, "", ""]).encode())

    def send(self, body: bytes) -> None:
        """Send bytes and count them."""
        view = memoryview(body)
        while view:
            sent = self.connection.send(view[:65536])
            self.asked.sent += sent
            view = view[sent:]

    def answer(self, status: int, body: bytes = b"", **headers: object) -> None:
        """Send a complete answer."""
        self.head(status, **{"Content_Length": len(body), **headers})
        self.send(body)

    def serve(
        self, content: bytes = CONTENT, end: int | None = None, etag: str = '"1"', **headers: object
    ) -> None:
        """Send what a good server sends, but stop and close before byte `end` of the file."""
        start = self.start if self.asked.headers.get("If-Range", etag) == etag else None
        if start is not None and start >= len(content):
            self.answer(416, Content_Range=f"bytes */{len(content)}")
            return
        wanted = slice(start or 0, len(content))
        own: dict[str, object] = {"Content_Length": len(content[wanted]), "ETag": etag}
        if start is not None:
            own["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.head(200 if start is None else 206, **own | headers)
        self.send(content[wanted.start : end])
        self.keep = self.keep and end is None

    def end(self, count: str) -> int:
        """Where to stop: so many bytes from the start of the range, or at the file's `half`."""
        return HALF if count == "half" else (self.start or 0) + int(count)

    def reset(self) -> None:
        """Close with a reset instead of an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.keep = False

    def wait(self) -> None:
        """Send nothing until the client gives up."""
        self.connection.recv(1)
        self.keep = False


BEHAVIOURS: dict[str, Callable[..., None]] = {"good": Connection.serve}


def behaviour(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function reachable by its name."""
    BEHAVIOURS[function.__name__] = function
    return function


@behaviour
def whole(to: Connection, count: str = "") -> None:
    """Know nothing of ranges, and perhaps close after so many bytes."""
    to.start = None
    to.serve(end=to.end(count) if count else None)


@behaviour
def drop(to: Connection, count: str) -> None:
    """Close after so many bytes of each answer, or at the same byte in each."""
    to.serve(end=to.end(count))


@behaviour
def announces(to: Connection, length: str) -> None:
    """Send the file, but give another length."""
    to.keep = False
    to.head(200, Content_Length=length)
    to.send(CONTENT)


@behaviour
def sends_more(to: Connection) -> None:
    """Send more than the length that was given, on a connection that stays open."""
    to.answer(200, CONTENT + b"and more", Content_Length=len(CONTENT))


@behaviour
def no_length(to: Connection, end: str = "", more: str = "") -> None:
    """Mark the end by closing: at the right byte, too early or too late."""
    to.keep = False
    to.head(200)
    to.send(CONTENT[: int(end) if end else None] + more.encode())


@behaviour
def endless(to: Connection) -> None:
    """Send bytes as long as the client takes them (at most 50 MB)."""
    to.keep = False
    to.head(200)
    for _ in range(500):
        to.send(b"0" * 100_000)


@behaviour
def wrong(to: Connection, count: str = "") -> None:
    """Send other bytes, the same number of them, and perhaps close in between."""
    to.serve(WRONG, end=to.end(count) if count else None)


@behaviour
def html(to: Connection, length: str = "0") -> None:
    """Send a page instead of the file, padded to a length."""
    to.answer(200, HTML.ljust(int(length)), Content_Type="text/html")


@behaviour
def page(to: Connection) -> None:
    """Send a page instead of the file, and do not say how long it is."""
    to.keep = False
    to.head(200, Content_Type="text/html")
    to.send(HTML)


@behaviour
def pointer(to: Connection) -> None:
    """Send the text that stands for a large file in a git repository."""
    to.answer(200, POINTER, Content_Type="text/plain")


@behaviour
def empty(to: Connection) -> None:
    """Send an empty body."""
    to.answer(200)


@behaviour
def drips(to: Connection) -> None:
    """Send a byte now and then."""
    to.keep = False
    to.serve(end=to.start or 0)
    for byte in CONTENT[to.start or 0 :][:100]:
        to.send(bytes([byte]))
        time.sleep(0.1)


@behaviour
def stall(to: Connection, count: str) -> None:
    """Send as `drop` does, then nothing."""
    to.serve(end=to.end(count))
    to.wait()


@behaviour
def no_answer(to: Connection) -> None:
    """Take the request and say nothing."""
    to.wait()


@behaviour
def hangs_up(to: Connection) -> None:
    """Close without a word."""
    to.keep = False


@behaviour
def reset(to: Connection, count: str = "") -> None:
    """Reset the connection, at once or after some bytes (the last of which may be lost)."""
    if count:
        to.serve(end=to.end(count))
    to.reset()


@behaviour
def tail_as_whole(to: Connection) -> None:
    """Send what a range asks for, but call it the whole file."""
    to.answer(200, CONTENT[to.start or 0 :])


@behaviour
def other_range(to: Connection, part: str = "1", more: str = "0") -> None:
    """Start at a part of the byte asked for, or say that the file is longer than it is."""
    if to.start is None:
        to.serve()
        return
    start, size = int(to.start * float(part)), len(CONTENT)
    told = f"bytes {start}-{size - 1}/{size + int(more)}"
    to.answer(206, CONTENT[start:], Content_Range=told)


@behaviour
def range_header(to: Connection, value: str = "") -> None:
    """Answer every request with 206 and no, or a senseless, header about the range."""
    headers = {"Content_Range": value} if value else {}
    to.answer(206, CONTENT[to.start or 0 :], **headers)


@behaviour
def no_such_range(to: Connection) -> None:
    """Refuse every range."""
    if to.start is None:
        to.serve()
    else:
        to.answer(416, Content_Range=f"bytes */{len(CONTENT)}")


@behaviour
def changed(to: Connection) -> None:
    """Serve a file that has changed: it has another tag now."""
    to.serve(etag='"2"')


@behaviour
def gzipped(to: Connection) -> None:
    """Compress the answer although nobody asked for it."""
    to.answer(200, gzip.compress(CONTENT, mtime=0), Content_Encoding="gzip")


@behaviour
def chunked(to: Connection, end: str = "0\r\n\r\n") -> None:
    """Send the file in chunks, and what ends them, or something else."""
    to.keep = end.startswith("0")
    to.head(200, Transfer_Encoding="chunked")
    for begin in range(0, len(CONTENT), 60_000):
        piece = CONTENT[begin : begin + 60_000]
        to.wfile.write(f"{len(piece):x}\r\n".encode())
        to.send(piece)
        to.wfile.write(b"\r\n")
    to.wfile.write(end.encode())


@behaviour
def chunked_cut(to: Connection) -> None:
    """Close in the middle of a chunk."""
    to.keep = False
    to.head(200, Transfer_Encoding="chunked")
    to.wfile.write(f"{len(CONTENT):x}\r\n".encode())
    to.send(CONTENT[:HALF])


@behaviour
def status(to: Connection, code: str, retry_after: str = "", wait: str = "") -> None:
    """Answer with a status and an error page, and when to come again."""
    if retry_after == "date":
        retry_after = email.utils.formatdate(time.time() + float(wait), usegmt=True)
    headers = {"Retry_After": retry_after} if retry_after else {}
    to.answer(int(code), HTML, **headers)


@behaviour
def redirect(to: Connection, code: str = "302", where: str = "good") -> None:
    """Send the client to another behaviour of this server, by a path."""
    to.answer(int(code), Location=f"/{where}/{to.asked.path.split('/')[2]}")


@behaviour
def redirect_to(to: Connection, name: str) -> None:
    """Send the client to an address that the test has given a name."""
    to.answer(302, HTML, Location=to.server.addresses[name])


@behaviour
def huge_header(to: Connection) -> None:
    """Send a header line of a megabyte."""
    to.keep = False
    to.answer(200, CONTENT, X_Filler="x" * 1_000_000)


@behaviour
def many_headers(to: Connection) -> None:
    """Send a megabyte of header lines."""
    to.keep = False
    to.answer(200, CONTENT, **{f"X_Filler_{number}": "x" * 1000 for number in range(1000)})


@behaviour
def not_http(to: Connection) -> None:
    """Speak another protocol."""
    to.keep = False
    to.wfile.write(b"220 this is not HTTP\r\n" + CONTENT)


class MisbehavingServer(socketserver.ThreadingTCPServer):
    """The server; `asked` holds its requests, `addresses` those that `redirect_to` may name."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """Listen on a free port of 127.0.0.1, with TLS where there is a context."""
        super().__init__(("127.0.0.1", 0), Connection)
        self.asked: list[Asked] = []
        self.addresses: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"http{'s' if context else ''}://{self.host}"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def note(self, asked: Asked) -> tuple[int | None, int]:
        """Keep a request; gives the first byte of its range and how many came before it."""
        found = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("Range", ""))
        path = asked.path.partition("?")[0]
        with self._lock:
            self.asked.append(asked)
            self._counts[path] += 1
            return int(found[1]) if found else None, self._counts[path] - 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up."""

    def sent(self) -> int:
        """Bytes of bodies sent since `asked` was emptied."""
        return sum(asked.sent for asked in self.asked)


@contextlib.contextmanager
def running(certificate: Path | None = None) -> Iterator[MisbehavingServer]:
    """A server in a thread; `certificate` is a PEM file with a key, for TLS."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with MisbehavingServer(context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        watch = threading.Timer(LIFETIME, server.shutdown)
        watch.daemon = True
        thread.start()
        watch.start()
        try:
            yield server
        finally:
            watch.cancel()
            server.shutdown()
            thread.join(10)
