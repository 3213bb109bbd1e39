"""Which files of the table a model and the scoring networks need."""

from __future__ import annotations

from t2i.fetch.table import Source

TOKENIZERS = ("tokenizer", "tokenizer_2")


TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


NETWORK_SOURCES = {
    "inception-2015-12-05": "inception-2015-12-05/pt_inception-2015-12-05-6726825d.pth",
    "clip-vit-b-32": "clip-vit-b-32/ViT-B-32.pt",
    "clip-vit-h-14": "clip-vit-h-14/open_clip_pytorch_model.bin",
}


SD2 = "stable-diffusion-2-base"  # the group whose checkpoint is converted
SD2_FILE = "512-base-ema.ckpt"


def model_sources(model: str, dtype: str, sources: dict[str, Source]) -> list[str]:
    """Names of a model's files for a number format, its own tokenizers among them.

    fp16 takes the fp16 weights and every other format the full ones, as the reference does; if only
    one precision exists, every dtype uses it.
    """
    names = [name for name in sources if name.startswith(f"{model}/")]
    half = [name for name in names if name.endswith(".fp16.safetensors")]
    full = [name for name in names if name.endswith(".safetensors") and name not in half]
    unused = full if half and (dtype == "fp16" or not full) else half
    return [name for name in names if name not in unused]


def own_tokenizers(sources: dict[str, Source]) -> list[str]:
    """Tokenizers that models of the table bring with them, as MODEL/TOKENIZER."""
    ends = tuple(f"/{tokenizer}/vocab.json" for tokenizer in TOKENIZERS)
    return [name.removesuffix("/vocab.json") for name in sources if name.endswith(ends)]


def tokenizer_sources(model: str, sources: dict[str, Source]) -> list[str]:
    """Names of the files of a model's tokenizers: its own, or those that the workflow rebuilds."""
    names = []
    for folder in (f"{model}/{tokenizer}" for tokenizer in TOKENIZERS):
        if folder in own_tokenizers(sources):
            names += [name for name in sources if name.startswith(f"{folder}/")]
        else:
            names += [f"{folder}/{file}" for file in TOKENIZER_FILES]
    return names


def network_sources(network: str, sources: dict[str, Source]) -> list[str]:
    """Names of a scoring network's files in the table, none of one that the workflow makes."""
    return [name for name in sources if name.startswith(f"{network}/")]
