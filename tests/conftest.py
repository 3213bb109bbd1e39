"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

from t2i.submission.checkout import Checkout, open_checkout

pytest_plugins = ["fetch_fixtures", "micro_model", "workflow_run"]

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of published reference data (captions, sample ids, tokenizer files).

    It lies beside the repository, not in it. Without it a test is skipped, or fails where
    T2I_REQUIRE_SHARED=1 says that it has to be there.
    """
    data = SHARED / "data"
    if not data.is_dir():
        reason = "the reference data is missing: expected the folder ../shared/data"
        if os.environ.get("T2I_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return data


# Both are of the session, so that a test is skipped before its other fixtures are made.
@pytest.fixture(scope="session")
def inference_checkout() -> Path:
    """Folder of a checkout of mlcommons/inference; without one a test is skipped."""
    folder = os.environ.get("T2I_INFERENCE_CHECKOUT")
    if not folder:
        pytest.skip("T2I_INFERENCE_CHECKOUT names no checkout of mlcommons/inference")
    return Path(folder)


@pytest.fixture(scope="session")
def real(inference_checkout: Path) -> Checkout:
    """The checkout, opened."""
    return open_checkout(inference_checkout)
