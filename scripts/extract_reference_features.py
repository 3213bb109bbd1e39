"""Inception features of one part of a reference set, each image as it was listed."""

from pathlib import Path

from t2i.base.numerics import exact_float32
from t2i.job.device import use_device
from t2i.job.job import job

with (
    job(snakemake) as terminal,
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    exact_float32()
    import numpy as np

    from t2i.fetch.image_sets import part_rows, read_files, read_list
    from t2i.job.progress import Progress
    from t2i.metrics.inception import feature_batches, load_inception
    from t2i.metrics.reference import Part, decoded, write_part

    listed = read_list(Path(snakemake.input.listed))
    rows = part_rows(snakemake.wildcards.part, len(listed))
    own = [listed[row] for row in rows]
    batch_size = snakemake.params.batch_size
    images = decoded(read_files(Path(snakemake.input.images), own), batch_size, snakemake.threads)
    network = load_inception(Path(snakemake.input.inception[0]), device)
    progress = Progress(f"reference {snakemake.wildcards.part}", len(rows), terminal)
    batches = []
    for batch in feature_batches(network, images, batch_size):
        batches.append(batch)
        progress.update(len(batch))
    part = Part(
        index=np.asarray(rows, dtype=np.int64),
        inception=np.concatenate(batches),
        sha256=np.asarray([image.sha256 for image in own]),
    )
    write_part(Path(snakemake.output[0]), part)
