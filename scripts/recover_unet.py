"""Train a pruned UNet of the miniature until it finds what the whole one finds."""

import time
from pathlib import Path

from t2i.base.files import publish, write_json
from t2i.job.device import use_device
from t2i.job.job import job

began = time.monotonic()
with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    from safetensors.torch import load_file, save_file

    from t2i.micro.recovery import RecoveryRecipe, recover_unet
    from t2i.micro.trainer import job_facts

    tensors, facts = recover_unet(
        load_file(snakemake.input.pruned),
        RecoveryRecipe(**snakemake.params.recipe),
        device,
        Path(snakemake.params.model),
        Path(snakemake.params.checkpoint),
    )
    with publish(Path(snakemake.output.weights)) as part:
        save_file(tensors, part, metadata={"format": "pt"})
    facts = {**job_facts("recovery", device, began), **facts}
    write_json(Path(snakemake.output.facts), facts)
