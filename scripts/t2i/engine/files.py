"""The files of an engine: every byte is verified while it goes to the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from t2i.engine.manifest import SCALES, EngineError, read_manifest, refusal
from t2i.engine.weights import WeightsError, digest_files, load_files


def open_engine(folder: Path) -> tuple[dict[str, Any], dict[Path, str]]:
    """An engine's manifest, and the digests that its files of weights must have.

    All its other files were verified. Raises EngineError for what differs from the manifest, and
    for a stand-in, which has no weights.
    """
    manifest, expected = _manifest(folder)
    if manifest["stand_in"] is not None:
        raise EngineError(
            f"{folder} is a stand-in without a model; t2i.engine.painter draws its pictures"
        )
    weights = {path: told for path, told in expected.items() if path.suffix == ".safetensors"}
    _compare(folder, digest_files(expected.keys() - weights.keys()), expected)
    return manifest, weights


def read_weights(
    folder: Path, expected: dict[Path, str], device: str
) -> dict[str, dict[Path, dict[str, Tensor]]]:
    """Tensors on a device, by network, file and name.

    Every byte is hashed at every start, on its way to the device: a note of an earlier check would
    not see a disk that returns other bits. Raises EngineError for what is not as `expected`.
    """
    paths = sorted(expected, key=lambda path: path.stat().st_size, reverse=True)
    try:
        tensors, digests = load_files(paths, device)
    except WeightsError:
        verify_engine(folder)  # a file that has changed is called that, not merely damaged
        raise
    _compare(folder, digests, expected)
    networks: dict[str, dict[Path, dict[str, Tensor]]] = {}
    for path in sorted(paths):
        networks.setdefault(path.parent.name, {})[path] = tensors[path]
    return networks


def verify_engine(folder: Path) -> dict[str, Any]:
    """An engine's manifest, once every file of it has the digest named there.

    Raises EngineError that names the file which does not.
    """
    manifest, expected = _manifest(folder)
    _compare(folder, digest_files(expected), expected)
    return manifest


def _manifest(folder: Path) -> tuple[dict[str, Any], dict[Path, str]]:
    """An engine's manifest, and the digest that each of its files must have."""
    manifest = read_manifest(folder)
    digests = {
        folder / "weights" / name: facts["digest"] for name, facts in manifest["weights"].items()
    }
    if manifest["patch"] is not None:
        digests[folder / "patch.py"] = manifest["patch"]["digest"]
    if manifest["fp8"] is not None:
        digests[folder / SCALES] = manifest["fp8"]["scales"]
    for path in digests:
        if not path.is_file():
            raise refusal(path, folder)
    return manifest, digests


def _compare(folder: Path, found: dict[Path, str], expected: dict[Path, str]) -> None:
    for path, digest in found.items():
        if digest != expected[path]:
            raise refusal(path, folder)
