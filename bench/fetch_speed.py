"""How fast inputs are fetched and verified on the loopback interface, beside curl.

big    one file: t2i.fetch.files.fetch, beside `curl --output` and then `sha256sum --check`
small  many files from a server that waits before each answer: t2i.fetch.transfer.transfer in
       threads, each file verified, beside `curl --parallel`, which verifies nothing

Each measurement is its own process, ours and theirs in turn; medians count. The server is a
third process, so at least two cores should be idle, and the folder needs room for two files.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
BLOCK = 1_000_000
SEND = 1 << 20  # bytes that the server may hand over at once
AIM_BIG = 0.9  # their time / our time, at least
AIM_SMALL = 1.5  # our time / their time, at most


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1_000_000_000, help="bytes of the big file")
    parser.add_argument("--files", type=int, default=5000, help="how many small files")
    parser.add_argument("--small-size", type=int, default=160_000, help="bytes of a small file")
    parser.add_argument("--wait", type=float, default=0.02, help="seconds before a small answer")
    parser.add_argument("--connections", type=int, default=50, help="at once, for small files")
    parser.add_argument("--repeat", type=int, default=5, help="measurements, of which the median")
    parser.add_argument("--folder", type=Path, help="where to fetch to (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # the server's process
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)  # a measurement's process
    return parser.parse_args()


def small_content(number: int, size: int) -> bytes:
    """The content of a small file, unlike that of any other."""
    return number.to_bytes(8, "big") * (size // 8) + b"." * (size % 8)


class Answers(asyncio.Protocol):
    """Answers GET for /big and for /small/NUMBER on connections that stay open."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        """Keep the connection, with room for a small file."""
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND)

    def data_received(self, data: bytes) -> None:
        """Answer each request once its empty line has come."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            request, self.received = self.received.split(b"\r\n\r\n", 1)
            path = request.split()[1].decode()
            loop = asyncio.get_running_loop()
            if path == "/big":
                self.task = loop.create_task(self.send_big(loop))
            else:
                number = int(path.rpartition("/")[2])
                loop.call_later(self.options.wait, self.send_small, number)

    async def send_big(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send the big file without copying it."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.options.size)
        with self.options.serve.open("rb") as file:
            await loop.sendfile(self.transport, file)

    def send_small(self, number: int) -> None:
        """Send a small file in one piece."""
        size = self.options.small_size
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        self.transport.write(head + small_content(number, size))


async def serve(options: argparse.Namespace) -> None:
    """Serve until stdin is closed, which the end of the parent process does too."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answers(options), "127.0.0.1", 0, backlog=200)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def ours(what: str, folder: Path, connections: int) -> None:
    """Fetch the files of a list with this project's code and print the seconds it took."""
    began = time.perf_counter()
    sys.path.insert(0, str(SCRIPTS))
    from t2i.fetch.files import fetch
    from t2i.fetch.http import HttpClient
    from t2i.fetch.table import Source
    from t2i.fetch.transfer import Expected, Limits, transfer

    imported = time.perf_counter()
    rows = [line.split() for line in (folder / "list").read_text().splitlines()]
    if what == "big":
        address, name, size, digest = rows[0]
        source = Source("big", address, "", int(size), "sha256", digest)
        fetch(source, folder / name, None, False)
    else:
        limits = Limits()
        with (
            HttpClient(limits.silence, connections) as client,
            ThreadPoolExecutor(connections) as pool,
        ):
            tasks = [
                pool.submit(
                    transfer,
                    client,
                    address,
                    folder / name,
                    Expected(int(size), "sha256", digest),
                    limits,
                )
                for address, name, size, digest in rows
            ]
            for task in tasks:
                task.result()
    done = time.perf_counter()
    print(json.dumps({"import": imported - began, "fetch": done - imported}))


def measure_ours(what: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of our process, of which importing and fetching."""
    command = [sys.executable, __file__, "--ours", what, str(folder)]
    command += ["--connections", str(options.connections)]
    began = time.perf_counter()
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {"process": time.perf_counter() - began, **json.loads(printed)}


def measure_theirs(what: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of curl, and of sha256sum after it for the big file."""
    most = str(options.connections)
    parallel = ["--parallel", "--parallel-max", most] if what == "small" else []
    curl = ["curl", "--no-progress-meter", "--fail", *parallel, "--config", "config"]
    began = time.perf_counter()
    subprocess.run(curl, check=True, cwd=folder)
    fetched = time.perf_counter()
    if what == "big":
        subprocess.run(["sha256sum", "--check", "--status", "sums"], check=True, cwd=folder)
    return {"process": time.perf_counter() - began, "fetch": fetched - began}


def compare(
    folder: Path, rows: list[tuple[str, str, int, str]], options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """All measurements of one list of files, ours and theirs in turn."""
    what = "big" if len(rows) == 1 else "small"
    lines = [f"{address} {name} {size} {digest}\n" for address, name, size, digest in rows]
    (folder / "list").write_text("".join(lines))
    (folder / "sums").write_text("".join(f"{row[3]}  {row[1]}\n" for row in rows))
    curl = [f'url = "{address}"\noutput = "{name}"\n' for address, name, _, _ in rows]
    (folder / "config").write_text("".join(curl))
    sides: dict[str, Callable[..., dict[str, float]]] = {
        "ours": measure_ours,
        "theirs": measure_theirs,
    }
    results: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for turn in range(options.repeat):
        for side in sorted(sides, reverse=bool(turn % 2)):
            results[side].append(sides[side](what, folder, options))
            subprocess.run(["sha256sum", "--check", "--status", "sums"], check=True, cwd=folder)
            for row in rows:
                (folder / row[1]).unlink()
    return results


def median(results: list[dict[str, float]], key: str) -> float:
    """The median of one number over the repeats."""
    return statistics.median(result[key] for result in results)


def report(what: str, results: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Print a table's rows and give the figures as JSON has them."""
    our, their = results["ours"], results["theirs"]
    start = median(our, "process") - median(our, "fetch")
    ratio = median(their, "process") / median(our, "fetch")
    reached = ratio >= AIM_BIG
    aim = f"theirs / ours {ratio:.2f}, aim at least {AIM_BIG}"
    if what == "small":
        ratio = 1 / ratio
        reached = ratio <= AIM_SMALL
        aim = f"ours / theirs {ratio:.2f}, aim at most {AIM_SMALL}"
    print(
        f"{what:6} {median(our, 'fetch'):8.2f} {start:9.2f} {median(their, 'process'):9.2f}   "
        f"{aim}: {'reached' if reached else 'missed'}"
    )
    return {"ratio": ratio, "reached": reached, "start": start, **results}


def main() -> None:
    """Measure both, print a table, write JSON."""
    options = arguments()
    os.environ["no_proxy"] = "127.0.0.1"
    if options.serve:
        asyncio.run(serve(options))
        return
    if options.ours:
        ours(options.ours[0], Path(options.ours[1]), options.connections)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        served = folder / "served"
        digest = hashlib.sha256()
        with served.open("wb") as file:
            for _ in range(0, options.size, BLOCK):
                block = os.urandom(min(BLOCK, options.size - file.tell()))
                digest.update(block)
                file.write(block)
        command = [sys.executable, __file__, "--serve", str(served), "--size", str(options.size)]
        command += ["--small-size", str(options.small_size), "--wait", str(options.wait)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdin and server.stdout
            try:
                address = f"http://127.0.0.1:{int(server.stdout.readline())}"
                big = [(f"{address}/big", "big", options.size, digest.hexdigest())]
                small = [
                    (
                        f"{address}/small/{number}",
                        f"{number}",
                        options.small_size,
                        hashlib.sha256(small_content(number, options.small_size)).hexdigest(),
                    )
                    for number in range(options.files)
                ]
                print("seconds    ours  start-up      curl")
                found = {
                    "big": report("big", compare(folder, big, options)),
                    "small": report("small", compare(folder, small, options)),
                }
            finally:
                server.stdin.close()
    if options.json:
        names = ("size", "files", "small_size", "wait", "connections", "repeat")
        document = {"options": {name: getattr(options, name) for name in names}, **found}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
