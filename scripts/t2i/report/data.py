"""The report's machine twin: every number of the page, gathered from a run's result files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i.compliance.variant import window_source
from t2i.generate.plan import parse
from t2i.metrics.speed import speed_up
from t2i.prompts.captions import Caption
from t2i.report import loadgen

SCHEMA = 1
ROWS = 24  # gallery rows: the ten compliance samples of MLPerf and as many again, and a few

# Samples whose images have disturbed people who looked at them (mlcommons/inference issue 1769).
SENSITIVE = {"coco2014": frozenset({1303})}


def gallery_rows(
    available: Collection[int], compliance_ids: Sequence[int], rows: int = ROWS
) -> tuple[list[int], list[int]]:
    """Choose the samples to show without looking at them.

    Returns the compliance samples among `available` in their own order (all of them, even if they
    are more than `rows`), and further samples up to `rows` in all: the middles of equally long
    stretches of the remaining indices, in index order.
    """
    compliance = [index for index in compliance_ids if index in available]
    rest = sorted(set(available) - set(compliance))
    count = max(0, min(rows - len(compliance), len(rest)))
    return compliance, [rest[(2 * k + 1) * len(rest) // (2 * count)] for k in range(count)]


def direction(value: float | None, interval: Sequence[float] | None) -> str | None:
    """What a paired interval says of a difference: "no difference shown", "higher" or "lower"."""
    if value is None or interval is None:
        return None
    low, high = interval
    if low <= 0 <= high:
        return "no difference shown"
    return "higher" if low > 0 else "lower"


def _by_variant(items: Sequence[dict[str, Any]], names: Sequence[str], what: str) -> Any:
    entries = {item["variant"]: item for item in items}
    if missing := [name for name in names if name not in entries]:
        raise ValueError(
            f"no {what} of variant {', '.join(missing)}; found those of {', '.join(entries) or '-'}"
        )
    return entries


def _generation(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the manifests of one variant say of its generation as a whole."""
    samples = [sample for manifest in manifests for sample in manifest["samples"]]
    return {
        "shards": len(manifests),
        "samples": len(samples),
        "seconds": sum(manifest["seconds"] for manifest in manifests),
        "not_finite": sorted(sample.index for sample in samples if not sample.finite),
        "software": manifests[0]["software"],
    }


def _obstacles(
    variants: Sequence[dict[str, Any]], beyond: Sequence[int], ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Every reason why numbers are not comparable, with the variants that it concerns."""
    concerned: dict[str, list[str]] = {}
    for variant in variants:
        comparable = variant["metrics"]["comparable"]
        reasons = list(comparable["reasons"])
        if not comparable["value"] and not reasons:
            reasons.append("the metrics are marked as not comparable, without a reason")
        if broken := variant["generation"]["not_finite"]:
            reasons.append(
                f"{len(broken)} of {variant['generation']['samples']} images came from latents with"
                f" infinities or NaN, first sample {broken[0]}"
            )
        if beyond:
            reasons.append(
                f"{len(beyond)} of the {len(ids)} compliance samples lie beyond the"
                f" {variant['generation']['samples']} samples of this run"
            )
        for reason in reasons:
            concerned.setdefault(reason, []).append(variant["name"])
    return [{"reason": reason, "variants": names} for reason, names in concerned.items()]


def _gallery(
    shown: Mapping[str, Mapping[int, str]],
    captions: Sequence[Caption],
    compliance_ids: Sequence[int],
    dataset: str,
    wrong: Mapping[str, Mapping[int, list[str]]],
) -> dict[str, Any]:
    """Rows of the gallery; `shown` maps each variant to its samples' pixel digests.

    `wrong` maps it to what is not as captioned in samples, where that was judged.
    """
    available = set.intersection(*(set(samples) for samples in shown.values()))
    if available and max(available) >= len(captions):
        raise ValueError(
            f"sample {max(available)} has no caption: the captions have {len(captions)} rows;"
            " they must be those that the images were generated from"
        )
    compliance, spread = gallery_rows(available, compliance_ids)
    first = f"{len(compliance)} of the {len(compliance_ids)} compliance samples lie within this run"
    rule = (
        f"{first}{' and come first' if compliance else ''}; {len(spread)} further samples are"
        " spread evenly by index over the rest. No image was looked at to choose."
    )
    rows = [
        {
            "index": index,
            "caption_id": captions[index].id,
            "caption": captions[index].caption,
            "compliance": index in compliance,
            "sensitive": index in SENSITIVE.get(dataset, ()),
            "sha256": {name: samples[index] for name, samples in shown.items()},
            "wrong": {name: samples[index] for name, samples in wrong.items() if index in samples},
        }
        for index in [*compliance, *spread]
    ]
    return {"rule": rule, "rows": rows}


def _wrong(judged: Mapping[str, dict[str, Any]]) -> dict[str, dict[int, list[str]]]:
    """By variant and sample index, the attributes that are not as captioned."""
    return {
        name: {sample["index"]: list(sample["attributes"]) for sample in of_variant["wrong"]}
        for name, of_variant in judged.items()
    }


def _windows(windows: dict[str, Any] | None) -> dict[str, Any] | None:
    """The run's windows and whose they are."""
    return None if windows is None else {**windows, "source": window_source(windows)}


def _methods(variants: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One description per way of measuring, with the variants measured that way."""
    ways: list[dict[str, Any]] = []
    for variant in variants:
        metrics = variant["metrics"]
        way = {
            "samples": metrics["samples"],
            "protocol": metrics["protocol"],
            "reference": metrics["reference"],
            "interval_method": metrics["interval_method"],
        }
        for known in ways:
            if {key: known[key] for key in way} == way:
                known["variants"].append(variant["name"])
                break
        else:
            ways.append({"variants": [variant["name"]], **way})
    return ways


def assemble(
    run: str,
    names: Sequence[str],
    metrics: Sequence[dict[str, Any]],
    compliance: Sequence[dict[str, Any]],
    comparison: dict[str, Any],
    provenance: dict[str, Any],
    manifests: Sequence[dict[str, Any]],
    captions: Sequence[Caption],
    compliance_ids: Sequence[int],
    judged: Sequence[dict[str, Any]] = (),
    scenarios: Sequence[dict[str, Any]] = (),
    latencies: Mapping[tuple[str, str], NDArray[np.float64]] | None = None,
    submissions: Mapping[str, dict[str, Any]] | None = None,
    engine_speed: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Gather one run's results, unrounded, as the content of `report.json`.

    `names` orders the variants, the first being the gallery's left column; the other arguments are
    the parsed result files, in any order; `judged` is empty where no judge knows what the pictures
    should show. `scenarios` are LoadGen's verdicts, `latencies` (queries,) in seconds by variant
    and scenario, `submissions` by variant, `engine_speed` that of `t2i.report.speed`; what was not
    run or built is left out. Raises ValueError when a variant lacks one of the others, or an image
    its caption.
    """
    measured = _by_variant(metrics, names, "metrics.json")
    verdicts = _by_variant(compliance, names, "compliance.json")
    shares = _by_variant(judged, names, "judged.json") if judged else {}
    _by_variant(manifests, names, "shard manifest")
    config = provenance["config"]
    variants = []
    shown: dict[str, dict[int, str]] = {}
    for name in names:
        shards = sorted(
            (manifest for manifest in manifests if manifest["variant"] == name),
            key=lambda manifest: parse(manifest["shard"]).start,
        )
        settings = config.get("variants", {}).get(name) or {}
        sampler = {**config["sampler"], **settings}
        shown[name] = {s.index: s.sha256 for shard in shards for s in shard["samples"]}
        variants.append(
            {
                "name": name,
                "settings": settings,
                "sampling": {key: sampler[key] for key in ("steps", "guidance")},
                "metrics": measured[name],
                "compliance": verdicts[name],
                "judged": {"attributes": shares[name]["attributes"]} if judged else None,
                "generation": _generation(shards),
            }
        )
    baseline = measured[comparison["baseline"]]["speed"]
    for variant in variants:
        other = variant["name"] != comparison["baseline"]
        variant["speed_up"] = speed_up(variant["metrics"]["speed"], baseline) if other else None
    samples = set.intersection(*(set(digests) for digests in shown.values()))
    beyond = [index for index in compliance_ids if index not in samples]
    runs = loadgen.runs(scenarios, latencies or {}, names)
    pairs = [
        {
            **pair,
            "fid_direction": direction(pair["fid_difference"], pair["fid_interval"]),
            "clip_direction": direction(pair["clip_difference"], pair["clip_interval"]),
        }
        for pair in comparison["pairs"]
    ]
    return {
        "schema": SCHEMA,
        "run": run,
        "variants": variants,
        "windows": _windows(config.get("windows")),
        "judged": bool(judged),
        "not_comparable": _obstacles(variants, beyond, compliance_ids),
        "comparison": {"baseline": comparison["baseline"], "pairs": pairs},
        "gallery": _gallery(
            shown, captions, compliance_ids, str(config.get("dataset")), _wrong(shares)
        ),
        "methods": _methods(variants),
        "engine_speed": engine_speed,
        "loadgen": runs,
        "not_official": loadgen.not_official(runs),
        "submissions": loadgen.submissions(submissions or {}, names),
        "provenance": provenance,
    }
