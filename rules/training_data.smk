"""What a training needs: the frozen model, evaluation's captions and pictures, training data.

CONSUMES published checkpoints, COCO, tars of training data or metadata of LAION
PRODUCES resources/{dataset}/, resources/{model}/, resources/training/{set}/
"""


rule sample_validation_captions:
    """Choose the 30,000 captions of MLPerf's training benchmark, by its published steps."""
    input:
        "resources/coco2014/annotations_trainval2014.zip",
    output:
        f"resources/{datasets.VALIDATION_SET}/val2014_30k.tsv",
    log:
        "logs/resources/sample_validation_captions.log",
    benchmark:
        "benchmarks/resources/sample_validation_captions.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        captions=datasets.CAPTIONS[datasets.VALIDATION_SET],
        code=code("sample_validation_captions"),
    script:
        "../scripts/sample_validation_captions.py"


rule resize_validation_images:
    """Resize the pictures of these captions to 512 x 512, as the published statistics are of."""
    input:
        table=f"resources/{datasets.VALIDATION_SET}/val2014_30k.tsv",
        images="resources/coco2014/val2014.zip",
    output:
        f"resources/{datasets.VALIDATION_SET}/images.tar",
    log:
        "logs/resources/resize_validation_images.log",
    benchmark:
        "benchmarks/resources/resize_validation_images.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    threads: 8
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        side=512,
        code=code("resize_validation_images"),
    script:
        "../scripts/resize_validation_images.py"


rule convert_stable_diffusion:
    """Convert the published checkpoint of Stable Diffusion v2 to diffusers' layout, once."""
    input:
        published=f"resources/{SD2}/{needed.SD2_FILE}",
        tokenizer=expand(
            "config/models/sdxl-base-1.0/tokenizer_2/{file}",
            file=["tokenizer_config.json", "special_tokens_map.json"],
        ),
    output:
        **{
            part: [f"resources/{SD2}/{part}/{file}" for file in files]
            for part, files in SD2_FILES.items()
        },
    log:
        "logs/resources/convert_stable_diffusion.log",
    benchmark:
        "benchmarks/resources/convert_stable_diffusion.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(24000),
        runtime=growing(60),
    params:
        sha256=SOURCES[f"{SD2}/{needed.SD2_FILE}"].digest,
        code=code("convert_stable_diffusion"),
    script:
        "../scripts/convert_stable_diffusion.py"


rule fetch_checksums:
    """Fetch the list of digests of a published set of training data."""
    output:
        "resources/training/{set}/published/checksums.txt",
    log:
        "logs/resources/fetch_checksums/{set}.log",
    benchmark:
        "benchmarks/resources/fetch_checksums/{set}.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="1h",
    params:
        digest=list_digest,
    script:
        "../scripts/fetch_checksums.py"


rule fetch_training_tar:
    """Fetch one tar of a published set of training data, and verify it by the set's list."""
    input:
        "resources/training/{set}/published/checksums.txt",
    output:
        "resources/training/{set}/published/{tar}.tar",
    log:
        "logs/resources/fetch_training_tar/{set}/{tar}.log",
    benchmark:
        "benchmarks/resources/fetch_training_tar/{set}/{tar}.tsv"
    localrule: True
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=1000,
        runtime="12h",
    params:
        digest=list_digest,
    script:
        "../scripts/fetch_training_tar.py"


rule filter_metadata:
    """Keep the rows of a part of LAION's metadata that have a licence, in a piece for each tar."""
    input:
        metadata_part,
    output:
        expand(
            "resources/training/{set}/metadata/{metadata}/{piece:05d}.parquet",
            piece=range(metadata_pieces()),
            allow_missing=True,
        ),
    log:
        "logs/resources/filter_metadata/{set}/{metadata}.log",
    benchmark:
        "benchmarks/resources/filter_metadata/{set}/{metadata}.tsv"
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        rows=metadata_rows,
        code=code("filter_metadata"),
    script:
        "../scripts/filter_metadata.py"


# Images vanish from the web: what is here is not fetched again because of other code or a newer
# piece.
rule fetch_training_images:
    """Fetch the images that a piece of LAION's metadata names, as one tar of training data."""
    input:
        ancient(metadata_piece),
    output:
        "resources/training/{set}/downloaded/{tar}.tar",
    log:
        "logs/resources/fetch_training_images/{set}/{tar}.log",
    benchmark:
        "benchmarks/resources/fetch_training_images/{set}/{tar}.tsv"
    localrule: True
    conda:
        "../envs/laion.yaml"
    container:
        IMAGES["laion"]
    resources:
        mem_mb=4000,
        runtime="12h",
    params:
        rows=metadata_rows,
    script:
        "../scripts/fetch_training_images.py"


rule draw_training_images:
    """Draw one tar of training images: scenes outside the embedded data set."""
    output:
        "resources/training/pictures/images/{tar}.tar",
    log:
        "logs/resources/draw_training_images/{tar}.log",
    benchmark:
        "benchmarks/resources/draw_training_images/{tar}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        images=TRAINING["data"]["images"],
        code=code("draw_training_images"),
    script:
        "../scripts/draw_training_images.py"


rule index_tar:
    """Look through a tar of training data: every sample's place and digest."""
    input:
        indexed_tar,
    output:
        "resources/training/{set}/{kind}/{tar}.index.npz",
    log:
        "logs/resources/index_tar/{set}.{kind}/{tar}.log",
    benchmark:
        "benchmarks/resources/index_tar/{set}.{kind}/{tar}.tsv"
    wildcard_constraints:
        kind="moments|images",
    conda:
        "../envs/host.yaml"
    container:
        IMAGES["host"]
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        code=code("index_tar"),
    script:
        "../scripts/index_tar.py"


rule convert_moments:
    """Convert one tar of training images to moments of their latents."""
    input:
        images=given_tar,
        vae=frozen_files("vae"),
    output:
        "resources/training/{set}/moments/{tar}.tar",
    log:
        "logs/resources/convert_moments/{set}/{tar}.log",
    benchmark:
        "benchmarks/resources/convert_moments/{set}/{tar}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        device=CONFIG["device"],
        threads=1,
        side=TRAINING["data"]["side"],
        signed=TRAINING["data"]["signed"],
        code=code("convert_moments"),
    script:
        "../scripts/convert_moments.py"


rule encode_captions:
    """Encode the captions of one tar of training data, once for all steps."""
    input:
        tar=moments_tar,
        index="resources/training/{set}/moments/{tar}.index.npz",
        encoder=frozen_files("text_encoder"),
        tokenizer=frozen_files("tokenizer"),
    output:
        hidden="resources/training/{set}/hidden/{tar}.npy",
        digests="resources/training/{set}/hidden/{tar}.digests.npy",
    log:
        "logs/resources/encode_captions/{set}/{tar}.log",
    benchmark:
        "benchmarks/resources/encode_captions/{set}/{tar}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        IMAGES["torch"]
    threads: device_threads(CONFIG["device"], 1)
    resources:
        gpu=device_gpus(CONFIG["device"]),
        mem_mb=growing(16000),
        runtime=growing(240),
    params:
        device=CONFIG["device"],
        threads=1,
        batch_size=64,
        code=code("encode_captions"),
    script:
        "../scripts/encode_captions.py"
