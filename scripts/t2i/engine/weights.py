"""Networks from safetensors files: verified as they are read, straight to the device.

A piece of a file is read once, by one of several threads, into a buffer (page-locked for a GPU);
it is hashed there and copied from there, so the bytes that were verified are the bytes that run.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import hashlib
import json
import math
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from t2i.base.files import sha256_bytes

PIECE = 1 << 24  # bytes; a part of every digest that is taken here
MOST_THREADS = 16  # each holds one piece
PREFIX = "text_model."  # of the names in published files of CLIPTextModel, once a module of it
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


Fits = TypeVar("Fits", Tensor, "Stored")


class WeightsError(RuntimeError):
    """A file of weights is damaged, or does not fit its network."""


class Target(NamedTuple):
    """Where the bytes `start` to `stop` of a file belong: a flat uint8 tensor."""

    start: int
    stop: int
    content: Tensor


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file; its data are the bytes `start` to `stop` of the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> list[Stored]:
    """Tensors of a safetensors file in the order of their data.

    Raises WeightsError unless the tensors fill the file from the header to its end without gaps
    and overlaps, which is what the format demands.
    """
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            length = int.from_bytes(handle.read(8), "little")
            if length > size - 8:
                raise ValueError("its header is cut off")
            header = json.loads(handle.read(length))
        header.pop("__metadata__", None)
        end = 8 + length
        stored = []
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            dtype, shape = TYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
            fits = stop - start == math.prod(shape) * dtype.itemsize and min(shape, default=0) >= 0
            if start != end or not fits:
                raise ValueError(f"the place or shape of {name} is wrong")
            stored.append(Stored(name, dtype, shape, start, stop))
            end = stop
        if end != size:
            raise ValueError(f"it has {size} bytes, but its header says {end}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from error
    return stored


def digest_files(paths: Iterable[Path]) -> dict[Path, str]:
    """Digest of each file: sha256 over the hex sha256 of its 16 MiB pieces, one a line.

    In a shell: `split -b 16M --filter=sha256sum FILE | cut -c-64 | sha256sum`. Unlike the sha256 of
    the whole file it is taken on all cores, so that an engine can be verified at every start.
    """
    return _digests(((path, []) for path in paths), "cpu")


def load_files(
    paths: Iterable[Path], device: str
) -> tuple[dict[Path, dict[str, Tensor]], dict[Path, str]]:
    """Tensors of safetensors files on a device, and digests of the bytes they were made of.

    The digests are those of `digest_files`; the caller compares them before it uses the tensors.
    Raises WeightsError for what is not a complete safetensors file.
    """
    tensors: dict[Path, dict[str, Tensor]] = {}

    def targets() -> Iterator[tuple[Path, list[Target]]]:
        for path in paths:
            stored = read_header(path)
            tensors[path] = {
                entry.name: torch.empty(entry.shape, dtype=entry.dtype, device=device)
                for entry in stored
            }
            yield (
                path,
                [
                    Target(entry.start, entry.stop, _content(tensors[path][entry.name]))
                    for entry in stored
                ],
            )

    digests = _digests(targets(), device)
    return tensors, digests


def _content(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _digests(files: Iterable[tuple[Path, list[Target]]], device: str) -> dict[Path, str]:
    """Digests of files, each of whose bytes is copied to its target on the way.

    The targets of a file are in the order of their places. The next file is asked for while the
    pieces of the ones before it are being read.
    """
    threads = min(MOST_THREADS, len(os.sched_getaffinity(0)))
    own = threading.local()

    def prepare() -> None:
        pinned = torch.device(device).type == "cuda"
        own.buffer = torch.empty(PIECE, dtype=torch.uint8, device="cpu", pin_memory=pinned)

    def take(descriptor: int, start: int, targets: list[Target]) -> str:
        view = memoryview(own.buffer.numpy())
        count = 0
        while count < PIECE and (more := os.preadv(descriptor, [view[count:]], start + count)):
            count += more
        for first, last, content in targets:
            begin, end = max(first, start), min(last, start + PIECE)
            content[begin - first : end - first].copy_(own.buffer[begin - start : end - start])
        return hashlib.sha256(view[:count]).hexdigest()

    pieces: dict[Path, list[Future[str]]] = {}
    with ExitStack() as opened, ThreadPoolExecutor(threads, initializer=prepare) as pool:
        for path, targets in files:
            descriptor = opened.enter_context(path.open("rb")).fileno()
            starts = [target.start for target in targets]
            stops = [target.stop for target in targets]
            pieces[path] = [
                pool.submit(
                    take,
                    descriptor,
                    start,
                    targets[bisect_right(stops, start) : bisect_left(starts, start + PIECE)],
                )
                for start in range(0, os.fstat(descriptor).st_size, PIECE)
            ]
    return {
        path: sha256_bytes("".join(f"{piece.result()}\n" for piece in futures).encode())
        for path, futures in pieces.items()
    }


def empty_network(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network of diffusers or transformers by its config in `folder`, without any weights.

    Its parameters and buffers take no memory ("meta" tensors) until `fill_network`; `dtype` is what
    the config will say of them.
    """
    with torch.device("meta"):
        if hasattr(kind, "load_config"):  # diffusers, whose configs do not tell
            return kind.from_config(kind.load_config(folder, local_files_only=True))
        config = kind.config_class.from_pretrained(folder, dtype=dtype, local_files_only=True)
        return kind(config)


def joined(files: Mapping[Path, Mapping[str, Fits]]) -> dict[str, Fits]:
    """The tensors of a network's files; raises WeightsError for one that is in two of them."""
    tensors: dict[str, Fits] = {}
    for path, more in files.items():
        if twice := tensors.keys() & more.keys():
            source = ", ".join(map(str, files))
            raise WeightsError(f"{path}: {min(twice)} is also in another file of {source}")
        tensors.update(more)
    return tensors


def fitted(network: Any, files: Mapping[Path, Mapping[str, Fits]]) -> dict[str, Fits]:
    """The tensors of a network's files, or what has their shapes, by the network's names.

    Every tensor has to be there once, with the shape that the config asks for, and no other. Names
    may all have the published files' `PREFIX` besides. Raises WeightsError, which names the files
    and the first tensors that do not fit.
    """
    source = ", ".join(map(str, files))
    tensors = joined(files)
    expected = network.state_dict()
    if not expected.keys() & tensors.keys():
        tensors = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    problems = {
        "missing": expected.keys() - tensors.keys(),
        "unexpected": tensors.keys() - expected.keys(),
        "of another shape": {
            name
            for name in expected.keys() & tensors.keys()
            if tuple(expected[name].shape) != tuple(tensors[name].shape)
        },
    }
    found = [
        f"{len(names)} {what}: {', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)}"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise WeightsError(
            f"{source}: tensors do not fit the {type(network).__name__} of config.json beside it "
            f"({'; '.join(found)})"
        )
    return tensors


def fill_network(network: Any, files: Mapping[Path, Mapping[str, Tensor]]) -> None:
    """Give an empty network the tensors of its files, and put it into evaluation mode.

    Raises WeightsError where they do not fit.
    """
    source = ", ".join(map(str, files))
    tensors = fitted(network, files)
    network.load_state_dict(tensors, assign=True)
    for name, buffer in list(network.named_buffers()):
        owner, _, leaf = name.rpartition(".")
        if buffer.is_meta and leaf != "position_ids":
            raise WeightsError(f"{source}: missing value for the buffer {name}")
        if buffer.is_meta:  # 0, 1, 2, ..., which is in no file
            device = next(network.parameters()).device
            positions = torch.arange(buffer.numel(), device=device).expand(buffer.shape)
            network.get_submodule(owner).position_ids = positions
    network.eval()
