"""Mean and covariance of the Inception features of a reference set."""

from pathlib import Path

from t2i.base.threads import limit_threads
from t2i.job.job import job

limit_threads(1)  # sums of another number of threads differ in their last bits

with job(snakemake):
    from t2i.fetch.image_sets import read_list
    from t2i.metrics.fid import moments, write_moments
    from t2i.metrics.reference import gather, read_part

    listed = read_list(Path(snakemake.input.listed))
    features = gather((read_part(Path(path)) for path in snakemake.input.features), listed)
    write_moments(Path(snakemake.output[0]), moments(features))
    print(f"statistics of {len(listed)} images")
