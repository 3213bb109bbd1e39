"""Train the UNet: one process for each GPU, or several on the CPU, started by torchrun."""

from pathlib import Path

from t2i.base.files import read_json, write_json
from t2i.job.job import job
from t2i.job.machine import machine_facts
from t2i.training.launch import launch, origin, prepare_work, publish_checkpoints

with job(snakemake) as terminal:
    work = Path(snakemake.params.work)
    inputs = snakemake.input
    prepare_work(work, origin(snakemake.params.code, inputs.indices, inputs.digests))
    request = {
        **snakemake.params.request,
        "tars": list(snakemake.input.tars),
        "indices": list(snakemake.input.indices),
        "hidden": list(snakemake.input.hidden),
        "tokenizer": str(Path(snakemake.input.tokenizer[0]).parent),
        "encoder": str(Path(snakemake.input.encoder[0]).parent),
        "folder": str(work),
    }
    write_json(work / "request.json", request)
    launch(work / "request.json")
    publish_checkpoints(work, [Path(path) for path in snakemake.output.checkpoints])
    facts = {**read_json(work / "training.json"), "machine": machine_facts()}
    write_json(Path(snakemake.output.facts), facts)
