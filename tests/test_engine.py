"""Engines: weights at a number format, identity, verification, patches."""

import t2i.compat  # noqa: F401

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from micro_model import SETTINGS, MicroModel
from t2i.engine import EngineError, Variant, build_engine, load_engine, verify_engine
from t2i.files import read_json

NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
FP32 = Variant(dtype="fp32", **SETTINGS)


def build(micro_model: MicroModel, folder: Path, variant: Variant = FP32) -> dict[str, object]:
    folder.mkdir()
    return build_engine(micro_model.model, folder, variant)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_weights_are_those_that_diffusers_loads(
    micro_model: MicroModel, tmp_path: Path, dtype: str
) -> None:
    torch_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    build(micro_model, tmp_path / dtype, replace(FP32, dtype=dtype))
    pipeline, _ = load_engine(tmp_path / dtype, "cpu")
    peer = StableDiffusionXLPipeline.from_pretrained(
        micro_model.model, torch_dtype=torch_dtype, local_files_only=True
    )
    for name in NETWORKS:
        ours = getattr(pipeline, name).state_dict()
        theirs = getattr(peer, name).state_dict()
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[key].dtype == value.dtype, key
            assert torch.equal(ours[key], value), key
        assert getattr(pipeline, name).dtype == torch_dtype


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


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()  # it may be a link to the model's own file
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "state"), [(damage, "has changed"), (Path.unlink, "is missing")]
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
    with pytest.raises(EngineError, match=f"{name} {state} .* delete .*engine, run again"):
        load_engine(tmp_path / "engine", "cpu")


def test_a_model_without_safetensors_is_refused(micro_model: MicroModel, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no safetensors weights for fp32"):
        build_engine(micro_model.model / "tokenizer", tmp_path, FP32)


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
