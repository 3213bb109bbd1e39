"""Make pictures of one shard's captions with a checkpoint; the manifest is written last."""

import tarfile
from pathlib import Path

from t2i.base.files import publish, read_json
from t2i.job.device import describe_device, use_device
from t2i.job.job import job

with (
    job(snakemake) as terminal,
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    from t2i.generate.plan import batches, parse
    from t2i.generate.shard import add_samples, archive_facts, write_manifest
    from t2i.job.progress import Progress
    from t2i.prompts.captions import read_captions
    from t2i.training.evaluate import Sampler, load_network, load_vae
    from t2i.training.text import TextEncoder

    settings = snakemake.params.evaluation
    facts = read_json(Path(snakemake.input.facts))
    digest = facts["checkpoints"][str(int(snakemake.wildcards.step))]
    folders = (
        Path(files[0]).parent for files in (snakemake.input.tokenizer, snakemake.input.encoder)
    )
    sampler = Sampler(
        load_network(Path(snakemake.input.weights), digest, facts["sizes"], device),
        load_vae(Path(snakemake.input.vae[0]).parent, device),
        TextEncoder(*folders, device),
        settings["seed"],
        settings["steps"],
        settings["guidance"],
    )
    rows = read_captions(Path(snakemake.input.captions))
    indices = parse(snakemake.wildcards.shard)
    progress = Progress(f"step {snakemake.wildcards.step}", len(indices), terminal)

    def painted():
        """Index, caption id, pixels and finiteness of each sample."""
        for batch in batches(indices, settings["batch_size"]):
            captions = [rows[index].caption for index in batch]
            pictures = sampler.pictures(captions, list(batch), settings["batch_size"])
            progress.update(len(batch))
            for index, pixels in zip(batch, pictures, strict=True):
                yield index, rows[index].id, pixels, True

    images = Path(snakemake.output.images)
    with publish(images) as part, tarfile.open(part, "w") as archive:
        samples = add_samples(archive, painted(), snakemake.threads)
    found = {"checkpoint": digest, "evaluation": settings, "device": describe_device(device)}
    write_manifest(Path(snakemake.output.manifest), archive_facts(images), samples, found)
