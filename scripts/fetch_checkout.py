"""Fetch mlcommons/inference at the pinned commit, verified by its id."""

from pathlib import Path

from t2i.compliance.checkout import REPOSITORY, fetch_checkout
from t2i.job.log import job_log

with job_log(snakemake.log[0]):
    fetched = fetch_checkout(Path(snakemake.output[0]), REPOSITORY)
    print(f"mlcommons/inference at {fetched.commit}")
