"""Inception features and CLIP scores of one verified shard."""

from pathlib import Path

from t2i.devices import exact_float32, use_device
from t2i.logs import job_log

with (
    job_log(snakemake.log[0]),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    exact_float32()
    from t2i.archive import read_manifest, read_shard
    from t2i.captions import read_captions
    from t2i.clip import load_clip
    from t2i.features import write_features
    from t2i.inception import load_inception
    from t2i.scoring import score_shard

    captions = [row.caption for row in read_captions(Path(snakemake.input.captions))]
    tar, manifest = Path(snakemake.input.images), Path(snakemake.input.manifest)
    features = score_shard(
        read_manifest(manifest)["samples"],
        (pixels for _, pixels in read_shard(tar, manifest)),
        captions,
        load_inception(Path(snakemake.input.inception[0]), device),
        load_clip(Path(snakemake.input.clip[0]).parent, device),
        snakemake.params.batch_size,
    )
    write_features(Path(snakemake.output[0]), features)
