"""Arrays in numpy's files, without pickles."""

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


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an npz by name; raises ValueError, which names the file, when it is damaged.

    None asks for all arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # numpy stops where an array's header says, and then the checksum is never compared.
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} has another checksum")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in (arrays.files if names is None else names)}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):  # numpy gives the bytes of any other file
                raise ValueError(f"{name} is not an array")
        return found
    except FileNotFoundError:
        raise
    except Exception as error:  # zip readers raise almost anything on damaged headers
        raise _damaged(path, error) from error


def read_array(path: Path) -> np.ndarray:
    """The array of an npy; raises ValueError, which names the file, when it is damaged."""
    try:
        with path.open("rb") as handle:
            array: np.ndarray = np.lib.format.read_array(handle, allow_pickle=False)
            if handle.read(1):
                raise ValueError("there is more after its array")
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy evaluates the header, with errors of any kind
        raise _damaged(path, error) from error
    return array


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: damaged ({error}); delete it and run again to rebuild it")
