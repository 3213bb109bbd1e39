"""Compiled kernels of a native engine: made once for a GPU model and software, used by every job.

`compiled/` beside the engine holds `kernels.tar`, Triton's cache after a first image, and
`compiled.json` with its digest and what it was made for. A job takes a private copy, and Triton
looks kernels up there by the digest of source, settings and architecture. What is missing, because
the GPU or the software is another, is compiled by the job itself.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from t2i.base.files import publish, read_json, sha256_file, write_json
from t2i.engine.manifest import EngineError
from t2i.job.device import describe_device

LOG = logging.getLogger(__name__)

KERNELS, MANIFEST = "kernels.tar", "compiled.json"
CACHE_VARIABLE = "TRITON_CACHE_DIR"
GROUP = "__grp__"  # begins the name of Triton's list of the files of a kernel


def compiled_folder(engine: Path) -> Path:
    """Where the compiled kernels of the engine in a folder are."""
    return engine.with_name("compiled")


def target() -> dict[str, Any]:
    """What kernels are compiled for: this GPU's model and architecture, torch and Triton."""
    import torch

    versions = {name: metadata.version(name) for name in ("torch", "triton")}
    return {**describe_device("cuda"), **versions, "cuda": torch.version.cuda}


def write_compiled(engine: Path, digest: str, cache: Path, batch_sizes: Sequence[int]) -> None:
    """Publish Triton's cache as the compiled kernels of an engine with that digest."""
    folder = compiled_folder(engine)
    with publish(folder / KERNELS) as part, tarfile.open(part, "w") as archive:
        for path in sorted(path for path in cache.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(path.relative_to(cache).as_posix())
            content = _placed(path, Path()) if path.name.startswith(GROUP) else path.read_bytes()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    manifest = {
        "schema": 1,
        "engine": digest,
        "target": target(),
        "batch_sizes": sorted(batch_sizes),
        "kernels": {
            "size": (folder / KERNELS).stat().st_size,
            "sha256": sha256_file(folder / KERNELS),
        },
    }
    write_json(folder / MANIFEST, manifest)


def use_compiled(engine: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a private copy of an engine's compiled kernels Triton's cache, and return its folder.

    To be called before the first kernel runs. The copy goes with the returned object. Raises
    EngineError where the kernels are not those of their manifest.
    """
    private = tempfile.TemporaryDirectory(prefix="t2i-kernels-")
    os.environ[CACHE_VARIABLE] = private.name
    folder = compiled_folder(engine)
    if not (folder / MANIFEST).is_file():
        return private
    manifest = read_json(folder / MANIFEST)
    made_for, here = manifest["target"], target()
    if made_for != here:
        LOG.warning(
            "%s is for %s, this is %s; this job compiles its kernels itself (about a minute). "
            "Delete the folder to have them compiled once for all jobs on this GPU model",
            folder,
            _in_words(made_for),
            _in_words(here),
        )
        return private
    kernels = folder / KERNELS
    if not kernels.is_file() or sha256_file(kernels) != manifest["kernels"]["sha256"]:
        raise EngineError(f"{kernels} has changed since it was made; delete {folder} and run again")
    with tarfile.open(kernels) as archive:
        archive.extractall(private.name, filter="data")
    for path in Path(private.name).rglob(f"{GROUP}*"):
        path.write_bytes(_placed(path, path.parent))
    return private


def _placed(path: Path, folder: Path) -> bytes:
    """Triton's list of a kernel's files, which names their places, with `folder` as their place.

    Triton looks for them there and nowhere else, and compiles the kernel anew where they are not.
    """
    listed = read_json(path)
    listed["child_paths"] = {name: str(folder / name) for name in listed["child_paths"]}
    return json.dumps(listed).encode()


def _in_words(machine: dict[str, Any]) -> str:
    return ", ".join(f"{key} {machine[key]}" for key in ("name", "arch", "torch", "triton", "cuda"))
