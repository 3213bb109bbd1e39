"""Facts of the known data sets; kept apart so that checking a configuration needs no imaging."""

from __future__ import annotations

CAPTIONS = {"pictures": 512, "coco2014": 5000}
# Of the benchmark's own captions.tsv and latents.npy, as config/sources.yaml has them.
CAPTIONS_SHA256 = "2eeb95637b30fe5af26dd644bafa7affe4e5472ad0bda32d0feb1bd261280d5e"
LATENTS_SHA256 = "78cac10a20ea287f88b5851382e21504a755338d3f8ba8ffd2bcf9e9bf2404f9"
NEGATIVE_PROMPT = "normal quality, low quality, worst quality, low res, blurry, nsfw, nude"
CAPTION_SOURCES = {
    "published": "captions_source.tsv",
    "annotations": "annotations_trainval2014.zip",
}


def dataset_files(captions: str) -> tuple[str, ...]:
    """Files of a published data set, with its captions from where the configuration says."""
    return CAPTION_SOURCES[captions], "latents.npy", "sample_ids.txt"
