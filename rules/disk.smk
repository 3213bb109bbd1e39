"""Disk: what can be made again is removed when a person asks for it.

CONSUMES resources/, results/{run}
PRODUCES nothing
"""


# Without a benchmark, which would count as an output: a second call would find nothing to do.
rule free:
    """Remove what can be made again without network and GPU; shards and downloads are kept."""
    log:
        "logs/free.log",
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
