"""Convert the published CLIP archive to safetensors, once."""

from pathlib import Path

from t2i.base.files import verify_sha256
from t2i.job.job import job
from t2i.metrics.networks import convert_clip

with job(snakemake):
    published = Path(snakemake.input[0])
    verify_sha256(published, snakemake.params.sha256)
    convert_clip(published, Path(snakemake.output[0]).parent)
