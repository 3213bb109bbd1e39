"""Images at SDXL's full size do not depend on their place in the batch: skipped without a GPU.

Libraries choose other kernels for large products than for the miniature's. Each stage is run with
its samples in another order, and has to give the same bytes in that order.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import argparse
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2i.engine.fp8 import parts
from t2i.engine.loop import Loop

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from contenders import Bench, Native

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
SIZE = 8
ORDER = [7, 0, 1, 2, 3, 4, 5, 6]
ROWS = [*ORDER, *(SIZE + place for place in ORDER)]  # of negative and positive prompts


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(argparse.Namespace(device="cuda", model=None))


@pytest.fixture(scope="module", params=["bf16", "fp8", "fp8 elsewhere"])
def running(request, bench: Bench) -> Loop:
    """The loop; the last is that of a GPU for which there are no fp8 kernels."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "fp8 elsewhere":
            patch.setattr(parts, "is_hopper", lambda: False)
        return Native(bench, SIZE, torch.bfloat16, None, request.param != "bf16").loop


def ids(bench: Bench) -> list[Tensor]:
    """Token ids of 16 prompts for each text encoder."""
    tables = bench.tokens.first, bench.tokens.second
    return [torch.from_numpy(table[: 2 * SIZE]).cuda() for table in tables]


def noise(running: Loop, context: Tensor, pooled: Tensor, sample: Tensor) -> Tensor:
    """The UNet's noise in the fourth step."""
    side = running.side
    sizes = torch.tensor([[side, side, 0, 0, side, side]] * len(context)).to(context)
    with torch.inference_mode():
        shift = running.unet.shifts(running.schedule.timesteps, pooled, sizes)[3]
        return running.unet(sample, shift, running.unet.prompts(context))[0]


def latents() -> Tensor:
    generator = torch.Generator("cuda").manual_seed(1)
    return torch.randn(2 * SIZE, 128, 128, 4, device="cuda", generator=generator).bfloat16()


def test_text(running: Loop, bench: Bench) -> None:
    with torch.inference_mode():
        whole = running.encode(*ids(bench))
        moved = running.encode(*(part[ROWS] for part in ids(bench)))
    for one, other in zip(whole, moved, strict=True):
        assert torch.equal(one[ROWS], other)


def test_unet(running: Loop, bench: Bench) -> None:
    with torch.inference_mode():
        context, pooled = running.encode(*ids(bench))
    whole = noise(running, context, pooled, latents())
    moved = noise(running, context[ROWS], pooled[ROWS], latents()[ROWS])
    assert torch.equal(whole[ROWS], moved)


def test_decoder(running: Loop) -> None:
    with torch.inference_mode():
        whole = running.decoder(latents()[:SIZE])
        assert torch.equal(whole[ORDER], running.decoder(latents()[ORDER]))


def test_images(running: Loop, bench: Bench) -> None:
    whole = running.images(bench.tokens, range(SIZE), bench.latent, SIZE).pixels
    moved = running.images(bench.tokens, range(1, SIZE + 1), bench.latent, SIZE).pixels
    assert (moved[:-1] == whole[1:]).all()
    tail = running.images(bench.tokens, range(6, 8), bench.latent, SIZE).pixels
    assert (tail == whole[6:]).all()
