"""The submission checker of MLCommons, run as it is, and what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from t2i.base.check import CHECKER as SOURCE
from t2i.base.check import FAIL, NOT_APPLICABLE, PASS, Check
from t2i.compliance.checkout import CHECKER, Checkout, run_command
from t2i.compliance.messages import message
from t2i.submission.messages import explain_crash, parse

SECONDS = 3600.0  # after which the checker counts as hanging
TABLE = "official_summary.csv"
OK = "SUMMARY: submission looks OK"
SUMMARIES = (OK, "SUMMARY: submission has errors")


def not_run(why: str, round_name: str) -> dict[str, Any]:
    """The "official" object of submission.json where the checker was not run."""
    return {
        "state": "not run",
        "why": why,
        "commit": None,
        "version": round_name,
        "ok": None,
        "exit": None,
        "results": None,
        "messages": [],
    }


def run_checker(
    checkout: Checkout, tree: Path, round_name: str, work: Path, seconds: float = SECONDS
) -> dict[str, Any]:
    """The "official" object of submission.json: what the checker says of `tree`.

    `tree` holds closed/ or open/; the checker's table of results goes into the folder `work`.
    `ok` is True only if the checker ended by itself with status 0, said so, and accepted at least
    one result: of a tree in which it finds nothing it says the same.
    """
    command = [sys.executable, "-m", "submission_checker.main"]
    command += ["--input", str(tree.resolve()), "--version", round_name]
    command += ["--csv", str(work.resolve() / TABLE)]
    finished = run_command(command, checkout.path / CHECKER, seconds)
    messages, other = parse(finished.text)
    if checkout.remark:
        mend = "take a fresh checkout of the pinned commit where this is not meant"
        messages.insert(0, message("warning", checkout.remark, "Not the pinned checker.", mend))
    said = [entry["text"] for entry in messages]
    results = next(
        (int(match[1]) for text in said if (match := re.match(r"Results=(\d+)", text))), 0
    )
    if finished.exit is None:
        text = f"no end after {seconds:g} s; the checker was stopped"
        mend = "look at the last file that it was reading, and at the disk"
        messages.append(message("crash", text, "The checker hangs or is very slow.", mend))
    elif not any(summary in said for summary in SUMMARIES):
        text = other or f"exit {finished.exit} without a word"
        known = explain_crash(text)
        messages.append(message("crash", text[-2000:], known.meaning, known.mend))
    elif OK in said and not results:
        text = "the checker accepted no result, for it found none"
        meaning = "The checker calls an empty tree OK; this workflow does not."
        messages.append(message("error", text, meaning, "look at what lies below closed/ or open/"))
    return {
        "state": "run",
        "why": "",
        "commit": checkout.commit,
        "version": round_name,
        "ok": finished.exit == 0 and OK in said and results > 0,
        "exit": finished.exit,
        "results": results,
        "messages": messages,
    }


def official_checks(official: dict[str, Any], shortened: bool = False) -> list[Check]:
    """The official verdict as a check: it passes only where the checker was run and says OK.

    `shortened`: the run is declared short, which the checker refuses, so that nothing is judged.
    """
    rule = "MLCommons' own submission checker accepts the tree"
    if official["state"] != "run":
        value, verdict = f"not run: {official['why']}", NOT_APPLICABLE
    else:
        wrong = [entry for entry in official["messages"] if entry["level"] in ("error", "crash")]
        value = f"{official['results']} results accepted"
        verdict = PASS if official["ok"] else NOT_APPLICABLE if shortened else FAIL
        if verdict != PASS:
            first = wrong[0]["text"].splitlines()[-1] if wrong else f"exit {official['exit']}"
            value += f", {len(wrong)} errors, the first: {first}"
    return [Check("submission.official", rule, value, verdict, SOURCE)]
