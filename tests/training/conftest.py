"""What tests of the training share."""

from pathlib import Path

import pytest

from t2i.training.evaluate import load_vae

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def micro_vae():
    """The miniature's autoencoder."""
    return load_vae(PROJECT / "models" / "micro-sdxl" / "vae", "cpu")
