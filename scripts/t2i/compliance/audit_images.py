"""TEST01's question: does performance mode make the images of the accuracy run?"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from t2i.base.check import FAIL, OURS, PASS, RULES, Check
from t2i.loadgen.accuracy_log import LISTED, AccuracyLog, Entry
from t2i.loadgen.logs import Detail
from t2i.mlperf import TEST01_SAMPLES, TEST01_SEED

SIGMAS = 5  # by which the number of logged images may differ from its expectation
WHAT_TO_DO = (
    "the images depend on more than the sample: make the engine deterministic, with one batch "
    "size and no choice of kernels at run time, or follow part III of compliance/TEST01/README.md"
)


@dataclass(frozen=True)
class Comparison:
    """TEST01's images beside the accuracy run's of the same samples.

    `logged` counts TEST01's sound images, `known` the accuracy run's; `missing` and `differing`
    are sample indices in ascending order; `problems` says where a log is damaged. `sha256` is that
    of TEST01's whole log.
    """

    logged: int
    known: int
    missing: tuple[int, ...]
    differing: tuple[int, ...]
    problems: tuple[str, ...]
    sha256: str


def compare_images(accuracy: Path, test: Path, extract: Path | None = None) -> Comparison:
    """Compare two accuracy logs image by image, by sha256 over all bytes.

    Each is read once, with one image and the digests of TEST01's in memory. The first image of a
    sample in the accuracy run's log counts. Its records of TEST01's samples are written to
    `extract`, a smaller log for the official script.
    """
    tested, reference = AccuracyLog(test), AccuracyLog(accuracy)
    digests: dict[int, set[str]] = {}
    logged = known = 0
    for entry in tested.entries():
        logged += 1
        digests.setdefault(entry.qsl_idx, set()).add(entry.sha256)
    seen: set[int] = set()
    differing = []
    with extract.open("w", encoding="ascii") if extract else nullcontext() as handle:
        for entry in reference.entries():
            known += 1
            if entry.qsl_idx not in digests:
                continue
            if handle:
                handle.write((",\n" if seen else "[\n") + _record(entry))
            if entry.qsl_idx not in seen and digests[entry.qsl_idx] != {entry.sha256}:
                differing.append(entry.qsl_idx)
            seen.add(entry.qsl_idx)
        if handle:
            handle.write("\n]\n" if seen else "[\n]\n")
    problems = [
        f"{log.path.parent.name}: {problem.text}"
        for log in (reference, tested)
        for problem in log.problems
    ]
    return Comparison(
        logged,
        known,
        tuple(sorted(digests.keys() - seen)),
        tuple(sorted(differing)),
        tuple(problems),
        tested.sha256,
    )


def _record(entry: Entry) -> str:
    digits = entry.data.hex().upper()
    return f'{{ "seq_id" : {entry.seq_id}, "qsl_idx" : {entry.qsl_idx}, "data" : "{digits}" }}'


def image_checks(prefix: str, found: Comparison) -> list[Check]:
    """Whether both logs are whole, and each of TEST01's images is the accuracy run's."""
    wrong = [
        f"{len(indices)} {what}: samples {_listed(indices)}"
        for indices, what in (
            (found.differing, "differ"),
            (found.missing, "are not in the accuracy run's log"),
        )
        if indices
    ]
    value = f"{found.logged} images, all equal"
    if wrong:
        value = f"{found.logged} images, {'; '.join(wrong)}; {WHAT_TO_DO}"
    elif not found.logged:
        value = "no image was logged, so that nothing can be compared"
    damaged = "; ".join(found.problems[:LISTED])
    return [
        Check(
            f"{prefix}.log",
            "both accuracy logs are whole",
            damaged or f"{found.logged} and {found.known} records",
            FAIL if damaged else PASS,
            OURS,
        ),
        Check(
            f"{prefix}.images",
            "every image equals, byte for byte, the accuracy run's image of the same sample",
            value,
            FAIL if wrong or not found.logged else PASS,
            OURS,
        ),
    ]


def _listed(indices: tuple[int, ...]) -> str:
    return ", ".join(map(str, indices[:LISTED])) + ", ..." * (len(indices) > LISTED)


def sampling_checks(prefix: str, detail: Detail, logged: int) -> list[Check]:
    """Whether TEST01's images were drawn as the audit wants, and about as many as it wants."""
    checks = []
    for what, key, wanted in (
        ("seed", "effective_accuracy_log_rng_seed", TEST01_SEED),
        ("target", "effective_accuracy_log_sampling_target", TEST01_SAMPLES),
    ):
        value = detail.get(key)
        rule = f"{key} is the audit's {wanted}"
        verdict = PASS if value == wanted else FAIL
        checks.append(Check(f"{prefix}.{what}", rule, value, verdict, RULES))
    rule = "about as many images are logged as the audit's sampling draws"
    try:
        low, high = expected_images(detail)
    except ValueError as error:
        return [*checks, Check(f"{prefix}.logged", rule, str(error), FAIL, OURS)]
    margin = min(logged - low, high - logged)
    verdict = PASS if margin >= 0 else FAIL
    return [
        *checks,
        Check(f"{prefix}.logged", rule, logged, verdict, OURS, low, high, float(margin)),
    ]


def expected_images(detail: Detail) -> tuple[int, int]:
    """Least and greatest plausible number of images that performance mode logged.

    LoadGen logs each issued sample with the probability target / planned samples; where more
    samples are wanted than planned, each. Source: IssueQueries and SampleComplete of
    loadgen/loadgen.cc. Raises ValueError where the detail log lacks a value for this.
    """

    def value(key: str) -> float:
        found = detail.number(key)
        if found is None:
            raise ValueError(f"{detail.path}: has no {key}; run this mode again")
        return found

    per_query = value("effective_samples_per_query")
    planned = value("effective_target_qps") * value("effective_min_duration_ms") / 1000
    if detail.get("effective_scenario") == "Offline":
        issued = value("generated_samples_per_query")
        planned = max(planned, value("effective_min_sample_count"))
    else:
        issued = value("result_query_count") * per_query
        planned = max(int(planned), value("effective_min_query_count")) * per_query
    probability = min(1.0, value("effective_accuracy_log_sampling_target") / planned)
    mean = issued * probability
    spread = SIGMAS * math.sqrt(mean * (1 - probability))
    return max(1, math.floor(mean - spread)), math.ceil(mean + spread)
