"""Labels of scoring networks: which one, its digest, and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2i.base.files import read_json, sha256_file


@dataclass(frozen=True)
class Network:
    """What a metric records about its network: name, sha256 of the weights, where these come from.

    `weights` is "published", "random" or "trained on drawn pictures".
    """

    name: str
    sha256: str
    weights: str


def weights_in_words(weights: str) -> str:
    """What a network has: random weights, weights trained on drawn pictures."""
    known = ("published", "random")
    return f"{weights} weights" if weights in known else f"weights {weights}"


def describe(folder: Path) -> Network:
    """The label of a network folder."""
    label = read_json(folder / "network.json")
    return Network(folder.name, sha256_file(folder / "model.safetensors"), label["weights"])
