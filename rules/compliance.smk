"""Compliance: what a run was made of, the images a submission must show, the verdict.

CONSUMES metrics, features, shards, judged pictures, inputs
PRODUCES results/{run}/provenance.json, results/{run}/{variant}/compliance_images/, compliance.json
"""


rule record_provenance:
    """Record inputs with digests and licences, software, device and commit of a run."""
    input:
        inputs=input_files(),
        facts=facts_of_machine(),
    output:
        run_file("provenance.json"),
    log:
        "logs/{run}/record_provenance.log",
    benchmark:
        "benchmarks/{run}/record_provenance.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        config=CONFIG,
        sharded=CONFIG["sharded"],
        defaults=default_config(),
        sources={name: vars(source) for name, source in SOURCES.items()},
        code=code("record_provenance"),
    script:
        "../scripts/record_provenance.py"


rule extract_compliance_images:
    """Extract the compliance images of a variant, and their captions, for a submission."""
    input:
        images=of_shards("shards/{shard}.tar"),
        manifests=of_shards("shards/{shard}.json"),
        captions=f"resources/{DATASET}/captions.tsv",
        sample_ids=f"resources/{DATASET}/sample_ids.txt",
    output:
        directory(variant_file("compliance_images")),
    log:
        "logs/{run}/{variant}/extract_compliance_images.log",
    benchmark:
        "benchmarks/{run}/{variant}/extract_compliance_images.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        shown=SHOWN_IMAGES,
        code=code("extract_compliance_images"),
    script:
        "../scripts/extract_compliance_images.py"


rule check_compliance:
    """Judge a variant by every rule that applies."""
    input:
        metrics=variant_file("metrics.json"),
        features=of_shards("features/{shard}.npz"),
        manifests=of_shards("shards/{shard}.json"),
        judged=of_drawn(variant_file("judged.json")),
        scenarios=of_scenarios("verdict.json"),
        submission=submission_of,
        references=REFERENCE_PIXELS,
        images=of_shards("shards/{shard}.tar") if REFERENCE_PIXELS else [],
        sample_ids=f"resources/{DATASET}/sample_ids.txt",
        provenance=run_file("provenance.json"),
    output:
        variant_file("compliance.json"),
    log:
        "logs/{run}/{variant}/check_compliance.log",
    benchmark:
        "benchmarks/{run}/{variant}/check_compliance.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=4000,
        runtime="10m",
    params:
        round=CONFIG["round"],
        division=CONFIG["division"],
        samples=CONFIG["samples"],
        windows=variant_windows,
        shown=SHOWN_IMAGES,
        code=code("check_compliance"),
    script:
        "../scripts/check_compliance.py"
