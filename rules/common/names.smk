"""Files that several stages name.

CONSUMES the checked configuration
PRODUCES names only
"""


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
    """The files, or none where nobody knows what the data set's pictures show except its captions."""
    return files if DATASET == embedded.DATASET else []


def weight_files(variant):
    """The model's files of the table that a variant is built from."""
    names = derive.variant_sources(CONFIG, variant, SOURCES)
    return [f"resources/{name}" for name in names]


def network_folder(name):
    """Files of a scoring network; the first is its weights."""
    files = ["model.safetensors", "network.json"]
    if name.endswith("clip") or name.startswith("clip"):
        files.append("config.json")
    if name == embedded.CLIP:
        files.append("merges.txt.gz")
    return [f"resources/{name}/{file}" for file in files]


def reference_file(name):
    """A file of the image set that the configuration names as reference."""
    label = image_sets.find_set(SCORES["reference"]["images"], KNOWN_SETS).label
    return f"resources/reference/{label}/{name}"


def reference_statistics():
    """Mean and covariance that FID is measured against."""
    reference = SCORES["reference"]
    if "statistics" in reference:
        return f"resources/{reference['statistics']}"
    return reference_file(f"statistics.{SCORES['inception']}.npz")


def published_inputs():
    """Every file of the table that this configuration uses."""
    return [f"resources/{name}" for name in derive.needed_sources(CONFIG, SOURCES)]


def results():
    """Every file of the run that is kept. Snakemake looks for a lost file only among its targets."""
    if not CONFIG["sharded"]:
        return [f"results/{RUN}/{name}" for name in loadgen_results()]
    files = ["report.html", "report.json", "summary.csv", "summary.md", "images"]
    files += ["comparison.json", "provenance.json"]
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
    files += loadgen_results()
    return [f"results/{RUN}/{name}" for name in files]
