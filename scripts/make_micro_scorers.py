"""Make an Inception and a small CLIP with fixed-seed random weights."""

from pathlib import Path

from t2i.logs import job_log
from t2i.micro_scorers import write_micro_clip, write_micro_inception

with job_log(snakemake.log[0]):
    write_micro_inception(Path(snakemake.output.inception[0]).parent)
    write_micro_clip(Path(snakemake.output.clip[0]).parent)
