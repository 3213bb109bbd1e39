"""Draw the embedded data set: captioned pictures in COCO's format, latent, compliance ids."""

from pathlib import Path

import numpy as np

from t2i.base.files import publish, write_json, write_text
from t2i.engine.latents import draw_latent
from t2i.generate.shard import write_images
from t2i.job.job import job
from t2i.micro.pictures import COUNT, coco_annotations, compliance_ids, file_name, paint, scene

with job(snakemake):
    write_json(Path(snakemake.output.annotations), coco_annotations())
    write_images(
        Path(snakemake.output.images), ((file_name(n), paint(scene(n))) for n in range(COUNT))
    )
    with publish(Path(snakemake.output.latents)) as part, part.open("wb") as handle:
        np.save(handle, draw_latent(), allow_pickle=False)
    write_text(
        Path(snakemake.output.sample_ids), "".join(f"{index}\n" for index in compliance_ids())
    )
