"""COCO's caption annotations, from a JSON file or straight out of the published zip.

pycocotools indexes them. On its own it reads only a path, so that the zip had to be unpacked for
it, and its index keeps one of two entries with the same id without a word: so it gets the document
that was read and checked here.
"""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

MAX_BYTES = 2 << 30  # of the JSON text; COCO-2014's are 32 and 66 MB
VALIDATION = "annotations/captions_val2014.json"
TRAINING = "annotations/captions_train2014.json"
KEYS: dict[str, dict[str, type]] = {
    "annotations": {"id": int, "image_id": int, "caption": str},
    "images": {"id": int, "height": int, "width": int, "file_name": str, "coco_url": str},
}


class AnnotationsError(ValueError):
    """An annotations file cannot be read, or does not hold what it should."""


def read_annotations(path: Path, member: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The lists `annotations` and `images` of a caption file in COCO's format.

    `path` is JSON, or a zip whose file `member` is; nothing is unpacked to the disk. Every entry
    has the keys of `KEYS` and its own id. Raises AnnotationsError, which names file and
    member, otherwise.
    """
    where = f"{path}" if member is None else f"{path}, {member}"
    data = _read_limited(path, where) if member is None else _read_member(path, member, where)
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AnnotationsError(f"{where}: not valid JSON ({error})") from error
    if mistake := _mistake(table):
        raise AnnotationsError(f"{where}: {mistake}")
    index = COCO()
    index.dataset = {part: table[part] for part in KEYS}
    index.createIndex()
    return {
        "annotations": index.loadAnns(index.getAnnIds()),
        "images": index.loadImgs(index.getImgIds()),
    }


def _read_limited(path: Path, where: str) -> bytes:
    _check_size(path.stat().st_size, where)
    return path.read_bytes()


def _check_size(size: int, where: str) -> None:
    if size > MAX_BYTES:
        raise AnnotationsError(f"{where}: {size} bytes exceed the limit of {MAX_BYTES}")


def _read_member(path: Path, member: str, where: str) -> bytes:
    """Content of a zip's file; zipfile compares its CRC-32 and never reads past its stated size."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [entry for entry in archive.infolist() if entry.filename == member]
            if len(members) != 1:
                raise AnnotationsError(f"{where}: the zip has {len(members)} files with that name")
            if stat.S_IFMT(members[0].external_attr >> 16) not in (0, stat.S_IFREG):
                raise AnnotationsError(f"{where}: not a plain file")
            _check_size(members[0].file_size, where)
            return archive.read(members[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise AnnotationsError(f"{where}: damaged or unreadable ({error})") from error


def _mistake(table: Any) -> str | None:
    """What is wrong with the content of a caption file."""
    if not isinstance(table, dict):
        return "expected an object with the lists annotations and images"
    for part, keys in KEYS.items():
        entries = table.get(part)
        if not isinstance(entries, list) or not entries:
            return f"expected a list {part!r} that is not empty"
        ids = set()
        for number, entry in enumerate(entries):
            if mistake := _entry_mistake(entry, keys):
                return f"{part}[{number}]: {mistake}"
            if entry["id"] in ids:
                return f"{part}[{number}]: duplicate id {entry['id']}"
            ids.add(entry["id"])
    return None


def _entry_mistake(entry: Any, keys: dict[str, type]) -> str | None:
    if not isinstance(entry, dict):
        return f"expected an object, got {entry!r:.50}"
    for key, kind in keys.items():
        value = entry.get(key)
        if type(value) is not kind:
            word = "text" if kind is str else "a whole number"
            return f"expected {key} to be {word}, got {value!r:.50}"
        if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
            return f"{key} holds half a surrogate pair, which UTF-8 cannot hold: {value!r:.50}"
    return None
