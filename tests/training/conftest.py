"""What tests of the training share."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from t2i.training.evaluate import load_vae

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def micro_vae():
    """The miniature's autoencoder."""
    return load_vae(PROJECT / "models" / "micro-sdxl" / "vae", "cpu")


@pytest.fixture(scope="module")
def reference_code(training_checkout: Path) -> Iterator[None]:
    """Make ldm's modules importable, with a stand-in for Lightning, which they hardly need."""
    folder = str(training_checkout / "retired_benchmarks" / "stable_diffusion")
    lightning = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = nn.Module
    utilities = types.ModuleType("pytorch_lightning.utilities")
    utilities.rank_zero_info = print
    stand_ins = {"pytorch_lightning": lightning, "pytorch_lightning.utilities": utilities}
    sys.modules.update(stand_ins)
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)
    for name in stand_ins:
        del sys.modules[name]


@pytest.fixture(scope="module")
def ldm(reference_code: None) -> types.SimpleNamespace:
    """What of ldm is compared with ours."""
    from ldm.lr_scheduler import LambdaLinearScheduler
    from ldm.models.diffusion.ddim import DDIMSampler
    from ldm.modules.diffusionmodules import util
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
    from ldm.modules.distributions.distributions import DiagonalGaussianDistribution

    return types.SimpleNamespace(
        UNetModel=UNetModel,
        util=util,
        DDIMSampler=DDIMSampler,
        Gaussian=DiagonalGaussianDistribution,
        LambdaLinearScheduler=LambdaLinearScheduler,
    )
