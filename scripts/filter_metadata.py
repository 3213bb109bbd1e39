"""Keep the rows of a part of LAION's metadata that have a licence, in a piece for each tar."""

from pathlib import Path

from t2i.job.job import job
from t2i.training.metadata import filter_metadata

with job(snakemake):
    outputs = [Path(path) for path in snakemake.output]
    kept = filter_metadata(Path(snakemake.input[0]), outputs, snakemake.params.rows)
    print(f"{kept} rows have a licence")
