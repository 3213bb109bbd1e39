"""Reference statistics of FID from a set of images: listed, cut into parts, reduced.

CONSUMES resources/{dataset}/images.tar, an archive of the table or the user's own images, Inception
PRODUCES resources/reference/{images}/
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
        mem_mb=1000,
        runtime="1h",
    params:
        folder=reference_folder_state,
        code=code("list_reference_images"),
    script:
        "../scripts/list_reference_images.py"


rule extract_reference_features:
    """Inception features of one part of a reference set, each image as it was listed."""
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
        mem_mb=8000,
        runtime="4h",
    params:
        device=CONFIG["device"],
        threads=SCORES["threads"],
        batch_size=SCORES["batch_size"],
        code=code("extract_reference_features"),
    script:
        "../scripts/extract_reference_features.py"


rule compute_reference_statistics:
    """Mean and covariance of the Inception features of a reference set."""
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
        mem_mb=4000,
        runtime="30m",
    params:
        code=code("compute_reference_statistics"),
    script:
        "../scripts/compute_reference_statistics.py"
