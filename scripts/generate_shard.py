"""Generate the images of one shard; the manifest is written last."""

import os
from pathlib import Path

from t2i.base.files import read_json, sha256_file
from t2i.generate.plan import batches, parse
from t2i.job.device import describe_device, use_device
from t2i.job.job import job
from t2i.job.software import software_versions

with job(snakemake) as terminal:
    settings = read_json(Path(snakemake.input.engine))
    with use_device(settings["device"], settings["threads"]) as device:
        from t2i.engine.painter import load_painter, painted_ahead
        from t2i.generate import journal
        from t2i.generate.shard import write_manifest
        from t2i.job.progress import Progress
        from t2i.job.usage import Usage
        from t2i.prompts.captions import read_captions

        shard = snakemake.wildcards.shard
        indices = parse(shard)
        captions = read_captions(Path(snakemake.input.captions))
        if indices.stop > len(captions):
            raise ValueError(
                f"shard {shard}: {snakemake.input.captions} has {len(captions)} captions; "
                "lower `samples` in the configuration"
            )
        painter, engine = load_painter(
            Path(snakemake.input.engine).parent,
            Path(snakemake.input.tokens),
            Path(snakemake.input.latents),
            device,
        )
        size = engine["batch_size"]
        facts = {
            "run": snakemake.wildcards.run,
            "variant": snakemake.wildcards.variant,
            "shard": shard,
            "engine": engine["digest"],
            "inputs": {
                name: sha256_file(Path(snakemake.input[name]))
                for name in ("tokens", "latents", "captions")
            },
            "device": describe_device(settings["device"]),
            "software": software_versions(),
        }
        tar = Path(snakemake.output.images)
        gpu = os.environ["CUDA_VISIBLE_DEVICES"] if device == "cuda" else None
        begun = journal.begin(tar, {**facts, "code": snakemake.params.code})
        with Usage(gpu) as usage, begun as made:
            done = len(made.samples)
            if done:
                print(f"{done} images of a job that was stopped are taken up", file=terminal)
            label = f"{snakemake.wildcards.variant} {shard}"
            progress = Progress(label, len(indices), terminal, done)
            left = batches(indices[done:], size)
            for batch, images in zip(left, painted_ahead(painter, left, size), strict=True):
                ids = [captions[index].id for index in batch]
                rows = zip(batch, ids, images.pixels, images.finite.tolist(), strict=True)
                made.add(rows, snakemake.threads)
                progress.update(len(batch))
                usage.begin()
            archive = made.finish(tar)
        facts["seconds"] = made.seconds
        facts["usage"] = usage.facts
        facts["images_per_second"] = progress.steady_rate or len(indices) / made.seconds
        write_manifest(Path(snakemake.output.manifest), archive, made.samples, facts)
