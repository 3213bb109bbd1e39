"""The small byte-pair vocabulary: whole words, complete, and read alike by both libraries."""

import t2i.job.torch_shim  # noqa: F401

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

from micro_model import SHIPPED, TOKENIZERS
from t2i.micro.pictures import captions, scenes
from t2i.micro.vocabulary import (
    WORD,
    vocabulary_size,
    write_open_clip_merges,
    write_small_tokenizer,
)
from t2i.mlperf import NEGATIVE_PROMPT
from t2i.prompts.tokenizer import tokenize

TEXTS = [text for scene in scenes()[::97] for text in captions(scene)] + [NEGATIVE_PROMPT, ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    for name in TOKENIZERS:
        configs = {path.name: path for path in (SHIPPED / name).iterdir()}
        write_small_tokenizer(folder / name, configs)
    write_open_clip_merges(folder / "merges.txt.gz")
    return folder


def test_every_word_of_captions_and_negative_prompt_is_one_token(folder):
    clip = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    for text in TEXTS:
        assert len(clip(text).input_ids) == 2 + len(WORD.findall(text.lower()))


def test_padding_is_as_sdxls_two_tokenizers_have_it(folder):
    ids = tokenize(TEXTS, *(folder / name for name in TOKENIZERS))
    end = vocabulary_size() - 1
    assert not ids.truncated
    assert (ids.first[:, 0] == end - 1).all()
    assert (ids.first[:, -1] == end).all()
    assert (ids.second[:, -1] == 0).all()
    assert ((ids.second == end).sum(axis=1) == 1).all()
    assert 600 <= end + 1 <= 1000


def test_open_clips_tokenizer_gives_the_same(folder):
    own = SimpleTokenizer(str(folder / "merges.txt.gz"))
    ids = tokenize(TEXTS, *(folder / name for name in TOKENIZERS))
    assert own.vocab_size == vocabulary_size()
    np.testing.assert_array_equal(own(TEXTS).numpy(), ids.second)


def test_every_text_has_tokens_of_the_table(folder):
    clip = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)

    @settings(max_examples=50, deadline=None)
    @given(st.text())
    def check(text):
        ids = clip(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert len(ids) == 77
        assert all(0 <= number < vocabulary_size() for number in ids)
        inner = clip(text, add_special_tokens=False).input_ids
        assert clip.unk_token_id not in inner or "<|endoftext|>" in text.lower()

    check()
