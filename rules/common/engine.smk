"""What the rules of engines ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""

from t2i.base.backends import NATIVE
from t2i.mlperf import MLPERF_DATASET


def variant_weights(wildcards):
    """The files that a variant's engine is built from."""
    weights = weight_files(wildcards.variant)
    tokenizers = needed.tokenizer_sources(MODEL, SOURCES) if weights else []
    return sorted({*weights, *(f"resources/{name}" for name in tokenizers)})


def variant_patch(wildcards):
    """The file of a variant's patch, if it has one."""
    patch = CONFIG["variants"][wildcards.variant].get("patch")
    return [] if patch is None else [patch.rpartition(":")[0]]


def unet_weights(wildcards):
    """What a UNet is pruned from: a file of its own, or the model's UNet at full precision."""
    if own := CONFIG["unets"][wildcards.unet].get("weights"):
        return [own]
    names = needed.model_sources(MODEL, "fp32", SOURCES)
    unet = [name for name in names if name.startswith(f"{MODEL}/unet/")]
    return [f"resources/{name}" for name in unet if name.endswith(".safetensors")]


def unet_pruning(wildcards):
    """What is taken out of a UNet."""
    return {
        key: CONFIG["unets"][wildcards.unet][key] for key in ("blocks", "feed_forward")
    }


def unet_recovery(wildcards):
    """How a pruned UNet is trained."""
    return CONFIG["unets"][wildcards.unet]["recovery"]


def recovery_model(wildcards):
    """The whole model, which a pruned UNet is trained to follow."""
    files = needed.model_sources(MODEL, "fp16", SOURCES)
    return [
        f"resources/{name}"
        for name in [*files, *needed.tokenizer_sources(MODEL, SOURCES)]
    ]


def variant_unet(wildcards):
    """The file of a variant's UNet, if it is not the model's own."""
    unet = variant_settings(wildcards)["unet"]
    if unet is None:
        return []
    entry, folder = CONFIG["unets"][unet], f"results/{wildcards.run}/unets/{unet}"
    if "recovery" in entry:
        return f"{folder}/recovered.safetensors"
    pruned = entry["blocks"] or entry["feed_forward"] < 1
    return f"{folder}/unet.safetensors" if pruned else entry["weights"]


def calibration_tokens(wildcards):
    """Token ids of the captions for calibration: the official ones, or the data set's own."""
    kind = "calibration_tokens" if DATASET == MLPERF_DATASET else "tokens"
    return f"resources/{DATASET}/{kind}.{MODEL}.npz"


def variant_scales(wildcards):
    """The scales of an fp8 variant, if it is one."""
    fp8 = variant_settings(wildcards)["fp8"] is not None
    return variant_file("calibration/scales.json") if fp8 else []


def compiled_kernels(variant):
    """Compiled kernels of a variant, if it has any: of the native back end on a GPU."""
    settings = derive.variant_settings(CONFIG, variant)
    native = settings["backend"] == NATIVE and settings["device"] == "cuda"
    return [f"results/{RUN}/{variant}/compiled/compiled.json"] if native else []


def variant_compiled(wildcards):
    """The same, for the rules that run an engine."""
    return compiled_kernels(wildcards.variant)


def compiled_batch_sizes(wildcards):
    """Batch sizes that a variant runs with: its own, and those that LoadGen asks for."""
    sizes = {variant_settings(wildcards)["batch_size"]}
    if CONFIG["loadgen"] and wildcards.variant in derive.loadgen_variants(CONFIG):
        sizes.add(CONFIG["loadgen"].get("max_batchsize", min(sizes)))
        sizes |= {1} if "SingleStream" in CONFIG["loadgen"]["scenarios"] else set()
    return sorted(sizes)


def engines():
    """Engines of all variants, with their compiled kernels."""
    built = [f"results/{RUN}/{variant}/engine/engine.json" for variant in VARIANTS]
    return built + [path for variant in VARIANTS for path in compiled_kernels(variant)]
