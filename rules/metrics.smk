"""Metrics: features of each shard, reduced to FID and CLIP of a variant.

CONSUMES shards, captions, scoring networks, reference statistics
PRODUCES results/{run}/{variant}/features/, metrics.json, judged.json; results/{run}/comparison.json
"""


rule list_reference_images:
    """List the images of a reference set by name, size and digest."""
    input:
        images=reference_images,
    output:
        "resources/reference/{images}/images.json",
    log:
        "logs/resources/list_reference_images/{images}.log",
    benchmark:
        "benchmarks/resources/list_reference_images/{images}.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        folder=reference_folder_state,
        code=code("list_reference_images"),
    script:
        "../scripts/list_reference_images.py"


rule extract_reference_features:
    """Extract Inception features of one part of a reference set; every image must match the list."""
    input:
        images=reference_images,
        listed="resources/reference/{images}/images.json",
        inception=network_files,
    output:
        "resources/reference/{images}/features.{network}/{part}.npz",
    log:
        "logs/resources/extract_reference_features/{images}.{network}/{part}.log",
    benchmark:
        "benchmarks/resources/extract_reference_features/{images}.{network}/{part}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], SCORES["threads"])
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        device=CONFIG["device"],
        threads=SCORES["threads"],
        batch_size=SCORES["batch_size"],
        code=code("extract_reference_features"),
    script:
        "../scripts/extract_reference_features.py"


rule compute_reference_statistics:
    """Compute mean and covariance of the Inception features of a reference set."""
    input:
        listed="resources/reference/{images}/images.json",
        features=reference_features,
    output:
        "resources/reference/{images}/statistics.{network}.npz",
    log:
        "logs/resources/compute_reference_statistics/{images}.{network}.log",
    benchmark:
        "benchmarks/resources/compute_reference_statistics/{images}.{network}.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code("compute_reference_statistics"),
    script:
        "../scripts/compute_reference_statistics.py"


rule extract_features:
    """Extract Inception features and CLIP scores of one verified shard."""
    input:
        images=variant_file("shards/{shard}.tar"),
        manifest=variant_file("shards/{shard}.json"),
        captions=f"resources/{DATASET}/captions.tsv",
        inception=network_folder(SCORES["inception"]),
        clip=network_folder(SCORES["clip"]),
    output:
        variant_file("features/{shard}.npz"),
    log:
        "logs/{run}/{variant}/extract_features/{shard}.log",
    benchmark:
        "benchmarks/{run}/{variant}/extract_features/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], SCORES["threads"])
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(4000 + 40 * SCORES["batch_size"]),
        runtime=growing(60),
    params:
        device=CONFIG["device"],
        threads=SCORES["threads"],
        batch_size=SCORES["batch_size"],
        code=code("extract_features"),
    script:
        "../scripts/extract_features.py"


rule reduce_metrics:
    """Compute FID and CLIP of a variant, with intervals, from all features in index order."""
    input:
        features=of_shards("features/{shard}.npz"),
        manifests=of_shards("shards/{shard}.json"),
        statistics=reference_statistics(),
        inception=network_folder(SCORES["inception"]),
        clip=network_folder(SCORES["clip"]),
    output:
        metrics=variant_file("metrics.json"),
        influence=variant_file("influence.npz"),
    log:
        "logs/{run}/{variant}/reduce_metrics.log",
    benchmark:
        "benchmarks/{run}/{variant}/reduce_metrics.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(8000 + CONFIG["samples"] // 12),  # 72 kB an image, measured
        runtime=growing(30),
    params:
        samples=CONFIG["samples"],
        recipe=variant_recipe,
        reference=SCORES["reference"],
        code=code("reduce_metrics"),
    script:
        "../scripts/reduce_metrics.py"


rule judge_pictures:
    """Compare what a variant's images show with their captions; drawn pictures only."""
    input:
        images=of_shards("shards/{shard}.tar"),
        manifests=of_shards("shards/{shard}.json"),
        captions=f"resources/{DATASET}/captions.tsv",
    output:
        variant_file("judged.json"),
    log:
        "logs/{run}/{variant}/judge_pictures.log",
    benchmark:
        "benchmarks/{run}/{variant}/judge_pictures.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        code=code("judge_pictures"),
    script:
        "../scripts/judge_pictures.py"


rule compare_variants:
    """Compute paired differences of FID and CLIP between the first variant and each other one."""
    input:
        metrics=of_variants("{variant}/metrics.json"),
        influence=of_variants("{variant}/influence.npz"),
        images=of_variants("{variant}/compliance_images"),
        manifests=of_all_shards("shards/{shard}.json"),
    output:
        run_file("comparison.json"),
    log:
        "logs/{run}/compare_variants.log",
    benchmark:
        "benchmarks/{run}/compare_variants.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=4000,
        runtime="10m",
    params:
        variants=VARIANTS,
        shards=SHARDS,
        code=code("compare_variants"),
    script:
        "../scripts/compare_variants.py"
