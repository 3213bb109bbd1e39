"""Make the embedded default's Inception with fixed-seed random weights."""

from pathlib import Path

from t2i.job.job import job
from t2i.micro.inception import write_micro_inception

with job(snakemake):
    write_micro_inception(Path(snakemake.output[0]).parent)
