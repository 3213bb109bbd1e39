"""Look through a tar of training data: every sample's place and digest."""

from pathlib import Path

from t2i.job.job import job
from t2i.training.tars import index_tar, write_index

with job(snakemake):
    index = index_tar(Path(snakemake.input[0]))
    write_index(Path(snakemake.output[0]), index)
    print(f"{len(index)} samples, moments of shape {index.shape.tolist()}")
