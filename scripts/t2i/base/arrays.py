"""Arrays in npz files, without pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from t2i.base.files import publish


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Publish arrays by name as an npz."""
    with publish(path) as part, part.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of an npz by name; raises ValueError, which names the file, when it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            # numpy stops where an array's header says, and then the checksum is never compared.
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} has another checksum")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except FileNotFoundError:
        raise
    except Exception as error:  # zip readers raise almost anything on damaged headers
        raise ValueError(
            f"{path}: damaged ({error}); delete it and run again to rebuild it"
        ) from error
