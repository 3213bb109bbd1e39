"""Put every published input of the configuration into a folder that serves as a mirror."""

from pathlib import Path

from t2i.fetch.mirror import write_mirror
from t2i.job.job import job

with job(snakemake):
    if not snakemake.input:
        raise ValueError(
            "this configuration uses no published inputs; name one that does, such as "
            "--configfile config/mlperf.yaml"
        )
    names = [Path(path).relative_to("resources").as_posix() for path in snakemake.input]
    write_mirror(Path("resources"), names, Path(snakemake.output.list).parent)
    print(f"{len(names)} files in {Path(snakemake.output.list).parent}")
