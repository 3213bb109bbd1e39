"""Engines: what a variant is built into once, before any image is generated.

CONSUMES resources/{model}/, a variant's settings and patch, tokens, latent
PRODUCES results/{run}/{variant}/calibration/, engine/, compiled/; results/{run}/unets/
"""


rule prune_unet:
    """Prune the model's UNet: blocks and channels that the configuration names go."""
    input:
        weights=unet_weights,
    output:
        "results/{run}/unets/{unet}/unet.safetensors",
    log:
        "logs/{run}/prune_unet/{unet}.log",
    benchmark:
        "benchmarks/{run}/prune_unet/{unet}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(24000 if MODEL != embedded.MODEL else 2000),
        runtime=growing(30),
    params:
        pruning=unet_pruning,
        code=code("prune_unet"),
    script:
        "../scripts/prune_unet.py"


rule recover_unet:
    """Train a pruned UNet of the miniature until it finds what the whole one finds."""
    input:
        pruned="results/{run}/unets/{unet}/unet.safetensors",
        model=recovery_model,
    output:
        weights="results/{run}/unets/{unet}/recovered.safetensors",
        facts="results/{run}/unets/{unet}/recovery.json",
    log:
        "logs/{run}/recover_unet/{unet}.log",
    benchmark:
        "benchmarks/{run}/recover_unet/{unet}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        recipe=unet_recovery,
        model=f"resources/{MODEL}",
        device=CONFIG["device"],
        threads=1,
        checkpoint="results/{run}/unets/{unet}/recovery.checkpoint",
        code=code("recover_unet"),
    script:
        "../scripts/recover_unet.py"


rule calibrate_engine:
    """Find the scales of an fp8 variant: the largest magnitudes without fp8, over all steps."""
    input:
        model=variant_weights,
        patch=variant_patch,
        unet=variant_unet,
        tokens=calibration_tokens,
        latents=f"resources/{DATASET}/latents.npy",
    output:
        scales=variant_file("calibration/scales.json"),
    log:
        "logs/{run}/{variant}/calibrate_engine.log",
    benchmark:
        "benchmarks/{run}/{variant}/calibrate_engine.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: variant_threads
    resources:
        gpu=variant_gpus,
        mem_mb=growing(48000 if MODEL != embedded.MODEL else 4000),
        runtime=growing(120),
    params:
        variant=variant_options,
        model=f"resources/{MODEL}",
        code=code("calibrate_engine"),
    script:
        "../scripts/calibrate_engine.py"


rule build_engine:
    """Build a variant's engine: weights at its number format, its patch, and its identity."""
    input:
        model=variant_weights,
        patch=variant_patch,
        unet=variant_unet,
        scales=variant_scales,
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
        mem_mb=growing(16000),
        runtime=growing(30),
    params:
        variant=variant_options,
        model=f"resources/{MODEL}",
        code=code("build_engine"),
    script:
        "../scripts/build_engine.py"


rule compile_engine:
    """Compile a native engine's kernels once for this GPU model and software."""
    input:
        engine=variant_file("engine/engine.json"),
        tokens=f"resources/{DATASET}/tokens.{MODEL}.npz",
        latents=f"resources/{DATASET}/latents.npy",
    output:
        kernels=variant_file("compiled/kernels.tar"),
        manifest=variant_file("compiled/compiled.json"),
    log:
        "logs/{run}/{variant}/compile_engine.log",
    benchmark:
        "benchmarks/{run}/{variant}/compile_engine.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: variant_threads
    resources:
        gpu=variant_gpus,
        mem_mb=growing(48000 if MODEL != embedded.MODEL else 4000),
        runtime=growing(30),
    params:
        batch_sizes=compiled_batch_sizes,
        code=code("compile_engine", variant_backend),
    script:
        "../scripts/compile_engine.py"
