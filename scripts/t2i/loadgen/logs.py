"""Reading LoadGen's logs: mlperf_log_summary.txt and mlperf_log_detail.txt.

Formats: loadgen/logging.cc and results.cc (mlcommons/inference at b66003e1). Files that LoadGen did
not write whole are refused with their name and line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from t2i.base.files import once

MARKER = ":::MLLOG"
PERCENTILES = ("50", "90", "95", "97", "99", "99.9")
# Keys that one test has one value of; others (messages, sets loaded) may come again.
_SINGLE = ("effective_", "requested_", "result_", "early_stopping_", "num_errors", "qsl_", "sut_")
_CLOSING = re.compile(r"(No|\d+) (warnings?|errors?) encountered", re.IGNORECASE)
_VALUE = re.compile(r"\s*(\S[^:]*?)\s*:\s*(\S.*?)\s*$")
_ESTIMATE = re.compile(r"\* Early stopping (\d+(?:\.\d+)?)th percentile estimate: (\d+)$")


@dataclass(frozen=True)
class Summary:
    """mlperf_log_summary.txt. `values` are its "key : value" lines, unchanged; `errors` and
    `warnings` are counts; an accuracy test's file has nothing else."""

    path: Path
    values: dict[str, str]
    early_stopping: tuple[str, ...]
    recommendations: tuple[str, ...]
    errors: int
    warnings: int

    @property
    def scenario(self) -> str | None:
        """SingleStream, MultiStream, Server or Offline."""
        return self.values.get("Scenario")

    @property
    def mode(self) -> str | None:
        """LoadGen's name: PerformanceOnly, FindPeakPerformance, ..."""
        return self.values.get("Mode")

    @property
    def valid(self) -> bool | None:
        """Whether LoadGen says VALID; None where the test has no result."""
        result = self.values.get("Result is")
        return None if result is None else result == "VALID"

    def number(self, key: str) -> float | None:
        """A line's value as a number; None without it. Raises ValueError for another text."""
        text = self.values.get(key)
        try:
            return None if text is None else float(text)
        except ValueError:
            raise ValueError(f"{self.path}: {key!r} is {text!r}, not a number") from None

    def estimate(self, percentile: str) -> float | None:
        """Early stopping's estimate of a latency percentile ("90", "99"), in seconds."""
        for line in self.early_stopping:
            match = _ESTIMATE.match(line)
            if match and float(match[1]) == float(percentile):
                return int(match[2]) / 1e9
        return None

    @property
    def metric(self) -> float | None:
        """The scenario's official metric with the digits that the summary shows; see `metric`."""
        if self.scenario == "SingleStream":
            return self.estimate("90")
        if self.scenario == "MultiStream":
            return self.estimate("99")
        keys = {"Server": "Completed samples per second", "Offline": "Samples per second"}
        return self.number(keys[self.scenario]) if self.scenario in keys else None


def read_summary(path: Path) -> Summary:
    """Parse a summary. Raises ValueError with file and line for a damaged one."""
    values: dict[str, str] = {}
    paragraphs: dict[str, list[str]] = {"Early Stopping Result": [], "Recommendations": []}
    counts: dict[str, int] = {}
    section: str | None = None
    for number, line in _lines(path):
        title = line.rstrip().rstrip(":")
        closing = _CLOSING.match(line)
        if title in paragraphs:
            section = title
        elif section and line.startswith(" "):
            if line.startswith(" * "):
                paragraphs[section].append(line.strip())
            elif paragraphs[section]:
                paragraphs[section][-1] += " " + line.strip()
        elif closing:
            count = 0 if closing[1].lower() == "no" else int(closing[1])
            kind = closing[2].lower().removesuffix("s")
            counts[kind] = max(count, counts.get(kind, 0))
        else:
            section = None
            match = _VALUE.match(line)
            if match:
                key, value = match[1], match[2]
                if values.setdefault(key, value) != value:
                    raise ValueError(
                        f"{path}:{number}: {key!r} is {value!r} here and {values[key]!r} above"
                    )
    missing = [kind for kind in ("warning", "error") if kind not in counts]
    if missing:
        raise ValueError(
            f"{path}: ends without LoadGen's count of {missing[0]}s; the test did not end by "
            "itself, or the file is not whole"
        )
    return Summary(
        path,
        values,
        tuple(paragraphs["Early Stopping Result"]),
        tuple(line.removeprefix("* ") for line in paragraphs["Recommendations"]),
        counts["error"],
        counts["warning"],
    )


@dataclass(frozen=True)
class Record:
    """One line of mlperf_log_detail.txt; `time` is in milliseconds since the log began,
    None where the line has none."""

    line: int
    key: str
    value: Any
    is_error: bool
    is_warning: bool
    time: float | None


@dataclass(frozen=True)
class Detail:
    """mlperf_log_detail.txt, in the order of its lines."""

    path: Path
    records: tuple[Record, ...]

    @cached_property
    def by_key(self) -> dict[str, list[Record]]:
        """The records of each key."""
        records: dict[str, list[Record]] = {}
        for record in self.records:
            records.setdefault(record.key, []).append(record)
        return records

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of `key`, the one that the submission checker takes."""
        records = self.by_key.get(key)
        return records[0].value if records else default

    def last(self, key: str, default: Any = None) -> Any:
        """The last value of `key`."""
        records = self.by_key.get(key)
        return records[-1].value if records else default

    def all(self, key: str) -> list[Any]:
        """Every value of `key`."""
        return [record.value for record in self.by_key.get(key, [])]

    def number(self, key: str) -> float | None:
        """The first value of `key` as a number; None without it.

        Raises ValueError with file and line for anything that is not one.
        """
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            line = self.by_key[key][0].line
            raise ValueError(f"{self.path}:{line}: {key} is {value!r}, not a number")
        return value

    @property
    def errors(self) -> tuple[Record, ...]:
        """What LoadGen logged as an error."""
        return tuple(r for r in self.records if r.is_error or r.key.startswith("error_"))

    @property
    def warnings(self) -> tuple[Record, ...]:
        """What LoadGen logged as a warning."""
        return tuple(record for record in self.records if record.is_warning)

    @property
    def conflicts(self) -> dict[str, list[Any]]:
        """Settings and results that occur more than once, with different values."""
        return {
            key: [record.value for record in records]
            for key, records in self.by_key.items()
            if key.startswith(_SINGLE) and any(r.value != records[0].value for r in records)
        }


def read_detail(path: Path) -> Detail:
    """Parse a detail log. Raises ValueError with file and line for a damaged one."""
    records = []
    for number, line in _lines(path):
        where = f"{path}:{number}"
        if not line.startswith(MARKER):
            raise ValueError(f"{where}: does not begin with {MARKER}; not a LoadGen detail log")
        try:
            message = json.loads(line.removeprefix(MARKER), object_pairs_hook=once)
        except ValueError as error:
            raise ValueError(f"{where}: is not valid JSON ({error}); the log is damaged") from None
        records.append(_record(message, number, where))
    if not records:
        raise ValueError(f"{path}:1: the file is empty; the test did not start")
    return Detail(path, tuple(records))


def _record(message: Any, number: int, where: str) -> Record:
    try:
        metadata = message["metadata"]
        key, value = message["key"], message["value"]
        is_error, is_warning = metadata["is_error"], metadata["is_warning"]
    except (KeyError, TypeError):
        raise ValueError(
            f"{where}: lacks key, value or metadata's is_error and is_warning"
        ) from None
    if not (isinstance(key, str) and isinstance(is_error, bool) and isinstance(is_warning, bool)):
        raise ValueError(f"{where}: key is not text, or is_error or is_warning is not a boolean")
    time = message.get("time_ms")
    if isinstance(time, bool) or not isinstance(time, int | float | None):
        raise ValueError(f"{where}: time_ms is {time!r}, not a number")
    return Record(number, key, value, is_error, is_warning, time)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold something, counted from 1, without their ends."""
    number = 0
    try:
        with path.open(encoding="utf-8", newline="\n") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{number + 1}: is not UTF-8 text ({error.reason})") from None


@dataclass(frozen=True)
class Metric:
    """A scenario's official figure; `key` is LoadGen's name of it."""

    key: str
    name: str
    value: float
    unit: str
    better: str


_METRICS = {
    "SingleStream": ("early_stopping_latency_ss", "90th percentile latency", "s", "lower"),
    "MultiStream": ("early_stopping_latency_ms", "99th percentile latency", "s", "lower"),
    "Server": ("result_completed_samples_per_sec", "completed images", "images/s", "higher"),
    "Offline": ("result_samples_per_second", "throughput", "images/s", "higher"),
}


def metric(detail: Detail, scenario: str) -> Metric | None:
    """The scenario's official figure, latencies in seconds; None where the test has none.

    Latencies are early stopping's estimates, which LoadGen gives as 0 ns after too few queries.
    Source: RESULT_FIELD_NEW of the submission checker.
    """
    key, name, unit, better = _METRICS[scenario]
    value = detail.number(key)
    if value is None or value <= 0:
        return None
    return Metric(key, name, value / 1e9 if unit == "s" else float(value), unit, better)


def latencies(detail: Detail, scenario: str) -> dict[str, float]:
    """Seconds: mean, and percentiles by name; of queries in MultiStream, of samples otherwise.

    A figure that the log lacks is absent.
    """
    whole = "query_" if scenario == "MultiStream" else ""
    part = "per_query_" if scenario == "MultiStream" else ""
    keys = {"mean": f"result_mean_{whole}latency_ns"} | {
        name: f"result_{float(name):.2f}_percentile_{part}latency_ns" for name in PERCENTILES
    }
    values = {name: detail.number(key) for name, key in keys.items()}
    return {name: value / 1e9 for name, value in values.items() if value is not None}
