"""Files that are almost right: another byte, a cut, lines or values that changed places or kind."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**30, 1e300, "", "x", "\x00", "\u2028", "../x", "/", "nan"),
    *([], [None], {}, {"x": 1}),
)


def mutant(content: bytes, kind: str, choose: random.Random) -> bytes:
    """Another content of a file; `kind` is json, yaml, lines or npz, or anything for bytes alone.

    Half of them still have the file's form, so that what reads the form is passed.
    """
    change = FORMS.get(kind)
    if change is None or choose.random() < 0.5:
        return _bytes(content, choose)
    return change(content, choose)


def _bytes(content: bytes, choose: random.Random) -> bytes:
    """Bits, bytes, cuts, pieces that are left out, doubled or taken from elsewhere."""
    new = bytearray(content)
    for _ in range(choose.choice((1, 1, 1, 2, 5))):
        place = choose.randrange(len(new) + 1)
        end = min(len(new), place + choose.choice((1, 1, 2, 8, 100)))
        way = choose.randrange(6)
        if way == 0 and place < len(new):
            new[place] ^= 1 << choose.randrange(8)
        elif way == 1:
            new[place:end] = bytes(
                choose.choice(b'\x00\xff\n"{[,:09-. \x80') for _ in range(end - place)
            )
        elif way == 2:
            del new[place:end]
        elif way == 3:
            new[place:place] = new[place:end]
        elif way == 4:
            other = choose.randrange(len(new) + 1)
            new[place:end] = new[other : other + end - place]
        else:
            del new[place:]
    return bytes(new)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a value with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, Any]] = []
    for key, each in list(pairs):
        found.append((value, key))
        if isinstance(each, (dict, list)):
            found += _places(each)
    return found


def changed_value(value: Any, choose: random.Random) -> Any:
    """JSON in which one value, changed in place, is another's, of another kind, doubled or gone."""
    if not isinstance(value, (dict, list)) or not value:
        return choose.choice(ODD)
    places = _places(value)
    holder, key = choose.choice(places)
    way = choose.randrange(5)
    if way == 0:
        del holder[key]
    elif way == 1:
        other, there = choose.choice(places)
        holder[key] = json.loads(json.dumps(other[there]))
    elif way == 2 and isinstance(holder, dict):
        holder[choose.choice(("", "x", 7, f"{key}x"))] = holder.pop(key)
    elif way == 3 and isinstance(holder[key], (int, float)):
        holder[key] = choose.choice((-holder[key], holder[key] * 10**9, str(holder[key]), 0))
    else:
        holder[key] = choose.choice(ODD)
    return value


def _json(content: bytes, choose: random.Random) -> bytes:
    if choose.random() < 0.05:
        return json.dumps(choose.choice(ODD)).encode()
    return json.dumps(changed_value(json.loads(content), choose)).encode()


def _lines(content: bytes, choose: random.Random) -> bytes:
    """Lines that are gone, doubled, exchanged, or in which a word is another."""
    lines = content.splitlines(keepends=True)
    one, other = (choose.randrange(len(lines)) for _ in range(2))
    way = choose.randrange(5)
    if way == 0:
        del lines[one]
    elif way == 1:
        lines.insert(one, lines[other])
    elif way == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif way == 3:
        lines[one] = _bytes(lines[one], choose)
    else:
        words = lines[one].split(b" ")
        words[choose.randrange(len(words))] = str(choose.choice(ODD)).encode()
        lines[one] = b" ".join(words)
    return b"".join(lines)


def _json_lines(content: bytes, choose: random.Random) -> bytes:
    """Lines with JSON after a mark, one of which holds another value."""
    lines = content.splitlines(keepends=True)
    number = choose.randrange(len(lines))
    mark, brace, rest = lines[number].partition(b"{")
    try:
        changed = _json(brace + rest, choose)
    except ValueError:
        return _lines(content, choose)
    lines[number] = mark + changed + b"\n"
    return b"".join(lines)


def _npz(content: bytes, choose: random.Random) -> bytes:
    """A member with another name or content, and a right checksum."""
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(new, "w") as archive:
        names = old.namelist()
        hit = choose.choice(names)
        for name in names:
            member = old.read(name)
            if name != hit:
                archive.writestr(name, member)
            elif choose.random() < 0.1:
                archive.writestr(choose.choice(("x.npy", name[:-1], "../x.npy")), member)
            else:
                head, tail = member[:128], member[128:]
                archive.writestr(name, _bytes(head, choose) + tail)
    return new.getvalue()


FORMS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _json,
    "lines": _lines,
    "json lines": _json_lines,
    "npz": _npz,
}
