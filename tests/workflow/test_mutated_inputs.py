"""Whatever a reader finds in a file, it returns something or says which file is wrong.

What verifies what it reads returns the right content or refuses. T2I_MUTANTS says how many changed
files each reader gets: docs/reliability.md names a run with 10,000.
"""

from __future__ import annotations

import t2i.job.torch_shim  # noqa: F401

import json
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from loadgen_runs import stand_in_test
from mutants import changed_value, mutant
from t2i.base.files import read_json, write_json
from t2i.base.yaml import ConfigError, read_yaml
from t2i.config.check import checked_config
from t2i.engine.files import verify_engine
from t2i.engine.fp8.scales import read_scales
from t2i.engine.latents import read_latent
from t2i.engine.manifest import EngineError
from t2i.engine.weights import WeightsError, load_files, read_header
from t2i.fetch import image_sets, published
from t2i.fetch.table import read_sources
from t2i.generate.read import read_references
from t2i.generate.shard import read_manifest, read_shard
from t2i.job import records
from t2i.loadgen import accuracy_log
from t2i.loadgen.conf import read_conf
from t2i.loadgen.logs import read_detail, read_summary
from t2i.loadgen.run import run_test
from t2i.metrics.features import read_features
from t2i.metrics.fid import Moments, read_moments, write_moments
from t2i.metrics.reference import read_part
from t2i.micro.page import read_grid
from t2i.prompts.annotations import read_annotations
from t2i.prompts.captions import read_captions, read_sample_ids
from t2i.prompts.tokens import read_tokens
from t2i.submission.checks.findings import read_text
from t2i.submission.checks.truncated_log import read_truncated
from t2i.training import mllog, tars
from workflow_run import PROJECT, Workplace

pytestmark = pytest.mark.slow
NUMBER = int(os.environ.get("T2I_MUTANTS", "60"))
SEED = 7
RUN = Path("results/tiny")
MEMORY = 1 << 35  # bytes of addresses; a header that asks for more is to be an error, not a crash


@dataclass(frozen=True)
class Reader:
    """What reads a file of a run; `exact`: it verifies, so it never returns another content."""

    file: str
    kind: str
    read: Callable[[Path], Any]
    exact: bool = False


def manifest_of(tar: Path) -> Path:
    return tar.with_suffix(".json")


READERS = {
    "json": Reader(f"{RUN}/fp32/metrics.json", "json", read_json),
    "yaml": Reader("config/config.yaml", "lines", read_yaml),
    "table of inputs": Reader(
        "config/sources.yaml", "lines", lambda path: sources_of(read_yaml(path), path)
    ),
    "captions": Reader("resources/pictures/captions.tsv", "lines", read_captions),
    "sample ids": Reader("resources/pictures/sample_ids.txt", "lines", read_sample_ids),
    "tokens": Reader("resources/pictures/tokens.micro-sdxl.npz", "npz", read_tokens),
    "latents": Reader("resources/pictures/latents.npy", "", lambda path: read_latent(path, 8)),
    "engine": Reader(
        f"{RUN}/fp32/engine/engine.json", "json", lambda path: verify_engine(path.parent), True
    ),
    "weights' header": Reader("made/network.safetensors", "", read_header),
    "weights": Reader("made/network.safetensors", "", lambda path: load_files([path], "cpu")),
    "scales": Reader("made/scales.json", "json", read_scales),
    "manifest": Reader(f"{RUN}/fp32/shards/00000-00003.json", "json", read_manifest, True),
    "shard": Reader(
        f"{RUN}/fp32/shards/00000-00003.tar",
        "",
        lambda path: [
            (sample, pixels.tobytes()) for sample, pixels in read_shard(path, manifest_of(path))
        ],
        True,
    ),
    "record": Reader(
        f"{RUN}/.records/fp32/metrics.json.json",
        "json",
        lambda _: records.read_record(RUN / "fp32/metrics.json"),
        True,
    ),
    "features": Reader(f"{RUN}/fp32/features/00000-00003.npz", "npz", read_features),
    "reference features": Reader("made/part.npz", "npz", read_part),
    "moments": Reader("made/moments.npz", "npz", read_moments),
    "summary": Reader("made/test/mlperf_log_summary.txt", "lines", read_summary),
    "detail": Reader("made/test/mlperf_log_detail.txt", "json lines", read_detail),
    "user.conf": Reader("made/test/user.conf", "lines", lambda path: read_conf(path, "Offline")),
    "accuracy log": Reader(
        "made/test/mlperf_log_accuracy.json",
        "json",
        lambda path: list(accuracy_log.read_log(path, 16 * 16 * 3)),
    ),
    "truncated log": Reader("made/truncated.json", "", read_truncated),
    "text": Reader("made/test/user.conf", "", read_text),
    "annotations": Reader("made/annotations.json", "json", read_annotations),
    "list of images": Reader("made/images.json", "json", image_sets.read_list),
    "list of files": Reader("made/list.txt", "lines", published.read_list),
    "training's log": Reader("made/result_0.txt", "json lines", mllog.read_log),
    "training's tar": Reader("made/samples.tar", "", lambda path: list(tars.read_samples(path))),
    "training's index": Reader("made/index.npz", "npz", tars.read_index),
    "grid": Reader("made/7.png", "", lambda path: read_grid(path, 10_000)),
    "reference image": Reader("made/7.png", "", lambda path: read_references([path])),
}


def sources_of(table: Any, path: Path) -> Any:
    """The table's inputs; its errors name entries, and the caller's say where the table is."""
    try:
        return read_sources(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def make(folder: Path, run: Path) -> None:
    """Files that the tiny run does not have."""
    folder.mkdir()
    test = stand_in_test(folder)
    run_test(replace(test, mode="accuracy"), folder / "test")
    accuracy_log.truncate(folder / "test/mlperf_log_accuracy.json", folder / "truncated.json")
    choose = np.random.default_rng(1)
    write_moments(folder / "moments.npz", Moments(9, choose.random(6), np.eye(6)))
    parts = (run / "resources/reference").glob("*/features*/*.npz")
    shutil.copyfile(next(parts), folder / "part.npz")
    save_file({"a": torch.ones(3, 4), "b": torch.zeros(2)}, folder / "network.safetensors")
    write_json(folder / "scales.json", {"scales": {"a.in": 0.5, "a.out": 2}})
    picture = Image.fromarray(choose.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    picture.save(folder / "7.png")
    caption = {"id": 5, "image_id": 3, "caption": "a red circle"}
    image = {"id": 3, "height": 16, "width": 16, "file_name": "3.jpg", "coco_url": "http://x/3"}
    write_json(folder / "annotations.json", {"annotations": [caption], "images": [image]})
    image_sets.write_list(
        folder / "images.json", [image_sets.Listed("7.png", 5, "0" * 64)], others=0
    )
    digest = "0" * 64
    (folder / "list.txt").write_text(f"{digest}  00000.tar\n{'1' * 64}  00001.tar\n")
    lines = [{"key": "run_start", "value": 1, "time_ms": 5}, {"key": "run_stop", "time_ms": 9}]
    (folder / "result_0.txt").write_text(
        "".join(f":::MLLOG {json.dumps(line)}\n" for line in lines)
    )
    content = {".txt": b"a circle", ".npy": tars.npy(np.ones((1, 8, 2, 2), dtype=np.float32))}
    tars.write_tar(folder / "samples.tar", [("0", content), ("1", content)])
    tars.write_index(folder / "index.npz", tars.index_tar(folder / "samples.tar"))


@pytest.fixture(scope="module")
def run(finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the finished run with one file for every reader."""
    folder = shutil.copytree(
        finished.folder, tmp_path_factory.mktemp("run") / "project", symlinks=True
    )
    make(folder / "made", folder)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limit[1]))
    with chdir(folder):
        yield folder
    resource.setrlimit(resource.RLIMIT_AS, limit)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_answers_or_names_the_file(name: str, run: Path) -> None:
    reader = READERS[name]
    path = Path(reader.file)
    whole = path.read_bytes()
    wanted = repr(reader.read(path))
    choose = random.Random(f"{SEED} {name}")
    refused, wrong = 0, []
    for _ in range(NUMBER):
        content = mutant(whole, reader.kind, choose)
        path.write_bytes(content)
        try:
            got = repr(reader.read(path))
        except (ValueError, EngineError, WeightsError) as error:
            refused += 1
            if path.name not in str(error) and path.name.removesuffix(".json") not in str(error):
                wrong.append((f"does not name the file: {error!r}", content))
        except Exception as error:
            wrong.append((f"{error!r}", content))
        else:
            if reader.exact and got != wanted:
                wrong.append(("accepted", content))
    path.write_bytes(whole)
    assert repr(reader.read(path)) == wanted
    print(f"{name}: {refused} of {NUMBER} refused, {len(wrong)} wrong")
    kinds = {text[:60]: (text, content[:3000]) for text, content in wrong}
    assert not kinds, "\n".join(f"{text}\n    {content!r}" for text, content in kinds.values())


def test_a_configuration_is_sound_or_explained(run: Path) -> None:
    """Values of other kinds and places, in the embedded and the official configuration."""
    schema = read_yaml(PROJECT / "config/schemas/config.schema.yaml")
    table = read_yaml(PROJECT / "config/sources.yaml")
    choose = random.Random(SEED)
    refused = 0
    configurations = [
        read_yaml(PROJECT / f"config/{name}.yaml")
        for name in ("config", "mlperf", "training_micro")
    ]
    for number in range(NUMBER):
        config = json.loads(json.dumps(configurations[number % len(configurations)]))
        changed = changed_value(config, choose)
        told = json.dumps(changed)
        try:
            checked_config(changed, schema, table)
        except ConfigError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{error!r}: {told}") from error
    assert refused > NUMBER / 2
