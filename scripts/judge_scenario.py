"""Judge a scenario by every rule that applies, and say so in plain words."""

from pathlib import Path

from t2i.base.files import read_json, write_json
from t2i.compliance.scenario import scenario_verdict
from t2i.job.job import job

with job(snakemake) as terminal:
    inputs = snakemake.input
    result = scenario_verdict(
        {Path(path).parent.name: Path(path).parent for path in inputs.runs},
        read_json(Path(inputs.scores, "accuracy.json")) if inputs.scores else None,
        [read_json(Path(path, "audit.json")) for path in inputs.audits],
        snakemake.params.windows,
        snakemake.params.round,
        snakemake.params.division,
    )
    write_json(Path(snakemake.output[0]), result)
    print(f"{snakemake.wildcards.variant}: {result['summary']}", file=terminal)
