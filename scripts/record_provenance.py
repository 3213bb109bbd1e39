"""Record inputs with digests and licences, software, device and commit of a run."""

import os
from pathlib import Path

from t2i.base.files import read_json, write_json
from t2i.compliance.provenance import changed_defaults, environment_state, git_state, input_record
from t2i.fetch.table import Source
from t2i.generate.shard import read_manifest
from t2i.job.job import job
from t2i.job.parent import COMMAND_VARIABLE

with job(snakemake):
    sources = {name: Source(**facts) for name, facts in snakemake.params.sources.items()}
    path = Path(snakemake.input.facts[0])
    facts = read_manifest(path) if snakemake.params.sharded else read_json(path)
    write_json(
        Path(snakemake.output[0]),
        {
            "schema": 1,
            "run": snakemake.wildcards.run,
            "config": snakemake.params.config,
            "defaults_changed": changed_defaults(
                snakemake.params.config, snakemake.params.defaults
            ),
            "inputs": [
                input_record(
                    Path(path), sources.get(Path(path).relative_to("resources").as_posix())
                )
                for path in snakemake.input.inputs
            ],
            "software": facts["software"],
            "device": facts["device"] if "device" in facts else facts["devices"][0],
            "environment": environment_state(),
            "git": git_state(Path(snakemake.scriptdir).parent),
            "command": os.environ.get(COMMAND_VARIABLE, ""),
        },
    )
