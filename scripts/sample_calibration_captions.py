"""Choose the captions that quantised models are calibrated with, by their published ids."""

from pathlib import Path

from t2i.base.files import write_text
from t2i.job.job import job
from t2i.prompts.annotations import TRAINING, read_annotations
from t2i.prompts.captions import calibration_captions, format_captions, read_sample_ids

with job(snakemake):
    ids = read_sample_ids(Path(snakemake.input.ids), "a caption id")
    table = read_annotations(Path(snakemake.input.annotations), TRAINING)
    captions = calibration_captions(**table, ids=ids)
    write_text(Path(snakemake.output[0]), format_captions(captions))
    print(f"{len(captions)} calibration captions from {snakemake.input.annotations}")
