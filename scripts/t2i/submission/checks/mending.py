"""Why each rule on a submission matters, and what to do where it is not kept.

By the last parts of a check's id; the longest one that fits counts.
"""

from __future__ import annotations

from dataclasses import replace

from t2i.base.check import FAIL, Check

AGAIN = "run the test again with `snakemake`, and change none of its files"
REBUILD = "remove the submission/ folder and run `snakemake` again, to rebuild it"
NOT_LOADGEN = "LoadGen writes this; where it differs, a file was changed or is of another run"
ADVICE: dict[str, tuple[str, str]] = {
    "category": ("a benchmark outside its round is not published", "choose edge, or another round"),
    "scenarios": ("the checker refuses a system that lacks one", "run all that the round asks for"),
    "files.missing": ("the checker refuses the tree, or stops with an error", REBUILD),
    "files.unknown": ("reviewers take it for part of the result", "take the file out of the tree"),
    "files.empty": ("an empty file answers nothing", REBUILD),
    "files.links": (
        "a link leads elsewhere, and a file with two names changes with the other",
        "copy the file into the tree",
    ),
    "files.folders": ("the checker takes a folder for a result and stops", "remove the folder"),
    "files.size": ("repositories of results refuse large files", "truncate or remove it"),
    "files.secrets": ("the tree is published, and what is no text cannot be reviewed", "remove it"),
    "files.places": (
        "it exposes your machine, and nobody else has that path",
        "name it relative to the repository",
    ),
    "files.unchanged": ("what was measured is what was built", REBUILD),
    "source": ("the rules ask for the source of what ran", REBUILD),
    "run.originals": ("a log that changed after its test proves nothing", AGAIN),
    "run.files": ("the tree must be what the run made", REBUILD),
    "run.scores": ("scores must follow from the accuracy log", "run score_accuracy again"),
    "run.audits": ("an audit must follow from its logs", "run verify_audit again"),
    "runs.dates": (
        "the runs of one result are made on one system, in one round",
        "run the older tests again",
    ),
    "runs.times": ("two tests cannot take place at the same moment", AGAIN),
    "runs.version": ("all tests are made with one LoadGen and one system", AGAIN),
    "system": (
        "the description says what was measured",
        "correct submission.description in the configuration and rebuild the tree",
    ),
    "measurements": ("the checker asks for every field", REBUILD),
    "measurements.retraining": (
        "the closed division is for the published weights",
        "take the published model, or submit to the open division",
    ),
    "measurements.engine": ("reviewers compare the formats with the code", REBUILD),
    "log": ("without whole logs nothing can be judged", AGAIN),
    "requested": (NOT_LOADGEN, AGAIN),
    "limits": ("an audit is compared with a run of the same limits", AGAIN),
    "no_limit": (
        "a limit ends a test before its end",
        "leave max_duration and max_query_count out",
    ),
    "percentile": ("another percentile is another result", AGAIN),
    "stamps": (NOT_LOADGEN, AGAIN),
    "counts": (NOT_LOADGEN, AGAIN),
    "flags": (NOT_LOADGEN, AGAIN),
    "agree.figures": (NOT_LOADGEN, AGAIN),
    "min_query_count": ("the checker asks for a query at least", AGAIN),
    "conf": (
        "the file must match the run that it belongs to",
        "put the user.conf of the performance run there",
    ),
    "inferred": (
        "the checker infers a scenario from another one's logs, of edge systems alone",
        "build the tree again, or run the scenario itself",
    ),
    "recorded": ("the figure was read when the test ended", AGAIN),
    "form": (
        "the checker reads digits and a point, and takes the rest for something else",
        "run score_accuracy again; a negative score is no result",
    ),
    "clip": ("outside its window a result is not closed", "look at the engine's accuracy"),
    "fid": ("outside its window a result is not closed", "look at the engine's accuracy"),
    "hash": ("the hash identifies the whole log, which is not published", REBUILD),
    "hash.own": ("an audit has a log of its own", "verify the audit again"),
    "log.size": ("the checker takes no whole log", REBUILD),
    "log.truncated": ("reviewers look at both ends of the log", REBUILD),
    "log.indices": (NOT_LOADGEN, AGAIN),
    "log.pixels": ("log and images are of one run", AGAIN),
    "images": ("the images show what was scored", REBUILD),
    "verified": (
        "the script's own words say that the audit was verified",
        "verify the audit again",
    ),
    "speed": ("the audit shows that the measured speed is the real one", "run both tests again"),
    "distinct": ("an audit is a test of its own", "run the audit"),
    "official": ("MLCommons takes no tree that its checker refuses", "see the checker's messages"),
}
LOADGEN_RULES = ("the rules of the benchmark ask for it", AGAIN)


def advice(name: str) -> tuple[str, str]:
    """Why the rule of a check's id matters, and what to do."""
    parts = name.split(".")
    for start in range(1, len(parts)):
        for stop in range(len(parts), start, -1):
            if found := ADVICE.get(".".join(parts[start:stop])):
                return found
    return LOADGEN_RULES


def explained(check: Check) -> Check:
    """The check, with why it matters and the mend where it has failed."""
    if check.verdict != FAIL:
        return check
    why, mend = advice(check.id)
    return replace(check, why=why, mend=mend)
