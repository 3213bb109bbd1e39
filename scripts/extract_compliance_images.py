"""The compliance images of a variant and their captions, as a submission shows them."""

from pathlib import Path

from t2i.base.files import publish_folder
from t2i.base.images import encode_png
from t2i.generate.shard import read_shard
from t2i.job.job import job
from t2i.mlperf import image_ids
from t2i.prompts.captions import read_captions, read_sample_ids, shown_line

with job(snakemake):
    captions = read_captions(Path(snakemake.input.captions))
    listed = read_sample_ids(Path(snakemake.input.sample_ids))
    wanted = image_ids(snakemake.params.shown, listed)
    written = set()
    with publish_folder(Path(snakemake.output[0])) as folder:
        for tar, manifest in zip(snakemake.input.images, snakemake.input.manifests, strict=True):
            for sample, pixels in read_shard(Path(tar), Path(manifest), wanted):
                written.add(sample.index)
                (folder / f"{sample.index}.png").write_bytes(encode_png(pixels))
        lines = [shown_line(index, captions[index].caption) for index in wanted if index in written]
        (folder / "captions.txt").write_text("".join(lines), encoding="utf-8")
    print(f"{len(written)} of {len(wanted)} compliance images")
