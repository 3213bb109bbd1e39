"""Inception features and CLIP scores of one verified shard."""

from pathlib import Path

from t2i.base.numerics import exact_float32
from t2i.job.device import use_device
from t2i.job.job import job

with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    exact_float32()
    from t2i.generate.shard import read_manifest, read_shard
    from t2i.metrics.clip import load_clip
    from t2i.metrics.features import write_features
    from t2i.metrics.inception import load_inception
    from t2i.metrics.scoring import readers, score_shard
    from t2i.prompts.captions import read_captions

    captions = [row.caption for row in read_captions(Path(snakemake.input.captions))]
    tar, manifest = Path(snakemake.input.images), Path(snakemake.input.manifest)
    features = score_shard(
        read_manifest(manifest)["samples"],
        (pixels for _, pixels in read_shard(tar, manifest, threads=readers(snakemake.threads))),
        captions,
        load_inception(Path(snakemake.input.inception[0]), device),
        load_clip(Path(snakemake.input.clip[0]).parent, device),
        snakemake.params.batch_size,
        snakemake.threads,
    )
    write_features(Path(snakemake.output[0]), features)
