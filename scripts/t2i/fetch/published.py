"""Published sets of training data: tars below one address, with a list of their digests.

The list is what `sha256sum` or `sha512sum` writes. The configuration has the list's own sha256, so
that everything below it is pinned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from t2i.base.files import read_text
from t2i.fetch.table import ALGORITHMS, Source

LINE = re.compile(r"([0-9a-f]{64}|[0-9a-f]{128}) [ *](?:\./)?([^\s/]+)")
BY_DIGITS = {digits: name for name, digits in ALGORITHMS.items()}
LICENCE = "as its publisher says"


class WrongListError(ValueError):
    """A list of digests cannot be read, or lacks a file."""


def list_source(name: str, published: Mapping[str, str]) -> Source:
    """The list of the set `name` as an input; `published` has `address`, `list`, `sha256`."""
    return _source(name, published, published["list"], "sha256", published["sha256"])


def file_source(name: str, published: Mapping[str, str], checksums: Path, file: str) -> Source:
    """A file of the set as an input, by the fetched list; raises WrongListError without it."""
    known = read_list(checksums)
    if file not in known:
        raise WrongListError(f"{checksums}: has no {file} among {len(known)} files")
    return _source(name, published, file, *known[file])


def _source(
    name: str, published: Mapping[str, str], file: str, algorithm: str, digest: str
) -> Source:
    address = f"{published['address'].rstrip('/')}/{file}"
    return Source(f"training/{name}/published/{file}", address, LICENCE, None, algorithm, digest)


def read_list(path: Path) -> dict[str, tuple[str, str]]:
    """Algorithm and digest of each file of a list, by its name.

    Raises WrongListError for a line of another kind, ValueError for a file that is no text.
    """
    found: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise WrongListError(
                f"{path}, line {number}: expected a sha256 or sha512 and a file's name, as "
                f"sha512sum writes them; got {line[:80]!r}"
            )
        digest, file = match.groups()
        if file in found:
            raise WrongListError(f"{path}, line {number}: {file} is there twice")
        found[file] = BY_DIGITS[len(digest)], digest
    return found
