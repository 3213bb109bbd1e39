"""The verdict on a variant: every rule with its value, bounds, margin and source."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from t2i.features import Features, check_coverage

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "not applicable"
REQUIRED_SAMPLES = 5000
COMPLIANCE_IMAGES = 10
CLOSED_SIDE = 1024
CHECKER = "MLPerf Inference submission checker, stable-diffusion-xl"
RULES = "MLPerf Inference rules, text-to-image"


@dataclass(frozen=True)
class Check:
    """One rule's outcome. `low` and `high` are inclusive bounds, `margin` the distance to the
    nearer one (negative outside), each None where the rule has no such thing."""

    id: str
    rule: str
    value: Any
    verdict: str
    source: str
    low: float | None = None
    high: float | None = None
    margin: float | None = None


def window_checks(metrics: dict[str, Any], windows: dict[str, Any] | None) -> list[Check]:
    """Whether FID and CLIP lie inside their windows; both ends count as inside, and both can fail.

    Windows hold `samples`, `fid` and `clip`; scores of another number of samples are not judged.
    """
    checks = []
    for key in ("fid", "clip"):
        name, value = f"accuracy.{key}", metrics[key]
        rule = f"{key.upper()} lies inside the accuracy window, neither worse nor better"
        if windows is None:
            checks.append(Check(name, rule, value, NOT_APPLICABLE, "no window is configured"))
        elif windows["samples"] != metrics["samples"]:
            why = f"the windows are meant for {windows['samples']} samples"
            checks.append(Check(name, rule, value, NOT_APPLICABLE, why))
        else:
            low, high = windows[key]
            margin = min(value - low, high - value)
            verdict = PASS if margin >= 0 else FAIL
            checks.append(Check(name, rule, value, verdict, CHECKER, low, high, margin))
    return checks


def protocol_check(comparable: dict[str, Any], closed: bool) -> Check:
    """Whether the scores were taken as MLPerf takes them, on enough samples."""
    verdict = PASS if comparable["value"] else FAIL if closed else NOT_APPLICABLE
    value = "; ".join(comparable["reasons"]) or "MLPerf's networks, statistics and sample count"
    return Check(
        "accuracy.protocol", "scores are taken by MLPerf's protocol", value, verdict, RULES
    )


def count_check(samples: int, closed: bool) -> Check:
    """Whether the run has the benchmark's number of samples."""
    enough = samples == REQUIRED_SAMPLES
    return Check(
        "samples.count",
        f"accuracy is measured on all {REQUIRED_SAMPLES} samples",
        samples,
        PASS if enough else FAIL if closed else NOT_APPLICABLE,
        CHECKER,
        REQUIRED_SAMPLES,
        REQUIRED_SAMPLES,
        0.0 if enough else -float(abs(samples - REQUIRED_SAMPLES)),
    )


def coverage_check(index: np.ndarray, samples: int) -> Check:
    """Whether each sample index stands exactly once."""
    rule = "each sample index was generated and scored exactly once"
    try:
        check_coverage(index, samples)
    except ValueError as error:
        return Check("samples.coverage", rule, str(error), FAIL, RULES)
    return Check("samples.coverage", rule, f"0 to {samples - 1}", PASS, RULES)


def input_checks(inputs: list[dict[str, Any]]) -> list[Check]:
    """Whether every published input has its published digest.

    Each input has name, sha256, published (its published digest, or None for what the workflow
    made itself) and matches (bool). What the workflow made itself follows from its code and is not
    listed.
    """
    rule = "the input is the published one, by digest"
    published = [entry for entry in inputs if entry["published"]]
    if not published:
        value = "none: data set, model and networks are made by this workflow"
        return [Check("inputs", rule, value, NOT_APPLICABLE, "config/sources.yaml")]
    return [
        Check(
            f"inputs.{entry['name']}",
            rule,
            entry["sha256"],
            PASS if entry["matches"] else FAIL,
            f"config/sources.yaml: {entry['published']}",
        )
        for entry in published
    ]


def image_checks(features: Features, finite: np.ndarray, side: int | None) -> list[Check]:
    """Whether all images have one size, are finite, and none is black or of a single colour.

    `side` is the height and width they must have, None for any; `finite` (n,) bool.
    """
    sizes = {f"{width}x{height}" for height, width in np.unique(features.size, axis=0).tolist()}
    wanted = {f"{side}x{side}"} if side else sizes
    one_size = len(sizes) == 1 and sizes <= wanted
    constant = features.low == features.high
    black = features.high == 0
    return [
        Check(
            "images.size",
            f"every image is {side}x{side}" if side else "all images have one size",
            ", ".join(sorted(sizes)),
            PASS if one_size else FAIL,
            RULES,
        ),
        _named_samples("images.finite", "no image had NaN or infinite values", ~finite, features),
        _named_samples("images.black", "no image is all black", black, features),
        _named_samples(
            "images.constant", "no image is a single colour", constant & ~black, features
        ),
    ]


def _named_samples(name: str, rule: str, bad: np.ndarray, features: Features) -> Check:
    found = features.index[bad]
    listed = ", ".join(map(str, found[:20])) + (", ..." if len(found) > 20 else "")
    value = f"{len(found)} of {len(bad)}" + (f": samples {listed}" if len(found) else "")
    return Check(name, rule, value, FAIL if len(found) else PASS, "this workflow")


def compliance_images_check(ids: list[int], samples: int, closed: bool) -> Check:
    """Whether the ten images that a submission must show lie inside the run."""
    missing = [index for index in ids if index >= samples]
    there = len(ids) - len(missing)
    value = f"{there} of {COMPLIANCE_IMAGES}"
    if missing:
        value += f"; beyond the {samples} samples: {', '.join(map(str, missing))}"
    complete = not missing and there == COMPLIANCE_IMAGES
    verdict = PASS if complete else FAIL if closed else NOT_APPLICABLE
    return Check("images.compliance", "the ten compliance images are there", value, verdict, RULES)


def pairing_check(clip: float, shifted: float, random_network: bool) -> Check:
    """Whether images score higher with their own captions than with the next row's."""
    return Check(
        "pairing.clip",
        "the CLIP score falls when captions are moved by one row",
        f"{clip:.6g} with own captions, {shifted:.6g} moved by one",
        NOT_APPLICABLE if random_network else PASS if clip > shifted else FAIL,
        "this workflow",
        margin=clip - shifted,
    )


def uniformity_check(manifests: list[dict[str, Any]]) -> Check:
    """Whether all shards come from one engine, one kind of device and one set of software."""
    differing = [
        key
        for key in ("engine", "device", "software", "inputs")
        if any(manifest[key] != manifests[0][key] for manifest in manifests)
    ]
    return Check(
        "shards.uniform",
        "all shards come from one engine, device model, software and inputs",
        f"shards differ in {', '.join(differing)}" if differing else f"{len(manifests)} alike",
        FAIL if differing else PASS,
        "this workflow",
    )


def verdict(checks: list[Check]) -> str:
    """fail if any check fails, pass if any passes, else not applicable."""
    verdicts = {check.verdict for check in checks}
    return FAIL if FAIL in verdicts else PASS if PASS in verdicts else NOT_APPLICABLE


def summary(checks: list[Check], division: str, comparable: dict[str, Any]) -> str:
    """The verdict in one plain sentence."""
    failed = [check.id for check in checks if check.verdict == FAIL]
    counted = sum(check.verdict != NOT_APPLICABLE for check in checks)
    if failed:
        text = f"{len(failed)} of {counted} checks failed: {', '.join(failed)}"
    else:
        judged = all(
            check.verdict == PASS
            for check in checks
            if check.id in ("accuracy.fid", "accuracy.clip")
        )
        accuracy = f"{division}-division accuracy targets met" if judged else "accuracy not judged"
        text = f"all {counted} checks that apply passed; {accuracy}"
    if not comparable["value"]:
        text += "; the scores are not comparable with published ones"
    return text[0].upper() + text[1:] + "."


def check_records(checks: list[Check]) -> list[dict[str, Any]]:
    """The checks as compliance.json lists them."""
    return [asdict(check) for check in checks]
