"""A run elsewhere, under other circumstances, makes the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest

from workflow_run import SHARDS, Workplace, copy_project

TARGETS = ("metrics.json", "influence.npz", "compliance_images")
SAME_BYTES = (
    "resources/pictures/captions.tsv",
    "resources/pictures/sample_ids.txt",
    "resources/pictures/tokens.micro-sdxl.npz",
    "resources/micro-inception/model.safetensors",
)
OTHERWISE = ("sh", "-c", 'umask 077; unset HOME; exec "$@"', "sh")


def features(folder: Path) -> dict[str, np.ndarray]:
    """All features of a variant in index order, regardless of the shards."""
    parts = [np.load(path) for path in sorted((folder / "features").glob("*.npz"))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}


@pytest.mark.slow
def test_a_folder_whose_name_snakemake_cannot_take_is_refused(tmp_path):
    place = Workplace(copy_project(tmp_path / "a {folder}"))
    said = place.snakemake("--dry-run", succeeds=False)
    assert "has braces, which Snakemake takes for its own; move the project" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_run_under_other_circumstances_makes_the_same_bytes(finished, tmp_path):
    """Another folder, with blanks and an umlaut, another umask, locale and number of threads in the
    environment, no home, shards cut otherwise, one job at a time."""
    other = Workplace(copy_project(tmp_path / "a földer with blanks"))
    other.snakemake(
        *(f"results/tiny/fp32/{name}" for name in TARGETS),
        overlay={"shard_size": 4},
        cores=1,
        before=OTHERWISE,
        LANG="C",
        LC_ALL="C",
        OMP_NUM_THREADS="2",
        MKL_NUM_THREADS="2",
    )
    one, two = (place.folder / "results/tiny/fp32" for place in (finished, other))
    assert {path.stem for path in (two / "shards").glob("*.json")}.isdisjoint(SHARDS)
    assert other.images("fp32") == finished.images("fp32")
    assert len(other.images("fp32")) == 6
    for name in SAME_BYTES:
        assert (other.folder / name).read_bytes() == (finished.folder / name).read_bytes(), name
    for name in sorted(path.name for path in (one / "compliance_images").iterdir()):
        ours, theirs = (folder / "compliance_images" / name for folder in (two, one))
        if not name.startswith("."):
            assert ours.read_bytes() == theirs.read_bytes(), name
    assert (two / "influence.npz").read_bytes() == (one / "influence.npz").read_bytes()
    ours, theirs = features(two), features(one)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    timed = ("speed",)
    found, wanted = (json.loads((folder / "metrics.json").read_text()) for folder in (two, one))
    assert {key: value for key, value in found.items() if key not in timed} == {
        key: value for key, value in wanted.items() if key not in timed
    }
    modes = {path.stat().st_mode & 0o077 for path in (two / "shards").iterdir()}
    assert modes == {0}, "the umask held"
