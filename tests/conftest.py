"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest
import torch

from t2i.compliance.checkout import Checkout, open_checkout

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

pytest_plugins = ["fetch_fixtures", "micro_model", "workflow_run"]

# Files that take longest begin first, so that no worker ends alone with one of them.
LONGEST = (
    "test_workflow",
    "test_walk",
    "test_train",
    "test_campaign",
    "test_slurm",
    "test_reruns",
    "test_tampering",
    "test_reference",
)
CHECKOUT_VARIABLE = "T2I_INFERENCE_CHECKOUT"
TRAINING_VARIABLE = "T2I_TRAINING_CHECKOUT"
# What builds models, runs, logs or trees, and files whose tests mostly take a second or more.
SLOW_FIXTURES = {
    *("finished", "workplace", "patched", "driven", "place", "micro_model"),
    *("good", "older", "tree", "runs", "loadgen", "inferred", "variants"),
}
SLOW_FILES = {
    *("loadgen/test_faults.py", "loadgen/test_run.py", "loadgen/test_accuracy.py"),
    *("loadgen/test_own_conf.py", "compliance/test_audits.py", "submission/test_package.py"),
    *("metrics/test_features.py", "metrics/test_fid.py", "metrics/test_reference.py"),
    *("micro/test_page.py", "micro/test_vae.py", "workflow/test_edits.py"),
    *("workflow/test_mutations.py", "base/test_code_digest.py", "fetch/test_files.py"),
}
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
    folder = os.environ.get(CHECKOUT_VARIABLE)
    if not folder:
        pytest.skip(f"{CHECKOUT_VARIABLE} names no checkout of mlcommons/inference")
    return Path(folder)


@pytest.fixture(scope="session")
def training_checkout() -> Path:
    """Folder of a checkout of mlcommons/training; without one, or einops, a test is skipped."""
    folder = os.environ.get(TRAINING_VARIABLE)
    if not folder:
        pytest.skip(f"{TRAINING_VARIABLE} names no checkout of mlcommons/training")
    pytest.importorskip("einops", reason="the reference needs einops")
    return Path(folder)


@pytest.fixture(scope="session")
def real(inference_checkout: Path) -> Checkout:
    """The checkout, opened."""
    return open_checkout(inference_checkout)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fast`: only tests that take less than a second each."""
    parser.addoption("--fast", action="store_true", help="only tests of less than a second each")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; with `--fast`, none of the slow tests."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
    if config.getoption("fast"):
        slow = [item for item in items if _is_slow(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


def _is_slow(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    file = "/".join(item.path.parts[-2:])
    return bool(item.get_closest_marker("slow") or fixtures & SLOW_FIXTURES or file in SLOW_FILES)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One loud line on tests that were skipped for want of a checkout, and how to run them."""
    skipped = terminalreporter.stats.get("skipped", [])
    wanting = [report for report in skipped if CHECKOUT_VARIABLE in str(report.longrepr)]
    if wanting:
        terminalreporter.write_line(
            f"NOT RUN: {len(wanting)} tests compare with MLPerf's own code and need a checkout of "
            f"mlcommons/inference: {CHECKOUT_VARIABLE}=FOLDER make test (docs/contributing.md)",
            yellow=True,
            bold=True,
        )
