"""What a job takes of its machine while it computes, and who else is there.

Power is what the driver says of the whole GPU, sampled twice a second, idle power included: for
information, no measurement by MLPerf's rules.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

SCHEMA = 1  # of what this module writes into files; part of the code digest of rules that use it
MILLISECONDS = 500  # between two samples
# Bits of the driver's reasons for a lower clock, without those that are the GPU's normal work.
HELD_DOWN = {0x8: "hardware slowdown", 0x20: "heat (driver)", 0x40: "heat", 0x80: "power supply"}
FIELDS = "power.draw,clocks.sm,clocks_event_reasons.active"
IDLE = ("idle", "iowait", "steal", "guest", "guest_nice")  # of the processors' times: not work here


class Sample(NamedTuple):
    """Power in watts, clock in MHz and the driver's reasons for it, as bits."""

    watts: float
    megahertz: float
    reasons: int


def parse_sample(line: str) -> Sample | None:
    """A line of nvidia-smi; None for what a GPU does not tell."""
    fields = [field.strip() for field in line.split(",")]
    try:
        return Sample(float(fields[0]), float(fields[1]), int(fields[2], 16))
    except (ValueError, IndexError):
        return None


class GpuWatch:
    """Samples of a GPU by nvidia-smi while the block runs; `gpu` is its index or UUID.

    The driver's tool ends with this process, whose pipe it writes to.
    """

    def __init__(self, gpu: str, milliseconds: int = MILLISECONDS) -> None:
        self._command = ["nvidia-smi", f"--id={gpu}", f"--query-gpu={FIELDS}"]
        self._command += ["--format=csv,noheader,nounits", f"-lms={milliseconds}"]
        self.samples: list[Sample] = []

    def __enter__(self) -> GpuWatch:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout], daemon=True)
        self._reader.start()
        return self

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            if (sample := parse_sample(line)) is not None:
                self.samples.append(sample)

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    @property
    def facts(self) -> dict[str, Any]:
        """Mean power and clock, and what held the clock down in a tenth of the samples or more."""
        if not self.samples:
            return {}
        held = {
            text
            for bit, text in HELD_DOWN.items()
            if 10 * sum(bool(sample.reasons & bit) for sample in self.samples) >= len(self.samples)
        }
        return {
            "watts": statistics.mean(sample.watts for sample in self.samples),
            "megahertz": statistics.mean(sample.megahertz for sample in self.samples),
            "held_down": sorted(held),
        }


class Times(NamedTuple):
    """Seconds: now; of processors that all programs have used, and this one; that it waited."""

    now: float
    worked: float
    own: float
    waited: float


def waited_for_processors() -> float:
    """Seconds that the threads of this process, of those that live, could run and were not run.

    0 where the kernel keeps no such account.
    """
    waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
            waited += int(path.read_text().split()[1])
    return waited / 1e9


def processes_on(gpu: str) -> int:
    """Processes that compute on a GPU, this one included; 0 where the driver does not say."""
    command = ["nvidia-smi", f"--id={gpu}", "--query-compute-apps=pid", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return len(answer.stdout.split()) if answer.returncode == 0 else 0


class Usage:
    """The use of the machine from `begin`, after a job has warmed up, to the end of the block.

    `gpu` names the job's GPU, None for a job without one.
    """

    def __init__(self, gpu: str | None) -> None:
        self._gpu, self._watch = gpu, None if gpu is None else GpuWatch(gpu)
        self._begun: Times | None = None
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Usage:
        return self

    def begin(self) -> None:
        """Begin to measure; only the first call counts."""
        if self._begun is None:
            self._begun = self._times()
            if self._watch is not None:
                self._watch.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._begun is None:
            return
        if self._watch is not None:
            self._watch.__exit__(*error)
        if error[0] is None:
            self.facts = self._found()

    @staticmethod
    def _times() -> Times:
        machine, own = psutil.cpu_times()._asdict(), os.times()
        worked = sum(seconds for name, seconds in machine.items() if name not in IDLE)
        return Times(time.monotonic(), worked, own.user + own.system, waited_for_processors())

    def _found(self) -> dict[str, Any]:
        """Facts of the time since `begin`.

        seconds, memory_bytes (of this process at most), cores (of this machine), other_cores
        (that other programs used, on average), waited (seconds that threads of this process could
        run and had no processor, by the seconds that passed), load_average (of the last minute);
        with a GPU also gpu_memory_bytes (that torch held at most), gpu_processes, and those of
        `GpuWatch`.
        """
        assert self._begun is not None
        now = self._times()
        seconds, worked, own, waited = (
            end - start for end, start in zip(now, self._begun, strict=True)
        )
        facts = {
            "seconds": seconds,
            "waited": max(0.0, waited) / max(seconds, 1e-9),
            "memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "cores": psutil.cpu_count(),
            "other_cores": max(0.0, worked - own) / max(seconds, 1e-9),
            "load_average": os.getloadavg()[0],
        }
        if self._gpu is not None and self._watch is not None:
            import torch

            facts["gpu_memory_bytes"] = torch.cuda.max_memory_reserved()
            facts["gpu_processes"] = processes_on(self._gpu)
            facts |= self._watch.facts
        return facts
