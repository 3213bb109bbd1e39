"""A folder that serves other machines as `mirror`: inputs under their names, and their digests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from t2i.base.files import sha256_file, write_text

LIST = "SHA256SUMS"


def write_mirror(resources: Path, names: Iterable[str], folder: Path) -> None:
    """Put inputs of `resources` below `folder` too, and their list last.

    Files are hard links where the file system can, so that a mirror costs no space. The list is
    one for `sha256sum -c`.
    """
    names = sorted(names)
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(resources / name, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(resources / name, target)
    write_list(folder, names)


def write_list(folder: Path, names: Iterable[str]) -> None:
    """Write a folder's list of digests, one line for each file of `names`."""
    lines = (f"{sha256_file(folder / name)}  {name}\n" for name in sorted(names))
    write_text(folder / LIST, "".join(lines))


def download_wheels(locks: list[Path], folder: Path) -> None:
    """Bring every package of the lock files into a folder, for `pip --no-index --find-links`.

    The files are those for this Python and this machine. A package that is published as source
    is built, since building it later would want a network too. Raises CalledProcessError when pip
    fails.
    """
    requirements = [word for lock in locks for word in ("--requirement", str(lock))]
    pip = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements, "--wheel-dir", str(folder)], check=True)
    write_list(folder, (path.name for path in folder.iterdir() if path.name != LIST))
