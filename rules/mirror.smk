"""A mirror: the folder that a machine without a network takes its inputs from.

CONSUMES resources/, requirements-torch.lock, requirements.lock
PRODUCES mirror/, with the same paths as resources/; mirror/wheels/
"""


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
    """Bring all Python packages into mirror/wheels, for pip install --no-index."""
    input:
        "requirements-torch.lock",
        "requirements.lock",
    output:
        directory("mirror/wheels"),
    log:
        "logs/download_wheels.log",
    benchmark:
        "benchmarks/download_wheels.tsv"
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
