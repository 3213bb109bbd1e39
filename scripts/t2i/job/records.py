"""Records of what jobs made: the digests of a file, and those of what it was made from.

Existence and times tell a scheduler what is finished; a flipped bit with its old time, a file of
another run, or an empty one pass for finished work. So every job writes, after its results, one
record for each: size and sha256, the digests of its inputs and of its parameters, and a digest over
all of that. Records lie in `.records` below `results/{run}` and `resources` and go where those go.
"""

from __future__ import annotations

import json
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from t2i.base.files import read_json, sha256_file, sha256_json, write_json, write_text
from t2i.job.lock import is_locked

FOLDER = ".records"
ASIDE = ".aside"
SCHEMA = 1
# Larger files are recorded by size alone: weights and LoadGen's logs, which have digests in
# config/sources.yaml, engine.json and run.json, and are checked by what reads them.
LARGEST = 1 << 30
TIMESTAMP = ".snakemake_timestamp"  # that Snakemake puts into a folder after the job
NAME_LENGTH = 254  # of a part of Snakemake's names
FACTS = ("size", "sha256")
VERIFIED = Path(".snakemake/t2i-records.json")
COMPARED = Path(".snakemake/t2i-compared")


class RecordError(ValueError):
    """A result is not what the job that made it has recorded."""


# Every record by its result, or what is wrong with it.
Records = dict[Path, dict[str, Any] | RecordError]


def record_of(path: Path) -> Path | None:
    """Where the record of a result lies, by its path relative to the working directory.

    None for what is no result: files outside of `results/{run}` and `resources`.
    """
    parts = path.parts
    depth = {"results": 2, "resources": 1}.get(parts[0] if parts else "", 0)
    if not depth or len(parts) <= depth or FOLDER in parts or ".." in parts:
        return None
    return Path(*parts[:depth], FOLDER, *parts[depth:-1], f"{parts[-1]}.json")


def facts_of(path: Path) -> dict[str, Any]:
    """Size in bytes and sha256 of a file, or of the table of the files in a folder.

    Raises OSError where there is none.
    """
    if not path.is_dir():
        size = path.stat().st_size
        return {"size": size, "sha256": sha256_file(path) if size <= LARGEST else None}
    files = [entry for entry in path.rglob("*") if entry.is_file() and entry.name != TIMESTAMP]
    size = sum(entry.stat().st_size for entry in files)
    if size > LARGEST:
        return {"size": size, "sha256": None}
    table = {entry.relative_to(path).as_posix(): sha256_file(entry) for entry in sorted(files)}
    return {"size": size, "sha256": sha256_json(table)}


def signature_of(path: Path) -> list[Any]:
    """What changes when a file, or a file in a folder, is written to: cheaper than its digest.

    The time of the last change of an inode cannot be set back by a program.
    """
    entries = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]
    found = [entry.stat() for entry in entries]
    return [[one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in found]


def params_digests(params: Mapping[str, Any]) -> dict[str, str]:
    """Digests of a job's parameters: of all, and of those that are not the digest of its code."""
    plain = {name: _plain(value) for name, value in params.items()}
    settings = {name: value for name, value in plain.items() if name != "code"}
    return {"params": sha256_json(plain), "settings": sha256_json(settings)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def write_records(
    rule: str, inputs: Mapping[str, Any], outputs: Iterable[Path], params: Mapping[str, Any]
) -> None:
    """Record a job's results, which exist; `inputs` are the facts of its inputs by path."""
    digests = params_digests(params)
    for path in outputs:
        record = record_of(path)
        if record is not None:
            content = {
                "schema": SCHEMA,
                "path": path.as_posix(),
                "rule": rule,
                **facts_of(path),
                "inputs": dict(inputs),
                **digests,
            }
            write_json(record, {**content, "digest": sha256_json(content)})


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a result, None where it has none.

    Raises RecordError for a record that was changed, or is that of another file.
    """
    record = record_of(path)
    if record is None or not record.is_file():
        return None
    return _read(record, path, lambda made: made == path.as_posix())


def _read(record: Path, path: Path, is_its_name: Callable[[str], bool]) -> dict[str, Any]:
    """The record of `path`; a function says whether the name in it is that of this file."""
    try:
        content = read_json(record)
        digest = content.pop("digest", None)
        sound = digest == sha256_json(content) and is_its_name(content["path"])
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        sound = False
    if not sound:
        raise RecordError(f"{path}: its record {record} was changed, or is another file's")
    return dict(content)


def check_in(folder: Path, name: str) -> Path:
    """The path of a result in a run's folder, wherever that lies: what its record says.

    Raises RecordError for another content or no record, OSError where there is no such file.
    """
    path, record = folder / name, folder / FOLDER / f"{name}.json"
    path.stat()  # which says what is missing
    if not record.is_file():
        raise RecordError(f"{path} has no record; copy {folder / FOLDER} with it, or run it again")
    in_run = Path(name).parts  # below results/{run}, whatever the run's name was
    _compare(path, _read(record, path, lambda made: Path(made).parts[2:] == in_run))
    return path


def check(path: Path) -> dict[str, Any] | None:
    """Facts of a result that is what its record says; None for one without a record.

    Raises RecordError otherwise, OSError where there is no such file.
    """
    content = read_record(path)
    return None if content is None else _compare(path, content)


def _compare(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    wanted, found = {key: content[key] for key in FACTS}, facts_of(path)
    if wanted != found:
        raise RecordError(
            f"{path} is not what {content['rule']} made: size {found['size']} and sha256 "
            f"{found['sha256']}, recorded are {wanted['size']} and {wanted['sha256']}"
        )
    return wanted


def all_records(roots: Iterable[Path]) -> Records:
    """The records below the roots, also of results that are lost, but not of those set aside."""
    found: Records = {}
    for root in roots:
        folder = root / FOLDER
        for record in sorted(folder.rglob("*.json")):
            path = root / record.relative_to(folder).with_suffix("")
            if not path.name.endswith(ASIDE):
                try:
                    content = read_record(path)
                except RecordError as error:
                    found[path] = error
                else:
                    found |= {path: content} if content else {}
    return found


def damage_of(path: Path, content: Mapping[str, Any], verified: dict[str, Any]) -> str | None:
    """In what a result has changed since it was recorded.

    `verified` holds the signatures of files whose digests were found right, and gets more.
    """
    try:
        known = [signature_of(path), content["sha256"]]
        if verified.get(str(path)) != known:
            _compare(path, content)
            verified[str(path)] = known
    except (OSError, RecordError) as error:
        return str(error)
    return None


def other_input(content: Mapping[str, Any], records: Records) -> str | None:
    """An input of a result that is recorded with other content now."""
    for name, facts in content["inputs"].items():
        now = records.get(Path(name))  # a damaged record is its own result's problem
        if isinstance(now, dict) and {key: now[key] for key in FACTS} != facts:
            return str(name)
    return None


def set_aside(path: Path) -> Path:
    """Rename a result and its record, so that it counts as missing; its new name."""
    aside = path.with_name(f"{path.name}{ASIDE}")
    if aside.is_dir():
        shutil.rmtree(aside)
    path.replace(aside)
    record, other = record_of(path), record_of(aside)
    if record is not None and other is not None and record.exists():
        record.replace(other)
    return aside


def was_set_aside(path: Path) -> bool:
    """Whether this is a result that `set_aside` has renamed."""
    record = record_of(path)
    return path.name.endswith(ASIDE) and record is not None and record.exists()


def made_from(records: Records, sources: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Results that were made from `sources`, or from what was, each with the one before it."""
    uses: dict[Path, list[Path]] = {}
    for path, content in records.items():
        for name in content["inputs"] if isinstance(content, dict) else ():
            uses.setdefault(Path(name), []).append(path)
    found: dict[Path, Path] = {}
    waiting = list(sources)
    while waiting:
        source = waiting.pop()
        for path in uses.get(source, []):
            if path not in found:
                found[path] = source
                waiting.append(path)
    return sorted(found.items())


def _set_aside_made_from(records: Records, sources: list[Path], dry: bool) -> list[str]:
    """Set aside what was made from results that are; Snakemake would not miss these by themselves.

    It makes a lost file again where something needs it, and takes what is newer for finished.
    """
    problems = []
    for path, source in made_from(records, sources):
        if path.exists() and path not in sources:
            problems.append(f"{path} was made from {source}, which is no longer right")
            if not dry:
                set_aside(path)
    return problems


def set_aside_changed(roots: Iterable[Path], dry: bool = False) -> list[str]:
    """Set recorded results aside that are not what was recorded; what was wrong with each.

    A scheduler would take them for finished. Nothing is touched while another run holds Snakemake's
    lock, and nothing at all by a `dry` run.
    """
    present = [root for root in roots if (root / FOLDER).is_dir()]
    if not present or is_locked():
        return []
    try:
        verified = dict(read_json(VERIFIED))
    except (OSError, TypeError, ValueError):
        verified = {}
    before, problems, outdated = dict(verified), [], []
    records = all_records(present)
    for path, content in records.items():
        if not path.exists():
            continue
        if isinstance(content, RecordError):
            problem: str | None = str(content)
        else:
            problem = damage_of(path, content, verified)
            if problem is None and (other := other_input(content, records)) is not None:
                problem = f"{path} was made from another {other} than is there now"
                outdated.append(path)
        if problem is not None:
            problems.append(problem)
            if not dry:
                set_aside(path)
    problems += _set_aside_made_from(records, outdated, dry)
    if verified != before and not dry:
        write_json(VERIFIED, verified)
    return problems


def _stored(kind: str, path: Path) -> Path:
    """Snakemake's own file of a kind (`metadata`, `incomplete`) about a result."""
    name = urlsafe_b64encode(path.as_posix().encode()).decode()
    parts = [name[start : start + NAME_LENGTH] for start in range(0, len(name), NAME_LENGTH)]
    return Path(".snakemake", kind, *(f"@{part}" for part in parts[:-1]), parts[-1])


def has_metadata(path: Path) -> bool:
    """Whether Snakemake knows by itself with which parameters a result was made."""
    try:
        json.loads(_stored("metadata", path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def unmark_finished(roots: Iterable[Path]) -> list[Path]:
    """Take Snakemake's mark of an unfinished job from results that are as they were recorded.

    A job records its results last of all. A scheduler that was stopped before it noticed would
    otherwise delete them, and make them again. Returns whose marks are gone. Nothing is touched
    while another run holds the lock.
    """
    marks = Path(".snakemake/incomplete").rglob("*")
    if not any(mark.is_file() for mark in marks) or is_locked():
        return []
    found = []
    for path, content in all_records(roots).items():
        mark = _stored("incomplete", path)
        if mark.is_file() and isinstance(content, dict) and damage_of(path, content, {}) is None:
            mark.unlink()
            found.append(path)
    return found


def state_of(config: Any, library: Path) -> str:
    """A digest of a configuration and of the project's Python files."""
    files = {str(path): sha256_file(path) for path in sorted(library.rglob("*.py"))}
    return sha256_json([config, files])


def set_aside_unknown(
    roots: Iterable[Path], targets: Iterable[Path], state: str, dry: bool = False
) -> str | None:
    """Set the last results (`targets`) aside where Snakemake's own records are lost; what is wrong.

    What they need is then planned, and `set_aside_foreign` looks at all of it; otherwise Snakemake
    would find nothing to be done, whatever the configuration says now. That is done once for a
    `state` (`state_of`), which `remember_compared` has noted.
    """
    if COMPARED.is_file() and COMPARED.read_text() == state:
        return None
    there = [path for path in targets if record_of(path) is not None and path.exists()]
    if not there or is_locked():
        return None
    records = all_records(roots)
    unknown = (path for path in records if path.exists() and not has_metadata(path))
    lost = next(unknown, None) or next((path for path in there if path not in records), None)
    if lost is None:
        return None
    if not dry:
        for path in there:
            set_aside(path)
    return f"Snakemake's record of {lost} is lost; every result's parameters are compared"


def remember_compared(state: str) -> None:
    """Note that all results were compared with a configuration."""
    write_text(COMPARED, state)


def set_aside_foreign(jobs: Iterable[Any], roots: Iterable[Path]) -> list[str]:
    """Set aside results of Snakemake's jobs that nobody recorded, or with other parameters.

    And what was made from them. `jobs` are those that Snakemake takes for finished. It knows their
    parameters itself while it has its own records, and their files; without these, results of
    another configuration would pass for this one's.
    """
    problems, foreign, records = [], [], all_records(roots)
    for job in jobs:
        digests = params_digests(dict(job.params.items()))
        for path in (path for path in map(Path, job.output) if record_of(path) is not None):
            content = records.get(path)
            # What was made from a file that was freed since stays, whatever becomes of its code.
            compared = ("params",) if path.exists() else ("settings",)
            if content is None and path.exists():
                problems.append(f"{path}: nothing says what made it")
            elif isinstance(content, RecordError):
                problems.append(str(content))
            elif content and any(content[key] != digests[key] for key in compared):
                problems.append(f"{path}: {content['rule']} made it with other parameters")
            else:
                continue
            foreign.append(path)
            if path.exists():
                set_aside(path)
    return problems + _set_aside_made_from(records, foreign, dry=False)
