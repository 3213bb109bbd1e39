"""SDXL's UNet as functions of the checkpoint's tensors, in the order that is quick to compute.

The same mathematics as diffusers' UNet2DConditionModel, with these differences: features are NHWC;
queries, keys and values come from one product; keys and values of the prompt and the time
embeddings of all steps are computed once per image; skip connections are read where they lie, not
concatenated; biases of the layers that add to a transformer's features are carried along as one
vector, which the next norm adds. How many layers there are follows from the tensors, so that a
UNet with fewer of them (`t2i.engine.prune`) runs as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine.blocks import KeysValues, Norm, Parts, ResidualBlock, Tensors, TransformerPart


@dataclass(frozen=True)
class Level:
    """A block of diffusers: residual blocks, some with a transformer after them, and a scaler."""

    residuals: list[ResidualBlock]
    transformers: list[TransformerPart]
    scale: Callable[[Tensor], Tensor] | None  # the down- or upsampler

    @property
    def width(self) -> int:
        """Channels of the result."""
        return self.residuals[-1].width

    def pairs(self) -> Iterator[tuple[ResidualBlock, TransformerPart | None]]:
        """Each residual block with the transformer after it."""
        yield from zip_longest(self.residuals, self.transformers)


class Kept(NamedTuple):
    """What DeepCache keeps of a deep pass.

    Features that enter the last level, and the skip connections of the first level's residual
    blocks in the order in which they were made.
    """

    features: Tensor
    skips: tuple[Tensor, ...]


class UNet:
    """The UNet of a checkpoint (`tensors` by diffusers' names) with its configuration.

    `parts` makes its parts. Raises ValueError for a structure other than SDXL's.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], config: Mapping[str, Any], parts: Parts
    ) -> None:
        _check_structure(config)
        self._ops, self._parts, self._config = parts.ops, parts, config
        whole = Tensors(tensors)
        heads: Sequence[int] = config["attention_head_dim"]  # diffusers' name for their number
        self._conv_in = whole.convolution("conv_in")
        skips = [whole("conv_in.bias").numel()]
        self._down: list[Level] = []
        for part, number in zip(whole.several("down_blocks"), heads, strict=True):
            level = self._level(part, number, skips[-1], [])
            skips += [block.width for block in level.residuals]
            if level.scale is not None:
                skips.append(level.width)
            self._down.append(level)
        self._middle = self._level(whole.below("mid_block"), heads[-1], skips[-1], [])
        width = self._middle.width
        self._up: list[Level] = []
        for part, number in zip(whole.several("up_blocks"), reversed(heads), strict=True):
            self._up.append(self._level(part, number, width, skips))
            width = self._up[-1].width
        self._norm_out = Norm(
            whole("conv_norm_out.weight"),
            whole("conv_norm_out.bias"),
            config["norm_num_groups"],
            config["norm_eps"],
        )
        self._conv_out = whole.convolution("conv_out")
        self._time = _perceptron(whole.below("time_embedding"))
        self._added = _perceptron(whole.below("add_embedding"))
        levels = (*self._down, self._middle, *self._up)
        times = [block.time for level in levels for block in level.residuals]
        self._shift_weight = torch.cat([weight for weight, _ in filter(None, times)])
        self._shift_bias = torch.cat([bias for _, bias in filter(None, times)])
        self._widths = [bias.numel() for _, bias in filter(None, times)]
        self._blocks = [
            block for level in levels for each in level.transformers for block in each.blocks
        ]

    def _level(self, part: Tensors, heads: int, width: int, skips: list[int]) -> Level:
        """A level whose input has `width` channels; takes its skip connections from the end."""
        groups, residuals = self._config["norm_num_groups"], []
        for tensors in part.several("resnets"):
            widths = [width, skips.pop()] if skips else [width]
            block = self._parts.residual(tensors, widths, groups, self._config["norm_eps"])
            residuals.append(block)
            width = block.width
        transformers = [
            self._parts.transformer(tensors, heads, groups)
            for tensors in part.several("attentions")
        ]
        scale = None
        if "upsamplers.0.conv.weight" in part:
            scale = self._parts.upsampler(part.below("upsamplers.0"))
        elif "downsamplers.0.conv.weight" in part:
            scale = self._downsampler(*part.convolution("downsamplers.0.conv"))
        return Level(residuals, transformers, scale)

    def _downsampler(self, kernel: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda features: self._ops.convolution(features, kernel, stride=2) + bias

    def prompts(self, context: Tensor) -> list[KeysValues]:
        """Keys and values of each layer for the prompt's embeddings (n, tokens, width)."""
        return [block.keys_values(context) for block in self._blocks]

    def shifts(self, timesteps: Tensor, pooled: Tensor, sizes: Tensor) -> Tensor:
        """What each step adds in the residual blocks, (steps, n, sum of their widths).

        `timesteps` (steps,), `pooled` embeddings (n, width), `sizes` (n, 6): the original size,
        the crop and the target size that SDXL is conditioned on.
        """
        config, dtype = self._config, pooled.dtype
        width = self._conv_in[1].numel()
        times = sinusoids(timesteps, width, config["flip_sin_to_cos"], config["freq_shift"]).to(
            dtype
        )
        numbers = sinusoids(
            sizes.flatten(),
            config["addition_time_embed_dim"],
            config["flip_sin_to_cos"],
            config["freq_shift"],
        )
        added = torch.cat([pooled, numbers.view(len(sizes), -1).to(dtype)], dim=-1)
        embedded = _perceive(self._time, times)[:, None] + _perceive(self._added, added)
        return F.linear(F.silu(embedded), self._shift_weight, self._shift_bias)

    def __call__(
        self, sample: Tensor, shift: Tensor, prompts: Sequence[KeysValues]
    ) -> tuple[Tensor, Kept]:
        """The noise (n, h, w, 4) in a sample (n, h, w, 4), and what a shallow pass may reuse.

        `shift` (n, sum of widths) is that of the step, `prompts` are those of the image.
        """
        shifts, keys_values = iter(shift.split(self._widths, dim=1)), iter(prompts)

        def through(
            pair: tuple[ResidualBlock, TransformerPart | None], features: Tensor, *skip: Tensor
        ) -> Tensor:
            block, transformer = pair
            features = block([features, *skip], next(shifts))
            return features if transformer is None else transformer(features, keys_values)

        features = self._enter(sample)
        skips = [features]
        for level in self._down:
            for pair in level.pairs():
                features = through(pair, features)
                skips.append(features)
            if level.scale is not None:
                features = level.scale(features)
                skips.append(features)
        kept = tuple(skips[1 : 1 + len(self._down[0].residuals)])
        for pair in self._middle.pairs():
            features = through(pair, features)
        for level in self._up:
            if level is self._up[-1]:
                entered = features
            for pair in level.pairs():
                features = through(pair, features, skips.pop())
            if level.scale is not None:
                features = level.scale(features)
        return self._leave(features), Kept(entered, kept)

    def shallow(self, sample: Tensor, shift: Tensor, kept: Kept) -> Tensor:
        """The noise by the last level alone, from what a deep pass kept (DeepCache).

        Ma et al. (2024), at the boundary of NVIDIA's MLPerf v4.0 submission: only the very first
        convolution sees the new sample.
        """
        last = self._up[-1].residuals
        shifts = shift.split(self._widths, dim=1)[-len(last) :]
        features, skips = kept.features, [self._enter(sample), *kept.skips]
        for block, part in zip(last, shifts, strict=True):
            features = block([features, skips.pop()], part)
        return self._leave(features)

    def _enter(self, sample: Tensor) -> Tensor:
        kernel, bias = self._conv_in
        return self._ops.convolution(sample, kernel) + bias

    def _leave(self, features: Tensor) -> Tensor:
        features = self._ops.group_norm([features], *self._norm_out, silu=True)
        kernel, bias = self._conv_out
        return self._ops.convolution(features, kernel) + bias


def _perceptron(part: Tensors) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    first = part("linear_1.weight"), part("linear_1.bias")
    return first, (part("linear_2.weight"), part("linear_2.bias"))


def _perceive(
    layers: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], values: Tensor
) -> Tensor:
    first, second = layers
    return F.linear(F.silu(F.linear(values, *first)), *second)


def sinusoids(numbers: Tensor, width: int, cosines_first: bool, shift: float) -> Tensor:
    """Sines and cosines (n, width) of numbers (n,) times geometric frequencies from 1 to 1/10000.

    Ho et al. (2020), as diffusers' get_timestep_embedding rounds it; `width` is even.
    """
    half = width // 2
    places = torch.arange(half, dtype=torch.float32, device=numbers.device)
    angles = numbers[:, None].float() * torch.exp(-math.log(10000) * places / (half - shift))[None]
    both = angles.sin(), angles.cos()
    return torch.cat(both[::-1] if cosines_first else both, dim=-1)


# What diffusers takes for what a configuration leaves out, of what is read here.
DEFAULTS: dict[str, Any] = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "attention_head_dim": 8,
    "center_input_sample": False,
    "class_embed_type": None,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "resnet_time_scale_shift": "default",
    "sample_size": None,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": False,
}

# What SDXL's configuration has, where diffusers knows other values too.
STRUCTURE = {
    "act_fn": "silu",
    "addition_embed_type": "text_time",
    "center_input_sample": False,
    "class_embed_type": None,
    "downsample_padding": 1,
    "encoder_hid_dim_type": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "use_linear_projection": True,
}


def _check_structure(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a UNet whose structure this module does not compute."""
    down, up = list(config["down_block_types"]), list(config["up_block_types"])
    plain = {"DownBlock2D", "UpBlock2D"}
    problems = [
        f"{key} {config[key]!r}, not {value!r}"
        for key, value in STRUCTURE.items()
        if config[key] != value
    ]
    if {down[0], up[-1]} != plain or set(down[1:]) != {"CrossAttnDownBlock2D"}:
        problems.append(f"blocks {down} and {up}, of which all but the outermost have transformers")
    if problems:
        raise ValueError(f"not a UNet of SDXL's structure: {'; '.join(problems)}")
