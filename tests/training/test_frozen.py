"""The published checkpoint's parts after conversion, beside the networks that they come from."""

import pickle
import sys
import types

import open_clip
import pytest
import torch
from torch import nn
from transformers import CLIPTextModel

from t2i.training import frozen
from t2i.training.evaluate import load_vae
from t2i.training.frozen import ENCODER, convert_frozen, read_checkpoint
from t2i.training.images import moments

TINY_VAE = {**frozen.VAE, "block_out_channels": [32, 64, 128, 128], "sample_size": 64}
TINY_TEXT = {
    **frozen.TEXT,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
}


def randomised(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def tower():
    """open_clip's text tower of four layers, with exact GELU, as ViT-H-14 has it."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 4}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    return randomised(open_clip.CLIP(64, vision, text))


@pytest.fixture(scope="module")
def reference_vae(reference_code: None):
    """The reference's encoder and decoder, small, and the convolutions between them."""
    from ldm.modules.diffusionmodules.model import Decoder, Encoder

    sizes = {
        "ch": 32,
        "out_ch": 3,
        "ch_mult": (1, 2, 4, 4),
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "in_channels": 3,
        "resolution": 64,
        "z_channels": 4,
    }
    network = nn.Module()
    network.encoder = Encoder(**sizes, double_z=True)
    network.decoder = Decoder(**sizes)
    network.quant_conv = nn.Conv2d(8, 8, 1)
    network.post_quant_conv = nn.Conv2d(4, 4, 1)
    return randomised(network)


def text_state(tower) -> dict[str, torch.Tensor]:
    text = {
        name: value
        for name, value in tower.state_dict().items()
        if not name.startswith("visual.") and name != "logit_scale"
    }
    return {f"{ENCODER}{name}": value for name, value in text.items()}


def penultimate(tower, tokens: torch.Tensor) -> torch.Tensor:
    """The reference's encoder: all layers but the last, then the last norm, on all tokens."""
    hidden = tower.token_embedding(tokens) + tower.positional_embedding
    for block in tower.transformer.resblocks[:-1]:
        hidden = block(hidden, attn_mask=tower.attn_mask)
    return tower.ln_final(hidden)


def test_the_text_encoder_is_the_penultimate_layer(tower, tmp_path) -> None:
    tensors = frozen.text_encoder_tensors(text_state(tower), 3)
    frozen._save(tmp_path, "model.safetensors", tensors, TINY_TEXT)
    network = CLIPTextModel.from_pretrained(tmp_path, local_files_only=True).eval()
    tokens = open_clip.tokenize(["a small red circle", "nothing"])
    with torch.no_grad():
        wanted = penultimate(tower, tokens)
        found = network(tokens).last_hidden_state
        last = tower.ln_final(tower.transformer(
            tower.token_embedding(tokens) + tower.positional_embedding, attn_mask=tower.attn_mask
        ))  # fmt: skip
    assert float((found - wanted).abs().max()) <= 1e-5
    assert float((found - last).abs().max()) > 1e-2


def test_the_autoencoder_is_the_references(reference_vae, tower, tmp_path) -> None:
    state = {f"first_stage_model.{k}": v for k, v in reference_vae.state_dict().items()}
    convert_frozen({**state, **text_state(tower)}, tmp_path, TINY_VAE, TINY_TEXT)
    vae = load_vae(tmp_path / "vae", "cpu")
    generator = torch.Generator().manual_seed(6)
    images = torch.rand(2, 3, 64, 64, generator=generator)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    with torch.no_grad():
        wanted = reference_vae.quant_conv(reference_vae.encoder(images))
        decoded = reference_vae.decoder(reference_vae.post_quant_conv(latents))
        made = vae.decode(latents, return_dict=False)[0]
    assert float((moments(vae, images) - wanted).abs().max() / wanted.abs().max()) <= 2e-6
    assert float((made - decoded).abs().max() / decoded.abs().max()) <= 1e-5
    CLIPTextModel.from_pretrained(tmp_path / "text_encoder", local_files_only=True)


class Callback:
    """An object as Lightning pickles it."""


def test_a_pickle_is_read_without_running_anything(tmp_path, monkeypatch) -> None:
    name = "pytorch_lightning.callbacks.model_checkpoint"
    for parent in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    callback = type("ModelCheckpoint", (), {"__module__": name})
    sys.modules[name].ModelCheckpoint = callback
    path = tmp_path / "checkpoint.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": {callback: {"best": 1}}}, path)
    del sys.modules[name].ModelCheckpoint  # where it is read, there is no Lightning
    assert torch.equal(read_checkpoint(path)["a"], torch.ones(2))
    torch.save({"state_dict": {}, "more": Callback()}, path)
    with pytest.raises(pickle.UnpicklingError, match="Callback"):
        read_checkpoint(path)
