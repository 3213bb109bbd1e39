"""Train the micro SDXL's UNet and text encoders from nothing, on the trained autoencoder."""

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
    from t2i.micro.evaluate import Onlooker
    from t2i.micro.trainer import job_facts
    from t2i.micro.unet import UnetRecipe, train_unet, write_model_frame

    recipe = UnetRecipe(**snakemake.params.recipe)
    model = Path(snakemake.output.weights[0]).parents[1]
    write_model_frame(model, Path(snakemake.input.index).parent)
    facts = train_unet(
        recipe,
        device,
        model,
        Path(snakemake.params.checkpoint),
        Path(snakemake.output.samples),
        Onlooker(model, device, recipe.scenes),
    )
    facts = {**job_facts("unet", device, began), **facts}
    write_json(Path(snakemake.output.facts), facts)
