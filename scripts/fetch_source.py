"""Bring one input of the table here and check its size and digest."""

import os
from pathlib import Path

from t2i.fetch_progress import FetchProgress
from t2i.fetching import fetch
from t2i.logs import job_log
from t2i.settings import needed_sources
from t2i.sources import read_sources
from t2i.yaml_files import read_yaml

with job_log(snakemake.log[0]) as terminal:
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
