"""The tokens file of a data set, read without loading a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2i.base.arrays import read_arrays, write_arrays


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
    arrays = read_arrays(path)
    try:
        tokens = PromptTokens(**arrays)
    except TypeError as error:
        raise ValueError(f"{path}: not a tokens file ({error}); delete it and run again") from error
    shape, kinds = tokens.first.shape, {array.dtype.kind for array in arrays.values()}
    negatives = tokens.negative_first.shape, tokens.negative_second.shape
    if len(shape) != 2 or tokens.second.shape != shape or negatives != (shape[1:],) * 2:
        raise ValueError(f"{path}: ids of unequal shapes; delete it and run again")
    if kinds != {"i"}:
        raise ValueError(f"{path}: ids that are not integers; delete it and run again")
    return tokens
