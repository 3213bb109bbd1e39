"""What the rules of engines ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""


def variant_weights(wildcards):
    """The files that a variant's engine is built from."""
    weights = weight_files(wildcards.variant)
    tokenizers = needed.tokenizer_sources(MODEL, SOURCES) if weights else []
    return sorted({*weights, *(f"resources/{name}" for name in tokenizers)})


def variant_patch(wildcards):
    """The file of a variant's patch, if it has one."""
    patch = CONFIG["variants"][wildcards.variant].get("patch")
    return [] if patch is None else [patch.rpartition(":")[0]]
