"""Judge a variant by every rule that applies."""

from pathlib import Path

from t2i.base.check import Check, check_records, verdict
from t2i.base.files import read_json, write_json
from t2i.compliance import variant
from t2i.compliance.scenario import not_run_checks
from t2i.generate.read import read_references, read_samples
from t2i.generate.shard import read_manifest
from t2i.job.job import job
from t2i.metrics.features import gather, read_features
from t2i.metrics.scores import finite_images
from t2i.mlperf import CLOSED_SIDE, MODES, SCENARIOS, image_ids
from t2i.prompts.captions import read_sample_ids
from t2i.submission import official

with job(snakemake):
    division, samples = snakemake.params.division, snakemake.params.samples
    closed = division == "closed"
    metrics = read_json(Path(snakemake.input.metrics))
    manifests = [read_manifest(Path(path)) for path in snakemake.input.manifests]
    features = gather((read_features(Path(path)) for path in snakemake.input.features), samples)
    random_weights = metrics["protocol"]["networks"]["clip"]["weights"] == "random"
    windows = snakemake.params.windows
    checks = [
        *variant.window_checks(metrics, windows),
        variant.protocol_check(metrics["comparable"], closed),
        variant.count_check(samples, closed),
        variant.coverage_check(features.index, samples),
        variant.uniformity_check(manifests),
        *variant.image_checks(
            features,
            finite_images(manifests, samples),
            CLOSED_SIDE if closed else None,
        ),
        variant.compliance_images_check(
            image_ids(snakemake.params.shown, read_sample_ids(Path(snakemake.input.sample_ids))),
            samples,
            closed,
        ),
        variant.pairing_check(metrics["clip"], metrics["clip_shifted"], random_weights),
        *variant.input_checks(read_json(Path(snakemake.input.provenance))["inputs"]),
    ]
    if snakemake.input.references:
        references = read_references(map(Path, snakemake.input.references))
        images = read_samples(snakemake.input.images, snakemake.input.manifests, references)
        limit, source = windows["image_difference"], variant.window_source(windows)
        checks.insert(2, variant.pixel_check(references, images, samples, limit, source))
    if snakemake.input.judged:
        checks += variant.picture_checks(read_json(Path(snakemake.input.judged)))
        checks.append(variant.first_check(metrics["clip_first"]))
    scenarios = {
        verdict["scenario"]: verdict
        for verdict in (read_json(Path(path)) for path in snakemake.input.scenarios)
    }
    for scenario in SCENARIOS:
        if scenario in scenarios:
            checks += [Check(**check) for check in scenarios[scenario]["checks"]]
        else:
            checks += [check for mode in MODES for check in not_run_checks(scenario, mode)]
    if snakemake.input.submission:
        submission = read_json(Path(snakemake.input.submission))
        checks += [Check(**check) for check in submission["checks"]]
    else:
        why = "no submission is configured"
        checks += official.official_checks(official.not_run(why, snakemake.params.round))
    result = {
        "schema": 1,
        "run": snakemake.wildcards.run,
        "variant": snakemake.wildcards.variant,
        "division": division,
        "verdict": verdict(checks),
        "summary": variant.summary(checks, division, metrics["comparable"]),
        "checks": check_records(checks),
    }
    write_json(Path(snakemake.output[0]), result)
    print(result["summary"])
