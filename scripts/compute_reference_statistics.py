"""Mean and covariance of the Inception features of real pictures."""

from pathlib import Path

from t2i.devices import exact_float32, use_device
from t2i.logs import job_log

with (
    job_log(snakemake.log[0]),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    exact_float32()
    import numpy as np

    from t2i.archive import read_images
    from t2i.fid import moments, write_moments
    from t2i.inception import image_features, load_inception

    images = np.stack([pixels for _, pixels in read_images(Path(snakemake.input.images))])
    network = load_inception(Path(snakemake.input.inception[0]), device)
    features = image_features(network, images, snakemake.params.batch_size)
    write_moments(Path(snakemake.output[0]), moments(features))
    print(f"statistics of {len(images)} pictures")
