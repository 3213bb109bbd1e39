"""The output of MLPerf's submission checker, message by message."""

from __future__ import annotations

import re

from t2i.compliance.messages import LONGEST, UNKNOWN, Meaning, explain, message

# The loader sets the first form; Python's own holds until it is imported.
LINE = re.compile(r"\[\S+ \S+ \S+:\d+ (DEBUG|INFO|WARNING|ERROR|CRITICAL)\] (.*)")
PLAIN_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL):\w+:(.*)")
# Messages of level INFO that judge.
VERDICTS = re.compile(r"^SUMMARY: |^Results=|\(deterministic mode\) in .* failed")
LOADGEN_ERROR = Meaning(
    "LoadGen logged this error; any error makes a run invalid.",
    "run this mode again and build the tree again",
)
STOPPED = Meaning(
    "The checker itself stopped with an error.",
    "see the last lines of the message and our own checks",
)


def explain_crash(text: str) -> Meaning:
    """Why the checker stopped with this output."""
    known = explain("crashes", text)
    return STOPPED if known is UNKNOWN else known


def parse(output: str) -> tuple[list[dict[str, str]], str]:
    """Messages of the checker's output, and what else it wrote (a traceback, or nothing).

    Of level INFO only those that judge are kept, and harmless ones are reported once. The checker
    repeats errors that LoadGen logged line by line; they are explained as such.
    """
    messages: list[dict[str, str]] = []
    harmless: set[str] = set()
    other: list[str] = []
    current: dict[str, str] | None = None  # the message that lines without a head belong to
    of_loadgen = False
    for line in output.splitlines():
        head = LINE.fullmatch(line) or PLAIN_LINE.fullmatch(line)
        if head is None:
            if current is None or line.startswith("Traceback "):
                current = None
                other.append(line)
            else:
                current["text"] = f"{current['text']}\n{line}".rstrip()[:LONGEST]
            continue
        level, text = head.groups()
        current = None
        if level in ("DEBUG", "INFO") and not VERDICTS.search(text):
            continue
        known = explain("checker", text)
        if of_loadgen and known is UNKNOWN:
            known = LOADGEN_ERROR
        of_loadgen = text.endswith("contains errors:") or known is LOADGEN_ERROR
        if known.once:
            if known.meaning in harmless:
                continue
            harmless.add(known.meaning)
        current = message(level.lower(), text, known.meaning, known.mend)
        messages.append(current)
    return messages, "\n".join(other).strip()
