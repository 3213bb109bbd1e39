"""Published scoring networks: converted from files in the publishers' own layouts.

The files are made here, with random weights: a pickle of tensors as pytorch-fid publishes it, and
a TorchScript archive with the names, shapes and number format of OpenAI's ViT-B-32.pt.
"""

import t2i.job.torch_shim  # noqa: F401

import json
import os
import pickle
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import peers
from fake_job import Named, fake_job, run_script
from micro_model import SHIPPED
from random_sdxl import write_random_clip, write_random_sdxl
from stand_ins import openai_archive
from t2i.base.files import read_json, sha256_file
from t2i.metrics import clip, inception, networks
from t2i.micro.inception import write_micro_inception

SMALL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 1,
        "layers": 3,
    },
}


@pytest.mark.parametrize("zipped", [True, False])
def test_inception_weights_in_the_published_layout(
    tmp_path: Path,
    published_state: dict[str, torch.Tensor],
    peer_inception: nn.Module,
    example_pictures: list[np.ndarray],
    zipped: bool,
) -> None:
    path = tmp_path / "published.pth"
    torch.save(published_state, path, _use_new_zipfile_serialization=zipped)
    networks.convert_inception(path, tmp_path)
    network = inception.load_inception(tmp_path / "model.safetensors", "cpu")
    ours = inception.image_features(network, example_pictures[0], 1)[0]
    expected = peers.inception_features(peer_inception, example_pictures[0][0])
    assert np.abs(ours - expected).max() <= peers.FEATURES * np.abs(expected).max()
    label = read_json(tmp_path / "network.json")
    assert label == {"weights": "published", "source": sha256_file(path)}


def test_inception_weights_without_batch_counters(
    tmp_path: Path, published_state: dict[str, torch.Tensor]
) -> None:
    """Files from before torch 0.4.1 lack num_batches_tracked, which plays no part in evaluation."""
    state = {name: value for name, value in published_state.items() if "num_batches" not in name}
    torch.save(state, tmp_path / "published.pth")
    networks.convert_inception(tmp_path / "published.pth", tmp_path)
    inception.load_inception(tmp_path / "model.safetensors", "cpu")


def test_miniatures_have_the_same_weights_every_time(tmp_path: Path) -> None:
    digests = []
    for seed in range(2):
        torch.manual_seed(seed)  # what else has drawn numbers must not matter
        folder = tmp_path / str(seed)
        for name, write in (
            ("clip", write_random_clip),
            ("inception", write_micro_inception),
            ("sdxl", lambda path: write_random_sdxl(path, SHIPPED)),
        ):
            (folder / name).mkdir(parents=True)
            write(folder / name)
        digests.append(
            {
                path.relative_to(folder): sha256_file(path)
                for path in folder.rglob("*")
                if path.is_file()
            }
        )
    assert digests[0] == digests[1]


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    path, canary = tmp_path / "published.pth", tmp_path / "canary"
    state = {"fc.weight": torch.zeros(2), "extra": Canary(canary)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        networks.convert_inception(path, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["published.pth"]
    torch.load(path, weights_only=False)
    assert canary.is_dir()  # so it would have been run


def openai_layout(
    embedding: int, vision: dict[str, int], text: dict[str, int]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of OpenAI's CLIP with vision transformers."""

    def transformer(prefix: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
        block: dict[str, tuple[int, ...]] = {
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width),
            "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (width, 4 * width),
            "mlp.c_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
        }
        return {
            f"{prefix}transformer.resblocks.{layer}.{name}": shape
            for layer in range(layers)
            for name, shape in block.items()
        }

    width, patch = vision["width"], vision["patch_size"]
    return {
        "positional_embedding": (77, text["width"]),
        "text_projection": (text["width"], embedding),
        "logit_scale": (),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((224 // patch) ** 2 + 1, width),
        "visual.proj": (width, embedding),
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.ln_pre.weight": (width,),
        "visual.ln_pre.bias": (width,),
        **transformer("visual.", width, vision["layers"]),
        "visual.ln_post.weight": (width,),
        "visual.ln_post.bias": (width,),
        **transformer("", text["width"], text["layers"]),
        "token_embedding.weight": (49408, text["width"]),
        "ln_final.weight": (text["width"],),
        "ln_final.bias": (text["width"],),
    }


def test_network_has_the_published_tensors() -> None:
    """ViT-B/32 with the configuration that a conversion keeps, without storage for its weights."""
    config = open_clip.get_model_config(networks.CLIP_ARCHITECTURE)
    layout = openai_layout(
        512, {"width": 768, "patch_size": 32, "layers": 12}, {"width": 512, "layers": 12}
    )
    with torch.device("meta"):
        network = clip.clip_network(
            {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
        )
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == layout
    assert network.visual.transformer.resblocks[0].attn.num_heads == 12
    assert network.transformer.resblocks[0].attn.num_heads == 8


def test_clip_archive_in_the_published_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example_pictures: list[np.ndarray]
) -> None:
    """A small one: the architecture's name is the only thing that is exchanged."""
    config = tmp_path / "small-quickgelu.json"
    config.write_text(json.dumps(SMALL))
    open_clip.add_model_config(config)
    monkeypatch.setattr(networks, "CLIP_ARCHITECTURE", config.stem)
    generator = torch.Generator().manual_seed(13)
    layout = openai_layout(32, {"width": 64, "patch_size": 32, "layers": 2}, SMALL["text_cfg"])
    state = {
        name: 0.1 * torch.randn(shape, generator=generator) + ("ln_" in name)
        for name, shape in layout.items()
    }
    kept_float = ("ln_", "embedding", "logit_scale")  # the rest is stored as fp16
    state = {
        name: value if any(part in name for part in kept_float) else value.half()
        for name, value in state.items()
    }
    archive = tmp_path / "ViT-B-32.pt"
    openai_archive(archive, state)
    networks.convert_clip(archive, tmp_path)
    loaded = clip.load_clip(tmp_path, "cpu")
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].float()), name
    peer = open_clip.load_openai_model(str(archive), precision="fp32", device="cpu")
    transform = open_clip.image_transform(224, is_train=False)
    ours = clip.clip_scores(
        clip.image_embeddings(loaded, example_pictures[2], 1),
        clip.caption_embeddings(loaded, ["a star"], 1),
    )
    expected = peers.clip_score(peer, transform, example_pictures[2][0], "a star")
    assert ours[0] == pytest.approx(expected, abs=peers.SCORES)
    label = read_json(tmp_path / "network.json")
    assert label == {"weights": "published", "source": sha256_file(archive)}


def test_conversion_checks_the_published_digest_again(tmp_path, monkeypatch, capfd):
    """The rule's script as Snakemake runs it, on a sound file and on one that changed since."""
    monkeypatch.chdir(tmp_path)
    name = "inception-2015-12-05/pt_inception-2015-12-05-6726825d.pth"
    published = tmp_path / "resources" / name
    published.parent.mkdir(parents=True)
    torch.save({"weight": torch.arange(3.0)}, published)
    digest = sha256_file(published)
    converted = Path("resources", name.split("/")[0], "model.safetensors")
    job = fake_job(
        Named(f"resources/{name}"),
        Named(str(converted)),
        tmp_path / "convert.log",
        Named(sha256=digest),
    )
    run_script("convert_inception", job)
    assert load_file(converted)["weight"].tolist() == [0.0, 1.0, 2.0]
    converted.unlink()
    published.write_bytes(published.read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit):
        run_script("convert_inception", job)
    assert not converted.exists()
    assert f"expected sha256 {digest}, got " in capfd.readouterr().err


class Scripted(nn.Module):
    """A TorchScript module that writes a file when it is opened."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.training = state
        torch.save(torch.zeros(1), self.path)


def test_an_archive_with_another_digest_is_never_opened(tmp_path, monkeypatch, capfd):
    """TorchScript archives run code of their own when they are opened, so they are not."""
    monkeypatch.chdir(tmp_path)
    canary, archive = tmp_path / "canary", tmp_path / "ViT-B-32.pt"
    torch.jit.script(Scripted(str(canary))).save(str(archive))
    job = fake_job(
        Named(str(archive)),
        Named(str(tmp_path / "model.safetensors")),
        tmp_path / "convert.log",
        Named(sha256="0" * 64),
    )
    with pytest.raises(SystemExit):
        run_script("convert_clip", job)
    assert f"expected sha256 {'0' * 64}, got {sha256_file(archive)}" in capfd.readouterr().err
    assert not canary.exists()
    assert not Path(job.output[0]).exists()
    torch.jit.load(str(archive))
    assert canary.is_file()  # so it would have been run


def test_open_clips_weights_in_the_published_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example_pictures: list[np.ndarray]
) -> None:
    """A small one with the exact GELU: the architecture's name alone is exchanged."""
    config = tmp_path / "small.json"
    config.write_text(json.dumps({**SMALL, "quick_gelu": False}))
    open_clip.add_model_config(config)
    monkeypatch.setattr(networks, "OPEN_CLIP_ARCHITECTURE", config.stem)
    torch.manual_seed(3)
    peer = open_clip.create_model(config.stem, pretrained=None).eval()
    torch.save(peer.state_dict(), tmp_path / "published.bin")
    networks.convert_open_clip(tmp_path / "published.bin", tmp_path)
    loaded = clip.load_clip(tmp_path, "cpu")
    image = example_pictures[2]
    with torch.no_grad():
        wanted = peer.encode_image(clip.preprocess(image[0])[None], normalize=True).numpy()
    found = clip.image_embeddings(loaded, image[:1], 1)
    assert np.abs(found - wanted).max() <= 1e-6
    quick = clip.clip_network(
        {**json.loads((tmp_path / "config.json").read_text()), "exact_gelu": False}
    )
    quick.load_state_dict(peer.state_dict())
    assert np.abs(clip.image_embeddings(quick, image[:1], 1) - wanted).max() > 1e-4
    assert read_json(tmp_path / "network.json")["weights"] == "published"
