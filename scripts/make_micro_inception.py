"""Make the embedded default's Inception with fixed-seed random weights."""

from pathlib import Path

from t2i.job.log import job_log
from t2i.micro.inception import write_micro_inception

with job_log(snakemake.log[0]):
    write_micro_inception(Path(snakemake.output[0]).parent)
