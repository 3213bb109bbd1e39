"""Rules on a submission beside the run that made it: every file of it must be the file of the run.

What LoadGen wrote was digested when each test ended (run.json), and everything else is made again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from t2i.base.check import OURS, Check, Finding, Rule, judge, listed
from t2i.base.files import file_table, files_of, read_json, sha256_bytes, sha256_file
from t2i.base.images import decode_png
from t2i.loadgen.accuracy_log import accuracy_text, truncate
from t2i.mlperf import ACCURACY_LOG, AUDITS
from t2i.submission.checks.mending import explained
from t2i.submission.checks.tree import empty_folders, odd_files
from t2i.submission.tree import TreeRequest, recorded_request, source_folder, tree_table

SNAKEMAKE = ".snakemake_timestamp"  # which it writes into folders that are outputs
MODES = ("performance", "accuracy", *AUDITS)


@dataclass(frozen=True)
class Run:
    """A tree, the loadgen/ folder it was made of, and submission_files.json (`built`)."""

    tree: Path
    loadgen: Path
    built: Mapping[str, Any]

    @cached_property
    def request(self) -> TreeRequest:
        """What the tree was made of."""
        return recorded_request(self.built["request"])

    def folders(self) -> Iterator[Path]:
        """The folders of LoadGen's tests."""
        for scenario in self.request.scenarios:
            folders = (self.loadgen / scenario / mode for mode in MODES)
            yield from (folder for folder in folders if (folder / "run.json").is_file())


def _originals(run: Run) -> Finding:
    problems, count = [], 0
    for folder in run.folders():
        where = folder.relative_to(run.loadgen)
        digests = read_json(folder / "run.json").get("files")
        if not digests:
            problems.append(f"{where}/run.json: names no files; run the test again")
            continue
        for name, facts in digests.items():
            count += 1
            path = folder / name
            if not path.is_file():
                if name != ACCURACY_LOG:  # which `keep_logs: false` removes
                    problems.append(f"{where}/{name}: gone")
            elif path.stat().st_size != facts["size"] or sha256_file(path) != facts["sha256"]:
                problems.append(f"{where}/{name}: changed since the test ended")
    if not count and not problems:
        problems.append(f"{run.loadgen.name}/: holds no test")
    return listed(problems, f"{count} files as they were when each test ended")


def _files(run: Run) -> Finding:
    wanted = tree_table(run.loadgen, run.request)
    source = source_folder(run.request)
    built: Mapping[str, Any] = run.built["files"]
    # The workflow may have been edited since; what ran is what was there then.
    own = {path for path in wanted.keys() | built.keys() if _below(path, source)}
    wanted = {path: facts for path, facts in wanted.items() if path not in own}
    wanted |= {path: built[path] for path in own & built.keys()}
    table = file_table(run.tree)
    there = {str(path) for path in files_of(run.tree)}
    problems = [f"{path}: missing" for path in sorted(wanted.keys() - there)]
    problems += [f"{path}: not made by the run" for path in sorted(there - wanted.keys())]
    problems += [
        f"{path}: not as the run makes it"
        for path in sorted(wanted.keys() & there)
        if table.get(path) != wanted[path]
    ]
    problems += [*odd_files(run.tree), *empty_folders(run.tree)]
    return listed(problems, f"{len(wanted)} files")


def _below(path: str, folder: PurePosixPath) -> bool:
    return PurePosixPath(path).is_relative_to(folder) and PurePosixPath(path) != folder


def _scores(run: Run) -> Finding:
    problems = []
    for scenario in run.request.scenarios:
        folder = run.loadgen / scenario / "scores"
        score = read_json(folder / "accuracy.json")
        log = run.loadgen / scenario / "accuracy"
        logged = read_json(log / "run.json").get("files", {}).get(ACCURACY_LOG, {})
        if score["log"]["sha256"] != logged.get("sha256"):
            problems.append(f"{scenario}: accuracy.json was made of another log")
        text = accuracy_text(score["fid"], score["clip"], score["log"]["sha256"])
        if (folder / "accuracy.txt").read_text(encoding="utf-8") != text:
            problems.append(f"{scenario}: accuracy.txt is not what accuracy.json says")
        problems += _shown(scenario, folder, score)
        if (log / ACCURACY_LOG).is_file():
            with tempfile.TemporaryDirectory() as name:
                truncate(log / ACCURACY_LOG, Path(name) / ACCURACY_LOG)
                same = (Path(name) / ACCURACY_LOG).read_bytes() == (
                    folder / ACCURACY_LOG
                ).read_bytes()
            if not same:
                problems.append(f"{scenario}: {ACCURACY_LOG} is not the whole log's ends")
    return listed(problems, "those of the accuracy logs")


def _shown(scenario: str, folder: Path, score: Mapping[str, Any]) -> Iterator[str]:
    wanted = score["compliance_images"]
    if {path.stem for path in (folder / "images").glob("*.png")} != wanted.keys():
        yield f"{scenario}: other images than accuracy.json names"
    for index, digest in wanted.items():
        path = folder / f"images/{index}.png"
        if path.is_file() and sha256_bytes(decode_png(path.read_bytes()).tobytes()) != digest:
            yield f"{scenario}: {path.name} is not the logged image"


def _audits(run: Run) -> Finding:
    problems = []
    for scenario in run.request.scenarios:
        for test in run.request.audits:
            folder = run.loadgen / scenario / "audits" / test
            digests = read_json(folder / "audit.json").get("files")
            table = file_table(folder)
            for name in ("audit.json", SNAKEMAKE):
                table.pop(name, None)
            if digests != table:
                problems.append(f"{scenario} {test}: changed since it was verified")
    return listed(problems, "as they were verified")


RUN_RULES = (
    Rule(
        "run.originals", "every file of LoadGen is as it was when its test ended", OURS, _originals
    ),
    Rule("run.scores", "scores and images are those of the accuracy logs", OURS, _scores),
    Rule("run.audits", "the audits' files are as they were verified", OURS, _audits),
    Rule("run.files", "every file of the tree is the one that the run makes", OURS, _files),
)


def run_checks(tree: Path, loadgen: Path, built: Mapping[str, Any]) -> list[Check]:
    """Every rule on a tree beside its run. Nothing is cached: all files are read again."""
    run = Run(tree, loadgen, built)
    checks = judge(RUN_RULES, "submission", (run,), closed=True, shortened=())
    return [explained(check) for check in checks]
