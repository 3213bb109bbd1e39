"""Bring one input of the table here and check its size and digest."""

from pathlib import Path

from t2i.logs import job_log
from t2i.sources import Source, fetch

with job_log(snakemake.log[0]):
    facts = dict(snakemake.params.source)
    mirror, offline = facts.pop("mirror"), facts.pop("offline")
    address = fetch(Source(**facts), Path(snakemake.output[0]), mirror, offline)
    print(f"{facts['name']} from {address}")
