"""Engines: what a variant is built into once, before any image is generated.

CONSUMES resources/{model}/, a variant's settings and patch
PRODUCES results/{run}/{variant}/engine/
"""


rule build_engine:
    """Build a variant's engine: weights at its number format, its patch, and its identity."""
    input:
        model=variant_weights,
        patch=variant_patch,
    output:
        manifest=variant_file("engine/engine.json"),
        weights=directory(variant_file("engine/weights")),
    log:
        "logs/{run}/{variant}/build_engine.log",
    benchmark:
        "benchmarks/{run}/{variant}/build_engine.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=16000,
        runtime="30m",
    params:
        variant=variant_options,
        model=f"resources/{MODEL}",
        code=code("build_engine"),
    script:
        "../scripts/build_engine.py"
