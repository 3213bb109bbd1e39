"""FID, CLIP and compliance images from the images that LoadGen logged."""

from pathlib import Path

from t2i.base.numerics import exact_float32
from t2i.job.device import use_device
from t2i.job.job import job

with (
    job(snakemake),
    use_device(snakemake.params.device, snakemake.params.threads) as device,
):
    exact_float32()
    from t2i.base.files import publish_folder, read_json
    from t2i.loadgen.accuracy import score_log, write_scores
    from t2i.metrics.clip import load_clip
    from t2i.metrics.features import gather, read_features
    from t2i.metrics.fid import read_moments
    from t2i.metrics.inception import load_inception
    from t2i.metrics.protocol import recipe, scoring
    from t2i.metrics.scores import reduce_metrics
    from t2i.mlperf import image_ids
    from t2i.prompts.captions import read_captions, read_sample_ids

    inputs, wildcards = snakemake.input, snakemake.wildcards
    facts = read_json(Path(inputs.facts))
    image = tuple(facts["image"])
    known = None
    if inputs.features:
        parts = (read_features(Path(path)) for path in inputs.features)
        known = gather(parts, snakemake.params.samples)
    inception, clip = (Path(files[0]) for files in (inputs.inception, inputs.clip))
    statistics = Path(inputs.statistics)
    with publish_folder(Path(snakemake.output[0])) as folder:
        scored = score_log(
            Path(inputs.log),
            image,
            facts["settings"]["count"],
            [row.caption for row in read_captions(Path(inputs.captions))],
            known,
            load_inception(inception, device),
            load_clip(clip.parent, device),
            snakemake.params.batch_size,
            image_ids(snakemake.params.shown, read_sample_ids(Path(inputs.sample_ids))),
            folder / "images",
            repeats=wildcards.scenario == "MultiStream",  # whose last query is filled up
        )
        metrics, _ = reduce_metrics(
            scored.features,
            read_moments(statistics),
            recipe(snakemake.params.recipe, facts["inputs"]),
            scoring(inception.parent, clip.parent, statistics),
        )
        names = {key: wildcards[key] for key in ("run", "variant", "scenario")}
        write_scores(folder, Path(inputs.log), image, scored, metrics, names)
    print(f"FID {metrics['fid']:.6f}, CLIP {metrics['clip']:.6f}; {scored.reused} images known")
