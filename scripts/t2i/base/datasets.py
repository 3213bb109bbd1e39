"""Facts of the known data sets; kept apart so that checking a configuration needs no imaging."""

from __future__ import annotations

VALIDATION_SET = "coco2014-30k"  # of MLPerf's training; made from COCO's annotations and images
CAPTIONS = {"pictures": 512, "coco2014": 5000, VALIDATION_SET: 30_000}
CAPTION_SOURCES = {
    "published": "captions_source.tsv",
    "annotations": "annotations_trainval2014.zip",
}


def dataset_files(captions: str) -> tuple[str, ...]:
    """Files of a published data set, with its captions from where the configuration says."""
    return CAPTION_SOURCES[captions], "latents.npy", "sample_ids.txt"
