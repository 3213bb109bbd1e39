"""What the rules of prompts ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""

from t2i.base import datasets


def dataset_source():
    """Captions as published, or what they are sampled from."""
    if DATASET == embedded.DATASET:
        return f"resources/{DATASET}/annotations.json"
    if DATASET == datasets.VALIDATION_SET:
        return [
            f"resources/{DATASET}/val2014_30k.tsv",
            "resources/coco2014/annotations_trainval2014.zip",
        ]
    return f"resources/{DATASET}/{datasets.CAPTION_SOURCES[CONFIG['captions']]}"


def captions_digest():
    """The sha256 that captions sampled from published annotations must have."""
    if DATASET == embedded.DATASET or CONFIG["captions"] != "annotations":
        return None
    published = SOURCES[f"{DATASET}/captions_source.tsv"]
    if published.algorithm != "sha256":
        raise WorkflowError(
            f"captions: annotations needs the sha256 of {published.name} in {CONFIG['sources']}"
        )
    return published.digest


def tokenizer_files(wildcards):
    """Both tokenizers of the model that a wildcard names."""
    return [
        f"resources/{name}"
        for name in needed.tokenizer_sources(wildcards.model, SOURCES)
    ]
