"""Changing single values of LoadGen's logs."""

import json
import re
from pathlib import Path
from typing import Any

DETAIL, SUMMARY, LOG = "mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_accuracy.json"


def read_detail(path: Path) -> list[dict[str, Any]]:
    """The messages of a detail log."""
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in path.read_text().splitlines()]


def write_detail(path: Path, messages: list[dict[str, Any]]) -> None:
    """Write the messages of a detail log."""
    path.write_text("".join(f":::MLLOG {json.dumps(message)}\n" for message in messages))


def set_detail(path: Path, key: str, value: Any) -> None:
    """Change the value of a key of a detail log; None takes the key out."""
    messages = read_detail(path)
    assert any(message["key"] == key for message in messages), key
    for message in messages:
        if message["key"] == key:
            message["value"] = value
    write_detail(path, [m for m in messages if m["key"] != key or value is not None])


def set_summary(path: Path, label: str, text: str) -> None:
    """Change what stands behind `label` in a summary."""
    pattern = re.compile(rf"^(\s*{re.escape(label)}\s*:\s?).*$", re.M)
    changed, times = pattern.subn(lambda match: match.group(1) + text, path.read_text())
    assert times, label
    path.write_text(changed)


def add_error(path: Path, text: str = "something broke") -> None:
    """Add an error line to a detail log."""
    messages = read_detail(path)
    error = {**messages[-1], "key": "error_runtime", "value": text}
    error["metadata"] = {**messages[-1]["metadata"], "is_error": True}
    write_detail(path, [*messages, error])
