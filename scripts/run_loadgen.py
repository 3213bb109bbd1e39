"""One test of LoadGen: a scenario in one mode, with one worker process for each GPU."""

from pathlib import Path

from t2i.job.job import job
from t2i.loadgen.run import TestRequest, run_test

with job(snakemake) as terminal:
    inputs, wildcards = snakemake.input, snakemake.wildcards
    settings = {**snakemake.params.settings, "given": tuple(snakemake.params.settings["given"])}
    request = TestRequest(
        run=wildcards.run,
        variant=wildcards.variant,
        scenario=wildcards.scenario,
        mode=wildcards.mode,
        model=snakemake.params.model,
        round=snakemake.params.round,
        seeds=dict(snakemake.params.seeds),
        engine=Path(inputs.engine).parent,
        tokens=Path(inputs.tokens),
        latents=Path(inputs.latents),
        captions=Path(inputs.captions),
        user_conf=Path(inputs.conf) if inputs.conf else None,
        audit_conf=Path(inputs.audit_conf) if inputs.audit_conf else None,
        **settings,
    )
    run_test(request, Path(snakemake.output.facts).parent)
