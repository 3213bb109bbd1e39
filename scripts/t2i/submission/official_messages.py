"""What the submission checker's messages mean, and what mends each.

Read from tools/submission/submission_checker (main, loader, checks) of mlcommons/inference at
b66003e1: every message that a text-to-image tree can bring about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from t2i.submission.crashes import BUILD, CRASHES

# The loader sets the first form; Python's own holds until it is imported.
LINE = re.compile(r"\[\S+ \S+ \S+:\d+ (DEBUG|INFO|WARNING|ERROR|CRITICAL)\] (.*)")
PLAIN_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL):\w+:(.*)")
TOLD = re.compile(r"^SUMMARY: |^Results=|\(deterministic mode\) in .* failed")  # of level INFO
LONGEST = 4000  # characters of one message

AGAIN = "run this mode again and build the tree again"
DESCRIBE = "set it below submission.description"
FULL = "measure with the full settings: time 600, count null and samples 5000"
WINDOW = "see the accuracy checks of the report; the open division has no window"
AUDIT = "run this audit again and see its audit.json for what differs"

LEFT_OUT = ("The checker left this check out.", "")
HARMLESS = ("The first one of several was taken; no harm.", "")

# Searched in this order: (pattern, meaning, what to do).
MESSAGES = tuple(
    (re.compile(pattern), meaning, mend)
    for pattern, meaning, mend in (
        ("SUMMARY: submission looks OK", "No result was refused.", ""),
        (
            "SUMMARY: submission has errors",
            "At least one result was refused.",
            "mend the errors above",
        ),
        ("^NoResults ", "This scenario's result was refused.", "mend the errors above"),
        ("^Results=", "Results that were accepted, and refused.", ""),
        ("^Some .* Checks failed for", "One group of checks failed.", "mend the errors above"),
        (
            "Execution occurred in running check",
            "This check itself broke off, mostly since a file or a value is not there.",
            "see our own checks for the missing file or key; " + BUILD,
        ),
        ("Execution of check .* skipped", *LEFT_OUT),
        # Performance.
        ("Performance log missing at", "The performance run's detail log is not there.", BUILD),
        (
            "does not have all required scenarios",
            "The system type demands scenarios that are not there.",
            "add them to loadgen.scenarios, or change submission.system_type",
        ),
        (
            "has all unknown scenarios",
            "There are scenarios that this benchmark does not have for the system type.",
            "take them out of loadgen.scenarios",
        ),
        (
            "contains errors:$|has loadgen errors",
            "LoadGen logged errors; any makes a run invalid.",
            "see the messages beside this one; " + AGAIN,
        ),
        (
            "requires equal issue mode",
            "LoadGen's sample_concatenate_permutation is not as wanted.",
            AGAIN,
        ),
        (
            "performance_sample_count, found",
            "LoadGen was given too few samples to draw from.",
            FULL,
        ),
        (
            "_rng_seed is wrong",
            "The run has another round's random seeds.",
            "set round to the round of the submission and run all modes again",
        ),
        (
            "Early stopping condition was not met",
            "Too few queries, or too many of them too slow, to be sure of the percentile.",
            "run longer (loadgen.time); for Server lower loadgen.qps",
        ),
        (
            r"Latency constraint (with early stopping )?not met",
            "The latency is, or was allowed to be, above the benchmark's limit.",
            "keep loadgen.max_latency at 20 and lower loadgen.qps",
        ),
        ("Required minimum Query Count", "The run was allowed to end after too few queries.", FULL),
        (
            "Required minimum samples per query",
            "Offline has to issue all 5000 samples, in audits as well.",
            FULL,
        ),
        ("Test duration less than 600s", "The run was allowed to end before ten minutes.", FULL),
        (
            "incorrect network mode|invalid sut name for network mode",
            "The system description says that the system is reached over a network.",
            "take is_network out of submission.description",
        ),
        (
            "can not be inferred",
            "The log is of another scenario than its folder.",
            BUILD,
        ),
        (
            "Not enough samples were processed for early stopping",
            "The run is too short for an estimate of its percentile.",
            "run longer (loadgen.time)",
        ),
        # Accuracy.
        # The checker names a bound and no score: FID's are 23, CLIP's are 31.
        (
            "accuracy not met: upper limit=2",
            "FID is above its window, which is worse than the window allows.",
            WINDOW,
        ),
        (
            "accuracy not met: expected=2",
            "FID is below its window: better than the reference's own model and settings are.",
            WINDOW,
        ),
        (
            "accuracy not met: upper limit",
            "CLIP is above its window: better than the reference's own model and settings are.",
            WINDOW,
        ),
        (
            "accuracy not met: expected",
            "CLIP is below its window, which is worse than the window allows.",
            WINDOW,
        ),
        ("not hash value for accuracy.txt", "accuracy.txt names no log's sha256.", BUILD),
        (
            "is not truncated",
            "The accuracy log has more than 10,240 bytes.",
            BUILD,
        ),
        (
            "accurcy run does not cover all dataset",
            "The accuracy run has another number of samples than the data set.",
            FULL,
        ),
        (
            "expected to have the following extra files",
            "Not all images that the round wants to see are in accuracy/images.",
            "measure all 5000 samples with the round of the submission; " + BUILD,
        ),
        # System.
        ("system json file not found", "systems/ lacks the system's description.", BUILD),
        ("has invalid status", "status is none of available, preview and rdi.", DESCRIBE),
        (
            "has invalid system type",
            'system_type is none of datacenter, edge and "datacenter,edge".',
            "set submission.system_type",
        ),
        (
            "is missing meaningful value",
            "A field of measurements.json is empty.",
            BUILD,
        ),
        (
            "field .* is missing$",
            "A field of the system description or of measurements.json is not there.",
            DESCRIBE,
        ),
        (
            "requires a meaningful response but is empty",
            "A field of the system description is empty; the number 0 counts as empty.",
            DESCRIBE + ', "N/A" where nothing applies',
        ),
        (
            "requires a numeric response but is empty",
            "A field of the system description is no number.",
            DESCRIBE + ", as a number",
        ),
        (
            "has (submitter|division) .*, directory has",
            "The system description contradicts the folder that it lies in.",
            BUILD,
        ),
        (
            "nameplate power YAML|power_checker|power samples|/(power|ranging)/? has file list",
            "Power measurements were found or wanted; this workflow makes none.",
            "remove the folder performance/power",
        ),
        # Measurements.
        (
            "measurements json file not found",
            "The scenario lacks its measurements.json.",
            BUILD,
        ),
        ("src directory does not exist", "The submitter's folder of code is not there.", BUILD),
        ("is having empty", "user.conf or README.md is empty.", BUILD),
        # Audits.
        (r"Missing \S+ in compliance dir", "An audit is not there.", "add it to loadgen.modes"),
        (
            "Missing .* file in compliance dir",
            "A file of an audit is not there.",
            BUILD,
        ),
        (
            r"\(deterministic mode\) in .* failed",
            "TEST01 found images that differ from the accuracy run's; the checker then wants the "
            "scores of both sets of images.",
            "make the engine deterministic, or follow part III of compliance/TEST01/README.md",
        ),
        (
            "has no accuracy directory|TEST01/accuracy has file list mismatch",
            "TEST01 has differing images, and the files that compare their scores are not there.",
            "make the engine deterministic, or follow part III of compliance/TEST01/README.md",
        ),
        (
            r"\(non-deterministic mode\)",
            "TEST01's images differ from the accuracy run's, and their scores by too much.",
            AUDIT,
        ),
        (
            "Compliance test performance check in .* failed",
            "The audit's run was faster, or slower, than the performance run allows.",
            AUDIT,
        ),
        (
            "has no performance/run_1 directory|has file list mismatch",
            "An audit's performance/run_1 has to hold the summary and the detail log, and no more.",
            BUILD,
        ),
        ("is missing( |$)", "A file of the tree is not there.", BUILD),
        # Reading.
        (
            "endpoints submission|accuracy score not found|could not parse accuracy score"
            "|audit_|compliance test (is incorrect|can not be loaded)",
            "A scenario without LoadGen's logs was taken for a submission over endpoints.",
            BUILD,
        ),
        ("There are multiple messages with key", *HARMLESS),
        ("Skipping invalid line", "A line of a log was left out.", AGAIN),
    )
)
LOADGEN_ERROR = ("LoadGen logged this error; any makes a run invalid.", AGAIN)
UNKNOWN = (
    "A message that this workflow does not know.",
    "look it up in tools/submission/submission_checker of the checkout",
)


def message(level: str, text: str, meaning: str, mend: str) -> dict[str, str]:
    """An entry of the list of messages that submission.json and audit.json hold."""
    return {"level": level, "text": text[:LONGEST], "meaning": meaning, "mend": mend}


def explain(text: str) -> tuple[str, str]:
    """Meaning of a message of the checker, and what to do."""
    return _search(MESSAGES, text) or UNKNOWN


def explain_crash(text: str) -> tuple[str, str]:
    """Why the checker broke off with this output, and what to do."""
    return _search(CRASHES, text) or (
        "The checker broke off with an error of its own.",
        "see the last lines of the message and our own checks",
    )


def _search(table: Iterable[tuple[re.Pattern[str], str, str]], text: str) -> tuple[str, str] | None:
    for pattern, meaning, mend in table:
        if pattern.search(text):
            return meaning, mend
    return None


def parse(output: str) -> tuple[list[dict[str, str]], str]:
    """Messages of the checker's output, and what else it wrote (a traceback, or nothing).

    Of level INFO there are only those that judge, and what is harmless is told once. What LoadGen
    logged as errors is repeated by the checker line by line and is told as such.
    """
    messages: list[dict[str, str]] = []
    harmless: set[str] = set()
    other: list[str] = []
    current: dict[str, str] | None = None  # the message that lines without a head belong to
    of_loadgen = False
    for line in output.splitlines():
        found = LINE.fullmatch(line) or PLAIN_LINE.fullmatch(line)
        if found is None:
            if current is None or line.startswith("Traceback "):
                current = None
                other.append(line)
            else:
                current["text"] = f"{current['text']}\n{line}".rstrip()[:LONGEST]
            continue
        level, text = found.groups()
        current = None
        if level in ("DEBUG", "INFO") and not TOLD.search(text):
            continue
        explained = explain(text)
        if of_loadgen and explained == UNKNOWN:
            explained = LOADGEN_ERROR
        of_loadgen = text.endswith("contains errors:") or explained is LOADGEN_ERROR
        if explained in (HARMLESS, LEFT_OUT):  # of every log again; once is enough
            if explained[0] in harmless:
                continue
            harmless.add(explained[0])
        current = message(level.lower(), text, *explained)
        messages.append(current)
    return messages, "\n".join(other).strip()
