"""Paired differences of FID and CLIP between the first variant and each other one."""

from pathlib import Path

from t2i.base.arrays import read_arrays
from t2i.base.files import read_json, write_json
from t2i.base.images import decode_png
from t2i.generate.shard import read_manifest
from t2i.job.job import job
from t2i.metrics.compare import compare, identical_images, mean_absolute_difference
from t2i.metrics.scores import SCHEMA


def read_folder(path):
    """Pixels of all PNGs in a folder, by name."""
    return {file.name: decode_png(file.read_bytes()) for file in Path(path).glob("*.png")}


with job(snakemake):
    variants, shards = snakemake.params.variants, len(snakemake.params.shards)
    metrics = [read_json(Path(path)) for path in snakemake.input.metrics]
    influence = [read_arrays(Path(path), ("fid", "clip")) for path in snakemake.input.influence]
    images = [read_folder(path) for path in snakemake.input.images]
    manifests = [read_manifest(Path(path)) for path in snakemake.input.manifests]
    pairs = []
    for n, variant in enumerate(variants[1:], start=1):
        pairs.append(
            {
                "variant": variant,
                **compare(metrics[0], metrics[n], influence[0], influence[n]),
                "identical_images": identical_images(
                    manifests[:shards], manifests[n * shards : (n + 1) * shards]
                ),
                "mean_absolute_difference": mean_absolute_difference(images[0], images[n]),
            }
        )
    write_json(
        Path(snakemake.output[0]),
        {
            "schema": SCHEMA,
            "run": snakemake.wildcards.run,
            "baseline": variants[0],
            "pairs": pairs,
        },
    )
