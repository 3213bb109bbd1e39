"""FID and CLIP of a variant with their intervals, from all its features in index order."""

from pathlib import Path

from t2i.base.threads import limit_threads
from t2i.job.job import job

limit_threads(1)  # sums of another number of threads differ in their last bits

with job(snakemake):
    from t2i.base.arrays import write_arrays
    from t2i.base.files import sha256_file, write_json
    from t2i.generate.shard import read_manifest
    from t2i.metrics.features import gather, read_features
    from t2i.metrics.fid import read_moments
    from t2i.metrics.protocol import recipe, scoring
    from t2i.metrics.scores import SCHEMA, check_same_images, reduce_metrics, shard_facts

    samples = snakemake.params.samples
    manifests = [read_manifest(Path(path)) for path in snakemake.input.manifests]
    features = gather((read_features(Path(path)) for path in snakemake.input.features), samples)
    check_same_images(features, manifests)
    statistics = Path(snakemake.input.statistics)
    reference = read_moments(statistics)
    metrics, influence = reduce_metrics(
        features,
        reference,
        recipe(snakemake.params.recipe, manifests[0]["inputs"]),
        scoring(
            Path(snakemake.input.inception[0]).parent,
            Path(snakemake.input.clip[0]).parent,
            statistics,
        ),
    )
    write_arrays(Path(snakemake.output.influence), {"index": features.index, **influence})
    write_json(
        Path(snakemake.output.metrics),
        {
            "schema": SCHEMA,
            "run": snakemake.wildcards.run,
            "variant": snakemake.wildcards.variant,
            **metrics,
            "reference": {
                "name": statistics.relative_to("resources").as_posix(),
                "samples": reference.count,
                "sha256": sha256_file(statistics),
            },
            **shard_facts(manifests),
        },
    )
    print(f"FID {metrics['fid']:.6f}, CLIP {metrics['clip']:.6f} of {samples} samples")
