"""Train the micro SDXL's autoencoder from nothing."""

import time
from pathlib import Path

from t2i.base.files import write_json
from t2i.job.device import use_device
from t2i.job.job import job

began = time.monotonic()
with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    from t2i.micro.trainer import job_facts
    from t2i.micro.vae import VaeRecipe, train_vae

    facts = train_vae(
        VaeRecipe(**snakemake.params.recipe),
        device,
        Path(snakemake.output.weights).parent,
        Path(snakemake.params.checkpoint),
        Path(snakemake.output.samples),
    )
    facts = {**job_facts("vae", device, began), **facts}
    write_json(Path(snakemake.output.facts), facts)
