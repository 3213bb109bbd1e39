"""Draw one tar of training images: pictures of scenes outside the embedded data set."""

import json
from pathlib import Path

import numpy as np

from t2i.base.images import encode_png
from t2i.job.job import job
from t2i.micro.data import shown_captions, training_scenes
from t2i.micro.pictures import paint
from t2i.training.tars import write_tar

with job(snakemake):
    number, count = int(snakemake.wildcards.tar), snakemake.params.images
    shown = training_scenes()[number * count : (number + 1) * count]
    if len(shown) < count:
        raise ValueError(f"there are {len(training_scenes())} scenes, too few for this tar")
    rows = zip(shown, shown_captions(shown), strict=True)
    samples = (
        (
            f"{number:05d}{row:04d}",
            {
                ".png": encode_png(np.asarray(paint(scene))),
                ".txt": caption.encode(),
                ".json": json.dumps({"caption": caption}).encode(),
            },
        )
        for row, (scene, caption) in enumerate(rows)
    )
    write_tar(Path(snakemake.output[0]), samples)
