"""What follows from a configuration: settings of a variant, inputs to fetch, shards to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2i.base import embedded
from t2i.base.backends import BACKENDS, FP8, REFERENCE
from t2i.base.datasets import VALIDATION_SET, dataset_files
from t2i.base.yaml import Config
from t2i.fetch.needed import SD2_FILE, model_sources, network_sources, tokenizer_sources
from t2i.fetch.table import Source
from t2i.job.device import local_gpus
from t2i.mlperf import INFERRED, required_scenarios

LOADGEN_KEYS = ("time", "samples_per_query", "max_latency", "batch_wait")


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
        "backend": variant.get("backend", REFERENCE),
        "cache": variant.get("cache"),
        "vae": variant.get("vae"),
        "unet": variant.get("unet"),
        "fp8": variant.get("fp8"),
    }


def backend_modules(config: Config, name: str) -> tuple[str, ...]:
    """Modules that a variant's engine loads by name, for the digest of code."""
    settings = variant_settings(config, name)
    return (*BACKENDS[settings["backend"]], *([FP8] if settings["fp8"] else []))


def variant_model(config: Config, name: str) -> str:
    """What paints a variant's pictures: the model, or a stand-in."""
    model: str = config["model"]
    return embedded.STAND_IN if "stand_in" in config["variants"][name] else model


def variant_recipe(config: Config, name: str) -> dict[str, Any]:
    """What `t2i.metrics.protocol.Recipe` has of the configuration: all but digests of files."""
    variant = variant_settings(config, name)
    return {
        "dataset": config["dataset"],
        "model": variant_model(config, name),
        **{key: variant[key] for key in ("steps", "guidance", "patch")},
        "negative_prompt": config["sampler"]["negative_prompt"],
        **{key: variant[key] for key in ("cache", "unet") if variant[key]},
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
    if submission is None or config["loadgen"] is None:
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


def variant_sources(config: Config, name: str, sources: dict[str, Source]) -> list[str]:
    """Names of the model's files that a variant is built from; a stand-in is built from none."""
    variant = config["variants"][name]
    if "stand_in" in variant:
        return []
    return model_sources(config["model"], variant["dtype"], sources)


def needed_sources(config: Config, sources: dict[str, Source]) -> list[str]:
    """Names of all inputs of the table that a configuration uses, sorted."""
    needed: set[str] = set()
    if config["dataset"] == VALIDATION_SET:
        needed.add("coco2014/annotations_trainval2014.zip")
        if config["scores"]["reference"].get("images") == VALIDATION_SET:
            needed.add("coco2014/val2014.zip")
    elif config["dataset"] != embedded.DATASET:
        files = dataset_files(config["captions"])
        needed.update(f"{config['dataset']}/{name}" for name in files)
    for name in config["variants"]:
        needed.update(variant_sources(config, name, sources))
    needed.update(set(tokenizer_sources(config["model"], sources)) & set(sources))
    if config["training"] is not None:
        frozen = config["training"]["frozen"]
        folders = tuple(
            f"{frozen['model']}/{part}"
            for part in ("vae/", f"{frozen['text_encoder']}/", f"{frozen['tokenizer']}/", SD2_FILE)
        )
        needed.update(name for name in sources if name.startswith(folders))
    for key in ("inception", "clip"):
        needed.update(network_sources(config["scores"][key], sources))
    reference = config["scores"]["reference"]
    needed.update({reference.get("statistics"), reference.get("images")} & set(sources))
    return sorted(needed)


def variant_windows(config: Config, name: str) -> dict[str, Any] | None:
    """The windows with the one `image_difference` that applies to a variant, by its formats."""
    windows: dict[str, Any] | None = config["windows"]
    if windows is None or "image_difference" not in windows:
        return windows
    limits, variant = windows["image_difference"], config["variants"][name]
    kind = "fp8" if "fp8" in variant and "fp8" in limits else variant["dtype"]
    return {**windows, "image_difference": limits[kind]}


def reference_pixels(config: Config) -> list[str]:
    """Paths of the reference images that the windows name, in the order of their samples."""
    folder = (config["windows"] or {}).get("images")
    return [] if folder is None else sorted(map(str, Path(folder).glob("*.png")))
