"""CLIP's byte-pair vocabulary and the token ids of a data set's prompts."""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from t2i.base.files import sha256_bytes, write_text

VOCABULARY_SHA256 = "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349"
MERGES_SHA256 = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
MERGES = 48_894  # 49,408 tokens less two times 256 bytes and the two special tokens


def byte_alphabet() -> list[str]:
    """The 256 characters that represent bytes in CLIP's vocabulary, in its order.

    Printable Latin-1 characters represent themselves, the other bytes code points from 256 on
    (the byte-level scheme of GPT-2's tokenizer).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def clip_vocabulary() -> tuple[str, str]:
    """Texts of vocab.json and merges.txt, rebuilt from the merges that open_clip ships.

    Raises ValueError when either differs from the published file.
    """
    source = resources.files("open_clip") / "bpe_simple_vocab_16e6.txt.gz"
    _, *lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")
    merges = lines[:MERGES]
    alphabet = byte_alphabet()
    tokens = alphabet + [f"{symbol}</w>" for symbol in alphabet]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    indices = {token: index for index, token in enumerate(tokens)}
    vocabulary = json.dumps(indices, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    merge_text = "\n".join(["#version: 0.2", *merges]) + "\n"
    for name, text, digest in (
        ("vocab.json", vocabulary, VOCABULARY_SHA256),
        ("merges.txt", merge_text, MERGES_SHA256),
    ):
        if sha256_bytes(text.encode()) != digest:
            raise ValueError(
                f"{name} rebuilt from open_clip_torch's merges has the sha256 "
                f"{sha256_bytes(text.encode())}, published is {digest}; "
                "install the version of open_clip_torch in requirements.lock"
            )
    return vocabulary, merge_text


def write_tokenizer(folder: Path, configs: dict[str, Path]) -> None:
    """Publish a tokenizer's vocab.json and merges.txt in `folder`, and copies of its configs.

    `configs` maps the names of the small files (tokenizer_config.json, ...) to where they lie.
    """
    vocabulary, merges = clip_vocabulary()
    write_text(folder / "vocab.json", vocabulary)
    write_text(folder / "merges.txt", merges)
    for name, source in configs.items():
        write_text(folder / name, source.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Tokens:
    """Token ids of prompts with both of SDXL's tokenizers.

    `first` and `second` have the shape (prompts, 77) and dtype int64. `truncated` lists the
    prompts that had more tokens than fit, as (index, tokens with the two special ones).
    """

    first: np.ndarray
    second: np.ndarray
    truncated: list[tuple[int, int]]


def tokenize(prompts: list[str], tokenizer: Path, tokenizer_2: Path) -> Tokens:
    """Tokenise prompts as diffusers' SDXL pipeline does: padded to 77, truncated, specials added.

    `tokenizer` and `tokenizer_2` are folders in transformers' layout; they share one vocabulary
    and differ in the padding token.
    """
    ids = []
    for folder in (tokenizer, tokenizer_2):
        clip = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        length = clip.model_max_length
        ids.append(
            np.asarray(
                clip(prompts, padding="max_length", max_length=length, truncation=True).input_ids,
                dtype=np.int64,
            )
        )
    whole = clip(prompts, truncation=False, verbose=False).input_ids
    truncated = [(n, len(row)) for n, row in enumerate(whole) if len(row) > length]
    return Tokens(ids[0], ids[1], truncated)
