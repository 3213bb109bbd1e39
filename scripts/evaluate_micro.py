"""Judge what the trained micro SDXL paints, sampled as the benchmark does and in worse ways."""

import runpy
from pathlib import Path

from t2i.base.files import write_json
from t2i.base.numerics import exact_float32
from t2i.job.device import use_device
from t2i.job.job import job

with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    exact_float32()
    from t2i.micro.evaluate import evaluate

    evaluation = evaluate(
        Path(snakemake.input.clip).parents[1],
        Path(snakemake.input.inception[0]),
        device,
        snakemake.params.captions,
        runpy.run_path(snakemake.input.faults),
        Path(snakemake.output.samples),
    )
    write_json(Path(snakemake.output.evaluation), evaluation)
