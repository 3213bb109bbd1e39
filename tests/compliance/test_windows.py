"""Demo windows: MLPerf's margins around the reference's scores, as the configuration reads them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from t2i.base.files import write_json
from t2i.compliance.windows import MARGINS, PIXELS, demo_windows, reference_name
from t2i.mlperf import CLOSED_WINDOWS

PROJECT = Path(__file__).parents[2]
REFERENCE = {"fid": 23.48046692, "clip": 31.74981837}  # MLPerf's own, of 5000 samples


def test_margins_are_those_of_mlperfs_windows():
    text = demo_windows({**REFERENCE, "samples": 5000}, Path("some/images"))
    windows = yaml.safe_load(text)["windows"]
    for key in MARGINS:
        assert windows[key] == pytest.approx(CLOSED_WINDOWS[key], rel=1e-6)
    assert windows["samples"] == 5000
    assert windows["images"] == "some/images"
    assert windows["image_difference"] == PIXELS
    assert "not MLPerf's" in windows["label"]


@pytest.mark.parametrize("name", ["config", "quality"])
def test_the_shipped_windows_have_these_margins_and_limits(name):
    windows = yaml.safe_load((PROJECT / f"config/{name}.yaml").read_text())["windows"]
    middle = {key: sum(windows[key]) / 2 for key in MARGINS}
    metrics = {**middle, "samples": windows["samples"]}
    again = yaml.safe_load(demo_windows(metrics, Path(windows["images"])))["windows"]
    for key in MARGINS:
        assert again.pop(key) == pytest.approx(windows.pop(key), abs=2e-6)
    assert again == windows


def test_the_script_keeps_the_images_and_prints_the_windows(tmp_path):
    images = tmp_path / "results/mine/fp32/compliance_images"
    images.mkdir(parents=True)
    (images / "7.png").write_bytes(b"seven")
    (images / "captions.txt").write_text("7  a caption\n")
    write_json(images.parent / "metrics.json", {**REFERENCE, "samples": 16})
    folder = tmp_path / "models/micro-sdxl/reference_images"
    folder.mkdir(parents=True)
    (folder / reference_name(3)).touch()
    for part in ("scripts", "tools"):
        shutil.copytree(PROJECT / part, tmp_path / part)
    command = [sys.executable, "tools/pin_windows.py", "results/mine/fp32"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    windows = yaml.safe_load(done.stdout)["windows"]
    assert windows["samples"] == 16
    assert windows["images"] == "models/micro-sdxl/reference_images"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"00007.png": b"seven"}
