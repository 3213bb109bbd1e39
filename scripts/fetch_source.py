"""Bring one input of the table here and check its size and digest."""

from pathlib import Path

from t2i.logs import job_log
from t2i.sources import fetch, read_sources
from t2i.yaml_files import read_yaml

with job_log(snakemake.log[0]):
    config = snakemake.config
    source = read_sources(read_yaml(Path(config["sources"])))[snakemake.wildcards.source]
    address = fetch(source, Path(snakemake.output[0]), config["mirror"], config["offline"])
    print(f"{source.name} from {address}")
