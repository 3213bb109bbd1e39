"""Make a micro SDXL with fixed-seed random weights."""

from pathlib import Path

from t2i.logs import job_log
from t2i.micro import write_micro_sdxl

with job_log(snakemake.log[0]):
    write_micro_sdxl(
        Path(snakemake.output[0]).parent, shipped=Path(snakemake.input.shipped[0]).parent
    )
