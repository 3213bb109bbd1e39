"""Fetch the images that a piece of LAION's metadata names, as one tar of training data."""

from pathlib import Path

from t2i.job.job import job
from t2i.training.download import DownloadFailed, download_images

with job(snakemake):
    piece, output = Path(snakemake.input[0]), Path(snakemake.output[0])
    if snakemake.config["offline"]:
        raise DownloadFailed(f"{output} needs a network, and the configuration says offline")
    told = download_images(piece, output, snakemake.params.rows)
    print(f"{told['successes']} of {told['count']} images came: {told['status_dict']}")
