"""The models in models/: small enough to be shipped, readable by the peers, with one vocabulary."""

import t2i.job.torch_shim  # noqa: F401

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file

import peers
from t2i.base.embedded import CLIP, MODEL, TRAINED
from t2i.base.files import sha256_file
from t2i.base.yaml import read_yaml
from t2i.engine import latents
from t2i.fetch.table import read_sources
from t2i.metrics import clip
from t2i.metrics.labels import Network, describe
from t2i.micro import pictures
from t2i.micro.model import LATENT_SIDE
from t2i.micro.vocabulary import small_vocabulary, vocabulary_size
from t2i.mlperf import NEGATIVE_PROMPT
from t2i.prompts import tokenizer

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
SDXL = ROOT / "config/models/sdxl-base-1.0"
LARGEST = 16_000_000  # bytes of everything that is shipped
TEXTS = [
    NEGATIVE_PROMPT,
    *(caption for n in range(4) for caption in pictures.captions(pictures.scene(n))),
    "Zürich, 2 o'clock: naïve robots & 狐",
    "one hundred words " * 50,
]


def test_shipped_files_are_few_enough_and_are_those_of_the_table():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    shipped = {
        name: source
        for name, source in read_sources(read_yaml(ROOT / "config/sources.yaml")).items()
        if name.startswith((f"{MODEL}/", f"{CLIP}/"))
    }
    images = MODELS / MODEL / "reference_images"
    names = {path.relative_to(MODELS).as_posix() for path in files if images not in path.parents}
    assert set(shipped) == names - {"README.md"}
    for name, source in shipped.items():
        assert source.address == f"file:models/{name}"
        assert (MODELS / name).stat().st_size == source.size, name
        assert sha256_file(MODELS / name) == source.digest, name


def test_reference_images_are_those_of_the_compliance_samples():
    names = {path.name for path in (MODELS / MODEL / "reference_images").iterdir()}
    assert names == {f"{index:05d}.png" for index in pictures.compliance_ids()}


@pytest.mark.parametrize("folder", ["text_encoder", "text_encoder_2"])
def test_text_encoders_have_the_published_names(folder):
    """Transformers of the benchmark's own pins passes over other names and draws random weights."""
    names = set(load_file(MODELS / MODEL / folder / "model.fp16.safetensors"))
    assert names and all(
        name.startswith("text_model.") for name in names - {"text_projection.weight"}
    )


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionXLPipeline:
    """The model as diffusers itself loads it, half precision as it is stored."""
    return StableDiffusionXLPipeline.from_pretrained(
        MODELS / MODEL, variant="fp16", dtype=torch.float16, local_files_only=True
    )


def test_diffusers_loads_the_model_and_paints_with_it(pipeline):
    networks = [pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2]
    assert {network.dtype for network in networks} == {torch.float16}
    assert isinstance(pipeline.scheduler, EulerDiscreteScheduler)
    whole = pipeline.to(torch.float32)
    whole.set_progress_bar_config(disable=True)
    latent = torch.from_numpy(latents.draw_latent()[..., :LATENT_SIDE, :LATENT_SIDE].copy())
    image = whole(
        TEXTS[1], negative_prompt=NEGATIVE_PROMPT, num_inference_steps=2, latents=latent
    ).images[0]
    assert image.size == (pictures.SIDE, pictures.SIDE)
    assert np.asarray(image).std() > 0


def test_shared_files_are_sdxls_own():
    for path in (path for path in SDXL.rglob("*.json") if path.name != "config.json"):
        shipped = MODELS / MODEL / path.relative_to(SDXL)
        assert shipped.read_bytes() == path.read_bytes(), shipped


@pytest.fixture(scope="module")
def open_clip_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """The scorer as open_clip itself loads it: network, validation transform, tokenizer."""
    config = json.loads((MODELS / CLIP / "config.json").read_text())
    path = tmp_path_factory.mktemp("open_clip") / "shipped-micro-clip.json"
    path.write_text(json.dumps({**config, "quick_gelu": True}))
    open_clip.add_model_config(path)
    model, _, transform = open_clip.create_model_and_transforms(
        path.stem, pretrained=None, force_image_size=config["vision_cfg"]["image_size"]
    )
    model.load_state_dict(load_file(MODELS / CLIP / "model.safetensors"))
    tokenizer = open_clip.tokenizer.SimpleTokenizer(str(MODELS / CLIP / "merges.txt.gz"))
    return model.eval(), transform, tokenizer


def test_open_clip_scores_what_the_workflow_scores(open_clip_model, monkeypatch):
    model, transform, tokenizer = open_clip_model
    loaded = clip.load_clip(MODELS / CLIP, "cpu")
    monkeypatch.setattr(open_clip, "tokenize", tokenizer)  # which the peer's score is taken with
    image = np.asarray(pictures.paint(pictures.scene(0)))
    for caption in TEXTS[:3]:
        ours = clip.clip_scores(
            clip.image_embeddings(loaded, image[None], 1),
            clip.caption_embeddings(loaded, [caption], 1),
        )
        theirs = peers.clip_score(model, transform, image, caption)
        assert ours[0] == pytest.approx(theirs, abs=peers.SCORES)


def test_both_models_read_text_as_it_was_trained(open_clip_model):
    vocabulary, merges = small_vocabulary()
    folders = [MODELS / MODEL / name for name in ("tokenizer", "tokenizer_2")]
    for folder in folders:
        assert (folder / "vocab.json").read_text(encoding="utf-8") == vocabulary
        assert (folder / "merges.txt").read_text(encoding="utf-8") == merges
    packed = gzip.decompress((MODELS / CLIP / "merges.txt.gz").read_bytes()).decode()
    assert packed == merges.rstrip("\n")
    ours = tokenizer.tokenize(TEXTS, *folders)
    theirs = open_clip_model[2](TEXTS).numpy()
    end = vocabulary_size() - 1
    first_end = (ours.first == end).argmax(axis=1)
    inside = np.arange(77) <= first_end[:, None]  # behind it each pads in its own way
    assert np.array_equal(ours.first[inside], theirs[inside])
    assert np.array_equal(ours.second[inside], theirs[inside])
    assert set(ours.first[~inside]) == {end} and set(ours.second[~inside]) == {0}


def test_networks_take_the_vocabulary_and_say_where_they_come_from(pipeline):
    size = vocabulary_size()
    for encoder in (pipeline.text_encoder, pipeline.text_encoder_2):
        assert encoder.get_input_embeddings().weight.shape[0] == size
        assert encoder.config.eos_token_id == size - 1
    config = json.loads((MODELS / CLIP / "config.json").read_text())
    assert config["text_cfg"]["vocab_size"] == size
    digest = sha256_file(MODELS / CLIP / "model.safetensors")
    assert describe(MODELS / CLIP) == Network(CLIP, digest, TRAINED)
