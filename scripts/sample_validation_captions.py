"""Choose the captions of MLPerf's training benchmark from COCO's annotations."""

from pathlib import Path

from t2i.base.files import write_text
from t2i.job.job import job
from t2i.prompts.annotations import VALIDATION, read_annotations
from t2i.prompts.captions import validation_table

with job(snakemake):
    annotations = read_annotations(Path(snakemake.input[0]), VALIDATION)["annotations"]
    write_text(Path(snakemake.output[0]), validation_table(annotations, snakemake.params.captions))
