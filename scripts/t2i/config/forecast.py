"""Disk forecast: the most that a run will still write, checked before its first job.

Sizes are upper bounds: an image counts as noise, which no PNG makes smaller. Those that do not
follow from the configuration were measured with the packages of requirements.lock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2i.base import embedded
from t2i.base.datasets import CAPTIONS
from t2i.base.files import read_json
from t2i.fetch import needed
from t2i.fetch.files import is_remote, local_path, part_path
from t2i.fetch.table import Source
from t2i.generate import plan
from t2i.job.disk import DiskFullError, format_bytes, free_bytes, freed_bytes, nearest_existing
from t2i.training.settings import NETWORKS, PARAMETERS, checkpoints

RESOURCES = Path("resources")
RESULTS = Path("results")
# Kinds of files in the order of the data, and where they lie.
FOLDERS = {
    "weights": RESOURCES,
    "scoring networks": RESOURCES,
    "data set": RESOURCES,
    "engines": RESULTS,
    "images": RESULTS,
    "features": RESULTS,
    "checkpoints": RESULTS,
    "LoadGen logs": RESULTS,
    "reports and logs": RESULTS,
}
WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
LARGEST_SIDE = 1024  # of a model whose configuration is not here yet
PIXELS_PER_LATENT = 8
TOKENIZERS = 3_300_000  # of an engine, CLIP's; they are copied, never linked
MANIFEST_ENTRY = 300  # of a sample
FEATURE_ROW = 8600  # of a sample
COMPLIANCE_IMAGES = 10
REFERENCE_IMAGES = 40_504  # of COCO val2014, the largest set that is expected
LOGGED_ENTRY = 90  # of an image in LoadGen's accuracy log, beside two digits for each of its bytes
LOGGED_QUERY = 600  # of a query in LoadGen's detail and trace logs and among our latencies
QUERY_RATE = 200  # images per second, more than any device is expected to make
# Images that TEST01 logs: LoadGen draws each with a probability that makes 128 of them on average;
# this is four and a half standard deviations more.
AUDITED_IMAGES = 180
TRUNCATED_LOG = 8200
IMAGE_DIGEST = 80  # of a sample in accuracy.json
EVERY_JOB = 100_000  # log, benchmark, Snakemake's own record, small results
TAR_ROW = 4096  # of a training sample: caption, facts, and what a tar has around its files
INDEX_ROW = 56
METADATA_ROW = 400  # of an image that LAION names: address, caption, facts
LARGEST_TAR = 8_000  # samples; those of LAION-400M as MLPerf filtered it have 7,828 on average
TRAINING_RULES = (
    *("draw_training_images", "index_tar", "convert_moments", "encode_captions"),
    *("fetch_training_tar", "filter_metadata", "fetch_training_images"),
    *("train_network", "train_segment", "sample_checkpoint"),
)
PAGE = 10_000_000  # with all small pictures
GALLERY = 24  # whole pictures of each variant beside it
# What rules write beyond that, regardless of the samples.
RULES = {
    "convert_inception": ("scoring networks", 96_000_000),
    "convert_clip": ("scoring networks", 606_000_000),
    "sample_validation_captions": ("data set", 2_500_000),
    "resize_validation_images": ("data set", 3_000_000_000),
    "convert_stable_diffusion": ("weights", 1_800_000_000),
    "convert_open_clip": ("scoring networks", 3_950_000_000),
    "make_micro_inception": ("scoring networks", 88_000_000),
    "build_tokenizer": ("weights", 1_700_000),
    "draw_pictures": ("data set", 1_500_000),
    "sample_captions": ("data set", 2_000_000),
    "tokenize_prompts": ("data set", 8_000_000),
    "list_reference_images": ("data set", 10_000_000),
    "compute_reference_statistics": ("data set", 34_000_000),
    "build_submission": ("LoadGen logs", 5_000_000),  # the code; what LoadGen wrote is linked
}


class WeightsRemovedError(RuntimeError):
    """An engine is needed again whose weights were removed to make room."""


@dataclass(frozen=True)
class Job:
    """A job that is going to run.

    `present` is the size of existing output: bytes that a download resumes from, or bytes
    that go when it starts, because Snakemake removes the outputs of a job before it runs.
    """

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    present: int = 0


def image_bytes(side: int) -> int:
    """The most that a square RGB image takes in a shard: raw pixels, PNG and tar around them.

    A PNG has a byte before each row; what deflate cannot shrink it stores, and the heads of its
    blocks and of the PNG's chunks stay below a thousandth. A tar has 512 bytes before each file and
    fills its last 512.
    """
    raw = 3 * side**2
    return raw + side + raw // 1000 + 200 + 1023


def engine_bytes(model: str, dtype: str, sources: dict[str, Source], linked: bool) -> int:
    """What an engine takes beside the weights that it is made from.

    Weights that have its number format already are linked, or copied where `linked` is false
    (another file system); others are cast. Files of unknown size count as nothing.
    """
    files = [
        ("fp16" if name.endswith(".fp16.safetensors") else "fp32", sources[name].size or 0)
        for name in needed.model_sources(model, dtype, sources)
        if name.endswith(".safetensors")
    ]
    return TOKENIZERS + sum(
        size * WEIGHT_BYTES[dtype] // WEIGHT_BYTES[held]
        for held, size in files
        if not (linked and held == dtype)
    )


def forecast(
    jobs: Iterable[Job],
    config: dict[str, Any],
    sources: dict[str, Source],
    side: int,
    linked: bool,
) -> dict[str, int]:
    """The most that jobs write, in bytes, by kind (the keys of `FOLDERS`).

    `side` is that of the model's images in pixels; `linked` says whether inputs and results are on
    one file system. Inputs of unknown size count as nothing.
    """
    totals = dict.fromkeys(FOLDERS, 0)
    for job in jobs:
        samples = len(plan.parse(job.wildcards["shard"])) if "shard" in job.wildcards else 0
        if job.rule == "fetch_source":
            name = job.wildcards["source"]
            what, size = _kind(name, config), sources[name].size or 0
        elif job.rule == "build_engine":
            variant = config["variants"][job.wildcards["variant"]]
            what, size = "engines", 0  # of a stand-in
            if not variant.get("stand_in"):
                size = engine_bytes(config["model"], variant["dtype"], sources, linked)
        elif job.rule == "generate_shard":
            image = image_bytes(_variant_side(job, config, side))
            what, size = "images", samples * (image + MANIFEST_ENTRY)
        elif job.rule == "extract_compliance_images":
            image = image_bytes(_variant_side(job, config, side))
            what, size = "images", COMPLIANCE_IMAGES * image
        elif job.rule == "make_report":
            whole = len(config["variants"]) * GALLERY * image_bytes(side)
            what, size = "reports and logs", PAGE + whole
        elif job.rule in ("extract_features", "extract_checkpoint_features"):
            what, size = "features", samples * FEATURE_ROW
        elif job.rule in TRAINING_RULES:
            what, size = training_bytes(job, config["training"], samples)
        elif job.rule == "extract_reference_features":
            what, size = "data set", _reference_images(job, config) * FEATURE_ROW
        elif job.rule in ("run_loadgen", "score_accuracy", "verify_audit"):
            what, size = "LoadGen logs", loadgen_bytes(job, config, side)
        else:
            what, size = RULES.get(job.rule, ("reports and logs", 0))
        totals[what] += max(0, size - job.present)
        totals["reports and logs"] += EVERY_JOB
    return totals


def loadgen_bytes(job: Job, config: dict[str, Any], side: int) -> int:
    """What a LoadGen run, its scores or an audit's verification take.

    LoadGen logs each byte of an image as two digits: of all images in accuracy mode, of a few in
    TEST01, and of none otherwise. `side` is that of the model's images in pixels.
    """
    loadgen = config["loadgen"]
    count: int = loadgen.get("count", config["samples"])
    side = _variant_side(job, config, side)
    logged = 2 * 3 * side**2 + LOGGED_ENTRY
    if job.rule == "score_accuracy":
        return COMPLIANCE_IMAGES * image_bytes(side) + count * IMAGE_DIGEST + TRUNCATED_LOG
    if job.rule == "verify_audit":  # the official script copies the log
        copied = config.get("inference_checkout") and job.wildcards["test"] == "TEST01"
        return 2 * TRUNCATED_LOG + (AUDITED_IMAGES * logged if copied else 0)
    if job.wildcards["mode"] == "accuracy":
        return count * (logged + LOGGED_QUERY)
    rate = max(QUERY_RATE, loadgen.get("qps", 0))
    queries: int = max(count, math.ceil(rate * loadgen["time"]))
    audited = AUDITED_IMAGES if job.wildcards["mode"] == "TEST01" else 0
    return queries * LOGGED_QUERY + audited * logged


def training_bytes(job: Job, training: dict[str, Any], samples: int) -> tuple[str, int]:
    """Kind and size of what a job of the training writes.

    A checkpoint is weights in float32, beside which one state is kept: two numbers for each weight,
    and for a while two states.
    """
    data = training["data"]
    if job.rule == "sample_checkpoint":
        return "images", samples * (image_bytes(data["side"]) + MANIFEST_ENTRY)
    steps = checkpoints(training)
    states = 2 * 2 * 4 * PARAMETERS[training["network"]]
    if job.rule == "train_network":
        return "checkpoints", len(steps) * 4 * PARAMETERS[training["network"]] + states
    if job.rule == "train_segment":
        first = int(job.wildcards["step"]) == steps[0]
        return "checkpoints", 4 * PARAMETERS[training["network"]] + (states if first else 0)
    metadata = data["metadata"]
    if metadata:
        rows = metadata["rows"] * (metadata["pieces"] if job.rule == "filter_metadata" else 1)
    else:
        rows = LARGEST_TAR if data["folder"] or data["published"] else data["images"]
    image = image_bytes(data["side"]) + TAR_ROW
    moments = 4 * 8 * (data["side"] // PIXELS_PER_LATENT) ** 2 + TAR_ROW
    of_a_row = {
        "fetch_training_tar": moments if data["kind"] == "moments" else image,
        "fetch_training_images": image,
        "filter_metadata": METADATA_ROW,
        "draw_training_images": image,
        "convert_moments": moments,
        "encode_captions": 2 * 77 * NETWORKS[training["network"]]["cross_attention_dim"],
        "index_tar": INDEX_ROW,
    }
    return "data set", rows * of_a_row[job.rule]


def _variant_side(job: Job, config: dict[str, Any], side: int) -> int:
    """Pixels along an image of a job's variant: those of its stand-in, or of the model."""
    stand_in = config["variants"][job.wildcards["variant"]].get("stand_in") or {}
    return int(stand_in.get("side", side))


def _kind(source: str, config: dict[str, Any]) -> str:
    """What an input of the table is for."""
    if source.startswith(f"{config['model']}/"):
        return "weights"
    networks = (*needed.NETWORK_SOURCES, embedded.CLIP)
    return "scoring networks" if source.partition("/")[0] in networks else "data set"


def _reference_images(job: Job, config: dict[str, Any]) -> int:
    """The most images that one part of a reference set has."""
    embedded_set = job.wildcards["images"] == embedded.DATASET
    images = CAPTIONS[embedded.DATASET] if embedded_set else REFERENCE_IMAGES
    parts: int = config["scores"]["reference"].get("shards", 1)
    return -(-images // parts)


def image_side(model: str, sources: dict[str, Source]) -> int:
    """Pixels along an image of a model, from its UNet's configuration as fetched or shipped."""
    name = f"{model}/unet/config.json"
    paths = [RESOURCES / name]
    if name in sources and not is_remote(sources[name].address):
        paths.append(local_path(sources[name].address))
    for path in paths:
        if path.is_file():
            return PIXELS_PER_LATENT * int(read_json(path)["sample_size"])
    return LARGEST_SIDE


def planned_job(
    rule: str, wildcards: dict[str, str], outputs: Iterable[str], sources: dict[str, Source]
) -> Job:
    """A job with the size of its existing output; for a download, of the partial file."""
    paths = [Path(output) for output in outputs]
    if rule == "fetch_source":
        paths += [part_path(path, sources[wildcards["source"]]) for path in paths]
    return Job(rule, wildcards, sum(map(freed_bytes, paths)))


def checked_forecast(jobs: list[Job], config: dict[str, Any], sources: dict[str, Source]) -> str:
    """One line on what the jobs write at most and what is free, per file system.

    Raises DiskFullError that holds the line and what to do when they may not fit.
    """
    devices = {folder: nearest_existing(folder).stat().st_dev for folder in (RESOURCES, RESULTS)}
    linked = devices[RESOURCES] == devices[RESULTS]
    totals = forecast(jobs, config, sources, image_side(config["model"], sources), linked)
    unknown = [
        job.wildcards["source"]
        for job in jobs
        if job.rule == "fetch_source" and sources[job.wildcards["source"]].size is None
    ]
    parts = []
    fits = True
    for folder in (RESULTS,) if linked else (RESOURCES, RESULTS):
        sizes = {what: size for what, size in totals.items() if linked or FOLDERS[what] == folder}
        needed, free = sum(sizes.values()), free_bytes(folder)
        if needed == 0:
            continue
        fits = fits and needed <= free
        kinds = ", ".join(f"{what} {format_bytes(size)}" for what, size in sizes.items() if size)
        place = "" if linked else f" below {folder}"
        parts.append(
            f"at most {format_bytes(needed)} more{place} ({kinds}), {format_bytes(free)} free"
        )
    line = f"disk: {'; '.join(parts)}"
    if unknown:
        line += f"; not counted, of unknown size: {', '.join(unknown)}"
    if not fits:
        raise DiskFullError(
            f"{line}\nThis may not fit, so nothing was started. Make room (`snakemake free` "
            "removes what can be made again) or work in a folder on a larger disk. Photographs "
            "take about half of what is counted for images; --no-hooks leaves this check out"
        )
    return line


def check_weights(jobs: Iterable[Job], run: Path) -> None:
    """Raise WeightsRemovedError if jobs need an engine whose weights were removed.

    Snakemake does not miss them: it looks for `engine.json` alone. They are built by themselves,
    because Snakemake makes all shards of an engine again that it builds in the same run.
    """
    rules: dict[str, set[str]] = {"build_engine": set(), "generate_shard": set()}
    for job in jobs:
        if job.rule in rules:
            rules[job.rule].add(job.wildcards["variant"])
    removed = [
        str(run / variant / "engine/weights")
        for variant in sorted(rules["generate_shard"] - rules["build_engine"])
        if not (run / variant / "engine/weights").is_dir()
    ]
    if removed:
        raise WeightsRemovedError(
            f"more shards need {' and '.join(removed)}, removed to make room. Build that first, "
            f"with this configuration: `snakemake --cores all {' '.join(removed)}`. Then run "
            "again: finished shards stay as they are"
        )
