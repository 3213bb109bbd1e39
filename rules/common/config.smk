"""The checked configuration, what follows from it, and the digest of a rule's code.

CONSUMES config, config/schemas/config.schema.yaml, config/sources.yaml
PRODUCES names only
"""

import functools
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir, "scripts")))

from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import ExecMode

from t2i import mlperf
from t2i.base import code_digest, embedded
from t2i.base.yaml import ConfigError, read_yaml
from t2i.config import derive
from t2i.config.check import checked_config, with_required
from t2i.engine.manifest import without_defaults
from t2i.fetch import image_sets, needed
from t2i.fetch.table import read_sources
from t2i.generate import plan

for folder in (workflow.basedir, Path.cwd()):
    if {"{", "}"} & set(str(folder)):
        raise WorkflowError(
            f"the path {folder} has braces, which Snakemake takes for its own; move the project"
        )

try:
    SCHEMA = read_yaml(Path(workflow.basedir, "config/schemas/config.schema.yaml"))
    for path in workflow.configfiles if workflow.exec_mode == ExecMode.DEFAULT else []:
        read_yaml(Path(path))  # Snakemake takes the last of duplicate keys
    TABLE = read_yaml(
        Path(
            str(config.get("sources") or Path(workflow.basedir, "config/sources.yaml"))
        )
    )
    SOURCES = read_sources(TABLE)
    embedded_default = Path(workflow.basedir, "config/config.yaml")
    CONFIG = checked_config(
        with_required(config, SCHEMA, embedded_default), SCHEMA, TABLE
    )
    config.update(CONFIG)  # what scripts see, too
except (ConfigError, ValueError) as error:
    raise WorkflowError(str(error)) from None

RUN = CONFIG["run"]
DATASET = CONFIG["dataset"]
MODEL = CONFIG["model"]
SCORES = CONFIG["scores"]
VARIANTS = list(CONFIG["variants"])
SHARDS = plan.plan(CONFIG["samples"], CONFIG["shard_size"])
IMAGES = CONFIG["containers"]
SHOWN_IMAGES = mlperf.ROUNDS[CONFIG["round"]].image_ids
OWN_TOKENIZERS = "|".join(map(re.escape, needed.own_tokenizers(SOURCES)))
MODEL_PATTERN = r"[a-z0-9][a-z0-9._-]*"
REFERENCE_PIXELS = derive.reference_pixels(CONFIG)
KNOWN_SETS = image_sets.known_sets(DATASET, SOURCES)
REFERENCE_SETS = {
    found.label: found.path
    for name in [*KNOWN_SETS, SCORES["reference"].get("images", "")]
    if (found := image_sets.find_set(name, KNOWN_SETS))
}


wildcard_constraints:
    run=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    variant=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    unet=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    shard=plan.SHARD_PATTERN,
    dataset=r"[a-z0-9][a-z0-9._-]*",
    model=MODEL_PATTERN,
    tokenizer=r"tokenizer(_2)?",
    images="|".join(map(re.escape, REFERENCE_SETS)),
    part=image_sets.PART_PATTERN,
    set=r"[a-z0-9][a-z0-9._-]*",
    tar=r"[0-9]{5}",
    metadata=r"[0-9]{5}",
    step=r"[0-9]{9}",
    repeat=r"[0-9]{1,2}",


def variant_settings(wildcards):
    """All that a variant's pixels depend on, besides the weights."""
    return derive.variant_settings(CONFIG, wildcards.variant)


def variant_options(wildcards):
    """The same without options at their defaults, by which an engine does without them."""
    return without_defaults(variant_settings(wildcards))


def variant_backend(wildcards):
    """Modules that a variant's engine loads by name."""
    return derive.backend_modules(CONFIG, wildcards.variant)


def variant_model(wildcards):
    """What paints a variant's pictures: the model, or a stand-in."""
    return derive.variant_model(CONFIG, wildcards.variant)


def variant_recipe(wildcards):
    """What a variant's pictures are made from and how, for the comparison with MLPerf's."""
    return derive.variant_recipe(CONFIG, wildcards.variant)


def variant_windows(wildcards):
    """The windows that a variant is judged by."""
    return derive.variant_windows(CONFIG, wildcards.variant)


@functools.cache
def _code_digest(rule_name, modules):
    """Taken when a rule needs it, once per run, not whenever this file is read."""
    script = Path(workflow.basedir, "scripts", f"{rule_name}.py")
    return code_digest.code_digest(script, modules)


def code(rule_name, backend=lambda wildcards: ()):
    """A function that gives the digest of a rule's script and what it uses of the library.

    `backend` names the modules that a variant's engine loads by name, as a tuple.
    """

    def digest(wildcards):
        return _code_digest(rule_name, backend(wildcards))

    return digest
