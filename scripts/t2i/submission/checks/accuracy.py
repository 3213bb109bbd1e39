"""Rules on accuracy.txt and the truncated accuracy log.

Sources: accuracy_check.py and constants.py of the submission checker and
truncate_accuracy_log.py (mlcommons/inference at b66003e1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2i.base.check import CHECKER, OURS, Finding, Rule, listed, within
from t2i.base.files import sha256_file
from t2i.loadgen.accuracy_log import ELLIPSIS, VIEWABLE
from t2i.mlperf import ACCURACY_LOG
from t2i.submission.checks.findings import number, read_text
from t2i.submission.checks.images import Shown
from t2i.submission.checks.logs import RunLogs
from t2i.submission.checks.truncated_log import (
    LARGEST_LOG,
    read_truncated,
    wrong_indices,
    wrong_pixels,
)
from t2i.submission.layout import NOT_DETERMINISTIC

HASH = re.compile(r"^hash=(\w+)$", re.M | re.A)
SCORES = {
    name: re.compile(rf"^.*'{name.upper()}_SCORE':\s+'?([^',}}]*)", re.M)
    for name in ("clip", "fid")
}
READ = re.compile(r"\d+(\.\d+)?", re.A)  # a score that the checker's [\d.]+ reads to its end
ENTRY = re.compile(rb'\[\n\{ "seq_id" : \d+, "qsl_idx" : \d+, "data" : "[0-9A-F]')


@dataclass(frozen=True)
class Accuracy:
    """A folder with accuracy.txt and a truncated log of the run `logs` on `count` samples.

    `digest` is the whole log's sha256 (None: not known), `windows` are inclusive bounds of clip and
    fid, `shown` the images beside it; `accuracy` is the accuracy run's folder of an audit's (None:
    it is one itself).
    """

    folder: Path
    digest: str | None
    windows: Mapping[str, Sequence[float]]
    logs: RunLogs
    shown: Shown
    count: int
    accuracy: Path | None = None
    shortened: bool = False
    rehearsal: bool = False

    @property
    def log(self) -> Path:
        """The truncated log."""
        return self.folder / ACCURACY_LOG


def scores_in(path: Path) -> dict[str, float]:
    """Scores of a file such as accuracy.txt.

    Raises ValueError unless each is there exactly once, in a form that the submission checker,
    which knows no sign and no exponent, reads to its end.
    """
    text = read_text(path)
    scores = {}
    for name, pattern in SCORES.items():
        matches = pattern.findall(text)
        if len(matches) != 1:
            raise ValueError(
                f"{path.name}: '{name.upper()}_SCORE': found {len(matches)} times, in "
                "single quotes; expected once"
            )
        if not READ.fullmatch(matches[0].strip()):
            raise ValueError(
                f"{path.name}: '{name.upper()}_SCORE' is {matches[0][:40]!r}; the checker reads "
                "digits and one point, and takes what it finds of them for the score"
            )
        scores[name] = number(matches[0])
    return scores


def hash_in(path: Path) -> str:
    """The hash of accuracy.txt. Raises ValueError unless it holds a single sha256."""
    hashes = HASH.findall(read_text(path))
    if len(hashes) != 1 or not re.fullmatch(r"[0-9a-f]{64}", hashes[0]):
        raise ValueError(f"{path.name}: found hash= {hashes}; expected one line with a hex sha256")
    return str(hashes[0])


def _form(accuracy: Accuracy) -> Finding:
    try:
        scores = scores_in(accuracy.folder / "accuracy.txt")
    except ValueError as error:
        if accuracy.rehearsal:
            return Finding(f"{error} (a rehearsal's scores mean nothing)", None)
        raise
    return Finding(", ".join(f"{name} {value!r}" for name, value in scores.items()), True)


def _clip(accuracy: Accuracy) -> Finding:
    return within(scores_in(accuracy.folder / "accuracy.txt")["clip"], *accuracy.windows["clip"])


def _fid(accuracy: Accuracy) -> Finding:
    return within(scores_in(accuracy.folder / "accuracy.txt")["fid"], *accuracy.windows["fid"])


def _size(accuracy: Accuracy) -> Finding:
    return within(accuracy.log.stat().st_size, 1, LARGEST_LOG)


def _truncated(accuracy: Accuracy) -> Finding:
    if accuracy.log.stat().st_size > LARGEST_LOG:
        return Finding("not truncated", False)
    content = accuracy.log.read_bytes()
    whole = accuracy.shortened and len(content) < VIEWABLE * 2 and ELLIPSIS not in content
    if whole and sha256_file(accuracy.log) == hash_in(accuracy.folder / "accuracy.txt"):
        return Finding("the whole log, which is short", True)
    problems = []
    if len(content) != 2 * VIEWABLE + len(ELLIPSIS):
        problems.append(f"{len(content)} bytes; expected {2 * VIEWABLE + len(ELLIPSIS)}")
    if content[VIEWABLE:-VIEWABLE] != ELLIPSIS:
        problems.append(f"no '...' between the first and last {VIEWABLE} bytes")
    if not ENTRY.match(content):
        problems.append("does not begin as LoadGen's log of images does")
    if not content.endswith(b'" }\n]\n'):
        problems.append("does not end as LoadGen's log does")
    return listed(problems, f"first and last {VIEWABLE} bytes")


def _hash(accuracy: Accuracy) -> Finding:
    named = hash_in(accuracy.folder / "accuracy.txt")
    if accuracy.digest is None or named == accuracy.digest:
        return Finding(named, True)
    return Finding(f"{named}; the accuracy log's is {accuracy.digest}", False)


def _indices(accuracy: Accuracy) -> Finding:
    records = read_truncated(accuracy.log)
    issued = None  # in an order that the log does not tell
    if accuracy.accuracy is None and accuracy.logs.scenario == "Offline":
        issued = [i for part in accuracy.logs.detail.all("loaded_qsl_set") for i in part]
    problems = wrong_indices(records, accuracy.count, issued)
    return listed(problems, f"{len(records)} records to be seen")


def _pixels(accuracy: Accuracy) -> Finding:
    records = read_truncated(accuracy.log)
    if accuracy.accuracy is not None and (accuracy.folder / NOT_DETERMINISTIC[0]).is_file():
        return Finding("images may differ: their scores are compared (part III of TEST01)", None)
    others = [] if accuracy.accuracy is None else read_truncated(accuracy.accuracy / ACCURACY_LOG)
    return listed(
        wrong_pixels(records, accuracy.shown.images, others), f"{len(records)} records to be seen"
    )


def _own_hash(accuracy: Accuracy) -> Finding:
    assert accuracy.accuracy is not None
    own = hash_in(accuracy.folder / "accuracy.txt")
    other = hash_in(accuracy.accuracy / "accuracy.txt")
    return listed([f"{own} is the accuracy run's too"] if own == other else [], own)


LOG_RULES = (
    Rule("log.size", f"the accuracy log has at most {LARGEST_LOG} bytes", CHECKER, _size),
    Rule("log.truncated", "the accuracy log is truncated as MLPerf does it", OURS, _truncated),
    Rule(
        "log.indices", "what is seen of the log names samples as they were issued", OURS, _indices
    ),
    Rule("log.pixels", "what is seen of the log are the images' own pixels", OURS, _pixels),
    Rule("hash", "accuracy.txt has the whole accuracy log's sha256", CHECKER, _hash),
)
AUDIT_LOG_RULES = (
    *LOG_RULES,
    Rule("hash.own", "the audit's log is not the accuracy run's", OURS, _own_hash),
)
ACCURACY_RULES = (
    Rule("form", "accuracy.txt names both scores as the checker reads them", CHECKER, _form),
    Rule("clip", "the CLIP score lies in its window", CHECKER, _clip, closed=True, whole=True),
    Rule("fid", "the FID lies in its window", CHECKER, _fid, closed=True, whole=True),
    *LOG_RULES,
)
