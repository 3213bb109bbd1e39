"""Convert one tar of training images to moments of their latents."""

from pathlib import Path

from t2i.job.device import use_device
from t2i.job.job import job

with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    from t2i.training.evaluate import load_vae
    from t2i.training.images import converted
    from t2i.training.tars import read_samples, write_tar

    vae = load_vae(Path(snakemake.input.vae[0]).parent, device)
    samples = read_samples(Path(snakemake.input.images))
    side, signed = snakemake.params.side, snakemake.params.signed
    write_tar(Path(snakemake.output[0]), converted(samples, vae, side, signed, device))
