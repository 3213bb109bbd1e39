"""Accuracy logs as LoadGen writes them."""

from collections.abc import Sequence

Records = Sequence[tuple[int, bytes]]


def log_text(records: Records) -> bytes:
    """A log of (index, data) as LoadGen 6.0.17 writes it."""
    lines = [
        f'\n{{ "seq_id" : {number}, "qsl_idx" : {index}, "data" : "{data.hex().upper()}" }}'
        for number, (index, data) in enumerate(records)
    ]
    return f"[{','.join(lines)}\n]\n".encode()
