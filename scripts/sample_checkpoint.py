"""Make pictures of one shard's captions with a checkpoint; the manifest is written last."""

from itertools import chain
from pathlib import Path

from t2i.base.files import read_json, sha256_file
from t2i.job.device import describe_device, use_device
from t2i.job.job import job
from t2i.job.software import software_versions

with (
    job(snakemake) as terminal,
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    from t2i.generate import journal
    from t2i.generate.plan import batches, parse
    from t2i.generate.shard import write_manifest
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
    indices, size = parse(snakemake.wildcards.shard), settings["batch_size"]
    found = {"checkpoint": digest, "evaluation": settings, "device": describe_device(device)}
    frozen = (snakemake.input[name] for name in ("vae", "encoder", "tokenizer"))
    inputs = (snakemake.input.captions, *chain.from_iterable(frozen))
    origin = {
        **found,
        "shard": snakemake.wildcards.shard,
        "inputs": {name: sha256_file(Path(name)) for name in inputs},
        "software": software_versions(),
        "code": snakemake.params.code,
    }
    images = Path(snakemake.output.images)
    with journal.begin(images, origin) as made:
        done = len(made.samples)
        progress = Progress(f"step {snakemake.wildcards.step}", len(indices), terminal, done)
        for batch in batches(indices[done:], size):
            captions = [rows[index].caption for index in batch]
            pictures = sampler.pictures(captions, list(batch), size)
            made.add(
                (
                    (index, rows[index].id, pixels, True)
                    for index, pixels in zip(batch, pictures, strict=True)
                ),
                snakemake.threads,
            )
            progress.update(len(batch))
        archive = made.finish(images)
    write_manifest(Path(snakemake.output.manifest), archive, made.samples, found)
