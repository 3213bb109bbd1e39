"""Train the CLIP scorer of the drawn pictures from nothing."""

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
    from t2i.micro.clip import ClipRecipe, train_clip
    from t2i.micro.trainer import job_facts

    facts = train_clip(
        ClipRecipe(**snakemake.params.recipe),
        device,
        Path(snakemake.output.weights).parent,
        Path(snakemake.params.checkpoint),
    )
    facts = {**job_facts("clip", device, began), **facts}
    write_json(Path(snakemake.output.facts), facts)
