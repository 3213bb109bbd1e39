"""Rebuild one of SDXL's tokenizers from CLIP's merges, to the published digests."""

from pathlib import Path

from t2i.job.job import job
from t2i.prompts.tokenizer import write_tokenizer

with job(snakemake):
    configs = [Path(path) for path in snakemake.input]
    write_tokenizer(Path(snakemake.output[0]).parent, {config.name: config for config in configs})
