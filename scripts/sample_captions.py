"""Choose the data set's captions by the reference's algorithm, or take the published ones."""

from pathlib import Path

from pycocotools.coco import COCO

from t2i.captions import format_captions, read_captions, sample_captions
from t2i.files import write_text
from t2i.logs import job_log

with job_log(snakemake.log[0]):
    source = Path(snakemake.input[0])
    if source.suffix == ".json":
        coco = COCO(source)
        captions = sample_captions(coco.dataset["annotations"], coco.dataset["images"])
    else:
        captions = read_captions(source)
    write_text(Path(snakemake.output[0]), format_captions(captions))
    print(f"{len(captions)} captions from {source}")
