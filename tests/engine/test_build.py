"""Engines: weights at a number format, identity, verification, patches."""

import t2i.job.torch_shim  # noqa: F401

import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save, save_file

import peers
from micro_model import SETTINGS, MicroModel
from pipelines import check_same_pipeline
from t2i.base.files import read_json
from t2i.engine.build import EngineError, build_engine
from t2i.engine.files import verify_engine
from t2i.engine.latents import read_latent
from t2i.engine.load import load_engine
from t2i.engine.reference import generate
from t2i.engine.variant import DTYPES, Variant
from t2i.engine.weights import WeightsError
from t2i.job import disk

FP32 = Variant(dtype="fp32", **SETTINGS)


def build(micro_model: MicroModel, folder: Path, variant: Variant = FP32) -> dict[str, object]:
    folder.mkdir()
    return build_engine(micro_model.model, folder, variant)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_an_engine_is_what_diffusers_loads(
    micro_model: MicroModel, tmp_path: Path, dtype: str
) -> None:
    build(micro_model, tmp_path / dtype, replace(FP32, dtype=dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline, _ = load_engine(tmp_path / dtype, "cpu")
    peer = StableDiffusionXLPipeline.from_pretrained(
        micro_model.model, dtype=DTYPES[dtype], local_files_only=True, add_watermarker=False
    )
    check_same_pipeline(pipeline, peer)
    if dtype == "fp32":
        assert np.array_equal(micro_model.images(pipeline, 2, 2), micro_model.images(peer, 2, 2))


def test_an_fp16_engine_decodes_in_fp32(micro_model: MicroModel, tmp_path: Path) -> None:
    """SDXL's autoencoder overflows in fp16: its config says force_upcast, which diffusers obeys."""
    build(micro_model, tmp_path / "fp16", replace(FP32, dtype="fp16"))
    pipeline, _ = load_engine(tmp_path / "fp16", "cpu")
    seen = []
    pipeline.vae.decoder.register_forward_pre_hook(
        lambda decoder, inputs: seen.append((inputs[0].dtype, next(decoder.parameters()).dtype))
    )
    latent = read_latent(micro_model.latent, 8)
    images = generate(pipeline, micro_model.tokens(), range(1), latent, 1, 1, peers.GUIDANCE)
    assert images.finite.all()
    assert seen == [(torch.float32, torch.float32)]
    assert pipeline.vae.dtype == torch.float16


def test_published_half_precision_files_are_used_for_fp16_alone(
    micro_model: MicroModel, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    for source in micro_model.model.rglob("*"):
        target = model / source.relative_to(micro_model.model)
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            if source.suffix == ".safetensors":
                half = {name: value.half() + 1 for name, value in load_file(source).items()}
                save_file(half, target.with_suffix(".fp16.safetensors"), {"format": "pt"})
    for dtype, shift in (("fp32", 0), ("fp16", 1)):
        (tmp_path / dtype).mkdir()
        manifest = build_engine(model, tmp_path / dtype, replace(FP32, dtype=dtype))
        assert not [name for name in manifest["weights"] if "fp16" in name]
        name = "text_encoder/model.safetensors"
        expected = load_file(model / name)
        for key, value in load_file(tmp_path / dtype / "weights" / name).items():
            wanted = expected[key].to(value.dtype) + shift
            assert torch.equal(value, wanted)


def test_identity_is_reproducible_and_names_everything_that_pixels_depend_on(
    micro_model: MicroModel, tmp_path: Path
) -> None:
    first = read_json(micro_model.engines["fp32"] / "engine.json")
    assert build(micro_model, tmp_path / "again") == first
    changes = {
        "dtype": "bf16",
        "batch_size": 2,
        "threads": 2,
        "device": "cuda",
        "steps": 19,
        "guidance": 7.5,
    }
    digests = {first["digest"]}
    for key, value in changes.items():
        manifest = build(micro_model, tmp_path / key, replace(FP32, **{key: value}))
        assert manifest[key] == value
        digests.add(manifest["digest"])
    patch = tmp_path / "patch.py"
    for n, text in enumerate(
        ("def hook(pipeline):\n    return pipeline\n", "hook = lambda p: p\n")
    ):
        patch.write_text(text)
        variant = replace(FP32, patch=f"{patch}:hook")
        digests.add(build(micro_model, tmp_path / f"patched-{n}", variant)["digest"])
    assert len(digests) == 1 + len(changes) + 2


def damage(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.unlink()  # it may be a link to the model's own file
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (damage, "has changed"),
        (partial(damage, place=0), "has changed"),  # the length of a header
        (partial(damage, place=9), "has changed"),
        (Path.unlink, "is missing"),
    ],
)
@pytest.mark.parametrize(
    "name", ["weights/unet/diffusion_pytorch_model.safetensors", "weights/vae/config.json"]
)
def test_a_changed_engine_is_refused(
    micro_model: MicroModel,
    tmp_path: Path,
    change: Callable[[Path], None],
    state: str,
    name: str,
) -> None:
    build(micro_model, tmp_path / "engine")
    verify_engine(tmp_path / "engine")
    change(tmp_path / "engine" / name)
    with pytest.raises(EngineError, match=f"{name} {state} .* delete .*engine/weights and"):
        load_engine(tmp_path / "engine", "cpu")


def copied(micro_model: MicroModel, folder: Path) -> Path:
    return Path(shutil.copytree(micro_model.model, folder / "model"))


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "text_encoder_2"])
@pytest.mark.parametrize("suffix", ["bin", "pt", "ckpt"])
def test_pickled_weights_are_refused_by_name_and_never_opened(
    micro_model: MicroModel, tmp_path: Path, name: str, suffix: str
) -> None:
    model, canary = copied(micro_model, tmp_path), tmp_path / "canary"
    (weights,) = (model / name).glob("*.safetensors")
    pickled = weights.with_suffix(f".{suffix}")
    torch.save({"weight": Canary(canary)}, pickled)
    build_engine(model, made(tmp_path / "both"), FP32)  # safetensors beside it: it is left alone
    assert not [*(tmp_path / "both").rglob(f"*.{suffix}")]
    weights.unlink()
    with pytest.raises(
        EngineError, match=f"{name}: there are no .* for fp32; {pickled.name} could"
    ):
        build_engine(model, made(tmp_path / "alone"), FP32)
    assert not canary.exists()
    torch.load(pickled, weights_only=False)
    assert canary.is_dir()  # so it would have been run


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"unet": ["mine", "UNet2DConditionModel2"]}, "unet"),
        ({"vae": [None, None]}, "vae"),
        ({"image_encoder": ["transformers", "CLIPVisionModel"]}, "image_encoder"),
        ({"_class_name": "StableDiffusionPipeline"}, "_class_name"),
    ],
)
def test_another_pipeline_is_refused(
    micro_model: MicroModel, tmp_path: Path, change: dict[str, object], differing: str
) -> None:
    model = copied(micro_model, tmp_path)
    index = read_json(model / "model_index.json")
    (model / "model_index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(EngineError, match=f"model_index.json: .* differs in {differing}$"):
        build_engine(model, tmp_path, FP32)


def test_weights_in_parts_and_with_the_published_names_load_alike(
    micro_model: MicroModel, tmp_path: Path
) -> None:
    """diffusers cuts files above 10 GB in two; published CLIP text models say text_model."""
    model = copied(micro_model, tmp_path)
    micro_model.peer.unet.save_pretrained(tmp_path / "unet", max_shard_size="300KB")
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    parts = [*(tmp_path / "unet").glob("*.safetensors")]
    assert len(parts) > 1
    for part in parts:
        shutil.copy(part, model / "unet")
    path = model / "text_encoder" / "model.safetensors"
    save_file({f"text_model.{name}": value for name, value in load_file(path).items()}, path)
    build_engine(model, made(tmp_path / "engine"), FP32)
    check_same_pipeline(load_engine(tmp_path / "engine", "cpu")[0], micro_model.peer)
    shutil.copy(parts[0], model / "unet" / "again.safetensors")
    with pytest.raises(WeightsError, match=r"\.safetensors: .* is also in another file"):
        build_engine(model, made(tmp_path / "twice"), FP32)


def test_a_cast_file_is_that_of_safetensors(micro_model: MicroModel, tmp_path: Path) -> None:
    build(micro_model, tmp_path / "engine", replace(FP32, dtype="bf16"))
    name = "unet/diffusion_pytorch_model.safetensors"
    state = load_file(micro_model.model / name)
    expected = save({key: value.bfloat16() for key, value in state.items()}, {"format": "pt"})
    assert (tmp_path / "engine" / "weights" / name).read_bytes() == expected


def test_an_engine_that_does_not_fit_the_disk_is_not_begun(
    micro_model: MicroModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(micro_model, tmp_path / "built", replace(FP32, dtype="bf16"))
    written = sum(facts["size"] for facts in built["weights"].values())
    for dtype, free, fits in (
        ("bf16", written - 100_000, False),  # headers, of which little is said, are not counted
        ("bf16", written, True),
        ("fp32", written // 2, True),  # links to the model's files
    ):
        folder = made(tmp_path / f"{dtype}-{fits}")
        monkeypatch.setattr(disk, "free_bytes", lambda _, free=free: free)
        variant = replace(FP32, dtype=dtype)
        if fits:
            build_engine(micro_model.model, folder, variant)
            continue
        with pytest.raises(disk.DiskFullError, match="needs .* free"):
            build_engine(micro_model.model, folder, variant)
        assert not [*folder.iterdir()]


def test_an_edited_manifest_is_refused(micro_model: MicroModel, tmp_path: Path) -> None:
    build(micro_model, tmp_path / "engine")
    path = tmp_path / "engine" / "engine.json"
    path.write_text(path.read_text().replace('"batch_size": 4', '"batch_size": 2'))
    with pytest.raises(EngineError, match=r"engine\.json has changed"):
        load_engine(tmp_path / "engine", "cpu")


def patched(micro_model: MicroModel, folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    build(micro_model, folder / "engine", replace(FP32, patch=f"{path}:hook"))
    path.unlink()  # the engine keeps a copy
    return folder / "engine"


def test_a_patch_is_applied(micro_model: MicroModel, tmp_path: Path) -> None:
    text = "def hook(pipeline):\n    pipeline.unet.requires_grad_(False)\n    return pipeline\n"
    pipeline, manifest = load_engine(patched(micro_model, tmp_path, text), "cpu")
    assert manifest["patch"]["function"] == "hook"
    assert not any(weight.requires_grad for weight in pipeline.unet.parameters())
    assert any(weight.requires_grad for weight in pipeline.vae.parameters())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other(pipeline): return pipeline\n", "has no function 'hook'"),
        ("def hook(pipeline): pass\n", "hook must return the pipeline, it returned NoneType"),
    ],
)
def test_a_wrong_patch_is_explained(
    micro_model: MicroModel, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        load_engine(patched(micro_model, tmp_path, text), "cpu")


def test_a_changed_patch_is_refused(micro_model: MicroModel, tmp_path: Path) -> None:
    engine = patched(micro_model, tmp_path, "def hook(pipeline): return pipeline\n")
    damage(engine / "patch.py")
    with pytest.raises(EngineError, match=r"patch\.py has changed"):
        load_engine(engine, "cpu")
