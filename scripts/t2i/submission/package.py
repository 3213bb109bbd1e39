"""One package of the submission trees of several systems and divisions, as it is handed in."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from t2i.base.check import FAIL, PASS, Check
from t2i.base.files import files_of, publish, read_json, sha256_file
from t2i.submission.discover import judge_tree, summary
from t2i.submission.layout import BUILT, CHECKED, TREE


def pack(variants: Sequence[Path], package: Path) -> list[str]:
    """Pack the submissions of variants' folders into a .tar.gz; return the names of its files.

    Every tree is checked again beside its run, and the merged one as a whole. The same trees give
    the same bytes. Raises ValueError for a submission that has not passed or has changed, for a
    rehearsal, and for two files of one name whose contents differ.
    """
    with tempfile.TemporaryDirectory(dir=package.parent) as name:
        merged = Path(name)
        for variant in variants:
            _require_passed(variant)
            _merge(variant / TREE, merged)
        _require(judge_tree(merged), "the merged tree")
        names = [str(path) for path in files_of(merged)]
        with (
            publish(package) as part,
            part.open("wb") as handle,
            gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in names:
                _add(archive, merged / path, path)
    return names


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = path.stat().st_size, 0o644
    with path.open("rb") as handle:
        archive.addfile(entry, handle)


def _require_passed(variant: Path) -> None:
    path = variant / CHECKED
    if not path.is_file():
        raise ValueError(f"{path}: missing; run the workflow to its end first")
    result = read_json(path)
    if result["verdict"] != PASS:
        raise ValueError(f"{path}: the verdict is {result['verdict']}: {result['summary']}")
    if read_json(variant / BUILT)["request"]["settings"].get("stand_in"):
        raise ValueError(f"{variant}: a rehearsal without a model; there is nothing to hand in")
    _require(judge_tree(variant / TREE, variant), str(variant / TREE))


def _require(checks: Sequence[Check], what: str) -> None:
    failed = [check for check in checks if check.verdict == FAIL]
    if failed:
        raise ValueError(f"{what} does not pass:\n{summary(failed, True)}")


def _merge(tree: Path, merged: Path) -> None:
    for name in files_of(tree):
        source, target = tree / name, merged / name
        if target.exists() and sha256_file(source) != sha256_file(target):
            raise ValueError(
                f"{tree / name}: another system of the package has a different file of this name; "
                "give each system its own name (submission.system)"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
