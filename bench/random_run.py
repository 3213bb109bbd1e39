"""The whole fast run at SDXL's full size, where there are no weights: random ones, short tests.

Writes a model with random weights, and a configuration that leads it through config/fast.yaml:
calibration, fp8 engine, shards, LoadGen's scenarios and audits, report. Then run

    snakemake --configfile FOLDER/config.yaml --cores all

Speeds are those of the real model. Images are noise, and so is every score.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from load_speed import write_model

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
MODEL = "random-sdxl"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the model (7 GB) and the configuration")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--time", type=float, default=10.0, help="seconds of LoadGen's tests")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--small", action="store_true", help="a micro SDXL, to try the script")
    return parser.parse_args()


def table_with(model: Path) -> dict[str, Any]:
    """The table of inputs, and the files of the model."""
    from t2i.base.files import file_table

    table: dict[str, Any] = yaml.safe_load((ROOT / "config/sources.yaml").read_text())
    table[MODEL] = {
        "licence": "random weights in SDXL's layout",
        "address": f"file:{model}/{{path}}",
        "files": file_table(model),
    }
    return table


def configuration(options: argparse.Namespace, sources: Path) -> dict[str, Any]:
    """config/fast.yaml with other inputs, fewer samples and short tests."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/fast.yaml").read_text())
    config["variants"]["fp8"]["fp8"] = {"captions": 8}
    return config | {
        "run": "random",
        "division": "open",
        "sources": str(sources),
        "dataset": "pictures",
        "model": MODEL,
        "samples": options.samples,
        "shard_size": max(1, options.samples // 2),
        "device": options.device,
        "scores": {
            "inception": "micro-inception",
            "clip": "micro-clip",
            "reference": {"images": "models/micro-sdxl/reference_images"},
        },
        "windows": {
            "label": "none: random weights",
            "samples": options.samples,
            "fid": [0, 100_000],
            "clip": [-100, 100],
        },
        "loadgen": config["loadgen"] | {"time": options.time, "count": options.samples},
    }


def main() -> None:
    """Write the model, the table of inputs and the configuration."""
    options = arguments()
    folder = options.folder.resolve()
    model = folder / MODEL
    if not (folder / "sources.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_model(model, "fp16", options.small, options.device)
        (folder / "sources.json").write_text(json.dumps(table_with(model), indent=1))
    config = configuration(options, folder / "sources.json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    print(f"snakemake --configfile {folder / 'config.yaml'} --cores all")


if __name__ == "__main__":
    main()
