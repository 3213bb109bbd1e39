"""Choose the data set's captions by the reference's algorithm, or take the published ones."""

from pathlib import Path

from t2i.base.files import write_text
from t2i.job.job import job
from t2i.prompts.annotations import VALIDATION, read_annotations
from t2i.prompts.captions import (
    chosen_captions,
    format_captions,
    read_captions,
    sample_captions,
    verify_captions,
)

with job(snakemake):
    source = Path(snakemake.input[0])
    if len(snakemake.input) == 2:  # a subset by its ids
        found = read_annotations(Path(snakemake.input[1]), VALIDATION)
        captions = chosen_captions(**found, table=source.read_text(encoding="utf-8"))
    elif source.suffix == ".tsv":
        captions = read_captions(source)
    else:
        member = VALIDATION if source.suffix == ".zip" else None
        captions = sample_captions(**read_annotations(source, member))
    text = format_captions(captions)
    if snakemake.params.sha256 is not None:
        verify_captions(text, snakemake.params.sha256)
    write_text(Path(snakemake.output[0]), text)
    print(f"{len(captions)} captions from {source}")
