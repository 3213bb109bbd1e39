"""Fixtures with miniature networks of random weights, and the library's comparisons with peers.

Every comparison is a function that returns the largest difference, so that tests of what is equal
and tests of what a mutation breaks call the same one. The peers' side is computed once.
"""

import t2i.job.torch_shim  # noqa: F401

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from pytorch_fid import inception as pytorch_fid_inception
from safetensors.torch import load_file
from torch import nn

import peers
from random_sdxl import RANDOM_CLIP, write_random_clip, write_random_sdxl
from t2i.engine import build, latents, reference
from t2i.engine.fp8.calibrate import calibrate
from t2i.engine.fp8.scales import write_scales
from t2i.engine.load import load_engine
from t2i.engine.networks import networks_of
from t2i.engine.operations import PLAIN
from t2i.engine.variant import Variant
from t2i.generate.shard import Sample
from t2i.metrics import clip, inception, scoring
from t2i.micro import pictures
from t2i.micro.inception import write_micro_inception
from t2i.prompts import tokenizer
from t2i.prompts.tokens import PromptTokens

SHIPPED = Path(__file__).parents[2] / "config" / "models" / "sdxl-base-1.0"
TOKENIZERS = ("tokenizer", "tokenizer_2")
SETTINGS: dict[str, Any] = {
    "batch_size": 4,
    "threads": 1,
    "device": "cpu",
    "patch": None,
    "steps": peers.STEPS,
    "guidance": peers.GUIDANCE,
}
LONG_PROMPT = "one hundred words: " + "a red circle on a " * 20  # more than fits into 77 tokens


@dataclass(frozen=True)
class MicroModel:
    """The random SDXL as files, as loaded engines, and as diffusers itself loads it (`peer`)."""

    model: Path
    engines: dict[str, Path]
    pipeline: StableDiffusionXLPipeline
    half: StableDiffusionXLPipeline
    peer: StableDiffusionXLPipeline
    latent: Path
    prompts: list[str]

    def tokens(self) -> PromptTokens:
        """Tokens of the prompts, by the library."""
        folders = [self.model / name for name in TOKENIZERS]
        prompts = tokenizer.tokenize(self.prompts, *folders)
        negative = tokenizer.tokenize([peers.NEGATIVE_PROMPT], *folders)
        return PromptTokens(prompts.first, prompts.second, negative.first[0], negative.second[0])

    def scales(self, path: Path, fp8: dict[str, Any]) -> Path:
        """Scales for fp8 settings, in a file, by the library."""
        pipeline, manifest = load_engine(self.engines["bf16"], "cpu")
        latent = latents.read_latent(self.latent, pipeline.unet.config.sample_size)
        tokens = self.tokens().begin(fp8["captions"])
        seen = calibrate(networks_of(pipeline), {**manifest, "fp8": fp8}, tokens, latent, 3, PLAIN)
        write_scales(path, seen, {"captions": fp8["captions"]})
        return path

    def images(
        self, pipeline: StableDiffusionXLPipeline, batch_size: int, count: int
    ) -> np.ndarray:
        """Images of the first `count` prompts, by the library."""
        prompts = self.tokens()
        latent = latents.read_latent(self.latent, pipeline.unet.config.sample_size)
        batches = [
            range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)
        ]
        sampler = (batch_size, peers.STEPS, peers.GUIDANCE)
        return np.concatenate(
            [
                reference.generate(pipeline, prompts, batch, latent, *sampler).pixels
                for batch in batches
            ]
        )


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """One torch thread, as the engines of these tests say."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def micro_model(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> MicroModel:
    """The random SDXL, its engines, and eight prompts, one of them too long."""
    folder = tmp_path_factory.mktemp("micro")
    model = folder / "random-sdxl"
    write_random_sdxl(model, SHIPPED)
    for name in TOKENIZERS:
        configs = {path.name: path for path in (SHIPPED / name).iterdir()}
        tokenizer.write_tokenizer(model / name, configs)
    engines = {dtype: folder / dtype for dtype in ("fp32", "fp16", "bf16")}
    for dtype, target in engines.items():
        target.mkdir()
        build.build_engine(model, target, Variant(dtype=dtype, **SETTINGS))
    np.save(folder / "latents.npy", latents.draw_latent())
    captions = [row["caption"].strip() for row in pictures.coco_annotations(7)["annotations"]]
    peer = StableDiffusionXLPipeline.from_pretrained(model, local_files_only=True)
    peer.set_progress_bar_config(disable=True)
    return MicroModel(
        model,
        engines,
        load_engine(engines["fp32"], "cpu")[0],
        load_engine(engines["bf16"], "cpu")[0],
        peer,
        folder / "latents.npy",
        [captions[0], LONG_PROMPT, *captions[2::2]],
    )


@pytest.fixture(scope="session")
def image_difference(micro_model: MicroModel) -> Callable[..., tuple[int, float]]:
    """Largest difference in grey levels and share of differing pixels from diffusers' images."""
    known: dict[tuple[int, int], np.ndarray] = {}

    def difference(batch_size: int = 2, count: int = 2) -> tuple[int, float]:
        key = (batch_size, count)
        if key not in known:
            prompts = micro_model.prompts[:count]
            known[key] = peers.images(micro_model.peer, prompts, micro_model.latent, batch_size)
        ours = micro_model.images(micro_model.pipeline, batch_size, count)
        return peers.pixel_difference(ours, known[key])

    return difference


@pytest.fixture(scope="session")
def example_pictures() -> list[np.ndarray]:
    """Pictures (1, height, width, 3) uint8 of several sizes: drawn ones, and one of noise."""
    drawn = [np.asarray(pictures.paint(pictures.scene(n), 64)) for n in range(2)]
    wide = np.asarray(pictures.paint(pictures.scene(2), 480))[60:420]
    noise = np.random.default_rng(0).integers(0, 256, (310, 330, 3), dtype=np.uint8)
    return [image[None] for image in (*drawn, wide, noise)]


@pytest.fixture(scope="session")
def micro_inception(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """Weights of Inception v3 at its full size, random."""
    folder = tmp_path_factory.mktemp("micro-inception")
    write_micro_inception(folder)
    return folder / "model.safetensors"


@pytest.fixture(scope="session")
def published_state(micro_inception: Path) -> dict[str, torch.Tensor]:
    """The random weights in the layout of pytorch-fid's file, which has a classifier as well."""
    generator = torch.Generator().manual_seed(12)
    classifier = {
        "fc.weight": torch.randn(1008, 2048, generator=generator),
        "fc.bias": torch.randn(1008, generator=generator),
    }
    return {**load_file(micro_inception), **classifier}


@pytest.fixture(scope="session")
def peer_inception(published_state: dict[str, torch.Tensor]) -> nn.Module:
    """pytorch-fid's own network with the same weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pytorch_fid_inception, "load_state_dict_from_url", lambda *_, **__: published_state
        )
        return pytorch_fid_inception.InceptionV3().eval()


@pytest.fixture(scope="session")
def inception_difference(
    micro_inception: Path, peer_inception: nn.Module, example_pictures: list[np.ndarray]
) -> Callable[..., float]:
    """Largest difference from pytorch-fid's features, relative to the largest feature."""
    expected = [peers.inception_features(peer_inception, image[0]) for image in example_pictures]

    def difference(which: tuple[int, ...] = (0, 2), batch_size: int = 1) -> float:
        network = inception.load_inception(micro_inception, "cpu")
        differences = [
            np.abs(
                inception.image_features(network, example_pictures[n], batch_size)[0] - expected[n]
            ).max()
            / np.abs(expected[n]).max()
            for n in which
        ]
        return float(max(differences))

    return difference


@pytest.fixture(scope="session")
def random_clip(
    tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> tuple[Path, Any, Callable[..., Any]]:
    """A small CLIP as files, and open_clip's own model and validation transform for them."""
    folder = tmp_path_factory.mktemp("random-clip")
    write_random_clip(folder)
    config = folder / "random-clip-quickgelu.json"
    config.write_text(json.dumps({**RANDOM_CLIP, "quick_gelu": True}))
    open_clip.add_model_config(config)
    model, _, transform = open_clip.create_model_and_transforms(config.stem, pretrained=None)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return folder, model.eval(), transform


@pytest.fixture(scope="session")
def clip_difference(
    random_clip: tuple[Path, Any, Callable[..., Any]], example_pictures: list[np.ndarray]
) -> Callable[[], float]:
    """Largest difference of CLIP scores, with the own and the next caption, from open_clip's.

    Pictures stand for samples 3, 4, ... of a data set whose last sample is the last picture's.
    """
    folder, model, transform = random_clip
    captions = ["a cat", "two dogs", "x " * 100, *(f"A Star, number {n}!" for n in range(4))]
    first = len(captions) - len(example_pictures)
    expected = [
        [
            peers.clip_score(model, transform, image[0], captions[(first + n + shift) % 7])
            for shift in (0, 1)
        ]
        for n, image in enumerate(example_pictures)
    ]
    # Inception has no part in this comparison; a convolution to few features is quick.
    stub = nn.Conv2d(3, 2, 299)

    def difference() -> float:
        loaded = clip.load_clip(folder, "cpu")
        largest = 0.0
        for n, image in enumerate(example_pictures):
            sample = Sample(first + n, 0, "", "", True)
            features = scoring.score_shard([sample], image, captions, stub, loaded, 2)
            ours = [features.clip[0], features.clip_shifted[0]]
            largest = max(largest, float(np.abs(np.subtract(ours, expected[n])).max()))
        return largest

    return difference
