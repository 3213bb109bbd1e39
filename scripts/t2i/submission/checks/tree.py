"""Rules on a submission's files: what is there, what is not, and whether it is still the same."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from t2i.base.check import CHECKER, OURS, RULES, Finding, Rule, listed
from t2i.base.files import files_of, sha256_file
from t2i.mlperf import AUDITS, ROUNDS
from t2i.submission.layout import Layout

LARGEST = 50_000_000  # bytes, from which on the repositories of results warn of a file
SECRETS = {
    "a private key": re.compile("-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "a token of GitHub": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,})"
    ),
    "a key of AWS": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a password in an address": re.compile(r"\w+://[^/\s:@]+:[^/\s@]+@"),
}
PLACE = re.compile(
    r"(?<![\w.])/(?:home|root|Users|tmp|mnt|scratch|data|work|opt|var|srv)/[^\s'\"`]*"
    r"|(?:https?|ftp|file)://(?:localhost|127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.)[^\s'\"`]*"
    r"|file:///[^\s'\"`]*"
)


@dataclass(frozen=True)
class TreeFiles:
    """A tree and what it should hold. `ids` are the samples whose images are shown, `digests` the
    size and sha256 of each file when the tree was built (None: not known), `others` further systems
    of the tree, whose files are not looked at."""

    tree: Path
    layout: Layout
    system_type: str
    scenarios: Sequence[str]
    ids: Sequence[int]
    digests: Mapping[str, Mapping[str, Any]] | None
    others: Sequence[Layout] = ()

    @cached_property
    def there(self) -> list[PurePosixPath]:
        """Every file of the tree that is not another system's."""
        return [
            path
            for path in files_of(self.tree)
            if not any(other.owns(path, self.layout) for other in self.others)
        ]

    def required(self) -> Iterator[PurePosixPath]:
        """Files that must be there."""
        yield self.layout.description
        for scenario in self.scenarios:
            yield from self.layout.required(self.tree, scenario)
            images = self.layout.results(scenario) / "accuracy" / "images"
            yield from (images / f"{index}.png" for index in self.ids)
            if self.layout.division == "closed":
                for test in AUDITS:
                    yield from self.layout.required_of(scenario, test)

    def descriptions(self) -> set[PurePosixPath]:
        """The files in JSON that describe the system and its measurements."""
        measured = (self.layout.measurements(self.tree, name) for name in self.scenarios)
        return {self.layout.description, *measured}

    def allowed(self) -> Iterator[PurePosixPath]:
        """Other files that may be there."""
        yield from self.layout.optional_files()
        for scenario in self.scenarios:
            yield from self.layout.optional(scenario)
            if self.layout.division != "closed":
                for test in AUDITS:
                    yield from self.layout.required_of(scenario, test)


def _missing(files: TreeFiles) -> Finding:
    there = set(files.there)
    return listed((str(path) for path in files.required() if path not in there), "none")


def _unknown(files: TreeFiles) -> Finding:
    known = {*files.required(), *files.allowed()}
    own = files.layout.anything_below()
    problems = (
        str(path)
        for path in files.there
        if path not in known and not any(path.is_relative_to(folder) for folder in own)
    )
    return listed(problems, "none")


def _empty(files: TreeFiles) -> Finding:
    may_be = {".gitkeep", *(() if files.ids else ("captions.txt",))}  # a short run shows no image
    problems = (
        str(path)
        for path in files.there
        if path.name not in may_be and not _says_something(files.tree / path)
    )
    return listed(problems, "none")


def _says_something(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return True  # which is judged as a link
    with path.open("rb") as handle:
        return bool(handle.read(4096).strip())


def odd_files(tree: Path) -> Iterator[str]:
    """What is not a regular file: links, files with a second name, pipes and the like."""
    for path in sorted(tree.rglob("*")):
        facts, name = path.lstat(), path.relative_to(tree)
        if stat.S_ISLNK(facts.st_mode):
            yield f"{name}: a link"
        elif stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1:
            yield f"{name}: has {facts.st_nlink} names; an edit elsewhere changes it"
        elif not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
            yield f"{name}: neither a file nor a folder"


def empty_folders(tree: Path) -> Iterator[str]:
    """Folders that hold nothing."""
    folders = (path for path in sorted(tree.rglob("*")) if path.is_dir() and not path.is_symlink())
    yield from (f"{p.relative_to(tree)}/: empty" for p in folders if not any(p.iterdir()))


def _links(files: TreeFiles) -> Finding:
    return listed(odd_files(files.tree), "none")


def _folders(files: TreeFiles) -> Finding:
    return listed(empty_folders(files.tree), "none")


def _sizes(files: TreeFiles) -> Finding:
    sizes = ((path, (files.tree / path).lstat().st_size) for path in files.there)
    problems = (f"{path}: {size} bytes" for path, size in sizes if size > LARGEST)
    return listed(problems, f"at most {LARGEST} bytes each")


def _texts(files: TreeFiles) -> Iterator[tuple[PurePosixPath, str]]:
    """The files that a submitter writes, as texts; logs and images are LoadGen's and the model's.

    Raises ValueError for one that is not text.
    """
    written = [".py", ".md", ".yaml", ".yml", ".conf", ".sh", ".toml", ".cfg", ".adoc"]
    for path in files.there:
        own = path.is_relative_to(files.layout.source)
        if not own and path.suffix not in written and path not in files.descriptions():
            continue
        if not (files.tree / path).is_file() or (files.tree / path).stat().st_size > LARGEST:
            continue
        try:
            text = (files.tree / path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not UTF-8 text") from error
        if "\0" in text:
            raise ValueError(f"{path}: is not text: it contains zero bytes")
        yield path, text


def _secrets(files: TreeFiles) -> Finding:
    secrets = (
        f"{path}: {what}"
        for path, text in _texts(files)
        for what, pattern in SECRETS.items()
        if pattern.search(text)
    )
    return listed(secrets, "none")


def _deep(files: TreeFiles, path: PurePosixPath) -> bool:
    """Whether a file is source code, below the pages and the configuration of the code folder; a
    container's definition names its own folders."""
    code = files.layout.code
    return path.is_relative_to(code) and len(path.relative_to(code).parts) > 1


def _places(files: TreeFiles) -> Finding:
    places = (
        f"{path}: {match[0][:60]!r}"
        for path, text in _texts(files)
        if not _deep(files, path) and (match := PLACE.search(text))
    )
    return listed(places, "none")


def _source(files: TreeFiles) -> Finding:
    below = [path for path in files.there if path.is_relative_to(files.layout.source)]
    problems = [] if below else [f"{files.layout.source}/: no file there"]
    return listed(problems, f"{len(below)} files in {files.layout.source}/")


def _scenarios(files: TreeFiles) -> Finding:
    folder = files.tree / files.layout.scenarios
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    problems = [f"{name}: missing" for name in files.scenarios if name not in present]
    problems += [f"{name}: not asked for" for name in sorted(present - set(files.scenarios))]
    return listed(problems, ", ".join(files.scenarios))


def _category(files: TreeFiles) -> Finding:
    known = ROUNDS[files.layout.round].datacenter or files.system_type != "datacenter"
    if known or files.layout.division == "open":
        return Finding(f"{files.system_type}, round {files.layout.round}", True)
    return Finding(f"no datacenter benchmark in round {files.layout.round}", False)


def _unchanged(files: TreeFiles) -> Finding:
    if files.digests is None:
        return Finding("no digests were recorded", None)
    there = {str(path) for path in files.there}
    problems = [f"{path}: gone" for path in sorted(files.digests.keys() - there)]
    problems += [f"{path}: new" for path in sorted(there - files.digests.keys())]
    for path in sorted(there & files.digests.keys()):
        if sha256_file(files.tree / path) != files.digests[path]["sha256"]:
            problems.append(f"{path}: changed")
    return listed(problems, f"{len(there)} files")


TREE_RULES = (
    Rule("category", "the benchmark is one of the round's in this category", CHECKER, _category),
    Rule("scenarios", "every scenario is there that must be, and no other", CHECKER, _scenarios),
    Rule("files.missing", "no required file is missing", CHECKER, _missing),
    Rule("files.unknown", "no file is there that has no place in a submission", RULES, _unknown),
    Rule("files.empty", "no file is empty or blank", CHECKER, _empty),
    Rule("files.links", "nothing is a link, and no file has a second name", OURS, _links),
    Rule("files.folders", "no folder is empty", OURS, _folders),
    Rule("files.size", f"no file is larger than {LARGEST} bytes", OURS, _sizes),
    Rule("files.secrets", "what the submitter writes is text, without keys", OURS, _secrets),
    Rule("files.places", "the tree contains no local path or address", OURS, _places),
    Rule("files.unchanged", "no file has changed since the tree was built", OURS, _unchanged),
    Rule("source", "there is source code where the round wants it", CHECKER, _source),
)
