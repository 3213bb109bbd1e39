"""Inputs: those of the table are fetched and verified, a few embedded ones are made here.

CONSUMES config/sources.yaml, config/models, models
PRODUCES resources/{dataset}/, resources/{model}/, resources/{network}/, on demand
  resources/{dataset}/images.tar
"""


rule fetch_source:
    """Fetch one input of the table, and verify its size and digest."""
    input:
        all_at_hand_offline,
    output:
        "resources/{source}",
    log:
        "logs/resources/fetch_source/{source}.log",
    benchmark:
        "benchmarks/resources/fetch_source/{source}.tsv"
    wildcard_constraints:
        source="|".join(map(re.escape, SOURCES)),
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="12h",
    params:
        digest=source_digest,
    script:
        "../scripts/fetch_source.py"


# No digest of its code: an edit of it brings no other pictures.
rule fetch_images:
    """Fetch the pictures of a published data set's captions, and record their sha256."""
    input:
        "resources/{dataset}/captions.tsv",
    output:
        images="resources/{dataset}/images.tar",
        digests="resources/{dataset}/images.sha256",
    log:
        "logs/resources/fetch_images/{dataset}.log",
    benchmark:
        "benchmarks/resources/fetch_images/{dataset}.tsv"
    wildcard_constraints:
        dataset=f"(?!{embedded.DATASET}/|{datasets.VALIDATION_SET}/)[a-z0-9][a-z0-9._-]*",
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="12h",
    script:
        "../scripts/fetch_images.py"


rule draw_pictures:
    """Draw the embedded data set: captioned pictures in COCO's format, latent, compliance ids."""
    output:
        annotations="resources/pictures/annotations.json",
        images="resources/pictures/images.tar",
        latents="resources/pictures/latents.npy",
        sample_ids="resources/pictures/sample_ids.txt",
    log:
        "logs/resources/draw_pictures.log",
    benchmark:
        "benchmarks/resources/draw_pictures.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code("draw_pictures"),
    script:
        "../scripts/draw_pictures.py"


rule make_micro_inception:
    """Make the embedded default's Inception with fixed-seed random weights."""
    output:
        network_folder("micro-inception"),
    log:
        "logs/resources/make_micro_inception.log",
    benchmark:
        "benchmarks/resources/make_micro_inception.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        code=code("make_micro_inception"),
    script:
        "../scripts/make_micro_inception.py"


rule convert_inception:
    """Convert the published Inception weights to safetensors, once."""
    input:
        f"resources/{needed.NETWORK_SOURCES['inception-2015-12-05']}",
    output:
        network_folder("inception-2015-12-05"),
    log:
        "logs/resources/convert_inception.log",
    benchmark:
        "benchmarks/resources/convert_inception.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        sha256=published_digest("inception-2015-12-05"),
        code=code("convert_inception"),
    script:
        "../scripts/convert_inception.py"


rule convert_clip:
    """Convert the published CLIP archive to safetensors, once."""
    input:
        f"resources/{needed.NETWORK_SOURCES['clip-vit-b-32']}",
    output:
        network_folder("clip-vit-b-32"),
    log:
        "logs/resources/convert_clip.log",
    benchmark:
        "benchmarks/resources/convert_clip.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        sha256=published_digest("clip-vit-b-32"),
        code=code("convert_clip"),
    script:
        "../scripts/convert_clip.py"


rule convert_open_clip:
    """Convert OpenCLIP's published weights to safetensors, once."""
    input:
        f"resources/{needed.NETWORK_SOURCES['clip-vit-h-14']}",
    output:
        network_folder("clip-vit-h-14"),
    log:
        "logs/resources/convert_open_clip.log",
    benchmark:
        "benchmarks/resources/convert_open_clip.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(12000),
        runtime=growing(10),
    params:
        sha256=published_digest("clip-vit-h-14"),
        code=code("convert_open_clip"),
    script:
        "../scripts/convert_open_clip.py"


rule write_mirror:
    """Link every published input into mirror/, with a list of digests for sha256sum -c."""
    input:
        published_inputs(),
    output:
        files=[name.replace("resources/", "mirror/", 1) for name in published_inputs()],
        list="mirror/SHA256SUMS",
    log:
        "logs/write_mirror.log",
    benchmark:
        "benchmarks/write_mirror.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="1h",
    params:
        code=code("write_mirror"),
    script:
        "../scripts/write_mirror.py"


rule download_wheels:
    """Download all Python packages into mirror/wheels, for pip install --no-index."""
    input:
        "requirements-torch.lock",
        "requirements.lock",
    output:
        directory("mirror/wheels"),
    log:
        "logs/download_wheels.log",
    benchmark:
        "benchmarks/download_wheels.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="2h",
    params:
        code=code("download_wheels"),
    script:
        "../scripts/download_wheels.py"


# Without a benchmark, which would count as an output: a second call would find nothing to do.
rule free:
    """Remove what can be rebuilt without network and GPU; shards and downloads are kept."""
    log:
        "logs/free.log",
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        run=RUN,
        variants=VARIANTS,
        shards=SHARDS,
        code=code("free"),
    script:
        "../scripts/free.py"
