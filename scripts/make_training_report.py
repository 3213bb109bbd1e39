"""Write the page of a training."""

from pathlib import Path

from t2i.base.files import read_json, write_text
from t2i.generate.shard import read_shard
from t2i.job.job import job
from t2i.prompts.captions import read_captions
from t2i.training.mllog import read_log
from t2i.training.page import SHOWN, render

with job(snakemake):
    scores = [read_json(Path(path)) for path in snakemake.input.scores]
    pictures = {}
    for each, tar, manifest in zip(
        scores, snakemake.input.images, snakemake.input.manifests, strict=True
    ):
        shown = read_shard(Path(tar), Path(manifest), range(SHOWN))
        pictures[each["step"]] = [pixels for _, pixels in shown]
    captions = [row.caption for row in read_captions(Path(snakemake.input.captions))]
    html = render(
        read_json(Path(snakemake.input.facts)),
        scores,
        read_json(Path(snakemake.input.verdict)),
        read_log(Path(snakemake.input.log)),
        pictures,
        captions,
    )
    write_text(Path(snakemake.output[0]), html)
