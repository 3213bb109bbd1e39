"""Rules on LoadGen's accuracy log."""

from __future__ import annotations

from pathlib import Path

from t2i.base.check import FAIL, NOT_APPLICABLE, OURS, PASS, RULES, Check
from t2i.loadgen.accuracy_log import LISTED, WHAT, AccuracyLog


def check_log(
    path: Path,
    count: int,
    image_bytes: int,
    expected_sha256: str | None = None,
    prefix: str = "log",
    repeats: bool = False,
) -> list[Check]:
    """What a whole log must hold: an image of `image_bytes` for each of `count` samples.

    `expected_sha256` is the digest that a submission names; None judges no digest. `repeats`: an
    image may be repeated, as in MultiStream, which fills up its last query.
    """
    log = AccuracyLog(path, image_bytes, count, repeats)
    for _ in log.entries():
        pass
    checks = []
    for kind, rule in WHAT.items():
        texts = [problem.text for problem in log.problems if problem.kind == kind]
        value = "; ".join(texts[:LISTED]) + "; ..." * (len(texts) > LISTED)
        fine = f"{log.records} records"
        if kind == "twice" and log.repeats:
            fine += f", {log.repeats} of them repeat another's index and pixels"
        source = OURS if kind == "json" else RULES
        checks.append(
            Check(f"{prefix}.{kind}", rule, value or fine, FAIL if texts else PASS, source)
        )
    rule = "the accuracy log's sha256 is the one that accuracy.txt names"
    same = PASS if log.sha256 == expected_sha256 else FAIL
    verdict = NOT_APPLICABLE if expected_sha256 is None else same
    value = log.sha256 + (f", expected {expected_sha256}" if verdict == FAIL else "")
    return [*checks, Check(f"{prefix}.sha256", rule, value, verdict, RULES)]
