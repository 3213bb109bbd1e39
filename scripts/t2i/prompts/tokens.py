"""The tokens file of a data set, read without loading a tokenizer."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2i.base.arrays import write_arrays


@dataclass(frozen=True)
class PromptTokens:
    """What a tokens file holds: ids (captions, 77) int64 of the captions, (77,) of the negative."""

    first: np.ndarray
    second: np.ndarray
    negative_first: np.ndarray
    negative_second: np.ndarray

    def begin(self, number: int) -> PromptTokens:
        """The first captions, at most so many."""
        first, second = self.first[:number], self.second[:number]
        return PromptTokens(first, second, self.negative_first, self.negative_second)


def write_tokens(path: Path, tokens: PromptTokens) -> None:
    """Publish a tokens file (npz, no pickles)."""
    write_arrays(path, vars(tokens))


def read_tokens(path: Path) -> PromptTokens:
    """Read a tokens file; raises ValueError when it is damaged or not one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return PromptTokens(**{name: archive[name] for name in archive.files})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a tokens file ({error}); delete it and run again") from error
