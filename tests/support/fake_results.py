"""Results of a small run, laid out as the workflow lays them out, for tests of the report."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t2i.generate.shard import add_sample, archive_facts, read_manifest, write_manifest
from t2i.metrics.speed import shard_speed
from t2i.prompts.captions import Caption
from t2i.report.data import assemble
from t2i.report.gallery import Thumbnail, write_pictures

HOSTILE = "<script>alert('x')</script> \"quoted\" & <b>bold</b>"
IDS = [4475, 3627, 11, 4937, 3867, 3, 3789, 1206, 4111, 3093]


def picture(index: int, variant: str, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth picture that differs by sample, and a little by variant."""
    y, x = np.mgrid[0:side, 0:side] / side
    phase = index * 0.7
    planes = [np.sin(6 * x + phase), np.cos(5 * y - phase), np.sin(7 * (x - y) + 2 * phase)]
    pixels = 127.5 + 110 * np.stack(planes, axis=-1) + (variant != "fp32") * 4
    return pixels.clip(0, 255).astype(np.uint8)


def write_shard(folder: Path, variant: str, indices: range, side: int) -> Path:
    """Write one shard's archive and manifest, and return the manifest's path."""
    shard = f"{indices.start:05d}-{indices.stop:05d}"
    tar = folder / f"{shard}.tar"
    with tarfile.open(tar, "w") as archive:
        samples = [
            add_sample(archive, index, 1000 + index, picture(index, variant, side), finite=True)
            for index in indices
        ]
    facts = {
        "run": "demo",
        "shard": shard,
        "variant": variant,
        "engine": hashlib.sha256(variant.encode()).hexdigest(),
        "software": {"python": "3.12.3", "torch": "2.13.0"},
        "device": {"kind": "cpu", "name": "Example CPU", "arch": "x86_64-avx2"},
        "seconds": 12.34567,
        "images_per_second": 2.592003,
        "usage": {},
    }
    write_manifest(tar.with_suffix(".json"), archive_facts(tar), samples, facts)
    return tar.with_suffix(".json")


def speed(variant: str) -> dict[str, Any]:
    """Speed of a variant whose shards were not equally fast, on a GPU unless it is fp32."""
    factor, gpu = (1.0, False) if variant == "fp32" else (1.5, True)
    usage = {"memory_bytes": 2_345_678_901, "cores": 8, "other_cores": 0.25, "load_average": 8.5}
    usage["waited"] = 0.0123
    if gpu:
        usage |= {"gpu_memory_bytes": 23_456_789_012, "gpu_processes": 1}
        usage |= {"watts": 654.321, "megahertz": 1755.5, "held_down": []}
    rates = (2.5920031 * factor, 2.6543210 * factor, 2.6123456 * factor)
    return shard_speed([{"images_per_second": rate, "usage": usage} for rate in rates])


def metrics(variant: str, samples: int) -> dict[str, Any]:
    shift = 0.0 if variant == "fp32" else 1.2345678
    network = {"name": "Inception-v3 pool3", "sha256": "ab" * 32, "weights": "random"}
    return {
        "schema": 1,
        "run": "demo",
        "variant": variant,
        "samples": samples,
        "fid": 187.123456 + shift,
        "clip": 21.0543210,
        "clip_shifted": 20.9876543,
        "clip_first": 0.8765432,
        "clip_first_interval": [0.7654321, 0.9345678],
        "fid_interval": [180.2345 + shift, 193.8765 + shift],
        "clip_interval": [20.51234, 21.61234],
        "interval_method": {
            "fid": "bootstrap over images, 1000 draws, centred on the estimate",
            "clip": "mean plus or minus 1.96 standard errors",
            "clip_first": "Wilson's interval of a share",
        },
        "protocol": {
            "fid": "miniature",
            "clip": "miniature",
            "networks": {"inception": network, "clip": {**network, "name": "CLIP ViT-B/32"}},
        },
        "comparable": {
            "value": False,
            "reasons": [
                f"{samples} samples: below 2049 the covariance is rank-deficient",
                "the scoring networks have random weights",
            ],
        },
        "reference": {"name": "drawn pictures", "samples": 256, "sha256": "cd" * 32},
        "digest": hashlib.sha256(b"images" + variant.encode()).hexdigest(),
        "engine": hashlib.sha256(variant.encode()).hexdigest(),
        "speed": speed(variant),
        "device": {"kind": "cpu", "name": "Example CPU", "arch": "x86_64-avx2"},
    }


def check(name: str, verdict: str, value: Any = None, **more: Any) -> dict[str, Any]:
    bounds = {"low": None, "high": None, "margin": None}
    return {
        "id": name,
        "rule": f"what {name} asks for",
        "value": value,
        **bounds,
        "verdict": verdict,
        "source": "https://github.com/mlcommons/inference_policies",
        "why": "",
        "mend": "",
        **more,
    }


def compliance(variant: str) -> dict[str, Any]:
    fid = check(
        "accuracy.fid", "fail", 187.123456, low=23.01085758, high=23.95007626, margin=-163.17337974
    )
    if variant != "fp32":
        fid = check(
            "accuracy.fid", "pass", 23.4123456, low=23.01085758, high=23.95007626, margin=0.40148802
        )
    return {
        "schema": 1,
        "run": "demo",
        "variant": variant,
        "division": "closed",
        "verdict": fid["verdict"],
        "summary": "FID lies outside its window."
        if fid["verdict"] == "fail"
        else "All targets met.",
        "checks": [
            check("samples.count", "pass", 5000, low=5000, margin=0),
            fid,
            check("loadgen.scenarios", "not applicable", ["Offline", "Server"]),
            check("tokens.match", "pass", True),
        ],
    }


def judged(variant: str, samples: int) -> dict[str, Any]:
    """Shares that differ by attribute, and sample 3 wrong in two of them."""
    wrong = {"colour": {"captioned": "red", "found": "blue"}, "shape": {"captioned": "star"}}
    return {
        "schema": 1,
        "run": "demo",
        "variant": variant,
        "samples": samples,
        "attributes": {
            name: {
                "share": 0.91111 + n / 100,
                "count": 36 + n,
                "n": samples,
                "interval": [0.81111 + n / 100, 0.94444 + n / 100],
            }
            for n, name in enumerate(("shape", "colour", "size", "place", "background", "all"))
        },
        "wrong": [{"index": 3, "attributes": wrong}] if variant != "fp32" else [],
    }


def captions(samples: int) -> list[Caption]:
    rows = [
        Caption(1000 + i, 2000 + i, f"A drawing number {i} of two circles.", 64, 64, "f", "u")
        for i in range(samples)
    ]
    rows[3] = Caption(1003, 2003, HOSTILE, 64, 64, "f", "u")
    return rows


def write_shards(
    folder: Path, names: Sequence[str], samples: int, side: int
) -> dict[str, list[tuple[Path, Path]]]:
    """Write all shards of a run; returns each variant's pairs of archive and manifest."""
    shards: dict[str, list[tuple[Path, Path]]] = {name: [] for name in names}
    for name, pairs in shards.items():
        (folder / name).mkdir(parents=True)
        for start in range(0, samples, 16):
            indices = range(start, min(start + 16, samples))
            manifest = write_shard(folder / name, name, indices, side)
            pairs.append((manifest.with_suffix(".tar"), manifest))
    return shards


def comparison(names: Sequence[str], samples: int) -> dict[str, Any]:
    pair = {
        "samples": samples,
        "fid_difference": 1.2345678,
        "fid_interval": [0.3456789, 2.1234567],
        "clip_difference": -0.0034567,
        "clip_interval": [-0.0123456, 0.0054321],
        "identical_images": 0,
        "mean_absolute_difference": 3.98765,
        "comparable": True,
        "reason": None,
    }
    pairs = [{"variant": name, **pair} for name in names[1:]]
    return {"schema": 1, "run": "demo", "baseline": names[0], "pairs": pairs}


def provenance(names: Sequence[str], samples: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "run": "demo",
        "config": {
            "run": "demo",
            "dataset": "coco2014",
            "model": "micro-sdxl",
            "sampler": {"steps": 20, "guidance": 8.0, "negative_prompt": "blurry"},
            "samples": samples,
            "windows": {
                "samples": 5000,
                "fid": [23.01085758, 23.95007626],
                "clip": [31.68631873, 31.81331801],
                "label": "windows of a fake run",
            },
            "variants": {name: {"dtype": name, "batch_size": 4} for name in names},
        },
        "defaults_changed": {"samples": [64, samples]},
        "inputs": [
            {
                "name": "captions",
                "path": "resources/coco2014/captions.tsv",
                "size": 862324,
                "sha256": "2e" * 32,
                "licence": "CC BY 4.0",
                "source": "https://github.com/mlcommons/inference",
            }
        ],
        "software": {"python": "3.12.3", "torch": "2.13.0", "snakemake": "9.27.1"},
        "device": {"kind": "cpu", "name": "Example CPU", "arch": "x86_64-avx2"},
        "environment": {"mode": "venv"},
        "git": {"commit": "0123456789abcdef" * 2, "dirty": True},
        "command": "snakemake --cores 2 --configfile config/config.yaml",
    }


def scenario(
    variant: str, name: str, verdict: str = "pass", shortened: Sequence[str] = ()
) -> dict[str, Any]:
    """What LoadGen's runs of one scenario came to, as verdict.json says it."""
    result = "VALID" if verdict == "pass" else "INVALID"
    metric = {
        "name": "90th percentile latency, estimated by early stopping"
        if name == "SingleStream"
        else "samples per second",
        "value": 123.4567 if name == "SingleStream" else 8.1234567,
        "unit": "ms" if name == "SingleStream" else "samples/s",
        "better": "lower" if name == "SingleStream" else "higher",
    }
    latency = {"mean": 0.12, "50": 0.1191234, "90": 0.1234567, "95": 0.1256, "99": 0.1312345}
    server = {"name": "99th percentile latency", "value": 20.0, "unit": "s"}
    return {
        "schema": 1,
        "run": "demo",
        "variant": variant,
        "scenario": name,
        "official": not shortened,
        "shortened": list(shortened),
        "verdict": verdict,
        "summary": f"{name}: {metric['value']:.4g} {metric['unit']}, {result}.",
        "metric": metric,
        "target": server if name == "Server" else None,
        "valid": verdict == "pass",
        "early_stopping": None if name == "Offline" else {"met": verdict == "pass"},
        "latency": {} if name == "Offline" else latency,
        "modes": ["performance", "accuracy"],
        "checks": [
            check(f"loadgen.{name}.performance.valid", verdict, "VALID"),
            check(f"accuracy.{name}.fid", "not applicable", 188.4567891),
            check(f"accuracy.{name}.clip", "not applicable", 21.9876543),
        ],
    }


def submission(official: dict[str, Any]) -> dict[str, Any]:
    """What our validator and the official checker say of a tree, as submission.json says it."""
    return {
        "schema": 1,
        "round": "v6.1",
        "division": "open",
        "system_type": "edge",
        "submitter": "acme",
        "system": "my-box",
        "files": {
            f"open/acme/{name}": {"size": 1234567 + n, "sha256": "ef" * 32}
            for n, name in enumerate(("systems/my-box.json", "src/README.md"))
        },
        "checks": [
            check("submission.files", "fail", "open/acme/src is empty"),
            check("submission.system", "pass", True),
        ],
        "official": official,
        "verdict": "fail",
        "summary": "1 of 2 checks failed: submission.files.",
    }


def not_run(why: str) -> dict[str, Any]:
    """What is said of the official checker when there is none."""
    fields = {"commit": None, "version": "v6.1", "ok": None, "exit": None, "messages": []}
    return {"state": "not run", "why": why, **fields}


def fake_run(
    folder: Path,
    names: Sequence[str] = ("fp32", "bf16"),
    samples: int = 40,
    side: int = 64,
    judge: bool = True,
    **more: Any,
) -> tuple[dict[str, Any], dict[str, dict[int, Thumbnail]]]:
    """A run's report dict and thumbnails, made from files laid out as the workflow does.

    `more` is what else `assemble` takes, of LoadGen and submissions.
    """
    shards = write_shards(folder, names, samples, side)
    report = assemble(
        "demo",
        names,
        [metrics(name, samples) for name in reversed(names)],
        [compliance(name) for name in names],
        comparison(names, samples),
        provenance(names, samples),
        [read_manifest(manifest) for pairs in shards.values() for _, manifest in pairs],
        captions(samples),
        IDS,
        [judged(name, samples) for name in names if judge],
        **more,
    )
    indices = {row["index"] for row in report["gallery"]["rows"]}
    return report, {
        name: write_pictures(shards[name], indices, 100_000, folder / "images" / name)
        for name in names
    }
