"""The official scripts of TEST01 and TEST04, run as they are on LoadGen's logs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from t2i.base.check import FAIL, NOT_APPLICABLE, PASS
from t2i.compliance.checkout import Checkout, run_command
from t2i.compliance.messages import UNKNOWN, explain, message
from t2i.mlperf import ACCURACY_LOG

WHOLE_LOG = 1 << 30  # bytes of an accuracy log that the script, which holds it in memory, is given
SECONDS = 7200.0
WRITTEN = {
    "TEST01": ("verify_accuracy.txt", "verify_performance.txt"),
    "TEST04": ("verify_performance.txt",),
}
# The scripts build shell commands from their own path, which must hold no blank: so it is relative.
START = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
MOST_LINES = 200


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
    known = explain("audits", line)
    if known is UNKNOWN:
        return message("info", line, "", "")
    return message(known.level, line, known.meaning, known.mend)
