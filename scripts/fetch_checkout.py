"""Fetch mlcommons/inference at the pinned commit, verified by its id."""

from pathlib import Path

from t2i.compliance.checkout import REPOSITORY, fetch_checkout
from t2i.job.job import job

with job(snakemake):
    fetched = fetch_checkout(Path(snakemake.output[0]), REPOSITORY)
    print(f"mlcommons/inference at {fetched.commit}")
