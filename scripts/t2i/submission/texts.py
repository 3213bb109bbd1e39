"""The pages of a submission: how it was made, with which weights, and what it is not."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from t2i.metrics.protocol import cache_in_words
from t2i.mlperf import BENCHMARK, MLPERF_MODEL, OFFICIAL_SAMPLES, OFFICIAL_SECONDS

if TYPE_CHECKING:
    from t2i.submission.tree import TreeRequest

IMPLEMENTATION = "t2i-bench"
FORMATS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
LOCAL = ("mirror", "inference_checkout", "offline", "containers")
HALF = ".fp16.safetensors"  # files that were published at half precision


def notes(request: TreeRequest, records: dict[str, dict[str, Any]]) -> list[str]:
    """What a reader must see, in capitals: why this is not a result of SDXL, or only part of one.

    `records` are the performance runs' run.json by scenario. What the closed division does not
    allow is called a rehearsal there.
    """
    remarks = []
    if request.settings.get("stand_in"):
        remarks.append("NO MODEL WAS RUN: A STAND-IN DRAWS PICTURES FROM THE SAMPLE INDEX.")
    elif request.model != MLPERF_MODEL:
        remarks.append(f"THE MODEL IS {request.model.upper()}, NOT SDXL BASE 1.0.")
    if request.settings.get("patch"):
        remarks.append("THE MODEL IS CHANGED BY A PATCH.")
    if unet := request.settings.get("unet"):
        remarks.append(f"THE UNET IS PRUNED ({unet.upper()}).")
    if cache := request.settings.get("cache"):
        words = cache_in_words(cache).upper()
        remarks.append(f"DEEPCACHE ({words}) SKIPS MOST OF THE MODEL.")
    for scenario, record in records.items():
        seconds, count = record["settings"]["time"], record["settings"]["count"]
        if seconds < OFFICIAL_SECONDS:
            remarks.append(
                f"{scenario.upper()} WAS ASKED FOR {seconds:g} OF {OFFICIAL_SECONDS:g} SECONDS."
            )
        if count < OFFICIAL_SAMPLES:
            remarks.append(f"{scenario.upper()} SAW {count} OF {OFFICIAL_SAMPLES} SAMPLES.")
    if remarks and request.division == "closed":
        return ["A REHEARSAL, NOT A SUBMISSION.", *remarks]
    return remarks


def portable(value: Any) -> Any:
    """A copy of a configuration without what belongs to one machine: mirrors, and the folders of
    absolute paths."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items() if key not in LOCAL}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, str) and PurePosixPath(value).is_absolute():
        return PurePosixPath(value).name
    return value


def portable_command(command: str) -> str:
    """The command of a run without mirrors and the folders of absolute paths."""
    words = []
    for word in shlex.split(command):
        key, equals, value = word.partition("=")
        if not equals:
            words.append(portable(word))
        elif key not in LOCAL:
            words.append(f"{key}={portable(value)}")
    bare = [  # --config whose only values were left out
        place
        for place, word in enumerate(words)
        if word in ("--config", "-C") and not any("=" in one for one in words[place + 1 :][:1])
    ]
    return shlex.join(word for place, word in enumerate(words) if place not in bare)


def _page(title: str, notes: list[str], *paragraphs: str) -> str:
    warning = [f"**{' '.join(notes)}**"] if notes else []
    return "\n\n".join([f"# {title}", *warning, *paragraphs]) + "\n"


def _commit(request: TreeRequest) -> str:
    if request.commit is None:
        return "not known (the workflow did not run from its own git repository)"
    changes = " with changes that no commit holds" if request.dirty else ""
    return f"`{request.commit}`{changes}"


def _code_block(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())


def measurements(request: TreeRequest) -> dict[str, str]:
    """The five fields of a measurements file; none may be empty."""
    if request.settings.get("stand_in"):
        nothing = "N/A: a stand-in without a model"
        return {
            "input_data_types": nothing,
            "retraining": nothing,
            "starting_weights_filename": nothing,
            "weight_data_types": nothing,
            "weight_transformations": nothing,
        }
    dtype = request.settings["dtype"]
    halves = all(name.endswith(HALF) for name in request.weights)
    as_they_are = dtype == ("fp16" if halves else "fp32")
    change = "widened" if dtype == "fp32" else "rounded"
    transformations = "none" if as_they_are else f"{change} to {FORMATS[dtype]}"
    if fp8 := request.settings.get("fp8"):
        transformations += f"; {_fp8_parts(fp8)} rounded to fp8 (e4m3), a scale for each output"
    if request.settings.get("patch"):
        transformations += f"; what patch.py in the code folder does ({request.settings['patch']})"
    return {
        "input_data_types": f"int64 tokens, {dtype} latents",
        "retraining": "No"
        if request.model == MLPERF_MODEL
        else f"Yes: another model, {request.model}",
        "starting_weights_filename": ", ".join(request.weights),
        "weight_data_types": f"fp8, {dtype}" if request.settings.get("fp8") else dtype,
        "weight_transformations": transformations,
    }


def calibration(request: TreeRequest, notes: list[str]) -> str:
    """documentation/SYSTEM_calibration.md: what was quantised, and with which data."""
    if request.settings.get("stand_in"):
        text = "A stand-in has no weights. Nothing was quantised and no calibration was done."
    elif request.settings.get("patch"):
        text = (
            f"Weights are {FORMATS[request.settings['dtype']]}. The workflow itself quantises "
            "nothing and did no calibration. The variant's patch may; what it does is in "
            "patch.py in the code folder, and how it was calibrated is for the submitter to say."
        )
    elif fp8 := request.settings.get("fp8"):
        text = (
            f"Weights of the UNet's {_fp8_parts(fp8)} are fp8 (e4m3) with a scale for each output, "
            "the largest magnitude divided by 448. Their inputs are fp8 with one scale for each "
            f"layer, found beforehand: {_covered(fp8)} over all steps of at most "
            f"{fp8['captions']} captions (for COCO-2014 of the 500 that MLPerf publishes for it), "
            f"divided by 448. Everything else is {FORMATS[request.settings['dtype']]}, among it "
            "the first and last convolution, downsamplers, shortcuts, embeddings, text encoders "
            f"and decoder{_also_kept(fp8)}."
        )
        if fp8["attention"]:
            text += " In attention queries, keys, values and softmax's weights are fp8 as well."
        text += " GELU is its form with tanh. No weight was trained, no step is left out for it."
    else:
        text = (
            f"Weights and arithmetic are {FORMATS[request.settings['dtype']]}. Nothing was "
            "quantised, so no calibration was done and no calibration data were used."
        )
    return _page("Calibration", notes, text)


def _fp8_parts(fp8: dict[str, Any]) -> str:
    """What of the UNet is fp8."""
    return "transformers" + (", residual blocks and upsamplers" if fp8["convolutions"] else "")


def _covered(fp8: dict[str, Any]) -> str:
    """What a scale is made of."""
    if fp8["percentile"] == 100:
        return "the largest magnitude"
    return f"what {fp8['percentile']:g} % of the magnitudes keep to"


def _also_kept(fp8: dict[str, Any]) -> str:
    return f", and {', '.join(fp8['keep'])}" if fp8["keep"] else ""


def implementation(request: TreeRequest, notes: list[str]) -> str:
    """README of the code folder: which code, commit, configuration and command."""
    given = dict(request.settings)
    if given.get("stand_in"):
        del given["dtype"]  # of weights that it has not
    settings = [item for item in given.items() if item[1] is not None]
    return _page(
        f"{IMPLEMENTATION}: {BENCHMARK}",
        notes,
        f"The benchmark was run by {IMPLEMENTATION}, a Snakemake workflow.",
        f"Commit: {_commit(request)}",
        f"Run `{request.run}`, variant `{request.variant}`: model {request.model}, "
        + ", ".join(f"{key} {value}" for key, value in settings)
        + ".",
        "Its whole configuration is `config.yaml` in this folder. The command was",
        _code_block(request.command),
        "The workflow fetches and verifies every input by digest, builds the engine, and runs "
        "LoadGen, the scores, the audits and this tree.",
    )


def scenario_page(
    request: TreeRequest, scenario: str, record: dict[str, Any], notes: list[str], code: str
) -> str:
    """README of a scenario: how to repeat it. `record` is its performance run's run.json."""
    inferred = ""
    if record["scenario"] != scenario:
        inferred = f"Inferred from {record['scenario']}, whose logs these are. "
    settings = [
        f"* {key}: {value}" for key, value in record["settings"].items() if value is not None
    ]
    devices = sorted({device["name"] for device in record["devices"]})
    return _page(
        f"{BENCHMARK}, {scenario}, {request.submission['system']}",
        notes,
        f"{inferred}Round {request.round}, {request.division} division. "
        f"{len(record['devices'])} worker(s) on {', '.join(devices)}.",
        "## How to repeat it",
        f"Take {IMPLEMENTATION} at the commit {_commit(request)}, the configuration "
        f"`{code}/config.yaml`, and run",
        _code_block(request.command),
        f"The results lie below `results/{request.run}/{request.variant}/loadgen/"
        f"{record['scenario']}/`.",
        "## Settings of LoadGen's run",
        "\n".join(settings),
    )
