"""A data set of prompts of one's own: one a line, with a latent and ids to show."""

from __future__ import annotations

from pathlib import Path

from t2i.base.files import decoded
from t2i.prompts.captions import Caption

MOST = 9_999_999
SHOWN = 10  # samples whose images a submission shows


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file, one a line, without outer white space; empty lines are left out.

    Raises ValueError, which names file and line, for what is not UTF-8, and for no prompt or too
    many; OSError for a file that cannot be read.
    """
    text = decoded(path.read_bytes(), path, "utf-8-sig")
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path}:{number}: a zero byte; this is no text file")
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not 0 < len(prompts) <= MOST:
        raise ValueError(f"{path}: {len(prompts)} prompts; there must be 1 to {MOST:,}")
    return prompts


def own_captions(prompts: list[str]) -> list[Caption]:
    """Captions that belong to no picture, with their row as id."""
    return [Caption(n, n, prompt, 1, 1, f"{n}", "none") for n, prompt in enumerate(prompts)]


def shown_ids(count: int) -> list[int]:
    """Up to ten samples whose images a submission shows, spread evenly, chosen by nobody."""
    shown = min(SHOWN, count)
    return [(2 * k + 1) * count // (2 * shown) for k in range(shown)]
