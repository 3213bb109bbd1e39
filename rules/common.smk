"""What all rules share: the checked configuration, names of files, resources.

CONSUMES config, config/schemas/config.schema.yaml, config/sources.yaml
PRODUCES names only
"""

import os
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir, "scripts")))

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake_interface_executor_plugins.settings import ExecMode

from t2i import (
    code_digest,
    datasets,
    embedded,
    failures,
    folder_lock,
    image_sets,
    lifetime,
    settings,
    shards,
)
from t2i.config import checked_config, with_defaults
from t2i.sources import read_sources
from t2i.yaml_files import ConfigError, read_yaml

try:
    SCHEMA = read_yaml(Path(workflow.basedir, "config/schemas/config.schema.yaml"))
    for path in workflow.configfiles if workflow.exec_mode == ExecMode.DEFAULT else []:
        read_yaml(Path(path))  # where a key stands twice, Snakemake takes the last
    TABLE = read_yaml(
        Path(
            str(config.get("sources") or Path(workflow.basedir, "config/sources.yaml"))
        )
    )
    SOURCES = read_sources(TABLE)
    CONFIG = checked_config(config, SCHEMA, TABLE)
    config.update(CONFIG)  # what scripts see, too
except (ConfigError, ValueError) as error:
    raise WorkflowError(str(error)) from None

RUN = CONFIG["run"]
DATASET = CONFIG["dataset"]
MODEL = CONFIG["model"]
SCORES = CONFIG["scores"]
VARIANTS = list(CONFIG["variants"])
SHARDS = shards.plan(CONFIG["samples"], CONFIG["shard_size"])
IMAGES = CONFIG["containers"]
COMMAND = shlex.join(["snakemake", *sys.argv[1:]])
MIRROR_COMMAND = shlex.join(
    ["snakemake", "mirror", "--cores", "4"]
    + ["--configfile", *map(os.path.relpath, workflow.configfiles)]
    + ["--config", "offline=false"]
)
KNOWN_SETS = image_sets.known_sets(DATASET, SOURCES)
REFERENCE_SETS = {
    found.label: found.path
    for name in [*KNOWN_SETS, SCORES["reference"].get("images", "")]
    if (found := image_sets.find_set(name, KNOWN_SETS))
}
OWN_TOKENIZERS = "|".join(map(re.escape, settings.own_tokenizers(SOURCES)))
MODEL_PATTERN = r"[a-z0-9][a-z0-9._-]*"
REFERENCE_PIXELS = settings.reference_pixels(CONFIG)
CLUSTER_THREADS = 8  # of a GPU job, where Snakemake does not share out the cores


wildcard_constraints:
    run=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    variant=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    shard=shards.SHARD_PATTERN,
    dataset=r"[a-z0-9][a-z0-9._-]*",
    model=MODEL_PATTERN,
    tokenizer=r"tokenizer(_2)?",
    images="|".join(map(re.escape, REFERENCE_SETS)),
    part=image_sets.PART_PATTERN,


def code(rule_name):
    """Digest of a rule's script and the library modules it imports, comments left out."""
    return code_digest.code_digest(Path(workflow.basedir, "scripts", f"{rule_name}.py"))


def run_file(name):
    """A file of the whole run."""
    return f"results/{{run}}/{name}"


def variant_file(name):
    """A file of one variant."""
    return f"results/{{run}}/{{variant}}/{name}"


def of_shards(pattern):
    """A function that names a variant's files for all shards, in index order."""

    def files(wildcards):
        return expand(
            f"results/{wildcards.run}/{wildcards.variant}/{pattern}", shard=SHARDS
        )

    return files


def of_variants(pattern):
    """A function that names a run's files for all variants, in the configuration's order."""

    def files(wildcards):
        return expand(f"results/{wildcards.run}/{pattern}", variant=VARIANTS)

    return files


def of_all_shards(pattern):
    """A function that names a run's files for all shards of all variants."""

    def files(wildcards):
        return expand(
            f"results/{wildcards.run}/{{variant}}/{pattern}",
            variant=VARIANTS,
            shard=SHARDS,
        )

    return files


def of_drawn(files):
    """The files, or none where nobody knows what a data set's pictures show but its captions."""
    return files if DATASET == embedded.DATASET else []


def results():
    """Every file of the run that is kept. Snakemake looks for a lost file only among its targets."""
    if not CONFIG["sharded"]:
        return [f"results/{RUN}/{name}" for name in loadgen_results()]
    files = ["report.html", "report.json", "comparison.json", "provenance.json"]
    for name in (
        "metrics.json",
        "influence.npz",
        "compliance.json",
        "compliance_images",
    ):
        files += expand("{variant}/{name}", variant=VARIANTS, name=name)
    files += of_drawn(expand("{variant}/judged.json", variant=VARIANTS))
    for name in ("shards/{shard}.tar", "shards/{shard}.json", "features/{shard}.npz"):
        files += expand(f"{{variant}}/{name}", variant=VARIANTS, shard=SHARDS)
    files += [*loadgen_results(), "rulegraph.svg"]
    return [f"results/{RUN}/{name}" for name in files]


def source_digest(wildcards):
    """What an input must be. Another address or mirror brings nothing new, so neither counts."""
    source = SOURCES[wildcards.source]
    return f"{source.algorithm} {source.digest}"


def all_at_hand_offline(wildcards):
    """No file; refuses to begin where no network may be used and inputs are missing."""
    if CONFIG["offline"]:
        from t2i import fetching  # only here, since every job reads this file

        names = {*settings.needed_sources(CONFIG, SOURCES), wildcards.source}
        needed = [SOURCES[name] for name in sorted(names)]
        missing = fetching.missing_offline(needed, Path("resources"), CONFIG["mirror"])
        if missing:
            raise WorkflowError(fetching.how_to_get(missing, MIRROR_COMMAND))
    return []


def published_digest(network):
    """A function that gives the sha256 of a scoring network's published file."""

    def digest(wildcards):
        return SOURCES[settings.NETWORK_SOURCES[network]].digest

    return digest


def network_files(wildcards):
    """Files of the scoring network that a wildcard names."""
    return network_folder(wildcards.network)


def default_config():
    """The embedded default with all its keys, to tell what a run changed."""
    default = read_yaml(Path(workflow.basedir, "config/config.yaml"))
    return with_defaults(default, SCHEMA)


def report_templates():
    """Templates of the report, which are no Python and so count as inputs."""
    folder = Path(workflow.basedir, "scripts/t2i/templates")
    return sorted(os.path.relpath(path) for path in folder.iterdir())


def dataset_source():
    """Captions as published, or the annotations that they are sampled from."""
    if DATASET == embedded.DATASET:
        return f"resources/{DATASET}/annotations.json"
    return f"resources/{DATASET}/{datasets.CAPTION_SOURCES[CONFIG['captions']]}"


def captions_digest():
    """The sha256 that captions sampled from published annotations must have."""
    if DATASET == embedded.DATASET or CONFIG["captions"] != "annotations":
        return None
    published = SOURCES[f"{DATASET}/captions_source.tsv"]
    if published.algorithm != "sha256":
        raise WorkflowError(
            f"captions: annotations needs the sha256 of {published.name} in {CONFIG['sources']}"
        )
    return published.digest


def weight_files(variant):
    """The model's files of the table that a variant is built from."""
    names = settings.variant_sources(CONFIG, variant, SOURCES)
    return [f"resources/{name}" for name in names]


def tokenizer_files(wildcards):
    """Both tokenizers of the model that a wildcard names."""
    return [
        f"resources/{name}"
        for name in settings.tokenizer_sources(wildcards.model, SOURCES)
    ]


def variant_weights(wildcards):
    """The files that a variant's engine is built from."""
    weights = weight_files(wildcards.variant)
    tokenizers = settings.tokenizer_sources(MODEL, SOURCES) if weights else []
    return sorted({*weights, *(f"resources/{name}" for name in tokenizers)})


def variant_patch(wildcards):
    """The file of a variant's patch, if it has one."""
    patch = CONFIG["variants"][wildcards.variant].get("patch")
    return [] if patch is None else [patch.rpartition(":")[0]]


def variant_settings(wildcards):
    """All that a variant's pixels depend on, besides the weights."""
    return settings.variant_settings(CONFIG, wildcards.variant)


def variant_model(wildcards):
    """What paints a variant's pictures: the model, or a stand-in."""
    return settings.variant_model(CONFIG, wildcards.variant)


def variant_recipe(wildcards):
    """What a variant's pictures are made from and how, for the comparison with MLPerf's."""
    return settings.variant_recipe(CONFIG, wildcards.variant)


def variant_windows(wildcards):
    """The windows that a variant is judged by."""
    return settings.variant_windows(CONFIG, wildcards.variant)


def network_folder(name):
    """Files of a scoring network; the first is its weights."""
    files = ["model.safetensors", "network.json"]
    if name.endswith("clip") or name.startswith("clip"):
        files.append("config.json")
    if name == embedded.CLIP:
        files.append("merges.txt.gz")
    return [f"resources/{name}/{file}" for file in files]


def reference_statistics():
    """Mean and covariance that FID is measured against."""
    reference = SCORES["reference"]
    if "statistics" in reference:
        return f"resources/{reference['statistics']}"
    return reference_file(f"statistics.{SCORES['inception']}.npz")


def reference_file(name):
    """A file of the image set that the configuration names as reference."""
    label = image_sets.find_set(SCORES["reference"]["images"], KNOWN_SETS).label
    return f"resources/reference/{label}/{name}"


def reference_images(wildcards):
    """The folder or archive of an image set."""
    return str(REFERENCE_SETS[wildcards.images])


def reference_folder_state(wildcards):
    """What a folder of images holds, which its own time does not tell."""
    return image_sets.folder_state(REFERENCE_SETS[wildcards.images])


def reference_features(wildcards):
    """Features of all parts of an image set, in order."""
    return expand(
        "resources/reference/{images}/features.{network}/{part}.npz",
        images=wildcards.images,
        network=wildcards.network,
        part=image_sets.part_names(SCORES["reference"].get("shards", 1)),
    )


def published_inputs():
    """Every file of the table that this configuration uses."""
    return [f"resources/{name}" for name in settings.needed_sources(CONFIG, SOURCES)]


def input_files():
    """Every file below resources/ that results depend on, published or made here."""
    files = [
        f"resources/{DATASET}/{name}"
        for name in ("captions.tsv", "latents.npy", "sample_ids.txt")
    ]
    for variant in VARIANTS:
        files += weight_files(variant)
    files += [reference_statistics(), f"resources/{DATASET}/tokens.{MODEL}.npz"]
    if "images" in SCORES["reference"]:
        files.append(reference_file("images.json"))
    for name in (SCORES["inception"], SCORES["clip"]):
        files.append(network_folder(name)[0])
    return sorted({*files, *published_inputs()})


def device_gpus(device):
    """GPUs that a job on this device holds."""
    return 1 if device == "cuda" else 0


def device_threads(device, threads):
    """Threads to ask the scheduler for: on a GPU, as many as start one job for each GPU.

    How many threads torch uses is the variant's business and does not follow from this.
    """
    if device == "cpu":
        return threads
    try:
        cores = workflow.cores
    except WorkflowError:  # no cores are named, where nothing is to be run
        cores = None
    if cores is None:
        return CLUSTER_THREADS
    return max(1, cores // settings.local_gpus())


def variant_gpus(wildcards):
    """GPUs of a variant's jobs."""
    return device_gpus(variant_settings(wildcards)["device"])


def variant_threads(wildcards):
    """Threads of a variant's jobs."""
    variant = variant_settings(wildcards)
    return device_threads(variant["device"], variant["threads"])


def check_disk():
    """Say what this run will write at most; refuse what cannot work before the first job."""
    from t2i import forecast
    from t2i.disk import DiskFullError

    if workflow.touch:
        return
    jobs = [
        forecast.planned_job(
            job.rule.name, dict(job.wildcards.items()), job.output, SOURCES
        )
        for job in workflow.dag.needrun_jobs()
        if job.output
    ]
    if not jobs:
        return
    try:
        forecast.check_weights(jobs, Path("results", RUN))
        print(forecast.checked_forecast(jobs, CONFIG, SOURCES), file=sys.stderr)
    except (DiskFullError, forecast.WeightsRemovedError) as error:
        logger.error(str(error))  # an exception would come with places in this file
        sys.exit(1)


def print_failures(snakemake_logs):
    """Show the end of each failed job's log, and the command that goes on from here."""
    text = "".join(Path(path).read_text(errors="replace") for path in snakemake_logs)
    print(failures.failure_summary(text, COMMAND), file=sys.stderr)


if workflow.exec_mode == ExecMode.DEFAULT:
    lifetime.announce_scheduler(COMMAND)
    if folder_lock.remove_dead_lock():
        print("removed the lock of a run that was killed", file=sys.stderr)
    for problem in settings.set_aside_damaged_shards(RUN, VARIANTS, SHARDS):
        print(f"set aside, to be made anew: {problem}", file=sys.stderr)
    for problem in settings.set_aside_edited_trees(RUN, VARIANTS):
        print(f"set aside, to be built anew: {problem}", file=sys.stderr)
