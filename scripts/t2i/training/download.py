"""Images of a piece of LAION's metadata, downloaded by img2dataset, as one tar of samples."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.base.files import read_json
from t2i.training.metadata import ADDITIONAL, CAPTION, URL
from t2i.training.tars import read_samples, write_tar

PROGRAM = "img2dataset"
THREADS = 64  # that download
LEAST = 0.25  # of a piece's images; a network that is down brings hardly any
DIGITS = 5  # of a tar's number, with which the names of its samples begin


class DownloadFailed(RuntimeError):
    """img2dataset is not here, has failed, or brought too little."""


def download_images(piece: Path, tar: Path, rows: int) -> dict[str, Any]:
    """Download a piece's images to `tar`, whole or not at all, and return img2dataset's counts.

    Options are those that MLPerf's set was made with: original size, 64 threads, JPEG. `piece` is a
    Parquet file of at most `rows` rows. Samples come in the order of the rows, whatever order they
    arrived in, and their names begin with the tar's. Raises DownloadFailed.
    """
    folder = tar.with_suffix(".downloading")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _run(piece, folder, rows)
        found, counts = folder / "00000.tar", folder / "00000_stats.json"
        if not found.exists() or not counts.exists():
            raise DownloadFailed(f"{PROGRAM} made no tar of {piece}; its messages stand above")
        told: dict[str, Any] = read_json(counts)
        if told["successes"] < LEAST * told["count"]:
            reasons = sorted(told["status_dict"].items(), key=lambda item: -item[1])
            shown = ", ".join(f"{name} ({number})" for name, number in reasons[:3])
            raise DownloadFailed(
                f"{told['successes']} of {told['count']} images of {piece} came, less than "
                f"{LEAST:.0%}: {shown}. Look at the network, and run again"
            )
        write_tar(tar, _named(found, tar.stem))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return told


def _run(piece: Path, folder: Path, rows: int) -> None:
    beside = str(Path(sys.executable).parent)  # its own environment comes first
    program = shutil.which(PROGRAM, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if program is None:
        raise DownloadFailed(
            f"{PROGRAM} is not here: run with --sdm conda or --sdm apptainer, or install it in an "
            "environment of its own (envs/laion.yaml has its versions) and put that into PATH"
        )
    command = [
        *(program, f"--url_list={piece}", "--input_format=parquet"),
        *(f"--url_col={URL}", f"--caption_col={CAPTION}"),
        f"--save_additional_columns={list(ADDITIONAL)}",
        *("--resize_mode=no", "--output_format=webdataset", f"--output_folder={folder}"),
        *("--processes_count=1", f"--thread_count={THREADS}", f"--number_sample_per_shard={rows}"),
        "--enable_wandb=False",
    ]
    # What it loads would ask the network whether there is a newer version of it.
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    returned = subprocess.run(command, env=environment, check=False).returncode
    if returned:
        raise DownloadFailed(f"{PROGRAM} ended with {returned}; its messages stand above")


def _named(path: Path, tar: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of img2dataset's tar, under the names that they have in the set."""
    for stem, given in read_samples(path):
        name = tar + stem[DIGITS:]
        facts = {**json.loads(given[".json"]), "key": name}
        yield name, {**given, ".json": json.dumps(facts).encode()}
