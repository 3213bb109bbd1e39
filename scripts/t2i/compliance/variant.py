"""The verdict on a variant: every rule with its value, bounds, margin and source."""

from __future__ import annotations

from typing import Any

import numpy as np

from t2i.base.check import CHECKER, FAIL, NOT_APPLICABLE, OURS, PASS, RULES, Check
from t2i.metrics.compare import image_difference
from t2i.metrics.features import Features, check_coverage
from t2i.mlperf import CLOSED_WINDOWS, COMPLIANCE_IMAGES, OFFICIAL_SAMPLES

CAPTIONED = ("colour", "size", "place", "background")  # what "all" asks for; shapes blur first
OWN_WINDOWS = "windows of this run's configuration"
LEAST_SHOWN = 0.9  # share of pictures that show an attribute as captioned
LEAST_FIRST = 0.95  # share of pictures whose own caption scores higher than the next one


def window_checks(metrics: dict[str, Any], windows: dict[str, Any] | None) -> list[Check]:
    """Whether FID and CLIP lie inside their windows; both ends count as inside, and both can fail.

    Windows hold `samples`, `fid` and `clip`; scores of another number of samples are not judged.
    Their source is their `label`, or the submission checker for its own windows alone.
    """
    checks = []
    source = window_source(windows)
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
            checks.append(Check(name, rule, value, verdict, source, low, high, margin))
    return checks


def window_source(windows: dict[str, Any] | None) -> str:
    """Whose windows these are."""
    if windows is None:
        return "no window is configured"
    if windows == CLOSED_WINDOWS:
        return CHECKER
    return str(windows.get("label", OWN_WINDOWS))


def pixel_check(
    references: dict[int, np.ndarray],
    images: dict[int, np.ndarray],
    samples: int,
    limit: float,
    source: str,
) -> Check:
    """Whether each reference image is met by the variant's image of the same sample.

    Images (height, width, 3) uint8 by sample index. Their mean absolute difference in grey levels
    is at most `limit` for every single one: in a mean over images a broken one could hide.
    """
    name = "accuracy.pixels"
    rule = f"every reference image is met within {limit:g} grey levels on average"
    beyond = sorted(index for index in references if index >= samples)
    if beyond:
        listed = ", ".join(map(str, beyond))
        why = f"reference images beyond the {samples} samples: {listed}"
        return Check(name, rule, why, NOT_APPLICABLE, source)
    sizes = [
        f"sample {index} has {_size(images[index])} pixels, its reference {_size(reference)}"
        for index, reference in sorted(references.items())
        if images[index].shape != reference.shape
    ]
    if sizes:
        return Check(name, rule, "; ".join(sizes), FAIL, source, high=limit)
    differences = {
        index: image_difference(reference, images[index])
        for index, reference in sorted(references.items())
    }
    worst = max(differences, key=differences.__getitem__)
    largest = differences[worst]
    value = (
        f"{np.mean(list(differences.values())):.4g} on average over {len(differences)} images; "
        f"largest {largest:.4g}, sample {worst}"
    )
    verdict = PASS if largest <= limit else FAIL
    return Check(name, rule, value, verdict, source, high=limit, margin=limit - largest)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def picture_checks(judged: dict[str, Any]) -> list[Check]:
    """Whether the project's own pictures show what their captions say, by `t2i.micro.judged`.

    Shapes are reported only: a small one differs by few pixels from another.
    """
    return [
        _share_check(
            f"pictures.{name}",
            f"the {name} of the caption is seen in at least {LEAST_SHOWN:.0%} of the pictures",
            judged["attributes"][name]["share"],
            LEAST_SHOWN,
        )
        for name in CAPTIONED
    ]


def first_check(share: float) -> Check:
    """Whether nearly every image scores higher with its own caption than with the next row's."""
    rule = f"the own caption scores higher than the next in at least {LEAST_FIRST:.0%} of samples"
    return _share_check("pairing.first", rule, share, LEAST_FIRST)


def _share_check(name: str, rule: str, share: float, least: float) -> Check:
    verdict = PASS if share >= least else FAIL
    return Check(name, rule, share, verdict, OURS, low=least, margin=share - least)


def protocol_check(comparable: dict[str, Any], closed: bool) -> Check:
    """Whether the scores were taken as MLPerf takes them, on enough samples."""
    verdict = PASS if comparable["value"] else FAIL if closed else NOT_APPLICABLE
    value = "; ".join(comparable["reasons"]) or "data set, model, sampler and scores are MLPerf's"
    return Check(
        "accuracy.protocol", "scores are taken by MLPerf's protocol", value, verdict, RULES
    )


def count_check(samples: int, closed: bool) -> Check:
    """Whether the run has the benchmark's number of samples."""
    enough = samples == OFFICIAL_SAMPLES
    return Check(
        "samples.count",
        f"accuracy is measured on all {OFFICIAL_SAMPLES} samples",
        samples,
        PASS if enough else FAIL if closed else NOT_APPLICABLE,
        CHECKER,
        OFFICIAL_SAMPLES,
        OFFICIAL_SAMPLES,
        0.0 if enough else -float(abs(samples - OFFICIAL_SAMPLES)),
    )


def coverage_check(index: np.ndarray, samples: int) -> Check:
    """Whether each sample index occurs exactly once."""
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
    samples = features.index[bad]
    listed = ", ".join(map(str, samples[:20])) + (", ..." if len(samples) > 20 else "")
    value = f"{len(samples)} of {len(bad)}" + (f": samples {listed}" if len(samples) else "")
    return Check(name, rule, value, FAIL if len(samples) else PASS, OURS)


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
    """Whether images score higher with their own captions than with the next row's.

    A random network (`random_network`) cannot tell, so that nothing is judged by it.
    """
    return Check(
        "pairing.clip",
        "the CLIP score falls when captions are moved by one row",
        f"{clip:.6g} with own captions, {shifted:.6g} moved by one",
        NOT_APPLICABLE if random_network else PASS if clip > shifted else FAIL,
        OURS,
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
        OURS,
    )


def summary(checks: list[Check], division: str, comparable: dict[str, Any]) -> str:
    """The verdict in one plain sentence."""
    failed = [check.id for check in checks if check.verdict == FAIL]
    counted = sum(check.verdict != NOT_APPLICABLE for check in checks)
    if failed:
        text = f"{len(failed)} of {counted} checks failed: {', '.join(failed)}"
    else:
        scores = [check for check in checks if check.id in ("accuracy.fid", "accuracy.clip")]
        accuracy = "accuracy not judged"
        if all(check.verdict == PASS for check in scores):
            (source,) = {check.source for check in scores}
            accuracy = f"FID and CLIP lie inside the {source}"
            if source == CHECKER:  # the open division has no targets
                accuracy = (
                    "closed-division accuracy targets met"
                    if division == "closed"
                    else "FID and CLIP lie inside the closed division's windows"
                )
        text = f"all {counted} checks that apply passed; {accuracy}"
    if not comparable["value"]:
        text += "; the scores are not comparable with published ones"
    return text[0].upper() + text[1:] + "."
