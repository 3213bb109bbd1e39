"""The official scripts of TEST01 and TEST04, run as they are on LoadGen's logs."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from t2i.compliance import FAIL, NOT_APPLICABLE, PASS
from t2i.submission.checkout import Checkout, run_command
from t2i.submission.official_messages import message

ACCURACY_LOG = "mlperf_log_accuracy.json"
WHOLE_LOG = 1 << 30  # bytes of an accuracy log that the script, which holds it in memory, is given
SECONDS = 7200.0
WRITTEN = {
    "TEST01": ("verify_accuracy.txt", "verify_performance.txt"),
    "TEST04": ("verify_performance.txt",),
}
# The scripts build shell commands from their own path, which must hold no blank: so it is relative.
START = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
MOST_LINES = 200

AGAIN = "run performance mode and the audit again"
# (pattern, level, meaning, what to do) of the scripts' output, searched in this order.
LINES = tuple(
    (re.compile(pattern), level, meaning, mend)
    for pattern, level, meaning, mend in (
        ("TEST FAIL: (Invalid|.*are invalid)", "error", "A run is not VALID.", AGAIN),
        ("scenarios do not match", "error", "The runs are of two scenarios.", AGAIN),
        ("target latency mismatch", "error", "The runs had two latency limits.", AGAIN),
        (
            "TEST FAIL: Test score invalid",
            "error",
            "The audit's run is faster, or slower, than the performance run allows.",
            "see our own checks; leave the machine alone while it measures",
        ),
        (
            "NameError: name 'line'",
            "crash",
            "A log has errors, and the script breaks off while it tells so.",
            "see the errors in mlperf_log_detail.txt; audit.config must be read by LoadGen alone",
        ),
        (
            "No module named|can't open file",
            "crash",
            "A module or script is not there.",
            "fetch the checkout again, or run in the workflow's own environment",
        ),
        ("MemoryError|Killed", "crash", "The memory was not enough.", "use a larger machine"),
        (
            "num_perf_log_data_mismatch = [1-9]",
            "error",
            "Images of the audit's run differ from the accuracy run's in their first byte.",
            "see our own checks for the samples",
        ),
        (
            "num_missing_qsl_idxs = [1-9]",
            "error",
            "Images of the audit's run have no counterpart in the accuracy run.",
            "run accuracy mode again",
        ),
        (r"^\w*(Error|Exception)\b", "crash", "The script broke off.", "see the message"),
        ("TEST FAIL|pass: False", "error", "The script does not pass the audit.", "see above"),
        ("WARNING|Exception occurr?ed", "warning", "The script had a difficulty.", "see above"),
    )
)


def not_run(why: str) -> dict[str, Any]:
    """The "official" object of audit.json where the scripts were not run."""
    return {
        "state": "not run",
        "why": why,
        "commit": None,
        "messages": [],
        "verdict": NOT_APPLICABLE,
    }


def run_official(
    checkout: Checkout,
    test: str,
    runs: Path,
    folder: Path,
    extract: Path | None,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """The "official" object of audit.json: what run_verification.py of `test` says.

    `runs` holds performance/, accuracy/ and the audit's run. What the script writes to verify_*.txt
    goes into `folder`. `extract`, a log of the samples in question alone, stands in for an accuracy
    log that would not fit into the memory.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        (work / "results/performance").mkdir(parents=True)
        (work / "results/accuracy").mkdir()
        links = {
            "checkout": checkout.path,
            "test": runs / test,
            "results/performance/run_1": runs / "performance",
        }
        if test == "TEST01":
            links[f"results/accuracy/{ACCURACY_LOG}"] = extract or runs / "accuracy" / ACCURACY_LOG
        for place, target in links.items():
            (work / place).symlink_to(target.resolve())
        command = [sys.executable, "-c", START, f"checkout/compliance/{test}/run_verification.py"]
        command += ["-r", "results", "-c", "test", "-o", "out"]
        finished = run_command(command, work, seconds)
        for written in WRITTEN[test]:
            if (work / "out" / test / written).is_file():
                shutil.copyfile(work / "out" / test / written, folder / written)
    lines = [line.strip() for line in finished.text.splitlines() if line.strip()]
    messages = [_explained(line) for line in lines[-MOST_LINES:]]
    if extract is not None:
        text = "the accuracy log was cut down, in whole records, to the samples that TEST01 logged"
        meaning = "The script holds the log in memory; it compares no other samples."
        messages.insert(0, message("info", text, meaning, ""))
    if checkout.remark:
        mend = "take a fresh checkout of the pinned commit where this is not meant"
        messages.insert(0, message("warning", checkout.remark, "Not the pinned scripts.", mend))
    if finished.exit is None:
        text = f"no end after {seconds:g} s; the script was stopped"
        messages.append(message("crash", text, "The script hangs or is very slow.", "see the disk"))
    passed = {"Performance check pass: True"}
    if test == "TEST01":
        passed.add("Accuracy check pass: True")
    return {
        "state": "run",
        "why": "",
        "commit": checkout.commit,
        "messages": messages,
        "verdict": PASS if finished.exit == 0 and passed <= set(lines) else FAIL,
    }


def _explained(line: str) -> dict[str, str]:
    for pattern, level, meaning, mend in LINES:
        if pattern.search(line):
            return message(level, line, meaning, mend)
    return message("info", line, "", "")
