"""Generate the images of one shard; the manifest is written last."""

from pathlib import Path

from t2i.base.files import publish, read_json, sha256_file
from t2i.generate.plan import batches, parse
from t2i.job.device import describe_device, use_device
from t2i.job.job import job
from t2i.job.software import software_versions

with job(snakemake) as terminal:
    settings = read_json(Path(snakemake.input.engine))
    with use_device(settings["device"], settings["threads"]) as device:
        import tarfile

        from t2i.engine.painter import load_painter, painted_ahead
        from t2i.generate.shard import add_samples, write_manifest
        from t2i.job.progress import Progress
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
        progress = Progress(f"{snakemake.wildcards.variant} {shard}", len(indices), terminal)
        samples = []
        tar = Path(snakemake.output.images)
        with publish(tar) as part, tarfile.open(part, "w") as archive:
            cut = batches(indices, engine["batch_size"])
            for batch, images in zip(
                cut, painted_ahead(painter, cut, engine["batch_size"]), strict=True
            ):
                ids = [captions[index].id for index in batch]
                rows = zip(batch, ids, images.pixels, images.finite.tolist(), strict=True)
                samples += add_samples(archive, rows, snakemake.threads)
                progress.update(len(batch))
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
            "seconds": progress.seconds,
            "images_per_second": progress.steady_rate,
        }
        write_manifest(Path(snakemake.output.manifest), tar, samples, facts)
