"""What follows from a configuration: settings of a variant, inputs to fetch, shards to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2i import embedded
from t2i.datasets import dataset_files
from t2i.files import read_json, write_json
from t2i.folder_lock import is_locked
from t2i.sources import Source
from t2i.yaml_files import Config

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
NETWORK_SOURCES = {
    "inception-2015-12-05": "inception-2015-12-05/pt_inception-2015-12-05-6726825d.pth",
    "clip-vit-b-32": "clip-vit-b-32/ViT-B-32.pt",
}
VERIFIED = Path(".snakemake/t2i-verified.json")


def variant_settings(config: Config, name: str) -> dict[str, Any]:
    """A variant's entry with the sampler and the device that apply to it."""
    variant = config["variants"][name]
    return {
        "dtype": variant["dtype"],
        "batch_size": variant["batch_size"],
        "threads": variant["threads"],
        "device": variant.get("device", config["device"]),
        "patch": variant.get("patch"),
        "steps": config["sampler"]["steps"],
        "guidance": float(config["sampler"]["guidance"]),
    }


def model_sources(model: str, dtype: str, sources: dict[str, Source]) -> list[str]:
    """Names of a published model's files for a number format.

    fp16 takes the fp16 weights and every other format the full ones, as the reference does; what
    there is but one of serves all.
    """
    names = [name for name in sources if name.startswith(f"{model}/")]
    half = [name for name in names if name.endswith(".fp16.safetensors")]
    full = [name for name in names if name.endswith(".safetensors") and name not in half]
    unused = full if half and (dtype == "fp16" or not full) else half
    return [name for name in names if name not in unused]


def needed_sources(config: Config, sources: dict[str, Source]) -> list[str]:
    """Names of all published inputs that a configuration uses, sorted."""
    needed: set[str] = set()
    if config["dataset"] != embedded.DATASET:
        files = dataset_files(config["captions"])
        needed.update(f"{config['dataset']}/{name}" for name in files)
    if config["model"] != embedded.MODEL:
        for variant in config["variants"].values():
            needed.update(model_sources(config["model"], variant["dtype"], sources))
    for key in ("inception", "clip"):
        if source := NETWORK_SOURCES.get(config["scores"][key]):
            needed.add(source)
    reference = config["scores"]["reference"]
    needed.update({reference.get("statistics"), reference.get("images")} & set(sources))
    return sorted(needed)


def local_gpus() -> int:
    """Number of GPUs of this host as its driver lists them, at least 1."""
    folder = Path("/proc/driver/nvidia/gpus")
    return max(1, len(list(folder.iterdir()))) if folder.is_dir() else 1


def set_aside_damaged_shards(run: str, variants: list[str], shards: list[str]) -> list[str]:
    """Rename the shards of a run whose files are not what their manifests say; what was wrong.

    A scheduler that looks at existence and times alone would take them for finished. Nothing is
    touched while another run holds Snakemake's lock.
    """
    from t2i.archive import set_aside_damaged

    folders = [Path("results", run, variant, "shards") for variant in variants]
    if not any(folder.is_dir() for folder in folders) or is_locked():
        return []
    try:
        verified = dict(read_json(VERIFIED))
    except (OSError, TypeError, ValueError):
        verified = {}
    before = dict(verified)
    problems = [
        set_aside_damaged(folder / f"{shard}.tar", folder / f"{shard}.json", verified)
        for folder in folders
        for shard in shards
    ]
    if verified != before:
        write_json(VERIFIED, verified)
    return [problem for problem in problems if problem]
