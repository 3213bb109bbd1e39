"""Versions of the software that results depend on."""

from __future__ import annotations

import platform
from importlib import metadata

SCHEMA = 1  # of what this module writes into files; part of the code digest of rules that use it

PACKAGES = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "pytorch-fid",
    "numpy",
    "scipy",
    "pandas",
    "pillow",
    "safetensors",
    "pycocotools",
    "mlcommons-loadgen",
    "snakemake",
)


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, those that are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
