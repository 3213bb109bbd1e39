"""Each step of the reference maths, changed on purpose: its comparison with a peer must fail.

The comparisons and tolerances are those by which the unchanged library passes. Most mutations are
one exchanged piece of a library function's source, so they break when that line is rewritten;
then the piece has to be named again.
"""

import t2i.job.torch_shim  # noqa: F401

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torchvision.models.inception import InceptionA, InceptionC

import peers
from differences import (
    caption_difference,
    frechet_difference,
    influence_difference,
    rounding_difference,
    synthetic,
    token_difference,
)
from micro_model import LONG_PROMPT, MicroModel
from mutations import Edit, Swap
from t2i.engine import latents, reference
from t2i.metrics import clip, fid, inception, scoring
from t2i.prompts import captions, tokenizer

Mutation = Edit | Swap
NO_NEGATIVE = "np.array([49406] + 76 * [49407])"
EMPTY = f"both(tokens.second, {NO_NEGATIVE} * (np.arange(77) < 2))"
GENERATE = [
    ("negative prompt zeroed", "=embeddings[:batch_size]", "=0 * embeddings[:batch_size]"),
    ("pooled negative prompt zeroed", "=pooled[:batch_size]", "=0 * pooled[:batch_size]"),
    (
        "negative prompt empty in the first encoder",
        "both(tokens.first, tokens.negative_first)",
        f"both(tokens.first, {NO_NEGATIVE})",
    ),
    (
        "negative prompt empty in the second encoder",
        "both(tokens.second, tokens.negative_second)",
        EMPTY,
    ),
    ("first caption as negative prompt", "[np.repeat(negative[None]", "[np.repeat(captions[:1]"),
    ("guidance 7.5", "guidance_scale=guidance", "guidance_scale=7.5"),
    ("no guidance", "guidance_scale=guidance", "guidance_scale=1.0"),
    ("19 steps", "num_inference_steps=steps", "num_inference_steps=steps - 1"),
    ("latent scaled twice", "torch.from_numpy(latent)", "torch.from_numpy(11.07359 * latent)"),
    ("latent at bf16", "start.to(device, dtype)", "start.to(torch.bfloat16).to(dtype)"),
    ("guidance rescaled", 'output_type="pt",', 'output_type="pt", guidance_rescale=0.7,'),
    (
        "other size conditioning",
        'output_type="pt",',
        'output_type="pt", original_size=(1024, 1024),',
    ),
    ("prompts of the next sample", "[*indices, ", "[*(n + 1 for n in indices), "),
]
IMAGES: list[Mutation] = [
    *(Edit(step, reference, "generate", old, new) for step, old, new in GENERATE),
    Edit(
        "last hidden state of the first encoder",
        reference,
        "encode_prompts",
        "[output.hidden_states[-2]",
        "[output.hidden_states[-1]",
    ),
    Edit(
        "last hidden state of the second encoder",
        reference,
        "encode_prompts",
        "output_2.hidden_states[-2]",
        "output_2.hidden_states[-1]",
    ),
    Edit(
        "pooled output of the first encoder",
        reference,
        "encode_prompts",
        "hidden, output_2.text_embeds",
        "hidden, output.pooler_output",
    ),
    Edit(
        "encoders exchanged",
        reference,
        "encode_prompts",
        "[output.hidden_states[-2], output_2.hidden_states[-2]]",
        "[output_2.hidden_states[-2], output.hidden_states[-2]]",
    ),
    Edit("another part of the latent", latents, "read_latent", "[:, :, :side, :side]",
         "[:, :, 1 : side + 1, :side]"),
    Edit("latent transposed", latents, "read_latent", "[:, :, :side, :side]",
         "[:, :, :side, :side].swapaxes(2, 3)"),
    Edit("one tokenizer for both", tokenizer, "tokenize", "(tokenizer, tokenizer_2)",
         "(tokenizer, tokenizer)"),
]  # fmt: skip


UNCHANGED = [
    (reference, ("generate", "encode_prompts", "to_uint8")),
    (latents, ("read_latent",)),
    (tokenizer, ("tokenize",)),
    (inception, ("network_input", "inception_network", "image_features")),
    (clip, ("clip_network", "preprocess", "input_embeddings", "caption_embeddings")),
    (scoring, ("score_shard",)),
    (fid, ("moments", "frechet_distance")),
    (captions, ("sample_captions", "_rows")),
]


@pytest.mark.parametrize(("module", "functions"), UNCHANGED)
def test_exchanging_nothing_breaks_nothing(
    module: ModuleType,
    functions: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The way in which functions are exchanged is not what makes the comparisons fail."""
    for function in functions:
        head = f"def {function}("
        Edit("none", module, function, head, head).apply(monkeypatch)
    if module in (reference, latents, tokenizer):
        largest, share = request.getfixturevalue("image_difference")()
        assert largest <= peers.GREY_LEVELS
        assert share <= peers.DIFFERING_PIXELS
        assert rounding_difference(torch.float32) == 0
    elif module is inception:
        assert request.getfixturevalue("inception_difference")((2,)) <= peers.FEATURES
    elif module in (clip, scoring):
        assert request.getfixturevalue("clip_difference")() <= peers.SCORES
    elif module is fid:
        assert frechet_difference(*synthetic(200, 300, 64)) <= peers.FULL_RANK
        assert frechet_difference(*synthetic(24, 40, 64)) <= peers.RANK_DEFICIENT
        assert influence_difference() <= peers.INFLUENCE
    else:
        assert caption_difference() == 0


@pytest.mark.parametrize("mutation", IMAGES, ids=str)
def test_images(
    mutation: Mutation,
    monkeypatch: pytest.MonkeyPatch,
    image_difference: Callable[..., tuple[int, float]],
) -> None:
    mutation.apply(monkeypatch)
    largest, _ = image_difference()
    assert largest > peers.GREY_LEVELS


@pytest.mark.parametrize(
    "change",
    [
        {"steps_offset": 0},
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "linspace"},
        {"beta_schedule": "linear"},
        {"use_karras_sigmas": True},
        {"beta_end": 0.0121},
    ],
    ids=str,
)
def test_schedule(
    change: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    micro_model: MicroModel,
    image_difference: Callable[..., tuple[int, float]],
) -> None:
    scheduler = EulerDiscreteScheduler.from_config(micro_model.pipeline.scheduler.config, **change)
    monkeypatch.setattr(micro_model.pipeline, "scheduler", scheduler)
    assert peers.schedule_difference(micro_model.pipeline.scheduler) > peers.SCHEDULE
    largest, _ = image_difference()
    assert largest > peers.GREY_LEVELS


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("truncated", reference, "to_uint8", "* 255).round()", "* 255)"),
        Edit("half up", reference, "to_uint8", "* 255).round()", "* 255 + 0.5).floor()"),
        Edit("times 256", reference, "to_uint8", "* 255).round()", "* 255.99).floor()"),
        Edit("rows and columns exchanged", reference, "to_uint8", "(0, 2, 3, 1)", "(0, 3, 2, 1)"),
    ],
    ids=str,
)
def test_rounding(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    assert rounding_difference(torch.float32) > 0


def in_tokenize(step: str, statement: str) -> Edit:
    """A mutation of the tokenizers as they are loaded."""
    old = "length = clip.model_max_length"
    return Edit(step, tokenizer, "tokenize", old, f"{statement}; {old}")


@pytest.mark.shared
@pytest.mark.parametrize(
    "mutation",
    [
        in_tokenize("second padded with endoftext", "clip.pad_token = clip.eos_token"),
        in_tokenize("first padded with 0", 'clip.pad_token = "!"'),
        in_tokenize("not lower-cased", "clip.backend_tokenizer.normalizer = None"),
        in_tokenize("no special tokens", "clip.backend_tokenizer.post_processor = None"),
        in_tokenize("cut on the left", 'clip.truncation_side = "left"'),
        Edit("tokenizers exchanged", tokenizer, "tokenize", "(tokenizer, tokenizer_2)",
             "(tokenizer_2, tokenizer)"),
    ],
    ids=str,
)  # fmt: skip
def test_tokens(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch, micro_model: MicroModel, shared_data: Path
) -> None:
    prompts = ["A Star.", LONG_PROMPT]
    published = shared_data / "sdxl-base-1.0"
    mutation.apply(monkeypatch)
    assert token_difference(prompts, micro_model.model, published) > 0


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("antialiased", inception, "network_input", "align_corners=False",
             "align_corners=False, antialias=True"),
        Edit("corners aligned", inception, "network_input", "align_corners=False",
             "align_corners=True"),
        Edit("bicubic", inception, "network_input", '"bilinear"', '"bicubic"'),
        Edit("not scaled to [-1, 1]", inception, "network_input", "2 * scaled - 1", "scaled"),
        Edit("divided by 256", inception, "network_input", "255.0", "256.0"),
        Swap("299 pixels", inception, "SIDE", 256),
        Swap("padding counted in A", inception, "FIDInceptionA", InceptionA),
        Swap("padding counted in C", inception, "FIDInceptionC", InceptionC),
        Swap("padding counted in E", inception, "FIDInceptionE_1", inception.FIDInceptionE_2),
        Swap("average pool in the last block", inception, "FIDInceptionE_2",
             inception.FIDInceptionE_1),
        Edit("left in training mode", inception, "inception_network", "network.eval()",
             "network.train()"),
        Edit("blue before red", inception, "network_input", ".permute(0, 3, 1, 2)",
             ".permute(0, 3, 1, 2).flip(1)"),
    ],
    ids=str,
)  # fmt: skip
def test_inception(
    mutation: Mutation,
    monkeypatch: pytest.MonkeyPatch,
    inception_difference: Callable[..., float],
) -> None:
    mutation.apply(monkeypatch)
    assert inception_difference((2,)) > peers.FEATURES


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("exact GELU", clip, "clip_network", "not exact", "False"),
        Edit("bilinear", clip, "preprocess", "is_train=False",
             'is_train=False, interpolation="bilinear"'),
        Edit("squashed instead of cropped", clip, "preprocess", "is_train=False",
             'is_train=False, resize_mode="squash"'),
        Edit("normalised otherwise", clip, "preprocess", "is_train=False",
             "is_train=False, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)"),
        Swap("scale 1", clip, "SCALE", 1.0),
        Edit("images not normalised", clip, "input_embeddings",
             "nn.functional.normalize(encoded, dim=-1)", "encoded"),
        Edit("captions not normalised", clip, "caption_embeddings",
             "nn.functional.normalize(encoded, dim=-1)", "encoded"),
        Edit("captions moved by one", scoring, "score_shard", "clip=scores(indices)",
             "clip=scores(shifted)"),
        Edit("shifted captions not moved", scoring, "score_shard", "clip_shifted=scores(shifted)",
             "clip_shifted=scores(indices)"),
        Edit("no caption after the last", scoring, "score_shard", "(index + 1) % len(captions)",
             "min(index + 1, len(captions) - 1)"),
        Edit("clamped at 0", clip, "clip_scores",
             "SCALE * (images * captions).sum(axis=1, dtype=np.float32)",
             "np.maximum(0, SCALE * (images * captions).sum(axis=1, dtype=np.float32))"),
    ],
    ids=str,
)  # fmt: skip
def test_clip(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch, clip_difference: Callable[[], float]
) -> None:
    mutation.apply(monkeypatch)
    assert clip_difference() > peers.SCORES


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("ddof 0", fid, "moments", "np.cov(rows, rowvar=False)",
             "np.cov(rows, rowvar=False, ddof=0)"),
        Edit("mean dropped", fid, "frechet_distance", "distance = shift @ shift + ", "distance = "),
        Edit("trace once", fid, "frechet_distance", "- 2 * trace\n", "- trace\n"),
        Edit("own trace dropped", fid, "frechet_distance", "np.trace(own.covariance) + ", ""),
        Edit("root of the distance", fid, "frechet_distance", "max(float(distance), 0.0)",
             "float(distance) ** 0.5"),
        Edit("half precision", fid, "moments", "dtype=np.float64", "dtype=np.float16"),
    ],
    ids=str,
)  # fmt: skip
def test_frechet_distance(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    assert frechet_difference(*synthetic(200, 300, 64)) > peers.FULL_RANK
    assert frechet_difference(*synthetic(24, 40, 64)) > peers.RANK_DEFICIENT


def test_frechet_distance_of_deficient_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    old = "trace /= np.sqrt(count - 1)"
    Edit("degrees of freedom", fid, "frechet_distance", old, "trace /= np.sqrt(count)").apply(
        monkeypatch
    )
    assert frechet_difference(*synthetic(24, 40, 64)) > peers.RANK_DEFICIENT


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("mean counted once", fid, "frechet_distance", "influence = 2 * centred",
             "influence = centred"),
        Edit("no transport", fid, "frechet_distance", " - transported\n", "\n"),
        Edit("transport twice", fid, "frechet_distance", " - transported\n",
             " - 2 * transported\n"),
    ],
    ids=str,
)  # fmt: skip
def test_influence(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    assert influence_difference() > peers.INFLUENCE


@pytest.mark.parametrize(
    "mutation",
    [
        Edit("not sorted before the shuffle", captions, "sample_captions",
             'keep="first").sort_values("id")', 'keep="first")'),
        Edit("not sorted at the end", captions, "_rows",
             'sorted(annotations, key=itemgetter("id"))', "annotations"),
        Edit("last caption of an image", captions, "sample_captions", 'keep="first"',
             'keep="last"'),
        Edit("caption with the lowest id", captions, "sample_captions", "table.drop_duplicates",
             'table.sort_values("id").drop_duplicates'),
        Swap("seed 2024", captions, "SEED", 2024),
        Edit("not shuffled", captions, "sample_captions",
             ".sample(frac=1, random_state=SEED)", ""),
        Edit("white space kept", captions, "_rows", ".strip()", ""),
        Edit("line breaks kept", captions, "_rows", '.replace("\\n", "")', ""),
        Edit("last of the shuffled", captions, "sample_captions", ".head(count)", ".tail(count)"),
    ],
    ids=str,
)  # fmt: skip
def test_captions(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    assert caption_difference() > 0
