"""List the images of a reference set by name, size and digest."""

from pathlib import Path

from t2i.fetch.image_sets import list_images, write_list
from t2i.job.job import job

with job(snakemake):
    path = Path(snakemake.input.images)
    listed, others = list_images(path)
    write_list(Path(snakemake.output[0]), listed, others)
    print(f"{path}: {len(listed)} images, {others} other files")
