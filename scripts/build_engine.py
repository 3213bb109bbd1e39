"""Build a variant's engine: weights at its number format, its patch, and its identity."""

from pathlib import Path

from t2i.base.files import publish_folder
from t2i.engine.build import build_engine
from t2i.engine.variant import Variant
from t2i.job.job import job

with job(snakemake):
    folder = Path(snakemake.output.manifest).parent
    with publish_folder(folder) as part:
        manifest = build_engine(
            Path(snakemake.params.model),
            part,
            Variant(**snakemake.params.variant),
            Path(snakemake.input.unet) if snakemake.input.unet else None,
            Path(snakemake.input.scales) if snakemake.input.scales else None,
        )
    print(f"engine {manifest['digest']}")
