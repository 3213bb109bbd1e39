"""The paths that need a GPU, on a random SDXL: skipped where torch sees none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

import peers
from loadgen_runs import logged_images, request_for, write_inputs
from micro_model import MicroModel
from pipelines import check_same_pipeline
from t2i.base import numerics
from t2i.base.files import read_json
from t2i.base.images import pixel_digest
from t2i.engine import latents, reference, weights
from t2i.engine.build import build_engine
from t2i.engine.load import load_engine
from t2i.engine.painter import load_painter
from t2i.engine.variant import DTYPES, Variant
from t2i.generate.shard import Sample
from t2i.job import device
from t2i.loadgen.run import run_test
from t2i.metrics import scoring
from t2i.metrics.clip import load_clip
from t2i.metrics.inception import load_inception
from t2i.prompts.tokens import write_tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


FP8 = {"attention": True, "convolutions": True, "keep": [], "captions": 4, "percentile": 100}
FASTER = {
    "fp32": {"dtype": "fp32"},
    "fp16": {"dtype": "fp16"},
    "bf16": {"dtype": "bf16"},
    "fp16-vae": {"dtype": "fp16", "vae": "fp16"},
    "cache": {"dtype": "bf16", "cache": {"interval": 2}},
    "inductor": {"dtype": "fp16", "backend": "inductor"},
    "fp8": {"dtype": "bf16", "fp8": FP8},
    "fp8-bf16-attention": {"dtype": "bf16", "fp8": {**FP8, "attention": False}},
}


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def images(request, micro_model: MicroModel, tmp_path_factory):
    """A function that generates samples at one number format on the GPU, and the pipeline."""
    torch.backends.cudnn.deterministic = True
    folder = tmp_path_factory.mktemp(f"engine-{request.param}")
    variant = Variant(request.param, 4, 1, "cuda", peers.STEPS, peers.GUIDANCE)
    build_engine(micro_model.model, folder, variant)
    pipeline, _ = load_engine(folder, "cuda")
    latent = latents.read_latent(micro_model.latent, pipeline.unet.config.sample_size)
    prompts = micro_model.tokens()

    def generate(indices: range) -> np.ndarray:
        sampler = (variant.batch_size, variant.steps, variant.guidance)
        return reference.generate(pipeline, prompts, indices, latent, *sampler).pixels

    return generate, pipeline


def test_an_engine_is_what_diffusers_loads(images, micro_model: MicroModel) -> None:
    _, pipeline = images
    peer = StableDiffusionXLPipeline.from_pretrained(
        micro_model.model, dtype=pipeline.unet.dtype, local_files_only=True, add_watermarker=False
    )
    check_same_pipeline(pipeline, peer.to("cuda"))


def test_every_piece_reaches_its_place(tmp_path, monkeypatch) -> None:
    """Many small pieces from many threads, of tensors of all sizes, through page-locked memory."""
    monkeypatch.setattr(weights, "PIECE", 1000)
    generator = torch.Generator().manual_seed(3)
    tensors = {str(n): torch.randn(n * n, generator=generator) for n in range(120)}
    path = tmp_path / "some.safetensors"
    save_file(tensors, path)
    loaded, digests = weights.load_files([path], "cuda")
    assert digests == weights.digest_files([path])
    for name, value in loaded[path].items():
        assert value.device.type == "cuda"
        assert torch.equal(value.cpu(), tensors[name]), name


def test_a_pixel_depends_on_the_sample_alone(images) -> None:
    """Not on the cut into batches, the place in a batch, a padded tail, or the run."""
    generate, _ = images
    whole = np.concatenate([generate(range(0, 4)), generate(range(4, 8))])
    assert len({pixel_digest(image) for image in whole}) == 8
    for cut in (range(0, 4), range(1, 5), range(3, 4), range(6, 8)):
        assert np.array_equal(generate(cut), whole[cut.start : cut.stop])


def test_images_are_those_of_diffusers(images, micro_model: MicroModel) -> None:
    generate, pipeline = images
    expected = peers.images(pipeline, micro_model.prompts[:4], micro_model.latent, batch_size=4)
    largest, share = peers.pixel_difference(generate(range(0, 4)), expected)
    # In half precision, encoding one prompt at a time rounds otherwise than four at a time.
    allowed = peers.GREY_LEVELS if pipeline.unet.dtype == torch.float32 else 16
    assert largest <= allowed, f"{largest} grey levels, {share:.2%} of the values differ"


@pytest.fixture(scope="module", params=sorted(FASTER))
def faster(request, micro_model: MicroModel, tmp_path_factory):
    """A function that makes painters of a variant that is not diffusers' own, and its options."""
    torch.backends.cudnn.deterministic = True
    folder = tmp_path_factory.mktemp(f"faster-{request.param}")
    options = {"backend": "native", **FASTER[request.param]}
    variant = Variant(
        batch_size=4,
        threads=1,
        device="cuda",
        steps=peers.STEPS,
        guidance=peers.GUIDANCE,
        **options,
    )
    scales = variant.fp8 and micro_model.scales(folder / "found.json", variant.fp8)
    build_engine(micro_model.model, folder, variant, scales=scales)
    write_tokens(folder / "tokens.npz", micro_model.tokens())

    def painter(device: str = "cuda", latent: Path = micro_model.latent):
        return load_painter(folder, folder / "tokens.npz", latent, device)[0]

    return painter, FASTER[request.param]


def test_a_faster_pixel_depends_on_the_sample_alone(faster) -> None:
    """Not on the cut, the place in a batch, a padded tail, the run, or another painter."""
    new, _ = faster
    painter = new()
    whole = np.concatenate(
        [painter.paint(range(0, 4), 4).pixels, painter.paint(range(4, 8), 4).pixels]
    )
    for cut in (range(0, 4), range(1, 5), range(3, 4), range(6, 8)):
        assert np.array_equal(painter.paint(cut, 4).pixels, whole[cut.start : cut.stop])
    assert np.array_equal(new().paint(range(2, 6), 4).pixels, whole[2:6])


def test_faster_images_are_those_of_diffusers(faster, micro_model: MicroModel, tmp_path) -> None:
    """At fp32 the same; in half formats as near to fp32 as diffusers' own are.

    For fp8 the peer is its definition, on a CPU, which other tests hold to diffusers' modules. Its
    error on random weights differs by 8 % (one standard deviation) between latents that differ by
    a thousandth, so that the mean over several such latents is compared.
    """
    new, options = faster
    if "cache" in options:
        pytest.skip("DeepCache computes something else")
    fp8, drawn = "fp8" in options, np.load(micro_model.latent)
    near = np.random.default_rng(1).standard_normal((8, *drawn.shape)).astype(np.float32)
    ours, theirs = [], []
    for number in range(8 if fp8 else 1):
        path = tmp_path / f"{number}.npy"
        np.save(path, drawn * (1 + 1e-3 * near[number]) if number else drawn)

        def diffusers_images(dtype: str, path: Path = path) -> np.ndarray:
            peer = StableDiffusionXLPipeline.from_pretrained(
                micro_model.model,
                dtype=DTYPES[dtype],
                local_files_only=True,
                add_watermarker=False,
            ).to("cuda")
            peer.set_progress_bar_config(disable=True)
            return peers.images(peer, micro_model.prompts[:4], path, batch_size=4)

        exact = diffusers_images("fp32").astype(np.int16)
        ours.append(np.abs(new(latent=path).paint(range(4), 4).pixels - exact))
        if options["dtype"] == "fp32":
            assert ours[0].max() <= peers.GREY_LEVELS
            return
        of_cpu = fp8 and new("cpu", path).paint(range(4), 4).pixels
        peer = of_cpu if fp8 else diffusers_images(options["dtype"])
        theirs.append(np.abs(peer - exact))
    error, allowed = np.mean(ours), np.mean(theirs)
    print(f"{options}: {error:.4f} grey levels from fp32, the peer {allowed:.4f}")
    assert error <= 1.25 * allowed + 0.02


def test_scores_are_those_of_the_cpu(micro_inception, random_clip, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    numerics.exact_float32()
    rows = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    samples = [Sample(n, n, f"{n}.png", pixel_digest(image), True) for n, image in enumerate(rows)]
    captions = ["a red circle", "a blue square", "a star", "nothing"]
    scored = [
        scoring.score_shard(
            samples,
            rows,
            captions,
            load_inception(micro_inception, device),
            load_clip(random_clip[0], device),
            batch_size=2,
        )
        for device in ("cpu", "cuda")
    ]
    scale = np.abs(scored[0].inception).max()
    assert np.abs(scored[0].inception - scored[1].inception).max() <= 1e-4 * scale
    assert np.abs(scored[0].clip - scored[1].clip).max() <= 1e-3


@pytest.mark.parametrize("scenario", ["Offline", "Server", "SingleStream"])
def test_loadgen_gets_the_gpus_images(scenario, micro_model: MicroModel, tmp_path) -> None:
    """Each worker holds a GPU of its own; a tail of three samples is padded in Offline."""
    engine = tmp_path / "engine"
    engine.mkdir()
    variant = Variant("fp16", 4, 1, "cuda", peers.STEPS, peers.GUIDANCE)
    build_engine(micro_model.model, engine, variant)
    prompts = micro_model.tokens()
    write_inputs(tmp_path, prompts)
    np.save(tmp_path / "latents.npy", np.load(micro_model.latent))
    request = request_for(engine, tmp_path, scenario, "accuracy")
    run_test(request, tmp_path / "run")
    facts = read_json(tmp_path / "run" / "run.json")
    assert [device["kind"] for device in facts["devices"]] == ["cuda"] * len(device.visible_gpus())
    torch.backends.cudnn.deterministic = True
    pipeline, _ = load_engine(engine, "cuda")
    latent = latents.read_latent(tmp_path / "latents.npy", pipeline.unet.config.sample_size)
    size = 1 if scenario == "SingleStream" else variant.batch_size
    logged = logged_images(tmp_path / "run", facts["image"][0])
    assert sorted(logged) == list(range(7))
    for index, images in logged.items():
        sampler = (size, variant.steps, variant.guidance)
        wanted = reference.generate(pipeline, prompts, [index], latent, *sampler).pixels[0]
        assert all(np.array_equal(image, wanted) for image in images)


def test_a_gpu_is_described_and_locked() -> None:
    facts = device.describe_device("cuda")
    assert facts["kind"] == "cuda"
    assert facts["arch"].startswith("sm_")
    assert any(name.startswith("GPU-") for name in device.visible_gpus())
