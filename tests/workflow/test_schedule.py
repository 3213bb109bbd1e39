"""Timesteps and sigmas of an engine against diffusers with SDXL's config, and by definition."""

import t2i.job.torch_shim  # noqa: F401

from pathlib import Path

import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler

import peers
from micro_model import MicroModel


def test_schedule_is_that_of_the_definition(micro_model: MicroModel) -> None:
    scheduler = micro_model.pipeline.scheduler
    difference = peers.schedule_difference(scheduler)
    print(f"largest difference {difference}")
    assert difference <= peers.SCHEDULE
    assert scheduler.timesteps.tolist() == list(range(951, 0, -50))
    assert len(scheduler.sigmas) == peers.STEPS + 1
    assert scheduler.sigmas[-1] == 0
    _, sigmas = peers.schedule()
    assert float(scheduler.init_noise_sigma) == pytest.approx(np.hypot(sigmas[0], 1), abs=1e-5)
    assert float(scheduler.init_noise_sigma) == pytest.approx(11.07359, abs=1e-5)


@pytest.mark.shared
def test_schedule_is_that_of_the_published_config(
    micro_model: MicroModel, shared_data: Path
) -> None:
    peer = EulerDiscreteScheduler.from_pretrained(
        shared_data / "sdxl-base-1.0", subfolder="scheduler", local_files_only=True
    )
    scheduler = micro_model.pipeline.scheduler
    for schedule in (scheduler, peer):
        schedule.set_timesteps(peers.STEPS)
    assert type(scheduler) is type(peer)
    assert np.array_equal(scheduler.timesteps.numpy(), peer.timesteps.numpy())
    assert np.array_equal(scheduler.sigmas.numpy(), peer.sigmas.numpy())
    assert scheduler.init_noise_sigma == peer.init_noise_sigma
