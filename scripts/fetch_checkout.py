"""Fetch mlcommons/inference at the pinned commit, verified by its id."""

from pathlib import Path

from t2i.logs import job_log
from t2i.submission.checkout import REPOSITORY, fetch_checkout

with job_log(snakemake.log[0]):
    fetched = fetch_checkout(Path(snakemake.output[0]), REPOSITORY)
    print(f"mlcommons/inference at {fetched.commit}")
