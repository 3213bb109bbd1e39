"""Fetch the pictures of a published data set's captions, and record their sha256."""

import shutil
from pathlib import Path

from t2i.fetch.pictures import Origin, fetch_pictures, pack_pictures, pictures
from t2i.fetch.transfer import Limits
from t2i.job.job import job
from t2i.job.progress import Progress
from t2i.prompts.captions import read_captions

with job(snakemake) as terminal:
    config = snakemake.config
    rows = pictures(read_captions(Path(snakemake.input[0])))
    tar = Path(snakemake.output.images)
    folder = tar.with_name(".images.part")
    dataset = snakemake.wildcards.dataset
    origin = Origin(f"{dataset}/images", config["mirror"], config["offline"])
    progress = Progress(f"pictures of {dataset}", len(rows), terminal)
    fetch_pictures(rows, folder, origin, Limits(), lambda: progress.update(1))
    pack_pictures(rows, folder, tar, Path(snakemake.output.digests))
    shutil.rmtree(folder)
    print(f"{len(rows)} pictures")
