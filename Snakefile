from snakemake.utils import min_version

min_version("9.27.0")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common/config.smk"
include: "rules/common/names.smk"
include: "rules/common/resources.smk"
include: "rules/common/fetch.smk"
include: "rules/common/prompts.smk"
include: "rules/common/engine.smk"
include: "rules/common/metrics.smk"
include: "rules/common/loadgen.smk"
include: "rules/common/submission.smk"
include: "rules/common/compliance.smk"
include: "rules/common/report.smk"
include: "rules/common/training.smk"
include: "rules/common/session.smk"
include: "rules/fetch.smk"
include: "rules/prompts.smk"
include: "rules/engine.smk"
include: "rules/generate.smk"
include: "rules/metrics.smk"
include: "rules/loadgen.smk"
include: "rules/submission.smk"
include: "rules/compliance.smk"
include: "rules/report.smk"
include: "rules/micro.smk"


if TRAINING:

    include: "rules/training_data.smk"
    include: "rules/training.smk"


report: "config/report/workflow.rst"


rule all:
    """Everything, up to the report of the run."""
    default_target: True
    input:
        results(),
    localrule: True


rule fetch:
    """Fetch the inputs only, for example on a node that has a network."""
    input:
        published_inputs(),
        fetched_tars(),
    localrule: True


rule engines:
    """Build the engines of all variants only, for example before many jobs share them."""
    input:
        engines(),
    localrule: True


rule train:
    """Train Stable Diffusion v2 as the section `training` says, up to the page of the training."""
    input:
        training_results,
    localrule: True


rule train_micro:
    """Train the embedded model from scratch, with a training report."""
    input:
        rules.make_micro_report.output,


rule mirror:
    """Make a folder of all inputs, to be used as a mirror on a machine without a network."""
    input:
        "mirror/SHA256SUMS",
    localrule: True
