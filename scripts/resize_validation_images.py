"""Resize the pictures of MLPerf's validation captions, as the published statistics are of."""

from pathlib import Path

from t2i.generate.shard import write_files
from t2i.job.job import job
from t2i.training.validation import resized_images

with job(snakemake):
    table = Path(snakemake.input.table).read_text(encoding="utf-8")
    images = Path(snakemake.input.images)
    rows = resized_images(images, table, snakemake.params.side, snakemake.threads)
    write_files(Path(snakemake.output[0]), rows)
