"""A fetch that is killed goes on where it was: next to nothing is sent twice."""

import http.server
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t2i.base.files import sha256_file
from t2i.fetch.files import part_path
from t2i.fetch.table import Source

SIZE = 200_000_000
# What a kill loses lies in the buffers between the two processes: a few megabytes. A smaller file
# would be a test of those instead.
MOST_SENT = 1.05 * SIZE
ROUNDS = 20
LIFETIME = 300.0  # seconds after which the server stops by itself
PIECE = 1 << 18
FETCH = (
    "import sys; from pathlib import Path; from t2i.fetch.files import fetch;"
    "from t2i.fetch.table import Source; address, size, digest, destination = sys.argv[1:];"
    "source = Source('x', address, '', int(size), 'sha256', digest);"
    "fetch(source, Path(destination), None, False)"
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file from any byte on, and counts what goes out."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Send the file or the rest of it."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(SIZE - start))
        if found:
            self.send_header("Content-Range", f"bytes {start}-{SIZE - 1}/{SIZE}")
        self.end_headers()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        with self.server.file.open("rb") as file:
            try:
                while start < SIZE:
                    sent = os.sendfile(self.connection.fileno(), file.fileno(), start, PIECE)
                    start += sent
                    with self.server.count:
                        self.server.count.value += sent
            except OSError:  # the client was killed
                self.close_connection = True

    def log_message(self, *_):
        """Say nothing."""


def serve(server, file, count):
    server.file, server.count = file, count
    server.timeout = 1.0
    end = time.monotonic() + LIFETIME
    while time.monotonic() < end and os.getppid() != 1:
        server.handle_request()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a file on a server in its own process, the file, and the bytes sent of it."""
    file = tmp_path_factory.mktemp("served") / "file"
    block = random.Random(3).randbytes(1_000_000)
    with file.open("wb") as handle:  # no two blocks alike, so that none can stand for another
        for number in range(SIZE // len(block)):
            handle.write(number.to_bytes(8, "big") + block[8:])
    processes = multiprocessing.get_context("fork")
    count = processes.Value("q", 0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    process = processes.Process(target=serve, args=(server, file, count), daemon=True)
    process.start()
    server.socket.close()
    yield f"http://127.0.0.1:{server.server_port}/file", file, count
    process.kill()
    process.join(10)
    file.unlink()


def start(source, destination):
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2] / "scripts"),
        "no_proxy": "*",
    }
    command = [sys.executable, "-c", FETCH, source.address, str(source.size), source.digest]
    return subprocess.Popen([*command, destination], env=environment)


def kill_at(process, part, size):
    """Kill a fetch once its part has so many bytes; False where it was faster."""
    while process.poll() is None:
        if part.exists() and part.stat().st_size >= size:
            process.kill()
            break
        time.sleep(0.0005)
    return process.wait(10) != 0


@pytest.mark.slow
def test_killed_fetch_goes_on_with_what_it_had(served, tmp_path):
    address, file, count = served
    source = Source("x", address, "", SIZE, "sha256", sha256_file(file))
    destination = tmp_path / "x"
    part = part_path(destination, source)
    points = random.Random(20)
    killed = 0
    for _ in range(2 * ROUNDS):
        count.value = 0
        if kill_at(start(source, destination), part, points.randrange(1, int(0.95 * SIZE))):
            killed += 1
            assert 0 < part.stat().st_size <= SIZE
            assert not destination.exists()
            assert start(source, destination).wait(60) == 0
        assert count.value <= MOST_SENT
        assert sha256_file(destination) == source.digest
        assert not part.exists()
        destination.unlink()
        if killed == ROUNDS:
            return
    pytest.fail(f"{ROUNDS} kills were wanted, {killed} came before the fetch had ended")
