"""Pipelines compared value by value."""

import t2i.job.torch_shim  # noqa: F401

from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from t2i.engine.load import NETWORKS


def settings(config: Any) -> dict[str, object]:
    """A config without where it was read from."""
    values = dict(config if isinstance(config, dict) else config.to_dict())
    values.pop("_name_or_path", None)
    return values


def check_same_pipeline(ours: StableDiffusionXLPipeline, peer: StableDiffusionXLPipeline) -> None:
    """Every value of every network, buffers outside of files too, and all settings, bit by bit."""
    assert settings(ours.config) == settings(peer.config)
    assert ours.components.keys() == peer.components.keys()
    assert settings(ours.scheduler.config) == settings(peer.scheduler.config)
    for name in ("tokenizer", "tokenizer_2"):
        assert getattr(ours, name)("a star").input_ids == getattr(peer, name)("a star").input_ids
        assert getattr(ours, name).pad_token_id == getattr(peer, name).pad_token_id
    for name in NETWORKS:
        network, other = getattr(ours, name), getattr(peer, name)
        assert type(network) is type(other)
        assert settings(network.config) == settings(other.config)
        assert [(key, module.training) for key, module in network.named_modules()] == [
            (key, False) for key, _ in other.named_modules()
        ]
        for kind in ("named_parameters", "named_buffers"):
            values, expected = dict(getattr(network, kind)()), dict(getattr(other, kind)())
            assert [*values] == [*expected]
            for key, value in expected.items():
                assert values[key].dtype == value.dtype, key
                assert values[key].device == value.device, key
                assert values[key].stride() == value.stride(), key
                assert values[key].requires_grad == value.requires_grad, key
                assert torch.equal(values[key], value), key
