"""Write MLPerf's log of a training, after its checkpoints were evaluated."""

from pathlib import Path

from t2i.base.files import read_json
from t2i.job.job import job
from t2i.training.mllog import Submitter, evaluation, log_lines, write_log

with job(snakemake):
    facts = read_json(Path(snakemake.input.facts))
    evaluations = [evaluation(read_json(Path(path))) for path in snakemake.input.scores]
    submitter = Submitter(**snakemake.params.submitter)
    write_log(
        Path(snakemake.output[0]),
        log_lines(facts, evaluations, submitter, snakemake.params.samples),
    )
