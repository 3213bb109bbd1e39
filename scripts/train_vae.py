"""Train the micro SDXL's autoencoder from nothing."""

import time
from pathlib import Path

from t2i.devices import use_device
from t2i.files import write_json
from t2i.logs import job_log

began = time.monotonic()
with (
    job_log(snakemake.log[0]),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    from t2i.train_vae import VaeRecipe, train_vae
    from t2i.training import job_facts

    facts = train_vae(
        VaeRecipe(**snakemake.params.recipe),
        device,
        Path(snakemake.output.weights).parent,
        Path(snakemake.params.checkpoint),
        Path(snakemake.output.samples),
    )
    facts = {**job_facts("vae", device, began), **facts}
    write_json(Path(snakemake.output.facts), facts)
