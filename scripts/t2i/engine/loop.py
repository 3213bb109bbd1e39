"""Images from tokens by our own loop: what diffusers' SDXL pipeline computes, without its waits.

Text encoders once per batch (the negative prompt with every sample, as the closed division wants
it); keys and values of the prompt and the time embeddings of all steps once per image; latents,
guidance and Euler steps on the device, rounded where the pipeline rounds them. On a GPU all of that
is a handful of CUDA graphs per batch size, and the host waits once, for the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t2i.base.images import Images
from t2i.engine.blocks import KeysValues, Parts
from t2i.engine.cache import deep_steps
from t2i.engine.half_precision import fast_products
from t2i.engine.networks import Networks
from t2i.engine.operations import PLAIN, Operations
from t2i.engine.reference import warn_of_unsound
from t2i.engine.unet import Kept, UNet
from t2i.engine.vae import Decoder
from t2i.engine.variant import DTYPES
from t2i.prompts.tokens import PromptTokens

TOKENS = 77  # of a prompt, for CLIP
DECODED_TOGETHER = 8  # images; bounds the decoder's memory


class Loop:
    """Networks in the form that they are run in, which nothing else may use afterwards.

    `manifest` is the engine's: steps, guidance, cache, vae (number format of the decoder; None:
    diffusers' choice). `parts` makes the UNet's parts, otherwise `ops` does. Raises EngineError
    for a scheduler of another kind, ValueError for networks of another structure.
    """

    def __init__(
        self,
        networks: Networks,
        manifest: dict[str, Any],
        ops: Operations = PLAIN,
        parts: Parts | None = None,
    ) -> None:
        unet, vae = networks.unet, networks.vae
        first = next(iter(unet.tensors.values()))
        self.device, self.dtype = first.device, first.dtype
        self.latent_side = int(unet.config["sample_size"])
        self.side = self.latent_side * 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.guidance: float = manifest["guidance"]
        self.deep = deep_steps(manifest["cache"], manifest["steps"])
        self.schedule = networks.schedule(manifest["steps"]).to(self.device)
        self.unet = UNet(unet.tensors, unet.config, parts or Parts(ops))
        self._vae, self._ops = vae, ops
        kind = manifest["vae"] or ("fp32" if self._upcasts() else None)
        self.decoder = self._decoder(self.dtype if kind is None else DTYPES[kind])
        self._exact_decoder: Decoder | None = None
        self.encode = networks.encode
        self._batches: dict[int, _Batch] = {}

    def _upcasts(self) -> bool:
        return self.dtype == torch.float16 and bool(self._vae.config["force_upcast"])

    def _decoder(self, dtype: torch.dtype) -> Decoder:
        tensors = {name: value.to(dtype) for name, value in self._vae.tensors.items()}
        return Decoder(tensors, self._vae.config, self._ops)

    def _batch(self, size: int) -> _Batch:
        """The buffers and graphs of a batch size, made when it is first used."""
        if size not in self._batches:
            self._batches[size] = _Batch(self, size)
        return self._batches[size]

    def decoded_exactly(self, latents: Tensor) -> Tensor:
        """Images of latents (n, h, w, 4), decoded in fp32."""
        if self._exact_decoder is None:
            self._exact_decoder = self._decoder(torch.float32)
        return self._exact_decoder(latents)

    def images(
        self, tokens: PromptTokens, indices: Sequence[int], latent: np.ndarray, batch_size: int
    ) -> Images:
        """Images of the samples `indices`, at most `batch_size`, from a latent (1, 4, h, w).

        A short batch is filled up with its last sample, as in `t2i.engine.reference.generate`.
        """
        rows = [*indices, *[indices[-1]] * (batch_size - len(indices))]
        with torch.inference_mode(), fast_products(self.device, self.dtype):
            whole = self._batch(batch_size).images(tokens, rows, latent)
        images = Images(whole.pixels[: len(indices)], whole.finite[: len(indices)])
        warn_of_unsound(images, indices)
        return images

    def final_latents(
        self, tokens: PromptTokens, rows: Sequence[int], latent: np.ndarray
    ) -> Tensor:
        """Latents (n, 4, h, w) after the last step, for comparisons with other implementations."""
        with torch.inference_mode(), fast_products(self.device, self.dtype):
            batch = self._batch(len(rows))
            batch.denoise(tokens, rows, latent)
            return batch.latents.permute(0, 3, 1, 2).clone()

    def parts(self, batch_size: int) -> dict[str, Callable[[], None]]:
        """The parts of a batch that was painted before, to be timed one by one.

        They leave buffers behind that mean nothing.
        """
        batch = self._batches[batch_size]
        named = {"text": "encode", "once": "prepare", "UNet": "deep", "shallow": "shallow"}
        named["VAE"] = "decode"
        return {part: batch.part(name) for part, name in named.items() if batch.has(name)}


def decoded_together(batch_size: int) -> int:
    """Images of a batch that the decoder gets at once."""
    return max(n for n in range(1, DECODED_TOGETHER + 1) if batch_size % n == 0)


class _Batch:
    """The buffers and graphs of one batch size."""

    def __init__(self, loop: Loop, size: int) -> None:
        self._loop, self._size = loop, size
        self._guided = loop.guidance > 1  # where diffusers runs the UNet without a negative prompt
        device, side = loop.device, loop.latent_side
        self._cuda = device.type == "cuda"
        self.latents = torch.zeros(size, side, side, 4, dtype=loop.dtype, device=device)
        self._start = torch.zeros_like(self.latents)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        rows = 2 * size if self._guided else size
        sizes = [loop.side, loop.side, 0, 0, loop.side, loop.side]
        self._sizes = torch.tensor([sizes] * rows, dtype=loop.dtype, device=device)
        self._ids = [torch.zeros(rows, TOKENS, dtype=torch.int64, device=device) for _ in range(2)]
        self._context: Tensor | None = None
        self._pooled: Tensor | None = None
        self._prompts: list[KeysValues] = []
        self._shifts: Tensor | None = None
        self._kept: Kept | None = None
        together = decoded_together(size)
        self._part = torch.zeros(together, side, side, 4, dtype=loop.dtype, device=device)
        self._pixels: Tensor | None = None
        self._finite: Tensor | None = None
        self._host = torch.empty(
            size, loop.side, loop.side, 3, dtype=torch.uint8, pin_memory=self._cuda
        )
        self._graphs: dict[str, Callable[[], None]] = {}
        self._pool = torch.cuda.graph_pool_handle() if self._cuda else None

    def images(self, tokens: PromptTokens, rows: Sequence[int], latent: np.ndarray) -> Images:
        """Images of the samples `rows`, as many as the batch has."""
        self.denoise(tokens, rows, latent)
        finite = []
        together = len(self._part)
        for first in range(0, self._size, together):
            self._part.copy_(self.latents[first : first + together])
            self._run("decode", self._decode)
            assert self._pixels is not None and self._finite is not None
            self._host[first : first + together].copy_(self._pixels, non_blocking=self._cuda)
            finite.append(self._finite.clone())
        sound = torch.cat(finite).cpu().numpy()  # waits for everything before
        pixels = self._host.numpy().copy()
        if self._loop.decoder.dtype != torch.float32:
            for row in np.flatnonzero(~sound):
                decoded = self._loop.decoded_exactly(self.latents[row : row + 1])
                image, whole = _rounded(decoded)
                pixels[row], sound[row] = image[0].cpu().numpy(), bool(whole[0])
        return Images(pixels, sound)

    def denoise(self, tokens: PromptTokens, rows: Sequence[int], latent: np.ndarray) -> None:
        """Fill `latents` with those of the samples `rows` after the last step."""
        self._read(tokens, rows)
        self._run("encode", self._encode)
        start = torch.from_numpy(latent).permute(0, 2, 3, 1).to(self._loop.device, self._loop.dtype)
        self._start.copy_(start * self._loop.schedule.first_sigma)
        self._run("prepare", self._prepare)
        for deep in self._loop.deep:
            if deep:
                self._run("deep", self._deep_step)
            else:
                self._run("shallow", self._shallow_step)

    def has(self, name: str) -> bool:
        """Whether this was run."""
        return name in self._graphs

    def part(self, name: str) -> Callable[[], None]:
        """One of the functions or graphs, which begins with the first step."""

        def call() -> None:
            with torch.inference_mode():
                self._step.zero_()
                self._graphs[name]()

        return call

    def _run(self, name: str, function: Callable[[], None]) -> None:
        """Call a function; on a GPU as a graph, which is captured at the first call.

        Graphs share their memory. They are captured in the order in which they run first, and what
        one leaves to another is held by an attribute, so that it stays where it is.
        """
        if name not in self._graphs:
            self._graphs[name] = self._captured(function) if self._cuda else function
        self._graphs[name]()

    def _captured(self, function: Callable[[], None]) -> Callable[[], None]:
        state = self.latents.clone(), self._step.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()  # libraries allocate and choose in a first call
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            function()
        self.latents.copy_(state[0])
        self._step.copy_(state[1])
        replay: Callable[[], None] = graph.replay
        return replay

    def _read(self, tokens: PromptTokens, rows: Sequence[int]) -> None:
        """Put the ids of the negative prompt and of the samples `rows` where the graphs read."""
        for ids, captions, negative in zip(
            self._ids,
            (tokens.first, tokens.second),
            (tokens.negative_first, tokens.negative_second),
            strict=True,
        ):
            own = captions[list(rows)]
            if self._guided:
                own = np.concatenate([np.repeat(negative[None], self._size, axis=0), own])
            ids.copy_(torch.from_numpy(own))

    def _encode(self) -> None:
        self._context, self._pooled = self._loop.encode(*self._ids)

    def _prepare(self) -> None:
        assert self._context is not None and self._pooled is not None
        unet, schedule = self._loop.unet, self._loop.schedule
        self._prompts = unet.prompts(self._context)
        self._shifts = unet.shifts(schedule.timesteps, self._pooled, self._sizes)
        self.latents.copy_(self._start)
        self._step.zero_()

    def _scaled(self) -> tuple[Tensor, Tensor]:
        """The UNet's input in this step, and the step's shift."""
        assert self._shifts is not None
        sigma = self._loop.schedule.sigmas.index_select(0, self._step)
        scale = 1 / (sigma**2 + 1) ** 0.5
        sample = (self.latents.float() * scale).to(self._loop.dtype)
        if self._guided:
            sample = torch.cat([sample, sample])
        return sample, self._shifts.index_select(0, self._step)[0]

    def _deep_step(self) -> None:
        noise, self._kept = self._loop.unet(*self._scaled(), self._prompts)
        self._euler(noise)

    def _shallow_step(self) -> None:
        assert self._kept is not None
        sample, shift = self._scaled()
        self._euler(self._loop.unet.shallow(sample, shift, self._kept))

    def _euler(self, noise: Tensor) -> None:
        """Guidance and the step of EulerDiscreteScheduler, rounded where diffusers rounds."""
        if self._guided:
            negative, positive = noise.chunk(2)
            noise = negative + self._loop.guidance * (positive - negative)
        sigmas = self._loop.schedule.sigmas
        sigma, following = (sigmas.index_select(0, self._step + n) for n in (0, 1))
        sample = self.latents.float()
        predicted = sample - (noise.float() * sigma).to(noise.dtype)
        derivative = (sample - predicted) / sigma
        self.latents.copy_(sample + derivative * (following - sigma))
        self._step.add_(1)

    def _decode(self) -> None:
        self._pixels, self._finite = _rounded(self._loop.decoder(self._part))


def _rounded(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels uint8 of images in -1 to 1, half to even, and whether each image was finite (n,)."""
    finite = torch.isfinite(decoded).flatten(1).all(dim=1)
    values = (decoded * 0.5 + 0.5).clamp(0, 1).float().nan_to_num(0.0, 1.0, 0.0)
    return (values * 255).round().to(torch.uint8), finite
