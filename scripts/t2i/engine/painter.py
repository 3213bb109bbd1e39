"""Images of samples: from a model's engine, or from a stand-in for one.

torch and what rests on it are imported only for a model, so that a stand-in starts at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from t2i.base.backends import BACKENDS, FP8, INDUCTOR, NATIVE
from t2i.base.images import Images
from t2i.engine.compiled import use_compiled
from t2i.engine.latents import read_latent
from t2i.engine.manifest import SCALES, read_manifest
from t2i.engine.stand_in import stand_in_image
from t2i.prompts.tokens import PromptTokens, read_tokens


class Painter(Protocol):
    """What makes the images of samples."""

    @property
    def side(self) -> int:
        """Height and width of its images in pixels."""

    def paint(self, indices: Sequence[int], batch_size: int) -> Images:
        """Images of the samples `indices`, at most `batch_size` of them, in one batch."""


@dataclass(frozen=True)
class ModelPainter:
    """An engine's pipeline and what `t2i.engine.reference.generate` needs besides the samples."""

    pipeline: Any
    tokens: PromptTokens
    latent: np.ndarray
    steps: int
    guidance: float

    @property
    def side(self) -> int:
        """Height and width of its images in pixels."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def paint(self, indices: Sequence[int], batch_size: int) -> Images:
        """Images of the samples `indices`; `generate` fills up a short batch."""
        from t2i.engine.reference import generate

        sampler = (batch_size, self.steps, self.guidance)
        return generate(self.pipeline, self.tokens, indices, self.latent, *sampler)


@dataclass(frozen=True)
class NativePainter:
    """An engine in our own loop, and what that needs besides the samples.

    `kernels` is the folder of compiled kernels on a GPU, which goes with the painter.
    """

    loop: Any
    tokens: PromptTokens
    latent: np.ndarray
    kernels: Any = None

    @property
    def side(self) -> int:
        """Height and width of its images in pixels."""
        side: int = self.loop.side
        return side

    def paint(self, indices: Sequence[int], batch_size: int) -> Images:
        """Images of the samples `indices`; the loop fills up a short batch."""
        images: Images = self.loop.images(self.tokens, indices, self.latent, batch_size)
        return images


@dataclass(frozen=True)
class StandInPainter:
    """Pictures drawn from the sample's index, as fast as they come."""

    side: int
    pictures: int | None = None  # after which they begin again

    def paint(self, indices: Sequence[int], batch_size: int) -> Images:
        """Pictures of the samples `indices`, regardless of the batch's size."""
        shown = [index % self.pictures if self.pictures else index for index in indices]
        pixels = np.stack([stand_in_image(number, self.side) for number in shown])
        return Images(pixels, np.ones(len(indices), dtype=bool))


def painted_ahead(
    painter: Painter, batches: Sequence[Sequence[int]], batch_size: int
) -> Iterator[Images]:
    """Images of each batch, in order; the next batch is painted while the caller has one.

    So a GPU does not wait for pixels to be compressed.
    """
    with ThreadPoolExecutor(1) as background:
        previous: Future[Images] | None = None
        for batch in batches:
            following = background.submit(painter.paint, batch, batch_size)
            if previous is not None:
                yield previous.result()
            previous = following
        if previous is not None:
            yield previous.result()


def load_painter(
    engine: Path, tokens: Path, latents: Path, device: str
) -> tuple[Painter, dict[str, Any]]:
    """The painter of the verified engine in a folder on a torch device, and the engine's manifest.

    Raises EngineError when the engine is not what its manifest says, ValueError when tokens or
    latents are none.
    """
    manifest = read_manifest(engine)
    if manifest["stand_in"] is not None:
        stand_in = manifest["stand_in"]
        return StandInPainter(stand_in["side"], stand_in.get("pictures")), manifest
    if manifest["backend"] == NATIVE:
        load, loop, table = BACKENDS[NATIVE]
        kernels, fast = None, []
        if device == "cuda":
            kernels = use_compiled(engine)
            fast = [importlib.import_module(table).FAST]
        parts = None
        if manifest["fp8"] is not None:
            module = importlib.import_module(FP8)
            parts = module.engine_parts(manifest["fp8"], engine / SCALES, device, *fast)
        networks, manifest = importlib.import_module(load).load_networks(engine, device)
        running = importlib.import_module(loop).Loop(networks, manifest, *fast, parts=parts)
        latent = read_latent(latents, running.latent_side)
        return NativePainter(running, read_tokens(tokens), latent, kernels), manifest
    from t2i.engine.load import load_engine

    pipeline, manifest = load_engine(engine, device)
    if manifest["backend"] == INDUCTOR:
        importlib.import_module(*BACKENDS[INDUCTOR]).compile_blocks(pipeline)
    latent = read_latent(latents, pipeline.unet.config.sample_size)
    sampler = (manifest["steps"], manifest["guidance"])
    return ModelPainter(pipeline, read_tokens(tokens), latent, *sampler), manifest
