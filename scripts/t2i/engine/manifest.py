"""What an engine says of itself, read without loading torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2i.base.backends import REFERENCE
from t2i.base.files import read_json, sha256_json

# Options that do not count for an engine's identity at these values, so that an option which is
# added later changes no engine that does without it.
DEFAULTS: dict[str, Any] = {
    "patch": None,
    "stand_in": None,
    "backend": REFERENCE,
    "cache": None,
    "vae": None,
    "unet": None,
    "fp8": None,
}


SCHEMA = 1
SCALES = "scales.json"  # of an fp8 engine, in its folder


class EngineError(RuntimeError):
    """An engine cannot be built or is not what its manifest says."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the engine in `folder`, options at their defaults filled in.

    Raises EngineError when it was altered.
    """
    manifest = read_json(folder / "engine.json")
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise refusal(folder / "engine.json", folder)
    identity = {key: value for key, value in manifest.items() if key not in ("schema", "digest")}
    if manifest.get("digest") != sha256_json(identity):
        raise refusal(folder / "engine.json", folder)
    return {**DEFAULTS, **manifest}


def without_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a variant without those at their defaults."""
    return {
        key: value
        for key, value in options.items()
        if key not in DEFAULTS or value != DEFAULTS[key]
    }


def refusal(path: Path, folder: Path) -> EngineError:
    """The error for a file of the engine in `folder` that is not as it was built."""
    state = "has changed" if path.is_file() else "is missing"
    return EngineError(
        f"{path} {state} since the engine was built; delete {folder / 'weights'} and build it "
        f"again with `snakemake --cores all {folder / 'weights'}`"
    )
