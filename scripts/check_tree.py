"""Check any submission tree by our own rules, beside its run where that is known."""

import sys
from pathlib import Path

from t2i.base.check import FAIL
from t2i.job.job import job
from t2i.prompts.captions import read_captions
from t2i.submission.discover import judge_tree, run_of, summary

with job(snakemake) as terminal:
    tree, captions = Path(snakemake.params.tree), Path(snakemake.params.captions)
    run = run_of(tree) if snakemake.params.run is None else Path(snakemake.params.run)
    known = [row.caption for row in read_captions(captions)] if captions.is_file() else None
    checks = judge_tree(tree, run, known)
    print(summary(checks, run is not None), file=terminal)
if any(check.verdict == FAIL for check in checks):
    sys.exit(1)
