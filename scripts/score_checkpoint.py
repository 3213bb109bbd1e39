"""Compute FID and CLIP of a checkpoint from all features in index order."""

from pathlib import Path

from t2i.base.files import write_json
from t2i.generate.shard import read_manifest
from t2i.job.job import job
from t2i.metrics.features import gather, read_features
from t2i.metrics.fid import read_moments
from t2i.metrics.labels import describe
from t2i.metrics.scores import check_same_images
from t2i.training.scores import checkpoint_scores

with job(snakemake):
    params = snakemake.params
    features = gather(
        (read_features(Path(path)) for path in snakemake.input.features), params.samples
    )
    check_same_images(features, [read_manifest(Path(path)) for path in snakemake.input.manifests])
    scores = checkpoint_scores(features, read_moments(Path(snakemake.input.statistics)))
    networks = {
        name: vars(describe(Path(files[0]).parent))
        for name, files in (
            ("inception", snakemake.input.inception),
            ("clip", snakemake.input.clip),
        )
    }
    step = int(snakemake.wildcards.step)
    facts = {"step": step, "samples_count": step * params.batch, **scores, "networks": networks}
    write_json(Path(snakemake.output[0]), facts)
