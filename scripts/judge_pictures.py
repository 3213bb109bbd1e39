"""Judge by their pixels whether a variant's pictures show what their captions say."""

from pathlib import Path

from t2i.base.files import write_json
from t2i.generate.shard import read_shard
from t2i.job.job import job
from t2i.micro.judged import judge_images
from t2i.prompts.captions import read_captions

with job(snakemake):
    shards = zip(snakemake.input.images, snakemake.input.manifests, strict=True)
    images = (
        (sample.index, pixels)
        for tar, manifest in shards
        for sample, pixels in read_shard(Path(tar), Path(manifest))
    )
    judged = judge_images(images, read_captions(Path(snakemake.input.captions)))
    write_json(
        Path(snakemake.output[0]),
        {
            "schema": 1,
            "run": snakemake.wildcards.run,
            "variant": snakemake.wildcards.variant,
            **judged,
        },
    )
    found = judged["attributes"]["all"]
    print(f"{found['count']} of {found['n']} pictures are as captioned")
