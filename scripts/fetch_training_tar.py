"""Fetch one tar of a published set of training data, and verify it by the set's list."""

from pathlib import Path

from t2i.fetch.files import fetch
from t2i.fetch.published import file_source
from t2i.job.job import job

with job(snakemake):
    config, output = snakemake.config, Path(snakemake.output[0])
    source = file_source(
        snakemake.wildcards.set,
        config["training"]["data"]["published"],
        Path(snakemake.input[0]),
        output.name,
    )
    address = fetch(source, output, config["mirror"], config["offline"])
    print(f"{source.name} from {address}")
