"""Scores of TEST01's images and of the accuracy run's same samples: part III of the audit."""

from pathlib import Path

import numpy as np

from t2i.base.numerics import exact_float32
from t2i.job.device import use_device
from t2i.job.job import job

with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    exact_float32()
    from t2i.base.files import publish_folder, read_json, write_text
    from t2i.loadgen.accuracy import logged_samples, score_samples
    from t2i.loadgen.accuracy_log import accuracy_text
    from t2i.metrics.clip import load_clip
    from t2i.metrics.fid import frechet_distance, read_moments
    from t2i.metrics.inception import load_inception
    from t2i.prompts.captions import read_captions

    inputs = snakemake.input
    image = tuple(read_json(Path(inputs.facts))["image"])
    captions = [row.caption for row in read_captions(Path(inputs.captions))]
    networks = (
        load_inception(Path(inputs.inception[0]), device),
        load_clip(Path(inputs.clip[0]).parent, device),
    )
    reference = read_moments(Path(inputs.statistics))
    indices = logged_samples(Path(inputs.test))
    with publish_folder(Path(snakemake.output[0])) as folder:
        for name, log in (("baseline", inputs.accuracy), ("compliance", inputs.test)):
            features, sha256 = score_samples(
                Path(log), image, indices, captions, *networks, snakemake.params.batch_size
            )
            fid, _ = frechet_distance(features.inception, reference)
            clip = float(features.clip.mean(dtype=np.float64))
            write_text(folder / f"{name}_accuracy.txt", accuracy_text(fid, clip, sha256))
            print(f"{name}: FID {fid:.6f}, CLIP {clip:.6f} of {len(indices)} samples")
