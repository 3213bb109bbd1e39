"""The back end that torch compiles, against diffusers."""

import t2i.job.torch_shim  # noqa: F401

import numpy as np
from torch._dynamo.utils import counters

import peers
from micro_model import SETTINGS, MicroModel
from t2i.engine.build import build_engine
from t2i.engine.painter import load_painter
from t2i.engine.variant import Variant
from t2i.prompts.tokens import write_tokens


def test_compiled_images_are_those_of_the_pipeline(micro_model: MicroModel, tmp_path) -> None:
    """And depend on the sample alone; blocks are compiled once for each shape."""
    engine = tmp_path / "engine"
    engine.mkdir()
    options = SETTINGS | {"dtype": "fp32", "backend": "inductor"}
    build_engine(micro_model.model, engine, Variant(**options))
    write_tokens(tmp_path / "tokens.npz", micro_model.tokens())
    painter, _ = load_painter(engine, tmp_path / "tokens.npz", micro_model.latent, "cpu")
    before = counters["stats"]["unique_graphs"]
    ours = painter.paint(range(0, 4), 4).pixels
    compiled = counters["stats"]["unique_graphs"] - before
    assert 0 < compiled <= 6
    prompts = micro_model.prompts[:4]
    expected = peers.images(micro_model.peer, prompts, micro_model.latent, batch_size=4)
    largest, share = peers.pixel_difference(ours, expected)
    assert largest <= peers.GREY_LEVELS
    assert share <= peers.DIFFERING_PIXELS
    assert np.array_equal(painter.paint(range(2, 5), 4).pixels[:2], ours[2:])
    assert counters["stats"]["unique_graphs"] - before == compiled
