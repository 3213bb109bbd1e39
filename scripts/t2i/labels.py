"""Labels of scoring networks: which one, its digest, and whether its weights mean anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2i.files import read_json, sha256_file


@dataclass(frozen=True)
class Network:
    """What a metric says of its network: name, sha256 of the weights, published or random."""

    name: str
    sha256: str
    weights: str


def describe(folder: Path) -> Network:
    """The label of a network folder."""
    label = read_json(folder / "network.json")
    return Network(folder.name, sha256_file(folder / "model.safetensors"), label["weights"])
