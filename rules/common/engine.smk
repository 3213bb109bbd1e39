"""What the rules of engines ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""

from t2i.base.backends import NATIVE


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
    """The UNet's files at the model's full precision."""
    names = needed.model_sources(MODEL, "fp32", SOURCES)
    unet = [name for name in names if name.startswith(f"{MODEL}/unet/")]
    return [f"resources/{name}" for name in unet if name.endswith(".safetensors")]


def unet_pruning(wildcards):
    """What is taken out of a pruned UNet."""
    return CONFIG["pruned"][wildcards.unet]


def variant_unet(wildcards):
    """The pruned UNet of a variant, if it has one."""
    unet = variant_settings(wildcards)["unet"]
    if unet is None:
        return []
    return f"results/{wildcards.run}/unets/{unet}/unet.safetensors"


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
