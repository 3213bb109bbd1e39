"""Compile a native engine's kernels by painting a first image at every batch size that is used."""

import os
from pathlib import Path

from t2i.base.files import read_json
from t2i.engine.compiled import CACHE_VARIABLE, compiled_folder, write_compiled
from t2i.job.device import use_device
from t2i.job.job import job

with job(snakemake):
    engine = Path(snakemake.input.engine).parent
    settings = read_json(Path(snakemake.input.engine))
    with use_device(settings["device"], settings["threads"]) as device:
        from t2i.engine.painter import load_painter

        for older in compiled_folder(engine).glob("*.json"):
            older.unlink()  # so that everything is compiled again
        painter, manifest = load_painter(
            engine, Path(snakemake.input.tokens), Path(snakemake.input.latents), device
        )
        for batch_size in snakemake.params.batch_sizes:
            painter.paint(range(1), batch_size)
            print(f"compiled for batches of {batch_size}")
        write_compiled(
            engine,
            manifest["digest"],
            Path(os.environ[CACHE_VARIABLE]),
            snakemake.params.batch_sizes,
        )
