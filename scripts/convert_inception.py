"""Convert the published Inception weights to safetensors, once."""

from pathlib import Path

from t2i.config import read_yaml
from t2i.logs import job_log
from t2i.networks import convert_inception
from t2i.sources import read_sources, verify

with job_log(snakemake.log[0]):
    published = Path(snakemake.input[0])
    sources = read_sources(read_yaml(Path(snakemake.config["sources"])))
    verify(sources[published.relative_to("resources").as_posix()], published)
    convert_inception(published, Path(snakemake.output[0]).parent)
