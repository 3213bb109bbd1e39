"""Bring all Python packages of the lock files into the mirror."""

from pathlib import Path

from t2i.fetch.mirror import download_wheels
from t2i.job.job import job

with job(snakemake):
    if snakemake.config["offline"]:
        raise ValueError("packages need the network, but the configuration says offline")
    download_wheels([Path(lock) for lock in snakemake.input], Path(snakemake.output[0]))
