"""Stand-ins for the published weights: their names and layouts, miniature or random content."""

import t2i.job.torch_shim  # noqa: F401

import functools
import hashlib
import http.server
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import open_clip
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from random_sdxl import write_random_sdxl
from t2i.fetch.table import read_sources
from t2i.metrics import networks
from t2i.micro.inception import write_micro_inception

SHIPPED = Path(__file__).parents[2] / "config" / "models" / "sdxl-base-1.0"
TABLE = SHIPPED.parents[1] / "sources.yaml"
INCEPTION = "inception-2015-12-05/pt_inception-2015-12-05-6726825d.pth"
CLIP = "clip-vit-b-32/ViT-B-32.pt"


class Node(nn.Module):
    """A module that only holds tensors and other modules."""


def openai_archive(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Save a TorchScript archive whose state is `state` and OpenAI's three whole numbers."""
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    root = Node()
    for name, value in {
        **state,
        **{key: torch.tensor(number) for key, number in numbers.items()},
    }.items():
        *parents, leaf = name.split(".")
        node: nn.Module = root
        for parent in parents:
            if parent not in dict(node.named_children()):
                node.add_module(parent, Node())
            node = getattr(node, parent)
        node.register_buffer(leaf, value)
    torch.jit.script(root).save(str(path))


def write_model(folder: Path) -> None:
    """A random SDXL under the published names of the fp16 weights."""
    write_random_sdxl(folder, SHIPPED)
    for path in sorted(folder.rglob("*.safetensors")):
        half = {name: value.half() for name, value in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()


def write_inception(path: Path) -> None:
    """A random Inception as pytorch-fid publishes its weights."""
    with tempfile.TemporaryDirectory() as folder:
        write_micro_inception(Path(folder))
        state = load_file(Path(folder, "model.safetensors"))
    torch.save({**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)


def write_clip(path: Path) -> None:
    """A random ViT-B/32 of full size as OpenAI publishes its weights."""
    torch.manual_seed(14)
    model = open_clip.create_model(networks.CLIP_ARCHITECTURE, pretrained=None)
    buffers = dict(model.named_buffers())
    state = {
        name: value.half() for name, value in model.state_dict().items() if name not in buffers
    }
    openai_archive(path, state)


def write_statistics(path: Path) -> None:
    """Mean and covariance of as many random features as make a covariance of full rank."""
    features = np.random.default_rng(15).standard_normal((2100, 2048))
    np.savez(path, mu=features.mean(axis=0), sigma=np.cov(features, rowvar=False))


def write_stand_ins(folder: Path, shared_data: Path) -> None:
    """A mirror of all that the official configuration uses, and its table sources.yaml."""
    for name in ("coco2014", "sdxl-base-1.0", INCEPTION.split("/")[0], CLIP.split("/")[0]):
        (folder / name).mkdir(parents=True)
    for name in ("captions_source.tsv", "latents.npy", "sample_ids.txt"):
        shutil.copyfile(shared_data / "coco2014" / name, folder / "coco2014" / name)
    write_statistics(folder / "coco2014/val2014.npz")
    write_model(folder / "sdxl-base-1.0")
    write_inception(folder / INCEPTION)
    write_clip(folder / CLIP)
    published = yaml.safe_load(TABLE.read_text())
    table = {
        group: {
            "licence": "made by a test",
            "address": "http://127.0.0.1:9/{path}",  # where nobody answers
            "files": {
                file: _facts(folder / group / file, file in published["coco2014"]["files"])
                for file in entry["files"]
                if (folder / group / file).exists()
            },
        }
        for group, entry in published.items()
    }
    assert set(read_sources(table)) == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    }
    (folder / "sources.yaml").write_text(yaml.safe_dump(table))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface while the block runs; its address."""
    handler = functools.partial(Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


class Silent(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing of it."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _facts(path: Path, by_git: bool) -> dict[str, str | int]:
    """Size and digest of a file for a table of inputs."""
    data = path.read_bytes()
    if by_git:
        header = b"blob %d\0" % len(data)
        return {"git_blob": hashlib.sha1(header + data, usedforsecurity=False).hexdigest()}
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
