"""Bring one input of the table here and check its size and digest."""

import os
from pathlib import Path

from t2i.base.yaml import read_yaml
from t2i.config.derive import needed_sources
from t2i.fetch.files import fetch
from t2i.fetch.progress import FetchProgress
from t2i.fetch.table import read_sources
from t2i.job.job import job

with job(snakemake) as terminal:
    config = snakemake.config
    sources = read_sources(read_yaml(Path(config["sources"])))
    source = sources[snakemake.wildcards.source]
    names = {*needed_sources(config, sources), source.name}
    needed = [sources[name] for name in sorted(names)]
    token = os.environ.get(source.token) if source.token else None
    interval = 5.0 if terminal.isatty() else 30.0
    with FetchProgress(needed, Path("resources"), terminal, interval):
        address = fetch(
            source, Path(snakemake.output[0]), config["mirror"], config["offline"], token=token
        )
    print(f"{source.name} from {address}")
