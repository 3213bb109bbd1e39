"""CLIP's text encoders as functions of the checkpoint's tensors.

The mathematics of transformers' CLIPTextModel and CLIPTextModelWithProjection (Radford et al.
2021), as far as SDXL uses them: the states before the last layer, and the projected state of the
end of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine.blocks import Tensors
from t2i.engine.weights import PREFIX

DEFAULTS: dict[str, Any] = {  # of transformers' CLIPTextConfig
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "num_attention_heads": 8,
    "eos_token_id": 49407,
}
LARGEST_ID = 2  # as an eos_token_id: older configurations say so, and mean the largest id


def _quick_gelu(values: Tensor) -> Tensor:
    return values * torch.sigmoid(1.702 * values)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": _quick_gelu, "gelu": F.gelu}


class TextEncoder:
    """The text encoder of a checkpoint (`tensors` by transformers' names) with its configuration.

    Raises ValueError for an activation other than CLIP's.
    """

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        config = {**DEFAULTS, **config}
        if config["hidden_act"] not in ACTIVATIONS:
            raise ValueError(f"not a text encoder of CLIP: hidden_act is {config['hidden_act']}")
        self._activation = ACTIVATIONS[config["hidden_act"]]
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        self._end: int = config["eos_token_id"]
        tensors = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
        whole = Tensors(tensors)
        self._words = whole("embeddings.token_embedding.weight")
        self._places = whole("embeddings.position_embedding.weight")
        self._layers = list(whole.several("encoder.layers"))
        self._norm = whole.below("final_layer_norm")
        self._projection = tensors.get("text_projection.weight")

    def __call__(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """States before the last layer (n, tokens, width) of token ids (n, tokens).

        And pooled embeddings (n, width), where the checkpoint has a projection.
        """
        states = F.embedding(ids, self._words) + self._places[: ids.shape[1]]
        for layer in self._layers[:-1]:
            states = self._through(layer, states)
        if self._projection is None:
            return states, None
        final = self._normed(self._norm, self._through(self._layers[-1], states))
        ends = ids == self._end if self._end != LARGEST_ID else ids
        pooled = final[torch.arange(len(ids), device=ids.device), ends.int().argmax(dim=-1)]
        return states, F.linear(pooled, self._projection)

    def _normed(self, norm: Tensors, states: Tensor) -> Tensor:
        weight = norm("weight")
        return F.layer_norm(states, weight.shape, weight, norm("bias"), self._epsilon)

    def _through(self, layer: Tensors, states: Tensor) -> Tensor:
        attention, perceptron = layer.below("self_attn"), layer.below("mlp")
        seen = self._normed(layer.below("layer_norm1"), states)
        parts = (_linear(attention, f"{name}_proj", seen) for name in "qkv")
        split = [part.unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in parts]
        attended = F.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True)
        states = states + _linear(attention, "out_proj", attended.transpose(1, 2).flatten(2))
        seen = self._normed(layer.below("layer_norm2"), states)
        wide = self._activation(_linear(perceptron, "fc1", seen))
        return states + _linear(perceptron, "fc2", wide)


def _linear(part: Tensors, name: str, values: Tensor) -> Tensor:
    return F.linear(values, part(f"{name}.weight"), part(f"{name}.bias"))
