"""A process of a training, as torchrun starts it: python -m t2i.training.rank REQUEST.json.

The request (JSON) names the data (`tars`, `indices`, `hidden`), the frozen text encoder
(`tokenizer`, `encoder`) unless captions are encoded ahead, the UNet's `sizes`, `settings`, where
checkpoints go (`folder`), and what changes no number but speed (`parallel`, `compile`, `workers`,
`rows`).
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, Dataset

from t2i.base.files import read_json
from t2i.base.numerics import set_up_torch
from t2i.job.device import describe_device
from t2i.job.parent import die_with_scheduler
from t2i.job.software import software_versions
from t2i.training.averaging import share_weights
from t2i.training.checkpoints import write_manifest
from t2i.training.encodings import Encodings
from t2i.training.layout import keep_channels_last
from t2i.training.steps import rows_of_step
from t2i.training.tars import Samples, read_index
from t2i.training.text import TextEncoder
from t2i.training.trainer import Batch, Place, Settings, Training
from t2i.training.unet import sd2_unet


class _Rows(Dataset[tuple[Tensor, Any]]):
    """Moments of a row's latent with its caption, encoded or as text."""

    def __init__(self, samples: Samples, encodings: Encodings | None) -> None:
        self.samples, self.encodings = samples, encodings

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[Tensor, Any]:
        moments, caption = self.samples.moments(row)
        if self.encodings is None:
            return torch.tensor(moments), caption
        return torch.tensor(moments), torch.from_numpy(self.encodings[self.samples.place(row)])


class _Steps:
    """Rows of this process for each step from `first` on."""

    def __init__(self, count: int, settings: Settings, place: Place, first: int) -> None:
        self.count, self.settings, self.place, self.first = count, settings, place, first

    def __iter__(self) -> Iterator[list[int]]:
        own = self.settings.batch // self.place.world
        for step in range(self.first, self.settings.steps):
            rows = rows_of_step(self.count, self.settings.seed, step, self.settings.batch)
            yield rows[self.place.rank * own :][:own].tolist()


def batches(
    request: dict[str, Any], samples: Samples, settings: Settings, place: Place, first: int
) -> Iterator[Batch]:
    """Moments and hidden states of this process's part of each step, on its device."""
    ahead = bool(request["hidden"])
    encodings = Encodings([Path(path) for path in request["hidden"]]) if ahead else None
    text = None
    if not ahead:
        text = TextEncoder(Path(request["tokenizer"]), Path(request["encoder"]), place.device)
    on_gpu = place.device.startswith("cuda")
    loader = DataLoader(
        _Rows(samples, encodings),
        batch_sampler=_Steps(len(samples), settings, place, first),
        num_workers=request["workers"],
        pin_memory=on_gpu,
    )
    for moments, captions in loader:
        hidden = text(list(captions)) if text else captions.to(place.device, non_blocking=True)
        yield moments.to(place.device, non_blocking=True), hidden.float()


def prepared_network(
    request: dict[str, Any], settings: Settings, place: Place
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The network as it is stepped through (compiled, in parallel), and as it is saved."""
    plain = sd2_unet(request["sizes"], seed=settings.seed).to(place.device)
    plain.train()
    sharded = place.world > 1 and request["parallel"] == "fsdp"
    if place.world > 1 and not sharded:
        share_weights(plain)
    if place.device.startswith("cuda"):
        if not sharded:  # parts of a parameter have to be contiguous
            keep_channels_last(plain)
        torch.backends.cuda.matmul.allow_tf32 = settings.precision != "fp32"
        torch.backends.cudnn.allow_tf32 = settings.precision != "fp32"
    if sharded:
        shard(plain, place)
    mode = request["compile"]
    network: Any = torch.compile(plain, mode=mode) if mode else plain
    return network, plain


def shard(network: torch.nn.Module, place: Place) -> None:
    """Share weights, gradients and AdamW's moments out over all processes (FSDP2)."""
    mesh = init_device_mesh(place.device.partition(":")[0], (place.world,))
    for block in network.modules():
        if isinstance(block, ResnetBlock2D | Transformer2DModel):
            fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def train(request: dict[str, Any], place: Place) -> None:
    """Train as the request says; the first process writes the manifest at the end."""
    settings = Settings(**request["settings"])
    network, plain = prepared_network(request, settings, place)
    training = Training(network, plain, settings, place, Path(request["folder"]))
    training.event("INTERVAL_START", "init_start", None)
    resumed = training.resume()
    tars = [Path(path) for path in request["tars"]]
    samples = Samples(tars, [read_index(Path(path)) for path in request["indices"]])
    height, width = (int(side) for side in samples.indices[0].shape[1:])
    if not resumed:
        training.event("INTERVAL_END", "init_stop", None)
        training.event("INTERVAL_START", "run_start", None)
    given = batches(request, samples, settings, place, training.step)
    if training.step < settings.steps:
        training.train(given, (height, width), request["rows"])
    if place.rank == 0:
        steps = list(range(settings.interval, settings.steps, settings.interval))
        facts = {
            "settings": asdict(settings),
            "sizes": request["sizes"],
            "samples": len(samples),
            "processes": place.world,
            "device": describe_device("cuda" if place.device != "cpu" else "cpu"),
            "software": software_versions(),
            "curve": training.curve,
            "events": training.events,
        }
        folder = Path(request["folder"])
        write_manifest(folder / "training.json", folder, facts, [*steps, settings.steps])


def main() -> None:
    """Find this process's place by torchrun's variables, and train."""
    die_with_scheduler()
    request = read_json(Path(sys.argv[1]))
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    set_up_torch(request["threads"])
    device = "cpu"
    if request["device"] == "cuda":
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if device != "cpu" else "gloo")
    try:
        train(request, Place(rank, world, device))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
