"""What bench/engine_speed.py compares: diffusers, plain and compiled, and our own loop."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SDXL = ROOT / "config" / "models" / "sdxl-base-1.0"
MICRO = ROOT / "models" / "micro-sdxl"
STEPS, GUIDANCE, SEED = 20, 8.0, 0
FP8 = {
    "attention": True,
    "convolutions": True,
    "keep": ["up_blocks.2.resnets.2"],
    "percentile": 100,
}
CALIBRATED = 4  # captions; random weights need no more
NAMES = (
    *("reference", "inductor", "compiled", "native fp16", "native bf16", "cache", "single"),
    *("fp8", "fp8 cache", "fp8 single"),
)
sys.path.insert(0, str(ROOT / "scripts"))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as jobs have it


class Bench:
    """A model, inputs that all contenders get, and a clock that waits for the device."""

    def __init__(self, options: argparse.Namespace) -> None:
        import numpy as np
        import torch

        from t2i.prompts.tokens import PromptTokens

        self.device: str = options.device
        self.cuda = self.device == "cuda"
        self.folder: Path | None = options.model or (None if self.cuda else MICRO)
        random = np.random.default_rng(SEED)
        ids = [random.integers(1, 300, (64, 77)) for _ in range(2)]
        self.tokens = PromptTokens(*ids, ids[0][0], ids[1][0])
        side = 128 if self.cuda or options.model else 16
        self.latent = random.standard_normal((1, 4, side, side)).astype(np.float32)
        torch.backends.cudnn.deterministic = True
        self._scales: dict[str, float] | None = None

    @property
    def label(self) -> str:
        """The model, in words."""
        if self.folder is None:
            return "SDXL base 1.0, random weights"
        return "the miniature" if self.folder == MICRO else str(self.folder)

    def pipeline(self, dtype: Any) -> Any:
        """diffusers' pipeline at a number format, without tokenizers."""
        import torch
        from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

        from t2i.engine.load import NETWORKS

        networks = {}
        for number, (name, kind) in enumerate(NETWORKS.items()):
            if self.folder is None:
                torch.manual_seed(SEED + number)
                with torch.device(self.device):
                    network = random_network(kind, SDXL / name)
            else:
                files = {"variant": "fp16"} if self.folder == MICRO else {}
                network = kind.from_pretrained(self.folder / name, local_files_only=True, **files)
            networks[name] = network.to(self.device, dtype).eval()
        scheduler = EulerDiscreteScheduler.from_pretrained((self.folder or SDXL) / "scheduler")
        pipeline = StableDiffusionXLPipeline(
            **networks, scheduler=scheduler, tokenizer=None, tokenizer_2=None, add_watermarker=False
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def scales(self, options: dict[str, Any], operations: Any) -> dict[str, float]:
        """Scales of fp8, calibrated once on a few of the captions."""
        import torch

        from t2i.engine.fp8.calibrate import calibrate
        from t2i.engine.fp8.scales import LARGEST
        from t2i.engine.networks import networks_of

        if self._scales is None:
            few, pipeline = self.tokens.begin(CALIBRATED), self.pipeline(torch.bfloat16)
            inputs = few, self.latent, CALIBRATED, operations
            seen = calibrate(networks_of(pipeline), options, *inputs)
            self._scales = {name: value / LARGEST for name, value in seen.items()}
        return self._scales

    def seconds(self, call: Callable[[], Any]) -> float:
        """Time of a call until the device has done it."""
        import torch

        if self.cuda:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def busy(self, call: Callable[[], Any]) -> float:
        """Milliseconds that the GPU worked during a call; 0 without a GPU."""
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        if not self.cuda:
            return 0.0
        with profile(activities=[ProfilerActivity.CUDA]) as watched:
            self.seconds(call)
        events = watched.key_averages()
        on_gpu = [
            event
            for event in events
            if event.device_type == DeviceType.CUDA and not event.is_user_annotation
        ]
        return float(sum(event.self_device_time_total for event in on_gpu)) / 1e3

    def free(self) -> None:
        """Give the memory of contenders that are no longer used back to the device."""
        import torch

        gc.collect()
        if self.cuda:
            torch._dynamo.reset()
            torch.cuda.empty_cache()

    def matmul_rate(self) -> float:
        """FLOP/s of one large product in bf16, the best of five; fp32 on a CPU."""
        import torch

        size, dtype = (8192, torch.bfloat16) if self.cuda else (1024, torch.float32)
        one = torch.randn(size, size, dtype=dtype, device=self.device)
        return max(2 * size**3 / self.seconds(lambda: one @ one) for _ in range(6))


def random_network(kind: Any, folder: Path) -> Any:
    """A network of diffusers or transformers by its configuration, with random weights."""
    if hasattr(kind, "load_config"):
        return kind.from_config(kind.load_config(folder))
    return kind(kind.config_class.from_pretrained(folder))


class Diffusers:
    """diffusers' pipeline, plain or compiled."""

    def __init__(self, bench: Bench, size: int, dtype: Any, compiled: str = "") -> None:
        import torch

        from t2i.engine.inductor import compile_blocks

        self._bench, self._size = bench, size
        self.pipeline = bench.pipeline(dtype)
        if compiled == "inductor":
            compile_blocks(self.pipeline)
        if compiled == "compiled":
            unet, vae = self.pipeline.unet, self.pipeline.vae
            unet.to(memory_format=torch.channels_last).fuse_qkv_projections()
            vae.to(memory_format=torch.channels_last)
            unet.compile(fullgraph=True, dynamic=False)
            vae.decode = torch.compile(vae.decode, dynamic=False)

    def paint(self, first: int = 0) -> Any:
        """Images of one call, from the sample `first` on."""
        from t2i.engine.reference import generate

        indices = range(first, first + self._size)
        inputs = self._bench.tokens, indices, self._bench.latent, self._size
        return generate(self.pipeline, *inputs, STEPS, GUIDANCE)

    def parts(self) -> dict[str, Callable[[], Any]]:
        """The UNet's pass of one step."""
        import torch

        pipeline, bench = self.pipeline, self._bench
        rows, dtype = 2 * self._size, pipeline.unet.dtype
        config = pipeline.unet.config
        pooled = pipeline.text_encoder_2.config.projection_dim
        tensors = {
            name: torch.randn(shape, dtype=dtype, device=bench.device)
            for name, shape in {
                "sample": (rows, 4, *bench.latent.shape[2:]),
                "encoder_hidden_states": (rows, 77, config.cross_attention_dim),
                "text_embeds": (rows, pooled),
                "time_ids": (rows, 6),
            }.items()
        }
        added = {name: tensors.pop(name) for name in ("text_embeds", "time_ids")}
        timestep = torch.tensor(951.0, device=bench.device)

        def unet() -> Any:
            with torch.inference_mode():
                return pipeline.unet(timestep=timestep, added_cond_kwargs=added, **tensors)

        return {"UNet": unet}

    def latents(self) -> Any:
        """Final latents of the first sample (1, 4, h, w), by the pipeline itself."""
        kept = {}

        def keep(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            kept[step] = tensors["latents"]
            return {}

        original = type(self.pipeline).__call__

        class Watched(type(self.pipeline)):  # type: ignore[misc]
            def __call__(self, **named: Any) -> Any:
                return original(self, **named, callback_on_step_end=keep)

        self.pipeline.__class__, plain = Watched, self.pipeline.__class__
        self.paint()
        self.pipeline.__class__ = plain
        return kept[STEPS - 1][:1]


class Native:
    """Our own loop."""

    def __init__(
        self, bench: Bench, size: int, dtype: Any, cache: dict[str, int] | None, fp8: bool = False
    ) -> None:
        from t2i.engine.loop import Loop
        from t2i.engine.networks import networks_of
        from t2i.engine.operations import PLAIN

        operations = PLAIN
        if bench.cuda:
            from t2i.engine.kernels.table import FAST as operations
        self._bench, self._size = bench, size
        options = {"steps": STEPS, "guidance": GUIDANCE, "cache": cache, "vae": "bf16"}
        parts = None
        if fp8:
            from t2i.engine.fp8.parts import fp8_parts

            options["fp8"] = FP8
            scales = bench.scales(options, operations)
            parts = fp8_parts(FP8, scales, bench.device, operations)
        self.loop = Loop(networks_of(bench.pipeline(dtype)), options, operations, parts)

    def paint(self, first: int = 0) -> Any:
        """Images of one call, from the sample `first` on."""
        bench, indices = self._bench, range(first, first + self._size)
        return self.loop.images(bench.tokens, indices, bench.latent, self._size)

    def parts(self) -> dict[str, Callable[[], Any]]:
        """Text encoders, what is done once per image, a pass of the UNet, the decoder."""
        return self.loop.parts(self._size)

    def latents(self) -> Any:
        """Final latents of the first sample (1, 4, h, w)."""
        bench = self._bench
        return self.loop.final_latents(bench.tokens, range(self._size), bench.latent)[:1]


def contender(bench: Bench, name: str, batch: int) -> tuple[Any, int]:
    """What paints by a name, and the images of one call."""
    import torch

    if name in ("reference", "inductor", "compiled"):
        size = 1 if name == "reference" else batch
        return Diffusers(bench, size, torch.float16, name), size
    size = 1 if "single" in name else batch
    dtype = torch.float16 if name == "native fp16" else torch.bfloat16
    cache = {"interval": 2} if "cache" in name else None
    return Native(bench, size, dtype, cache, "fp8" in name), size
