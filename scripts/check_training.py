"""Judge a training's log by this workflow's rules, and then by mlperf-logging's own checker."""

from pathlib import Path

from t2i.base.check import check_records, verdict
from t2i.base.files import write_json
from t2i.job.job import job
from t2i.training.mllog import read_log
from t2i.training.verdict import official_check, run_official_checker, training_checks

with job(snakemake):
    path = Path(snakemake.input[0])
    checks = training_checks(read_log(path), snakemake.params.division == "closed")

    finished = run_official_checker(path)
    print(finished.text)
    checks.append(official_check(finished))
    found = {"verdict": verdict(checks), "checks": check_records(checks)}
    write_json(Path(snakemake.output[0]), found)
