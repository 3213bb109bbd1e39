"""Verify an audit by our stricter checks, and by MLPerf's scripts if a checkout is configured."""

from pathlib import Path

from t2i.base.files import read_json
from t2i.compliance import audits
from t2i.compliance.checkout import open_checkout
from t2i.job.job import job
from t2i.loadgen.conf import shortened

VERIFY = {"TEST01": audits.verify_test01, "TEST04": audits.verify_test04}

with job(snakemake) as terminal:
    scenario, test = snakemake.wildcards.scenario, snakemake.wildcards.test
    settings = read_json(Path(snakemake.input.facts))["settings"]
    checkout = snakemake.params.checkout
    result = VERIFY[test](
        scenario,
        Path(snakemake.input.facts).parents[1],
        Path(snakemake.output[0]),
        None if checkout is None else open_checkout(Path(checkout)),
        bool(shortened(settings["time"], settings["count"])),
    )
    print(f"{snakemake.wildcards.variant} {scenario} {test}: {result['verdict']}", file=terminal)
