"""A CLIP byte-pair vocabulary built from the drawn pictures' captions, small and complete.

It has CLIP's layout: 256 bytes, the same at a word's end, the merges, the two special tokens. Every
word of the captions and of the benchmark's negative prompt is one token; any other text falls
apart into shorter ones.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

from t2i.base.files import publish, write_text
from t2i.micro.pictures import captions, scenes
from t2i.mlperf import NEGATIVE_PROMPT
from t2i.prompts.tokenizer import byte_alphabet

WORD = re.compile(r"[a-z]+|[^\sa-z]+")  # CLIP's own pattern, for plain English without digits
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def caption_words() -> list[str]:
    """All words of the captions and of the negative prompt, sorted."""
    texts = [text for scene in scenes() for text in captions(scene)]
    return sorted(
        {word for text in [*texts, NEGATIVE_PROMPT] for word in WORD.findall(text.lower())}
    )


def byte_pair_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges, most frequent pair first, until every word is one token.

    Byte-pair encoding as CLIP's: a word's last symbol carries `</w>`; ties go to the pair that
    sorts first. Words are plain ASCII, whose bytes represent themselves.
    """
    split = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(symbols) > 1 for symbols in split):
        pairs = Counter(pair for symbols in split for pair in itertools.pairwise(symbols))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merged(symbols, best) for symbols in split]
    return merges


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


@cache
def small_vocabulary() -> tuple[str, str]:
    """Texts of vocab.json and merges.txt, laid out like CLIP's own."""
    merges = byte_pair_merges(caption_words())
    alphabet = byte_alphabet()
    tokens = alphabet + [f"{symbol}</w>" for symbol in alphabet]
    tokens += ["".join(merge) for merge in merges]
    indices = {token: index for index, token in enumerate([*tokens, *SPECIAL])}
    vocabulary = json.dumps(indices, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    return vocabulary, "\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n"


def vocabulary_size() -> int:
    """Number of tokens, the two special ones included; the last is the end token."""
    return len(json.loads(small_vocabulary()[0]))


def write_small_tokenizer(folder: Path, configs: dict[str, Path]) -> None:
    """Publish the vocabulary in `folder`, and copies of a tokenizer's small files beside it.

    `configs` maps their names (tokenizer_config.json, ...) to where SDXL's own lie.
    """
    vocabulary, merges = small_vocabulary()
    write_text(folder / "vocab.json", vocabulary)
    write_text(folder / "merges.txt", merges)
    for name, source in configs.items():
        write_text(folder / name, source.read_text(encoding="utf-8"))


def write_open_clip_merges(path: Path) -> None:
    """Publish the merges as open_clip's tokenizer reads them, gzipped (the same bytes always)."""
    text = small_vocabulary()[1].rstrip("\n")  # it would take an empty line for a merge
    with publish(path) as part:
        part.write_bytes(gzip.compress(text.encode(), mtime=0))
