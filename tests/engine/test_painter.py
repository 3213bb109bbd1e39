"""Painters: a model's as the library's own maths, a stand-in's without one."""

import t2i.job.torch_shim  # noqa: F401

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import peers
from loadgen_runs import stand_in_test, write_stand_in
from micro_model import SETTINGS, MicroModel
from t2i.base.files import read_json, write_json
from t2i.base.yaml import read_yaml
from t2i.engine.build import EngineError, build_engine
from t2i.engine.load import load_engine
from t2i.engine.painter import StandInPainter, load_painter
from t2i.engine.stand_in import stand_in_image
from t2i.engine.variant import Variant
from t2i.mlperf import ROUNDS
from t2i.prompts.tokens import write_tokens

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_a_model_paints_any_samples_in_any_order(micro_model: MicroModel, tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens.npz", micro_model.tokens())
    painter, manifest = load_painter(
        micro_model.engines["fp32"], tmp_path / "tokens.npz", micro_model.latent, "cpu"
    )
    assert painter.side == 64
    assert manifest["stand_in"] is None
    images = painter.paint([5, 2, 7], 4)
    assert images.finite.tolist() == [True] * 3
    prompts = [micro_model.prompts[index] for index in (5, 2, 7, 7)]
    theirs = peers.images(micro_model.peer, prompts, micro_model.latent, 4)
    largest, share = peers.pixel_difference(images.pixels, theirs[:3])
    assert largest <= peers.GREY_LEVELS
    assert share <= peers.DIFFERING_PIXELS


@pytest.mark.parametrize("side", [8, 100, 1024])
def test_stand_in_images_are_unlike_and_of_many_colours(side: int) -> None:
    indices = [0, 1, 255, 256, 4999, 65535, 65536, 2**24]
    images = [stand_in_image(index, side) for index in indices]
    for image in images:
        assert image.shape == (side, side, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert (image.min(axis=(0, 1)) < image.max(axis=(0, 1))).all()
    assert len({image.tobytes() for image in images}) == len(images)
    assert np.array_equal(images[3], stand_in_image(256, side))


def test_a_stand_in_takes_few_pictures_in_turn() -> None:
    painter = StandInPainter(16, 3)
    images = painter.paint([0, 1, 2, 3, 5], 8).pixels
    assert np.array_equal(images[0], images[3]) and np.array_equal(images[2], images[4])
    assert len({image.tobytes() for image in images}) == 3
    assert np.array_equal(images[1], StandInPainter(16).paint([1], 8).pixels[0])


def test_the_rehearsal_shows_ten_pictures_in_every_round() -> None:
    rehearsal = read_yaml(Path(__file__).parents[2] / "config/rehearsal.yaml")
    pictures = rehearsal["variants"]["stand-in"]["stand_in"]["pictures"]
    for found in ROUNDS.values():
        assert len({index % pictures for index in found.image_ids}) == 10


def test_no_two_of_the_benchmarks_samples_have_one_picture() -> None:
    assert len({stand_in_image(index, 8)[0, :2].tobytes() for index in range(5000)}) == 5000


def test_a_stand_in_needs_no_torch_and_says_what_it_is(tmp_path: Path) -> None:
    request = stand_in_test(tmp_path)
    manifest = read_json(request.engine / "engine.json")
    assert manifest["stand_in"] == {"side": 16, "images_per_second": 1000.0}
    assert manifest["weights"] == {}
    assert (request.engine / "weights").is_dir()
    code = (
        "import sys\nfrom pathlib import Path\n"
        "import t2i.loadgen.worker\nfrom t2i.engine.painter import load_painter\n"
        f"engine, inputs = Path({str(request.engine)!r}), Path({str(tmp_path)!r})\n"
        "painter, _ = load_painter(engine, inputs / 'tokens.npz', inputs / 'latents.npy', '')\n"
        "images = painter.paint([3, 1], 4)\n"
        "assert images.pixels.shape == (2, 16, 16, 3) and images.finite.all()\n"
        "assert not {'torch', 'diffusers', 'mlperf_loadgen'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SCRIPTS)}, timeout=60
    )


def test_a_stand_in_is_no_model(micro_model: MicroModel, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is a stand-in without a model"):
        load_engine(write_stand_in(tmp_path / "stand-in", 16, 8.0), "cpu")
    digests = set()
    for stand_in in (None, {"side": 16, "images_per_second": 8.0}):
        folder = tmp_path / str(stand_in is None)
        folder.mkdir()
        variant = Variant("fp32", **SETTINGS, stand_in=stand_in)
        digests.add(build_engine(micro_model.model, folder, variant)["digest"])
    assert len(digests) == 2


def test_an_altered_stand_in_is_refused(tmp_path: Path) -> None:
    request = stand_in_test(tmp_path)
    path = request.engine / "engine.json"
    write_json(path, {**read_json(path), "stand_in": {"side": 32, "images_per_second": 9.0}})
    with pytest.raises(EngineError, match=r"engine\.json has changed since the engine was built"):
        load_painter(request.engine, request.tokens, request.latents, "")
