"""Fetch the list of digests of a published set of training data."""

from pathlib import Path

from t2i.fetch.files import fetch
from t2i.fetch.published import list_source, read_list
from t2i.job.job import job

with job(snakemake):
    config, output = snakemake.config, Path(snakemake.output[0])
    source = list_source(snakemake.wildcards.set, config["training"]["data"]["published"])
    address = fetch(source, output, config["mirror"], config["offline"])
    print(f"{len(read_list(output))} files, from {address}")
