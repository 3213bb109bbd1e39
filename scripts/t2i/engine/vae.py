"""SDXL's decoder from latents to pixels as functions of the checkpoint's tensors.

The same mathematics as the decoder of diffusers' AutoencoderKL, in NHWC: upsamplers convolve the
small image (`t2i.engine.operations.upsample_convolution`), and the attention in the middle, whose
heads are too wide for the usual kernels, is two products and a softmax, image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine.blocks import Norm, Parts, ResidualBlock, Tensors
from t2i.engine.operations import Operations

# What diffusers takes for what a configuration leaves out, of what is read here.
DEFAULTS: dict[str, Any] = {
    "block_out_channels": [64],
    "force_upcast": True,
    "latents_mean": None,
    "mid_block_add_attention": True,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"],
}
EPSILON = 1e-6  # of every norm; diffusers has it as a constant


class Attention:
    """Attention of every pixel to all others of its image, with one head; adds to the features."""

    def __init__(self, tensors: Tensors, groups: int, ops: Operations) -> None:
        self._ops = ops
        weights = tensors("group_norm.weight"), tensors("group_norm.bias")
        self._norm = Norm(*weights, groups, EPSILON)
        self._qkv = torch.cat([tensors(f"to_{name}.weight") for name in "qkv"])
        self._qkv_bias = torch.cat([tensors(f"to_{name}.bias") for name in "qkv"])
        self._out = tensors("to_out.0.weight"), tensors("to_out.0.bias")

    def __call__(self, features: Tensor) -> Tensor:
        """Features (n, h, w, channels) of features."""
        seen = self._ops.group_norm([features], *self._norm, silu=False).flatten(1, 2)
        parts = F.linear(seen, self._qkv, self._qkv_bias).chunk(3, dim=-1)
        attended = self._ops.wide_attention(*parts)
        result = F.linear(attended, *self._out).view_as(features)
        return self._ops.add(result, features, None)


class Decoder:
    """The decoder of a checkpoint (`tensors` by diffusers' names) with its configuration.

    Raises ValueError for a structure other than SDXL's.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], config: Mapping[str, Any], ops: Operations
    ) -> None:
        kinds = set(config["up_block_types"])
        if kinds != {"UpDecoderBlock2D"} or not config["mid_block_add_attention"]:
            raise ValueError(f"not a decoder of SDXL's structure: {config['up_block_types']}")
        if config.get("latents_mean") is not None:
            raise ValueError("not a decoder of SDXL's structure: it shifts latents by latents_mean")
        self._ops = ops
        self.scaling_factor: float = config["scaling_factor"]
        self.dtype = tensors["decoder.conv_in.weight"].dtype
        groups = config["norm_num_groups"]
        whole = Tensors(tensors)
        part = whole.below("decoder")

        def residuals(of: Tensors) -> list[ResidualBlock]:
            return [ResidualBlock(each, (), groups, EPSILON, ops) for each in of.several("resnets")]

        post = whole.below("post_quant_conv")
        self._post = post("weight").flatten(1), post("bias")
        self._conv_in = part.convolution("conv_in")
        middle = part.below("mid_block")
        self._middle = residuals(middle)
        self._attention = Attention(middle.below("attentions.0"), groups, ops)
        self._levels: list[tuple[list[ResidualBlock], Callable[[Tensor], Tensor] | None]] = []
        for level in part.several("up_blocks"):
            scale = None
            if "upsamplers.0.conv.weight" in level:
                scale = Parts(ops).upsampler(level.below("upsamplers.0"))
            self._levels.append((residuals(level), scale))
        norm = part("conv_norm_out.weight"), part("conv_norm_out.bias")
        self._norm_out = Norm(*norm, groups, EPSILON)
        self._conv_out = part.convolution("conv_out")

    def __call__(self, latents: Tensor) -> Tensor:
        """Images (n, 8 h, 8 w, 3), about -1 to 1, of latents (n, h, w, 4) as the UNet has them."""
        features = F.linear(latents.to(self.dtype) / self.scaling_factor, *self._post)
        kernel, bias = self._conv_in
        features = self._ops.convolution(features, kernel) + bias
        first, *others = self._middle
        features = self._attention(_pass(first, features))
        for block in others:
            features = _pass(block, features)
        for residuals, scale in self._levels:
            for block in residuals:
                features = _pass(block, features)
            if scale is not None:
                features = scale(features)
        features = self._ops.group_norm([features], *self._norm_out, silu=True)
        kernel, bias = self._conv_out
        return self._ops.convolution(features, kernel) + bias


def _pass(block: ResidualBlock, features: Tensor) -> Tensor:
    """A residual block without a time embedding."""
    return block([features], block.shift_bias[None])
