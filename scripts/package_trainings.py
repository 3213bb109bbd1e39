"""Put the logs of all trainings, the system and the code into MLPerf's tree, and judge it."""

from pathlib import Path

from t2i.base.check import check_records, verdict
from t2i.base.files import read_json, write_json
from t2i.job.job import job
from t2i.training.package import (
    Layout,
    build_package,
    official_check,
    package_checks,
    run_official_checker,
    summary,
    training_description,
)

with job(snakemake):
    params = snakemake.params
    facts = read_json(Path(snakemake.input.facts))
    names = params.submission["submitter"], params.submission["system"]
    layout = Layout(Path(snakemake.output.package), *names)
    description = training_description(
        params.division,
        params.status,
        params.submission,
        facts["machine"],
        facts["software"],
        params.nodes,
        params.accelerators,
    )
    logs = [Path(path) for path in snakemake.input.logs]
    build_package(layout, logs, description, Path(params.root))
    checks = package_checks(layout, params.division == "closed")
    finished = run_official_checker(layout)
    print(finished.text)
    checks.append(official_check(finished))
    found = {"verdict": verdict(checks), **summary(layout), "checks": check_records(checks)}
    write_json(Path(snakemake.output.verdict), found)
