"""What follows from a configuration: settings of a variant, inputs to fetch, shards to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2i import embedded
from t2i.datasets import dataset_files
from t2i.files import read_json, write_json
from t2i.folder_lock import is_locked
from t2i.loadgen.rounds import INFERRED, required_scenarios
from t2i.sources import Source
from t2i.yaml_files import Config

TOKENIZERS = ("tokenizer", "tokenizer_2")
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
NETWORK_SOURCES = {
    "inception-2015-12-05": "inception-2015-12-05/pt_inception-2015-12-05-6726825d.pth",
    "clip-vit-b-32": "clip-vit-b-32/ViT-B-32.pt",
}
LOADGEN_KEYS = ("time", "samples_per_query", "max_latency", "batch_wait")
VERIFIED = Path(".snakemake/t2i-verified.json")


def variant_settings(config: Config, name: str) -> dict[str, Any]:
    """A variant's entry with the sampler and the device that apply to it."""
    variant = config["variants"][name]
    sampler = {**config["sampler"], **variant}
    return {
        "dtype": variant["dtype"],
        "batch_size": variant["batch_size"],
        "threads": variant["threads"],
        "device": variant.get("device", config["device"]),
        "patch": variant.get("patch"),
        "steps": sampler["steps"],
        "guidance": float(sampler["guidance"]),
        "stand_in": variant.get("stand_in"),
    }


def variant_model(config: Config, name: str) -> str:
    """What paints a variant's pictures: the model, or a stand-in."""
    model: str = config["model"]
    return embedded.STAND_IN if "stand_in" in config["variants"][name] else model


def variant_recipe(config: Config, name: str) -> dict[str, Any]:
    """What `t2i.protocol.Recipe` has of the configuration: all but digests of files."""
    variant = variant_settings(config, name)
    return {
        "dataset": config["dataset"],
        "model": variant_model(config, name),
        **{key: variant[key] for key in ("steps", "guidance", "patch")},
        "negative_prompt": config["sampler"]["negative_prompt"],
    }


def loadgen_variants(config: Config) -> list[str]:
    """Variants that LoadGen drives, in the configuration's order."""
    loadgen = config["loadgen"]
    if loadgen is None:
        return []
    return [name for name in config["variants"] if name in loadgen.get("variants", [name])]


def submitted_scenarios(config: Config) -> list[str]:
    """Scenarios that the submission has; others that LoadGen runs are reported only."""
    submission = config["submission"]
    if submission is None:
        return []
    wanted = required_scenarios(config["round"], config["division"], submission["system_type"])
    return [name for name in wanted if name in config["loadgen"]["scenarios"]]


def inferred_scenarios(config: Config) -> dict[str, str]:
    """Scenarios of the submission that show another one's logs: {scenario: the one it ran}."""
    submission = config["submission"]
    return dict(INFERRED) if submission is not None and submission["infer_offline"] else {}


def loadgen_settings(config: Config, name: str) -> dict[str, Any]:
    """LoadGen's settings for a variant; `qps` and `target_latency` are None where not given.

    `given` names those that the configuration says and that would be measured otherwise.
    """
    loadgen = config["loadgen"]
    device = variant_settings(config, name)["device"]
    workers = loadgen.get("workers", local_gpus() if device == "cuda" else 1)
    measured = ("qps", "target_latency")
    return {
        "count": loadgen.get("count", config["samples"]),
        "max_batchsize": loadgen.get("max_batchsize"),
        **{key: loadgen.get(key) for key in measured},
        **{key: loadgen[key] for key in LOADGEN_KEYS},
        "workers": workers,
        "stall": loadgen.get("stall"),
        "given": [key for key in measured if key in loadgen],
    }


def model_sources(model: str, dtype: str, sources: dict[str, Source]) -> list[str]:
    """Names of a model's files for a number format, its own tokenizers among them.

    fp16 takes the fp16 weights and every other format the full ones, as the reference does; what
    there is but one of serves all.
    """
    names = [name for name in sources if name.startswith(f"{model}/")]
    half = [name for name in names if name.endswith(".fp16.safetensors")]
    full = [name for name in names if name.endswith(".safetensors") and name not in half]
    unused = full if half and (dtype == "fp16" or not full) else half
    return [name for name in names if name not in unused]


def variant_sources(config: Config, name: str, sources: dict[str, Source]) -> list[str]:
    """Names of the model's files that a variant is built from; a stand-in is built from none."""
    variant = config["variants"][name]
    if "stand_in" in variant:
        return []
    return model_sources(config["model"], variant["dtype"], sources)


def own_tokenizers(sources: dict[str, Source]) -> list[str]:
    """Tokenizers that models of the table bring with them, as MODEL/TOKENIZER."""
    ends = tuple(f"/{tokenizer}/vocab.json" for tokenizer in TOKENIZERS)
    return [name.removesuffix("/vocab.json") for name in sources if name.endswith(ends)]


def tokenizer_sources(model: str, sources: dict[str, Source]) -> list[str]:
    """Names of the files of a model's tokenizers: its own, or those that the workflow rebuilds."""
    names = []
    for folder in (f"{model}/{tokenizer}" for tokenizer in TOKENIZERS):
        if folder in own_tokenizers(sources):
            names += [name for name in sources if name.startswith(f"{folder}/")]
        else:
            names += [f"{folder}/{file}" for file in TOKENIZER_FILES]
    return names


def network_sources(network: str, sources: dict[str, Source]) -> list[str]:
    """Names of a scoring network's files in the table, none of one that the workflow makes."""
    return [name for name in sources if name.startswith(f"{network}/")]


def needed_sources(config: Config, sources: dict[str, Source]) -> list[str]:
    """Names of all inputs of the table that a configuration uses, sorted."""
    needed: set[str] = set()
    if config["dataset"] != embedded.DATASET:
        files = dataset_files(config["captions"])
        needed.update(f"{config['dataset']}/{name}" for name in files)
    for name in config["variants"]:
        needed.update(variant_sources(config, name, sources))
    needed.update(set(tokenizer_sources(config["model"], sources)) & set(sources))
    for key in ("inception", "clip"):
        needed.update(network_sources(config["scores"][key], sources))
    reference = config["scores"]["reference"]
    needed.update({reference.get("statistics"), reference.get("images")} & set(sources))
    return sorted(needed)


def variant_windows(config: Config, name: str) -> dict[str, Any] | None:
    """The windows with the one `image_difference` that applies to a variant, by its dtype."""
    windows: dict[str, Any] | None = config["windows"]
    if windows is None or "image_difference" not in windows:
        return windows
    limit = windows["image_difference"][config["variants"][name]["dtype"]]
    return {**windows, "image_difference": limit}


def reference_pixels(config: Config) -> list[str]:
    """Paths of the reference images that the windows name, in the order of their samples."""
    folder = (config["windows"] or {}).get("images")
    return [] if folder is None else sorted(map(str, Path(folder).glob("*.png")))


def local_gpus() -> int:
    """Number of GPUs of this host as its driver lists them, at least 1."""
    folder = Path("/proc/driver/nvidia/gpus")
    return max(1, len(list(folder.iterdir()))) if folder.is_dir() else 1


def set_aside_edited_trees(run: str, variants: list[str]) -> list[str]:
    """Rename the submission trees of a run that are not as they were built; what was changed.

    Nothing is touched while another run holds Snakemake's lock.
    """
    from t2i.submission.tree import set_aside_edited

    folders = [Path("results", run, variant) for variant in variants]
    if not any((folder / "submission").is_dir() for folder in folders) or is_locked():
        return []
    problems = map(set_aside_edited, folders)
    return [problem for problem in problems if problem]


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
