"""What the rules of compliance ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""

from t2i.config.check import with_defaults


def default_config():
    """The embedded default with all its keys, to tell what a run changed."""
    default = read_yaml(Path(workflow.basedir, "config/config.yaml"))
    return with_defaults(default, SCHEMA)


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
