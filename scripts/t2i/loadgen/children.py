"""Processes of this library that talk over an inherited connection and end with it.

They are fresh processes (no fork, nothing of multiprocessing's __main__ handling, which a script of
Snakemake breaks). Messages are JSON; nothing listens on any address.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).resolve().parents[2]
SHOWN_LINES = 30
PATIENCE = 5.0  # seconds for a process to end once its connection has
SIGN_SECONDS = 0.5  # between two signs of life of a process that promises them


class LoadGenError(RuntimeError):
    """A LoadGen test could not be run to its end."""


class Child:
    """A running module of the library. What it prints goes to this process's stderr."""

    def __init__(
        self, module: str, name: str, arguments: Sequence[str] = (), descriptors: Sequence[int] = ()
    ) -> None:
        """Start `python -m module CONNECTION arguments...` with these open file descriptors."""
        ours, theirs = socket.socketpair()
        paths = [str(LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=[theirs.fileno(), *descriptors],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
            )
        self.name = name
        self.connection = Connection(ours.detach())
        self._tail: deque[str] = deque(maxlen=SHOWN_LINES)
        self._output = threading.Thread(target=self._copy_output, daemon=True)
        self._output.start()

    def _copy_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._tail.append(line)
            sys.stderr.write(line)

    def send(self, message: Any) -> None:
        """Send a message; raises LoadGenError when the process has ended."""
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError:
            raise self.death() from None

    def receive(self, limit: float | None = None) -> Any:
        """The next message. LoadGenError: the process has ended, failed, or sent nothing for
        `limit` seconds."""
        try:
            if not self.connection.poll(limit):
                raise self.stalled(limit)
            message = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise self.death() from None
        if "error" in message:
            raise LoadGenError(message["error"])
        return message

    def answer(self, limit: float) -> Any:
        """The next message of a process that gives signs of life, however long it takes.

        LoadGenError: no sign for `limit` seconds, or as `receive`.
        """
        while "alive" in (message := self.receive(limit)):
            pass
        return message

    def stalled(self, limit: float | None) -> LoadGenError:
        """The error for a process that is silent for too long."""
        return LoadGenError(
            f"{self.name} (process {self.process.pid}) has stalled: no answer for {limit:g} s; if "
            "it is only slow, raise loadgen.stall"
        )

    def death(self) -> LoadGenError:
        """The error for a process that has ended, with how and the end of its output."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            how = "has closed its connection"
        else:
            how = f"has died: exit code {code}"
            if code < 0:
                how = f"has died: killed by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                how += " (is the memory used up?)"
        self._output.join(PATIENCE)
        shown = "".join(self._tail) or "(nothing)\n"
        return LoadGenError(
            f"{self.name} (process {self.process.pid}) {how}; the end of its output:\n{shown}"
        )

    def close(self) -> None:
        """End the process, by force if it is not gone soon after its connection."""
        self.connection.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Parent:
    """The other end, in the process that was started: it ends at once when its parent has."""

    def __init__(self, descriptor: int) -> None:
        """Take the connection; from now on a thread reads what the parent sends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this one ends
        self._connection = Connection(descriptor)
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sending = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                self._messages.put(json.loads(self._connection.recv_bytes()))
        except (EOFError, OSError):
            os._exit(1)  # exit handlers could wait for the very thread that computes

    def receive(self) -> Any:
        """The next message, as soon as there is one."""
        return self._messages.get()

    def send(self, message: Any) -> None:
        """Send a message."""
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())

    def give_signs(self) -> None:
        """Send a sign of life again and again, as long as this process runs."""

        def signs() -> None:
            while True:
                self.send({"alive": True})
                time.sleep(SIGN_SECONDS)

        threading.Thread(target=signs, daemon=True).start()
