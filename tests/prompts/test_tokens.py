"""Token ids against transformers' tokenizer with SDXL's published files."""

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import yaml

import peers
from differences import token_difference
from micro_model import LONG_PROMPT, TOKENIZERS, MicroModel
from t2i.base.files import sha256_file
from t2i.prompts import tokenizer
from t2i.prompts.captions import read_captions
from t2i.prompts.tokens import PromptTokens, read_tokens, write_tokens


@pytest.fixture(scope="module")
def captions(shared_data: Path) -> list[str]:
    rows = read_captions(shared_data / "coco2014" / "captions_source.tsv")
    return [row.caption for row in rows]


@pytest.mark.shared
def test_all_captions_and_the_negative_prompt(
    captions: list[str], micro_model: MicroModel, shared_data: Path
) -> None:
    prompts = [*captions, peers.NEGATIVE_PROMPT, LONG_PROMPT, ""]
    assert len(captions) == 5000
    assert token_difference(prompts, micro_model.model, shared_data / "sdxl-base-1.0") == 0


@pytest.mark.shared
def test_all_captions_against_another_tokenizer(
    captions: list[str], micro_model: MicroModel
) -> None:
    """open_clip's tokenizer is another program with the same vocabulary; it pads with 0."""
    ours = tokenizer.tokenize(captions, *(micro_model.model / name for name in TOKENIZERS))
    assert np.array_equal(ours.second, open_clip.tokenize(captions).numpy())
    assert ours.truncated == []


@pytest.mark.shared
def test_rebuilt_files_have_the_published_digests(
    micro_model: MicroModel, shared_data: Path
) -> None:
    table: dict[str, Any] = yaml.safe_load((shared_data / "sources.yaml").read_text())
    published = table["sdxl_base_1_0"]["files"]
    for part in TOKENIZERS:
        for name in (
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ):
            path = micro_model.model / part / name
            assert [path.stat().st_size, sha256_file(path)] == published[f"{part}/{name}"]


def test_padding_and_special_tokens(micro_model: MicroModel) -> None:
    ids = tokenizer.tokenize([""], *(micro_model.model / name for name in TOKENIZERS))
    assert ids.first.tolist() == [[49406] + 76 * [49407]]
    assert ids.second.tolist() == [[49406, 49407] + 75 * [0]]


def test_truncated_prompts_are_listed(micro_model: MicroModel) -> None:
    made_up = " ".join(["star"] * 100)
    ids = tokenizer.tokenize(
        ["a star", made_up, " ".join(["star"] * 75), " ".join(["star"] * 76)],
        *(micro_model.model / name for name in TOKENIZERS),
    )
    assert ids.truncated == [(1, 102), (3, 78)]
    for rows in (ids.first, ids.second):
        assert rows.shape == (4, 77)
        assert rows[1, -1] == 49407
        assert np.array_equal(rows[1], rows[2])


def test_tokens_file(tmp_path: Path, micro_model: MicroModel) -> None:
    prompts = micro_model.tokens()
    write_tokens(tmp_path / "tokens.npz", prompts)
    for name, ids in vars(read_tokens(tmp_path / "tokens.npz")).items():
        assert np.array_equal(ids, getattr(prompts, name))
        assert ids.dtype == np.int64


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_damaged_tokens_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokens.npz"
    if content is None:
        np.savez(path, first=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokens\.npz: (damaged|not a tokens file)"):
        read_tokens(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"second": np.zeros((2, 5), dtype=np.int64)}, "unequal shapes"),
        ({"negative_first": np.zeros(5, dtype=np.int64)}, "unequal shapes"),
        ({"first": np.zeros((2, 4))}, "not integers"),
    ],
)
def test_other_arrays_are_no_tokens(
    tmp_path: Path, change: dict[str, np.ndarray], told: str
) -> None:
    ids, one = np.zeros((2, 4), dtype=np.int64), np.zeros(4, dtype=np.int64)
    names = ("first", "second", "negative_first", "negative_second")
    arrays = dict(zip(names, (ids, ids, one, one), strict=True))
    np.savez(tmp_path / "tokens.npz", **{**arrays, **change})
    with pytest.raises(ValueError, match=rf"tokens\.npz: ids .*{told}"):
        read_tokens(tmp_path / "tokens.npz")


def test_other_merges_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "MERGES", tokenizer.MERGES - 1)
    with pytest.raises(ValueError, match=r"vocab\.json rebuilt from .* has the sha256"):
        tokenizer.clip_vocabulary()


def test_prompt_tokens_hold_the_negative_prompt_once(micro_model: MicroModel) -> None:
    prompts: PromptTokens = micro_model.tokens()
    assert prompts.negative_first.shape == prompts.negative_second.shape == (77,)
