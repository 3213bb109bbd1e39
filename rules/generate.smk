"""Generation: images of one shard at a time.

CONSUMES a variant's engine, tokens, latent, captions
PRODUCES results/{run}/{variant}/shards/{shard}.tar and its manifest
"""


rule generate_shard:
    """Generate the images of one shard; the manifest is written last."""
    input:
        engine=variant_file("engine/engine.json"),
        compiled=variant_compiled,
        tokens=f"resources/{DATASET}/tokens.{MODEL}.npz",
        latents=f"resources/{DATASET}/latents.npy",
        captions=f"resources/{DATASET}/captions.tsv",
    output:
        images=variant_file("shards/{shard}.tar"),
        manifest=variant_file("shards/{shard}.json"),
    log:
        "logs/{run}/{variant}/generate_shard/{shard}.log",
    benchmark:
        "benchmarks/{run}/{variant}/generate_shard/{shard}.tsv"
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
        code=code("generate_shard", variant_backend),
    script:
        "../scripts/generate_shard.py"
