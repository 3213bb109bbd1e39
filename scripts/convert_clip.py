"""Convert the published CLIP archive to safetensors, once."""

from pathlib import Path

from t2i.logs import job_log
from t2i.networks import convert_clip

with job_log(snakemake.log[0]):
    convert_clip(Path(snakemake.input[0]), Path(snakemake.output[0]).parent)
