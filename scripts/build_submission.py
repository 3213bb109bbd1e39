"""Build the submission tree of a variant."""

from pathlib import Path

import yaml

from t2i.base.files import read_json, write_json
from t2i.job.job import job
from t2i.submission.texts import portable, portable_command
from t2i.submission.tree import TreeRequest, build_tree, request_record

with job(snakemake):
    params, inputs = snakemake.params, snakemake.input
    provenance = read_json(Path(inputs.provenance))
    patch = Path(inputs.engine).with_name("patch.py")
    request = TreeRequest(
        run=snakemake.wildcards.run,
        variant=snakemake.wildcards.variant,
        round=params.round,
        division=params.division,
        submission=params.submission,
        settings=params.variant,
        model=params.model,
        weights=tuple(params.weights),
        patch=patch if patch.is_file() else None,
        scenarios=tuple(params.scenarios),
        inferred=dict(params.inferred),
        audits=tuple(params.audits),
        commit=provenance["git"]["commit"],
        dirty=provenance["git"]["dirty"],
        command=portable_command(provenance["command"]),
        config=yaml.safe_dump(portable(provenance["config"]), sort_keys=False),
        source=Path(snakemake.scriptdir).parent,
    )
    variant = Path(inputs.engine).parents[1]
    files = build_tree(variant / "submission", variant / "loadgen", request)
    built = {"schema": 1, "request": request_record(request), "files": files}
    write_json(Path(snakemake.output.files), built)
    print(f"{len(files)} files")
