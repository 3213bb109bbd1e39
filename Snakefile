from snakemake.utils import min_version

min_version("9.27.0")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/fetch.smk"
include: "rules/mirror.smk"
include: "rules/prompts.smk"
include: "rules/engine.smk"
include: "rules/generate.smk"
include: "rules/reference.smk"
include: "rules/metrics.smk"
include: "rules/loadgen_common.smk"
include: "rules/loadgen.smk"
include: "rules/submission.smk"
include: "rules/compliance.smk"
include: "rules/report.smk"
include: "rules/disk.smk"
include: "rules/train_micro.smk"


report: "config/report/workflow.rst"


# Steps of seconds, and downloads: compute nodes often have no network.
localrules:
    all,
    fetch,
    fetch_source,
    fetch_images,
    write_mirror,
    download_wheels,
    mirror,
    sample_captions,
    sample_calibration_captions,
    judge_pictures,
    judge_scenario,
    fetch_checkout,
    check_submission,
    compare_variants,
    check_compliance,
    draw_rulegraph,
    make_report,
    free,


rule all:
    """Everything, up to the report of the run."""
    default_target: True
    input:
        results(),


rule fetch:
    """Only the inputs: run this alone where there is a network."""
    input:
        published_inputs(),


rule train_micro:
    """The embedded model trained from nothing, with the report of its training."""
    input:
        rules.make_training_report.output,


rule mirror:
    """The inputs as a folder that a machine without a network names as its mirror."""
    input:
        "mirror/SHA256SUMS",


onstart:
    check_disk()


onerror:
    print_failures(log)
